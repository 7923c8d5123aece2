"""The shop is the app of these tests, as an ini file would say."""

from __future__ import annotations

from datetime import timedelta

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.testing import VirtualClock
from tests.testing import shop


@pytest.fixture
def asyncjobs_source() -> AsyncJobs:
    return shop.app


@pytest.fixture
def ran() -> list[object]:
    shop.ran.clear()
    shop.ticks.clear()
    return shop.ran


@pytest.fixture
def clock(clock: VirtualClock) -> VirtualClock:
    """At noon: the shop has a schedule at night, which must not fire in a test of an hour."""
    tomorrow = clock.now() + timedelta(days=1)
    clock.leap_to(tomorrow.replace(hour=12, minute=0, second=0, microsecond=0))
    return clock
