"""The rules of the data model in docs/explanation/internals.md; each function yields findings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from asyncjobs.model.ends import ENDS
from asyncjobs.store.flows import FlowState
from asyncjobs.store.redis.keys import QueueKeys
from tests.audit.gates import GATE_KEYS, GATE_RULES, GATED
from tests.audit.snapshot import (
    GROUP,
    QueueSnapshot,
    Reachable,
    connected,
    is_reserved,
    read,
    set_aside_of,
)

__all__ = ["DOCUMENTED", "EXPIRING", "audit", "leftovers"]

_BASE: Final = QueueKeys("p", "q").base.decode()
DOCUMENTED: Final = (
    frozenset(key.decode().removeprefix(_BASE) for key in QueueKeys("p", "q").all)
    | {
        "result:",
        "batch:",
        "notes:",
        "dead:notes:",
        "figures:",
        "cron:of:",
        "cron:ran:",
        *GATE_KEYS,
    }
    | {
        "outbox",
        "outbox:state",
        "outbox:old",
        "inbox",
        "barriers",
        "barriers:of",
        "barriers:data",
        "barriers:since",
        "barriers:fallen",
        "barriers:behind:",
        "barriers:let:",
        "flow:of:",
        "flow:nodes:",
        "flow:names:",
        "flow:ends:",
        "flows:names",
        "flows:over",
        *(f"flows:{state}" for state in FlowState),
    }
)
"""The parts of a queue's key names; the last ones have an id or a time behind them."""

BESIDE: Final = frozenset({"layout", "queues", "survey", "schedules"})
"""Keys of the whole store."""

EXPIRING: Final = frozenset(
    {
        *("known:0", "known:1", "known:2", "awaited", "stats", "result:", "batch:", "figures:"),
        *("events", "events:of", "rates", "closed"),
    }
)
"""What goes by itself. Everything else must never expire: it would take jobs with it."""

FORGOTTEN: Final = frozenset({"outbox", "inbox"})
"""What a queue that was forgotten keeps for a day: other queues may still count on it."""

STAYING: Final = frozenset(
    {
        # What was relayed stays until it was looked at once more, 10 s later.
        *("outbox", "outbox:state", "outbox:old", "inbox"),
        *(f"ready:{priority}" for priority in range(4)),
        *("upkeep", "wake", "returned", "largest", "history", "history:jobs", "unique:windows"),
        # Schedules stay until somebody drops them, whatever becomes of their jobs.
        *("cron", "cron:next", "cron:of:", "cron:ran:"),
        # The rules of limits, so that they can be changed while nobody uses them.
        "limits",
        # Flows stay for their own time.
        *("flow:of:", "flow:nodes:", "flow:names:", "flow:ends:", "flows:over"),
        *(f"flows:{state}" for state in FlowState if state.is_final),
    }
)
"""What a queue keeps for ever, however many jobs it has seen: empty streams with their
group and the consumer `returned`, when a worker was last heard of, a token that calls for
nothing, how large its largest job was, where to look for jobs that were given back, the last jobs
that have ended, and the windows of unique keys, which last until they are over."""

_OF_UNLISTED: Final = frozenset({"upkeep", "result:", "batch:", "figures:"})

_PLACE: Final = re.compile(r"([0-4]):(\d+)-(\d+)")
_PAUSE: Final = re.compile(r"[pr]\d+ \{.*\}", re.DOTALL)
_LOCK: Final = re.compile(r"([fsw]) \d+ \d+ (.*)", re.DOTALL)
_UNTIL: Final = re.compile(r"\d+ \d+")
_BARRIER: Final = re.compile(r"(\d+) [afg] [0-3].*", re.DOTALL)
_CODES: Final = frozenset(end.code for end in ENDS.values())
_COUNTER: Final = re.compile(rf"\d+:[er{''.join(sorted(_CODES))}]")


