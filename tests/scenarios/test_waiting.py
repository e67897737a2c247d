"""What waits, follows and keeps going, on the engine and over HTTP alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import callboard
from callboard import Callboard, Event, Fatal, RetryPolicy, TaskContext, TaskSpec, Worker
from callboard.domain.event import Gap
from callboard.exceptions import (
    DeadlockVictim,
    LockTimeout,
    RequestTimeout,
    TaskCancelled,
    TaskFailed,
)
from tests.scenarios.desks import closing
from tests.waiting import until

SECONDS = 20.0


@pytest.fixture(autouse=True)
async def _in_time() -> AsyncIterator[None]:
    async with asyncio.timeout(SECONDS):
        yield


@asynccontextmanager
async def working(cb: Callboard, worker: Worker) -> AsyncIterator[None]:
    running = asyncio.create_task(worker.run(cb, handle_signals=False))
    try:
        yield
    finally:
        worker.stop()
        await running


async def test_a_worker_does_what_is_submitted_and_the_result_is_waited_for(
    cb: Callboard,
) -> None:
    worker = Worker(agent="mira")

    @worker.handles("greet")
    async def greet(payload: dict[str, str]) -> str:
        return f"Hello {payload['name']}"

    async with working(cb, worker):
        handles = await cb.tasks.submit_many(
            [TaskSpec(kind="greet", payload={"name": str(n)}) for n in range(20)]
        )
        results = [await handle.result(timeout=10) for handle in handles]

    assert results == [f"Hello {n}" for n in range(20)]


async def test_an_idle_worker_is_woken_by_its_bell(cb: Callboard) -> None:
    worker = Worker(agent="mira")
    worker.handles("now")(lambda payload: "done")
    async with working(cb, worker):
        for _ in range(3):  # Three polls would take three seconds.
            handle = await cb.tasks.submit("now", 1)
            assert await handle.result(timeout=10) == "done"


async def test_a_failure_is_tried_again_and_one_for_good_is_not(cb: Callboard) -> None:
    attempts: list[str] = []
    worker = Worker(agent="mira")

    @worker.handles("flaky")
    async def flaky(payload: str, ctx: TaskContext) -> int:
        attempts.append(payload)
        if payload == "bad":
            raise Fatal("no such page")
        if ctx.attempt == 1:
            raise ValueError("busy")
        return ctx.attempt

    retry = RetryPolicy(max_retries=2, base=0.05)
    async with working(cb, worker):
        good = await cb.tasks.submit("flaky", "good", retry=retry)
        bad = await cb.tasks.submit("flaky", "bad", retry=retry)
        assert await good.result(timeout=10) == 2
        with pytest.raises(TaskFailed, match="no such page"):
            await bad.result(timeout=10)

    assert sorted(attempts) == ["bad", "good", "good"]
    _, kept = await cb.dead_letters.get(bad.id)
    assert [(one.error or {})["message"] for one in kept] == ["no such page"]


async def test_a_running_task_is_cancelled_in_its_worker(cb: Callboard) -> None:
    began = asyncio.Event()
    worker = Worker(agent="mira")

    @worker.handles("long")
    async def long(payload: None, ctx: TaskContext) -> None:
        began.set()
        await asyncio.Event().wait()

    async with working(cb, worker):
        handle = await cb.tasks.submit("long")
        await began.wait()
        await cb.tasks.cancel(handle.id, reason="outdated")
        with pytest.raises(TaskCancelled, match="outdated"):
            await handle.result(timeout=10)


async def test_a_handler_splits_asks_and_locks(cb: Callboard) -> None:
    worker = Worker(agent="mira")

    @worker.handles("parent")
    async def parent(payload: int, ctx: TaskContext) -> list[int]:
        children = await ctx.split([TaskSpec(kind="child", payload=n) for n in range(payload)])
        return [child.result for child in children]

    @worker.handles("child")
    async def child(payload: int, ctx: TaskContext) -> int:
        async with ctx.hold("counter"):
            await ctx.progress(0.5)
            return payload * 2

    @worker.handles("asks")
    async def asks(payload: None, ctx: TaskContext) -> str:
        return f"it is {await ctx.input('which?')}"

    async with working(cb, worker):
        parted = await cb.tasks.submit("parent", 3)
        asked = await cb.tasks.submit("asks", None)
        assert await parted.result(timeout=15) == [0, 2, 4]

        async def is_asking() -> bool:
            return (await asked.task()).status == "input_required"

        await until(is_asking)
        await cb.tasks.answer(asked.id, "blue")
        assert await asked.result(timeout=10) == "it is blue"


async def test_a_parent_waits_for_another_task_with_its_slot_free(cb: Callboard) -> None:
    worker = Worker(agent="mira", concurrency=1)

    @worker.handles("parent")
    async def parent(payload: None, ctx: TaskContext) -> str:
        child = await ctx.tasks.submit("child", None)
        return f"then {await ctx.wait(child, timeout=10)}"

    worker.handles("child")(lambda payload: "first")
    async with working(cb, worker):
        handle = await cb.tasks.submit("parent", None)
        assert await handle.result(timeout=15) == "then first"


async def test_who_waits_for_a_lock_gets_it_when_it_is_released(cb: Callboard) -> None:
    async with cb.locks.hold("file:a", "file:b") as first:
        waiting = asyncio.create_task(cb.locks.acquire("file:b", owner="two", wait=10))
        await until(cb.locks.waits)
        with pytest.raises(LockTimeout):
            await cb.locks.acquire("file:a", owner="three", wait=0.2)
    second = await waiting

    assert second.fence > first.fence
    assert await cb.locks.check("file:b", second.fence)
    await cb.locks.release(second)
    assert await cb.locks.waits() == []


async def test_who_closes_a_circle_of_waits_is_told_of_it(cb: Callboard) -> None:
    await cb.locks.acquire("x", owner="a")
    await cb.locks.acquire("y", owner="b")
    first = asyncio.create_task(cb.locks.acquire("y", owner="a", wait=10))
    await until(cb.locks.waits)

    with pytest.raises(DeadlockVictim) as victim:
        await cb.locks.acquire("x", owner="b", wait=10)
    await cb.locks.release_all("b")

    assert set(victim.value.details["cycle"]) == {"a", "b"}
    assert victim.value.details["resources"] == ["x", "y"]
    assert (await first).owner == "a"


async def test_one_who_waits_longer_is_told_that_the_circle_ended_it(cb: Callboard) -> None:
    """The victim is another's wait, which hears of it by its bell."""
    await cb.locks.acquire("x", owner="a")
    await cb.locks.acquire("y", owner="b", priority=10)
    first = asyncio.create_task(cb.locks.acquire("y", owner="a", wait=10))
    await until(cb.locks.waits)
    second = asyncio.create_task(cb.locks.acquire("x", owner="b", wait=10, priority=10))

    ended = await asyncio.gather(first, second, return_exceptions=True)

    victims = [one for one in ended if isinstance(one, DeadlockVictim)]
    assert len(victims) == 1
    # The other gets it when the victim's hold of the circle is taken from it.
    assert sum(isinstance(one, callboard.Lock) for one in ended) == 1


