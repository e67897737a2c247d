"""The worker's contract, on a real engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

import callboard
from callboard import (
    Fatal,
    Retry,
    RetryPolicy,
    Status,
    TaskSpec,
    testing,
)
from callboard.domain.board import BoardSettings
from callboard.domain.event import Event
from callboard.engine.embedded import EmbeddedEngine, stop_engine
from callboard.exceptions import ConfigError, InvalidArgument, TaskCancelled, TaskFailed
from callboard.sdk.context import TaskContext
from callboard.sdk.worker import Worker, load_worker
from callboard.testing import ThrowawayBoard
from tests.sdk.workers import SECONDS, event, within, worker_of, working


class Struct(msgspec.Struct):
    name: str
    count: int = 1


@dataclass
class Data:
    name: str


class Typed(TypedDict):
    name: str


class Model(pydantic.BaseModel):
    name: str
    count: int = 1


@pytest.fixture
async def board() -> AsyncIterator[ThrowawayBoard]:
    async with testing.board() as throwaway:
        yield throwaway


@pytest.fixture
def at_work(board: ThrowawayBoard) -> Callable[..., Any]:
    """Runs a worker in the background for as long as a block lasts, then drains it."""

    return partial(working, board.cb)


# Payloads and results


async def test_handlers_are_async_functions_or_run_in_threads(
    board: ThrowawayBoard, at_work: Any
) -> None:
    async def asynchronous(payload: Any) -> str:
        return threading.current_thread().name

    def blocking(payload: Any) -> str:
        return threading.current_thread().name

    class Greeter:
        async def __call__(self, payload: Any) -> str:
            return "object"

    handlers = {"async": asynchronous, "sync": blocking, "object": Greeter()}
    async with at_work(worker_of(handlers=handlers)):
        results = [await (await board.tasks.submit(k)).result(SECONDS) for k in handlers]

    assert results[0] == threading.current_thread().name
    assert results[1].startswith("callboard")
    assert results[2] == "object"


async def of_struct(payload: Struct) -> str:
    return f"{type(payload).__name__} {payload.name} {payload.count}"


async def of_dataclass(payload: Data) -> str:
    return f"{type(payload).__name__} {payload.name}"


async def of_typed_dict(payload: Typed) -> str:
    return f"{type(payload).__name__} {payload['name']}"


async def of_model(payload: Model) -> str:
    return f"{type(payload).__name__} {payload.name} {payload.count}"


async def of_models(payload: list[Model]) -> str:
    return f"{type(payload[0]).__name__} {payload[0].name}"


async def of_nothing() -> str:
    return "nothing"


async def of_context_first(ctx: TaskContext, payload: Struct) -> str:
    return f"{ctx.task.kind} {payload.name}"


@pytest.mark.parametrize(
    ("handler", "payload", "result"),
    [
        (of_struct, {"name": "Ada", "count": 2}, "Struct Ada 2"),
        (of_struct, Struct("Ada"), "Struct Ada 1"),
        (of_dataclass, Data("Ada"), "Data Ada"),
        (of_typed_dict, {"name": "Ada"}, "dict Ada"),
        (of_model, Model(name="Ada"), "Model Ada 1"),
        (of_models, [{"name": "Ada"}], "Model Ada"),
        (of_nothing, {"ignored": True}, "nothing"),
        (of_context_first, {"name": "Ada"}, "k Ada"),
        (of_struct, {"name": "x" * 40_000}, f"Struct {'x' * 40_000} 1"),
    ],
)
async def test_a_payload_is_decoded_to_the_annotated_type(
    board: ThrowawayBoard, handler: Any, payload: Any, result: str
) -> None:
    handle = await board.tasks.submit("k", payload)

    await board.drain({"k": handler})

    await board.assert_done(handle, result=result)


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        (Struct("Ada", 3), {"name": "Ada", "count": 3}),
        (Data("Ada"), {"name": "Ada"}),
        (Model(name="Ada"), {"name": "Ada", "count": 1}),
        (msgspec.Raw(b'{"as": "is"}'), {"as": "is"}),
        (None, None),
    ],
)
async def test_a_typed_result_is_stored_as_json(
    board: ThrowawayBoard, at_work: Any, result: Any, stored: Any
) -> None:
    async def handler(payload: Any) -> Any:
        return result

    async with at_work(worker_of(handlers={"k": handler})):
        assert await (await board.tasks.submit("k")).result(SECONDS) == stored


@pytest.mark.parametrize("handler", [of_struct, of_dataclass, of_typed_dict, of_model])
async def test_a_payload_that_does_not_fit_is_a_dead_letter_at_once(
    board: ThrowawayBoard, at_work: Any, handler: Any
) -> None:
    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k", {"nom": "Ada"})
        with pytest.raises(TaskFailed, match="does not fit handler 'k'"):
            await handle.result(SECONDS)

    task = await handle.task()
    assert (task.attempt, task.failures) == (1, 1)
    assert await board.cb.dead_letters.count() == 1


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (object(), "cannot be written as JSON"),
        ("x" * (1 << 20), r"1,048,578 bytes of JSON; at most 1,048,576"),
    ],
    ids=["no JSON", "over 1 MiB"],
)
async def test_a_result_that_cannot_be_kept_is_a_failure_without_retry(
    board: ThrowawayBoard, at_work: Any, result: Any, error: str
) -> None:
    async def handler(payload: Any) -> Any:
        return result

    async with at_work(worker_of(handlers={"k": handler})):
        with pytest.raises(TaskFailed, match=error):
            await (await board.tasks.submit("k")).result(SECONDS)


async def test_many_large_results_are_all_taken(board: ThrowawayBoard, at_work: Any) -> None:
    async def handler(payload: Any) -> str:
        return "x" * 1_000_000

    async with at_work(worker_of(handlers={"k": handler}, concurrency=100)):
        handles = await board.tasks.submit_many([TaskSpec(kind="k") for _ in range(40)])
        for handle in handles:
            await board.tasks.wait(handle.id, timeout=60)

    assert (await board.cb.boards.get("default")).counts.done == 40


async def test_a_task_of_an_unknown_kind_stays_for_those_who_know_it(
    board: ThrowawayBoard, at_work: Any
) -> None:
    await board.tasks.submit("other", id="other")

    async with at_work(worker_of(handlers={"k": of_nothing})):
        await (await board.tasks.submit("k")).result(SECONDS)

    task = await board.tasks.get("other")
    assert (task.status, task.attempt) == (Status.PENDING, 0)


def test_a_handler_that_takes_something_else_is_refused() -> None:
    async def three(payload: Any, ctx: TaskContext, more: Any) -> None: ...

    async def local(payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    worker = Worker(agent="mira")
    with pytest.raises(ConfigError, match=r"takes 'more'; a handler takes a payload"):
        worker.handles("k")(three)
    with pytest.raises(ConfigError, match=r"the type of 'payload', 'Nowhere', cannot be found"):
        worker.handles("k")(local)
    with pytest.raises(InvalidArgument, match="use seconds above 0"):
        worker.handles("k", timeout=0)(of_nothing)
    with pytest.raises(InvalidArgument):
        worker.handles("no spaces")(of_nothing)
    worker.handles("k")(of_nothing)
    with pytest.raises(ConfigError, match="Two handlers for kind 'k'"):
        worker.handles("k")(of_nothing)


@pytest.mark.parametrize(
    "fields",
    [
        {"concurrency": 0},
        {"concurrency": 1_001},
        {"concurrency": True},
        {"prefetch": -1},
        {"lease": 0},
        {"agent": ""},
        {"board": "no spaces"},
    ],
    ids=str,
)
def test_a_worker_out_of_its_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Worker(**{"agent": "mira", **fields})


async def test_a_worker_without_connection_or_handlers_is_refused(board: ThrowawayBoard) -> None:
    with pytest.raises(ConfigError, match="has no connection"):
        await worker_of(handlers={"k": of_nothing}).run()
    with pytest.raises(ConfigError, match="has no handlers"):
        await Worker(board.cb, agent="mira").run()


async def test_a_worker_that_runs_is_not_run_again(board: ThrowawayBoard, at_work: Any) -> None:
    worker = worker_of(handlers={"k": of_nothing})

    async with at_work(worker):
        await (await board.tasks.submit("k")).result(SECONDS)
        with pytest.raises(ConfigError, match="runs already"):
            await worker.run(board.cb)


# The context


async def test_progress_notes_and_partial_results_are_on_the_task(
    board: ThrowawayBoard, at_work: Any
) -> None:
    async def handler(payload: Any, ctx: TaskContext) -> Any:
        earlier = await ctx.earlier_partial()
        if ctx.attempt == 1:
            await ctx.progress({"done": 0.5})
            await ctx.note("half")
            await ctx.partial([1, 2])
            await ctx.heartbeat()
            raise Retry("again", delay=0)
        return earlier

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k")
        assert await handle.result(SECONDS) == [1, 2]

    task = await handle.task()
    assert task.progress == {"done": 0.5}
    assert [(note.author, note.content) for note in await board.tasks.notes(task.id)] == [
        ("mira", "half")
    ]


async def test_a_handler_in_a_thread_uses_its_context_through_run(
    board: ThrowawayBoard, at_work: Any
) -> None:
    def handler(payload: Any, ctx: TaskContext) -> Any:
        ctx.run(ctx.progress(0.5))
        children = ctx.run(ctx.split([TaskSpec(kind="child")]))
        return [child.result for child in children]

    async with at_work(worker_of(handlers={"k": handler, "child": of_nothing})):
        handle = await board.tasks.submit("k")
        assert await handle.result(SECONDS) == ["nothing"]

    assert (await handle.task()).progress == 0.5


async def test_a_split_task_resumes_with_its_children(board: ThrowawayBoard, at_work: Any) -> None:
    async def parent(payload: Any, ctx: TaskContext) -> Any:
        first = await ctx.split([TaskSpec(kind="double", payload=n) for n in (1, 2)])
        second = await ctx.split([TaskSpec(kind="double", payload=c.result) for c in first])
        return [child.result for child in second]

    async def double(payload: int) -> int:
        return payload * 2

    async with at_work(worker_of(handlers={"k": parent, "double": double}, concurrency=1)):
        handle = await board.tasks.submit("k")
        assert await handle.result(SECONDS) == [4, 8]

    task = await handle.task()
    assert (task.attempt, task.failures) == (3, 0)


async def test_a_question_is_answered_under_a_new_claim(
    board: ThrowawayBoard, at_work: Any
) -> None:
    async def handler(payload: Any, ctx: TaskContext) -> str:
        colour = await ctx.input({"ask": "which colour?"})
        return f"{colour} {await ctx.input('which size?')}"

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k", id="t")
        first = await event(board.cb, "task:input_required", "t")
        assert (await handle.task()).question == {"ask": "which colour?"}
        await board.tasks.answer("t", "green")
        await event(board.cb, "task:input_required", "t", first.cursor)
        await board.tasks.answer("t", "small")
        assert await handle.result(SECONDS) == "green small"

    assert (await handle.task()).failures == 0


async def test_a_waiting_parent_frees_the_only_slot(board: ThrowawayBoard, at_work: Any) -> None:
    async def handler(payload: int, ctx: TaskContext) -> int:
        if payload == 0:
            return 0
        return 1 + int(await ctx.wait(await ctx.tasks.submit("k", payload - 1)))

    async with at_work(worker_of(handlers={"k": handler}, concurrency=1)):
        assert await (await board.tasks.submit("k", 5)).result(SECONDS) == 5


async def test_parents_that_wait_never_fill_all_slots(board: ThrowawayBoard, at_work: Any) -> None:
    running, most = 0, 0

    async def parent(payload: Any, ctx: TaskContext) -> Any:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        child = await ctx.tasks.submit("child")
        running -= 1
        result = await ctx.wait(child)
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1
        return result

    async def child(payload: Any) -> str:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1
        return "done"

    async with at_work(worker_of(handlers={"k": parent, "child": child}, concurrency=3)):
        handles = await board.tasks.submit_many([TaskSpec(kind="k") for _ in range(30)])
        results = [await handle.result(SECONDS * 3) for handle in handles]

    assert results == ["done"] * 30
    assert most <= 3


async def test_waiting_for_a_task_that_fails_raises_and_gives_up_on_time(
    board: ThrowawayBoard, at_work: Any
) -> None:
    async def parent(payload: Any, ctx: TaskContext) -> str:
        with suppress(TimeoutError):
            await ctx.wait("never", timeout=0.01)
        try:
            await ctx.wait("bad")
        except TaskFailed as error:
            return str(error)
        return "it did not fail"

    async def bad(payload: Any) -> None:
        raise Fatal("no cure")

    await board.tasks.submit("nobody", id="never")
    await board.tasks.submit("bad", id="bad")
    async with at_work(worker_of(handlers={"k": parent, "bad": bad})):
        assert "no cure" in await (await board.tasks.submit("k")).result(SECONDS)


async def test_workers_together_keep_to_the_limit_of_the_board(
    board: ThrowawayBoard, at_work: Any
) -> None:
    running, most = 0, 0

    async def handler(payload: Any) -> None:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1

    await board.cb.boards.configure(board.name, BoardSettings(concurrency=3))
    handlers = {"k": handler}
    one = worker_of(handlers=handlers, concurrency=8)
    other = worker_of("noor", handlers=handlers, concurrency=8)
    async with at_work(one), at_work(other):
        handles = await board.tasks.submit_many([TaskSpec(kind="k") for _ in range(60)])
        for handle in handles:
            await handle.result(SECONDS)

    assert most == 3


async def test_a_task_of_another_board_is_waited_for_with_the_slot_free(
    board: ThrowawayBoard, at_work: Any
) -> None:
    other = board.cb.board("other").tasks

    async def parent(payload: Any, ctx: TaskContext) -> Any:
        await ctx.tasks.submit("sibling", id="sibling")
        return await ctx.wait(await other.submit("far", id="far"), tasks=other)

    async def sibling(payload: Any) -> None:
        await board.cb.agents.register("olga")
        claimed = await other.take("far", "olga")
        await other.complete("far", fence=claimed.fence, result="from afar")

    handlers = {"k": parent, "sibling": sibling}
    async with at_work(worker_of(handlers=handlers, concurrency=1)):
        assert await (await board.tasks.submit("k")).result(SECONDS) == "from afar"


async def test_what_a_handler_says_can_be_followed(board: ThrowawayBoard, at_work: Any) -> None:
    async def talks(payload: Any, ctx: TaskContext) -> None:
        await ctx.say("Hel")
        await ctx.used_tool("search")
        await ctx.say("lo" + "\0" * 4_000)

    cursor = await board.cb.events.cursor()
    async with at_work(worker_of(handlers={"k": talks})):
        await (await board.tasks.submit("k")).result(SECONDS)

    events, _ = await board.cb.events.read(cursor, types="task:output")
    told = [
        fact.extra.split("|", 1)
        for event in events
        if isinstance(event, Event)
        for fact in event.facts
    ]
    assert [what for what, _ in told] == ["token", "tool", "token", "token", "token"]
    said = "".join(msgspec.json.decode(text) for what, text in told if what == "token")
    assert said == "Hello" + "\0" * 4_000
    assert told[1][1] == '"search"'


async def test_a_handler_hears_of_its_cancellation_as_it_says_something(
    board: ThrowawayBoard, at_work: Any
) -> None:
    asked: list[str] = []

    async def talks(payload: Any, ctx: TaskContext) -> None:
        await ctx.tasks.cancel(ctx.id)
        try:
            await ctx.say("more")
        except asyncio.CancelledError:
            asked.append(str(ctx.cancel_reason))
            raise

    async with at_work(worker_of(handlers={"k": talks})):
        with pytest.raises(TaskCancelled):
            await (await board.tasks.submit("k")).result(SECONDS)

    assert asked == ["cancelled"]


async def test_a_task_is_handed_off_to_a_named_agent(board: ThrowawayBoard, at_work: Any) -> None:
    async def hands_off(payload: Any, ctx: TaskContext) -> str:
        if ctx.task.agent == "mira":
            await ctx.handoff("noor")
        return ctx.task.agent

    async with (
        at_work(worker_of("noor", handlers={"other": of_nothing, "k": hands_off})),
        at_work(worker_of("mira", handlers={"k": hands_off})),
    ):
        handle = await board.tasks.submit("k", suggested_worker="mira")
        assert await handle.result(SECONDS) == "noor"

    assert (await handle.task()).failures == 0


async def test_a_released_task_costs_no_failure(board: ThrowawayBoard, at_work: Any) -> None:
    async def handler(payload: Any, ctx: TaskContext) -> int:
        if ctx.attempt < 3:
            await ctx.release()
        return ctx.attempt

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k")
        assert await handle.result(SECONDS) == 3

    task = await handle.task()
    assert (task.failures, task.crashes) == (0, 0)


async def test_the_results_of_dependencies_are_at_hand(board: ThrowawayBoard, at_work: Any) -> None:
    async def part(payload: int) -> int:
        return payload

    async def whole(payload: Any, ctx: TaskContext) -> Any:
        return await ctx.dependency_results()

    async with at_work(worker_of(handlers={"part": part, "whole": whole})):
        handles = await board.tasks.submit_many(
            [
                TaskSpec(kind="part", id="a", payload=1),
                TaskSpec(kind="part", id="b", payload=2),
                TaskSpec(kind="whole", id="c", depends_on=["a", "b"]),
            ]
        )
        assert await handles[2].result(SECONDS) == {"a": 1, "b": 2}


# Failure, time, cancellation


async def test_failures_are_retried_as_they_ask_and_kept(
    board: ThrowawayBoard, at_work: Any
) -> None:
    async def handler(payload: Any, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise Retry("busy", delay=0, code=503)
        if ctx.attempt == 2:
            raise OSError("no network")
        return ctx.attempt

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k", retry=RetryPolicy(base=0))
        assert await handle.result(SECONDS) == 3

    errors = [attempt.error for attempt in await board.tasks.attempts(handle.id)]
    assert [error["message"] for error in errors] == ["busy", "no network"]
    assert errors[0]["details"] == {"code": 503}
    assert "raise OSError" in errors[1]["traceback"]


@pytest.mark.parametrize("is_blocking", [False, True], ids=["async", "thread"])
async def test_a_handler_that_exits_ends_its_attempt_and_not_the_worker(
    board: ThrowawayBoard, at_work: Any, is_blocking: bool
) -> None:
    async def leave(payload: Any) -> None:
        sys.exit(3)

    def leave_in_thread(payload: Any) -> None:
        sys.exit(3)

    async def stay(payload: Any) -> str:
        return "still here"

    handlers = {"leave": leave_in_thread if is_blocking else leave, "stay": stay}
    async with at_work(worker_of(handlers=handlers)):
        left = await board.tasks.submit("leave", retry=RetryPolicy(max_retries=0))
        with pytest.raises(TaskFailed):
            await left.result(SECONDS)
        stayed = await (await board.tasks.submit("stay")).result(SECONDS)

    assert ((await left.task()).error or {})["type"] == "SystemExit"
    assert stayed == "still here"


async def test_more_starts_than_a_call_carries_lose_no_results(
    board: ThrowawayBoard, at_work: Any
) -> None:
    runs: list[int] = []

    async def count(payload: int) -> None:
        runs.append(payload)
        await asyncio.sleep(0.05)

    worker = worker_of(handlers={"count": count}, concurrency=1_000, prefetch=1_000)
    handles = await board.tasks.submit_many(
        TaskSpec(kind="count", payload=number) for number in range(3_000)
    )
    async with at_work(worker):
        await asyncio.gather(*(handle.result(3 * SECONDS) for handle in handles))

    assert len(runs) == len(set(runs)) == 3_000


async def test_fatal_is_not_retried(board: ThrowawayBoard, at_work: Any) -> None:
    async def handler(payload: Any) -> None:
        raise Fatal("no cure")

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k")
        with pytest.raises(TaskFailed, match="no cure"):
            await handle.result(SECONDS)

    assert (await handle.task()).attempt == 1


@pytest.mark.parametrize("of_task", [True, False], ids=["of the task", "of the handler"])
async def test_a_time_limit_cancels_the_attempt_and_is_retried(
    board: ThrowawayBoard, at_work: Any, of_task: bool
) -> None:
    cancelled = []
    worker = Worker(agent="mira")

    @worker.handles("k", timeout=None if of_task else 0.05)
    async def handler(payload: Any, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(ctx.cancel_reason)
                raise
        return ctx.attempt

    async with at_work(worker):
        limits = {"timeout": 0.05} if of_task else {}
        handle = await board.tasks.submit("k", retry=RetryPolicy(base=0), **limits)
        assert await handle.result(SECONDS) == 2

    assert cancelled == ["timeout"]
    assert [one.error["type"] for one in await board.tasks.attempts(handle.id)] == ["timeout"]


async def test_a_cancellation_from_outside_ends_the_handler_at_once(
    board: ThrowawayBoard, at_work: Any
) -> None:
    begun, reasons = asyncio.Event(), []

    async def handler(payload: Any, ctx: TaskContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(ctx.cancel_reason)

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k")
        await within(begun.wait())
        asked = time.monotonic()
        await board.tasks.cancel(handle.id, reason="no longer needed")
        with pytest.raises(TaskCancelled):
            await handle.result(SECONDS)
        seconds = time.monotonic() - asked

    assert reasons == ["cancelled"]
    assert (await handle.task()).status is Status.CANCELLED
    assert seconds < 3  # The bell did it: a renewal alone would come after ten.


async def test_a_handler_in_a_thread_can_see_that_it_is_cancelled(
    board: ThrowawayBoard, at_work: Any
) -> None:
    begun = threading.Event()

    def handler(payload: Any, ctx: TaskContext) -> str:
        begun.set()
        while not ctx.is_cancelled:
            time.sleep(0.001)
        return "its result comes too late"

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k")
        await asyncio.to_thread(begun.wait, SECONDS)
        await board.tasks.cancel(handle.id)
        with pytest.raises(TaskCancelled):
            await handle.result(SECONDS)


async def test_a_handler_that_cancels_itself_has_failed(
    board: ThrowawayBoard, at_work: Any
) -> None:
    async def handler(payload: Any) -> None:
        raise asyncio.CancelledError

    async with at_work(worker_of(handlers={"k": handler})):
        handle = await board.tasks.submit("k", retry=RetryPolicy(max_retries=0))
        with pytest.raises(TaskFailed, match="cancelled from within"):
            await handle.result(SECONDS)


async def test_a_lost_lease_cancels_the_handler_and_its_late_result_is_refused(
    board: ThrowawayBoard, at_work: Any
) -> None:
    begun, ended, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    reasons = []

    async def handler(payload: Any, ctx: TaskContext) -> str:
        if ctx.attempt > 1:
            return "second"
        begun.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            reasons.append(ctx.cancel_reason)
            ended.set()
        return "first, too late"

    async with at_work(worker_of("mira", handlers={"k": handler}, lease=0.6)):
        handle = await board.tasks.submit("k")
        await within(begun.wait())
        await board.crash("mira")
        await within(ended.wait())
        assert await handle.result(SECONDS) == "second"

    assert reasons == ["lease_lost"]
    assert (await handle.task()).crashes == 1


async def test_a_shorter_lease_of_a_task_is_kept_too(board: ThrowawayBoard, at_work: Any) -> None:
    renewed = asyncio.Event()

    async def handler(payload: Any, ctx: TaskContext) -> str:
        await renewed.wait()
        return "kept"

    async with at_work(worker_of(handlers={"k": handler}, lease=600)):
        handle = await board.tasks.submit("k", lease=0.9)
        await event(board.cb, "task:claimed", handle.id)
        until = (await handle.task()).until
        assert until is not None
        async with asyncio.timeout(SECONDS):
            while (await handle.task()).until == until:
                pass
        renewed.set()
        assert await handle.result(SECONDS) == "kept"

    assert (await handle.task()).attempt == 1


# How much at once


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "threads"])
async def test_no_more_handlers_run_than_there_are_slots(
    board: ThrowawayBoard, at_work: Any, is_async: bool
) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def enter() -> None:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)

    def leave() -> None:
        nonlocal running
        with lock:
            running -= 1

    async def asynchronous(payload: Any) -> None:
        enter()
        await asyncio.sleep(0)
        leave()

    def blocking(payload: Any) -> None:
        enter()
        time.sleep(0.001)
        leave()

    handler = asynchronous if is_async else blocking
    async with at_work(worker_of(handlers={"k": handler}, concurrency=3)):
        handles = await board.tasks.submit_many([TaskSpec(kind="k") for _ in range(100)])
        for handle in handles:
            await handle.result(SECONDS)

    assert most == 3


async def test_a_thread_keeps_its_slot_until_it_is_done(
    board: ThrowawayBoard, at_work: Any
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def blocking(payload: Any) -> None:
        begun.set()
        go_on.wait(SECONDS)

    async def quick(payload: Any) -> str:
        return "after it" if go_on.is_set() else "beside it"

    async with at_work(worker_of(handlers={"k": blocking, "quick": quick}, concurrency=1)):
        blocks = await board.tasks.submit("k")
        await asyncio.to_thread(begun.wait, SECONDS)
        second = await board.tasks.submit("quick")
        for _ in range(2):
            await board.tasks.cancel(blocks.id)
            await board.tasks.wait(await _done_meanwhile(board), timeout=SECONDS)
        assert (await second.task()).status is not Status.DONE
        go_on.set()
        with pytest.raises(TaskCancelled):
            await blocks.result(SECONDS)
        assert await second.result(SECONDS) == "after it"


async def _done_meanwhile(board: ThrowawayBoard) -> str:
    """Work for another agent, done while the test's worker has time to do something wrong."""
    handle = await board.tasks.submit("other")
    await board.drain({"other": of_nothing})
    return handle.id


