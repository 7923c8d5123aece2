"""The parameters that a call of a decorated function takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from inspect import Parameter
from typing import Any, NamedTuple

__all__ = ["Parameters", "parameters_of"]

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Parameters(NamedTuple):
    """The parameters of a function, in order.

    `passed`: the names of those that a decorator's wrapper passes on to the function inside, by
    `*args` and `**kwargs`. The wrapper may fill some of them in. So none of them has to be given,
    and a positional one may be at an earlier position than it seems.
    """

    all: Sequence[Parameter]
    passed: frozenset[str] = frozenset()

    def without(self, names: Collection[str]) -> Parameters:
        """The same without the parameters of these names."""
        return Parameters([p for p in self.all if p.name not in names], self.passed)

    @property
    def positional(self) -> list[Parameter]:
        """The parameters that may be given by position."""
        return [p for p in self.all if p.kind in _BY_POSITION]


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """The parameters of a function, including those that its wrappers pass on.

    `inspect.signature` shows the parameters of the innermost function. But a call has to fit the
    wrapper, which may take fewer or more. A `__signature__`, if there is one, is believed.
    """
    own = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    inner = getattr(function, "__wrapped__", None)
    if inner is None or hasattr(function, "__signature__"):
        return Parameters(own)
    kinds = {p.kind for p in own}
    by_position = Parameter.VAR_POSITIONAL in kinds
    by_name = Parameter.VAR_KEYWORD in kinds
    if not (by_position or by_name):
        return Parameters(own)
    names = {p.name for p in own}
    passed = [
        reached
        for parameter in parameters_of(inner).all
        if parameter.name not in names
        and (reached := _reached(parameter, by_position=by_position, by_name=by_name)) is not None
    ]
    explicit = [p for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    # As Python orders them: by position, then `*args`, then by keyword, then `**kwargs`.
    order = sorted([*explicit, *passed], key=lambda parameter: parameter.kind)
    return Parameters(order, frozenset(p.name for p in passed))


def _reached(parameter: Parameter, *, by_position: bool, by_name: bool) -> Parameter | None:
    """The inner parameter as it can be given through the wrapper; None if it cannot."""
    is_reached = by_position or by_name
    kind = parameter.kind
    if kind is Parameter.POSITIONAL_OR_KEYWORD and not by_name:
        return parameter.replace(kind=Parameter.POSITIONAL_ONLY)
    if kind is Parameter.POSITIONAL_OR_KEYWORD and not by_position:
        return parameter.replace(kind=Parameter.KEYWORD_ONLY)
    if kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL):
        is_reached = by_position
    elif kind in (Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD):
        is_reached = by_name
    if not is_reached:
        return None
    return parameter
