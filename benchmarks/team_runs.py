"""W7: a team's run of no-op tasks, beside the bare board with the same tasks.

The graph has ten layers of a hundred tasks; each needs two of the layer before. In both
cases eight agents in one process do the tasks, one at a time each. What a run costs more is
the request that is built for each task, the journal, the leader, planning and synthesis.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import callboard
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.report import spread, table
from benchmarks.results import Metric, Results, Summary
from callboard import TaskSpec, Worker
from callboard.domain.run import Run
from callboard.teams.agents import Agent, Invocation
from callboard.teams.host import Host
from callboard.teams.requests import PlanRequest

OURS = "callboard"
WORKERS = 8
LAYERS = 10
NO_OPS = 1_000
FINISHED = (100, 1_000, 5_000)
"""Tasks that have ended before a round of planning that hears of ten more."""

#: A run, the same tasks without one, and rounds of planning.
TEAM_FIGURES = ("a run, s", "the bare board, s", "the run costs more, µs/task")
ROUND_FIGURES = {
    "calls": "calls of functions",
    "sent": "bytes sent",
    "received": "bytes received",
}

RUN = Metric("team/run/s", "a run, from start to answer, s", None, 3)
BARE = Metric("team/bare/s", "the same tasks on a bare board, s", None, 3)
OVER = Metric("team/over/us", "the run costs more, µs/task", None, 0)


@dataclass(frozen=True)
class Round:
    """One row of the second table."""

    finished: int

    def metric(self, what: str) -> Metric:
        """The figure *what* of a round of planning."""
        return Metric(f"team/round/{self.finished}/{what}", what, None, 0)


ROUNDS = tuple(Round(finished) for finished in FINISHED)


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures to *results*."""
    count = NO_OPS // 10 if quick else NO_OPS
    for _ in range(runs):
        with running_engine(options) as engine:
            bare = asyncio.run(_bare(engine.url, count))
        with running_engine(options) as engine:
            run = asyncio.run(_run(engine.url, count))
        results.add(BARE, OURS, bare)
        results.add(RUN, OURS, run)
        results.add(OVER, OURS, (run - bare) / count * 1e6)
    for case in ROUNDS[: 1 if quick else None]:
        with running_engine(options) as engine:
            calls, sent, received = asyncio.run(_planning_round(engine.url, case.finished))
        results.add(case.metric("calls"), OURS, calls)
        results.add(case.metric("sent"), OURS, sent)
        results.add(case.metric("received"), OURS, received)


def render(results: Results) -> str:
    """The tables: a run beside the bare board, and rounds of planning."""
    keys = {"team/run/s": 3, "team/bare/s": 3, "team/over/us": 0}
    if "team/run/s" not in results.values:
        return ""
    head = ["", *TEAM_FIGURES]
    row = [spread(results.summary(key, OURS), digits) for key, digits in keys.items()]
    rounds: dict[int, dict[str, Summary | None]] = {}
    for key in results.values:
        if key.startswith("team/round/"):
            _, _, finished, what = key.split("/")
            rounds.setdefault(int(finished), {})[what] = results.summary(key, OURS)
    body = [
        [f"{finished:,}"] + [spread(found.get(what), 0) for what in ROUND_FIGURES]
        for finished, found in rounds.items()
    ]
    return (
        "## W7: A team's run of no-op tasks in 10 layers, 8 workers\n\n"
        + table(head, [["callboard", *row]])
        + "\n\nFrom one round of planning to the next, with ten tasks in between:\n\n"
        + table(["tasks that had ended before", *ROUND_FIGURES.values()], body)
    )


