"""What ``connect("http://…")`` gives: the services of one namespace, asked of a coordinator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn, Self, cast

import msgspec

from callboard.app import Callboard
from callboard.config import EngineChoice
from callboard.engine.bells import Bells
from callboard.engine.connection import Connection
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys
from callboard.engine.namespace import Namespace
from callboard.engine.probe import EngineFacts
from callboard.engine.reserved import ReservedNamespace
from callboard.exceptions import EngineError
from callboard.janitor import Janitor
from callboard.sdk.remote.services import Remote
from callboard.sdk.remote.streams import RemoteBells
from callboard.sdk.remote.transport import Transport


class NoEngine:
    """In place of an engine's connection and functions, where there is none."""

    is_closed = False

    async def call(self, name: str = "This", *_: Any, **__: Any) -> NoReturn:
        """Say that this needs the engine."""
        raise EngineError(
            f"{name} needs the engine itself, and this connection is to a coordinator. Connect "
            "with the engine's own URL, or its data directory."
        )

    read = subscribe = load = call


@dataclass(frozen=True, slots=True)
class RemoteNamespace(Namespace):
    """A namespace of which only the name and the bells are here."""

    rung: RemoteBells = field(kw_only=True)

    @property
    def bells(self) -> Bells:
        """What wakes those who wait."""
        return self.rung


class NoJanitor(Janitor):
    """In place of a janitor: each coordinator runs one."""

    def __init__(self) -> None:
        self._task = None

    def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """There is nothing to stop."""

    async def sweep(self, *, force: bool = False) -> bool:
        """Leave it to the coordinator."""
        return False


class _Ready(msgspec.Struct):
    engine: str = ""


class RemoteCallboard(Callboard):
    """A connection to one namespace over HTTP, used as one to the engine.

    The coordinator runs the janitor, and classifies errors by its own rules.
    """

    def __init__(
        self, choice: EngineChoice, namespace: str, *, api_key: str | None, call_timeout: float
    ) -> None:
        super().__init__(
            choice, namespace, durable=False, adopt=False, call_timeout=call_timeout, clock=None
        )
        self._api_key = api_key
        self._transport: Transport | None = None

    async def open(self) -> Self:
        """Ask whether a coordinator is ready. Raises EngineUnavailable."""
        if self._transport is not None:
            return self
        assert self.choice.url is not None
        transport = self._transport = Transport(
            tuple(self.choice.url.split(",")),
            api_key=self._api_key,
            namespace=self._name,
            call_timeout=self._call_timeout,
        )
        self._bells = RemoteBells(transport, self._call_timeout)
        try:
            ready = await transport.ask("GET", "/ready", is_repeatable=True)
        except BaseException:
            await self.close()
            raise
        self.facts = _facts(msgspec.json.decode(ready.body, type=_Ready))
        nothing: Any = NoEngine()
        self.namespace = RemoteNamespace(
            self._name,
            cast("Connection", nothing),
            cast("Functions", nothing),
            Keys(self._name),
            rung=self._bells,
        )
        self._assemble(cast("ReservedNamespace", nothing), Remote(transport))
        return self

    def janitor(self, *, interval: float = 1.0) -> Janitor:
        """One that does nothing, since each coordinator has its own."""
        return NoJanitor()

    @property
    def is_connected(self) -> bool:
        """Whether the last request was answered; the next one looks for itself."""
        return self._transport is not None and self._transport.is_reachable

    async def close(self) -> None:
        """Close all connections; what waits here ends."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        await super().close()
        await self._bells.close()
        await transport.close()

    def __repr__(self) -> str:
        return f"<Callboard {self._name or 'default'} at {self.choice}>"


def _facts(ready: _Ready) -> EngineFacts:
    """What the coordinator tells of its engine; the rest is for it to know."""
    software, _, version = ready.engine.partition(" ")
    return EngineFacts(
        software=software,
        version=version,
        is_cluster=False,
        durability="unknown",
        replicas=0,
        maxmemory=0,
        used_memory=0,
        incarnation="",
        format="",
    )
