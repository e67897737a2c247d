"""What a coordinator says of itself: its health, its document, its pages."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from callboard.dispatch.dispatcher import DispatchState
from callboard.exceptions import CallboardError
from callboard.http import errors, pages
from callboard.http.route import Call, Reply, Route

if TYPE_CHECKING:
    from callboard.http.app import Coordinator, Served

_encode = msgspec.json.Encoder().encode


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests can be served just now.

    Attributes:
        engine: The engine's product and version, where it answers.
    """

    status: str
    engine: str = ""
    timestamp: str


class NotReady(msgspec.Struct, frozen=True, kw_only=True):
    """Why requests cannot be served just now."""

    detail: str
    code: str
    details: dict[str, str] = {}


class EngineState(msgspec.Struct, frozen=True, kw_only=True):
    """The engine as this coordinator sees it.

    Attributes:
        latency_ms: How long it took to answer a PING just now; None where it did not.
        durability: How far its promise goes: ``always``, ``everysec``, ``snapshots``, ``none``.
        offset_ms: By how much its clock is before this machine's; None where it did not answer.
    """

    software: str
    version: str
    durability: str
    is_cluster: bool
    is_connected: bool
    latency_ms: float | None
    offset_ms: float | None


class NamespaceState(msgspec.Struct, frozen=True, kw_only=True):
    """What runs for one namespace.

    Attributes:
        listeners: Streams and sockets that are told its events.
        swept_at: When its janitor's last round went well; None before the first, or without.
        dispatcher: What its dispatch loop says of itself; None without.
    """

    name: str
    is_connected: bool
    listeners: int
    swept_at: datetime | None
    dispatcher: DispatchState | None


class RequestState(msgspec.Struct, frozen=True, kw_only=True):
    """What passed through this process since it began; times in milliseconds, by buckets.

    Streams, sockets and requests that waited for something are counted, and not timed.
    """

    in_flight: int
    total: int
    failures: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class System(msgspec.Struct, frozen=True, kw_only=True):
    """One coordinator, as it sees itself.

    Attributes:
        node: The machine's name.
        time: Of its clock.
    """

    version: str
    node: str
    pid: int
    started_at: datetime
    uptime_seconds: float
    time: datetime
    is_stopping: bool
    engine: EngineState
    namespaces: list[NamespaceState]
    requests: RequestState


class SystemBody(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that tells of a coordinator."""

    status: str
    system: System
    timestamp: str


PING_SECONDS: Final = 2.0


async def system(call: Call) -> Reply:
    """Answer how this coordinator is; also where the engine is away.

    Of namespaces only those that the caller may use: the names of others are not for all.
    """
    from callboard.version import __version__

    coordinator = call.coordinator
    requests = coordinator.requests
    found = System(
        version=__version__,
        node=os.uname().nodename,
        pid=os.getpid(),
        started_at=datetime.fromtimestamp(coordinator.started_at, UTC),
        uptime_seconds=round(time.time() - coordinator.started_at, 3),
        time=datetime.now(UTC),
        is_stopping=coordinator.is_stopping.is_set(),
        engine=await _engine(coordinator),
        namespaces=[
            _namespace(one)
            for one in coordinator.open_now()
            if call.caller is not None and call.caller.may_use(one.cb.namespace.name)
        ],
        requests=RequestState(
            in_flight=requests.in_flight,
            total=requests.total,
            failures=requests.failures,
            p50_ms=round(requests.quantile(0.5) * 1e3, 3),
            p95_ms=round(requests.quantile(0.95) * 1e3, 3),
            p99_ms=round(requests.quantile(0.99) * 1e3, 3),
        ),
    )
    return Reply(_encode(SystemBody(status="success", system=found, timestamp=errors.now())))


async def _engine(coordinator: Coordinator) -> EngineState:
    served = await coordinator.served(coordinator.settings.namespace)
    cb, latency, offset = served.cb, None, None
    with suppress(CallboardError):
        before = time.perf_counter()
        seconds, micros = await cb.namespace.connection.call("TIME", timeout=PING_SECONDS)
        latency = time.perf_counter() - before
        offset = int(seconds) + int(micros) / 1e6 - time.time() + latency / 2
    facts = cb.facts
    return EngineState(
        software=facts.software,
        version=facts.version,
        durability=facts.durability,
        is_cluster=facts.is_cluster,
        is_connected=cb.is_connected,
        latency_ms=None if latency is None else round(latency * 1e3, 3),
        offset_ms=None if offset is None else round(offset * 1e3, 1),
    )


def _namespace(served: Served) -> NamespaceState:
    janitor, dispatcher = served.janitor, served.dispatcher
    return NamespaceState(
        name=served.cb.namespace.name,
        is_connected=served.cb.is_connected,
        listeners=served.hub.listeners,
        swept_at=None if janitor is None else janitor.ran_at,
        dispatcher=None if dispatcher is None else dispatcher.state(),
    )


async def ready(call: Call) -> Reply:
    """Answer 200 where the engine answers, and this coordinator is not about to stop."""
    if call.coordinator.is_stopping.is_set():
        return errors.refused(503, "This coordinator is stopping.", "stopping", after=1)
    cb = await call.coordinator.board(call.coordinator.settings.namespace)
    await cb.namespace.connection.call("PING", timeout=1.0)
    facts = cb.facts
    engine = f"{facts.software} {facts.version}"
    return Reply(_encode(Ready(status="ready", engine=engine, timestamp=errors.now())))


async def document(call: Call) -> Reply:
    """Answer the OpenAPI document."""
    return Reply(await _document(call))


async def docs(call: Call) -> Reply:
    """Answer the page that shows the OpenAPI document to people."""
    page = await asyncio.to_thread(pages.docs, await _document(call))
    return Reply(page, content_type=pages.HTML)


async def _document(call: Call) -> bytes:
    """The document; made beside the event loop, since that takes a tenth of a second."""
    coordinator = call.coordinator
    return await asyncio.to_thread(lambda: coordinator.document)


async def style(call: Call) -> Reply:
    """Answer the style of the pages."""
    return Reply(pages.style(), content_type=pages.CSS)


def routes() -> list[Route]:
    """Health, readiness, the document and its page."""
    return [
        Route(
            verb="GET",
            path="/ready",
            handle=ready,
            role=None,
            summary="Say whether requests can be served just now.",
            tag="system",
            answers={200: Ready, 503: NotReady},
        ),
        Route(
            verb="GET",
            path="/system",
            handle=system,
            role="read",
            summary="Tell how this coordinator is: its engine, loops, requests.",
            tag="system",
            answers={200: SystemBody},
        ),
        Route(
            verb="GET",
            path="/openapi.json",
            handle=document,
            role=None,
            summary="This interface as an OpenAPI 3.1 document.",
            tag="system",
            answers={200: dict},
        ),
        Route(
            verb="GET",
            path="/docs",
            handle=docs,
            role=None,
            summary="This interface as a page.",
            tag="system",
            answers={200: None},
            content_type=pages.HTML,
        ),
        Route(
            verb="GET",
            path="/docs.css",
            handle=style,
            role=None,
            summary="The style of that page.",
            tag="system",
            answers={200: None},
            content_type=pages.CSS,
        ),
    ]
