"""The rules of the data model for jobs with a gate; each function yields findings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.audit.snapshot import QueueSnapshot

__all__ = ["GATED", "GATE_KEYS", "GATE_RULES"]

GATED: Final = 4
"""The stream of jobs with a gate that run: nobody reads it."""
GATE_KEYS: Final = frozenset(
    {
        *("lanes", "turns", "barred", "later", "standing", "lanes:of", "gated:of", "gated:data"),
        *(
            "gated:own",
            "gated:since",
            "permits",
            "rates",
            "closed",
            "limits",
            "holders",
            "holders:of",
        ),
    }
)
"""What lua/gates.lua and lua/rooms.lua keep."""
_MEMBER: Final = re.compile(r"(.*)\0(\d{29})(.*)", re.DOTALL)


def _jobs_wait_in_one_lane(queue: QueueSnapshot) -> Iterator[str]:
    of, data = queue.hashes["gated:of"], queue.hashes["gated:data"]
    for id in sorted((of.keys() | queue.hashes["gated:own"].keys()) - queue.hashes["index"].keys()):
        yield f"job {id}: its gate is kept, and the job is gone"
    for id in sorted(data.keys() ^ queue.zsets["gated:since"].keys()):
        yield f"job {id}: only one of gated:data and gated:since"
    waiting = []
    for member in queue.zsets["lanes"]:
        match = _MEMBER.fullmatch(member)
        if match is None:
            yield f"lanes: {member!r} is no job"
            continue
        waiting.append(match[3])
        if of.get(match[3], "")[1:30] != match[2]:
            yield f"job {match[3]}: waits as {match[2]}, and its gate says {of.get(match[3])!r:.40}"
    for id, number in Counter(waiting).items():
        if number > 1:
            yield f"job {id}: waits in {number} lanes"
    for id in sorted(data.keys() ^ set(waiting)):
        yield f"job {id}: only one of gated:data and lanes"


def _lanes_stand_in_one_place(queue: QueueSnapshot) -> Iterator[str]:
    matches = (_MEMBER.fullmatch(member) for member in queue.zsets["lanes"])
    waiting = {match[1] for match in matches if match and not match[1].startswith("@")}
    standing = {k: v for k, v in queue.hashes["standing"].items() if k[:1] in "!0123456789"}
    for lane in sorted(waiting ^ standing.keys()):
        yield f"lane {lane!r}: only one of lanes and standing"
    places = [(lane, "t") for lane in queue.zsets["turns"]]
    places += [(lane, "l") for lane in queue.zsets["later"]]
    places += [(member.split("\0", 2)[2], "b") for member in queue.zsets["barred"]]
    found: dict[str, str] = {}
    for lane, where in places:
        found[lane] = found.get(lane, "") + where
    for lane in sorted(found.keys() | standing.keys()):
        if standing.get(lane, "-")[0] != found.get(lane):
            yield f"lane {lane!r}: is in {found.get(lane)}, and stands {standing.get(lane)!r}"


def _permits_are_held(queue: QueueSnapshot) -> Iterator[str]:
    running = {f"{e[0]}-{e[1]}\0{id}" for e, id in queue.streams[GATED].jobs.items()}
    for member in queue.zsets["permits"]:
        use, _, holder = member.partition("\0")
        if not holder.startswith("~") and holder not in running:
            yield f"permit {use}: {holder!r} has it, and does not run"
        elif holder.startswith("~") and holder[1:] not in queue.zsets["holders"]:
            yield f"permit {use}: {holder[1:]} has it for ever"
    for holder in sorted(queue.zsets["holders"].keys() ^ queue.hashes["holders:of"].keys()):
        yield f"holder {holder}: only one of holders and holders:of"


def _no_lane_waits_beside_room(queue: QueueSnapshot) -> Iterator[str]:
    """A lane stands barred only while its permits are taken, or while another lane is in line that
    may use them."""
    taken = Counter(member.partition("\0")[0] for member in queue.zsets["permits"])
    for use in {member.partition("\0")[0] for member in queue.zsets["barred"]}:
        in_line = any(use in lane for lane in queue.zsets["turns"])
        if not taken[use] and not in_line and not _is_stopped(queue, use):
            yield f"limit {use}: lanes wait, and nobody has a permit"


def _is_stopped(queue: QueueSnapshot, use: str) -> bool:
    """Whether somebody has set a limit to nothing, or closed the key."""
    numbers = [rule.split(" ")[0] for rule in queue.hashes["limits"].values()]
    return use in queue.hashes["closed"] or "c0" in numbers


GATE_RULES: Final = (
    _jobs_wait_in_one_lane,
    _lanes_stand_in_one_place,
    _permits_are_held,
    _no_lane_waits_beside_room,
)
