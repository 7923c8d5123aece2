"""Which leases live after a step of the store's clock, and which a reclaim may end."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from asyncjobs.store.lease import LeaseSpec
from tests.simulation.leases import Leases
from tests.simulation.loop import SimLoop

LEASE_MS = 1_000
GRACE_MS = 400
HOUR_MS = 3_600_000


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop(Random(0))
    yield loop
    loop.bury()


def lease(name: str) -> LeaseSpec:
    return LeaseSpec(name, name, ("default",), LEASE_MS)


class Renewed:
    """Two leases, and the worker of the second, which goes on beating while the clock is set."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        # In the middle of a millisecond: no sum of floats falls short of one.
        loop.now_s += 0.0005
        self.leases = Leases(loop)
        for name in ("first", "second"):
            self.leases.hear("default", GRACE_MS)
            self.leases.renew("default", lease(name))

    def beat(self, name: str = "second") -> None:
        self.leases.hear("default", GRACE_MS)
        self.leases.renew("default", lease(name))

    def reclaim(self, ended: int) -> int:
        """How many were not over of those that it has ended."""
        self.leases.hear("default", GRACE_MS)
        return self.leases.end(("default",), ended)

    def step(self, by_ms: int) -> None:
        self.loop.stepped_ms += by_ms

    def outlive_grace(self) -> None:
        """The clock goes forward, and the first one does not renew in the grace."""
        self.step(HOUR_MS)
        self.beat()
        self.loop.now_s += GRACE_MS / 1000 - 0.1
        self.beat()
        self.loop.now_s += 0.1

    @property
    def first_lives(self) -> bool:
        return self.leases.lives(("default", "first"))


@pytest.fixture
def renewed(loop: SimLoop) -> Renewed:
    return Renewed(loop)


@pytest.mark.parametrize("by_ms", [1_500, -300])
def test_a_lease_that_a_reclaim_ended_lives_no_more_after_a_step(
    renewed: Renewed, by_ms: int
) -> None:
    renewed.outlive_grace()
    assert renewed.reclaim(ended=1) == 0
    renewed.step(by_ms)
    assert not renewed.first_lives
    renewed.beat()
    assert not renewed.first_lives


@pytest.mark.parametrize("by_ms", [1_500, -300])
def test_a_lease_that_no_reclaim_ended_lives_again_after_a_step(
    renewed: Renewed, by_ms: int
) -> None:
    renewed.outlive_grace()
    assert renewed.reclaim(ended=0) == 0
    assert not renewed.first_lives
    renewed.step(by_ms)
    renewed.beat()
    assert renewed.first_lives
    assert renewed.reclaim(ended=1) == 1


def test_a_reclaim_must_not_end_a_lease_within_the_grace(renewed: Renewed) -> None:
    renewed.step(HOUR_MS)
    assert renewed.reclaim(ended=1) == 1
    assert renewed.first_lives


def test_a_grace_is_over_at_its_last_millisecond(renewed: Renewed) -> None:
    renewed.outlive_grace()
    renewed.loop.now_s -= 0.001
    assert renewed.first_lives
    renewed.loop.now_s += 0.001
    assert not renewed.first_lives


def test_a_reclaim_must_not_end_a_lease_twice(renewed: Renewed) -> None:
    renewed.outlive_grace()
    assert renewed.reclaim(ended=1) == 0
    assert renewed.reclaim(ended=1) == 1


def test_a_lease_that_a_reclaim_spared_lives_by_its_next_renewal(renewed: Renewed) -> None:
    renewed.beat("third")
    renewed.outlive_grace()
    # Two are over and one was ended: nobody has said which.
    assert renewed.reclaim(ended=1) == 0
    renewed.beat("first")
    assert renewed.first_lives
    assert renewed.reclaim(ended=2) == 1
