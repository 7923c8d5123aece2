"""Dead letters on a server: reading, reviving and dropping them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from asyncjobs.model.batches import cut, places_by_queue
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.job import Priority
from asyncjobs.model.refs import JobRef
from asyncjobs.store.letters import (
    MAX_PAGE,
    MAX_PAGE_BYTES,
    DeadLetter,
    LetterKey,
    LetterPage,
    LetterQuery,
    Revival,
    Revived,
)
from asyncjobs.store.redis.access import Access
from asyncjobs.store.redis.gates import gate_args
from asyncjobs.store.redis.link import Command
from asyncjobs.store.redis.lookups import STEP, in_steps
from asyncjobs.store.redis.placing import key_args
from asyncjobs.store.redis.scripts import run, run_all, script

__all__ = ["RedisDeadLetters"]

# The characters in the answer of lua/revive.lua, but for _KEY_TAKEN.
_REVIVED: Final = {ord("1"): Revived.READY, ord("0"): Revived.GONE, ord("x"): Revived.TAKEN}
_KEY_TAKEN: Final = ord("k")
_PRIORITIES: Final = tuple(b"%d" % priority for priority in Priority)


class RedisDeadLetters:
    """See `DeadLetters`."""

    def __init__(self, access: Access) -> None:
        self._link = access.link
        self._keys = access.keys
        self._pinned = access.pinned

    async def page(self, query: LetterQuery, after: LetterKey | None = None) -> LetterPage:
        look = script("letters")
        args: list[bytes | int] = [
            b"old" if query.oldest_first else b"new",
            _or_empty(query.since_ms),
            _or_empty(query.before_ms),
            min(query.limit, MAX_PAGE),
            MAX_PAGE_BYTES,
            _or_empty(query.cut),
        ]
        if after is not None:
            args += (after.died_ms, id_bytes(after.ref.id))
        command = look.command(self._keys.queue(query.queue), self._pinned(), *args)
        now_ms, total, more, found = await run(self._link, look, command)
        letters = [
            _letter(JobRef(query.queue, id_text(found[at])), *found[at + 1 : at + 4])
            for at in range(0, len(found), 4)
        ]
        next_page = None
        if more and letters:
            next_page = letters[-1].key
        return LetterPage(letters, next_page, total, now_ms)

    async def find(
        self, refs: Sequence[JobRef], *, cut: int | None = None
    ) -> list[DeadLetter | None]:
        look = script("find_letters")

        def command(queue: str, ids: list[str]) -> Command:
            keys = self._keys.queue(queue)
            return look.command(keys, self._pinned(), _or_empty(cut), *map(id_bytes, ids))

        letters: list[DeadLetter | None] = [None] * len(refs)
        steps, commands = in_steps(refs, command)
        for places, answers in zip(steps, await run_all(self._link, look, commands), strict=True):
            for place, answer in zip(places, answers, strict=True):
                if answer:
                    letters[place] = _letter(refs[place], *answer)
        return letters

    async def revive(
        self, revivals: Sequence[Revival], *, priority: Priority | None = None
    ) -> list[Revived]:
        again = script("revive")
        wanted = _or_empty(priority)
        verdicts = [Revived.GONE] * len(revivals)
        letters = [revival.key for revival in revivals]
        for places in _in_steps(letters, [len(revival.envelope) for revival in revivals]):
            keys = self._keys.queue(letters[places[0]].ref.queue)
            args: list[bytes | str | int] = []
            for place in places:
                (ref, died_ms), envelope, unique, gate = revivals[place]
                args += (id_bytes(ref.id), died_ms, envelope, key_args(unique))
                # Somebody wants it to run: it waits, whatever it did when it was new.
                args.append(b"" if gate is None else gate_args(gate._replace(when_full="wait")))
            results = tuple(keys.result(letters[place].ref.id) for place in places)
            command = again.command(keys, self._pinned(), wanted, *args, more_keys=results)
            # One step at a time, for one trip with all envelopes could be as large as they like.
            answer, holders = await run(self._link, again, command)
            held = iter(holders)
            for place, letter in zip(places, answer, strict=True):
                if letter == _KEY_TAKEN:
                    queue = letters[place].ref.queue
                    verdicts[place] = Revived("taken", JobRef(queue, id_text(next(held))))
                else:
                    verdicts[place] = _REVIVED[letter]
        return verdicts

    async def purge(self, letters: Sequence[LetterKey]) -> list[bool]:
        drop = script("purge")
        steps = list(_in_steps(letters, [0] * len(letters)))
        commands: list[Command] = []
        for places in steps:
            args: list[bytes | int] = []
            for place in places:
                args += (id_bytes(letters[place].ref.id), letters[place].died_ms)
            keys = self._keys.queue(letters[places[0]].ref.queue)
            commands.append(drop.command(keys, self._pinned(), *args))
        dropped = [False] * len(letters)
        answers = await run_all(self._link, drop, tuple(commands))
        for places, answer in zip(steps, answers, strict=True):
            for place, letter in zip(places, answer, strict=True):
                dropped[place] = letter == ord("1")
        return dropped


def _in_steps(letters: Sequence[LetterKey], sizes: Sequence[int]) -> Iterator[list[int]]:
    """The places of letters of one queue each, few and small enough for one call of a script."""
    for places in places_by_queue(key.ref.queue for key in letters).values():
        own_sizes = [sizes[place] for place in places]
        for step in cut(own_sizes, most=STEP, most_bytes=MAX_PAGE_BYTES):
            yield places[step.start : step.stop]


def _or_empty(number: int | None) -> bytes | int:
    """An argument of a script, which knows no None."""
    return b"" if number is None else int(number)


def _letter(ref: JobRef, died_ms: int, size: int, stored: bytes) -> DeadLetter:
    """A stored letter. Its first byte is the priority; a foreign writer may have left it out."""
    head = stored[:1]
    priority = Priority.NORMAL
    if head in _PRIORITIES:
        priority = Priority(int(head))
    return DeadLetter(LetterKey(ref, died_ms), priority, stored[1:], size)
