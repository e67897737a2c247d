"""API keys in a test's own namespace, instead of the one that all tests would share."""

from __future__ import annotations

from callboard.engine.namespace import Namespace
from callboard.services.access import Access


class Here:
    """Stands in the place of the namespace that is reserved for keys."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    async def reach(self) -> Namespace:
        return self._namespace


def access_of(namespace: Namespace) -> Access:
    return Access(Here(namespace))  # type: ignore[arg-type]
