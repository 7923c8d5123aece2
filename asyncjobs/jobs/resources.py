"""The resources of an app: what is opened once a worker, and what replaces it in tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asyncjobs.errors import RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.dependency import Maker, Provider, is_lifespan, mark_lifespan, provider_of

__all__ = ["Resources"]


class Resources:
    """The lifespans of a registry and of those that it includes, and the overrides of its app.

    Opens nothing: `Opened` does. Registries share the overrides of the outermost one.
    """

    def __init__(self) -> None:
        self._lifespans: list[Provider] = []
        self._children: list[Resources] = []
        self._parent: Resources | None = None
        self._overrides: dict[Maker, Provider] = {}

    @property
    def root(self) -> Resources:
        """Those of the app, or of the outermost registry."""
        found = self
        while found._parent is not None:
            found = found._parent
        return found

    def join(self, parent: Resources) -> None:
        """The registry is included in another one."""
        self._parent = parent
        parent._children.append(self)

    def add_lifespan(self, function: Maker) -> None:
        """Open what this function makes when a worker starts. Raises RegistrationError."""
        provider = provider_of(function, is_shared=True)
        mark_lifespan(function)
        # A reload defines the same function again. The newer one counts.
        self._lifespans = [each for each in self._lifespans if each.name != provider.name]
        self._lifespans.append(provider)

    @property
    def lifespans(self) -> list[Provider]:
        """All lifespans, in the order in which they are opened."""
        found = list(self._lifespans)
        for child in self._children:
            found += child.lifespans
        return found

    # -- overrides --------------------------------------------------------------------------

    @contextmanager
    def override(self, function: Maker, replacement: Maker) -> Iterator[None]:
        """While entered, `replacement` makes what `function` would make. Raises
        RegistrationError."""
        if not callable(replacement):
            raise RegistrationError(
                f"override() takes a function that makes what is used instead, not "
                f"{shown(replacement)}; write lambda: ..."
            )
        provider = provider_of(replacement, is_shared=is_lifespan(function))
        overrides = self.root._overrides
        before = overrides.get(function)
        overrides[function] = provider
        try:
            self._check_circle(provider, (function,))
            yield
        finally:
            # rule:28 an override ends with its block, and the one around it counts again
            del overrides[function]
            if before is not None:
                overrides[function] = before

    def in_force(self, provider: Provider) -> Provider:
        """This one, or the one that replaces it now."""
        overrides = self.root._overrides
        if not overrides:
            return provider
        return overrides.get(provider.function, provider)

    def _check_circle(self, provider: Provider, path: tuple[Maker, ...]) -> None:
        for need in provider.needs:
            if need.provider.function in path:
                raise RegistrationError(
                    f"override(): {provider.name} needs {need.provider.name}, which it replaces; "
                    "call that function in it instead"
                )
            self._check_circle(self.in_force(need.provider), (*path, need.provider.function))
