"""Which sweeps the engine says are due: each in time, and none where there is nothing to do."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import callboard
from callboard.app import Callboard
from callboard.domain.metric import SAMPLE_SECONDS
from callboard.domain.run import Phase
from callboard.domain.task import TaskSpec
from callboard.engine.library import LUA
from callboard.exceptions import EngineError, EngineUnavailable
from callboard.janitor import Janitor
from callboard.runs import SWEPT_MAX

pytestmark = pytest.mark.every_engine

START_US = 1_800_000_000_000_000
DAY = 86_400.0


class World:
    """A namespace whose clock the test moves, and what calls a sweep of it makes."""

    cb: Callboard
    janitor: Janitor

    def __init__(self) -> None:
        self.now = START_US

    async def due(self) -> set[str]:
        """The sweeps that would find something now."""
        reply = await self.cb.namespace.functions.call("namespace_due")
        return set(reply[1].decode().split(",")) - {""}

    async def sweep(self) -> list[str]:
        """One round of a janitor, a second later; the functions that it called."""
        self.now += 1_000_000
        functions, called = self.cb.namespace.functions, []
        call = functions.call

        async def noting(name: str, *arguments: Any, **rest: Any) -> Any:
            called.append(name)
            return await call(name, *arguments, **rest)

        functions.call = noting  # type: ignore[method-assign]
        try:
            assert await self.janitor.sweep()
        finally:
            functions.call = call  # type: ignore[method-assign]
        return called

    async def advance(self, seconds: float) -> None:
        """Move the clock as a running sweep sees it move: without a gap."""
        self.now += round(seconds * 1e6)
        await self.cb.namespace.functions.call("namespace_tick", 1_000, 1)


@pytest.fixture
async def world(engine_url: str, namespace: str) -> AsyncIterator[World]:
    world = World()
    connecting = callboard.connect(engine_url, namespace=namespace, clock=lambda: world.now)
    async with connecting as world.cb:
        world.janitor = world.cb.janitor()
        yield world


async def registers(cb: Callboard) -> None:
    await cb.agents.register("mira", heartbeat_interval=10)


async def leaves_a_cascade(cb: Callboard) -> None:
    await cb.namespace.connection.call("RPUSH", cb.namespace.keys.prefix + "cascades", "b:t:0")


async def runs(cb: Callboard) -> None:
    team = {
        "planner": "plan",
        "synthesizer": "write",
        "workers": ["read"],
        "global_timeout_seconds": 60,
    }
    agents = {name: {"callable": f"handlers:{name}"} for name in ("plan", "read", "write")}
    await cb.teams.add("survey", {"team": team, "agents": agents})
    await cb.runs.start("survey", "look")


async def locks(cb: Callboard) -> None:
    await cb.locks.acquire("ledger", owner="mira", lease=30)


async def sends(cb: Callboard) -> None:
    await cb.messages.send("noor", {"n": 1}, ttl=60)


async def broadcasts(cb: Callboard) -> None:
    await cb.messages.broadcast({"n": 1})


async def limits(cb: Callboard) -> None:
    await cb.flow.limit("api", rate=1, per=60)
    await cb.agents.register("mira", heartbeat_interval=3_600)
    await cb.tasks.submit("greet", rate_key="api")
    await cb.tasks.claim("mira")


async def recurs(cb: Callboard) -> None:
    await cb.recurring.create("tick", "greet", every=3_600)


async def shares(cb: Callboard) -> None:
    await cb.context.set("p", {"x": 1}, ttl=60)


async def disagrees(cb: Callboard) -> None:
    await cb.conflicts.report("resource", "ledger", ["mira", "noor"])


async def calls(cb: Callboard) -> None:
    await cb.breakers.admit("api", policy="documented")


async def submits(cb: Callboard) -> None:
    await cb.tasks.submit("greet")


ARRANGE: dict[str, tuple[str, Callable[[Callboard], Awaitable[None]], float]] = {
    "agents": ("agents", registers, 31),
    "cascades": ("cascades", leaves_a_cascade, 0),
    "runs": ("runs", runs, 7 * DAY),
    "locks": ("locks", locks, 31),
    "messages": ("messages", sends, 61),
    "broadcasts": ("messages", broadcasts, 7 * DAY + 1),
    "flow": ("flow", limits, 0),
    "recurring": ("recurring", recurs, 3_601),
    "context": ("context", shares, 61),
    "conflicts": ("conflicts", disagrees, 30 * DAY + 1),
    "breakers": ("breakers", calls, 7 * DAY + 1),
    "metrics": ("metrics", submits, 0),
}


@pytest.mark.parametrize("what", ARRANGE)
async def test_a_sweep_is_due_when_its_time_has_come_and_not_before(
    world: World, what: str
) -> None:
    word, arrange, seconds = ARRANGE[what]
    before = await world.due()
    await arrange(world.cb)
    at_once = await world.due()
    await world.advance(seconds)
    in_time = await world.due()
    for _ in range(3):
        await world.sweep()
    after = await world.due()

    assert before == set()
    assert (word in at_once) == (seconds == 0)
    assert word in in_time
    assert (word in after) == (what == "flow"), "its rate has been quiet for too short a time"


def test_each_sweep_of_a_janitor_is_one_that_the_engine_names(world: World) -> None:
    named = {word for word, _, _ in ARRANGE.values()}

    assert set(world.cb.janitor()._sweeps) | {"agents", "cascades"} == named


def test_samples_are_due_as_often_as_is_said() -> None:
    text = (LUA / "include" / "metrics.lua").read_text()

    assert f"METRIC_SAMPLE_MS = {round(SAMPLE_SECONDS * 1_000)}\n" in text


async def test_where_nothing_is_due_a_round_is_one_call(world: World) -> None:
    await world.cb.agents.register("mira", heartbeat_interval=3_600)
    await world.cb.tasks.submit("greet", id="t")
    (task,) = (await world.cb.tasks.claim("mira")).tasks
    await world.cb.tasks.complete("t", fence=task.fence)
    first = await world.sweep()
    second = await world.sweep()

    assert {"board_sweep", "metric_tick"} <= set(first)
    assert second == ["namespace_tick"]


async def test_what_a_board_sweep_makes_due_is_done_in_the_same_round(world: World) -> None:
    cb = world.cb
    deadline = datetime.fromtimestamp(START_US / 1e6 + 30, UTC)
    await cb.tasks.submit_many([TaskSpec(kind="greet", id="root", deadline=deadline)])
    waiting = [TaskSpec(kind="greet", id=f"t-{n}", depends_on=("root",)) for n in range(600)]
    await cb.tasks.submit_many(waiting)
    await world.advance(31)
    called = await world.sweep()

    assert (
        called.index("board_sweep") < called.index("task_cascade") < called.index("namespace_due")
    )
    assert (await cb.boards.get("default")).counts.unfinished == 0


async def test_what_is_due_only_once_agents_were_swept_has_its_turn_in_the_same_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cb, ran = world.cb, []

    async def agents() -> bool:
        await cb.namespace.connection.call("ZADD", f"{cb.namespace.keys.prefix}runs:due", 1, "r")
        ran.append("agents")
        return False

    async def runs() -> bool:
        ran.append("runs")
        return False

    monkeypatch.setattr(cb.agents, "sweep", agents)
    world.janitor = Janitor(cb.namespace, cb.agents, {"runs": runs})
    await registers(cb)
    await world.advance(31)
    before = await world.due()
    await world.sweep()

    assert before == {"agents"}
    assert ran == ["agents", "runs"]


async def test_a_board_that_cannot_be_swept_keeps_no_other_sweep_from_its_turn(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    cb = world.cb
    await cb.board("bad").tasks.submit("greet")
    await cb.board("good").tasks.submit("greet", id="t")
    await cb.agents.register("mira", heartbeat_interval=3_600)
    await cb.board("good").tasks.claim("mira", lease=10)
    await locks(cb)
    await cb.namespace.connection.call("SET", f"{cb.namespace.keys.prefix}tasks:bad:leases", "x")
    await world.advance(120)
    caplog.set_level(logging.WARNING, "callboard.janitor")

    for _ in range(3):
        await world.janitor.sweep(force=True)

    assert (await cb.board("good").tasks.get("t")).agent == ""
    assert await cb.locks.list() == []
    (line, of_metrics) = [record.getMessage() for record in caplog.records]
    assert line.startswith("The sweep of board bad failed, the others go on: ")
    assert of_metrics.startswith("The sweep of metrics failed")


async def test_a_sweep_that_the_engine_fails_keeps_no_other_from_its_turn(world: World) -> None:
    ran = []

    async def fails() -> bool:
        raise EngineError("WRONGTYPE")

    async def works() -> bool:
        ran.append("locks")
        return False

    world.janitor = Janitor(world.cb.namespace, world.cb.agents, {"flow": fails, "locks": works})
    await world.janitor.sweep(force=True)

    assert ran == ["locks"]


async def test_a_round_ends_where_the_engine_is_away(world: World) -> None:
    ran = []

    async def fails() -> bool:
        raise EngineUnavailable("It went.")

    async def works() -> bool:
        ran.append("locks")
        return False

    world.janitor = Janitor(world.cb.namespace, world.cb.agents, {"flow": fails, "locks": works})
    with pytest.raises(EngineUnavailable):
        await world.janitor.sweep(force=True)

    assert ran == []


async def test_runs_that_cannot_be_deleted_yet_keep_no_other_from_its_end(world: World) -> None:
    cb = world.cb
    await runs(cb)
    (other,) = [one.id for one in await cb.runs.list()]
    await cb.agents.register("mira", heartbeat_interval=3_600)
    for _ in range(SWEPT_MAX):
        run = await cb.runs.start("survey", "look")
        tasks = cb.board(run.id).tasks
        await tasks.submit("slow")
        await tasks.claim("mira", lease=3_600)
        await cb.runs.cancel(run.id)
        key = f"{cb.namespace.keys.prefix}runs:due"
        await cb.namespace.connection.call("ZADD", key, 1, run.id)  # It was kept for long enough.
    await world.advance(120)

    await world.sweep()
    called = await world.sweep()

    assert (await cb.runs.get(other)).phase is Phase.FAILED
    assert "run_due" not in called, "those that were refused are left alone for a while"