async def test_a_worker_with_long_tasks_does_not_hoard(board: ThrowawayBoard, at_work: Any) -> None:
    gate = asyncio.Semaphore(0)

    async def handler(payload: Any) -> None:
        await gate.acquire()

    async with at_work(worker_of(handlers={"k": handler}, concurrency=1)) as running:
        handles = await board.tasks.submit_many([TaskSpec(kind="k") for _ in range(40)])
        for handle in handles[:8]:
            await event(board.cb, "task:claimed", handle.id)
            # Long, as the worker measures it.
            asyncio.get_running_loop().call_later(0.12, gate.release)
            await handle.result(SECONDS)
        held = [one async for one in board.tasks.iterate(status=["claimed", "in_progress"])]
        gate.release()
        assert not running.done()
        for _ in range(40):
            gate.release()

    assert len(held) <= 2


async def test_prefetch_can_be_set(board: ThrowawayBoard, at_work: Any) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def handler(payload: Any) -> None:
        begun.set()
        await gate.wait()

    async with at_work(worker_of(handlers={"k": handler}, concurrency=2, prefetch=0)):
        await board.tasks.submit_many([TaskSpec(kind="k") for _ in range(10)])
        await within(begun.wait())
        held = [one async for one in board.tasks.iterate(status=["claimed", "in_progress"])]
        gate.set()

    assert len(held) == 2


