"""Metrics over the documented routes: for Prometheus, as a summary, of the machine."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from callboard.exceptions import BoardNotFound, EngineError
from callboard.http import errors
from callboard.http.documented.machine import Machine, Memory, Processor
from callboard.http.documented.shapes import Done, answer, documented
from callboard.http.route import Call, Reply, Route

TEXT: Final = "text/plain; charset=utf-8"
"""As documented; Prometheus takes what names no version as its text format."""

_machine = Machine()


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """How requests were answered since the start; times in seconds, as precise as the buckets."""

    avg_response_time: float
    p95_response_time: float
    p99_response_time: float
    error_rate: float
    total_requests: int
    total_errors: int
    uptime_seconds: float


class Coordinated(msgspec.Struct, frozen=True, kw_only=True):
    """What the coordinators of this namespace have, all together."""

    total_agents: int
    active_agents: int
    total_tasks: int
    load_balancer_strategy: str


class Summary(Done, frozen=True, kw_only=True):
    """This coordinator, and what it coordinates."""

    performance: Performance
    system: Coordinated
    timestamp: str


class Vital(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that this process runs on.

    Attributes:
        uptime: Of this process, in seconds.
    """

    memory: Memory
    cpu: Processor
    uptime: float
    timestamp: str


class MachineHealth(Done, frozen=True, kw_only=True):
    """The machine that this process runs on."""

    health: Vital


async def metrics(call: Call) -> Reply:
    """All metrics as Prometheus scrapes them: of the namespace, and of the requests here."""
    own = (await call.coordinator.together()).requests.exposition()
    try:
        text = await (await call.board()).metrics.prometheus()
        is_up = 1
    except EngineError:
        text, is_up = "", 0
    up = (
        "# HELP callboard_engine_up Whether the engine answered this scrape.\n"
        f"# TYPE callboard_engine_up gauge\ncallboard_engine_up {is_up}\n"
    )
    return Reply((text + up + own).encode(), content_type=TEXT)


async def summary(call: Call) -> Reply:
    """How this coordinator answers, and what it coordinates."""
    cb = await call.board()
    counts = await cb.agents.counts()
    board = await cb.scheduler.distribution(cb.tasks.board)
    requests = (await call.coordinator.together()).requests
    seconds = sum(series.seconds for series in requests.series.values())
    return answer(
        Summary(
            performance=Performance(
                avg_response_time=seconds / requests.total if requests.total else 0.0,
                p95_response_time=requests.quantile(0.95),
                p99_response_time=requests.quantile(0.99),
                error_rate=requests.failures / requests.total if requests.total else 0.0,
                total_requests=requests.total,
                total_errors=requests.failures,
                uptime_seconds=_uptime(call),
            ),
            system=Coordinated(
                total_agents=counts.total,
                active_agents=counts.active,
                total_tasks=await _tasks(call),
                load_balancer_strategy=board.load.strategy,
            ),
            timestamp=errors.now(),
        )
    )


async def machine(call: Call) -> Reply:
    """Memory and processor of the machine, read without waiting."""
    return answer(
        MachineHealth(
            health=Vital(
                memory=_machine.memory(),
                cpu=_machine.processor(),
                uptime=_uptime(call),
                timestamp=errors.now(),
            )
        )
    )


async def _tasks(call: Call) -> int:
    """The tasks of the default board, finished ones that are kept among them."""
    cb = await call.board()
    try:
        return (await cb.boards.get(cb.tasks.board)).counts.total
    except BoardNotFound:
        return 0  # It comes into being with its first task.


def _uptime(call: Call) -> float:
    return round(time.time() - call.coordinator.started_at, 3)


def routes() -> list[Route]:
    """The documented routes of metrics."""
    tag = "metrics"
    return [
        documented(
            *("GET", "/metrics", metrics, None),
            role="read",
            summary="All metrics as Prometheus scrapes them.",
            tag=tag,
            content_type=TEXT,
        ),
        documented(
            *("GET", "/metrics/summary", summary, Summary),
            role="read",
            summary="How this coordinator answers, and what it coordinates.",
            tag=tag,
        ),
        documented(
            *("GET", "/metrics/health", machine, MachineHealth),
            role="read",
            summary="Memory and processor of the machine.",
            tag=tag,
        ),
    ]
