"""Runs of many tasks, of long ones, and what planning again costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest

import callboard
from callboard import testing
from callboard.domain.run import Phase
from callboard.teams.agents import Invocation
from tests.teams.support import Held, Planner, Team, Worker, document, soon, statuses, told, work_of
from tests.waiting import until

LEASE = 0.3


def many(count: int) -> list[dict[str, Any]]:
    return [{"id": f"t{n}", "title": str(n)} for n in range(count)]


class Together:
    """How many tasks of the whole team are in somebody's hands at once, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def __call__(self, invocation: Invocation) -> str:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return "done"


@pytest.mark.parametrize(
    ("count", "at_once", "each"),
    [
        (200, 3, 2),
        (200, 1, 4),
        (200, 9, 2),
        pytest.param(5_000, 8, 8, marks=pytest.mark.xdist_group("heavy")),
    ],
)
async def test_a_large_plan_is_done_by_both_workers_within_the_limits(
    cb: callboard.Callboard, count: int, at_once: int, each: int
) -> None:
    """One worker takes all at once, connections run out, and half of it stays claimed."""
    together = Together()
    agents = {name: {"max_concurrent": each} for name in ("w1", "w2")}
    team = Team(
        cb,
        document(
            agents=agents,
            max_concurrent=at_once,
            max_tasks=count + 1,
            global_max_turns=count + 10,
            replan="idle",
        ),
        planner=Planner(many(count), {"tasks": [], "done": True}),
        w1=Worker(together),
        w2=Worker(together),
    )

    run = await team.run()

    assert (run.phase, run.counts["done"]) == (Phase.DONE, count)
    assert team.done == {f"t{n}": 1 for n in range(count)}
    assert 1 <= together.most <= at_once
    for worker in team.workers:
        assert worker.most_at_once <= each
    # With room for one task at a time, whoever ends one may be given the next again and again.
    assert at_once == 1 or min(len(worker.asked) for worker in team.workers) > count // 20
    assert len(await cb.runs.result(run.id)) == count


async def test_a_layered_plan_is_done_layer_by_layer(cb: callboard.Callboard) -> None:
    layers, width = 10, 30
    plan = [
        {
            "id": f"l{layer}-{n}",
            "title": f"{layer}.{n}",
            "depends_on": [f"l{layer - 1}-{m}" for m in range(width)] if layer else [],
        }
        for layer in range(layers)
        for n in range(width)
    ]
    order: list[int] = []

    async def do(invocation: Invocation) -> str:
        order.append(int(work_of(invocation).task.title.partition(".")[0]))
        assert len(work_of(invocation).results) == (width if order[-1] else 0)
        return "done"

    agents = {name: {"max_concurrent": 8} for name in ("w1", "w2")}
    team = Team(
        cb,
        document(agents=agents, replan="never"),
        planner=Planner(plan),
        w1=Worker(do),
        w2=Worker(do),
    )

    run = await team.run()

    assert (run.phase, run.counts["done"]) == (Phase.DONE, layers * width)
    assert order == sorted(order)