def audit(server: Reachable, prefix: str) -> list[str]:
    """What is wrong with the keys of a store, whatever its jobs are doing."""
    with connected(server) as client:
        queues, listed, beside = read(client, prefix)
    found = [f"{key}: no documented key" for key in beside if key not in BESIDE]
    for queue in queues:
        # A call about a queue that nobody uses leaves no more than when it was made, and one that
        # was forgotten what goes by itself.
        unlisted = {_kind(key) for key in queue.ttl_ms} - {
            "upkeep",
            "result:",
            "batch:",
            "figures:",
            "events",
            "events:of",
            *FORGOTTEN,
        }
        if queue.name not in listed and unlisted:
            found.append(f"{queue.name}: not in the list of queues")
        found += [f"{queue.name}: {what}" for rule in _RULES for what in rule(queue)]
    return found


def leftovers(server: Reachable, prefix: str) -> list[str]:
    """What a store holds beyond what stays when every job has ended and workers are gone.

    Keys that expire count as gone.
    """
    with connected(server) as client:
        queues, _, _ = read(client, prefix)
    found = []
    for queue in queues:
        for key, ttl_ms in queue.ttl_ms.items():
            has_windows = key == "unique" and _has_windows(queue)
            if ttl_ms < 0 and _kind(key) not in STAYING and not has_windows:
                found.append(f"{queue.name}: {key} is left")
        for p, stream in enumerate(queue.streams):
            if stream.jobs:
                found.append(f"{queue.name}: ready:{p} holds {len(stream.jobs)} entries")
            if left := {name for name in stream.consumers if not is_reserved(name)}:
                found.append(f"{queue.name}: ready:{p} has the consumers {sorted(left)}")
    return found


def _kind(key: str) -> str:
    parts = [part for part in DOCUMENTED if part.endswith(":")]
    return next((part for part in parts if key.startswith(part)), key)


def _names_and_expiry(queue: QueueSnapshot) -> Iterator[str]:
    yield from queue.refused
    for key, ttl_ms in queue.ttl_ms.items():
        kind = _kind(key)
        if kind not in DOCUMENTED:
            yield f"{key}: no documented key"
        elif kind in EXPIRING and ttl_ms < 0:
            yield f"{key}: never expires"
        elif kind not in EXPIRING | FORGOTTEN and ttl_ms >= 0:
            yield f"{key}: expires in {ttl_ms} ms, and must not"


def _place(p: int, entry: tuple[int, int]) -> str:
    return f"{p}:{entry[0]}-{entry[1]}"


def _index_agrees(queue: QueueSnapshot) -> Iterator[str]:
    """Each job is in one place, and the index says which."""
    index, scheduled = queue.hashes["index"], queue.zsets["scheduled"]
    places = dict.fromkeys(scheduled, "s") | dict.fromkeys(queue.hashes["unique:held"], "h")
    places |= dict.fromkeys(queue.hashes["gated:data"], "g")
    places |= dict.fromkeys(queue.hashes["barriers:data"], "b")
    for p, stream in enumerate(queue.streams):
        for entry, id in stream.jobs.items():
            if id in places:
                yield f"job {id}: stored twice, in {places[id]} and {_place(p, entry)}"
            places[id] = _place(p, entry)
    for id in sorted(index.keys() | places.keys()):
        if index.get(id) != places.get(id):
            yield f"job {id}: the index says {index.get(id)}, it is in {places.get(id)}"


def _data_agrees(queue: QueueSnapshot) -> Iterator[str]:
    """Times and envelopes of scheduled and dead jobs come in pairs."""
    for part in ("scheduled", "dead"):
        times, data = queue.zsets[part], queue.hashes[f"{part}:data"]
        for id in sorted(times.keys() ^ data.keys()):
            where = part if id in times else f"{part}:data"
            yield f"job {id}: only in {where}"
        for id, stored in data.items():
            if stored[:1] not in ("0", "1", "2", "3"):
                yield f"job {id}: {part}:data starts with no priority: {stored!r:.40}"


def _dead_bytes_agree(queue: QueueSnapshot) -> Iterator[str]:
    """What is counted of dead letters is how large they are."""
    counted, stored = queue.dead_bytes
    if counted != stored:
        yield f"dead:bytes: {counted}, and the letters have {stored}"


