"""Locks as a program uses them: waiting, holding, losing, being cancelled."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import callboard
import callboard.sync
from callboard import Callboard
from callboard.domain.lock import Lock
from callboard.exceptions import (
    AlreadyWaiting,
    DeadlockVictim,
    EngineError,
    InvalidArgument,
    LeaseLost,
    LockHeld,
    LockLost,
    LockMismatch,
    LockNotFound,
    LockTimeout,
    OutcomeUnknown,
    TooManyLocks,
)
from tests.sdk.workers import worker_of, working
from tests.waiting import until


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace, adopt=True) as opened:
        yield opened


@pytest.fixture
async def other(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    """Another process of the same namespace, as far as the engine can tell."""
    async with callboard.connect(engine_url, namespace=namespace, adopt=True) as opened:
        yield opened


async def in_line(cb: Callboard, name: str, count: int) -> None:
    async def is_so() -> bool:
        return (await cb.locks.get(name)).waiting_count == count

    await until(is_so)


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"resources": ()},
        {"resources": ("a|b",)},
        {"owner": ""},
        {"owner": "with space"},
        {"owner": "claim:b"},
        {"mode": "mine"},
        {"mode": "semaphore"},
        {"mode": "semaphore", "limit": 0},
        {"mode": "semaphore", "limit": 1, "resources": ("a/*",)},
        {"limit": 3},
        {"wait": -1},
        {"lease": 0},
        {"lease": 4_000},
        {"priority": 5_000},
        {"agent": "no name"},
    ],
    ids=str,
)
async def test_what_is_no_request_is_refused_at_the_edge(
    cb: Callboard, wrong: dict[str, Any]
) -> None:
    resources = wrong.pop("resources", ("r",))

    with pytest.raises(InvalidArgument):
        await cb.locks.acquire(*resources, **{"owner": "one", **wrong})


async def test_a_try_says_who_has_it_and_until_when(cb: Callboard) -> None:
    lock = await cb.locks.acquire("r", owner="one", agent="mira")

    with pytest.raises(LockHeld, match=r"held by one \(agent mira\) until") as held:
        await cb.locks.acquire("r", owner="two", wait=0)

    assert held.value.details["holder"] == "one"
    assert held.value.details["until"] == lock.deadline
    assert not isinstance(held.value, LockTimeout)


async def test_a_wait_that_is_over_says_so_and_leaves_no_trace(cb: Callboard) -> None:
    await cb.locks.acquire("r", owner="one")

    with pytest.raises(LockTimeout, match="held by one"):
        await cb.locks.acquire("r", owner="two", wait=0.2)

    assert (await cb.locks.get("r")).waiting == ()


async def test_refusals_are_exceptions_with_their_facts(cb: Callboard) -> None:
    await cb.locks.acquire("s", owner="one", mode="semaphore", limit=2)
    with pytest.raises(LockMismatch):
        await cb.locks.acquire("s", owner="two", mode="semaphore", limit=3)
    with pytest.raises(LockNotFound):
        await cb.locks.force_release("free", by="ann")
    with pytest.raises(LockLost):
        await cb.locks.release("s", "two")
    with pytest.raises(LeaseLost):
        await cb.locks.acquire("r", owner="claim:default:t:7")
    for start in range(0, 900, 100):
        await cb.locks.acquire(*(f"r{start + i}" for i in range(100)), owner="one")
    with pytest.raises(TooManyLocks):
        await cb.locks.acquire(*(f"x{i}" for i in range(100)), owner="one")


@pytest.mark.parametrize("wrong", [5, None, [5], ["a", None]], ids=str)
async def test_what_is_no_resource_is_refused_by_name(cb: Callboard, wrong: Any) -> None:
    for refused in (cb.locks.release(wrong, "one"), cb.locks.renew(wrong, "one")):
        with pytest.raises(InvalidArgument, match=r"[Rr]esource.* not (int|NoneType)"):
            await refused


async def test_a_semaphore_without_permits_names_the_argument(cb: Callboard) -> None:
    with pytest.raises(InvalidArgument, match="needs limit="):
        await cb.locks.acquire("r", owner="one", mode="semaphore")


async def test_what_was_never_held_is_not_said_to_have_been_lost(cb: Callboard) -> None:
    lock = await cb.locks.acquire("r", owner="one")
    for refused in (cb.locks.release("rr", "one"), cb.locks.renew(["rr"], "one")):
        with pytest.raises(LockLost, match="'rr' is not held by one: it never was"):
            await refused

    await cb.locks.force_release("r", by="ann")

    with pytest.raises(LockLost, match=f"no longer held by one under fence {lock.fence}: "):
        await cb.locks.renew(lock)


@pytest.mark.parametrize("read", ["check", "list", "waits", "incidents", "get"])
async def test_a_key_that_is_somebody_elses_is_an_error_with_the_cure(
    cb: Callboard, read: str
) -> None:
    keys = cb.namespace.keys
    foreign, call = {
        "check": (keys.lock("r"), lambda: cb.locks.check("r", 1)),
        "get": (keys.lock("r"), lambda: cb.locks.get("r")),
        "list": (keys.locks, cb.locks.list),
        "waits": (keys.locks_waits, cb.locks.waits),
        "incidents": (keys.locks_incidents, cb.locks.incidents),
    }[read]
    await cb.namespace.connection.call("SET", foreign, "x")

    with pytest.raises(EngineError, match="wrong type: something else writes"):
        await call()


async def test_one_owner_cannot_wait_twice(cb: Callboard) -> None:
    await cb.locks.acquire("a", "b", owner="one")
    waiting = asyncio.create_task(cb.locks.acquire("a", owner="two"))
    await in_line(cb, "a", 1)

    with pytest.raises(AlreadyWaiting):
        await cb.locks.acquire("b", owner="two")

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


# Acquire, renew, release


async def test_an_acquisition_tells_fences_and_deadline(cb: Callboard) -> None:
    first = await cb.locks.acquire("b", owner="one")
    lock = await cb.locks.acquire("b", "a", owner="one", lease=60)

    assert isinstance(lock, Lock)
    assert lock.resources == ("a", "b")
    assert lock.fences["b"] == first.fence
    assert lock.fence == lock.fences["a"] > first.fence
    assert await cb.locks.check("a", lock.fence)
    assert not await cb.locks.check("a", first.fence - 1)
    await cb.locks.renew(lock, lease=600)
    assert (await cb.locks.get("a")).holders[0].deadline > lock.deadline
    await cb.locks.release(lock)
    assert (await cb.locks.get("a")).is_free
    assert await cb.locks.release_all("one") == 1
    assert await cb.locks.list() == []


async def test_a_release_that_names_what_it_gives_back_in_another_order_is_the_same(
    cb: Callboard,
) -> None:
    for _ in range(3):
        lock = await cb.locks.acquire("x", "y", owner="one", wait=0)

    turned = msgspec.structs.replace(lock, resources=lock.resources[::-1])
    for same in (lock, turned):
        await cb.locks.release(same, request_id="r")
    for names in (["x", "y"], ["y", "x"], {"y", "x"}):
        await cb.locks.release(names, "one", request_id="s")

    for name in ("x", "y"):
        assert [one.count for one in (await cb.locks.get(name)).holders] == [1]


async def test_a_waiter_gets_it_with_the_release(cb: Callboard, other: Callboard) -> None:
    await other.locks.keeper.listen()
    lock = await cb.locks.acquire("r", owner="one")
    waiting = asyncio.create_task(other.locks.acquire("r", owner="two"))
    await in_line(cb, "r", 1)

    began = time.monotonic()
    await cb.locks.release(lock)
    second = await waiting

    assert time.monotonic() - began < 0.9  # the bell, not the beat, woke it
    assert second.fence > lock.fence


async def test_a_lost_bell_costs_a_beat_and_no_more(cb: Callboard, other: Callboard) -> None:
    await other.locks.keeper.listen()
    lock = await cb.locks.acquire("r", owner="one")
    waiting = asyncio.create_task(other.locks.acquire("r", owner="two"))
    await in_line(cb, "r", 1)
    assert other.locks.keeper._subscription is not None
    other.locks.keeper._subscription._bells = Deaf()

    await cb.locks.release(lock)

    async with asyncio.timeout(2.0):
        await waiting


class Deaf(deque[Any]):
    """Takes no bell."""

    def append(self, _: Any) -> None:
        return


async def test_a_thousand_waiters_on_a_hot_lock_each_get_it_once_and_nobody_polls_it(
    cb: Callboard, other: Callboard
) -> None:
    order: list[int] = []

    async def one(i: int) -> None:
        lock = await (cb, other)[i % 2].locks.acquire("hot", owner=f"o{i}", wait=300, lease=300)
        order.append(lock.fence)
        await cb.locks.release(lock)

    gate = await cb.locks.acquire("hot", owner="gate", lease=300)
    tasks = [asyncio.create_task(one(i)) for i in range(1_000)]
    await in_line(cb, "hot", 1_000)
    calls = await fcalls(cb)
    began = time.monotonic()
    await cb.locks.release(gate)
    await asyncio.gather(*tasks)

    assert len(order) == 1_000
    assert order == sorted(set(order))
    # One release and one taking up for each, and the beats of two processes.
    seconds = time.monotonic() - began
    assert await fcalls(cb) - calls <= 2 * 1_000 + 8 * (seconds + 2) + 50


async def fcalls(cb: Callboard) -> int:
    raw = await cb.namespace.connection.call("INFO", "commandstats")
    text = raw.decode() if isinstance(raw, bytes) else str(raw)
    line = next(line for line in text.splitlines() if line.startswith("cmdstat_fcall:"))
    return int(line.split("calls=")[1].split(",")[0])


async def test_a_cancelled_wait_leaves_the_line_at_once(cb: Callboard) -> None:
    await cb.locks.acquire("r", owner="one")
    waiting = asyncio.create_task(cb.locks.acquire("r", owner="two"))
    await in_line(cb, "r", 1)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert waiting.cancelled()
    assert (await cb.locks.get("r")).waiting_count == 0


async def test_waiters_outlive_a_wait_entrys_lease_while_their_process_lives(
    cb: Callboard, other: Callboard
) -> None:
    lock = await cb.locks.acquire("r", owner="one")
    waiting = asyncio.create_task(other.locks.acquire("r", owner="two"))
    await in_line(cb, "r", 1)
    for _ in range(7):
        await asyncio.sleep(1)
        await cb.locks.sweep()

    assert (await cb.locks.get("r")).waiting_count == 1
    assert (await cb.locks.waits())[0].has_reserved
    await cb.locks.release(lock)
    await waiting


# Hold


async def test_a_scope_holds_renews_and_releases(cb: Callboard) -> None:
    async with cb.locks.hold("a", "b", lease=0.6) as lock:
        await asyncio.sleep(1.5)
        await cb.locks.sweep()
        assert (await cb.locks.get("a")).holders[0].owner == lock.owner
        assert await cb.locks.check("b", lock.fence)

    assert await cb.locks.list() == []


async def test_a_scope_whose_release_lost_its_reply_ends_in_peace(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, release = cb.namespace.connection, cb.namespace.functions._names["lock_release"]
    call = connection.call
    lost: list[bytes] = []

    async def losing(*command: Any, **options: Any) -> Any:
        reply = await call(*command, **options)
        if command[1] == release and not lost:
            lost.append(reply)
            raise OutcomeUnknown("The reply was lost.")
        return reply

    async with cb.locks.hold("a", "b"):
        monkeypatch.setattr(connection, "call", losing)

    assert lost
    assert await cb.locks.list() == []


async def test_two_scopes_of_one_owner_nest(cb: Callboard) -> None:
    async with cb.locks.hold("r", owner="one") as outer, cb.locks.hold("r", owner="one") as inner:
        assert outer.fence == inner.fence
        assert (await cb.locks.get("r")).holders[0].count == 2

    assert await cb.locks.list() == []


async def test_losing_the_lock_cancels_the_scope_and_raises(cb: Callboard) -> None:
    began = time.monotonic()

    async def body() -> None:
        async with cb.locks.hold("r", lease=30):
            await cb.locks.force_release("r", by="ann", reason="test")
            await asyncio.sleep(60)

    with pytest.raises(LockLost):
        await body()

    assert time.monotonic() - began < 5  # its bell said so, not the end of the lease
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("made_of_it", ["swallowed", "another error"])
async def test_a_cancellation_for_a_loss_is_taken_back_whatever_the_body_made_of_it(
    cb: Callboard, made_of_it: str
) -> None:
    async def body() -> None:
        async with cb.locks.hold("r"):
            await cb.locks.force_release("r", by="ann")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if made_of_it != "swallowed":
                    raise ZeroDivisionError from None

    with pytest.raises(LockLost if made_of_it == "swallowed" else ZeroDivisionError):
        await body()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):  # not CancelledError: the next scope counts right
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)


async def test_a_scope_that_is_entered_again_has_forgotten_its_loss(cb: Callboard) -> None:
    scope = cb.locks.hold("r")

    async def lose() -> None:
        async with scope:
            await cb.locks.force_release("r", by="ann")
            await asyncio.sleep(60)

    with pytest.raises(LockLost):
        await lose()
    assert scope.is_lost

    async with scope as lock:
        assert not scope.is_lost
        assert await cb.locks.check("r", lock.fence)


async def test_a_scope_whose_lock_went_while_its_loop_stood_still_ends_with_the_loss(
    cb: Callboard, other: Callboard
) -> None:
    async def body() -> None:
        async with cb.locks.hold("r", lease=0.2):
            time.sleep(0.5)
            await other.locks.acquire("r", owner="two")

    with pytest.raises(LockLost):
        await body()

    assert (await cb.locks.get("r")).holders[0].owner == "two"


async def test_the_bodys_own_error_goes_before_the_loss(cb: Callboard) -> None:
    async def body() -> None:
        async with cb.locks.hold("r"):
            await cb.locks.force_release("r", by="ann")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()

    assert await cb.locks.list() == []


async def test_a_cancelled_scope_releases_before_it_ends(cb: Callboard) -> None:
    entered = asyncio.Event()

    async def body() -> None:
        async with cb.locks.hold("r"):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert await cb.locks.list() == []


# Deadlocks


async def test_a_deadlock_raises_in_the_victim_and_the_survivor_goes_on(
    cb: Callboard, other: Callboard
) -> None:
    both = asyncio.Barrier(2)
    done: list[str] = []

    async def work(board: Callboard, name: str, first: str, second: str, priority: int) -> None:
        async with board.locks.hold(first, owner=name, agent=f"agent-{name}"):
            await both.wait()
            async with board.locks.hold(second, owner=name, priority=priority):
                done.append(name)

    began = time.monotonic()
    results = await asyncio.gather(
        work(cb, "a", "ra", "rb", 0), work(other, "b", "rb", "ra", -1), return_exceptions=True
    )

    assert done == ["a"]
    (victim,) = [error for error in results if error is not None]
    assert isinstance(victim, DeadlockVictim)
    assert set(victim.details["cycle"]) == {"a", "b"}
    assert set(victim.details["resources"]) == {"ra", "rb"}
    assert victim.details["agents"]
    assert "same order" in victim.details["suggestion"]
    assert time.monotonic() - began < 4
    assert await cb.locks.list() == []


async def test_why_says_who_has_it_and_who_is_in_line(cb: Callboard) -> None:
    await cb.locks.acquire("r", owner="one", agent="mira")
    waiting = asyncio.create_task(cb.locks.acquire("r", "q", owner="two"))
    await in_line(cb, "r", 1)

    of_resource = await cb.locks.why("r")
    of_owner = await cb.locks.why("two")
    nobody = await cb.locks.why("three")

    assert of_resource.blockers == ("one",)
    assert "one (agent mira) holds it exclusive" in of_resource.reasons[0]
    assert "1. in line: two" in of_resource.reasons[1]
    assert of_owner.reasons == ("two waits for r: one has it",)
    assert nobody.reasons == ("three is free, and waits for nobody.",)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_why_finds_the_pattern_that_covers_a_name(cb: Callboard) -> None:
    await cb.locks.acquire("file:src/**", owner="one", agent="mira")

    of_covered = await cb.locks.why("file:src/a b.py")
    of_other = await cb.locks.why("file:test/a b.py")

    assert of_covered.blockers == ("one",)
    assert of_covered.reasons[0].startswith(
        "file:src/** overlaps it: one (agent mira) holds it exclusive, since "
    )
    assert of_other.reasons == ("file:test/a b.py is free, and waits for nobody.",)


# In a handler


async def test_a_handlers_locks_are_its_claims_and_go_back_with_it(cb: Callboard) -> None:
    seen: list[str] = []

    async def work(_: Any, ctx: Any) -> str:
        async with ctx.hold("r") as lock:
            seen.append(lock.owner)
            assert (await cb.locks.get("r")).holders[0].agent == "mira"
        await cb.locks.acquire("kept", owner=ctx, wait=20)
        return "ok"

    async with working(cb, worker_of(handlers={"work": work})):
        handles = [await cb.tasks.submit("work") for _ in range(3)]
        for handle in handles:
            assert await handle.result(timeout=30) == "ok"

    assert len(set(seen)) == 3
    assert all(owner.startswith("claim:default:") for owner in seen)
    assert await cb.locks.list() == []


async def test_a_parent_that_waits_for_a_child_that_wants_its_lock_is_told(
    cb: Callboard,
) -> None:
    async def parent(_: Any, ctx: Any) -> str:
        async with ctx.hold("r"):
            child = await ctx.tasks.submit("child", priority=5)
            try:
                await ctx.wait(child, timeout=20)
            except DeadlockVictim as victim:
                return f"victim of {len(victim.details['cycle'])}"
        return "not found"

    async def child(_: Any, ctx: Any) -> str:
        async with ctx.hold("r", priority=9):
            return "ok"

    async with working(cb, worker_of(handlers={"parent": parent, "child": child})):
        handle = await cb.tasks.submit("parent")
        assert await handle.result(timeout=30) == "victim of 2"


# Without async


def test_the_same_without_async(engine_url: str, namespace: str) -> None:
    with callboard.sync.connect(engine_url, namespace=namespace, adopt=True) as cb:
        with cb.locks.hold("r", lease=0.3) as lock:
            time.sleep(0.6)
            assert cb.locks.check("r", lock.fence)
            with pytest.raises(LockTimeout):
                cb.locks.acquire("r", owner="two", wait=0.1)
        assert cb.locks.list() == []
        with pytest.raises(LockLost), cb.locks.hold("r"):
            cb.locks.force_release("r", by="ann")
