"""The five workloads, each run for one contender on an engine of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.drivers import (
    Contender,
    Driver,
    DriverError,
    running_client,
    running_workers,
    start_pipe,
)
from benchmarks.engine import Engine, EngineOptions, running_engine
from benchmarks.machine import ForeignLoad, process_seconds
from benchmarks.results import Metric, Results

DRAIN_SECONDS_MAX = 180.0
#: Before memory is measured, so that scripts, queue metadata and buffers are not charged to tasks.
MEMORY_WARM_UP = 100

ONE = Metric("submit_one", "submit one by one, tasks/s", True)
BULK = Metric("submit_bulk", "submit in batches of 1,000, tasks/s", True)
DRAIN = Metric("drain", "one worker, tasks/s", True)
DRAIN_TWO = Metric("drain_two_workers", "two workers, tasks/s", True)
WORKER_CPU = Metric("drain_worker_cpu_us", "worker CPU, µs/task", None)
ENGINE_CPU = Metric("drain_engine_cpu_us", "engine CPU, µs/task", None)
P50 = Metric("latency_p50_ms", "p50, ms", False, 2)
P99 = Metric("latency_p99_ms", "p99, ms", False, 2)
COLD = Metric("latency_cold_p50_ms", "p50 at a task each 100 ms, ms", False, 2)
BYTES = Metric("bytes_per_waiting_task", "engine bytes/task", False)
RSS = Metric("worker_peak_rss_mib", "worker peak RSS, MiB", False)
FAN = Metric("fan_in_s", "1 → 1,000 → 1, s", False, 3)


@dataclass(frozen=True)
class Sizes:
    """How much of each workload is run; ``quick`` is for trying the harness, not for figures."""

    submit_one: int = 5_000
    submit_bulk: int = 50_000
    drain: int = 20_000
    latency: int = 500
    latency_cold: int = 40
    fan: int = 1_000


QUICK = Sizes(submit_one=500, submit_bulk=5_000, drain=2_000, latency=50, latency_cold=5, fan=100)


@dataclass(frozen=True)
class Bench:
    """What every workload needs to know."""

    engine: EngineOptions
    sizes: Sizes
    results: Results


def submit(bench: Bench, contender: Contender) -> None:
    """W1: submit one by one, then in batches, with no worker running."""
    with running_engine(bench.engine) as engine, running_client(contender, engine.url) as client:
        _note_client(bench, contender, client)
        client.ask("submit", n=200)
        load = ForeignLoad([engine.pid, client.pid])
        count = bench.sizes.submit_one
        seconds = client.ask("submit", n=count)["seconds"]
        bench.results.add(ONE, contender.name, count / seconds)
        if client.ready["bulk"] is None:
            bench.results.note(f"W1: {contender.name} has no batch call.")
        else:
            count = bench.sizes.submit_bulk
            seconds = client.ask("submit_many", n=count)["seconds"]
            bench.results.add(BULK, contender.name, count / seconds)
        bench.results.foreign["W1"].append(load.cores())


def drain(bench: Bench, contender: Contender) -> None:
    """W2: tasks that wait already, done by one worker process, then again by two."""
    _drain(bench, contender, workers=1)
    _drain(bench, contender, workers=2)


def _drain(bench: Bench, contender: Contender, *, workers: int) -> None:
    count = bench.sizes.drain
    with running_engine(bench.engine) as engine:
        remaining, _ = _fill(bench, contender, engine, count)
        with running_workers(contender, engine.url, workers) as drivers:
            load = ForeignLoad([engine.pid, *(driver.pid for driver in drivers)])
            start_up = [process_seconds(driver.pid) for driver in drivers]
            engine_before = engine.cpu().total
            for driver in drivers:
                driver.tell("go")
            emptied = _wait_until_drained(engine, remaining, count)
            stats = _stats_once_all_ran(drivers, count, contender)
            engine_cpu = engine.cpu().total - engine_before
            cores = load.cores()
        ran = sum(stat["count"] for stat in stats)
        if ran > count:
            bench.results.note(f"W2: {contender.name} executed {ran:,} times for {count:,} tasks.")
        begin = min(stat["first"] for stat in stats if stat["count"])
        seconds = max(emptied, *(stat["last"] for stat in stats)) - begin
        bench.results.foreign["W2"].append(cores)
        if workers == 2:
            bench.results.add(DRAIN_TWO, contender.name, count / seconds)
            return
        bench.results.add(DRAIN, contender.name, count / seconds)
        worker_cpu = sum(stat["cpu"] for stat in stats) - sum(start_up)
        bench.results.add(WORKER_CPU, contender.name, worker_cpu / count * 1e6)
        bench.results.add(ENGINE_CPU, contender.name, engine_cpu / count * 1e6)
        bench.results.add(RSS, contender.name, stats[0]["rss_mib"])


def latency(bench: Bench, contender: Contender) -> None:
    """W3: from before the submit to the handler's first line, one task at a time."""
    with (
        running_engine(bench.engine) as engine,
        start_pipe() as (reader, writer),
        running_client(contender, engine.url, workload="latency", signal_fd=reader) as client,
        running_workers(contender, engine.url, 1, workload="latency", signal_fd=writer) as (
            worker,
        ),
    ):
        _note_client(bench, contender, client)
        worker.tell("go")
        load = ForeignLoad([engine.pid, client.pid, worker.pid])
        warm = client.ask("latency", n=bench.sizes.latency, gap=0.002)["samples"]
        cold = client.ask("latency", n=bench.sizes.latency_cold, gap=0.1)["samples"]
        bench.results.foreign["W3"].append(load.cores())
        bench.results.add(P50, contender.name, statistics.median(warm) * 1e3)
        bench.results.add(P99, contender.name, _percentile(warm, 0.99) * 1e3)
        bench.results.add(COLD, contender.name, statistics.median(cold) * 1e3)


