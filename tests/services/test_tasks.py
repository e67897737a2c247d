"""Tasks as the library offers them: bad input changes nothing, lost replies do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest

import callboard
from callboard import Callboard, Completion, Requirements, RetryPolicy, TaskSpec
from callboard.exceptions import (
    AgentNotFound,
    DependencyCycle,
    IdConflict,
    IllegalState,
    InvalidArgument,
    LeaseLost,
    OutcomeUnknown,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TooLarge,
)

pytestmark = pytest.mark.every_engine

MEGABYTE = 1 << 20


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


class Measured(msgspec.Struct):
    first: float | None
    second: float


BAD_SPECS: list[tuple[dict[str, Any], str]] = [
    ({"id": ""}, "task id '' is not a valid name. It is empty"),
    ({"id": "a b"}, "task id 'a b' is not a valid name"),
    ({"id": 7}, "task id must be a string, not int"),
    ({"id": ["a"]}, "task id must be a string, not list"),
    ({"priority": 1_001}, "from -1000 to 1000"),
    ({"priority": "hgih"}, "none of low, normal, high"),
    ({"priority": True}, "not a whole number"),
    ({"payload": "x" * (2 * MEGABYTE)}, "at most 1,048,576 are kept"),
    ({"payload": object()}, "cannot be written as JSON"),
    ({"payload": msgspec.Raw(b"{nope")}, "is not valid JSON"),
    ({"payload": msgspec.Raw(b'"\xff"')}, "is not valid JSON"),
    ({"lease": -1.0}, "lease is -1.0; it must be a number of seconds from 0.1 to 3600"),
    ({"lease": "long"}, "lease is 'long'"),
    ({"timeout": 0}, "timeout is 0"),
    ({"delay": -5}, "delay is -5"),
    ({"deadline": datetime(2030, 1, 1)}, "has no time zone"),  # noqa: DTZ001
    ({"depends_on": "a"}, "must be a list of task ids, not one string"),
    ({"depends_on": ["a", ""]}, "dependency '' is not a valid name"),
    ({"on_dependency_failure": "ignore"}, "use fail, skip or run"),
    ({"unique": ""}, "1 to 256 characters"),
    ({"title": 5}, "title must be a string"),
    ({"metadata": [1]}, "metadata must be an object"),
    ({"retry": {"max_retries": 1}}, "retry must be a RetryPolicy"),
    ({"suggested_worker": "no one"}, "suggested_worker 'no one' is not a valid name"),
    ({"requirements": Requirements(capabilities=("a,b",))}, "capability 'a,b' is not a valid name"),
    ({"requirements": Requirements(min_health_score=2.0)}, "min_health_score is 2.0"),
    ({"requirements": {"capabilities": ["a"]}}, "requirements must be Requirements, not dict"),
    ({"requirements": Requirements(capabilities="ab")}, "capabilities must be a tuple"),  # type: ignore[arg-type]
    ({"depends_on": 5}, "must be a list of task ids, not int"),
    ({"not_before": "tomorrow"}, "not_before must be a datetime with a time zone, not str"),
    ({"deadline": 5}, "deadline must be a datetime with a time zone, not int"),
    ({"payload": float("nan")}, "payload holds NaN or Infinity"),
    ({"payload": {"a": [None, float("inf")]}}, "payload holds NaN or Infinity"),
    ({"payload": Measured(None, -float("inf"))}, "payload holds NaN or Infinity"),
    ({"metadata": {"a": float("nan")}}, "metadata holds NaN or Infinity"),
]


@pytest.mark.parametrize(("fields", "told"), BAD_SPECS, ids=[told for _, told in BAD_SPECS])
async def test_a_bad_task_is_refused_with_the_cure_and_its_batch_with_it(
    cb: Callboard, fields: dict[str, Any], told: str
) -> None:
    good = TaskSpec(kind="work", id="good")

    with pytest.raises(InvalidArgument) as refusal:
        await cb.tasks.submit_many([good, TaskSpec(kind="work", **fields)])

    assert told in str(refusal.value)
    assert await cb.boards.list() == []


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("priorty", "Did you mean priority=?"),
        ("max_attempts", "Did you mean retry=RetryPolicy(max_retries=...)?"),
        ("zzz", "no field 'zzz'. Fields are kind, payload, id, "),
    ],
    ids=["a slip", "a field of the retry policy", "unlike any"],
)
async def test_a_field_that_a_task_has_not_is_refused_with_the_nearest(
    cb: Callboard, field: str, told: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await cb.tasks.submit("work", **{field: 1})

    assert told in str(refusal.value)
    assert "fairness_key, affinity_key." in str(refusal.value)
    assert await cb.boards.list() == []


async def test_a_bad_kind_is_refused(cb: Callboard) -> None:
    kinds: list[Any] = ["", "a b", "x" * 129, 5, None, ["a"]]
    for kind in kinds:
        with pytest.raises(InvalidArgument, match="kind"):
            await cb.tasks.submit(kind)


async def test_a_cycle_within_a_batch_is_named(cb: Callboard) -> None:
    specs = [TaskSpec(kind="work", id=name, depends_on=[on]) for name, on in ("ab", "bc", "ca")]

    with pytest.raises(DependencyCycle) as refusal:
        await cb.tasks.submit_many(specs)

    assert set(refusal.value.details["cycle"]) == {"a", "b", "c"}
    assert await cb.boards.list() == []


async def test_many_tasks_are_sent_in_several_calls_and_a_refusal_says_how_far_it_came(
    cb: Callboard,
) -> None:
    await cb.tasks.submit("work", "other", id="t2500")
    specs = [TaskSpec(kind="work", id=f"t{number}") for number in range(3_000)]

    with pytest.raises(IdConflict, match="t2500") as refusal:
        await cb.tasks.submit_many(specs)

    assert refusal.value.details["submitted"] == 2_000
    assert (await cb.boards.get("default")).counts.total == 2_001


async def test_all_tasks_are_checked_before_the_first_is_sent(cb: Callboard) -> None:
    specs = [TaskSpec(kind="work") for _ in range(2_500)]

    with pytest.raises(InvalidArgument, match="kind") as refusal:
        await cb.tasks.submit_many([*specs, TaskSpec(kind="no good")])

    assert "submitted" not in refusal.value.details
    assert await cb.boards.list() == []


async def test_what_is_under_way_beside_a_refusal_is_counted(cb: Callboard) -> None:
    await cb.tasks.submit("work", "other", id="t500")
    await cb.tasks.submit("work", id="t1500")
    specs = [TaskSpec(kind="work", id=f"t{number}") for number in range(4_000)]

    with pytest.raises(IdConflict, match="t500") as refusal:
        await cb.tasks.submit_many(specs)

    # The second thousand was on its way, and one of it was there; the others were not sent.
    assert refusal.value.details["submitted"] == 999
    assert (await cb.boards.get("default")).counts.total == 1_001


async def test_tasks_that_depend_on_others_are_sent_one_batch_after_the_other(
    cb: Callboard,
) -> None:
    await cb.tasks.submit("work", "other", id="t500")
    specs = [TaskSpec(kind="work", id=f"t{number}") for number in range(2_000)]
    specs.append(TaskSpec(kind="sum", depends_on=["t1999"]))

    with pytest.raises(IdConflict, match="t500") as refusal:
        await cb.tasks.submit_many(specs)

    assert "submitted" not in refusal.value.details
    assert (await cb.boards.get("default")).counts.total == 1


async def test_handles_come_in_the_order_given_whatever_depends_on_what(cb: Callboard) -> None:
    specs = [TaskSpec(kind="sum", id="sum", depends_on=["part"]), TaskSpec(kind="part", id="part")]

    handles = await cb.tasks.submit_many([*specs, TaskSpec(kind="work")])

    assert [handle.id for handle in handles][:2] == ["sum", "part"]
    assert (await cb.tasks.get(handles[2].id)).kind == "work"


@pytest.mark.parametrize("limit", [1, 7, 1_000])
@pytest.mark.parametrize("count", [30, 1_500])
@pytest.mark.parametrize("fields", [{}, {"status": "done"}, {"kind": "odd"}])
async def test_a_page_has_at_most_its_limit_and_all_pages_have_each_task_that_stays(
    cb: Callboard, fields: dict[str, Any], count: int, limit: int
) -> None:
    if limit == 1:
        count = min(count, 30)
    kinds = ("even", "odd")
    handles = await cb.tasks.submit_many(
        [TaskSpec(kind=kinds[i % 2], id=f"t{i}") for i in range(count)]
    )
    expected = {handle.id for handle in handles}
    if "status" in fields:
        await cb.agents.register("mira", max_concurrent=10_000)
        while claimed := (await cb.tasks.claim("mira", limit=1_000)).tasks:
            await cb.tasks.complete_many(Completion(task.id, task.fence, None) for task in claimed)
    elif "kind" in fields:
        expected = {f"t{i}" for i in range(1, count, 2)}
    found: list[str] = []
    cursor = None
    for page_number in range(10_000):
        page = await cb.tasks.list(limit=limit, cursor=cursor, **fields)
        assert len(page.tasks) <= limit
        found += [task.id for task in page.tasks]
        cursor = page.cursor
        if cursor is None:
            break
        if page_number % 10 == 0:
            await cb.tasks.submit("even", id=f"new{page_number}")

    assert {name for name in found if not name.startswith("new")} == expected


Operation = Callable[[Callboard, Any], Awaitable[Any]]
WRONG_TYPES: list[tuple[Operation, Any, str]] = [
    (lambda cb, value: cb.tasks.submit_many(value), ["a"], "a TaskSpec, not str"),
    (lambda cb, value: cb.tasks.submit_many([], created_by=value), 5, "created_by must be a str"),
    (lambda cb, value: cb.tasks.list(cursor=value), "bogus", "'bogus' is no cursor"),
    (lambda cb, value: cb.tasks.list(cursor=value), 5, "5 is no cursor"),
    (lambda cb, value: cb.tasks.list(cursor=value), "0:5", "'0:5' is no cursor"),
    (lambda cb, value: cb.tasks.list(limit=value), "5", "limit is '5'"),
    (lambda cb, value: cb.tasks.list(limit=value), 0, "limit is 0"),
    (lambda cb, value: cb.tasks.list(status=value), 5, "status must be a status or a list"),
    (lambda cb, value: cb.tasks.list(kind=value), 5, "kind must be a string"),
    (lambda cb, value: cb.tasks.lanes(limit=value), "x", "limit is 'x'"),
    (lambda cb, value: cb.tasks.lanes(limit=value), -1, "limit is -1"),
    (lambda cb, value: cb.tasks.lanes(per_lane=value), 101, "per_lane is 101"),
    (lambda cb, value: cb.tasks.get_many(value), "dp", "a list of task ids, not str"),
    (lambda cb, value: cb.tasks.cancel_many(value), "dp", "a list of task ids, not str"),
    (lambda cb, value: cb.tasks.cancel_many(value), 5, "a list of task ids, not int"),
    (lambda cb, value: cb.tasks.cancel("dp", reason=value), 5, "reason must be a string"),
    (lambda cb, value: cb.tasks.retry_many(value), "dp", "a list of task ids, not str"),
    (lambda cb, value: cb.tasks.purge(value), "dp", "a list of task ids, not str"),
    (lambda cb, value: cb.dead_letters.purge(value), "dp", "a list of task ids, not str"),
    (lambda cb, value: cb.events.cursor_at(value), "now", "moment must be a datetime"),
]


@pytest.mark.parametrize(("call", "value", "told"), WRONG_TYPES)
async def test_a_wrong_type_is_refused_in_words(
    cb: Callboard, call: Operation, value: Any, told: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await call(cb, value)

    assert told in str(refusal.value)


async def test_a_task_said_in_another_way_is_the_same_task(cb: Callboard) -> None:
    await cb.tasks.submit("work", id="t")
    await cb.tasks.submit("work", id="timed", timeout=5, lease=30)
    decoded = msgspec.json.decode(
        b'{"kind":"work","id":"t","title":"","on_dependency_failure":"fail","payload":null}',
        type=TaskSpec,
    )

    again = [
        *[await cb.tasks.submit("work", id="t", priority=priority) for priority in ("normal", 0)],
        await cb.tasks.submit("work", msgspec.Raw(b"null"), id="t", requirements=Requirements()),
        await cb.tasks.submit("work", id="t", retry=RetryPolicy()),
        *await cb.tasks.submit_many([decoded, TaskSpec(kind="work", id="t")]),
        await cb.tasks.submit("work", id="timed", timeout=5.0, lease=30.0),
    ]

    assert all(handle.existed for handle in again)


async def test_an_illegal_move_is_told_without_a_guess_at_the_state(cb: Callboard) -> None:
    await cb.tasks.submit("work", id="t")

    with pytest.raises(IllegalState) as refusal:
        await cb.tasks.retry("t")

    assert str(refusal.value) == (
        "Task t is in a state that does not allow this. See callboard tasks show t."
    )


async def test_a_payload_beside_the_body_comes_back_as_it_was(cb: Callboard) -> None:
    raw = msgspec.Raw(b'{"n": 9007199254740993, "empty": [], "text": "' + b"x" * 40_000 + b'"}')
    await cb.tasks.submit("work", raw, id="large")
    await cb.agents.register("mira")

    task = await cb.tasks.get("large")
    (claimed,) = (await cb.tasks.claim("mira")).tasks

    assert bytes(task.payload) == bytes(raw)
    assert bytes(claimed.payload) == bytes(raw)


async def test_every_option_can_be_read_back(cb: Callboard) -> None:
    policy = RetryPolicy(max_retries=7, base=0.5, factor=3.0, cap=60.0)
    await cb.tasks.submit(
        "work",
        {"a": [1, 2]},
        id="t",
        title="A title",
        description="More",
        priority="high",
        requirements=Requirements(agent_type="gpu", capabilities=("x",), labels={"zone": "a/b"}),
        unique="only one",
        created_by="ann",
        metadata={"k": {"deep": [None]}},
        trace_context="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        timeout=5.0,
        lease=2.5,
        retry=policy,
    )

    task = await cb.tasks.get("t")

    assert (task.title, task.description, task.priority) == ("A title", "More", 10)
    assert task.requirements.labels == {"zone": "a/b"}
    assert (task.unique, task.created_by, task.metadata) == (
        "only one",
        "ann",
        {"k": {"deep": [None]}},
    )
    assert (task.timeout, task.lease, task.retry) == (5.0, 2.5, policy)
    assert task.payload_as(dict[str, list[int]]) == {"a": [1, 2]}


async def test_what_is_not_there_is_not_found(cb: Callboard) -> None:
    with pytest.raises(TaskNotFound, match="'ghost' on board 'default'"):
        await cb.tasks.get("ghost")
    with pytest.raises(TaskNotFound):
        await cb.tasks.cancel("ghost")
    with pytest.raises(TaskNotFound):
        await cb.tasks.handle("ghost").result(timeout=5)
    with pytest.raises(AgentNotFound, match="cb.agents.register"):
        await cb.tasks.claim("nobody")


async def test_a_result_is_awaited_whatever_it_is(cb: Callboard) -> None:
    await cb.agents.register("mira")
    good, bad, gone = [
        await cb.tasks.submit("work", id=name, retry=RetryPolicy(max_retries=0))
        for name in ("good", "bad", "gone")
    ]
    waiting = [asyncio.create_task(handle.result(10)) for handle in (good, bad, gone)]
    claimed = {task.id: task.fence for task in (await cb.tasks.claim("mira", limit=2)).tasks}

    await cb.tasks.complete("good", fence=claimed["good"], result={"n": 1})
    await cb.tasks.fail("bad", fence=claimed["bad"], error="no disk")
    await cb.tasks.cancel("gone", reason="not needed")
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert outcomes[0] == {"n": 1}
    assert isinstance(outcomes[1], TaskFailed)
    assert "no disk" in str(outcomes[1])
    assert isinstance(outcomes[2], TaskCancelled)
    assert "not needed" in str(outcomes[2])


async def test_a_result_not_there_in_time_leaves_the_task_alone(cb: Callboard) -> None:
    handle = await cb.tasks.submit("work")

    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.01)

    assert (await handle.task()).status == "pending"


async def test_too_large_a_result_is_refused_and_the_claim_stays(cb: Callboard) -> None:
    await cb.agents.register("mira")
    await cb.tasks.submit("work", id="t")
    (task,) = (await cb.tasks.claim("mira")).tasks

    with pytest.raises(TooLarge):
        await cb.tasks.complete("t", fence=task.fence, result="x" * (2 * MEGABYTE))

    assert (await cb.tasks.complete("t", fence=task.fence, result="x")).status == "ok"


async def test_large_results_are_handed_in_by_several_calls(cb: Callboard) -> None:
    await cb.agents.register("mira")
    await cb.tasks.submit_many(TaskSpec(kind="work", id=f"t{n}") for n in range(12))
    claims = await cb.tasks.claim("mira", limit=12)
    large = "x" * (MEGABYTE - 100)

    answers = await cb.tasks.complete_many(
        Completion(task.id, task.fence, large) for task in claims.tasks
    )

    assert [answer.status for answer in answers] == ["ok"] * 12
    assert (await cb.tasks.get("t11")).result == large


async def test_a_stale_fence_changes_nothing(cb: Callboard) -> None:
    await cb.agents.register("mira")
    await cb.tasks.submit("work", id="t")
    (old,) = (await cb.tasks.claim("mira")).tasks
    await cb.tasks.release("t", fence=old.fence)
    (new,) = (await cb.tasks.claim("mira")).tasks

    with pytest.raises(LeaseLost):
        await cb.tasks.complete("t", fence=old.fence, result="old")
    with pytest.raises(LeaseLost):
        await cb.tasks.fail("t", fence=old.fence, error="old")
    await cb.tasks.complete("t", fence=new.fence, result="new")

    assert (await cb.tasks.get("t")).result == "new"


class LostReplies:
    """Runs each call on the engine and loses its first reply."""

    def __init__(self, cb: Callboard) -> None:
        self.connection = cb.namespace.connection
        self.call = self.connection.call
        self.lost: list[tuple[Any, ...]] = []

    def __call__(self, *command: Any, timeout: float | None = None) -> Any:
        if command[0] != b"FCALL" or command in self.lost:
            return self.call(*command, timeout=timeout)
        return self._lose(*command, timeout=timeout)

    async def _lose(self, *command: Any, timeout: float | None) -> Any:
        self.lost.append(command)
        await self.call(*command, timeout=timeout)
        raise OutcomeUnknown("The reply was lost.")


async def test_lost_replies_neither_lose_nor_double_anything(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cb.agents.register("mira")
    replies = LostReplies(cb)
    monkeypatch.setattr(cb.namespace.connection, "call", replies)

    handles = await cb.tasks.submit_many(TaskSpec(kind="work") for _ in range(3))
    claims = await cb.tasks.claim("mira", limit=3)
    first, second, third = claims.tasks
    await cb.tasks.complete(first.id, fence=first.fence, result=1)
    await cb.tasks.fail(second.id, fence=second.fence, error="no", delay=3_600)
    await cb.tasks.release(third.id, fence=third.fence)
    await cb.tasks.note(first.id, "seen", author="ann")
    counts = (await cb.boards.get("default")).counts
    notes = await cb.tasks.notes(first.id)

    assert len(replies.lost) >= 7
    assert claims.status == "replayed"
    assert len({handle.id for handle in handles}) == 3
    assert (counts.total, counts.done, counts.retrying, counts.pending) == (3, 1, 1, 1)
    assert [note.content for note in notes] == ["seen"]
    assert (await cb.tasks.get(second.id)).failures == 1


async def test_a_call_that_cannot_be_repeated_says_that_its_outcome_is_unknown(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cb.agents.register("mira")
    monkeypatch.setattr(cb.namespace.connection, "call", LostReplies(cb))

    with pytest.raises(OutcomeUnknown):
        await cb.agents.deregister("mira")

    with pytest.raises(AgentNotFound):
        await cb.agents.get("mira")


async def test_the_graph_knows_what_was_measured(cb: Callboard) -> None:
    await cb.agents.register("mira")
    await cb.tasks.submit_many(
        [TaskSpec(kind="work", id="a"), TaskSpec(kind="work", id="b", depends_on=["a"])]
    )
    (task,) = (await cb.tasks.claim("mira")).tasks
    await cb.tasks.complete("a", fence=task.fence)

    graph = await cb.tasks.graph()
    done = await cb.tasks.get("a")

    assert graph.topological_order() == ("a", "b")
    assert graph.ready() == ("b",)
    assert done.duration is not None
    assert done.duration >= 0


async def test_a_task_that_is_asked_for_several_times_is_read_once_and_counts_each_time(
    cb: Callboard,
) -> None:
    await cb.tasks.submit("greet", id="a", payload="x" * 1_000)
    await cb.tasks.submit("greet", id="b")

    found = await cb.tasks.get_many(["a", "b", "a", "c"], bytes_max=10_000)
    with pytest.raises(TooLarge) as refused:
        await cb.tasks.get_many(["a"] * 10, bytes_max=10_000)

    assert [one.id if one else None for one in found] == ["a", "b", "a", None]
    assert found[0] is found[2]
    assert refused.value.details["limit"] == 10_000
    assert len(await cb.tasks.get_many(["a"] * 10)) == 10
