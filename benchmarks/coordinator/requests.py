"""W16: requests a second that one coordinator process serves, under ``wrk``.

Every request goes to the engine; its log is written as the embedded engine's is. The service
has a core of its own, engine and load share the rest. With the requests stands the CPU time
that the service itself spent on each.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.coordinator.service import CORE, Service, serving
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.report import figure, rows
from benchmarks.results import Results

KEY = "W16"
SCRIPTS = Path(__file__).with_name("wrk")
CONNECTIONS = 64
_UNIT = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Load:
    """One row: a script of ``wrk`` on a path, and how many things a request is."""

    name: str
    script: str
    path: str
    arguments: tuple[str, ...] = ()
    items: int = 1
    agents: int = 0


LOADS = (
    Load("submit", "submit.lua", "/tasks/submit"),
    Load("submit, 100 a request", "batch.lua", "/tasks/batch", items=100),
    Load("register", "register.lua", "/agents/register"),
    Load("heartbeat", "heartbeat.lua", "/agents", agents=1_000),
    Load("discover 10 of 100", "discover.lua", "/agents/discover", ("10",), agents=100),
    Load("discover 10 of 5,000", "discover.lua", "/agents/discover", ("10",), agents=5_000),
    Load("discover 100 of 5,000", "discover.lua", "/agents/discover", ("100",), agents=5_000),
)


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of every load."""
    if shutil.which("wrk") is None:
        results.note("W16 was skipped: wrk is missing. On Debian: apt-get install wrk.")
        return
    seconds = 2 if quick else 8
    for _ in range(runs):
        for load in LOADS:
            with running_engine(options) as engine, serving(engine.url, "--no-dispatch") as service:
                register(service, load.agents)
                _run(service, load, 1)
                before, cpu = engine.cpu().total, service.cpu_seconds()
                rate, count, p50, p99 = _run(service, load, seconds)
                cpu = (service.cpu_seconds() - cpu) / count * 1e6
                engine_cpu = (engine.cpu().total - before) / count * 1e6
            figure(results, KEY, load.name, "requests/s", rate, 0)
            figure(results, KEY, load.name, "things/s", rate * load.items, 0)
            figure(results, KEY, load.name, "p50 ms", p50)
            figure(results, KEY, load.name, "p99 ms", p99)
            figure(results, KEY, load.name, "service CPU, µs/request", cpu, 0)
            figure(results, KEY, load.name, "engine CPU, µs/request", engine_cpu, 0)


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, f"One coordinator, {CONNECTIONS} connections", "request")


def register(service: Service, count: int) -> None:
    """Enter so many agents, by the documented call."""
    for n in range(count):
        service.post(
            "/agents/register",
            {"agent_id": f"agent-{n}", "agent_type": "worker", "capabilities": ["analysis"]},
        )


def _run(service: Service, load: Load, seconds: int) -> tuple[float, int, float, float]:
    """Requests a second, how many, and the percentiles in milliseconds."""
    command = [
        *("wrk", "--latency", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"),
        *("-s", str(SCRIPTS / load.script), service.url + load.path),
        *("--", *load.arguments),
    ]
    if shutil.which("taskset") and (os.cpu_count() or 1) > CORE:
        command = ["taskset", "-c", "0", *command]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if refused:
        raise RuntimeError(f"{load.name}: {refused[1]} requests were refused.\n{text}")
    count = int(_found(r"(\d+) requests in", text))
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", text))
    return rate, count, _percentile("50%", text), _percentile("99%", text)


def _percentile(name: str, text: str) -> float:
    value, unit = re.search(rf"{name}\s+([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(value) * _UNIT[unit]


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk printed no {pattern}:\n{text}")
    return found[1]
