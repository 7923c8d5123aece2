"""The names of the nodes of a flow."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Names"]


class Names:
    """The names of the nodes of a flow, for all that is drawn of it, at once or in parts."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self._counted: dict[str, int] = {}

    def give(self, title: str) -> str:
        """A name that is not taken yet."""
        name = title
        # From where the last look ended: one job after the other may be added to a batch.
        while name in self.taken:
            number = self._counted.get(title, 1) + 1
            self._counted[title] = number
            name = f"{title}-{number}"
        self.taken.add(name)
        return name
