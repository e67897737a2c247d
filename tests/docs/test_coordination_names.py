"""What the earlier coordination design names, and what answers to each name here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest

import callboard
from callboard import exceptions
from callboard.domain import board, breaker, conflict, message, metric, strategy
from callboard.domain.agent import HEARTBEAT_DEFAULT, LOST_AFTER
from callboard.domain.event import Event
from callboard.domain.graph import GraphNode, TaskGraph
from callboard.domain.retry import RetryPolicy
from callboard.exceptions import (
    InvalidArgument,
    LeaseLost,
    LockHeld,
    NotReady,
    TaskNotFound,
)
from callboard.locking import Locks
from callboard.messaging import Messages
from callboard.services.conflicts import Conflicts
from tests.docs.event_kinds import EVENT_KINDS

pytestmark = pytest.mark.every_engine

WAIT_SECONDS: Final = 10.0


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    async with callboard.connect(engine_url, namespace=namespace, adopt=True) as opened:
        await opened.agents.register("mira", agent_type="coder", max_concurrent=10)
        await opened.agents.register("noor", agent_type="coder", max_concurrent=10)
        yield opened


def default(function: Callable[..., Any], name: str) -> Any:
    return inspect.signature(function).parameters[name].default


# Settings


@pytest.mark.parametrize(
    ("here", "documented"),
    [
        pytest.param(RetryPolicy().max_retries, 3, id="maxRetries"),
        pytest.param(RetryPolicy().base, 1.0, id="retryDelay"),
        pytest.param(RetryPolicy().factor, 2.0, id="doubled"),
        pytest.param(default(Locks.acquire, "wait"), 30.0, id="resourceTimeout"),
        pytest.param(default(Messages.request, "timeout"), 10.0, id="messageTimeout"),
        pytest.param(breaker.DOCUMENTED.failure_threshold, 5, id="failureThreshold"),
        pytest.param(breaker.DOCUMENTED.success_threshold, 3, id="successThreshold"),
        pytest.param(breaker.DOCUMENTED.open_for, 60.0, id="timeout"),
        pytest.param(breaker.DOCUMENTED.half_open_limit, 2, id="halfOpenLimit"),
        pytest.param(breaker.ASSIGN.failure_threshold, 3, id="assign-failureThreshold"),
        pytest.param(breaker.ASSIGN.success_threshold, 2, id="assign-successThreshold"),
        pytest.param(breaker.ASSIGN.open_for, 30.0, id="assign-timeout"),
        pytest.param(breaker.ASSIGN.half_open_limit, 1, id="assign-halfOpenLimit"),
        pytest.param(conflict.THRESHOLD, 0.6, id="consensusThreshold"),
        pytest.param(default(Conflicts.open_vote, "deadline"), 30.0, id="consensus_check"),
        pytest.param(metric.SAMPLE_SECONDS, 30.0, id="metricsInterval"),
        pytest.param(metric.TOP_WINDOW_SECONDS, 300.0, id="getTopMetrics"),
        pytest.param(strategy.DECISIONS_KEPT, 1_000, id="decisions"),
        pytest.param(HEARTBEAT_DEFAULT * LOST_AFTER, 30.0, id="healthCheckInterval"),
    ],
)
def test_a_default_is_the_documented_one(here: float, documented: float) -> None:
    assert here == documented


@pytest.mark.parametrize("retries", [0, 100])
@pytest.mark.parametrize("delay", [0.1, 60.0])
def test_each_documented_retry_can_be_set(retries: int, delay: float) -> None:
    policy = RetryPolicy(max_retries=retries, base=delay)

    assert (policy.max_retries, policy.base) == (retries, delay)


async def test_each_documented_timeout_can_be_set(cb: callboard.Callboard) -> None:
    for wait in (1.0, 3_600.0):
        lock = await cb.locks.acquire("db", owner="one", wait=wait, lease=wait)
        await cb.locks.release(lock)
    for timeout in (1.0, 300.0):
        sent = await cb.messages.send_request("mira", timeout=timeout)
        read = await cb.messages.get(sent.id)
        assert read.expires_at is not None
        assert (read.expires_at - read.sent_at).total_seconds() == timeout


async def test_neither_eleven_agents_nor_101_tasks_are_too_many(cb: callboard.Callboard) -> None:
    for number in range(11):
        await cb.agents.register(f"a{number}", max_concurrent=10)
    await cb.tasks.submit_many([callboard.TaskSpec(kind="work") for _ in range(101)])

    taken = [await cb.tasks.claim(f"a{number}", limit=10) for number in range(11)]

    assert sum(len(claims.tasks) for claims in taken) == 101
    await cb.boards.configure("default", board.BoardSettings(limit=10_000))
    assert (await cb.boards.get("default")).settings.limit == 10_000


@pytest.mark.parametrize("priority", [0, 100])
async def test_each_documented_priority_can_be_given(
    cb: callboard.Callboard, priority: int
) -> None:
    handle = await cb.tasks.submit("work", priority=priority)

    assert (await handle.task()).priority == priority


# Fields


async def test_a_task_is_read_with_what_it_was_documented_to_have(cb: callboard.Callboard) -> None:
    await cb.tasks.submit("parse", id="before")
    await cb.tasks.complete("before", fence=(await cb.tasks.take("before", "noor")).fence)
    handle = await cb.tasks.submit(
        "parse",
        {"path": "a.py"},
        id="t1",
        description="Parse it.",
        priority=7,
        depends_on=["before"],
        metadata={"wave": 2},
    )
    claimed = await cb.tasks.take("t1", "mira")
    await cb.tasks.start("t1", fence=claimed.fence)
    running = await handle.task()
    await cb.tasks.complete("t1", fence=claimed.fence, result=[1])
    done = await handle.task()

    assert (done.id, done.kind, done.description, done.priority) == ("t1", "parse", "Parse it.", 7)
    assert (done.depends_on, done.agent, done.metadata) == (("before",), "mira", {"wave": 2})
    assert (running.status, done.status) == ("in_progress", "done")
    assert (bytes(done.payload), done.result, done.error) == (b'{"path":"a.py"}', [1], None)
    assert done.created_at <= running.since <= done.since


async def test_an_agent_is_read_with_what_it_was_documented_to_have(
    cb: callboard.Callboard,
) -> None:
    await cb.agents.register(
        "ada",
        agent_type="researcher",
        capabilities=["web"],
        max_concurrent=4,
        priority=3,
        metadata={"model": "m"},
    )

    read = await cb.agents.get("ada")

    assert (read.id, read.agent_type, read.capabilities) == ("ada", "researcher", ("web",))
    assert (read.max_concurrent, read.priority, read.metadata) == (4, 3, {"model": "m"})


async def test_a_message_is_read_with_what_it_was_documented_to_have(
    cb: callboard.Callboard,
) -> None:
    await cb.messages.send(
        "noor", {"n": 1}, sender="mira", id="m1", type="info", priority=4, ttl=60
    )

    read = await cb.messages.get("m1")

    assert (read.id, read.type, read.value, read.priority) == ("m1", "info", {"n": 1}, 4)
    assert (read.sender, read.agent, read.sent_at.tzinfo) == ("mira", "noor", UTC)
    assert read.expires_at is not None
    assert (read.expires_at - read.sent_at).total_seconds() == 60
    assert message.MessageSpec(to="noor").type == "direct"


async def test_a_resource_is_read_with_what_it_was_documented_to_have(
    cb: callboard.Callboard,
) -> None:
    lock = await cb.locks.acquire("db", owner="one", agent="mira")

    held = await cb.locks.get("db")
    await cb.locks.release(lock)
    free = await cb.locks.get("db")

    assert (held.name, held.is_free, free.is_free) == ("db", False, True)
    assert [(one.owner, one.agent) for one in held.holders] == [("one", "mira")]
    assert held.holders[0].since <= held.holders[0].deadline


# Events


DOCUMENTED_EVENTS: Final = {
    "agent:spawned": "agent:registered",
    "agent:terminated": "agent:deregistered",
    "agent:idle": "agent:idle",
    "agent:active": "agent:active",
    "agent:error": "agent:error",
    "task:created": "task:created",
    "task:assigned": "task:assigned",
    "task:started": "task:started",
    "task:completed": "task:completed",
    "task:failed": "task:failed",
    "task:cancelled": "task:cancelled",
    "resource:acquired": "resource:acquired",
    "resource:released": "resource:released",
    "deadlock:detected": "deadlock:detected",
    "message:sent": "message:sent",
    "message:received": "message:received",
    "workstealing:request": "workstealing:request",
    "conflict:resource": "conflict:resource",
    "conflict:task": "conflict:task",
    "conflict:resolved": "conflict:resolved",
    "circuitbreaker:state-change": "circuitbreaker:state-change",
    "metrics:coordination": "metrics:coordination",
    "memory:created": "context:updated",
    "memory:updated": "context:updated",
    "memory:deleted": "context:updated",
    "task:queued": "task:created",
}


def test_each_documented_event_has_a_type() -> None:
    assert set(DOCUMENTED_EVENTS.values()) <= set(EVENT_KINDS)


async def _live(cb: callboard.Callboard) -> None:
    """What a coordinator sees in a day, but for theft, deadlock and samples."""
    await cb.agents.register("guest")
    await cb.agents.deregister("guest")
    await cb.context.set_state("mira", "idle")
    await cb.context.set_state("mira", "busy", current_task="t1")
    await cb.context.set_state("noor", "failed", current_task="t2")
    for task in ("t1", "t2", "t3"):
        await cb.tasks.submit("work", id=task)
    await cb.tasks.submit("work", id="t4", depends_on=["t1"])
    await cb.scheduler.assign("t1", strategy="round_robin")
    held = (await cb.tasks.take("t1", "mira")).fence
    await cb.tasks.start("t1", fence=held)
    await cb.tasks.complete("t1", fence=held)
    await cb.tasks.fail(
        "t2", fence=(await cb.tasks.take("t2", "noor")).fence, error="no", retryable=False
    )
    await cb.tasks.cancel("t3", reason="too late")
    lock = await cb.locks.acquire("db", owner="one", agent="mira")
    await cb.locks.release(lock)
    await cb.messages.send("noor", sender="mira", id="m1")
    await cb.messages.take("noor")
    await cb.conflicts.report("resource", "db", ["mira", "noor"], id="c1")
    await cb.conflicts.report("task", "t3", ["mira", "noor"], id="c2")
    await cb.conflicts.open_vote("c1", members=["ann"])
    await cb.conflicts.vote("c1", "ann", "noor")
    await cb.breakers.configure("search")
    await cb.breakers.force("search", "open")
    await cb.context.set("p", {"a": 1})


async def test_each_documented_event_is_told_with_who_and_what(cb: callboard.Callboard) -> None:
    cursor = await cb.events.cursor()

    await _live(cb)

    entries, _ = await cb.events.read(cursor)
    told = {
        (event.type, fact.id, fact.state, fact.holder)
        for event in entries
        if isinstance(event, Event)
        for fact in event.facts
    }
    assigned = {fact for fact in told if fact[0] == "task:assigned"}
    assert {fact[1:3] for fact in assigned} == {("t1", "assigned")}
    assert {fact[3] for fact in assigned} <= {"mira", "noor"}
    for fact in (
        ("agent:registered", "guest", "active", "guest"),
        ("agent:deregistered", "guest", "deregistered", "guest"),
        ("agent:idle", "mira", "idle", "mira"),
        ("agent:active", "mira", "busy", "mira"),
        ("agent:error", "noor", "failed", "noor"),
        ("task:created", "t1", "pending", ""),
        ("task:started", "t1", "in_progress", "mira"),
        ("task:completed", "t1", "done", "mira"),
        ("task:failed", "t2", "failed", "noor"),
        ("task:cancelled", "t3", "cancelled", ""),
        ("task:ready", "t4", "pending", ""),
        ("resource:acquired", "db", "exclusive", "one"),
        ("resource:released", "db", "released", "one"),
        ("message:sent", "m1", "pending", "mira"),
        ("message:received", "m1", "delivered", "noor"),
        ("conflict:resource", "c1", "open", ""),
        ("conflict:task", "c2", "open", ""),
        ("conflict:voting", "c1", "voting", ""),
        ("conflict:resolved", "c1", "resolved", "noor"),
        ("circuitbreaker:state-change", "search", "open", ""),
        ("context:updated", "p", "created", ""),
    ):
        assert fact in told, fact


# The event bus


async def _next(events: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(WAIT_SECONDS):
        return await anext(events)


async def test_whoever_listens_gets_each_event_that_it_asked_for(cb: callboard.Callboard) -> None:
    cursor = await cb.events.cursor()
    await cb.tasks.submit("work", id="t1")
    await cb.agents.register("guest")
    await cb.tasks.cancel("t1")

    events = cb.events.follow(cursor, types=["task:*"])
    told = [await _next(events), await _next(events)]
    await events.aclose()  # type: ignore[attr-defined]

    assert [event.type for event in told] == ["task:created", "task:cancelled"]


async def test_who_waits_for_one_event_gets_it_or_a_timeout(cb: callboard.Callboard) -> None:
    events = cb.events.follow(await cb.events.cursor(), types=["task:cancelled"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(events)

    again = cb.events.follow(await cb.events.cursor(), types=["task:cancelled"])
    waiting = asyncio.ensure_future(_next(again))
    await cb.tasks.submit("work", id="t1")
    await cb.tasks.cancel("t1")

    assert (await waiting).facts[0].id == "t1"
    await again.aclose()  # type: ignore[attr-defined]


async def test_a_listener_that_raises_reaches_neither_caller_nor_other_listeners(
    cb: callboard.Callboard,
) -> None:
    cursor = await cb.events.cursor()
    began = asyncio.Event()

    async def bad() -> None:
        async for _ in cb.events.follow(cursor):
            began.set()
            raise RuntimeError("a listener broke")

    broken = asyncio.ensure_future(bad())
    lock = await cb.locks.acquire("db", owner="one")
    async with asyncio.timeout(WAIT_SECONDS):
        await began.wait()
    good = cb.events.follow(cursor, types=["resource:acquired"])

    assert (await _next(good)).facts[0].id == "db"
    assert await cb.locks.check("db", lock.fence)
    await good.aclose()  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="broke"):
        await broken


async def test_what_one_tells_oneself_goes_to_who_subscribed(cb: callboard.Callboard) -> None:
    await cb.messages.subscribe("noor", "builds")

    sent = await cb.messages.publish("builds", {"ok": True}, sender="mira")

    assert sent.recipients == ("noor",)
    (got,) = await cb.messages.take("noor")
    assert got.value == {"ok": True}
    assert await cb.messages.unsubscribe("noor", "builds")
    assert (await cb.messages.publish("builds", sender="mira")).recipients == ()


# Errors


@pytest.mark.parametrize(
    ("raised", "code", "parent"),
    [
        pytest.param("CallboardError", "error", "Exception", id="COORDINATION_ERROR"),
        pytest.param("DeadlockVictim", "deadlock_victim", "Refused", id="DEADLOCK_ERROR"),
        pytest.param("LockHeld", "lock_held", "Refused", id="RESOURCE_LOCK_ERROR"),
        pytest.param("LockTimeout", "lock_timeout", "LockHeld", id="RESOURCE_LOCK_ERROR-timeout"),
        pytest.param("Refused", "refused", "CallboardError", id="TASK_ERROR"),
        pytest.param("NotReady", "not_ready", "Refused", id="TASK_DEPENDENCY_ERROR"),
        pytest.param("CircuitOpen", "breaker_open", "Refused", id="circuit-open"),
    ],
)
def test_a_documented_error_has_its_class_and_code(raised: str, code: str, parent: str) -> None:
    kind = getattr(exceptions, raised)

    assert kind.code == code
    assert kind.__mro__[1].__name__ == parent
    assert issubclass(kind, exceptions.CallboardError)


async def test_unmet_dependencies_are_named_and_the_task_waits_for_them(
    cb: callboard.Callboard,
) -> None:
    await cb.tasks.submit("work", id="child", depends_on=["parent", "other"])
    await cb.tasks.submit("work", id="parent")
    await cb.tasks.submit("work", id="other")

    with pytest.raises(NotReady) as refused:
        await cb.tasks.take("child", "mira")

    assert set(refused.value.details["waits_for"]) == {"parent", "other"}
    for task in ("parent", "other"):
        await cb.tasks.complete(task, fence=(await cb.tasks.take(task, "mira")).fence)
    assert (await cb.tasks.take("child", "mira")).id == "child"


# The manager and its tasks


async def test_the_tasks_of_an_agent_are_counted_and_named_in_the_order_of_their_claims(
    cb: callboard.Callboard,
) -> None:
    other = cb.board("other").tasks
    for tasks, task in ((cb.tasks, "t1"), (other, "t2"), (cb.tasks, "t3")):
        await tasks.submit("work", id=task)
    fences = [
        (await cb.tasks.take("t3", "mira")).fence,
        (await other.take("t2", "mira")).fence,
        (await cb.tasks.take("t1", "mira")).fence,
    ]

    held = await cb.agents.tasks("mira")

    assert [(one.board, one.id, one.fence) for one in held] == [
        ("default", "t3", fences[0]),
        ("other", "t2", fences[1]),
        ("default", "t1", fences[2]),
    ]
    assert (await cb.agents.get("mira")).held == 3
    assert await cb.agents.tasks("mira", limit=1) == held[:1]
    assert await cb.agents.tasks("noor") == ()
    await cb.tasks.complete("t3", fence=fences[0])
    assert [one.id for one in await cb.agents.tasks("mira")] == ["t2", "t1"]
    with pytest.raises(InvalidArgument):
        await cb.agents.tasks("mira", limit=0)
    with pytest.raises(exceptions.AgentNotFound):
        await cb.agents.tasks("nobody")


async def test_a_cancelled_task_says_why_and_takes_no_late_result(cb: callboard.Callboard) -> None:
    await cb.tasks.submit("work", id="waits")
    await cb.tasks.submit("work", id="runs")
    fence = (await cb.tasks.take("runs", "mira")).fence

    await cb.tasks.cancel("waits")
    await cb.tasks.cancel("runs", reason="User requested cancellation")
    await cb.tasks.confirm_cancel("runs", fence=fence)

    assert (await cb.tasks.get("waits")).reason == "requested"
    assert (await cb.tasks.get("runs")).reason == "User requested cancellation"
    with pytest.raises(LeaseLost):
        await cb.tasks.complete("runs", fence=fence, result="late")
    with pytest.raises(TaskNotFound):
        await cb.tasks.cancel("unknown")
    await cb.tasks.submit("work", id="stops")
    stopped = (await cb.tasks.take("stops", "mira")).fence
    await cb.tasks.confirm_cancel("stops", fence=stopped, reason="no disk")
    assert (await cb.tasks.get("stops")).reason == "no disk"


async def test_what_an_agent_has_goes_back_or_to_another_and_is_not_cancelled(
    cb: callboard.Callboard,
) -> None:
    await cb.tasks.submit("work", id="t1")
    late = (await cb.tasks.take("t1", "mira")).fence
    lock = await cb.locks.acquire("db", owner=f"claim:default:t1:{late}")

    assert await cb.agents.deregister("mira") == 1

    assert (await cb.locks.get("db")).is_free
    assert (await cb.tasks.take("t1", "noor")).fence > max(late, lock.fence)
    with pytest.raises(LeaseLost):
        await cb.tasks.complete("t1", fence=late)


async def test_a_released_lock_goes_to_its_owner_alone(cb: callboard.Callboard) -> None:
    lock = await cb.locks.acquire("db", owner="one")
    with pytest.raises(LockHeld):
        await cb.locks.acquire("db", owner="two", wait=0)

    with pytest.raises(exceptions.LockLost):
        await cb.locks.release("db", owner="two")

    assert await cb.locks.check("db", lock.fence)
    assert await cb.locks.release_all("one") == 1
    assert (await cb.locks.get("db")).is_free


async def test_a_boards_strategy_is_changed_with_its_tasks_in_place(
    cb: callboard.Callboard,
) -> None:
    for task in ("t1", "t2", "t3"):
        await cb.tasks.submit("work", id=task)
    fence = (await cb.tasks.take("t1", "mira")).fence

    await cb.scheduler.set_strategy("hybrid")

    assert (await cb.boards.get("default")).counts.total == 3
    assert (await cb.tasks.complete("t1", fence=fence)).is_ok
    assert {one.id for one in (await cb.tasks.claim("noor", limit=9)).tasks} == {"t2", "t3"}


async def test_the_load_is_told_by_agent_and_of_nobody_too(
    cb: callboard.Callboard, engine_url: str
) -> None:
    await cb.agents.register("noor", agent_type="coder", max_concurrent=10, weight=2)
    for task in ("t1", "t2", "t3"):
        await cb.tasks.submit("work", id=task)
    await cb.tasks.take("t1", "mira")
    await cb.tasks.take("t2", "mira")
    await cb.scheduler.assign("t3", strategy="least_connections")

    load = await cb.scheduler.load()

    assert load.loads == {"mira": 2, "noor": 1}
    assert (load.active_agents, load.agent_weights, load.avg_agent_load) == (2, 1, 1.5)
    assert (load.total_assignments, load.success_rate) == (1, 1.0)
    for agent in ("mira", "noor"):
        await cb.agents.deregister(agent)
    empty = await cb.scheduler.load()
    assert (empty.loads, empty.active_agents, empty.avg_agent_load) == ({}, 0, 0.0)


# Messages


async def test_inboxes_are_counted(cb: callboard.Callboard) -> None:
    for number in range(3):
        await cb.messages.send("noor", number, sender="mira", max_deliveries=1)
    first, second = await cb.messages.take("noor", limit=2)
    await cb.messages.acknowledge(first)
    await cb.messages.release(second, reason="broken")

    counts = await cb.messages.counts("noor")

    assert (counts.waiting, counts.taken, counts.dead, counts.finished) == (1, 0, 1, 1)
    assert [one.agent for one in await cb.messages.inboxes()] == ["noor"]
    assert message.REQUEST_TIMEOUT == 10.0


# The graph of tasks


DIAMOND: Final = (
    GraphNode("t", depends_on=("s", "x2")),
    GraphNode("x2", depends_on=("x1",)),
    GraphNode("x1", depends_on=("s",)),
    GraphNode("s"),
)


def test_the_critical_path_of_the_documented_diamond_has_four_tasks() -> None:
    assert TaskGraph(DIAMOND).critical_path().ids == ("s", "x1", "x2", "t")


def test_a_chain_of_10_000_is_neither_too_deep_to_fail_nor_to_sort() -> None:
    nodes = [GraphNode("t0", status="failed")]
    nodes += [GraphNode(f"t{n}", depends_on=(f"t{n - 1}",)) for n in range(1, 10_000)]
    graph = TaskGraph(reversed(nodes))

    assert graph.topological_order()[-1] == "t9999"
    assert len(graph.transitive_dependents("t0")) == len(graph.unreachable()) == 9_999


def test_a_drawing_has_the_documented_direction_and_colours() -> None:
    states = {"waits": "pending", "runs": "in_progress", "ends": "done", "breaks": "failed"}

    drawn = TaskGraph([GraphNode(name, status=states[name]) for name in states]).to_dot()

    assert "rankdir=LR" in drawn
    for name, colour in (
        ("waits", "lightgreen"),
        ("runs", "yellow"),
        ("ends", "green"),
        ("breaks", "red"),
    ):
        (line,) = [line for line in drawn.splitlines() if f'"{name}" [' in line]
        assert f"fillcolor={colour}" in line


async def test_an_unfinished_prerequisite_cannot_be_removed(cb: callboard.Callboard) -> None:
    await cb.tasks.submit("work", id="parent")
    await cb.tasks.submit("work", id="child", depends_on=["parent"])

    (answer,) = await cb.tasks.purge(["parent"])

    assert not answer.is_ok
    assert (await cb.tasks.get("child")).status == "blocked"
    graph = await cb.tasks.graph()
    assert graph.ready() == ("parent",)
    counts = (await cb.boards.get("default")).counts
    assert (counts.pending, counts.blocked) == (1, 1)


# Conflicts and votes


async def test_a_proposal_is_voted_on_by_members_once_and_stays_decided(
    cb: callboard.Callboard,
) -> None:
    members = ["a", "b", "c", "d", "e"]
    await cb.tasks.submit("work", id="t1")
    await cb.conflicts.report("task", "t1", ["mira", "noor"], id="c1")
    await cb.conflicts.open_vote("c1", members=members, rule="consensus", quorum=0.8, threshold=0.6)

    with pytest.raises(exceptions.NotEntitled):
        await cb.conflicts.vote("c1", "stranger", "noor")
    for member in members[:4]:
        if (await cb.conflicts.get("c1")).resolution is None:
            await cb.conflicts.vote("c1", member, "mira")

    decided = await cb.conflicts.get("c1")
    assert decided.resolution is not None
    assert (decided.resolution.winner, decided.resolution.type) == ("mira", "consensus")
    assert (await cb.tasks.get("t1")).agent == "mira"
    with pytest.raises((exceptions.AlreadyResolved, exceptions.VoteClosed)):
        await cb.conflicts.vote("c1", "e", "noor")


# Times


async def test_moments_are_the_engines_and_have_a_zone(cb: callboard.Callboard) -> None:
    before = datetime.now(UTC)

    task = await (await cb.tasks.submit("work")).task()

    assert task.created_at.tzinfo is UTC
    assert abs((task.created_at - before).total_seconds()) < WAIT_SECONDS
