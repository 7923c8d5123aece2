"""How free slots are shared among queues, priorities and suspects."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.model.demand import Demand
from asyncjobs.policy.fairness import ASK_ALL_S, GUARD_ONE_IN, QueueShares

names = st.sampled_from("abcdef")
weights = st.dictionaries(names, st.integers(1, 20), min_size=1, max_size=6)
steps = st.lists(st.tuples(st.integers(0, 300), st.sets(names), st.sets(names)), max_size=30)


def slots(shares: QueueShares, free: int, now_s: float = 0.0) -> dict[str, int]:
    """The slots of one demand."""
    return {queue: demand.slots for queue, demand in shares.demand(free, now_s).items()}


@given(weights, steps)
def test_never_more_slots_than_are_free(
    weights: dict[str, int], steps: list[tuple[int, set[str], set[str]]]
) -> None:
    shares = QueueShares(weights)
    for now_s, (free, signalled, left) in enumerate(steps):
        signalled &= set(weights)
        demand = shares.demand(free, now_s / 10, signalled=signalled)
        assert sum(part.slots for part in demand.values()) <= free
        assert all(0 <= part.guard <= part.slots for part in demand.values())
        assert signalled <= set(demand) <= set(weights)
        shares.learn(demand, left & set(demand))


@given(weights, st.integers(1, 300))
def test_all_free_slots_are_handed_out_when_all_are_asked(
    weights: dict[str, int], free: int
) -> None:
    shares = QueueShares(weights)
    assert sum(slots(shares, free).values()) == free
    assert shares.asked_all


@given(weights, st.integers(0, 300))
def test_a_first_demand_covers_every_queue(weights: dict[str, int], extra: int) -> None:
    shares = QueueShares(weights)
    assert set(slots(shares, len(weights) + extra)) == set(weights)


def test_weights_share_what_hot_queues_want() -> None:
    shares = QueueShares({"mail": 3, "default": 1})
    shares.hot = {"mail", "default"}
    assert slots(shares, 100) == {"mail": 75, "default": 25}


def test_what_is_left_goes_to_hot_queues() -> None:
    shares = QueueShares({"a": 1, "b": 1, "c": 1})
    shares.hot = {"b"}
    assert slots(shares, 30) == {"a": 1, "b": 28, "c": 1}


def test_called_queues_are_asked_in_the_same_order_in_every_process() -> None:
    shares = QueueShares({"a": 1, "b": 1, "c": 1})
    assert list(shares.demand(0, 0.0, signalled=["c", "a", "b"])) == ["a", "b", "c"]


def test_a_called_queue_is_asked_even_without_a_slot() -> None:
    shares = QueueShares({"a": 1, "b": 1})
    demand = shares.demand(0, 0.0, signalled=["b"])
    assert {queue: part.slots for queue, part in demand.items()} == {"b": 0}


def test_with_a_hot_queue_the_others_are_asked_from_time_to_time() -> None:
    shares = QueueShares({"a": 1, "b": 1})
    shares.demand(10, 0.0)
    shares.learn(["a", "b"], ["a"])
    asked = [set(slots(shares, 10)) for _ in range(40)]
    assert {"a"} in asked
    assert 2 <= asked.count({"a", "b"}) <= 10


def test_with_a_hot_queue_the_others_are_asked_after_a_while() -> None:
    shares = QueueShares({"a": 1, "b": 1})
    shares.demand(10, 0.0)
    shares.learn(["a", "b"], ["a"])
    assert set(slots(shares, 10, 0.1)) == {"a"}
    assert set(slots(shares, 10, 0.2 + ASK_ALL_S)) == {"a", "b"}


def test_a_look_asks_every_queue() -> None:
    shares = QueueShares({"a": 1, "b": 1})
    shares.demand(10, 0.0)
    shares.hot = {"a"}
    shares.look = True
    assert set(slots(shares, 10)) == {"a", "b"}


@given(st.dictionaries(names, st.integers(1, 5), min_size=2, max_size=6))
def test_fewer_slots_than_queues_go_round(weights: dict[str, int]) -> None:
    shares = QueueShares(weights)
    rounds = sum(weights.values()) * 10
    given_out: Counter[str] = Counter()
    for _ in range(rounds):
        given_out.update(slots(shares, 1))
    assert sum(given_out.values()) == rounds
    for queue, weight in weights.items():
        assert given_out[queue] == pytest.approx(weight * 10, abs=2)


def test_a_hot_queue_comes_oftener_when_slots_are_scarce() -> None:
    shares = QueueShares({"hot": 1, "cold": 1})
    given_out: Counter[str] = Counter()
    for _ in range(90):
        shares.hot, shares.look = {"hot"}, True
        given_out.update(slots(shares, 1))
    assert given_out["hot"] == 80
    assert given_out["cold"] == 10


@given(st.lists(st.integers(1, 100), min_size=1, max_size=50))
def test_one_slot_in_twenty_is_guarded(frees: list[int]) -> None:
    shares = QueueShares({"a": 1})
    guarded = sum(shares.demand(free, 0.0)["a"].guard for free in frees)
    assert guarded == sum(frees) // GUARD_ONE_IN


def test_learning_is_about_what_was_asked() -> None:
    shares = QueueShares({"a": 1, "b": 1, "c": 1})
    shares.learn(["a", "b"], ["b"])
    assert shares.hot == {"b"}
    shares.learn(["a"], ["a"])
    assert shares.hot == {"a", "b"}
    shares.learn(["b"], ["unknown"])
    assert shares.hot == {"a"}


def test_a_bound_on_one_queue_is_kept() -> None:
    shares = QueueShares({"a": 1, "b": 1})
    demand = shares.demand(10, 0.0, most={"a": 2, "c": 5})
    assert demand["a"].slots == 2
    assert set(demand) == {"a", "b"}


def suspects(shares: QueueShares, free: int, room: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The room for suspects that one demand gives."""
    demand = shares.demand(free, 0.0, room=room)
    return {queue: part.suspects for queue, part in demand.items() if part.suspects}


