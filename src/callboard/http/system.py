"""What a coordinator says of itself: its health, its document, its pages."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from callboard.dispatch.dispatcher import DispatchState
from callboard.exceptions import CallboardError, EngineError
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
    """What runs for one namespace, in all processes on the port together.

    Attributes:
        is_connected: Each process that serves it is.
        listeners: Streams and sockets that are told its events.
        swept_at: When its janitor last ended a round; None before the first, or without.
        dispatcher: What its dispatch loop says of itself; None without.
    """

    name: str
    is_connected: bool
    listeners: int
    swept_at: datetime | None
    dispatcher: DispatchState | None


class RequestState(msgspec.Struct, frozen=True, kw_only=True):
    """What passed through all processes on the port; times in milliseconds, by buckets.

    Streams, sockets and requests that waited for something are counted, and not timed.
    """

    in_flight: int
    total: int
    failures: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """One of the processes on the port."""

    pid: int
    started_at: datetime
    is_stopping: bool
    in_flight: int


class _Own(ProcessState, frozen=True, kw_only=True):
    """What a process tells the others."""

    namespaces: list[NamespaceState]


class System(msgspec.Struct, frozen=True, kw_only=True):
    """One coordinator, as it sees itself.

    Attributes:
        node: The machine's name.
        pid: Of the process that answers, as are ``started_at`` and ``engine``.
        time: Of its clock.
        processes: All on the port that answered in time; this one first.
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
    processes: list[ProcessState] = []


class SystemBody(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that tells of a coordinator."""

    status: str
    system: System
    timestamp: str


_decode = msgspec.json.Decoder(_Own).decode

PING_SECONDS: Final = 2.0

READY_SECONDS: Final = 1.0
"""How long an engine may take that is said to be ready: balancers ask every few seconds."""


async def system(call: Call) -> Reply:
    """Answer how this coordinator is; also where the engine is away.

    Of namespaces only those that the caller may use: the names of others are not for all.
    """
    from callboard.version import __version__

    coordinator = call.coordinator
    together = await coordinator.together()
    requests = together.requests
    told = [_decode(state) for state in together.states] or [_own(coordinator)]
    engine = await _engine(coordinator)  # first: it takes the longest, and the time is of after it
    found = System(
        version=__version__,
        node=os.uname().nodename,
        pid=os.getpid(),
        started_at=datetime.fromtimestamp(coordinator.started_at, UTC),
        uptime_seconds=round(time.time() - coordinator.started_at, 3),
        time=datetime.now(UTC),
        is_stopping=coordinator.is_stopping.is_set(),
        engine=engine,
        namespaces=[
            one
            for one in _merged(state for process in told for state in process.namespaces)
            if call.caller is not None and call.caller.may_use(one.name)
        ],
        requests=RequestState(
            in_flight=requests.in_flight,
            total=requests.total,
            failures=requests.failures,
            p50_ms=round(requests.quantile(0.5) * 1e3, 3),
            p95_ms=round(requests.quantile(0.95) * 1e3, 3),
            p99_ms=round(requests.quantile(0.99) * 1e3, 3),
        ),
        processes=[
            ProcessState(
                pid=one.pid,
                started_at=one.started_at,
                is_stopping=one.is_stopping,
                in_flight=one.in_flight,
            )
            for one in told
        ],
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


def describe(coordinator: Coordinator) -> bytes:
    """What a process tells the others on its port of itself."""
    return _encode(_own(coordinator))


def _own(coordinator: Coordinator) -> _Own:
    return _Own(
        pid=os.getpid(),
        started_at=datetime.fromtimestamp(coordinator.started_at, UTC),
        is_stopping=coordinator.is_stopping.is_set(),
        in_flight=coordinator.requests.in_flight,
        namespaces=[_namespace(one) for one in coordinator.open_now()],
    )


def _merged(states: Iterable[NamespaceState]) -> list[NamespaceState]:
    """Each namespace once, in the order of their first."""
    found: dict[str, NamespaceState] = {}
    for state in states:
        before = found.get(state.name)
        found[state.name] = state if before is None else _both(before, state)
    return list(found.values())


def _both(one: NamespaceState, other: NamespaceState) -> NamespaceState:
    loops = [state.dispatcher for state in (one, other) if state.dispatcher is not None]
    return NamespaceState(
        name=one.name,
        is_connected=one.is_connected and other.is_connected,
        listeners=one.listeners + other.listeners,
        swept_at=max(filter(None, (one.swept_at, other.swept_at)), default=None),
        dispatcher=loops[0] + loops[1] if len(loops) == 2 else next(iter(loops), None),
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
    """Answer 200 where the engine answers, and this coordinator is not about to stop.

    Anybody may ask; of where the engine is and what it said only those are told who show a key.
    """
    if call.coordinator.is_stopping.is_set():
        return errors.refused(503, "This coordinator is stopping.", "stopping", after=1)
    try:
        cb = await call.coordinator.board(call.coordinator.settings.namespace)
        await cb.namespace.connection.call("PING", timeout=READY_SECONDS)
    except EngineError:
        if call.caller is not None and call.caller.key_id is not None:
            raise
        return errors.engine_away()
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


_route = partial(Route, verb="GET", tag="system")


def routes() -> list[Route]:
    """Health, readiness, the document and its page."""
    return [
        _route(
            path="/ready",
            handle=ready,
            role=None,
            summary="Say whether requests can be served just now.",
            answers={200: Ready, 503: NotReady},
        ),
        _route(
            path="/system",
            handle=system,
            role="read",
            summary="Tell how this coordinator is: its engine, loops, requests.",
            answers={200: SystemBody},
        ),
        _route(
            path="/openapi.json",
            handle=document,
            role=None,
            summary="This interface as an OpenAPI 3.1 document.",
            answers={200: dict},
        ),
        _route(
            path="/docs",
            handle=docs,
            role=None,
            summary="This interface as a page.",
            answers={200: None},
            content_type=pages.HTML,
        ),
        _route(
            path="/docs.css",
            handle=style,
            role=None,
            summary="The style of that page.",
            answers={200: None},
            content_type=pages.CSS,
        ),
    ]
