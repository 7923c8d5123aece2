"""Looks for jobs in several places of a store at once, in order and with limits.

A place is a queue, and for ready and running jobs one of its priorities. Each gives its jobs in
order, a batch at a time. Here they are filtered, and merged into pages.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import translate
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from asyncjobs.errors import StoreError, UsageError
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import AnyEnvelope, name_in
from asyncjobs.model.headers import ERRORS_MARK, PastError
from asyncjobs.model.job import Priority, State
from asyncjobs.model.outcome import read_dead_letter
from asyncjobs.store.letters import cut_letter
from asyncjobs.store.listing import (
    ENDED_STATES,
    LISTED_STATES,
    MOST_LISTED,
    JobCursor,
    JobPage,
    JobQuery,
    ListedJob,
)

__all__ = [
    "BEHIND",
    "STEP",
    "Ask",
    "Batch",
    "Found",
    "Needles",
    "Read",
    "check_query",
    "has_name",
    "has_text",
    "look",
    "needles_of",
    "parts_of",
]

STEP: Final = 250
"""Jobs that one trip looks at. All places share them, for a server that has begun to answer one
client's commands may answer no other client in between."""
STEP_BYTES: Final = 512 * 1024
"""The same for their bytes."""
BEHIND: Final = 1
"""The part of a queue's held jobs that are behind barriers; the others wait for a unique key."""
LEAST: Final = 8
"""The fewest jobs that a place is asked for."""


class Ask(NamedTuple):
    """What is asked of one place: its next jobs from a bound on, at most `most`. It looks at no
    more of them behind `most_bytes`.

    Their times are `since_ms` or later and before `before_ms`. `after` is the last job that was
    looked at: its time, and its place among those of its time.
    """

    queue: str
    part: int
    most: int
    most_bytes: int
    since_ms: int | None
    before_ms: int | None
    after: tuple[int, int | bytes] | None


class Found(NamedTuple):
    """A job that a place has found, and where it stands among the jobs of its time."""

    tie: int | bytes
    order_ms: int
    job: ListedJob


class Batch(NamedTuple):
    """The answer of a place. `last` is the last job that it has looked at, found or not; None
    without any. `bytes_read` counts all that was looked at."""

    now_ms: int
    looked: int
    bytes_read: int
    last: tuple[int, int | bytes] | None
    is_end: bool
    found: list[Found]


Read: TypeAlias = Callable[[Sequence[Ask]], Awaitable[Sequence[Batch | StoreError]]]
"""Asks some places in one trip."""
_Key: TypeAlias = tuple[int, str, int, int | bytes]


class _Place:
    """One place on the way through its jobs."""

    __slots__ = ("after", "before_ms", "is_end", "order", "part", "queue", "since_ms", "waiting")

    def __init__(self, query: JobQuery, queue: str, part: int, after: JobCursor | None) -> None:
        self.queue = queue
        self.part = part
        self.is_end = False
        # Jobs that the filters accept, until it is certain that no other place has earlier ones.
        self.waiting: deque[tuple[_Key, ListedJob]] = deque()
        self.after: tuple[int, int | bytes] | None = None
        self.since_ms = query.since_ms
        self.before_ms = query.before_ms
        if query.state is State.RUNNING:
            # When a job was taken says nothing about its place: `_accepts` looks at it afterwards.
            self.since_ms = None
            self.before_ms = None
        if after is not None:
            self._begin(query, after)

    def _begin(self, query: JobQuery, after: JobCursor) -> None:
        """Begin behind a cursor."""
        own = (self.queue, self.part)
        there = (after.queue, after.part)
        if own == there:
            self.after = (after.ms, after.tie)
            return
        # Of the cursor's time, the jobs of the places behind its own come yet.
        bound = after.ms + int(own < there)
        if query.oldest_first:
            self.since_ms = bound if self.since_ms is None else max(self.since_ms, bound)
        else:
            self.before_ms = bound if self.before_ms is None else min(self.before_ms, bound)

    def key(self, position: tuple[int, int | bytes]) -> _Key:
        """Where a job of this place stands among all."""
        return (position[0], self.queue, self.part, position[1])

    def ask(self, most: int, most_bytes: int) -> Ask:
        """What is to be asked of it next."""
        return Ask(
            self.queue, self.part, most, most_bytes, self.since_ms, self.before_ms, self.after
        )


class Needles(NamedTuple):
    """Bytes that are in each job that the filters accept: a store may leave out others before they
    are sent. `lowered` is there in upper or lower case, perhaps by letters outside of ASCII."""

    exact: bytes
    lowered: bytes


def needles_of(query: JobQuery) -> Needles:
    """What to look for in stored jobs; b"" for nothing."""
    # A store that ignores these sends more than it needs to, and nothing else goes wrong.
    exact = b""
    if query.function is not None:
        # What stands in brackets is one character of several.
        exact = _longest(re.sub(r"\[.*?\]", "*", query.function))
    elif query.needs_error and query.state is not State.DEAD:
        exact = ERRORS_MARK
    elif query.needs_labels:
        labels = [text for pair in query.meta for text in pair]
        exact = max(map(_longest, [*labels, *query.tags]), key=len)
    lowered = max(_longest(query.error or ""), _longest(query.message or ""), key=len)
    return Needles(exact, lowered.lower())