class Meter:
    """Counts the calls of one connection on the engine, and the bytes of both ways."""

    def __init__(self, cb: callboard.Callboard) -> None:
        self.names: Counter[str] = Counter()
        self.bytes = 0
        self._call = cb.namespace.connection.call
        cb.namespace.connection.call = self._counted  # type: ignore[method-assign]

    def reset(self) -> None:
        self.names.clear()
        self.bytes = 0

    def _counted(self, *command: Any, timeout: float | None = None) -> Any:
        name = command[1].decode().split("_", 2)[2] if command[0] == b"FCALL" else str(command[0])
        sent = sum(_size(part) for part in command)
        future = self._call(*command, timeout=timeout)
        future.add_done_callback(partial(self._answered, name, sent))
        return future

    def _answered(self, name: str, sent: int, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        size = sent + _size(future.result())
        if name in LOOKS and size < LOOK_BYTES_MAX:
            return  # whether there is news: as often as the machine has time for
        self.names[name] += 1
        self.bytes += size


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_size(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return sum(_size(part) for part in value)
    return len(value) if isinstance(value, bytes | str) else len(str(value))


LOOKS = {"HMGET", "XRANGE"}
LOOK_BYTES_MAX = 400


async def rounds_after(cb: callboard.Callboard, count: int) -> tuple[Counter[str], int]:
    """The calls and bytes of two rounds of planning, with so many tasks finished before."""
    meter = Meter(cb)
    seen: list[tuple[Counter[str], int]] = []

    class Measured(Planner):
        async def run(self, invocation: Invocation) -> Any:
            if len(self.asked) == 2:
                meter.reset()
            if len(self.asked) == 4:
                seen.append((Counter(meter.names), meter.bytes))
            return await super().run(invocation)

    team = Team(
        cb,
        document("w", agents={"w": {"max_concurrent": 50}}, replan="idle", max_tasks=2_000),
        planner=Measured(
            many(count), *([{"id": f"more-{n}", "title": f"More {n}"}] for n in range(4)), []
        ),
    )
    run = await team.run()
    assert run.counts["done"] == count + 4
    return seen[0]


async def test_planning_again_does_not_read_the_board_again(
    cb: callboard.Callboard, engine_url: str, namespace: str
) -> None:
    """Each turn of the planner reads the whole board, once for every word that it says."""
    few_calls, few_bytes = await rounds_after(cb, 100)
    async with callboard.connect(engine_url, namespace=f"{namespace}-2") as second:
        many_calls, many_bytes = await rounds_after(second, 1_000)

    assert few_calls["task_list"] == many_calls["task_list"] == 0
    beats = {"agent_heartbeat", "namespace_tick", "namespace_due", "board_sweep", "agent_sweep"}
    beats.add("task_cascade")
    few, more = (
        sum(calls.values()) - sum(calls[beat] for beat in beats)
        for calls in (few_calls, many_calls)
    )
    assert abs(more - few) <= 10, (few_calls, many_calls)
    assert 20 < few < 120, few_calls
    assert many_bytes < few_bytes + 3_000
    assert few_bytes < 40_000


# Longer than leases and lifetimes


async def test_a_task_that_is_longer_than_every_lease_runs_once(cb: callboard.Callboard) -> None:
    """A slow worker is taken for a dead one, or the run for one that nobody owns."""
    held = Held()
    plan = [{"id": "a", "title": "A"}, {"id": "b", "title": "B", "depends_on": ["a"]}]
    team = Team(cb, document("w"), planner=Planner(plan, []), w=Worker(held))
    held.release("b")
    run = await team.start()
    started_at = (await cb.boards.get("runs")).at

    async with team.hosted(run, lease=LEASE):
        await held.until_begun("a")

        async def ten_leases_are_over() -> bool:
            now = (await cb.boards.get(run.id)).at
            return (now - started_at).total_seconds() > 10 * LEASE

        await until(ten_leases_are_over, "the task is longer than ten leases")
        assert (await cb.runs.get(run.id)).phase is Phase.EXECUTION
        held.release("a")
        ended = await soon(cb.runs.wait(run.id))

    assert ended.phase is Phase.DONE
    assert team.done == {"a": 1, "b": 1}
    assert len(team.writer.asked) == 1
    types = Counter(event.type for event in await told(cb, run))
    assert (types["task_lost"], types["run_resumed"], types["done"]) == (0, 0, 1)


async def test_a_run_that_is_longer_than_a_day_is_led_read_and_cancelled_as_before(
    engine_url: str,
) -> None:
    """After ten minutes the owner may not read it any more; after a day its state is gone."""
    async with testing.board(url=engine_url) as moved:
        cb = moved.cb
        held = Held()
        plan: list[dict[str, Any]] = [{"id": "a", "title": "A"}, {"id": "b", "title": "B"}]
        plan.append({"id": "c", "title": "C", "depends_on": ["a"]})
        agents = {"w": {"max_concurrent": 2}}
        team = Team(
            cb,
            document("w", agents=agents, global_timeout_seconds=10 * 86_400),
            planner=Planner(plan, []),
            w=Worker(held),
        )
        run = await team.start()

        async with team.hosted(run):
            await held.until_begun("a")
            await held.until_begun("b")
            for seconds in (60, 600, 3_600, 86_400, 3 * 86_400):
                await moved.pass_time(seconds)
                assert (await cb.runs.get(run.id)).phase in (Phase.EXECUTION, Phase.REPLANNING)
                assert (await told(cb, run))[0].type == "team_start"
            held.release("a")
            await held.until_begun("c")
            cancelled = await cb.runs.cancel(run.id, reason="after four days")
            await held.until_cancelled("b")

        assert cancelled.phase is Phase.CANCELLED
        assert await statuses(cb, run) == {"a": "done", "b": "cancelled", "c": "cancelled"}
        assert team.done == {"a": 1, "b": 1, "c": 1}


async def test_a_run_that_is_longer_than_a_day_ends_with_its_answer(engine_url: str) -> None:
    async with testing.board(url=engine_url) as moved:
        cb = moved.cb
        held = Held()
        plan = [{"id": "a", "title": "A"}, {"id": "b", "title": "B", "depends_on": ["a"]}]
        team = Team(
            cb,
            document("w", global_timeout_seconds=10 * 86_400),
            planner=Planner(plan, []),
            w=Worker(held),
        )
        run = await team.start()

        async with team.hosted(run):
            await held.until_begun("a")
            await moved.pass_time(86_400)
            held.release("a")
            await held.until_begun("b")
            await moved.pass_time(86_400)
            held.release("b")
            ended = await soon(cb.runs.wait(run.id))

        assert ended.phase is Phase.DONE
        assert await cb.runs.result(run.id) == {"a": "done", "b": "done"}
        assert team.done == {"a": 1, "b": 1}


@pytest.mark.parametrize(("started", "crashes"), [(0, 0), (1, 1)], ids=["claimed", "begun"])
async def test_what_a_lost_worker_held_is_done_by_another(
    cb: callboard.Callboard, started: int, crashes: int
) -> None:
    """A task that was claimed and not begun when its holder died is never looked at again."""
    held = Held()
    plan = [{"id": "a", "title": "A"}, {"id": "b", "title": "B"}]
    team = Team(cb, document("w"), planner=Planner(plan, []), w=Worker(held))
    held.release("b")
    run = await team.start()
    tasks = cb.board(run.id).tasks
    await cb.agents.register("dead", kinds=("work",))

    async with team.hosted(run):
        await held.until_begun("a")
        claims = await tasks.claim("dead", instance="dead", started=started, lease=LEASE)
        held.release("a")
        ended = await soon(cb.runs.wait(run.id))

    assert [claim.id for claim in claims.tasks] == ["b"]
    assert ended.phase is Phase.DONE
    assert team.done == {"a": 1, "b": 1}
    assert await cb.runs.result(run.id) == {"a": "done", "b": "done"}
    assert (await tasks.get("b")).crashes == crashes