def _graph(count: int) -> Iterator[tuple[str, list[str]]]:
    width = max(1, count // LAYERS)
    for n in range(count):
        below = n - width
        yield (
            f"n{n}",
            [f"n{below}", f"n{below // width * width + (below + 1) % width}"]
            if (below >= 0)
            else [],
        )


async def _bare(url: str, count: int) -> float:
    async with callboard.connect(url) as cb:
        workers = [_no_op_worker(cb, n) for n in range(WORKERS)]
        running = [asyncio.create_task(worker.run(handle_signals=False)) for worker in workers]
        started = time.monotonic()
        specs = [
            TaskSpec(kind="work", id=task_id, title=task_id, depends_on=needs)
            for task_id, needs in _graph(count)
        ]
        handles = await cb.board("bare").tasks.submit_many(specs)
        await asyncio.gather(*(handle.result() for handle in handles))
        seconds = time.monotonic() - started
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
    return seconds


def _no_op_worker(cb: callboard.Callboard, n: int) -> Worker:
    worker = Worker(cb, agent=f"w{n}", concurrency=1, board="bare")

    @worker.handles("work")
    async def no_op(payload: Any) -> str:
        return "ok"

    return worker


class _Planner:
    """Plans the graph in one round; or, asked again, adds what it was given to add."""

    def __init__(self, count: int, later: list[list[str]] | None = None) -> None:
        self._count = count
        self._later = later or []

    async def run(self, invocation: Invocation) -> Any:
        request = invocation.request
        assert isinstance(request, PlanRequest)
        if request.round == 1:
            tasks: list[Any] = [
                {"id": task_id, "title": task_id, "depends_on": needs}
                for task_id, needs in _graph(self._count)
            ]
            return {"tasks": tasks, "done": not self._later}
        return {"tasks": self._later.pop(0) if self._later else [], "done": not self._later}


class _NoOp:
    async def run(self, invocation: Invocation) -> Any:
        return "ok"


def _document(**limits: Any) -> dict[str, Any]:
    workers = [f"w{n}" for n in range(WORKERS)]
    return {
        "team": {"planner": "p", "synthesizer": "s", "workers": workers, **limits},
        "agents": {name: {"callable": "bench:none"} for name in ["p", "s", *workers]},
    }


def _agents(planner: Agent) -> dict[str, Agent]:
    return {"p": planner, "s": _NoOp(), **{f"w{n}": _NoOp() for n in range(WORKERS)}}


async def _run(url: str, count: int) -> float:
    async with callboard.connect(url) as cb:
        await cb.teams.add("bench", _document(max_tasks=count))
        started = time.monotonic()
        run = await cb.runs.start("bench", "do nothing, often")
        host = asyncio.create_task(Host(cb, run, agents=_agents(_Planner(count))).serve())
        await cb.runs.result(run.id)
        seconds = time.monotonic() - started
        await host
    return seconds


async def _planning_round(url: str, finished: int) -> tuple[float, float, float]:
    """Calls and bytes of what happens between the end of ten tasks and the next plan's end."""
    async with callboard.connect(url) as cb:
        limits = {
            "max_tasks": finished + 100,
            "max_rounds": 5,
            "global_max_turns": finished + 1_000,
            "replan": "idle",
        }
        await cb.teams.add("bench", _document(**limits))
        later = [[f"more {n}" for n in range(10)], [f"again {n}" for n in range(10)], ["the last"]]
        planner = _Planner(finished, later)
        run = await cb.runs.start("bench", "do nothing, often")
        counted = Counter[str]()
        host = Host(cb, run, agents={**_agents(planner), "p": _Counted(cb, planner, counted)})
        await host.serve()
        await _must_be_done(cb, run)
    return counted["calls"], counted["sent"], counted["received"]


async def _must_be_done(cb: callboard.Callboard, run: Run) -> None:
    ended = await cb.runs.get(run.id)
    assert ended.phase == "done", ended.reason


class _Counted:
    """Counts what is said to the engine from one round of planning to the next.

    The fourth hears of ten tasks, however many ended before the second.
    """

    def __init__(self, cb: callboard.Callboard, planner: Agent, counted: Counter[str]) -> None:
        self._cb = cb
        self._planner = planner
        self._counted = counted
        self._before: dict[str, int] = {}

    async def run(self, invocation: Invocation) -> Any:
        request = invocation.request
        assert isinstance(request, PlanRequest)
        if request.round == 4:
            self._counted.update(_traffic(self._before, await self._traffic()))
        answer = await self._planner.run(invocation)
        if request.round == 3:
            self._before = await self._traffic()
        return answer

    async def _traffic(self) -> dict[str, int]:
        raw = await self._cb.namespace.connection.call("INFO", "stats", "commandstats")
        lines = raw.decode().splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        functions = facts["cmdstat_fcall"].partition("calls=")[2].partition(",")[0]
        return {
            "calls": int(functions),
            "sent": int(facts["total_net_input_bytes"]),
            "received": int(facts["total_net_output_bytes"]),
        }


def _traffic(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after}
