"""Strategies of one's own: registered in this process, or offered by installed packages."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any, Generic, TypeVar

from callboard.engine.offered import CannotLoad, load, offered
from callboard.exceptions import StrategyFailed

S = TypeVar("S")


class OwnStrategies(Generic[S]):
    """Strategies by name, each looked at as it becomes known.

    Args:
        group: Of the entry points that packages offer.
        check: Makes a strategy of what was registered or loaded; raises InvalidArgument.
        plain: What a name is called by; names alike in it are the same.
    """

    def __init__(
        self,
        group: str,
        check: Callable[[str, Any], S],
        plain: Callable[[str], str] = str,
    ) -> None:
        self._group = group
        self._check = check
        self._plain = plain
        self._known: dict[str, S] = {}

    def register(self, name: str, strategy: Any) -> S:
        """Make one known; the same name again replaces it. Raises as *check* does."""
        checked = self._known[self._plain(name)] = self._check(name, strategy)
        return checked

    def names(self) -> set[str]:
        """Those registered, and those that installed packages offer."""
        return {*self._known, *(point.name for point in self._offered().values())}

    def find(self, name: str) -> S | None:
        """The strategy of this name; None where there is none.

        Raises:
            StrategyFailed: A package offers it, and it cannot be loaded.
        """
        plain = self._plain(name)
        if plain not in self._known:
            point = self._offered().get(plain)
            if point is None:
                return None
            self._known[plain] = self._loaded(point)
        return self._known[plain]

    def _offered(self) -> dict[str, EntryPoint]:
        return offered(self._group, plain=self._plain)

    def _loaded(self, point: EntryPoint) -> S:
        try:
            return load(point, self._check)
        except CannotLoad as error:
            raise StrategyFailed(
                f"Strategy {point.name!r} of entry point {error}.", strategy=point.name
            ) from error
