"""What the ledger knows of jobs that wait for others, and of the records of their flows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import OnFailure
from asyncjobs.store.flows import FlowRecord, FlowRef, FlowState
from tests.simulation.stories import JobStory

if TYPE_CHECKING:
    from tests.simulation.graphs import Node

__all__ = ["Fronts", "states_of"]

ENDS: Final = {"cancel": State.CANCELLED, "skip": State.DISCARDED}
Wrong = tuple[JobRef | None, str]


class Fronts:
    """Who is in front of whom, and what the ends there say."""

    def __init__(self) -> None:
        self._nodes: dict[JobRef, Node] = {}
        self._flows: dict[FlowRef, list[JobRef]] = {}
        self._cancelled: set[FlowRef] = set()
        self._started: set[FlowRef] = set()
        self.ends: dict[str, int] = {}
        """How many jobs ran, were cancelled, or were skipped for what was in front."""

    @property
    def flows(self) -> list[FlowRef]:
        """All flows of the run."""
        return [*self._flows]

    def expect(self, flow: FlowRef, nodes: Mapping[JobRef, Node]) -> None:
        """A flow is about to be made."""
        self._nodes.update(nodes)
        self._flows[flow] = [*nodes]

    def cancelled(self, flow: FlowRef) -> None:
        """The store has taken note that the flow is cancelled, while it had not ended."""
        self._cancelled.add(flow)

    def started(self, flow: FlowRef, stories: Mapping[JobRef, JobStory]) -> None:
        """The store has let the flow run. It was over before if all its jobs were cancelled."""
        if flow not in self._started and all(stories[ref].finals for ref in self._flows[flow]):
            self._cancelled.add(flow)
        self._started.add(flow)

    def follows(self, story: JobStory, others: list[JobStory]) -> bool:
        """Whether one of the others is in front of it: with their end its own may come."""
        node = self._nodes.get(story.ref)
        return node is not None and any(other.ref in node.parents for other in others)

    def in_the_way(self, story: JobStory, stories: Mapping[JobRef, JobStory]) -> Iterator[str]:
        """The job is handed out: what should have kept it."""
        node = self._nodes.get(story.ref)
        if node is None or not node.parents:
            return
        ended = [ref for ref in node.parents if stories[ref].finals]
        if node.falls_on == "all" and len(ended) < len(node.parents):
            missing = [str(ref) for ref in node.parents if ref not in ended]
            yield f"was handed out before {missing} had ended"
        elif not ended:
            yield "was handed out before anything in front had failed"

    # ── what must hold in the end ──────────────────────────────────────────────────────

    def judge(
        self, stories: Mapping[JobRef, JobStory], states: Mapping[JobRef, State | None]
    ) -> Iterator[Wrong]:
        """What is wrong with the ends of jobs. What is expected of each stands in its story
        after that."""
        failed: set[JobRef] = set()
        # Parents come first.
        for ref, node in self._nodes.items():
            story, state = stories[ref], states[ref]
            verdict = _verdict(node, failed)
            self.ends[verdict] = self.ends.get(verdict, 0) + bool(node.parents)
            if verdict != "run":
                story.expected = ENDS[verdict]
                if story.takings:
                    yield ref, f"has run, and was to {verdict} for what was in front"
            elif not story.takings and not story.is_cancelled:
                yield ref, f"was never taken, and ended {state}"
            is_skipped = verdict == "skip" and state is State.DISCARDED
            if state is not State.SUCCEEDED and not is_skipped:
                failed.add(ref)

    def judge_flow(
        self, flow: FlowRef, record: FlowRecord | None, states: Mapping[JobRef, State | None]
    ) -> Iterator[Wrong]:
        """What is wrong with the record of a flow, after `judge`."""
        if record is None:
            yield None, f"flow {flow} is lost"
            return
        expected = FlowState.SUCCEEDED
        failed: set[JobRef] = set()
        counts: dict[State | None, int] = {}
        for ref in self._flows[flow]:
            node, state = self._nodes[ref], states[ref]
            counts[state] = counts.get(state, 0) + 1
            is_skipped = _verdict(node, failed) == "skip" and state is State.DISCARDED
            if state is not State.SUCCEEDED and not is_skipped:
                failed.add(ref)
                if not node.is_open:
                    expected = FlowState.FAILED
        if flow in self._cancelled:
            expected = FlowState.CANCELLED
        if record.state is not expected:
            yield None, f"flow {flow} has ended {record.state}, expected was {expected}"
        if record.counts.ended != counts or record.counts.nodes != len(self._flows[flow]):
            yield None, f"flow {flow} counts {record.counts}, its jobs have ended {counts}"


def states_of(
    refs: Iterable[JobRef], records: Iterable[JobRecord | None]
) -> dict[JobRef, State | None]:
    """How each job has ended, by the store's word."""
    pairs = zip(refs, records, strict=True)
    return {ref: None if record is None else record.state for ref, record in pairs}


def _verdict(node: Node, failed: set[JobRef]) -> OnFailure:
    """What is to become of a job by the ends of those in front."""
    failures = [how for ref, how in node.parents.items() if ref in failed]
    if node.falls_on == "first_failure":
        return "run" if failures or not node.parents else "skip"
    for strongest in ("cancel", "skip"):
        if strongest in failures:
            return strongest
    return "run"