def _longest(text: str) -> bytes:
    """The longest part of a text that stands in JSON as it is, whoever has written it."""
    return max(re.findall(r"[A-Za-z0-9_.: -]+", text), key=len, default="").encode()


def has_name(name: str, pattern: str) -> bool:
    """Whether a job function's name is `pattern` or fits it."""
    return re.match(translate(pattern), name) is not None


def has_text(text: str, part: str) -> bool:
    """Whether `part` is in a text, in upper or lower case."""
    return part.casefold() in text.casefold()


def _accepts(query: JobQuery, job: ListedJob) -> bool:
    """Whether the filters accept a job. Those of its time have been asked of its place, except
    for running jobs."""
    # Workers take jobs of several priorities, so no place has them in the order of their taking.
    if query.state is State.RUNNING:
        taken_ms = job.time_ms
        if query.since_ms is not None and taken_ms < query.since_ms:
            return False
        if query.before_ms is not None and taken_ms >= query.before_ms:
            return False
    if query.function is not None and not has_name(_name_of(job), query.function):
        return False
    if query.needs_labels and not _has_labels(query, job):
        return False
    if not query.needs_error:
        return True
    error = _error_of(job)
    if error is None:
        return False
    return (query.error is None or has_text(error.type, query.error)) and (
        query.message is None or has_text(error.message, query.message)
    )


def _has_labels(query: JobQuery, job: ListedJob) -> bool:
    """Whether a job has all labels and tags that are looked for."""
    if job.ended is not None:
        meta, tags = job.ended.meta, job.ended.tags
    else:
        letter = job.record.dead_letter
        raw = job.record.envelope or b""
        try:
            if letter is not None:
                raw = read_dead_letter(letter)[1]
            headers = AnyEnvelope.decode(raw).headers
        except BadRecord:
            return False
        meta, tags, _ = headers.labels
    # rule:33 a list shows only jobs with all labels that are asked for
    return all(meta.get(key) == text for key, text in query.meta) and set(query.tags) <= {*tags}


def _name_of(job: ListedJob) -> str:
    """The name of its job function; '' if nothing says it."""
    if job.ended is not None:
        return job.ended.function
    letter = job.record.dead_letter
    envelope = job.record.envelope
    # The outcome of a letter has the name even if its envelope was cut.
    if letter is not None:
        try:
            outcome, envelope = read_dead_letter(letter)
        except BadRecord:
            return ""
        if outcome.name:
            return outcome.name
    raw = envelope or b""
    if name := name_in(raw):
        return name
    try:
        # Another program may have written its fields in another order.
        return AnyEnvelope.decode(raw).name
    except BadRecord:
        return ""


def _error_of(job: ListedJob) -> PastError | None:
    """Its last error; None if it has none, or if it cannot be read."""
    if job.ended is not None:
        return _error_in_line(job.ended.error)
    letter = job.record.dead_letter
    try:
        if letter is not None:
            # The errors before that one, which led to retries, are in the envelope.
            return read_dead_letter(letter)[0].as_error()
        errors = AnyEnvelope.decode(job.record.envelope or b"").headers.errors()
    except BadRecord:
        return None
    if not errors:
        return None
    return errors[-1]


def _error_in_line(line: str) -> PastError | None:
    """The error that the history has kept in a line."""
    if not line:
        return None
    kind, _, message = line.partition(": ")
    return PastError(0, kind, message, "", 0, "")


async def look(
    query: JobQuery,
    places: Sequence[tuple[str, int]],
    after: JobCursor | None,
    read: Read,
) -> JobPage:
    """One page of the jobs in these places: see `JobListing.page`."""
    search = _Search(query, [_Place(query, *place, after) for place in places])
    while search.wants_more():
        behind = search.behind()
        if not behind:
            break
        asks = search.asks(behind)
        search.note(behind, await read(asks))
    return search.page()


