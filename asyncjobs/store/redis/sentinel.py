"""Finds the master behind sentinels. They are asked for each connection, nothing is cached.

The driver's own pool asks one sentinel after the other, so one that never answers uses up all
the time. It also retries commands that must not be sent twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final, TypeAlias

from redis.asyncio import Connection
from redis.exceptions import RedisError

from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.own import hide
from asyncjobs.store.redis.address import Address, Sentinels, place_text
from asyncjobs.store.redis.faults import AccessDenied, translate

__all__ = ["connect_master"]

Place: TypeAlias = tuple[str, int]
Answer: TypeAlias = Place | StoreError | None

TRY_PART: Final = 0.5
"""The part of the connect timeout that all sentinels have, and each server that they name. So one
that hangs leaves time for the others."""


async def connect_master(
    address: Address, sentinels: Sentinels, options: dict[str, Any], timeout_s: float
) -> Connection:
    """An open connection to the server that the sentinels name, and that says it is the master.

    Raises StoreUnavailable with service and sentinels, and AccessDenied when credentials are
    refused. It takes about `timeout_s` at the most.
    """
    answers = await _ask_all(address, sentinels, options, timeout_s)
    # A sentinel that is cut off from the others may still name a master that was replaced. What
    # such a master accepts is lost when it becomes a replica, so most votes come first.
    votes = Counter(answer for answer in answers.values() if isinstance(answer, tuple))
    refusal: StoreError | None = None
    for place, _ in votes.most_common():
        try:
            async with asyncio.timeout(timeout_s * TRY_PART):
                return await _enter(address, place, options)
        except (RedisError, OSError, StoreError) as error:
            refusal = _refusal(_told(error, place), address, sentinels)
    raise refusal or _nobody(address, sentinels, answers)


async def _ask_all(
    address: Address, sentinels: Sentinels, options: dict[str, Any], timeout_s: float
) -> dict[Place, Answer]:
    """What each sentinel says. All are asked at once, until most of them agree, or all have
    answered or used up their time."""
    answers: dict[Place, Answer] = {}

    async def hear(sentinel: Place) -> None:
        try:
            async with asyncio.timeout(timeout_s * TRY_PART):
                answers[sentinel] = await _master_by(address, sentinels, sentinel, options)
        except (RedisError, OSError) as error:
            answers[sentinel] = _told(error, sentinel)

    asks = {hide(asyncio.create_task(hear(sentinel))) for sentinel in sentinels.places}
    pending = asks
    try:
        while pending and not _agree(answers, len(asks)):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Nobody needs the answers that are still missing.
        for ask in asks:
            ask.cancel()
        await asyncio.gather(*asks, return_exceptions=True)
    return answers


def _agree(answers: dict[Place, Answer], asked: int) -> bool:
    votes = Counter(answer for answer in answers.values() if isinstance(answer, tuple))
    return max(votes.values(), default=0) * 2 > asked


async def _master_by(
    address: Address, sentinels: Sentinels, sentinel: Place, options: dict[str, Any]
) -> Place | None:
    """The master that this sentinel names, None when it knows of none."""
    host, port = sentinel
    connection = address.kind(host=host, port=port, **sentinels.arguments, **options)
    try:
        await _open(connection)
        found = await _ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinels.service)
        if found is None:
            return None
        return found[0].decode(), int(found[1])
    finally:
        await connection.disconnect(nowait=True)


async def _enter(address: Address, place: Place, options: dict[str, Any]) -> Connection:
    host, port = place
    connection = address.kind(host=host, port=port, **address.arguments, **options)
    assert isinstance(connection, Connection)
    try:
        await _open(connection)
        # A sentinel may name a master that has just become a replica, so ask the server itself.
        role = (await _ask(connection, "ROLE"))[0].decode()
        if role != "master":
            raise StoreUnavailable("it is a replica; a failover may be under way")
        return connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


async def _open(connection: Any) -> None:
    # The driver ships types, but left this method without.
    await connection.connect()


async def _ask(connection: Any, *command: str) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(disconnect_on_error=False)


def _told(error: BaseException, place: Place) -> StoreError:
    """The error of one server, with its place."""
    kind: type[StoreError] = StoreUnavailable
    if isinstance(error, AccessDenied) or isinstance(translate(error, ""), AccessDenied):
        kind = AccessDenied
    told = kind(f"{place_text(*place)}: {str(error) or 'no answer in time'}")
    told.__cause__ = error
    return told


def _refusal(error: StoreError, address: Address, sentinels: Sentinels) -> StoreError:
    """Why the master that the sentinels name cannot be used."""
    if isinstance(error, AccessDenied):
        advice = "check user, password, ACL (it needs +role)"
    else:
        advice = "if this lasts, ask a sentinel with SENTINEL MASTER " + sentinels.service
    refusal = type(error)(
        f"the store at {address.text} is not available: the master that the sentinels name "
        f"cannot be used, {error}; {advice}"
    )
    refusal.__cause__ = error
    return refusal


def _nobody(address: Address, sentinels: Sentinels, answers: dict[Place, Answer]) -> StoreError:
    """Why no sentinel names a master."""
    asked = ", ".join(place_text(*place) for place in sentinels.places)
    errors = [answer for answer in answers.values() if isinstance(answer, StoreError)]
    told = "".join(f"; {error}" for error in errors)
    if len(errors) < len(answers):
        return StoreUnavailable(
            f"no master known for service {sentinels.service!r}; asked {asked}; check the "
            f"service's name with SENTINEL MASTERS on one of them{told}"
        )
    if any(isinstance(error, AccessDenied) for error in errors):
        return AccessDenied(
            f"the sentinels of {address.text} refused the credentials; check "
            f"sentinel_username and sentinel_password in the store URL{told}"
        )
    return StoreUnavailable(
        f"the store at {address.text} is not available: no sentinel answers; check that they "
        f"run and that the URL is right{told}"
    )
