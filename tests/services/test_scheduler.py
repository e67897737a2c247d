"""The scheduler with workers, clocks and packages as they really are."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import callboard
from callboard import Assignment, Callboard, TaskSpec, Worker
from callboard.domain.strategy import STRATEGIES
from callboard.exceptions import InvalidArgument, StrategyFailed

DEADLINE_SECONDS = 30


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


@asynccontextmanager
async def working(cb: Callboard, name: str, seconds: float = 0.0) -> AsyncIterator[None]:
    """A worker of this name that takes so long for each task, until it waits and after."""
    worker = Worker(agent=name, concurrency=2)

    @worker.handles("work")
    async def work() -> str:
        await asyncio.sleep(seconds)
        return name

    run = asyncio.create_task(worker.run(cb, handle_signals=False))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await is_waiting(cb, name):
                pass
        yield
    finally:
        worker.stop()
        await run


async def is_waiting(cb: Callboard, name: str) -> bool:
    key = f"{cb.namespace.keys.prefix}tasks:default:waiters"
    waiting = await cb.namespace.connection.call("ZRANGE", key, 0, -1)
    return any(member.decode().startswith(f"{name}/") for member in waiting)


async def done_by(cb: Callboard, count: int) -> Counter[str]:
    handles = await cb.tasks.submit_many(TaskSpec(kind="work") for _ in range(count))
    results = (handle.result(timeout=DEADLINE_SECONDS) for handle in handles)
    return Counter(await asyncio.gather(*results))


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_workers_do_all_that_a_boards_strategy_gives_them(
    cb: Callboard, strategy: str
) -> None:
    await cb.scheduler.set_strategy(strategy)
    async with AsyncExitStack() as crew:
        for name in ("mira", "noor", "olga"):
            await crew.enter_async_context(working(cb, name))

        done = await done_by(cb, 60)
        loads = await cb.scheduler.load()

    assert sum(done.values()) == 60
    assert set(done) <= {"mira", "noor", "olga"}
    assert loads.failed_assignments == 0


async def test_in_turn_means_in_turn_with_workers_too(cb: Callboard) -> None:
    await cb.scheduler.set_strategy("round_robin")
    async with working(cb, "mira"), working(cb, "noor"):
        order = []
        for _ in range(8):
            handle = await cb.tasks.submit("work")
            order.append(await handle.result(timeout=DEADLINE_SECONDS))

    assert order == ["mira", "noor"] * 4


async def test_by_default_the_quicker_worker_comes_to_do_most(cb: Callboard) -> None:
    async with working(cb, "mira", 0.04), working(cb, "noor", 0.001):
        done: Counter[str] = Counter()
        for _ in range(30):
            handle = await cb.tasks.submit("work")
            done[await handle.result(timeout=DEADLINE_SECONDS)] += 1

    assert done["noor"] > done["mira"]


async def test_a_drained_agent_is_not_chosen_and_its_reservations_go_to_others(
    cb: Callboard,
) -> None:
    await cb.agents.register("mira")
    await cb.agents.register("noor")
    await cb.scheduler.set_strategy("round_robin")
    handles = await cb.tasks.submit_many(TaskSpec(kind="work") for _ in range(6))

    await cb.agents.drain("mira")
    last = await cb.tasks.submit("work")

    agents = [(await handle.task()).agent for handle in [*handles, last]]
    assert agents == ["noor"] * 7


# Packages


def package(folder: Path, code: str) -> None:
    """Code as installed, which offers the strategy ``packed``."""
    (folder / "packed_strategies.py").write_text(code)
    info = folder / "packed_strategies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: packed-strategies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[callboard.strategies]\npacked = packed_strategies:Last\n"
    )


async def test_a_strategy_that_a_package_offers_is_known_by_its_name(
    cb: Callboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(
        tmp_path,
        "class Last:\n    def choose(self, assignment):\n"
        "        return assignment.candidates[-1].id\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    await cb.agents.register("mira")
    await cb.agents.register("noor")
    handle = await cb.tasks.submit("work")

    (decision,) = await cb.scheduler.assign(handle.id, strategy="packed")

    assert "packed" in cb.scheduler.names()
    assert (decision.agent, decision.strategy) == ("noor", "packed")


@pytest.mark.parametrize("code", ["1 / 0", "Last = 5", ""], ids=["raises", "no-choose", "empty"])
async def test_a_package_whose_strategy_cannot_be_loaded_is_named(
    cb: Callboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    package(tmp_path, code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "packed_strategies", raising=False)
    handle = await cb.tasks.submit("work")

    with pytest.raises(StrategyFailed, match="'packed' of entry point packed_strategies:Last"):
        await cb.scheduler.assign(handle.id, strategy="packed")


async def test_a_strategy_is_known_to_the_connection_that_registered_it(
    cb: Callboard, engine_url: str, namespace: str
) -> None:
    class Nobody:
        def choose(self, assignment: Assignment) -> str | None:
            return None

    cb.scheduler.register("nobody", Nobody)
    handle = await cb.tasks.submit("work")

    async with callboard.connect(engine_url, namespace=namespace) as other:
        with pytest.raises(InvalidArgument, match="There is no strategy 'nobody'"):
            await other.scheduler.assign(handle.id, strategy="nobody")
    assert cb.scheduler.names() == (*STRATEGIES, "nobody")