class _Search:
    """The way to one page. It merges what the places give.

    A job goes onto the page when no place can give one that comes before it.
    """

    def __init__(self, query: JobQuery, places: list[_Place]) -> None:
        self._query = query
        self._places = places
        self._limit = max(min(query.limit, MOST_LISTED), 1)
        # With their keys: the last one is where the next page begins.
        self._jobs: list[tuple[_Key, ListedJob]] = []
        self._refused: dict[str, StoreError] = {}
        self._now_ms = 0
        self._looked = 0
        self._bytes = 0

    def wants_more(self) -> bool:
        """Take what may be taken; whether the page has room, and looking may go on."""
        self._merge()
        if len(self._jobs) >= self._limit:
            return False
        # rule:11 looking for jobs is bounded
        return self._looked < self._query.most_looks and self._bytes < self._query.most_bytes

    def behind(self) -> list[_Place]:
        """The places that have to be asked before another job can be taken."""
        return [place for place in self._places if not place.is_end and not place.waiting]

    def asks(self, places: list[_Place]) -> list[Ask]:
        """What to ask of them."""
        query = self._query
        most = max(STEP // len(places), LEAST)
        # At least one of each, or a page with a small bound would come no further.
        most = min(most, max((query.most_looks - self._looked) // len(places), 1))
        # Times are asked of each place, so they leave out nothing that was looked at.
        if query.function is None and not (query.needs_error or query.needs_labels):
            # Each job that is looked at is shown, so there is no need for many more of them.
            most = min(most, self._limit - len(self._jobs) + 1)
        left = min(query.most_bytes - self._bytes, STEP_BYTES)
        most_bytes = max(left // len(places), 1)
        return [place.ask(most, most_bytes) for place in places]

    def note(self, places: list[_Place], answers: Sequence[Batch | StoreError]) -> None:
        """Note what they have answered."""
        for place, batch in zip(places, answers, strict=True):
            if isinstance(batch, StoreError):
                # A key of the wrong type, for example. The other queues are listed all the same.
                self._refused[place.queue] = batch
                place.is_end = True
                continue
            self._now_ms = max(self._now_ms, batch.now_ms)
            self._looked += batch.looked
            self._bytes += batch.bytes_read
            # One that has looked at nothing would be asked for ever.
            place.is_end = batch.is_end or batch.last is None
            place.after = batch.last or place.after
            for tie, order_ms, job in batch.found:
                if _accepts(self._query, job):
                    place.waiting.append((place.key((order_ms, tie)), job))

    def _merge(self) -> None:
        """Take the jobs before which no place can give another one."""
        # A place that waits to be asked may give jobs from where it stands on, and none before.
        bounds = [place.after and place.key(place.after) for place in self.behind()]
        if None in bounds:
            return
        bound = self._first([key for key in bounds if key is not None])
        # All of them at once: with a thousand queues, a search for the first one each time would
        # take longer than the store does.
        waiting = [(key, place) for place in self._places for key, _ in place.waiting]
        waiting.sort(key=itemgetter(0), reverse=not self._query.oldest_first)
        for key, place in waiting:
            # rule:20 a job is listed before those behind it, in whatever place they are
            if len(self._jobs) >= self._limit or self._is_beyond(key, bound):
                return
            self._jobs.append(place.waiting.popleft())
            # From now on this place has to be asked, too.
            if not place.waiting and not place.is_end and place.after is not None:
                bound = self._first([place.key(place.after), *filter(None, [bound])])

    def _is_beyond(self, key: _Key, bound: _Key | None) -> bool:
        if bound is None:
            return False
        if self._query.oldest_first:
            return key > bound
        return key < bound

    def _first(self, keys: list[_Key]) -> _Key | None:
        if self._query.oldest_first:
            return min(keys, default=None)
        return max(keys, default=None)

    def page(self) -> JobPage:
        """The page, as far as it was looked for."""
        is_full = len(self._jobs) >= self._limit
        key: _Key | None = None
        if any(not place.is_end or place.waiting for place in self._places):
            # The last place that was looked at would do, too, but other jobs may stand before it.
            if is_full:
                key = self._jobs[-1][0]
            else:
                # All up to the place that has come least far was looked at.
                reached = [place.key(place.after) for place in self.behind() if place.after]
                key = self._first(reached)
        cursor = None
        if key is not None:
            cursor = JobCursor(*key)
        jobs = [self._shown(job) for _, job in self._jobs]
        is_bounded = cursor is not None and not is_full
        return JobPage(jobs, cursor, self._now_ms, self._looked, is_bounded, self._refused)

    def _shown(self, job: ListedJob) -> ListedJob:
        """The job as it goes onto the page, cut as it was asked for."""
        # Only now, for the filters may need what is cut off.
        cut = self._query.cut
        if cut is None:
            return job
        record = job.record
        if record.dead_letter is not None:
            record = record._replace(dead_letter=cut_letter(record.dead_letter, cut))
        elif record.envelope is not None:
            record = record._replace(envelope=record.envelope[:cut])
        return job._replace(record=record)


def check_query(query: JobQuery, after: JobCursor | None) -> None:
    """Raises UsageError for a state that has no list, and for a cursor of another list."""
    if query.state not in LISTED_STATES:
        raise UsageError(
            f"jobs in the state {str(query.state)!r} are not listed; list those that are "
            f"{', '.join(LISTED_STATES)}"
        )
    # Jobs of one time are in the order of numbers in these states, else in that of their ids.
    has_numbers = query.state in (State.READY, State.RUNNING, *ENDED_STATES)
    if after is not None and isinstance(after.tie, int) != has_numbers:
        raise UsageError(
            f"the cursor is of a list of jobs in another state than {str(query.state)!r}: give "
            "the one that the page before has ended with"
        )


def parts_of(state: State) -> range:
    """The parts of a queue in which jobs of this state are: its priorities, or one for all. Those
    that are held wait for a unique key, or are behind a barrier."""
    if state in (State.READY, State.RUNNING):
        return range(len(Priority))
    if state is State.HELD:
        return range(2)
    return range(1)