def _entries_are_held_or_ready(queue: QueueSnapshot) -> Iterator[str]:
    leases = queue.zsets["workers"].keys() | queue.sets["leaving"]
    for p, stream in enumerate(queue.streams):
        for name in stream.groups.keys() - {GROUP}:
            yield f"ready:{p}: a foreign group {name}"
        for entry, holder in stream.pending.items():
            if entry not in stream.jobs:
                yield f"ready:{p}: {holder} holds {_place(p, entry)}, which is deleted"
        for name in sorted(stream.consumers - leases):
            if is_reserved(name):
                continue
            if (function := set_aside_of(name)) is not None:
                if function not in queue.hashes["paused"]:
                    yield f"ready:{p}: jobs of {function} stand aside, and it is not paused"
                continue
            yield f"ready:{p}: the consumer {name} has no lease"
        delivered = stream.groups.get(GROUP, (0, 0))
        for entry, id in stream.jobs.items():
            is_seen = entry <= delivered or p == GATED
            if is_seen and entry not in stream.pending:
                yield f"job {id}: {_place(p, entry)} is acknowledged and not deleted"


def _leases_agree(queue: QueueSnapshot) -> Iterator[str]:
    workers = queue.zsets["workers"].keys()
    for part in ("workers:info", "sequence"):
        # The number of a lease's parked exchange and its grace go with the lease.
        # That its worker was told to end is known until its jobs are back.
        leaving = {f"{name}:leaves" for name in queue.sets["leaving"]}
        named = {name.partition(":")[0] for name in queue.hashes[part].keys() - leaving}
        for lease in sorted(workers ^ named):
            yield f"lease {lease}: in only one of workers and {part}"
    for lease in sorted(workers & queue.sets["leaving"]):
        yield f"lease {lease}: in workers and leaving"


def _returned_are_found(queue: QueueSnapshot) -> Iterator[str]:
    """Jobs given back are looked for only in the places that `returned` names, suspects each
    in the one for its crashes."""
    marked = queue.sets["returned"]
    for p, stream in enumerate(queue.streams):
        for entry, holder in stream.pending.items():
            if not is_reserved(holder):
                continue
            if p == GATED:
                yield f"gated: {holder} holds {_place(p, entry)}, and not its lane"
            if f"{p + 1}{holder.removeprefix('returned')}" not in marked:
                yield f"ready:{p}: holds jobs given back, and nobody will look for them"
            crashes = min(int(queue.hashes["crashes"].get(_place(p, entry), 0)), 16)
            if int(holder.partition(":")[2] or 0) != crashes:
                yield f"{_place(p, entry)}: waits at {holder}, and has {crashes} crashes"
    for place in sorted(marked):
        if re.fullmatch(r"[1-4](:[1-9]|:1[0-6])?", place) is None:
            yield f"returned: {place!r} is no priority"


def _pauses_are_readable(queue: QueueSnapshot) -> Iterator[str]:
    for name, value in queue.hashes["paused"].items():
        if _PAUSE.fullmatch(value) is None or (name == "" and value.startswith("r")):
            yield f"paused: {name!r} has {value!r:.40}"


def _marks_are_of_living_jobs(queue: QueueSnapshot) -> Iterator[str]:
    index = queue.hashes["index"]
    pending = {_place(p, e) for p, stream in enumerate(queue.streams) for e in stream.pending}
    for id in queue.hashes["cancel"]:
        if index.get(id) not in pending:
            yield f"job {id}: marked to be cancelled, and does not run"
    held = {f"{holder}\0{id}" for id, holder in queue.hashes["cancel"].items() if holder}
    for mark in sorted(held ^ queue.zsets["cancel:held"].keys()):
        holder, _, id = mark.partition("\0")
        yield f"job {id}: only one of cancel and cancel:held has the mark for {holder}"
    for id in queue.hashes["progress"].keys() - index.keys():
        yield f"job {id}: progress is kept, and the job is gone"
    gated = {f"g:{id}" for id in queue.hashes["gated:of"]}
    for place in queue.hashes["crashes"].keys() - pending - gated:
        yield f"entry {place}: crashes are kept, and nobody holds it"


