"""The dispatcher with real agents behind HTTP: who gets what, and what becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from callboard import Callboard, TaskSpec
from callboard.dispatch import Dispatcher, DispatchSettings
from callboard.dispatch.client import Client
from callboard.dispatch.dispatcher import pause_after
from callboard.dispatch.outcomes import Ended
from callboard.domain.breaker import BreakerPolicy
from callboard.domain.retry import RetryPolicy
from callboard.domain.task import Requirements, Status, Task
from callboard.exceptions import EngineError, InvalidArgument
from callboard.services.deliveries import Deliveries, Dispatched
from tests.dispatch.agents import (
    Agent,
    Answer,
    answers,
    completes,
    hangs,
    hangs_up,
    running,
)
from tests.dispatch.conftest import Start
from tests.sdk.workers import worker_of, working
from tests.waiting import until

AT_ONCE = RetryPolicy(max_retries=1, base=0.01, cap=0.02)
ANY_MESSAGE = b'{"payload": {}}'
ANALYSIS = Requirements(capabilities=("analysis",))


async def register(cb: Callboard, name: str, agent: Agent | None = None, **fields: Any) -> None:
    endpoints = {"http": agent.url} if agent else {}
    await cb.agents.register(name, endpoints=endpoints, heartbeat_interval=60, **fields)


async def submit(cb: Callboard, count: int, **fields: Any) -> list[str]:
    specs = [TaskSpec(kind="work", payload={"n": n}, **fields) for n in range(count)]
    return [task.id for task in await cb.tasks.submit_many(specs)]


async def ended(cb: Callboard, *ids: str) -> list[Task]:
    async def all_ended() -> list[Task] | None:
        found = [await cb.tasks.get(task) for task in ids]
        return found if all(task.status.is_finished for task in found) else None

    tasks: list[Task] = await until(all_ended)
    return tasks


async def in_status(cb: Callboard, task: str, status: Status) -> Task:
    async def is_there() -> Task | None:
        found = await cb.tasks.get(task)
        return found if found.status is status else None

    found: Task = await until(is_there)
    return found


# Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"boards": ()},
        {"boards": ("a b",)},
        {"strategy": "best_idle"},
        {"strategy": "mine"},
        {"push_timeout": 0},
        {"push_timeout": True},
        {"lease": 4_000},
        {"per_agent": 0},
        {"concurrency": 1.5},
        {"batch": 2_000},
        {"deliveries": 0},
    ],
    ids=lambda wrong: "_".join(str(wrong).split()),
)
async def test_settings_out_of_their_bounds_are_refused(
    cb: Callboard, wrong: Mapping[str, Any]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Dispatcher(cb, DispatchSettings(**wrong))

    assert next(iter(wrong)).removesuffix("s") in str(caught.value).lower()


# What agents get


async def test_the_message_is_the_documented_one(cb: Callboard, start: Start) -> None:
    async with running(answers(202)) as agent:
        await register(cb, "hermes", agent, capabilities=["analysis"])
        await start(lease=120)
        (task,) = await submit(cb, 1, priority="urgent", requirements=ANALYSIS)
        await agent.has(1)

    (message,), (head,) = agent.messages, agent.heads
    payload = message["payload"]
    found = await cb.tasks.get(task)
    assert head.startswith(b"POST /tasks/execute HTTP/1.1\r\n")
    assert f"idempotency-key: default/{task}\r\n".encode() in head
    assert f"callboard-fence: {found.fence}\r\n".encode() in head
    assert set(message) == {
        *("id", "sender_id", "receiver_id", "message_type", "priority", "timestamp", "payload"),
        *("correlation_id", "reply_to", "ttl"),
    }
    assert (message["sender_id"], message["receiver_id"]) == ("task_distributor", "hermes")
    assert (message["message_type"], message["ttl"]) == ("task_assignment", 300)
    assert (message["priority"], payload["priority"]) == ("critical", "urgent")
    assert message["timestamp"].endswith("+00:00")
    assert {name: payload[name] for name in ("task_id", "task_type", "task_data")} == {
        "task_id": task, "task_type": "work", "task_data": {"n": 0},
    }  # fmt: skip
    assert payload["requirements"] == {"capabilities": ["analysis"]}
    assert payload["assigned_agent"] == "hermes"
    assert (payload["board"], payload["attempt"], payload["fence"]) == ("default", 1, found.fence)
    assert payload["lease"] == 120


async def test_the_query_of_an_address_stays_behind_the_path(cb: Callboard, start: Start) -> None:
    async with running(answers(202)) as agent:
        url = f"{agent.url}/base/?tenant=a/"
        await cb.agents.register("a", endpoints={"http": url}, heartbeat_interval=60)
        await start()
        await submit(cb, 1)
        await agent.has(1)

    assert agent.heads[0].startswith(b"POST /base/tasks/execute?tenant=a/ HTTP/1.1\r\n")


@pytest.mark.parametrize("code", [200, 201, 202, 204])
async def test_a_task_that_is_accepted_is_at_work_under_the_lease(
    cb: Callboard, start: Start, code: int
) -> None:
    async with running(answers(code)) as agent:
        await register(cb, "a", agent)
        await start(lease=300)
        (task,) = await submit(cb, 1)

        found = await in_status(cb, task, Status.IN_PROGRESS)

    assert found.agent == "a"
    answer = await cb.tasks.complete(task, fence=found.fence, result={"by": "rest"})
    assert answer.status == "ok"
    assert (await cb.tasks.get(task)).result == {"by": "rest"}


async def test_a_task_that_is_completed_before_it_was_accepted_is_no_alarm(
    cb: Callboard, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "callboard.dispatch")

    async def ends_it_first(_: Agent, message: dict[str, Any]) -> Answer:
        task = message["payload"]
        await cb.tasks.complete(task["task_id"], fence=task["fence"], result="early")
        return 202, b""

    async with running(ends_it_first) as agent:
        await register(cb, "a", agent)
        await start()
        (found,) = await ended(cb, *await submit(cb, 1))
        await until(lambda: asyncio.sleep(0, "was pushed, but" in caplog.text))

    assert found.result == "early"
    told = [one.levelname for one in caplog.records if "was pushed, but" in one.message]
    assert told == ["DEBUG"]


@pytest.mark.parametrize("status", ["completed", "done", "COMPLETED"])
async def test_a_result_in_the_answer_completes_it(
    cb: Callboard, start: Start, status: str
) -> None:
    async with running(answers(200, status=status, result={"sum": 3})) as agent:
        await register(cb, "a", agent)
        await start()

        (found,) = await ended(cb, *await submit(cb, 1))

    assert (found.status, found.result, found.agent) == (Status.DONE, {"sum": 3}, "a")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (200, {"status": "success", "message": "taken"}),
        (202, {"status": "completed", "result": 1}),
        (200, {"status": None}),
        (200, {}),
    ],
    ids=["success", "202", "null", "empty"],
)
async def test_an_answer_that_names_no_end_accepts(
    cb: Callboard, start: Start, code: int, body: dict[str, Any]
) -> None:
    async with running(answers(code, **body)) as agent:
        await register(cb, "a", agent)
        await start()
        (task,) = await submit(cb, 1)

        await in_status(cb, task, Status.IN_PROGRESS)


async def test_a_failure_in_the_answer_is_retried_by_the_tasks_policy(
    cb: Callboard, start: Start
) -> None:
    behave = answers(200, status="failed", error={"type": "Bad", "message": "no luck"})
    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start()

        (found,) = await ended(cb, *await submit(cb, 1, retry=AT_ONCE))

    assert (found.status, found.failures, len(agent.messages)) == (Status.FAILED, 2, 2)
    assert found.error is not None
    assert (found.error["type"], found.error["message"]) == ("Bad", "no luck")
    assert [letter.id for letter in await cb.dead_letters.list()] == [found.id]


@pytest.mark.parametrize(
    "result",
    [b'"\\ud800"', b'"\xff"', b'"' + b"x" * 1_048_577 + b'"', b"[" * 100_000 + b"]" * 100_000],
    ids=["surrogate", "bytes", "large", "deep"],
)
async def test_a_result_that_cannot_be_kept_fails_that_task_alone(
    cb: Callboard, start: Start, result: bytes
) -> None:
    async def behave(_: Agent, message: dict[str, Any]) -> Answer:
        is_bad = message["payload"]["task_data"]["n"] == 3
        return 200, b'{"status":"completed","result":' + (result if is_bad else b"1") + b"}"

    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start(lease=1)
        ids = await submit(cb, 7, retry=RetryPolicy(max_retries=0))
        good = await ended(cb, *ids[:3], *ids[4:])
        (bad,) = await ended(cb, ids[3])

    assert [task.result for task in good] == [1] * 6
    assert bad.status is Status.FAILED


async def test_a_failure_that_is_not_to_be_retried_is_final(cb: Callboard, start: Start) -> None:
    behave = answers(200, status="failed", error="no", retryable=False)
    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start()

        (found,) = await ended(cb, *await submit(cb, 1))

    assert (found.status, found.failures, len(agent.messages)) == (Status.FAILED, 1, 1)


@pytest.mark.parametrize("code", [400, 404, 422])
async def test_a_refusal_is_a_failed_attempt(cb: Callboard, start: Start, code: int) -> None:
    async with running(answers(code, detail="no such task type")) as agent:
        await register(cb, "a", agent)
        await start()

        (found,) = await ended(cb, *await submit(cb, 1, retry=AT_ONCE))

    assert (found.status, found.failures) == (Status.FAILED, 2)
    assert found.error is not None
    assert "no such task type" in found.error["message"]


# Agents that are not well


@pytest.mark.parametrize(
    "behave",
    [answers(500), answers(503), answers(429), answers(302), hangs_up],
    ids=["500", "503", "429", "redirect", "hangs_up"],
)
async def test_what_cannot_be_delivered_is_retried_and_ends_as_a_dead_letter(
    cb: Callboard, start: Start, behave: Any
) -> None:
    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start(deliveries=2)

        tasks = await ended(cb, *await submit(cb, 3, retry=AT_ONCE))

    assert [(task.status, task.failures) for task in tasks] == [(Status.FAILED, 2)] * 3
    assert {task.error["type"] for task in tasks if task.error} == {"undelivered"}
    assert len(await cb.dead_letters.list()) == 3
    assert Counter(agent.tasks) == Counter({task.id: 4 for task in tasks})


async def test_nobody_listening_is_the_same(cb: Callboard, start: Start) -> None:
    async with running(answers(202)) as agent:
        pass
    await register(cb, "a", agent)
    await start(deliveries=1)

    (found,) = await ended(cb, *await submit(cb, 1, retry=AT_ONCE))

    assert found.error is not None
    assert "cannot be reached" in found.error["message"]


async def test_an_agent_that_recovers_is_given_work_again(cb: Callboard, start: Start) -> None:
    is_well = asyncio.Event()

    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        return (202, b"") if is_well.is_set() else (500, b"")

    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start(deliveries=100)
        ids = await submit(cb, 5)
        await agent.has(5)
        is_well.set()

        for task in ids:
            found = await in_status(cb, task, Status.IN_PROGRESS)
            assert found.failures == 0


async def test_a_hung_agent_keeps_nobody_waiting(cb: Callboard, start: Start) -> None:
    async with running(hangs) as hung, running(completes()) as well:
        await register(cb, "hung", hung)
        await register(cb, "well", well)
        dispatcher = await start(push_timeout=0.5, per_agent=4, delay=0.01)
        began = time.monotonic()
        ids = await submit(cb, 100, priority="low") + await submit(cb, 1, priority="urgent")

        tasks = await ended(cb, *ids)

    assert all(task.status is Status.DONE and task.agent == "well" for task in tasks)
    assert time.monotonic() - began < 10
    assert hung.most <= 4
    assert dispatcher.state().undelivered >= 1


async def test_many_hung_agents_leave_places_for_those_that_answer(
    cb: Callboard, start: Start
) -> None:
    async with running(hangs) as hung, running(completes()) as well:
        await register(cb, "well", well, kinds=["quick"])
        for i in range(40):
            await register(cb, f"hung{i}", hung, kinds=["stuck"])
        dispatcher = await start(push_timeout=60, concurrency=32, per_agent=8, stop_timeout=0)
        quick = TaskSpec(kind="quick", priority=30)
        await ended(cb, *(task.id for task in await cb.tasks.submit_many([quick])))
        await cb.tasks.submit_many([TaskSpec(kind="stuck")] * 400)
        await hung.has(28)

        tasks = await ended(cb, *(task.id for task in await cb.tasks.submit_many([quick] * 20)))

    assert {task.agent for task in tasks} == {"well"}
    assert (len(hung.messages), dispatcher.state().undelivered) == (28, 0)


async def test_an_agent_answers_that_was_heard_last_and_not_one_whose_last_push_failed(
    cb: Callboard, start: Start
) -> None:
    async with running(completes()) as well, running(hangs_up) as broken:
        await register(cb, "well", well, kinds=["quick"])
        await register(cb, "broken", broken, kinds=["stuck"])
        dispatcher = await start()
        (quick,) = await cb.tasks.submit_many([TaskSpec(kind="quick")])
        await cb.tasks.submit_many([TaskSpec(kind="stuck")])
        await ended(cb, quick.id)
        await until(lambda: dispatcher.state().undelivered >= 1)

    assert list(dispatcher._answered) == ["well"]


async def test_a_place_that_gets_free_as_it_looks_is_not_given_to_those_that_hang(
    cb: Callboard, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Sequence[Ended]] = []
    hand_in, next_places = Dispatcher._handed_in, Dispatcher._next_places

    def places(dispatcher: Dispatcher) -> int:
        found = next_places(dispatcher)
        if kept and dispatcher.state().under_way == 28:
            asyncio.get_running_loop().call_soon(hand_in, dispatcher, kept.pop())
        return found

    monkeypatch.setattr(Dispatcher, "_handed_in", lambda _, batch: kept.append(batch))
    monkeypatch.setattr(Dispatcher, "_next_places", places)
    async with running(hangs) as hung, running(completes()) as well:
        await register(cb, "well", well, kinds=["quick"])
        for i in range(40):
            await register(cb, f"hung{i}", hung, kinds=["stuck"])
        dispatcher = await start(push_timeout=60, concurrency=32, per_agent=8, stop_timeout=0)
        (quick,) = await cb.tasks.submit_many([TaskSpec(kind="quick")])
        await ended(cb, quick.id)
        await cb.tasks.submit_many([TaskSpec(kind="stuck")] * 400)
        await hung.has(28)
        rounds = dispatcher.state().rounds

        async def has_looked_again() -> bool:
            return dispatcher.state().rounds > rounds + 1

        await until(has_looked_again)

    assert kept == []
    assert len(hung.messages) == 28


async def test_who_gets_free_while_it_is_looked_for_others_is_looked_at_again(
    cb: Callboard, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = asyncio.Event()
    dispatch = Deliveries.dispatch

    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        await may_answer.wait()
        return 202, b""

    async def late(deliveries: Deliveries, **how: Any) -> Dispatched:
        found = await dispatch(deliveries, **how)
        if how["busy"] == {"a": 0}:
            may_answer.set()
            await until(is_free)
        return found

    async with running(behave) as agent:
        await register(cb, "a", agent)
        monkeypatch.setattr(Deliveries, "dispatch", late)
        dispatcher = await start(per_agent=1, poll=60)

        async def is_free() -> bool:
            return bool(dispatcher.state().under_way == 0)

        ids = await submit(cb, 1)
        await agent.has(1)
        ids += await submit(cb, 1)
        await agent.has(2)

    assert agent.tasks == ids


async def test_no_more_bytes_are_under_way_than_memory_has_room_for(
    cb: Callboard, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.dispatch.dispatcher.BYTES_MAX", 1_000)

    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        await asyncio.sleep(0.02)
        return 200, b'{"status":"completed"}'

    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start(batch=1, poll=60)
        specs = [TaskSpec(kind="work", payload="x" * 600)] * 10

        async with asyncio.timeout(20):  # No poll is waited for.
            await ended(cb, *(task.id for task in await cb.tasks.submit_many(specs)))

    assert agent.most == 2


async def test_no_agent_is_asked_more_at_once_than_it_may(cb: Callboard, start: Start) -> None:
    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        await asyncio.sleep(0.02)
        return 200, b'{"status":"completed"}'

    async with running(behave) as one, running(behave) as two:
        await register(cb, "one", one)
        await register(cb, "two", two)
        await start(per_agent=3, concurrency=5)

        tasks = await ended(cb, *await submit(cb, 40))

    assert all(task.status is Status.DONE for task in tasks)
    assert one.most <= 3
    assert two.most <= 3
    assert one.most + two.most <= 5 + 1


async def test_who_was_asked_all_at_once_that_it_may_is_asked_again_as_it_has_answered(
    cb: Callboard, start: Start
) -> None:
    async with running(answers(202)) as agent:
        await register(cb, "a", agent)
        await start(per_agent=2, poll=60)
        await submit(cb, 30)

        await agent.has(30, seconds=10)

    assert agent.most <= 2


async def breaker_is(cb: Callboard, state: str) -> bool:
    return (await cb.breakers.get("agent:a")).state == state


async def test_a_breaker_of_an_agent_is_probed_by_a_push(cb: Callboard, start: Start) -> None:
    is_well = asyncio.Event()

    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        return (200, b'{"status":"completed"}') if is_well.is_set() else (500, b"")

    policy = BreakerPolicy(
        failure_threshold=2, open_for=0.3, half_open_limit=1, success_threshold=1
    )
    await cb.breakers.configure("agent:a", policy, gates=True)
    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start(per_agent=1, rest_after=100, deliveries=100)
        ids = await submit(cb, 5)
        await until(lambda: breaker_is(cb, "open"))
        assert len(agent.messages) == 2
        is_well.set()

        tasks = await ended(cb, *ids)

    assert all(task.status is Status.DONE for task in tasks)
    assert await breaker_is(cb, "closed")


async def test_an_agent_is_given_no_more_than_it_has_room_for(cb: Callboard, start: Start) -> None:
    async with running(answers(202)) as agent:
        await register(cb, "a", agent, max_concurrent=2)
        await start()
        ids = await submit(cb, 5)
        await agent.has(2)
        held = [await in_status(cb, task, Status.IN_PROGRESS) for task in agent.tasks]

        await cb.tasks.complete(held[0].id, fence=held[0].fence)
        await agent.has(3)

        assert (await cb.boards.get("default")).counts.held == 2
        assert set(agent.tasks) == set(ids[:3])


# When there is work


async def test_a_task_waits_for_an_agent_and_why_says_so(cb: Callboard, start: Start) -> None:
    await start(poll=30)
    (task,) = await submit(cb, 1)
    assert (await cb.tasks.why(task)).code == "no_agents"

    async with running(completes()) as agent:
        await register(cb, "a", agent)

        (found,) = await ended(cb, task)

    assert found.status is Status.DONE


async def test_an_agent_that_becomes_active_is_given_what_waits(
    cb: Callboard, start: Start
) -> None:
    async with running(completes()) as agent:
        await register(cb, "a", agent, status="maintenance")
        await start(poll=30)
        (task,) = await submit(cb, 1)
        why = await cb.tasks.why(task)
        assert (why.code, dict(why.agents)) == ("agents_draining", {"draining": ("a",)})
        await cb.agents.register("left")
        await cb.agents.leave("left")
        why = await cb.tasks.why(task)
        assert why.agents.get("inactive") == ("left",), why
        assert "being draining: a; being inactive: left." in why.text

        await cb.agents.set_status("a", "active")

        (found,) = await ended(cb, task)

    assert found.status is Status.DONE


async def test_who_answers_pushes_is_heard_without_a_heartbeat(cb: Callboard, start: Start) -> None:
    async with running(completes()) as done, running(answers(400)) as refuses:
        for name, agent in (("done", done), ("refuses", refuses)):
            await cb.agents.register(
                name, kinds=[name], endpoints={"http": agent.url}, heartbeat_interval=0.4
            )
        await start()
        began = {name: (await cb.agents.get(name)).last_heartbeat for name in ("done", "refuses")}
        until_at = time.monotonic() + 2.5
        while time.monotonic() < until_at:
            specs = [TaskSpec(kind=name, retry=RetryPolicy(max_retries=0)) for name in began]
            await ended(cb, *(task.id for task in await cb.tasks.submit_many(specs)))

        for name, before in began.items():
            found = await cb.agents.get(name)
            assert found.status == "active"
            assert found.last_heartbeat is not None
            assert before is not None
            assert found.last_heartbeat > before


async def test_an_agent_that_asks_for_time_costs_no_task_its_retries(
    cb: Callboard, start: Start
) -> None:
    times = 0

    async def behave(_: Agent, message: dict[str, Any]) -> Answer:
        nonlocal times
        times += 1
        return (429, b"") if times <= 8 else (200, b'{"status":"completed"}')

    async with running(behave) as agent:
        agent.headers["retry-after"] = "0"
        await register(cb, "a", agent)
        await start(deliveries=1)

        (found,) = await ended(cb, *await submit(cb, 1, retry=RetryPolicy(max_retries=0)))

    assert (found.status, found.failures, times) == (Status.DONE, 0, 9)


async def test_an_agent_that_takes_and_gives_back_is_not_pushed_to_without_end(
    cb: Callboard, start: Start
) -> None:
    async def behave(_: Agent, message: dict[str, Any]) -> Answer:
        task = message["payload"]
        await cb.tasks.release(task["task_id"], fence=task["fence"])
        return 202, b""

    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start()
        await start()
        (task,) = await submit(cb, 1)

        await in_status(cb, task, Status.SCHEDULED)

        assert len(agent.messages) == 9
        why = await cb.tasks.why(task)
        assert (why.code, why.agent) == ("turned_down", "a")


async def test_an_agent_that_always_asks_for_time_keeps_no_task_from_another(
    cb: Callboard, start: Start
) -> None:
    async with running(answers(503)) as never, running(answers(202)) as well:
        never.headers["retry-after"] = "0"
        await register(cb, "well", well)
        await start()
        await submit(cb, 1)
        await well.has(1)  # so that the other one has less to do
        await register(cb, "never", never)
        (task,) = await submit(cb, 1)

        found = await in_status(cb, task, Status.IN_PROGRESS)

    assert (found.agent, len(never.messages)) == ("well", 1)


async def test_what_is_broken_off_from_elsewhere_is_a_delivery_that_failed(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_off(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(Client, "request", broken_off)
    async with running(answers(202)) as agent:
        await register(cb, "a", agent)
        async with Dispatcher(cb, DispatchSettings(deliveries=1)) as dispatcher:
            (found,) = await ended(cb, *await submit(cb, 1, retry=RetryPolicy(max_retries=0)))

    counts = dispatcher.state()
    assert (counts.released, counts.undelivered) == (0, 1)
    assert found.error is not None
    assert found.error["message"] == "Pushing to agent a was broken off."


async def test_a_dispatcher_that_stops_turns_nothing_down_for_its_agents(cb: Callboard) -> None:
    async with running(hangs) as agent:
        await register(cb, "a", agent)
        (task,) = await submit(cb, 1)
        async with Dispatcher(cb, DispatchSettings(stop_timeout=0.01)) as dispatcher:
            await agent.has(1)
        why = await cb.tasks.why(task)

    assert dispatcher.state().released == 1
    assert "turned down" not in why.text


async def test_where_nothing_waits_it_looks_less_and_less_often_and_a_bell_still_wakes_it(
    cb: Callboard, start: Start
) -> None:
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        dispatcher = await start(poll=0.05)

        async def is_patient() -> bool:
            return bool(dispatcher._quiet > 0.5)

        await until(is_patient)
        rounds = dispatcher.state().rounds
        began = time.monotonic()
        await ended(cb, *await submit(cb, 1))

        assert rounds < 10
        assert time.monotonic() - began < 0.4
        await cb.tasks.submit("nobody", requirements=Requirements(capabilities=("none",)))
        await until(lambda: is_eager(dispatcher))


async def is_eager(dispatcher: Dispatcher) -> bool:
    return dispatcher._quiet == 0.05


async def test_why_says_that_agents_rest_after_failed_deliveries(
    cb: Callboard, start: Start
) -> None:
    async with running(answers(500)) as agent:
        await register(cb, "a", agent)
        await start(rest_after=1, rest=60, rest_most=60, delay=0.01, delay_most=0.01)
        (task,) = await submit(cb, 1)
        await agent.has(1)
        await in_status(cb, task, Status.PENDING)

        why = await cb.tasks.why(task)
        agent_now = await cb.agents.get("a")

    assert why.code == "agents_resting"
    assert "failed of late: a. The next is tried in" in why.text
    assert (agent_now.state, agent_now.undelivered) == ("not_consuming", 1)
    assert agent_now.rests_until == why.until
    assert "the last delivery to its address failed" in agent_now.reason


async def test_only_the_boards_that_it_serves_are_dispatched(cb: Callboard, start: Start) -> None:
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        await start(boards=("one", "two"))
        left = await submit(cb, 1)
        one = await cb.board("one").tasks.submit("work")
        two = await cb.board("two").tasks.submit("work")

        await agent.has(2)

        assert set(agent.tasks) == {one.id, two.id}
        assert (await cb.tasks.get(left[0])).status is Status.PENDING


async def test_a_star_is_every_board_of_the_namespace(cb: Callboard, start: Start) -> None:
    early = await cb.board("early").tasks.submit("work")
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        dispatcher = await start(boards=("*",), poll=0.05)
        await agent.has(1)
        plain = await submit(cb, 1)
        late = await cb.board("late").tasks.submit("work")
        await agent.has(3)
        await until(lambda: is_done(cb, "late", late.id))
        await cb.boards.remove("late")
        anew = await cb.board("late").tasks.submit("work")
        await agent.has(4)

        assert set(agent.tasks) == {early.id, *plain, late.id, anew.id}
        assert dispatcher.is_running


async def is_done(cb: Callboard, board: str, task: str) -> bool:
    return (await cb.board(board).tasks.get(task)).status is Status.DONE


async def test_workers_pull_beside_it(cb: Callboard, start: Start) -> None:
    async def work(_: dict[str, int]) -> str:
        await asyncio.sleep(0.001)
        return "pulled"

    worker = worker_of("sdk", handlers={"work": work}, concurrency=4)
    async with running(completes("pushed")) as agent, working(cb, worker):
        await register(cb, "a", agent)
        await start()
        tasks = await ended(cb, *await submit(cb, 200))

    assert {task.status for task in tasks} == {Status.DONE}
    assert {task.result for task in tasks} <= {"pushed", "pulled"}
    assert all((task.result == "pushed") == (task.agent == "a") for task in tasks)


async def test_it_stops_where_pushes_end_while_others_are_handed_in(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_handed_in, may_end = asyncio.Event(), asyncio.Event()
    delivered = Deliveries.delivered

    async def late(deliveries: Deliveries, *batch: Any, **how: Any) -> Any:
        is_handed_in.set()
        await may_end.wait()
        return await delivered(deliveries, *batch, **how)

    monkeypatch.setattr(Deliveries, "delivered", late)
    async with running(answers(202)) as agent:
        await register(cb, "a", agent)
        dispatcher = Dispatcher(cb, DispatchSettings())
        await dispatcher.start()
        await submit(cb, 1)
        await is_handed_in.wait()
        await submit(cb, 1)
        await until(lambda: dispatcher.state().accepted == 2)
        stopping = asyncio.create_task(dispatcher.stop())
        await until(lambda: all(one._is_closing for one in dispatcher._outcomes.values()))

        may_end.set()

        await asyncio.wait_for(stopping, 20)
    assert (await cb.boards.get("default")).counts.held == 2


async def test_two_dispatchers_on_one_engine_push_each_task_once(
    cb: Callboard, start: Start
) -> None:
    async with running(answers(202)) as a, running(answers(202)) as b:
        await register(cb, "a", a, max_concurrent=1_000)
        await register(cb, "b", b, max_concurrent=1_000)
        await start()
        await start()
        ids = await submit(cb, 300)
        await until(lambda: has_all(a, b, 300))

    assert sorted(a.tasks + b.tasks) == sorted(ids)
    assert (len(a.tasks), len(b.tasks)) == (150, 150)


async def has_all(a: Agent, b: Agent, count: int) -> bool:
    return len(a.messages) + len(b.messages) >= count


async def test_consistent_hash_follows_who_is_there(cb: Callboard, start: Start) -> None:
    async with running(completes()) as a, running(completes()) as b:
        await register(cb, "a", a, max_concurrent=1_000)
        await start(strategy="consistent_hash")
        await ended(cb, *await submit(cb, 20, affinity_key="k"))
        await register(cb, "b", b, max_concurrent=1_000)
        await cb.agents.set_status("a", "inactive")

        await ended(cb, *await submit(cb, 20, affinity_key="k"))

    assert (len(a.messages), len(b.messages)) == (20, 20)


async def test_it_goes_on_once_the_engine_is_back(cb: Callboard, start: Start) -> None:
    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        await asyncio.sleep(0.01)
        return 200, b'{"status":"completed"}'

    async with running(behave) as agent:
        await register(cb, "a", agent)
        await start(push_timeout=0.5, per_agent=5)
        ids = await submit(cb, 200)
        for count in (20, 60, 120):
            await agent.has(count)
            kill = ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
            with suppress(EngineError):
                await cb.namespace.connection.call(*kill)

        async def all_done() -> bool:
            with suppress(EngineError):
                return (await cb.boards.get("default")).counts.done == len(ids)
            return False

        await until(all_done)

    assert (await cb.scheduler.distribution()).tasks_failed == 0


async def test_the_tasks_of_an_agent_that_is_not_heard_go_to_another(
    cb: Callboard, start: Start
) -> None:
    async with running(answers(202)) as dies, running(completes()) as well:
        await cb.agents.register("dies", endpoints={"http": dies.url}, heartbeat_interval=0.1)
        await start()
        ids = await submit(cb, 3)
        await dies.has(3)
        await register(cb, "well", well)

        tasks = await ended(cb, *ids)

    assert [(task.agent, task.crashes) for task in tasks] == [("well", 1)] * 3


# Stopping


async def test_stopped_it_lets_pushes_end_and_gives_back_the_others(cb: Callboard) -> None:
    slow = asyncio.Event()

    async def behave(_: Agent, message: dict[str, Any]) -> Answer:
        if message["payload"]["task_data"]["n"]:
            await asyncio.Event().wait()
        await slow.wait()
        return 200, b'{"status":"completed","result":1}'

    async with running(behave) as agent:
        await register(cb, "a", agent)
        dispatcher = Dispatcher(cb, DispatchSettings(stop_timeout=0.5))
        await dispatcher.start()
        ends, hangs_on = await submit(cb, 2)
        await agent.has(2)
        asyncio.get_running_loop().call_later(0.1, slow.set)

        await dispatcher.stop()

        assert (await cb.tasks.get(ends)).status is Status.DONE
        given_back = await cb.tasks.get(hangs_on)
        assert (given_back.status, given_back.failures) == (Status.PENDING, 0)
        await submit(cb, 1)
        assert len(agent.messages) == 2
    counts = dispatcher.state()
    assert (counts.completed, counts.released, counts.under_way) == (1, 1, 0)


async def test_a_shared_client_stays_open(cb: Callboard) -> None:
    client = Client()
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        for _ in range(2):
            async with Dispatcher(cb, client=client):
                await ended(cb, *await submit(cb, 3))

        assert (await client.request("POST", agent.url, body=ANY_MESSAGE)).status == 200
    await client.aclose()


async def test_a_board_that_was_removed_is_served_again(cb: Callboard, start: Start) -> None:
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        await start(boards=("brief",), poll=0.05)
        await until(lambda: is_there(cb, "brief"))
        await cb.boards.remove("brief")

        await until(lambda: is_there(cb, "brief"))
        await cb.board("brief").tasks.submit("work")

        await agent.has(1)


async def is_there(cb: Callboard, board: str) -> bool:
    return bool(await cb.namespace.connection.call("ZSCORE", cb.namespace.keys.boards, board))


async def test_it_can_be_started_again(cb: Callboard) -> None:
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        dispatcher = Dispatcher(cb)
        for _ in range(2):
            await dispatcher.start()
            await dispatcher.start()
            assert dispatcher.is_running
            await ended(cb, *await submit(cb, 3))
            await dispatcher.stop()
            await dispatcher.stop()

    assert len(agent.messages) == 6


# What can be seen


@pytest.mark.parametrize(
    ("took", "rests"), [(0.0019, []), (0.01, [0.03]), (1.0, [0.05])], ids=["quick", "slow", "most"]
)
async def test_a_look_that_found_nothing_and_was_slow_is_followed_by_a_rest(
    monkeypatch: pytest.MonkeyPatch, took: float, rests: list[float]
) -> None:
    rested: list[float] = []

    async def rest(seconds: float) -> None:
        rested.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", rest)
    await pause_after(took)
    monkeypatch.undo()

    assert rested == pytest.approx(rests)


async def test_the_numbers_of_the_distribution(cb: Callboard, start: Start) -> None:
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        await start()
        await ended(cb, *await submit(cb, 10))

        stats = await cb.scheduler.distribution()

    assert (stats.tasks_distributed, stats.tasks_completed, stats.tasks_failed) == (10, 10, 0)
    assert 0 <= stats.avg_distribution_time < 5
    assert stats.load.strategy == "least_connections"
    assert (stats.load.total_assignments, stats.load.success_rate) == (10, 1.0)
    assert (stats.load.active_agents, stats.load.avg_agent_load) == (1, 0.0)


async def test_observers_are_told(cb: Callboard, start: Start) -> None:
    told: list[tuple[str, Mapping[str, Any]]] = []
    cb.observers.add(lambda name, facts: told.append((name, facts)))
    async with running(completes()) as agent:
        await register(cb, "a", agent)
        await start()
        (task,) = await ended(cb, *await submit(cb, 1))

    name, facts = next(one for one in told if one[0].startswith("dispatch."))
    assert name == "dispatch.completed"
    assert (facts["task"], facts["agent"], facts["board"]) == (task.id, "a", "default")