async def test_a_wait_that_is_given_up_leaves_nothing_in_line(cb: Callboard) -> None:
    lock = await cb.locks.acquire("r", owner="one")
    waiting = asyncio.create_task(cb.locks.acquire("r", owner="two", wait=10))
    await until(cb.locks.waits)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert await cb.locks.waits() == []
    await cb.locks.release(lock)
    assert (await cb.locks.get("r")).holders == ()


async def test_a_request_is_answered_by_who_serves_the_inbox(cb: Callboard) -> None:
    async def answer(message: callboard.Message) -> str:
        return f"{message.value} to you too"

    serving = asyncio.create_task(cb.messages.serve("noor", answer))
    reply = await cb.messages.request("noor", "hello", sender="mira", timeout=10)
    serving.cancel()

    assert reply.value == "hello to you too"
    with pytest.raises(RequestTimeout):
        await cb.messages.request("nobody", "hello", sender="mira", timeout=0.2)


async def test_a_listener_gets_what_comes_and_broadcasts_too(cb: Callboard) -> None:
    await cb.agents.register("noor")
    heard: list[object] = []

    async def listen() -> None:
        heard.extend([one.value async for one in cb.messages.listen("noor", limit=3)])

    listening = asyncio.create_task(listen())
    await cb.messages.send("noor", 1, sender="mira")
    await cb.messages.broadcast("all", sender="mira")
    await cb.messages.send("noor", 2, sender="mira")
    await listening

    assert sorted(map(str, heard)) == ["1", "2", "all"]
    assert (await cb.messages.counts("noor")).unread == 0