def _notes_are_of_jobs(queue: QueueSnapshot) -> Iterator[str]:
    """Notes are found by the set of jobs that have some, and go with their jobs and letters."""
    noted = queue.sets["noted"]
    kept = {key.removeprefix("notes:") for key in queue.ttl_ms if key.startswith("notes:")}
    for id in sorted(noted ^ kept):
        yield f"job {id}: only one of noted and notes:{id}"
    for id in sorted(kept - queue.hashes["index"].keys()):
        yield f"job {id}: notes are kept, and the job is gone"
    start = "dead:notes:"
    with_letters = {key.removeprefix(start) for key in queue.ttl_ms if key.startswith(start)}
    for id in sorted(with_letters - queue.zsets["dead"].keys()):
        yield f"job {id}: notes of a dead job are kept, and its letter is gone"
    for id in sorted(with_letters ^ queue.hashes["dead:noted"].keys()):
        yield f"job {id}: only one of dead:noted and dead:notes:{id}"


def _waits_are_of_living_jobs(queue: QueueSnapshot) -> Iterator[str]:
    """A wait goes with the notes of its job."""
    for member in sorted(queue.zsets["waits"]):
        name, key, id = member.split("\0", 2)
        if id not in queue.sets["noted"] or id not in queue.hashes["index"]:
            yield f"job {id}: waits for event {name}:{key}, and the job is gone"


def _has_windows(queue: QueueSnapshot) -> bool:
    """Whether no other locks than windows are left."""
    return queue.hashes["unique"].keys() == queue.zsets["unique:windows"].keys()


def _locks_are_of_living_jobs(queue: QueueSnapshot) -> Iterator[str]:
    """A key is held by one job that lives, or for a window; one job at the most waits for it."""
    locks, owners = queue.hashes["unique"], queue.hashes["unique:of"]
    windows = set()
    for key, stored in locks.items():
        lock = _LOCK.fullmatch(stored)
        if lock is None:
            yield f"key {key}: {stored!r} is no lock"
        elif lock[1] == "w":
            windows.add(key)
        elif owners.get(lock[2]) not in (f"{lock[1]}0{key}", f"{lock[1]}1{key}"):
            yield f"key {key}: job {lock[2]} holds it, and does not know"
    for key in sorted(windows ^ queue.zsets["unique:windows"].keys()):
        yield f"key {key}: only one of unique and unique:windows"
    waiting = {key: stored.split(" ", 2)[2] for key, stored in queue.hashes["unique:next"].items()}
    for id, owner in owners.items():
        if id not in queue.hashes["index"]:
            yield f"job {id}: its key is kept, and the job is gone"
        if owner[:1] == "h" and waiting.get(owner[2:]) != id:
            yield f"job {id}: is held, and does not get its key next"
    for key in sorted(waiting.keys() - locks.keys()):
        yield f"key {key}: job {waiting[key]} waits for it, and it is free"
    for id in sorted(set(waiting.values()) ^ queue.hashes["unique:held"].keys()):
        yield f"job {id}: only one of unique:next and unique:held"
    for id in sorted(queue.zsets["unique:since"].keys() ^ queue.hashes["unique:held"].keys()):
        yield f"job {id}: only one of unique:since and unique:held"


def _barriers_agree(queue: QueueSnapshot) -> Iterator[str]:
    """Each job behind a barrier is in all places, and each barrier waits for somebody."""
    held = queue.hashes["barriers:data"].keys()
    for part in (queue.hashes["barriers:of"], queue.zsets["barriers:since"]):
        for id in sorted(held ^ part.keys()):
            yield f"job {id}: only in some of the keys of jobs behind barriers"
    for id, text in queue.hashes["barriers"].items():
        found = _BARRIER.fullmatch(text)
        if found is None or found[1] == "0":
            yield f"barrier {id}: {text!r} waits for nobody"
    for id in sorted(queue.hashes["barriers:ends"].keys() - queue.hashes["index"].keys() - {""}):
        yield f"job {id}: its end has counted nowhere, and it is gone"
    fallen = {f"let:{name}" for name in queue.fallen}
    marked = "" in queue.hashes["barriers:ends"]
    if marked != bool(fallen):
        yield f"barriers:ends: {marked} for fallen barriers, and there are {sorted(fallen)}"
    start = "barriers:"
    let = {key.removeprefix(start) for key in queue.ttl_ms if key.startswith("barriers:let:")}
    for name in sorted(let - fallen):
        yield f"{start}{name}: nobody will let these jobs go"
    behind = "barriers:behind:"
    for key in queue.ttl_ms:
        if key.startswith(behind) and key.removeprefix(behind) not in queue.hashes["barriers"]:
            yield f"{key}: there is no such barrier"
    waits = {text.partition(" ")[2] for text in queue.hashes["barriers:of"].values()}
    gone = {name.partition(":")[2] for name in queue.fallen}
    for barrier in sorted(waits - queue.hashes["barriers"].keys()):
        if not any(name.startswith(barrier) for name in gone):
            yield f"barrier {barrier}: jobs are behind it, and it does not stand"


