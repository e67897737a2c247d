"""Health and metrics over the documented routes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from time import perf_counter

import pytest

import callboard
from callboard.http.documented import machine
from callboard.http.observing import Observed
from tests.http.support import Served, serving
from tests.http.test_documented_agents import HERMES, MOMENT

SAMPLE = re.compile(
    r'[a-zA-Z_:][\w:]*(\{\w+="(?:[^"\\\n]|\\.)*"(,\w+="(?:[^"\\\n]|\\.)*")*\})? '
    r"-?(\d+(\.\d+)?([eE][+-]?\d+)?|[+-]?Inf|NaN)"
)


async def test_health_is_answered_as_documented(served: Served) -> None:
    response = await served.call("GET", "/health")

    assert response.status_code == 200
    answer = response.json()
    assert MOMENT.fullmatch(answer.pop("timestamp"))
    assert answer == {
        "status": "healthy",
        "service": "agent-coordinator",
        "version": callboard.__version__,
    }


async def test_the_root_says_what_this_is(served: Served) -> None:
    answer = await served.ok("GET", "/")

    assert list(answer) == ["service", "description", "version", "endpoints"]
    assert "/agents/register" in answer["endpoints"]
    for path in answer["endpoints"]:
        assert (await served.call("GET", path)).status_code in (200, 405, 404), path


async def test_metrics_are_plain_text_that_prometheus_can_read(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace) as served:
        await served.ok("POST", "/agents/register", HERMES)
        await served.ok("POST", "/tasks/submit", {"task_data": {"n": 1}})
        await served.ok("GET", "/agents/hermes-agent")

        response = await served.call("GET", "/metrics")

    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    lines = response.text.splitlines()
    assert [line for line in lines if not line.startswith("#") and not SAMPLE.fullmatch(line)] == []
    assert 'callboard_tasks{board="default",status="pending"} 1' in lines
    assert "callboard_engine_up 1" in lines
    assert len({line.split(" ")[2] for line in lines if line.startswith("# TYPE")}) == len(
        [line for line in lines if line.startswith("# TYPE")]
    )


async def test_the_summary_tells_of_this_process_and_of_what_it_coordinates(
    served: Served,
) -> None:
    await served.ok("POST", "/agents/register", HERMES)
    await served.ok("POST", "/tasks/submit", {"task_data": {}})

    answer = await served.ok("GET", "/metrics/summary")

    assert list(answer) == ["status", "performance", "system", "timestamp"]
    assert list(answer["performance"]) == [
        "avg_response_time",
        "p95_response_time",
        "p99_response_time",
        "error_rate",
        "total_requests",
        "total_errors",
        "uptime_seconds",
    ]
    system = answer["system"]
    assert (system["total_agents"], system["active_agents"], system["total_tasks"]) == (1, 1, 1)
    assert system["load_balancer_strategy"]


async def test_requests_are_counted_by_route_and_never_by_what_they_name(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace) as served:
        coordinator = served.coordinator

        async with serving(
            valkey_url,
            lambda app: Observed(app, app.coordinator.requests),
            namespace=namespace,
        ) as observed:
            coordinator = observed.coordinator
            await observed.ok("POST", "/agents/register", HERMES)
            for n in range(20):
                await observed.call("GET", f"/agents/nobody-{n}")
            text = (await observed.call("GET", "/metrics")).text
            summary = (await observed.ok("GET", "/metrics/summary"))["performance"]

    assert coordinator.requests.total >= 22
    assert 'route="/agents/{agent_id}",status="4xx"} 20' in text
    assert "nobody-" not in text
    assert summary["total_requests"] >= 22
    assert summary["avg_response_time"] > 0


async def test_the_machines_health_is_told_at_once(served: Served) -> None:
    begin = perf_counter()
    for _ in range(20):
        health = (await served.ok("GET", "/metrics/health"))["health"]
    seconds = perf_counter() - begin

    assert list(health) == ["memory", "cpu", "uptime", "timestamp"]
    assert list(health["memory"]) == ["total", "available", "used", "percentage"]
    assert health["memory"]["used"] + health["memory"]["available"] == health["memory"]["total"]
    assert list(health["cpu"]) == ["percentage", "count"]
    assert 0 <= health["cpu"]["percentage"] <= 100
    assert seconds < 20, "each of these took a second where it was measured by waiting"


def test_the_share_of_the_processor_is_of_some_time_and_not_of_an_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "stat"
    monkeypatch.setattr(machine, "_PROCESSOR", told)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    asked = machine.Machine()
    shares = []
    for user, idle in ((300, 700), (301, 700), (350, 750), (350, 1_750)):
        told.write_text(f"cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")
        shares.append(asked.processor().percentage)

    assert shares == [30.0, 30.0, 50.0, 0.0]


def test_a_machine_that_does_not_say_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "nothing")
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "nothing")
    asked = machine.Machine()

    assert asked.processor().percentage is None
    assert (asked.memory().available, asked.memory().percentage) == (None, None)