# Stopping


async def test_stop_lets_running_handlers_finish_and_gives_the_queue_back(
    board: ThrowawayBoard,
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def handler(payload: Any) -> str:
        begun.set()
        await gate.wait()
        return "finished"

    worker = worker_of(handlers={"k": handler}, concurrency=1, prefetch=5)
    handles = await board.tasks.submit_many([TaskSpec(kind="k") for _ in range(6)])
    running = asyncio.create_task(worker.run(board.cb, handle_signals=False))
    await within(begun.wait())

    worker.stop()
    for handle in handles[1:]:
        await event(board.cb, "task:released", handle.id)
    gate.set()
    await within(running)

    tasks = [await handle.task() for handle in handles]
    assert tasks[0].result == "finished"
    assert [task.status for task in tasks[1:]] == [Status.PENDING] * 5
    assert [(task.failures, task.crashes) for task in tasks] == [(0, 0)] * 6
    assert (await board.cb.agents.get("mira")).gone == "left"


async def test_handlers_that_do_not_finish_in_time_are_cancelled_and_given_back(
    board: ThrowawayBoard,
) -> None:
    begun, reasons = asyncio.Event(), []

    async def handler(payload: Any, ctx: TaskContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(ctx.cancel_reason)

    worker = worker_of(handlers={"k": handler}, drain=0.05)
    handle = await board.tasks.submit("k")
    running = asyncio.create_task(worker.run(board.cb, handle_signals=False))
    await within(begun.wait())

    worker.stop()
    await within(running)

    task = await handle.task()
    assert (task.status, task.failures, task.crashes) == (Status.PENDING, 0, 0)
    assert reasons == ["stopping"]


async def test_cancelling_run_ends_its_handlers_and_gives_their_tasks_back(
    board: ThrowawayBoard,
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handler(payload: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    handle = await board.tasks.submit("k")
    running = asyncio.create_task(worker_of(handlers={"k": handler}).run(board.cb))
    await within(begun.wait())

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(running)

    assert ended.is_set()
    task = await handle.task()
    assert (task.status, task.crashes) == (Status.PENDING, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM handlers")
async def test_the_first_signal_drains_and_the_second_cancels(board: ThrowawayBoard) -> None:
    begun = asyncio.Event()
    worker = Worker(agent="mira")
    stopping = asyncio.Event()

    @worker.handles("k")
    async def handler(payload: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    handle = await board.tasks.submit("k")
    running = asyncio.create_task(worker.run(board.cb))
    await within(begun.wait())

    os.kill(os.getpid(), signal.SIGTERM)
    asyncio.get_running_loop().call_later(0.05, stopping.set)
    await stopping.wait()
    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await within(running)

    assert (await handle.task()).status is Status.PENDING


async def test_a_drained_agent_stops_its_workers(board: ThrowawayBoard) -> None:
    worker = worker_of(handlers={"k": of_nothing}, lease=0.3)
    running = asyncio.create_task(worker.run(board.cb, handle_signals=False))
    await (await board.tasks.submit("k")).result(SECONDS)

    await board.cb.agents.drain("mira")
    await within(running)

    late = await board.tasks.submit("k")
    assert (await late.task()).status is Status.PENDING


# When things go wrong around it


async def test_a_worker_carries_on_when_the_engine_is_restarted(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def handler(payload: int) -> int:
        if payload == 0:
            await gate.wait()
        return payload

    data = tmp_path / "data"
    engine = await EmbeddedEngine.acquire(data)
    try:
        async with callboard.connect(data=data) as cb:
            worker = worker_of(handlers={"k": handler}, concurrency=2)
            running = asyncio.create_task(worker.run(cb, handle_signals=False))
            held = await cb.tasks.submit("k", 0)
            await event(cb, "task:claimed", held.id)

            await asyncio.to_thread(stop_engine, data, force=True)
            gate.set()
            async with asyncio.timeout(30):
                assert await held.result() == 0
                assert await (await cb.tasks.submit("k", 1)).result() == 1
                worker.stop()
                await running

            task = await held.task()
            assert (task.attempt, task.failures, task.crashes) == (1, 0, 0)
    finally:
        await engine.release()


async def test_observers_that_raise_break_nothing(board: ThrowawayBoard, at_work: Any) -> None:
    seen = []

    def broken(name: str, facts: Any) -> None:
        seen.append(name)
        raise RuntimeError("an observer's own fault")

    worker = worker_of(handlers={"k": of_nothing})
    worker.observers.add(broken)

    async with at_work(worker):
        assert await (await board.tasks.submit("k")).result(SECONDS) == "nothing"

    assert seen == [
        "worker.started",
        "worker.task_started",
        "worker.task_ended",
        "worker.stopped",
    ]


# Loading a worker by name


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("cb_"):
            del sys.modules[name]


ONE_WORKER = "from callboard.sdk.worker import Worker\nmine = Worker(agent='mira')\n"


def test_a_worker_is_found_by_module_and_name(modules: Path) -> None:
    modules.joinpath("cb_one.py").write_text(ONE_WORKER)

    assert load_worker("cb_one:mine").agent == "mira"
    assert load_worker("cb_one").agent == "mira"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("", "", "names no module"),
        (":mine", "", "names no module"),
        ("cb_gone:mine", "", "No module 'cb_gone' here or on the path"),
        ("cb_two:other", ONE_WORKER, "has no Worker named 'other'. It has: mine."),
        ("cb_three", "x = 1\n", "It has no Worker."),
        ("cb_four", ONE_WORKER + "two = Worker(agent='noor')\n", "It has: mine, two."),
        ("cb_five:x", "x = 1\n", "has no Worker named 'x'"),
    ],
)
def test_a_worker_that_cannot_be_found_is_a_clear_error(
    modules: Path, name: str, text: str, message: str
) -> None:
    if text:
        modules.joinpath(name.split(":")[0] + ".py").write_text(text)

    with pytest.raises(ConfigError, match=message):
        load_worker(name)


def test_an_import_that_fails_inside_the_module_is_told_as_it_is(modules: Path) -> None:
    modules.joinpath("cb_six.py").write_text("import cb_not_there\n")

    with pytest.raises(ModuleNotFoundError, match="cb_not_there"):
        load_worker("cb_six:mine")
