"""One run of a worker where things cross each other, or the engine fails under it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import callboard
from callboard import Fatal, RetryPolicy, Status, testing
from callboard.engine.embedded import EmbeddedEngine
from callboard.exceptions import (
    CallboardError,
    EngineUnavailable,
    NotAuthenticated,
    NotPermitted,
    Refused,
    TaskCancelled,
    TaskFailed,
)
from callboard.sdk.context import TaskContext
from callboard.sdk.job import Job
from callboard.sdk.shift import Shift
from callboard.testing import ThrowawayBoard
from tests.sdk.workers import SECONDS, event, fault, shift_of, within, worker_of, working
from tests.waiting import until


@pytest.fixture
async def board() -> AsyncIterator[ThrowawayBoard]:
    async with testing.board() as throwaway:
        yield throwaway


async def nothing(payload: Any) -> None: ...


async def forever(payload: Any) -> None:
    await asyncio.Event().wait()


async def claim(shift: Shift, *, started: int = 1) -> Job:
    """One task of the board, in the shift's queue."""
    worker = shift.worker
    claims = await shift.tasks.claim(
        worker.agent, instance=worker.instance, limit=1, started=started, lease=worker.lease
    )
    shift.accept(claims.tasks)
    return shift.queue[-1]


def begin(shift: Shift) -> asyncio.Task[None]:
    """Take the first of the queue into a slot, as the pump does."""
    job = shift.queue.popleft()
    shift.slots.busy += 1
    job.begin()
    assert job.runner is not None
    return job.runner


def is_confirmation(arguments: tuple[Any, ...]) -> bool:
    """Of ``task_cancel``: by the holder, with its fence."""
    return bool(arguments[5])


# Cancellation


async def test_a_job_that_is_cancelled_before_its_first_step_never_calls_its_handler(
    board: ThrowawayBoard,
) -> None:
    called: list[Any] = []
    told: list[str] = []
    worker = worker_of(handlers={"k": called.append})
    worker.observers.add(lambda name, facts: told.append(name))
    handle = await board.tasks.submit("k")
    async with shift_of(board.cb, worker) as shift:
        job = await claim(shift)
        await board.tasks.cancel(handle.id)

        runner = begin(shift)
        shift.cancel_requested(*job.claim)
        await within(runner)

        assert called == []
        assert told == []
        assert (await handle.task()).status is Status.CANCELLED
        assert (shift.slots.busy, shift.jobs) == (0, {})


async def test_a_request_that_is_repeated_does_not_cancel_the_clean_up(
    board: ThrowawayBoard,
) -> None:
    begun, go_on, cleaned = asyncio.Event(), asyncio.Event(), []

    async def handler(payload: Any) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await go_on.wait()
            cleaned.append(True)

    handle = await board.tasks.submit("k")
    async with shift_of(board.cb, worker_of(handlers={"k": handler})) as shift:
        job = await claim(shift)
        runner = begin(shift)
        await within(begun.wait())
        await board.tasks.cancel(handle.id)

        for _ in range(2):
            shift.cancel_requested(*job.claim)
            await asyncio.sleep(0)
        go_on.set()
        await within(runner)

    assert cleaned == [True]
    assert (await handle.task()).status is Status.CANCELLED