def memory(bench: Bench, contender: Contender) -> None:
    """W4: what the engine's memory grows by for each waiting task."""
    with running_engine(bench.engine) as engine:
        _, bytes_per_task = _fill(bench, contender, engine, bench.sizes.drain)
        bench.results.add(BYTES, contender.name, bytes_per_task)


def fan_in(bench: Bench, contender: Contender) -> None:
    """W5: one task, a thousand after it, one after those: submit to the last one's start."""
    with (
        running_engine(bench.engine) as engine,
        start_pipe() as (reader, writer),
        running_client(contender, engine.url, workload="graph", signal_fd=reader) as client,
        running_workers(contender, engine.url, 1, workload="graph", signal_fd=writer) as (worker,),
    ):
        _note_client(bench, contender, client)
        worker.tell("go")
        client.ask("latency", n=5, gap=0.01)
        load = ForeignLoad([engine.pid, client.pid, worker.pid])
        seconds = client.ask("graph", width=bench.sizes.fan)["seconds"]
        bench.results.foreign["W5"].append(load.cores())
        bench.results.add(FAN, contender.name, seconds)


WORKLOADS: dict[str, Callable[[Bench, Contender], None]] = {
    "W1": submit,
    "W2": drain,
    "W3": latency,
    "W4": memory,
    "W5": fan_in,
}
TABLES: dict[str, tuple[str, tuple[Metric, ...]]] = {
    "W1": ("Submit, no worker running", (ONE, BULK)),
    "W2": (
        "Drain of waiting no-op tasks, 200 B payload",
        (DRAIN, DRAIN_TWO, WORKER_CPU, ENGINE_CPU, RSS),
    ),
    "W3": ("Submit to start, idle worker, next task 2 ms after the last start", (P50, P99, COLD)),
    "W4": ("Memory, 200 B payload", (BYTES,)),
    "W5": ("Fan-out and fan-in, submit to start of the last task", (FAN,)),
}


def _fill(
    bench: Bench, contender: Contender, engine: Engine, count: int
) -> tuple[dict[str, Any], float]:
    """Put *count* tasks on the board: how to see them drain, and bytes a task in the engine."""
    with running_client(contender, engine.url) as client:
        _note_client(bench, contender, client)
        client.ask("submit_many", n=MEMORY_WARM_UP)
        before = engine.used_memory()
        client.ask("submit_many", n=count - MEMORY_WARM_UP)
        grown = engine.used_memory() - before
        remaining: dict[str, Any] = client.ready["remaining"]
        return remaining, grown / (count - MEMORY_WARM_UP)


def _wait_until_drained(engine: Engine, remaining: dict[str, Any], count: int) -> float:
    """The moment at which the engine holds no unfinished task any more, within about a ms.

    Looks seldom while much is left and each millisecond towards the end, so that
    the looking costs the engine next to nothing.
    """
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    while time.monotonic() < deadline:
        seen = sum(int(engine.client.execute_command(*each)) for each in remaining["commands"])
        left = count - seen if remaining["mode"] == "finished" else seen
        now = time.monotonic()
        if left <= 0:
            return now
        time.sleep(0.02 if left > count // 10 else 0.001)
    raise DriverError(f"{left} of {count} tasks were still unfinished after {DRAIN_SECONDS_MAX} s.")


def _stats_once_all_ran(
    drivers: list[Driver], count: int, contender: Contender
) -> list[dict[str, Any]]:
    """The workers' own accounts, once their executions add up to *count*."""
    deadline = time.monotonic() + 10
    while True:
        stats = [driver.ask("stats") for driver in drivers]
        ran = sum(stat["count"] for stat in stats)
        if ran >= count:
            return stats
        if time.monotonic() > deadline:
            raise DriverError(f"{contender.name} lost tasks: {ran} of {count} ran.")
        time.sleep(0.01)


def _note_client(bench: Bench, contender: Contender, client: Driver) -> None:
    bench.results.versions[contender.name] = client.ready["versions"]
    if client.ready["bulk"] is not None:
        bench.results.note(f"W1: batches of {contender.name}: {client.ready['bulk']}.")


def _percentile(samples: list[float], fraction: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]
