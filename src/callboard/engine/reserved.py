"""A namespace of Callboard's own on an engine, beside those of its users."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable

from callboard.config import RESERVED_NAMESPACES
from callboard.engine.connection import Connection
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys
from callboard.engine.namespace import Namespace


class ReservedNamespace:
    """Reached over the connection of another namespace, or on a Cluster over one of its own.

    It comes into being with the first call. Nothing in it waits for a janitor: its keys have
    lifetimes or bounds.

    Args:
        name: One of the names that users cannot take.
        connection: That of the namespace in use.
        clock: As of the functions.
    """

    def __init__(
        self,
        name: str,
        connection: Connection,
        clock: Callable[[], int | None] | None,
        *,
        call_timeout: float = 10.0,
    ) -> None:
        assert name in RESERVED_NAMESPACES, name
        self._name = name
        self._shared = connection
        self._clock = clock
        self._call_timeout = call_timeout
        self._own: Connection | None = None
        self._namespace: Namespace | None = None
        self._opening = asyncio.Lock()

    async def reach(self) -> Namespace:
        """The namespace, its connection open. Raises EngineUnavailable."""
        if self._namespace is None:
            async with self._opening:
                if self._namespace is None:
                    self._namespace = await self._open()
        return self._namespace

    async def close(self) -> None:
        """Close the connection where it is one of its own."""
        own, self._own = self._own, None
        self._namespace = None
        if own is not None:
            await own.close()

    async def _open(self) -> Namespace:
        keys = Keys(self._name)
        connection = self._shared
        if connection.is_cluster:
            # Another slot than that of the namespace in use, so perhaps another node.
            connection = self._own = await Connection.open(
                connection.url,
                name=f"callboard-{os.getpid()}-{self._name}",
                route=keys.format,
                call_timeout=self._call_timeout,
            )
        functions = Functions(connection, keys.format, self._clock)

        async def make() -> None:
            # Nobody follows its events, so no cursor depends on which server it is.
            await functions.call("namespace_open", "", secrets.token_hex(4))

        functions.reopen = make
        return Namespace(self._name, connection, functions, keys)