@pytest.mark.parametrize("again", ["cancelled", "stopping", "timeout"])
async def test_a_second_cancellation_does_not_keep_the_first_from_the_board(
    board: ThrowawayBoard, again: str
) -> None:
    begun = asyncio.Event()

    async def handler(payload: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    handle = await board.tasks.submit("k")
    async with shift_of(board.cb, worker_of(handlers={"k": handler})) as shift:
        job = await claim(shift)
        runner = begin(shift)
        await within(begun.wait())
        await board.tasks.cancel(handle.id)
        with fault(board.cb, "task_cancel", where=is_confirmation) as refusal:
            shift.cancel_requested(*job.claim)
            await within(refusal.is_over.wait())

            job.cancel(again)
            await within(runner)

    assert (await handle.task()).status is Status.CANCELLED


@pytest.mark.parametrize("is_begun", [True, False], ids=["running", "claimed ahead"])
async def test_a_cancellation_is_confirmed_once_the_engine_answers_again(
    board: ThrowawayBoard, is_begun: bool
) -> None:
    blocks = await board.tasks.submit("k")
    ahead = await board.tasks.submit("k")
    task = blocks if is_begun else ahead

    with fault(board.cb, "task_cancel", times=2, where=is_confirmation) as failing:
        worker = worker_of(handlers={"k": forever}, concurrency=1, prefetch=1, drain=0.05)
        async with working(board.cb, worker):
            await event(board.cb, "task:claimed", ahead.id)
            await board.tasks.cancel(task.id)
            with pytest.raises(TaskCancelled):
                await task.result(SECONDS)

    assert failing.left == 0
    assert (await task.task()).attempt == 1


async def test_a_bell_is_heard_after_one_that_met_an_engine_error(board: ThrowawayBoard) -> None:
    handles = [await board.tasks.submit("k") for _ in range(2)]
    async with working(board.cb, worker_of(handlers={"k": forever}, lease=600, drain=0.05)):
        for handle in handles:
            await event(board.cb, "task:claimed", handle.id)

        with fault(board.cb, "task_renew") as failing:
            await board.tasks.cancel(handles[0].id)
            await within(failing.is_over.wait())
            await board.tasks.cancel(handles[1].id)
            for handle in handles:
                with pytest.raises(TaskCancelled):
                    await handle.result(SECONDS)


# Claims that were lost


async def test_an_answer_to_an_old_fence_does_not_touch_a_newer_claim(
    board: ThrowawayBoard,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(payload: Any, ctx: TaskContext) -> int:
        begun.set()
        await go_on.wait()
        return ctx.attempt

    handle = await board.tasks.submit("k")
    async with shift_of(board.cb, worker_of(handlers={"k": handler})) as shift:
        old = await claim(shift)
        shift.lost(*old.claim)
        await board.tasks.release(handle.id, fence=old.claimed.fence)
        new = await claim(shift)
        runner = begin(shift)
        await within(begun.wait())

        shift.lost(*old.claim)
        shift.cancel_requested(*old.claim)
        go_on.set()
        await within(runner)

        assert new.context is not None
        assert new.context.cancel_reason is None
        assert not shift.exchange.is_idle  # Its result is kept, to be handed in.


async def test_a_claim_that_comes_anew_ends_the_handler_of_the_old_one(
    board: ThrowawayBoard,
) -> None:
    begun, reasons = asyncio.Event(), []

    async def handler(payload: Any, ctx: TaskContext) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            reasons.append((ctx.attempt, ctx.cancel_reason))
        return "too late"

    handle = await board.tasks.submit("k")
    async with shift_of(board.cb, worker_of(handlers={"k": handler})) as shift:
        old = await claim(shift)
        runner = begin(shift)
        await within(begun.wait())
        await board.tasks.release(handle.id, fence=old.claimed.fence)

        new = await claim(shift)
        await within(runner)

        assert reasons == [(1, "lease_lost")]
        assert list(shift.jobs.values()) == [new]
        assert shift.exchange.is_idle  # The late result is not even handed in.


async def test_short_leases_that_keep_coming_do_not_put_renewals_off(
    board: ThrowawayBoard,
) -> None:
    gate = asyncio.Event()
    worker = worker_of(handlers={"k": forever, "short": nothing}, drain=0.05)
    renewed = asyncio.Event()

    def seen(arguments: tuple[Any, ...]) -> bool:
        renewed.set()
        return False

    async def keep_coming() -> None:
        while not gate.is_set():
            with suppress(TaskCancelled):
                await (await board.tasks.submit("short", lease=0.3)).result(SECONDS)

    with fault(board.cb, "task_renew", where=seen):
        async with working(board.cb, worker):
            await board.tasks.submit("k", lease=1.5)
            stream = asyncio.create_task(keep_coming())
            try:
                async with asyncio.timeout(3):
                    await renewed.wait()
            finally:
                gate.set()
                await stream


async def test_renewals_come_at_a_third_of_the_lease_and_no_faster(
    board: ThrowawayBoard,
) -> None:
    at: list[float] = []
    enough = asyncio.Event()

    def seen(arguments: tuple[Any, ...]) -> bool:
        at.append(asyncio.get_running_loop().time())
        if len(at) == 4:
            enough.set()
        return False

    with fault(board.cb, "task_renew", where=seen):
        worker = worker_of(handlers={"k": forever}, lease=0.6, drain=0.05)
        async with working(board.cb, worker):
            await board.tasks.submit("k")
            await within(enough.wait())

    assert at[3] - at[0] > 0.5  # Three times 0.2 s, less a tenth at most.


# The report that a task claimed ahead has begun


async def test_a_start_whose_report_failed_with_a_renewal_is_reported_again(
    board: ThrowawayBoard,
) -> None:
    handle = await board.tasks.submit("k")
    async with shift_of(board.cb, worker_of(handlers={"k": forever}, lease=0.3)) as shift:
        await claim(shift, started=0)
        keys, connection = shift.cb.namespace.keys, shift.cb.namespace.connection
        channel = keys.agent_bell(shift.worker.agent, shift.worker.instance)
        with fault(board.cb, "task_start") as failing, await connection.subscribe(channel) as bells:
            runner = begin(shift)
            shift.keeping.start(bells)
            await within(failing.is_over.wait())

            await event(board.cb, "task:started", handle.id)
            assert not runner.done()


async def test_a_start_whose_report_went_with_a_refused_step_is_reported_again(
    board: ThrowawayBoard,
) -> None:
    async def handler(payload: int) -> None:
        if payload == 1:
            await asyncio.Event().wait()

    def has_starts(arguments: tuple[Any, ...]) -> bool:
        return bool(arguments[9])

    handles = [await board.tasks.submit("k", number) for number in range(2)]
    refused = Refused("The test says no.")
    with fault(board.cb, "task_complete_and_claim", where=has_starts, error=refused) as failing:
        worker = worker_of(handlers={"k": handler}, concurrency=1, prefetch=1, drain=0.05)
        async with working(board.cb, worker):
            await event(board.cb, "task:started", handles[1].id)

    assert failing.left == 0


async def test_a_task_lost_unstarted_waits_for_its_report_and_does_not_fail(
    board: ThrowawayBoard,
) -> None:
    states: list[Status] = []

    async def handler(payload: Any, ctx: TaskContext) -> None:
        states.append((await ctx.tasks.get(ctx.id)).status)

    handle = await board.tasks.submit("k")
    await board.cb.agents.register("noor", kinds=["k"])
    await board.tasks.claim("noor", started=0)
    await board.crash("noor")
    async with shift_of(board.cb, worker_of(handlers={"k": handler})) as shift:
        job = await claim(shift, started=0)
        assert job.claimed.was_lost
        with fault(board.cb, "task_start", times=2) as failing:
            await within(begin(shift))

    assert failing.left == 0
    assert states == [Status.IN_PROGRESS]
    assert (await handle.task()).failures == 0


async def test_a_task_lost_unstarted_and_lost_again_is_not_run(board: ThrowawayBoard) -> None:
    called: list[Any] = []
    handle = await board.tasks.submit("k")
    await board.cb.agents.register("noor", kinds=["k"])
    await board.tasks.claim("noor", started=0)
    await board.crash("noor")
    async with shift_of(board.cb, worker_of(handlers={"k": called.append})) as shift:
        job = await claim(shift, started=0)
        await board.tasks.release(handle.id, fence=job.claimed.fence)
        await within(begin(shift))

        assert called == []
        assert (await handle.task()).status is Status.PENDING
        assert (shift.slots.busy, shift.exchange.is_idle) == (0, True)


# An engine that has forgotten everything


async def test_a_worker_works_on_where_the_engine_was_flushed_under_it(tmp_path: Path) -> None:
    begun, lost = asyncio.Event(), asyncio.Event()
    calls: list[str] = []

    async def handler(payload: int, ctx: TaskContext) -> int:
        if payload == 0:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                lost.set()
        return payload

    def counted(arguments: tuple[Any, ...]) -> bool:
        calls.append("claim")
        return False

    engine = await EmbeddedEngine.acquire(tmp_path / "data")
    try:
        async with callboard.connect(data=tmp_path / "data") as cb:
            worker = worker_of(handlers={"k": handler}, concurrency=2, lease=3)
            async with working(cb, worker):
                await cb.tasks.submit("k", 0)
                await within(begun.wait())

                with fault(cb, "task_complete_and_claim", where=counted):
                    await cb.namespace.connection.call("FLUSHALL")
                    # A renewal, at a third of the lease, finds that the board knows it no more.
                    await within(lost.wait())
                    assert await (await cb.tasks.submit("k", 1)).result(SECONDS) == 1
                    assert await (await cb.tasks.submit("k", 2)).result(SECONDS) == 2

                agent = await cb.agents.get("mira")
                assert [one.id for one in agent.instances] == [worker.instance]
    finally:
        await engine.release()

    assert 2 <= len(calls) < 50


async def test_a_full_worker_registers_again_after_a_flush(tmp_path: Path) -> None:
    begun = threading.Event()
    go_on = threading.Event()
    registered = asyncio.Event()
    calls: list[str] = []

    def handler(payload: int) -> int:
        if payload == 0:
            begun.set()
            go_on.wait(SECONDS)
        return payload

    def counted(arguments: tuple[Any, ...]) -> bool:
        calls.append("register")
        registered.set()
        return False

    engine = await EmbeddedEngine.acquire(tmp_path / "data")
    try:
        async with callboard.connect(data=tmp_path / "data") as cb:
            worker = worker_of(handlers={"k": handler}, concurrency=1, prefetch=0, lease=1)
            async with working(cb, worker):
                await cb.tasks.submit("k", 0)
                await asyncio.to_thread(begun.wait, SECONDS)

                with fault(cb, "agent_register", where=counted):
                    await cb.namespace.connection.call("FLUSHALL")
                    await within(registered.wait())
                    go_on.set()
                    assert await (await cb.tasks.submit("k", 1)).result(SECONDS) == 1
    finally:
        go_on.set()
        await engine.release()

    assert 1 <= len(calls) < 5


# What observers are told


async def told(board: ThrowawayBoard, handler: Any, **fields: Any) -> list[tuple[Any, ...]]:
    """What observers heard of the first attempt at a task with this handler."""
    heard: list[tuple[Any, ...]] = []

    def observe(name: str, facts: Mapping[str, Any]) -> None:
        if name.startswith("worker.task_"):
            rest = {key: facts[key] for key in ("task", "kind", "ending") if key in facts}
            heard.append((name.removeprefix("worker.task_"), rest))

    worker = worker_of(handlers={"k": handler}, drain=0.05)
    worker.observers.add(observe)
    async with working(board.cb, worker):
        handle = await board.tasks.submit("k", id="t", **fields)
        with suppress(TaskFailed):
            await handle.result(SECONDS)
    return heard


async def complete(payload: Any) -> str:
    return "done"


async def unwritable(payload: Any) -> object:
    return object()


async def fatal(payload: Any) -> None:
    raise Fatal("no cure")


async def hand_off(payload: Any, ctx: TaskContext) -> None:
    if ctx.attempt == 1:
        await ctx.release()


@pytest.mark.parametrize(
    ("handler", "fields", "endings"),
    [
        (complete, {}, ["completed"]),
        (unwritable, {}, ["failed"]),
        (fatal, {}, ["failed"]),
        (forever, {"timeout": 0.05, "retry": RetryPolicy(max_retries=0)}, ["timeout"]),
        (hand_off, {}, ["set_aside", "completed"]),
    ],
)
async def test_observers_are_told_of_each_start_and_how_it_ended(
    board: ThrowawayBoard, handler: Any, fields: dict[str, Any], endings: list[str]
) -> None:
    heard = await told(board, handler, **fields)

    expected = []
    for ending in endings:
        expected.append(("started", {"task": "t", "kind": "k"}))
        expected.append(("ended", {"task": "t", "kind": "k", "ending": ending}))
    assert heard == expected


async def test_observers_are_told_of_tasks_given_back_and_of_leases_lost(
    board: ThrowawayBoard,
) -> None:
    heard: list[tuple[str, str]] = []
    begun = asyncio.Event()

    async def handler(payload: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    def observe(name: str, facts: Mapping[str, Any]) -> None:
        heard.append((name, facts.get("ending", "")))

    worker = worker_of(handlers={"k": handler})
    worker.observers.add(observe)
    for reason in ("lease_lost", "stopping", "cancelled"):
        await board.tasks.submit("k", id=reason)
    async with shift_of(board.cb, worker) as shift:
        for reason in ("lease_lost", "stopping", "cancelled"):
            job = await claim(shift)
            begun.clear()
            runner = begin(shift)
            await within(begun.wait())
            if reason == "lease_lost":
                shift.lost(*job.claim)
            else:
                job.cancel(reason)
            await within(runner)

    assert heard == [
        ("worker.task_started", ""),
        ("worker.lease_lost", ""),
        ("worker.task_ended", "lease_lost"),
        ("worker.task_started", ""),
        ("worker.task_ended", "stopping"),
        ("worker.task_started", ""),
        ("worker.task_ended", "cancelled"),
    ]


# What no repetition cures


@pytest.mark.parametrize(
    "error", [NotAuthenticated("Revoked."), NotPermitted("Too little.")], ids=["401", "403"]
)
@pytest.mark.parametrize("call", ["task_complete_and_claim", "agent_heartbeat"])
async def test_a_worker_whose_key_holds_no_more_ends_with_that_error(
    board: ThrowawayBoard, caplog: pytest.LogCaptureFixture, call: str, error: CallboardError
) -> None:
    worker = worker_of(handlers={"k": forever}, lease=0.3)
    held = await board.tasks.submit("k")
    running = asyncio.create_task(worker.run(board.cb, handle_signals=False))
    await event(board.cb, "task:claimed", held.id)

    with fault(board.cb, call, times=1_000, error=error), pytest.raises(type(error)):
        await within(running)

    assert "Traceback" not in caplog.text
    assert (await held.task()).status is Status.PENDING


async def test_a_worker_ends_where_its_connection_is_closed(board: ThrowawayBoard) -> None:
    async with callboard.connect(board.cb.choice.url, namespace=board.cb.namespace.name) as cb:
        worker = worker_of(handlers={"k": forever})
        held = await board.tasks.submit("k")
        running = asyncio.create_task(worker.run(cb, handle_signals=False))
        await event(board.cb, "task:claimed", held.id)

        await cb.close()

        with pytest.raises(EngineUnavailable):
            await within(running)


@pytest.mark.parametrize("waits", ["results", "queue"])
async def test_a_drain_is_over_in_its_time_though_nothing_answers(
    board: ThrowawayBoard, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    monkeypatch.setattr("callboard.sdk.shift.ABANDON_SECONDS", 0.1)
    gate, is_frozen = asyncio.Event(), asyncio.Event()

    async def handler() -> None:
        await gate.wait()

    worker = worker_of(handlers={"k": handler}, concurrency=1, prefetch=1, drain=0.2)
    held = await board.tasks.submit("k")
    if waits == "queue":
        await board.tasks.submit("k")
    functions = board.cb.namespace.functions
    found = functions.call

    async def call(name: str, *arguments: Any, **options: Any) -> list[Any]:
        if is_frozen.is_set() and name.startswith(("task_", "agent_")):
            await asyncio.Event().wait()
        return await found(name, *arguments, **options)

    monkeypatch.setattr(functions, "call", call)
    running = asyncio.create_task(worker.run(board.cb, handle_signals=False))
    await event(board.cb, "task:claimed", held.id)
    shift = worker._shift
    await until(lambda: shift.jobs and (waits != "queue" or shift.queue))
    is_frozen.set()
    if waits == "results":
        gate.set()
    worker.stop()

    await within(running)
