"""One suite of cases that every store passes, written against the seam only.

To prove a store of your own, make a test module of four lines:

    from asyncjobs.testing import conformance

    globals().update(conformance.suite())

    @pytest.fixture
    def make_backend():
        return lambda settings, now_ms: MyBackend(settings, now_ms=now_ms)

`settings` is a StoreSettings with a prefix that no other case has; `now_ms` is the clock to
read, or None for the store's own. All times come from a pinned clock, except where a store can
only expire by its own. Cases that need more than every store has are skipped by capability.

Some cases spoil one queue and look at the others. They are skipped unless you override the
fixture `spoil`: it says how a queue of your store is spoiled, and what is heard then (`Spoil` in
spoiled.py). The fixture `any_part` may name more that can be spoiled.

The suite needs pytest and anyio's plugin for it, on asyncio: the fixture `anyio_backend` has to
say so.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final

import pytest

__all__ = ["modules", "suite"]

_TOOLS: Final = frozenset({"store", "spoiled"})

# Before any of them is imported: an assertion that fails shall say what it has compared.
pytest.register_assert_rewrite(*(f"{__name__}.{found.name}" for found in iter_modules(__path__)))


def modules() -> list[str]:
    """The names of the modules with cases, one for each subject: `enqueue`, `lease`, ..."""
    return [found.name for found in iter_modules(__path__) if found.name not in _TOOLS]


def suite() -> dict[str, Any]:
    """All cases and their fixtures, by name, for the namespace of a test module."""
    found: dict[str, Any] = {"pytestmark": pytest.mark.anyio}
    for name in (*sorted(_TOOLS), *modules()):
        module = import_module(f"{__name__}.{name}")
        own = {key: value for key, value in vars(module).items() if _belongs(value, module)}
        twice = own.keys() & found.keys()
        if twice:
            raise RuntimeError(f"{module.__name__}: another module has {sorted(twice)}, too")
        found |= own
    return found


def _belongs(value: Any, module: Any) -> bool:
    """Whether it is a case, or a fixture, that this module has made."""
    made = getattr(value, "_get_wrapped_function", lambda: value)()
    if getattr(made, "__module__", "") != module.__name__:
        return False
    is_fixture = made is not value
    return is_fixture or getattr(made, "__name__", "").lower().startswith("test")