async def test_a_watcher_sees_each_change_of_a_context_in_order(cb: Callboard) -> None:
    seen: list[int] = []

    async def watch() -> None:
        async with closing(cb.context.watch("plan", since=0)) as changes:
            async for change in changes:
                if change.kind != "current":
                    assert change.context is not None
                seen.append(change.rev)
                if len(seen) == 3:
                    return

    written = await cb.context.set("plan", {"n": 0})
    watching = asyncio.create_task(watch())
    await until(lambda: seen)
    later = [(await cb.context.set("plan", {"n": n})).rev for n in (1, 2)]
    await watching

    assert seen == [written.rev, *later]


async def test_events_are_followed_from_a_cursor_without_a_gap(cb: Callboard) -> None:
    cursor = await cb.events.cursor()
    for n in range(5):
        await cb.tasks.submit("greet", n, id=f"t{n}")
    seen: list[str] = []

    async with closing(cb.events.follow(cursor, types=["task:*"])) as events:
        async for event in events:
            assert isinstance(event, Event)
            seen += [fact.id for fact in event.facts]
            if len(seen) == 5:
                await cb.tasks.submit("greet", 5, id="t5")
            if len(seen) == 6:
                break

    assert seen == [f"t{n}" for n in range(6)]


async def test_a_cursor_of_other_data_brings_a_gap_first(cb: Callboard) -> None:
    await cb.tasks.submit("greet", 1, id="t")

    async with closing(cb.events.follow("0123abcd:0")) as events:
        first = await anext(events)

    assert isinstance(first, Gap)
    assert first.reason == "incarnation"


async def test_a_breaker_opens_after_failures_and_lets_nothing_through(cb: Callboard) -> None:
    policy = callboard.BreakerPolicy(failure_threshold=2, open_for=60)
    for _ in range(2):
        with pytest.raises(ValueError, match="down"):
            async with cb.breakers.guard("api", policy=policy):
                raise ValueError("down")

    with pytest.raises(callboard.CallboardError) as refused:
        async with cb.breakers.guard("api"):
            pytest.fail("the body ran")

    assert refused.value.code == "breaker_open"
    assert refused.value.details["component"] == "api"


async def test_a_drained_worker_ends_and_gives_back_what_it_had_not_begun(cb: Callboard) -> None:
    began = asyncio.Event()
    go_on = asyncio.Event()
    worker = Worker(agent="mira", concurrency=1, prefetch=2)

    @worker.handles("slow")
    async def slow(payload: int) -> int:
        began.set()
        await go_on.wait()
        return payload

    running = asyncio.create_task(worker.run(cb, handle_signals=False))
    handles = [await cb.tasks.submit("slow", n) for n in range(3)]
    await began.wait()
    await cb.agents.drain("mira")
    worker.stop()
    go_on.set()
    await running

    statuses = sorted([(await handle.task()).status.value for handle in handles])
    assert statuses == ["done", "pending", "pending"]
