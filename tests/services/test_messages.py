"""Messages as programs use them: listened to, served, asked, answered, awaited again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import callboard
from callboard import REGISTERED, Callboard
from callboard.domain.message import Message, MessageSpec
from callboard.exceptions import (
    DeadlockVictim,
    InboxFull,
    LeaseLost,
    OutcomeUnknown,
    RequestTimeout,
)
from callboard.listener import Listener
from tests.waiting import until

pytestmark = pytest.mark.every_engine

WAIT = 10.0


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


@pytest.fixture
async def other(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    """A second connection, as another process has it."""
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


async def stopped(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# Listening


async def test_a_listener_gets_what_was_there_and_what_comes_and_acknowledges_each(
    cb: Callboard, other: Callboard
) -> None:
    await cb.messages.send("noor", 1)
    found = []

    async def listen() -> None:
        async for message in other.messages.listen("noor"):
            found.append(message.value)
            if len(found) == 3:
                await other.messages.acknowledge(message)
                break

    task = asyncio.create_task(listen())
    await until(lambda: _is(lambda: found == [1]))
    await cb.messages.send("noor", 2)
    await cb.messages.send("noor", 3)
    await asyncio.wait_for(task, WAIT)

    assert found == [1, 2, 3]
    assert await cb.messages.unread("noor") == 0


async def test_a_listener_with_a_limit_ends_with_its_last_one_acknowledged(cb: Callboard) -> None:
    await cb.agents.register("noor")
    await cb.messages.send("noor", 1)
    await cb.messages.broadcast(2, sender="mira")
    await cb.messages.broadcast(3, sender="mira")

    found = [message.value async for message in cb.messages.listen("noor", limit=2)]
    rest = [message.value async for message in cb.messages.listen("noor", limit=1)]

    assert (found, rest) == ([1, 2], [3])
    assert await cb.messages.unread("noor") == 0


async def test_a_body_that_raises_gives_its_message_back_and_the_rest_unharmed(
    cb: Callboard,
) -> None:
    for n in range(3):
        await cb.messages.send("noor", n)

    async def listen() -> None:
        async for message in cb.messages.listen("noor"):
            assert message.value == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(listen(), WAIT)

    async def all_back() -> bool:
        return (await cb.messages.counts("noor")).waiting == 3

    await until(all_back)
    again = await cb.messages.take("noor", 3)
    assert [(m.value, m.deliveries) for m in again] == [(0, 2), (1, 1), (2, 1)]


async def test_a_cancelled_listener_leaves_nothing_taken(cb: Callboard) -> None:
    async def listen() -> None:
        async for _ in cb.messages.listen("noor"):
            pass

    task = asyncio.create_task(listen())
    await cb.messages.send("noor", 1)

    async def is_read() -> bool:
        return (await cb.messages.counts("noor")).finished == 1

    await until(is_read)
    await stopped(task)
    await cb.messages.send("noor", 2)

    assert [m.value for m in await cb.messages.take("noor")] == [2]


async def test_listeners_of_one_agent_share_its_messages(cb: Callboard, other: Callboard) -> None:
    found: list[Any] = []

    async def listen(through: Callboard) -> None:
        async for message in through.messages.listen("noor", batch=2):
            found.append(message.value)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(listen(one)) for one in (cb, other)]
    await asyncio.gather(*(cb.messages.send("noor", n) for n in range(100)))
    await until(lambda: _is(lambda: len(found) >= 100))
    for task in tasks:
        await stopped(task)

    assert sorted(found) == list(range(100))


async def test_a_listener_hears_broadcasts_once_each(cb: Callboard, other: Callboard) -> None:
    await cb.agents.register("noor")
    found: list[Any] = []

    async def listen(through: Callboard) -> None:
        async for message in through.messages.listen("noor", batch=3):
            found.append(message.value)  # noqa: PERF401

    task = asyncio.create_task(listen(cb))
    for n in range(10):
        await other.messages.broadcast(n, sender="mira")
    await until(lambda: _is(lambda: len(found) == 10))
    await stopped(task)
    await other.messages.broadcast("later", sender="mira")
    task = asyncio.create_task(listen(other))
    await until(lambda: _is(lambda: found[10:] == ["later"]))
    await stopped(task)

    assert found[:10] == list(range(10))


async def test_a_long_handler_keeps_its_message(cb: Callboard) -> None:
    await cb.messages.send("noor", 1)
    runs = []
    is_done = asyncio.Event()

    async def slow(message: Message) -> None:
        runs.append(message.deliveries)
        await asyncio.sleep(1.0)
        is_done.set()

    server = asyncio.create_task(cb.messages.serve("noor", slow, lease=0.3))
    await asyncio.wait_for(is_done.wait(), WAIT)
    await until(lambda: _unread(cb, "noor", 0))
    await stopped(server)

    assert runs == [1]


# Serving


async def test_a_handler_that_throws_is_called_again_and_the_sender_sees_nothing(
    cb: Callboard,
) -> None:
    calls: list[int] = []

    async def fail_twice(message: Message) -> None:
        calls.append(message.deliveries)
        if len(calls) < 3:
            raise ValueError("not yet")

    server = asyncio.create_task(cb.messages.serve("noor", fail_twice, backoff=0.01))
    sent = await cb.messages.send("noor", 1)
    await until(lambda: _unread(cb, "noor", 0))
    await stopped(server)

    assert sent.is_ok
    assert calls == [1, 2, 3]


async def test_what_always_fails_is_a_dead_letter_with_its_reason(cb: Callboard) -> None:
    def fail(message: Message) -> None:
        raise ValueError("never")

    server = asyncio.create_task(cb.messages.serve("noor", fail, backoff=0))
    await cb.messages.send("noor", 1, max_deliveries=2, id="m")
    await cb.messages.send("noor", 2, max_deliveries=2)

    async def both_dead() -> bool:
        return (await cb.messages.counts("noor")).dead == 2

    await until(both_dead)
    await stopped(server)

    assert (await cb.messages.get("m")).error == "ValueError: never"


async def test_one_at_a_time_is_in_order_and_many_at_a_time_are_at_once(cb: Callboard) -> None:
    order: list[int] = []
    together: set[int] = set()
    gate = asyncio.Event()

    async def meet(message: Message) -> None:
        together.add(message.value)
        if len(together) == 4:
            gate.set()
        await asyncio.wait_for(gate.wait(), WAIT)

    async def note(message: Message) -> None:
        order.append(message.value)

    servers = [
        asyncio.create_task(cb.messages.serve("many", meet, concurrency=4)),
        asyncio.create_task(cb.messages.serve("one", note)),
    ]
    for n in range(4):
        await cb.messages.send("many", n)
    for n in range(20):
        await cb.messages.send("one", n)
    await asyncio.wait_for(gate.wait(), WAIT)
    await until(lambda: _unread(cb, "one", 0))
    for server in servers:
        await stopped(server)

    assert order == list(range(20))


async def test_stopping_a_server_gives_back_what_is_under_way_unharmed(cb: Callboard) -> None:
    has_begun = asyncio.Event()

    async def hang(message: Message) -> None:
        has_begun.set()
        await asyncio.Event().wait()

    server = asyncio.create_task(cb.messages.serve("noor", hang))
    await cb.messages.send("noor", 1)
    await asyncio.wait_for(has_begun.wait(), WAIT)

    await stopped(server)

    assert [m.deliveries for m in await cb.messages.take("noor")] == [1]


# Requests


async def test_a_request_is_answered_by_what_the_handler_returns(
    cb: Callboard, other: Callboard
) -> None:
    async def double(message: Message) -> int:
        return message.value * 2

    server = asyncio.create_task(other.messages.serve("noor", double, concurrency=3))
    replies = await asyncio.gather(
        *(cb.messages.request("noor", n, sender="mira") for n in range(20))
    )
    await stopped(server)

    assert [reply.value for reply in replies] == [2 * n for n in range(20)]


async def test_nobody_answering_is_a_timeout_and_the_request_is_gone_from_the_inbox(
    cb: Callboard,
) -> None:
    with pytest.raises(RequestTimeout, match="not answered in time") as caught:
        await cb.messages.request("noor", 1, timeout=0.2)

    assert caught.value.details["state"] == "expired"
    assert await cb.messages.take("noor") == []


async def test_a_reply_is_awaited_again_by_the_requests_id(cb: Callboard, other: Callboard) -> None:
    asking = asyncio.create_task(cb.messages.request("noor", "q", id="q1", timeout=30))
    await until(lambda: _unread(cb, "noor", 1))
    await stopped(asking)

    waiting = asyncio.create_task(other.messages.wait_reply("q1"))
    taken = await cb.messages.take("noor")
    await cb.messages.reply(taken[0], "a")

    assert (await asyncio.wait_for(waiting, WAIT)).value == "a"
    assert (await cb.messages.request("noor", "q", id="q1", timeout=30)).value == "a"
    assert await cb.messages.unread("noor") == 0


async def test_waiting_a_while_leaves_the_request_standing(cb: Callboard) -> None:
    await cb.messages.send_request("noor", "q", timeout=30, id="q1")

    with pytest.raises(RequestTimeout, match="still may be"):
        await cb.messages.wait_reply("q1", timeout=0.05)

    assert await cb.messages.unread("noor") == 1


async def test_a_request_that_became_a_dead_letter_ends_the_wait(cb: Callboard) -> None:
    def fail(message: Message) -> None:
        raise ValueError("no")

    server = asyncio.create_task(cb.messages.serve("noor", fail, backoff=0))
    with pytest.raises(RequestTimeout, match="never answered"):
        await cb.messages.request("noor", 1, timeout=30, max_deliveries=2)
    await stopped(server)


async def test_a_request_to_a_full_inbox_is_refused(cb: Callboard) -> None:
    await cb.messages.set_limit("noor", 1)
    await cb.messages.send("noor", 1)

    with pytest.raises(InboxFull):
        await cb.messages.request("noor", 2)


async def test_a_handler_of_a_task_writes_and_asks_as_its_agent(
    cb: Callboard, other: Callboard
) -> None:
    worker = callboard.Worker(agent="mira")

    @worker.handles("ask")
    async def ask(ctx: callboard.TaskContext) -> Any:
        await ctx.send("ann", "I ask now", thread=ctx.id)
        return (await ctx.request("noor", 21)).value

    async def double(message: Message) -> Any:
        return {"by": message.sender, "value": message.value * 2}

    working = asyncio.create_task(worker.run(cb, handle_signals=False))
    serving = asyncio.create_task(other.messages.serve("noor", double))
    handle = await cb.tasks.submit("ask")
    result = await handle.result(timeout=WAIT)
    worker.stop()
    await asyncio.wait_for(working, WAIT)
    await stopped(serving)

    assert result == {"by": "mira", "value": 42}
    assert [(m.sender, m.thread) for m in await cb.messages.take("ann")] == [("mira", handle.id)]


# Deadlocks over requests


async def test_a_request_to_who_waits_for_ones_lock_is_a_deadlock(cb: Callboard) -> None:
    await cb.locks.acquire("r", owner="asker")
    asking = asyncio.create_task(
        cb.messages.request("noor", "?", owner="asker", timeout=30, sender="mira")
    )
    await until(lambda: _unread(cb, "noor", 1))
    taken = await cb.messages.take("noor", owner="answerer")

    with pytest.raises(DeadlockVictim) as caught:
        await cb.locks.acquire("r", owner="answerer", wait=20)
    await cb.messages.reply(taken[0], "I could not")

    assert set(caught.value.details["cycle"]) == {"asker", "answerer"}
    assert (await asyncio.wait_for(asking, WAIT)).value == "I could not"


async def test_the_one_who_asks_may_be_the_victim_and_hears_it(cb: Callboard) -> None:
    await cb.locks.acquire("r", owner="asker")
    await cb.locks.acquire("x", "y", owner="answerer")
    asking = asyncio.create_task(cb.messages.request("noor", "?", owner="asker", timeout=30))
    await until(lambda: _unread(cb, "noor", 1))
    await cb.messages.take("noor", owner="answerer")
    acquiring = asyncio.create_task(cb.locks.acquire("r", owner="answerer", wait=20))

    with pytest.raises(DeadlockVictim) as caught:
        await asyncio.wait_for(asking, WAIT)
    await cb.locks.release_all("asker")

    assert set(caught.value.details["cycle"]) == {"asker", "answerer"}
    assert (await asyncio.wait_for(acquiring, WAIT)).resources == ("r",)


async def test_a_request_to_an_agent_all_of_whose_capacity_waits_for_one_is_refused_at_once(
    cb: Callboard,
) -> None:
    await cb.agents.register("noor", max_concurrent=1)
    await cb.tasks.submit("work", priority="high")
    claimed = (await cb.tasks.claim("noor")).tasks[0]
    await cb.locks.acquire("r", owner="asker")
    waiting = asyncio.create_task(cb.locks.acquire("r", owner=claimed, wait=20, priority=50))
    await until(lambda: _waits(cb))

    with pytest.raises(DeadlockVictim, match="r, "):
        await cb.messages.request("noor", "?", owner="asker", timeout=20)

    assert await cb.messages.unread("noor") == 0
    await cb.locks.release_all("asker")
    assert (await asyncio.wait_for(waiting, WAIT)).owner.startswith("claim:")


async def test_a_request_over_ends_its_wait(cb: Callboard) -> None:
    with pytest.raises(RequestTimeout):
        await cb.messages.request("noor", "?", owner="asker", timeout=0.05)

    graph = await cb.locks.graph()

    assert graph.edges == ()


# What goes wrong, and how often


@pytest.mark.parametrize("concurrency", [400])
async def test_many_handlers_at_once_keep_their_leases_and_stop_clean(
    cb: Callboard, concurrency: int
) -> None:
    begun = 0

    async def handler(_: Message) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    await cb.messages.send_many([MessageSpec(to="noor", payload=n) for n in range(1_500)])
    task = asyncio.create_task(
        cb.messages.serve("noor", handler, concurrency=concurrency, lease=30.0)
    )
    await until(lambda: _is(lambda: begun == concurrency))
    await stopped(task)

    counts = await cb.messages.counts("noor")
    assert (counts.waiting, counts.taken) == (1_500, 0)


@pytest.mark.parametrize("text", ["bad \udc80 name", "x" * 5_000], ids=["half", "long"])
async def test_whatever_an_exception_says_the_server_goes_on(
    cb: Callboard, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    # pytest's processes tell each other what was logged, and half a character cannot be told.
    caplog.set_level(logging.CRITICAL, logger="callboard")
    found: list[Any] = []

    async def handler(message: Message) -> None:
        if message.value == "bad":
            raise ValueError(text)
        found.append(message.value)

    await cb.messages.send("noor", "bad", max_deliveries=1, id="bad")
    await cb.messages.send("noor", "good")
    task = asyncio.create_task(cb.messages.serve("noor", handler))
    await until(lambda: _is(lambda: found == ["good"]))
    await stopped(task)

    dead = await cb.messages.get("bad")
    assert dead.status == "dead"
    assert dead.error.startswith(f"ValueError: {text[:3]}")


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


async def test_an_exception_without_words_is_a_failure_too(cb: Callboard) -> None:
    async def handler(_: Message) -> None:
        raise _Unspeakable

    await cb.messages.send("noor", 1, max_deliveries=1, id="bad")
    task = asyncio.create_task(cb.messages.serve("noor", handler))

    async def is_dead() -> bool:
        return (await cb.messages.get("bad")).status == "dead"

    await until(is_dead)
    assert not task.done()
    await stopped(task)


@pytest.mark.parametrize("way", ["serve", "listen"])
async def test_a_listener_cancelled_while_it_takes_gives_back_unharmed(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    inner = cb.messages._functions.call
    task: asyncio.Task[Any]

    async def cancelling(name: str, *values: Any) -> Any:
        reply = await inner(name, *values)
        if name == "message_take":  # It is done on the engine, and not known here yet.
            task.cancel()
            await asyncio.sleep(0)
        return reply

    async def handler(_: Message) -> None:
        await asyncio.Event().wait()

    async def listen() -> None:
        async for _ in cb.messages.listen("noor"):
            pass

    await cb.messages.send("noor", 1)
    monkeypatch.setattr(cb.messages._functions, "call", cancelling)
    task = asyncio.create_task(cb.messages.serve("noor", handler) if way == "serve" else listen())
    await asyncio.gather(task, return_exceptions=True)
    monkeypatch.undo()

    assert task.cancelled()
    taken = await cb.messages.take("noor")
    assert [message.deliveries for message in taken] == [1]


async def test_a_broadcast_whose_hearing_was_lost_is_not_settled(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cb.agents.register("noor")
    await cb.messages.broadcast("one")
    lost = asyncio.Event()

    async def fails(*_: Any, **__: Any) -> None:
        lost.set()
        raise OutcomeUnknown("Late.")

    listener = Listener(
        cb.messages, cb.namespace.bells, "noor", batch=16, lease=0.3, taker="t", broadcasts=True
    )
    async with listener, asyncio.timeout(WAIT):
        found = await listener.next()
        with monkeypatch.context() as patch:
            patch.setattr(cb.messages, "heard", fails)
            await lost.wait()
            await until(lambda: listener._hearing is None)
        why = await listener.settle(found)

    assert isinstance(why, LeaseLost), why


async def test_a_message_whose_lease_was_lost_is_not_handed_over_and_told_of(
    cb: Callboard,
) -> None:
    await cb.messages.send("noor", id="m1")
    await cb.messages.send("noor", id="m2")
    told: list[str] = []
    listener = Listener(
        cb.messages,
        cb.namespace.bells,
        "noor",
        batch=2,
        lease=0.3,
        taker="t",
        broadcasts=False,
        lost=lambda message: told.append(message.id),
    )
    async with listener, asyncio.timeout(WAIT):
        first = await listener.next()
        await cb.messages.acknowledge_ids("noor", [("m2", listener._held["m2"].fence)])
        await until(lambda: told)
        await cb.messages.send("noor", id="m3")
        following = await listener.next()
        await listener.done(first)

    assert (first.id, told, following.id) == ("m1", ["m2"], "m3")


async def test_a_listener_cancelled_while_it_reads_broadcasts_lets_others_read_them(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = cb.messages._functions.call
    task: asyncio.Task[Any]

    async def cancelling(name: str, *values: Any) -> Any:
        reply = await inner(name, *values)
        if name == "message_hear":  # It is done on the engine, and not known here yet.
            task.cancel()
            await asyncio.sleep(0)
        return reply

    async def listen() -> None:
        async for _ in cb.messages.listen("noor"):
            pass

    await cb.agents.register("noor")
    await cb.messages.broadcast(1)
    monkeypatch.setattr(cb.messages._functions, "call", cancelling)
    task = asyncio.create_task(listen())
    await asyncio.gather(task, return_exceptions=True)
    monkeypatch.undo()

    hearing = await cb.messages.hear("noor")
    assert hearing is not None
    assert [message.value for message in hearing.messages] == [1]


async def test_a_request_asked_again_waits_no_longer_than_it_says(cb: Callboard) -> None:
    await cb.messages.send_request("noor", 1, timeout=60, id="known")

    async with asyncio.timeout(WAIT):
        with pytest.raises(RequestTimeout) as caught:
            await cb.messages.request("noor", 1, timeout=0.1, id="known")

    assert caught.value.details["state"] == "timeout"
    assert (await cb.messages.get("known")).status == "pending"


async def test_waiting_for_a_request_without_a_deadline_asks_seldom(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cb.messages.send_request("noor", 1, timeout=0.2, id="late", max_deliveries=1)
    taken = await cb.messages.take("noor")
    deadline = taken[0].expires_at
    assert deadline is not None
    await until(lambda: _is(lambda: datetime.now(UTC) > deadline))
    await cb.messages.release_many(taken)
    await cb.messages.requeue("noor", "late")
    inner, asked = cb.messages._functions.call, 0

    async def counting(name: str, *values: Any) -> Any:
        nonlocal asked
        asked += name == "message_await"
        return await inner(name, *values)

    monkeypatch.setattr(cb.messages._functions, "call", counting)
    with pytest.raises(RequestTimeout):
        await cb.messages.wait_reply("late", timeout=0.5)

    assert asked <= 3


async def test_a_broadcast_that_fails_comes_again_without_its_neighbours(cb: Callboard) -> None:
    calls: list[Any] = []

    async def handler(message: Message) -> None:
        calls.append(message.value)
        if message.value == 3 and calls.count(3) < 3:
            raise ValueError
        await asyncio.sleep(0.002)

    await cb.agents.register("noor")
    for n in range(12):
        await cb.messages.broadcast(n)
    task = asyncio.create_task(cb.messages.serve("noor", handler, concurrency=4, backoff=0.05))

    async def all_heard() -> bool:
        return (await cb.messages.counts("noor")).broadcasts == 0

    await until(all_heard)
    await stopped(task)

    assert sorted(calls) == sorted([*range(12), 3, 3])


async def _is(holds: Callable[[], bool]) -> bool:
    return holds()


async def _waits(cb: Callboard) -> bool:
    return len(await cb.locks.waits()) == 1


async def _unread(cb: Callboard, agent: str, count: int) -> bool:
    return await cb.messages.unread(agent) == count


# Addresses and what is kept with a message


async def test_metadata_comes_back_with_the_message(cb: Callboard) -> None:
    await cb.messages.send("noor", 1, id="m", metadata={"wave": 2, "deep": [{"a": None}]})

    (taken,) = await cb.messages.take("noor")

    assert taken.metadata == {"wave": 2, "deep": [{"a": None}]}
    assert (await cb.messages.get("m")).metadata == taken.metadata
    assert (await cb.messages.history(receiver="noor")).messages[0].metadata == taken.metadata


async def test_what_is_for_all_who_are_registered_lies_in_each_inbox_but_the_senders(
    cb: Callboard,
) -> None:
    for name in ("mira", "noor", "ann"):
        await cb.agents.register(name, agent_type="worker" if name == "mira" else "critic")

    sent = await cb.messages.send(REGISTERED, "hello", sender="mira")

    assert sorted(sent.recipients) == ["ann", "noor"]
    assert [message.value for message in await cb.messages.take("noor")] == ["hello"]
    assert await cb.messages.take("mira") == []
