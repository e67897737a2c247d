"""Claims as the library offers them: what is not a claim is refused before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import callboard
from callboard import Callboard, Completion, Failure, TaskSpec
from callboard.engine.handed_in import FailedAttempt
from callboard.exceptions import InvalidArgument, TooLarge

pytestmark = pytest.mark.every_engine

MEGABYTE = 1 << 20
STALE = 999


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        await opened.agents.register("mira")
        await opened.tasks.submit("work", id="t")
        yield opened


BAD_STEPS: list[tuple[dict[str, Any], str]] = [
    ({"limit": 9_000}, "limit is 9000; it must be a whole number from 0 to 1,000"),
    ({"limit": -1}, "limit is -1"),
    ({"limit": 1.5}, "limit is 1.5"),
    ({"limit": True}, "limit is True"),
    ({"started": -1}, "started is -1"),
    ({"started": "1"}, "started is '1'"),
    ({"lease": -5}, "lease is -5; it must be a number of seconds from 0.1 to 3600"),
    ({"wait": "long"}, "wait is 'long'"),
    ({"wait": float("nan")}, "wait is nan"),
    ({"agent": "no one"}, "agent 'no one' is not a valid name"),
    ({"instance": 5}, "instance must be a string, not int"),
    ({"instance": None}, "instance must be a string, not NoneType"),
    ({"results": [Completion("t", 0)]}, "fence is 0"),
    ({"results": ["t"]}, "a Completion, not str"),
    ({"begun": ["t"]}, "'t' is no claim"),
    ({"begun": [("t", "1")]}, "fence is '1'"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD_STEPS, ids=[told for _, told in BAD_STEPS])
async def test_a_bad_step_of_a_worker_is_refused_and_claims_nothing(
    cb: Callboard, arguments: dict[str, Any], told: str
) -> None:
    good = {"agent": "mira", "instance": "", "limit": 1, "started": 1}

    with pytest.raises(InvalidArgument) as refusal:
        await cb.tasks.complete_and_claim(**{**good, **arguments})

    assert told in str(refusal.value)
    assert (await cb.tasks.get("t")).status == "pending"


BAD_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"limit": "5"}, "limit is '5'; it must be a whole number from 1 to 1,000"),
    ({"limit": 1.5}, "limit is 1.5"),
    ({"limit": 0}, "limit is 0"),
    ({"limit": True}, "limit is True"),
    ({"started": 1_001}, "started is 1001"),
    ({"started": True}, "started is True"),
    ({"instance": 0}, "instance must be a string, not int"),
]


@pytest.mark.parametrize(("arguments", "told"), BAD_CLAIMS, ids=[told for _, told in BAD_CLAIMS])
async def test_a_bad_claim_is_refused(cb: Callboard, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await cb.tasks.claim("mira", **arguments)

    assert told in str(refusal.value)
    assert (await cb.tasks.get("t")).status == "pending"


@pytest.mark.parametrize(
    "arguments",
    [
        {"task_ids": "t"},
        {"task_ids": ["t"] * 1_001},
        {"agent": "no one"},
        {"instance": 0},
        {"lease": -5},
        {"wants": 1.5},
        {"wait": "long"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
async def test_reservations_are_not_taken_up_with_bad_arguments(
    cb: Callboard, arguments: dict[str, Any]
) -> None:
    good = {"task_ids": ["t"], "agent": "mira", "instance": "i1"}

    with pytest.raises(InvalidArgument):
        await cb.tasks.accept(**{**good, **arguments})


Operation = Callable[[Callboard, Any, Any], Awaitable[Any]]
OF_A_HOLDER: dict[str, Operation] = {
    "complete": lambda cb, task, fence: cb.tasks.complete(task, fence=fence),
    "fail": lambda cb, task, fence: cb.tasks.fail(task, fence=fence, error="no"),
    "start": lambda cb, task, fence: cb.tasks.start(task, fence=fence),
    "renew": lambda cb, task, fence: cb.tasks.renew(task, fence=fence),
    "release": lambda cb, task, fence: cb.tasks.release(task, fence=fence),
    "handoff": lambda cb, task, fence: cb.tasks.handoff(task, fence=fence, to="mira"),
    "progress": lambda cb, task, fence: cb.tasks.progress(task, fence=fence, value=1),
    "partial": lambda cb, task, fence: cb.tasks.partial(task, fence=fence, value=1),
    "split": lambda cb, task, fence: cb.tasks.split(task, [TaskSpec(kind="w")], fence=fence),
    "ask": lambda cb, task, fence: cb.tasks.ask(task, fence=fence, question="?"),
    "park": lambda cb, task, fence: cb.tasks.park(task, fence=fence),
    "unpark": lambda cb, task, fence: cb.tasks.unpark(task, fence=fence),
    "confirm_cancel": lambda cb, task, fence: cb.tasks.confirm_cancel(task, fence=fence),
}
NO_CLAIMS: list[tuple[Any, Any, str]] = [
    ("a b", 1, "task id 'a b' is not a valid name"),
    (5, 1, "task id must be a string, not int"),
    ("t", 0, "fence is 0"),
    ("t", "1", "fence is '1'"),
    ("t", 1.0, "fence is 1.0"),
    ("t", True, "fence is True"),
    ("t", None, "fence is None"),
]


@pytest.mark.parametrize(("task", "fence", "told"), NO_CLAIMS, ids=[no[2] for no in NO_CLAIMS])
@pytest.mark.parametrize("name", OF_A_HOLDER)
async def test_what_cannot_name_a_claim_is_refused(
    cb: Callboard, name: str, task: Any, fence: Any, told: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await OF_A_HOLDER[name](cb, task, fence)

    assert told in str(refusal.value)


async def test_a_failure_must_say_something(cb: Callboard) -> None:
    wrong: Any = 5

    with pytest.raises(InvalidArgument, match="an exception or a Failure, not int"):
        await cb.tasks.fail("t", fence=1, error=wrong)
    with pytest.raises(InvalidArgument, match="retryable is 'yes'"):
        await cb.tasks.fail("t", fence=1, error="no", retryable="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="a FailedAttempt, not str"):
        await cb.tasks.fail_many(["t"])  # type: ignore[list-item]


async def test_many_large_failures_are_handed_in_by_several_calls(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    call = cb.namespace.connection.call

    async def measured(*command: Any, timeout: float | None = None) -> Any:
        sizes.append(sum(len(part) for part in command if isinstance(part, bytes | str)))
        return await call(*command, timeout=timeout)

    monkeypatch.setattr(cb.namespace.connection, "call", measured)
    failure = Failure("Error", "m" * 4_000, True, traceback="\x01" * 8_000)

    answers = await cb.tasks.fail_many(FailedAttempt("t", STALE, failure) for _ in range(600))

    assert {answer.status for answer in answers} == {"lease_lost"}
    assert len(answers) == 600
    assert len(sizes) == 4
    assert max(sizes) <= 9 * MEGABYTE


async def test_children_may_be_given_in_any_order(cb: Callboard) -> None:
    (task,) = (await cb.tasks.claim("mira")).tasks
    children = [
        TaskSpec(kind="sum", id="sum", depends_on=["part"]),
        TaskSpec(kind="part", id="part"),
        TaskSpec(kind="part"),
    ]

    ids = await cb.tasks.split("t", children, fence=task.fence)

    assert ids[:2] == ["sum", "part"]
    assert len(set(ids)) == 3
    assert (await cb.tasks.get("sum")).status == "blocked"
    assert (await cb.tasks.get("t")).children == (("part", "sum", ids[2]),)


async def test_too_large_a_family_is_refused_and_the_claim_stays(cb: Callboard) -> None:
    (task,) = (await cb.tasks.claim("mira")).tasks
    child = TaskSpec(kind="part", payload="x" * (MEGABYTE - 2))

    with pytest.raises(TooLarge, match="take more than 8,388,608 bytes"):
        await cb.tasks.split("t", [child] * 8, fence=task.fence)

    assert (await cb.tasks.get("t")).status == "claimed"


async def test_a_child_that_was_submitted_before_is_the_same_task(cb: Callboard) -> None:
    await cb.tasks.submit("part", id="child")
    (task,) = (await cb.tasks.claim("mira")).tasks

    ids = await cb.tasks.split(task.id, [TaskSpec(kind="part", id="child")], fence=task.fence)

    assert ids == ["child"]
    assert (await cb.tasks.get("t")).status == "blocked"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_a_result_that_json_cannot_write_is_refused_and_the_claim_stays(
    cb: Callboard, number: float
) -> None:
    (task,) = (await cb.tasks.claim("mira")).tasks

    with pytest.raises(InvalidArgument, match="result holds NaN or Infinity"):
        await cb.tasks.complete("t", fence=task.fence, result={"mean": [None, number]})

    assert (await cb.tasks.get("t")).status == "claimed"
