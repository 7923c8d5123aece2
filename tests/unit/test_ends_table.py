"""The table of ends: each final state is in it, and what reads it agrees."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import asyncjobs
from asyncjobs import events
from asyncjobs.errors import ResultError
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.ends import ENDS, FINAL_EVENTS, OUTCOMES
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.store.redis.scripts import _SCRIPTS

LUA = Path(asyncjobs.__file__).parent / "store" / "redis" / "lua"
REF = JobRef("default", "a")


def test_each_final_state_has_a_row() -> None:
    assert set(ENDS) == {state for state in State if state.is_final}


def test_no_two_ends_are_taken_for_each_other() -> None:
    codes = [end.code for end in ENDS.values()]
    kinds = [end.event for end in ENDS.values()]
    for each in (codes, kinds):
        assert len(set(each)) == len(each)


def test_a_code_is_a_letter_that_means_nothing_else() -> None:
    """Beside them, stores count with e and r, and say ? for a state that nobody remembers."""
    for end in ENDS.values():
        assert re.fullmatch("[a-df-qs-z]", end.code)


def test_only_a_success_has_a_value() -> None:
    for state, end in ENDS.items():
        assert (end.error is None) == (state is State.SUCCEEDED)
        if end.error is not None:
            error = end.error(REF, Outcome(state, reason="why"))
            assert isinstance(error, ResultError)
            assert str(REF) in str(error)


@pytest.mark.parametrize("state", [state for state in State if not state.is_final])
def test_an_outcome_of_a_job_that_has_not_ended_is_none(state: State) -> None:
    with pytest.raises(BadRecord, match="no end"):
        Outcome.decode(b'{"s":"%b"}' % state.value.encode())


def test_each_end_of_an_attempt_has_a_word() -> None:
    kinds = {getattr(events, name) for name in events.__all__}
    ends = {
        kind for kind in kinds if isinstance(kind, type) and issubclass(kind, events.AttemptEnded)
    }
    assert set(OUTCOMES) == ends - {events.AttemptEnded}


def test_an_event_that_tells_of_an_end_is_told_apart_from_others() -> None:
    words = {OUTCOMES[event] for event in FINAL_EVENTS}
    assert words == {state.value for state in ENDS}
    assert not words & {word for event, word in OUTCOMES.items() if event not in FINAL_EVENTS}


def test_scripts_take_their_codes_from_the_table() -> None:
    named = set()
    for path in LUA.glob("*.lua"):
        code = re.sub("--.*", "", path.read_text())
        named |= set(re.findall(r"END\['(\w+)'\]", code))
        # 's' also is the place of a scheduled job, and 'd' a settlement.
        assert not re.search(r"(state|finish\(id,|finished\[.*\]) *=* *'[a-z]'", code), path.name
    assert named == {"cancelled", "dead", "discarded", "succeeded"}
    for name, script in _SCRIPTS.items():
        assert b"END[" not in script.text, name
    assert b"finish(id, 'd', key" in _SCRIPTS["exchange"].text