def _flows_agree(queue: QueueSnapshot) -> Iterator[str]:
    """Each flow is in the list of one state, and nothing of others is left."""
    parts = ("flow:of:", "flow:nodes:", "flow:names:", "flow:ends:")
    kept = {
        key.removeprefix(part) for key in queue.ttl_ms for part in parts if key.startswith(part)
    }
    listed = [id for state in FlowState for id in queue.zsets[f"flows:{state}"]]
    for id in sorted(kept ^ set(listed)):
        yield f"flow {id}: only in some of its keys"
    for id in sorted(id for id in set(listed) if listed.count(id) > 1):
        yield f"flow {id}: in two states"
    for id in sorted(set(queue.hashes["flows:names"].values()) - set(listed)):
        yield f"flow {id}: it holds its name, and is gone"
    timed = set(listed) - queue.zsets["flows:running"].keys()
    for id in sorted(timed ^ queue.zsets["flows:over"].keys()):
        yield f"flow {id}: only one of flows:over and the lists of states"


def _schedules_agree(queue: QueueSnapshot) -> Iterator[str]:
    """Each schedule is named, fires when its fields say, and is all that leaves something."""
    named = queue.zsets["cron"].keys()
    for id in sorted(named ^ queue.rules.keys()):
        yield f"schedule {id}: only one of cron and cron:of:{id}"
    start = "cron:ran:"
    ran = {key.removeprefix(start) for key in queue.ttl_ms if key.startswith(start)}
    for id in sorted(ran - named):
        yield f"schedule {id}: its jobs are remembered, and it is gone"
    times = {id: f"{ms:.0f}" for id, ms in queue.zsets["cron:next"].items()}
    for id in sorted(times.keys() | queue.rules.keys()):
        fields = queue.rules.get(id, {})
        if times.get(id, "") != fields.get("next", ""):
            yield f"schedule {id}: next is {fields.get('next')!r}, and it is due {times.get(id)}"
        if fields.get("state") and fields.get("next"):
            yield f"schedule {id}: it is paused, and has a next tick"


def _memories_are_bounded(queue: QueueSnapshot) -> Iterator[str]:
    for part in ("known:0", "known:1", "known:2"):
        fields = queue.hashes[part]
        if fields and _UNTIL.fullmatch(fields.get("", "")) is None:
            yield f"{part}: does not say until when it counts"
        for id, state in fields.items():
            if id and state not in _CODES:
                yield f"{part}: job {id} ended as {state!r}"
    for field in queue.hashes["stats"]:
        if _COUNTER.fullmatch(field) is None:
            yield f"stats: {field!r} is no counter"
    if queue.wakes > 1:
        yield f"wake: holds {queue.wakes} tokens"


_RULES: Final = (
    _names_and_expiry,
    _index_agrees,
    _data_agrees,
    _dead_bytes_agree,
    _entries_are_held_or_ready,
    _leases_agree,
    _returned_are_found,
    _pauses_are_readable,
    _marks_are_of_living_jobs,
    _notes_are_of_jobs,
    _waits_are_of_living_jobs,
    _locks_are_of_living_jobs,
    *GATE_RULES,
    _barriers_agree,
    _flows_agree,
    _schedules_agree,
    _memories_are_bounded,
)