@given(weights, st.dictionaries(names, st.integers(1, 6)), st.integers(0, 300))
def test_one_queue_at_a_time_hands_out_suspects(
    weights: dict[str, int], waiting: dict[str, int], free: int
) -> None:
    shares = QueueShares(weights)
    shares.learn_suspects(waiting.keys() & weights, waiting)
    shares.look = False
    found = suspects(shares, free, (8, 2, 1))
    assert len(found) <= 1
    if free >= len(weights):
        assert len(found) == bool(waiting.keys() & weights)


def test_queues_take_turns_to_hand_out_suspects() -> None:
    shares = QueueShares({"a": 1, "b": 1, "c": 1, "d": 1})
    shares.learn_suspects("abcd", {"a": 1, "b": 1, "c": 1})
    turns = [queue for _ in range(6) for queue in suspects(shares, 50, (8, 2, 1))]
    assert sorted(turns[:3]) == sorted(turns[3:]) == ["a", "b", "c"]


def test_the_queue_with_the_fewest_crashes_has_its_turn_first() -> None:
    shares = QueueShares({"a": 1, "b": 1})
    shares.learn_suspects("ab", {"a": 2, "b": 1})
    assert [*suspects(shares, 50, (8, 2, 1))] == ["b"]
    shares.learn_suspects("b", {})
    assert [*suspects(shares, 50, (8, 2, 1))] == ["a"]


def test_each_queue_gets_a_share_of_the_room_at_once() -> None:
    shares = QueueShares({"a": 1, "b": 1, "c": 1})
    shares.learn_suspects("abc", {"a": 1, "b": 1, "c": 1})
    given: Counter[str] = Counter()
    for _ in range(30):
        left = 250 - given.total()
        for queue, room in suspects(shares, 1000, (left, 63 if not given else 0)).items():
            given[queue] += room[0]
    assert given.total() == 250
    assert min(given.values()) >= 250 // 6


def test_a_queue_without_room_for_its_suspects_is_not_asked_for_them() -> None:
    shares = QueueShares({"a": 1, "b": 1})
    shares.learn_suspects("ab", {"a": 2, "b": 9})
    assert suspects(shares, 50, (8, 0)) == {}
    assert shares.with_suspects((8, 0)) == []
    assert shares.with_suspects((8, 2, 1)) == ["a"]
    assert shares.with_suspects((8, 2, 1), ["a"]) == ["b"]
    assert shares.with_suspects((8, 2, 0), ["a"]) == []


def test_a_queue_with_suspects_is_asked_beside_a_hot_one() -> None:
    shares = QueueShares({"a": 1, "b": 1, "c": 1})
    shares.demand(50, 0.0)
    shares.learn("abc", "a")
    shares.learn_suspects("abc", {"c": 1})
    assert suspects(shares, 50, (8, 1)) == {"c": (8, 1)}


def test_a_call_that_is_passed_on_tells_of_the_room() -> None:
    shares = QueueShares({"a": 1})
    assert shares.demand(0, 0.0, signalled=["a"], room=(8, 1)) == {"a": Demand(0, suspects=(8, 1))}
