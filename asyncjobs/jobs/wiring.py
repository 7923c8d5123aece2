"""Makes the dependencies of a job function before its call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, Final

from asyncjobs.jobs.calling import Prepared
from asyncjobs.jobs.context import current_job
from asyncjobs.jobs.dependency import Maker, Need
from asyncjobs.jobs.opened import Opened
from asyncjobs.jobs.resources import Resources

__all__ = ["Wiring"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Wiring:
    """The dependencies of one job function. Only functions that have some have a Wiring."""

    __slots__ = ("_names", "_needs", "_resources")

    def __init__(self, needs: tuple[Need, ...], resources: Resources) -> None:
        self._needs = needs
        self._resources = resources
        self._names = frozenset(need.parameter for need in needs)

    def take_given(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take those that the caller gives itself out of the keywords of a plain call."""
        return {name: kwargs.pop(name) for name in self._names if name in kwargs}

    async def make(self, prepared: Prepared, given: Mapping[str, Any] = _NOTHING) -> None:
        """The step of a call that makes the dependencies which are not `given`.

        What is raised while one is made or ended counts like an error of the function.
        """
        opened = Opened.at_hand(self._resources)
        if opened is None:
            # Outside of a worker: what a worker would share lives as long as this call.
            opened = await prepared.exits.enter_async_context(Opened.of(self._resources))
        making = _Making(self._resources, opened, prepared.exits)
        # A copy: middleware shows the arguments of the call, and these are none.
        values = prepared.kwargs = dict(prepared.kwargs)
        for need in self._needs:
            # A stored job may have a keyword of this name, from before the parameter became a
            # dependency. It must not replace a session.
            if need.parameter in given:
                values[need.parameter] = given[need.parameter]
            else:
                values[need.parameter] = await making.value(need)


class _Making:
    """Makes the dependencies of one attempt, each of them once."""

    __slots__ = ("_exits", "_made", "_opened", "_resources")

    def __init__(self, resources: Resources, opened: Opened, exits: AsyncExitStack) -> None:
        self._resources = resources
        self._opened = opened
        self._exits = exits
        self._made: dict[Maker, Any] = {}

    async def value(self, need: Need) -> Any:
        provider = self._resources.in_force(need.provider)
        if need.is_shared:
            return await self._opened.value(provider)
        function = provider.function
        # rule:28 an attempt has one instance of each dependency
        if function in self._made:
            return self._made[function]
        values: dict[str, Any] = {}
        for each in provider.needs:
            values[each.parameter] = await self.value(each)
        if provider.context is not None:
            values[provider.context] = current_job()
        value = self._made[function] = await provider.make(self._exits, values)
        return value
