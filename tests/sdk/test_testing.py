"""``callboard.testing``: what users test their handlers with does what it says."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callboard import Fatal, Requirements, Retry, RetryPolicy, Status, TaskSpec, testing
from callboard.exceptions import ConfigError, InvalidArgument, LeaseLost, TaskFailed
from callboard.sdk.context import TaskContext
from callboard.sdk.worker import Worker
from callboard.testing import ThrowawayBoard

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Greeting:
    name: str


@pytest.fixture
async def board() -> AsyncIterator[ThrowawayBoard]:
    async with testing.board() as throwaway:
        yield throwaway


async def echo(payload: Any) -> Any:
    return payload


async def fail(payload: Any) -> None:
    raise OSError("no network")


# The board


async def test_two_boards_do_not_see_each_other() -> None:
    async with testing.board() as one, testing.board() as other:
        await one.tasks.submit("echo", id="t")

        assert (await other.tasks.list()).tasks == ()
        assert (await one.tasks.get("t")).status is Status.PENDING


async def test_nothing_is_left_of_a_board() -> None:
    async with testing.board() as outer:
        async with testing.board() as inner:
            prefix = inner.cb.namespace.keys.prefix
            await inner.tasks.submit_many(TaskSpec(kind="echo") for _ in range(1_200))
            await inner.tasks.submit("fail")
            await inner.drain({"fail": fail}, timeout=60)
        left = await outer.cb.namespace.connection.call("KEYS", prefix + "*")

    assert left == []


async def test_a_drained_handler_waits_for_a_task_of_another_board() -> None:
    async with testing.board() as board:
        other = board.cb.board("other").tasks

        async def near(payload: Any, ctx: TaskContext) -> Any:
            return await ctx.wait(await other.submit("far"), tasks=other)

        async def far(payload: Any) -> str:
            return "from afar"

        one, two = Worker(agent="one"), Worker(agent="two", board="other")
        one.handles("near")(near)
        two.handles("far")(far)
        handle = await board.tasks.submit("near")

        await board.drain(one, two)

        assert await handle.result() == "from afar"


async def test_removing_the_default_namespace_is_refused(board: ThrowawayBoard) -> None:
    functions = board.cb.namespace.functions
    names = functions._names

    reply = await board.cb.namespace.connection.call(
        "FCALL", names["namespace_remove"], 1, "callboard:format", "", "0", 10
    )

    assert reply == [b"default_namespace"]


async def test_the_board_may_have_another_name_and_a_given_engine(valkey_url: str) -> None:
    async with testing.board("jobs", url=valkey_url) as board:
        await board.tasks.submit("echo", 1, id="t")
        await board.drain({"echo": echo})

        assert board.tasks.board == "jobs"
        assert str(board.cb.choice.url) == valkey_url


# Draining


async def test_drain_runs_what_the_handlers_submit_too(board: ThrowawayBoard) -> None:
    async def parent(payload: Any, ctx: TaskContext) -> None:
        await ctx.tasks.submit("echo", "from the parent", id="child")

    await board.tasks.submit("parent", id="parent")

    drained = await board.drain({"parent": parent, "echo": echo})

    assert drained.completed == ("parent", "child")
    assert drained.ran == 2
    assert drained.left.done == 2
    await board.assert_done("child", result="from the parent")


async def test_drain_goes_by_priority_then_age(board: ThrowawayBoard) -> None:
    await board.tasks.submit("echo", id="first")
    await board.tasks.submit("echo", id="second")
    await board.tasks.submit("echo", id="urgent", priority="urgent")

    drained = await board.drain({"echo": echo})

    assert drained.completed == ("urgent", "first", "second")


async def test_drain_leaves_kinds_that_it_has_no_handler_for(board: ThrowawayBoard) -> None:
    await board.tasks.submit("other", id="other")

    drained = await board.drain({"echo": echo})

    assert drained.ran == 0
    assert drained.left.pending == 1


async def test_drain_without_handlers_is_refused(board: ThrowawayBoard) -> None:
    with pytest.raises(ConfigError, match="give workers that have handlers"):
        await board.drain()
    with pytest.raises(ConfigError, match="give workers that have handlers"):
        await board.drain(Worker(agent="mira"))


async def test_drain_uses_the_workers_own_handlers_and_what_it_offers(
    board: ThrowawayBoard,
) -> None:
    mira = Worker(agent="mira", capabilities=["french"])
    noor = Worker(agent="noor")

    @mira.handles("greet")
    async def bonjour(payload: Greeting) -> str:
        return f"Bonjour {payload.name}"

    @noor.handles("greet")
    def hello(payload: Greeting) -> str:
        return f"Hello {payload.name}"

    french = await board.tasks.submit(
        "greet", Greeting("Ada"), requirements=Requirements(capabilities=("french",))
    )

    await board.drain(noor)
    assert (await french.task()).status is Status.PENDING

    await board.drain(noor, mira)
    task = await board.assert_done(french, result="Bonjour Ada")
    assert task.agent == "mira"


async def test_a_failure_waits_for_its_retry_unless_the_drain_moves_the_clock(
    board: ThrowawayBoard,
) -> None:
    tries = []

    async def flaky(payload: Any, ctx: TaskContext) -> int:
        tries.append(ctx.attempt)
        if ctx.attempt < 3:
            raise Retry("not yet", delay=3_600)
        return ctx.attempt

    await board.tasks.submit("flaky", id="t")
    before = board.clock.now()

    drained = await board.drain({"flaky": flaky})
    assert (drained.retried, drained.left.retrying) == (("t",), 1)

    drained = await board.drain({"flaky": flaky}, with_retries=True)
    assert (drained.retried, drained.completed) == (("t",), ("t",))
    assert drained.failed == ("t",)
    assert drained.failures[0].failure.message == "not yet"
    assert tries == [1, 2, 3]
    assert board.clock.now() - before > timedelta(hours=2)


async def test_exhausted_and_fatal_failures_are_dead_letters(board: ThrowawayBoard) -> None:
    async def broken(payload: Any) -> None:
        raise Fatal("never")

    await board.tasks.submit("fail", id="exhausted", retry=RetryPolicy(max_retries=2))
    await board.tasks.submit("broken", id="fatal")

    drained = await board.drain({"fail": fail, "broken": broken}, with_retries=True)

    assert sorted(drained.dead_letters) == ["exhausted", "fatal"]
    assert drained.retried == ("exhausted", "exhausted")
    assert drained.left.dead_letters == 2
    await board.assert_failed("exhausted", error="OSError: no network")


async def test_a_result_that_is_no_json_fails_as_in_a_worker(board: ThrowawayBoard) -> None:
    async def opaque(payload: Any) -> object:
        return object()

    await board.tasks.submit("opaque", id="t")

    drained = await board.drain({"opaque": opaque})

    assert drained.dead_letters == ("t",)
    await board.assert_failed("t", error="cannot be written as JSON")


async def test_an_attempt_over_its_time_is_a_retryable_failure(board: ThrowawayBoard) -> None:
    async def endless(payload: Any) -> None:
        await asyncio.Event().wait()

    await board.tasks.submit("endless", id="t", timeout=0.02)

    drained = await board.drain({"endless": endless})

    assert drained.retried == ("t",)
    assert drained.failures[0].failure.type == "timeout"


async def test_a_parent_that_waits_lets_its_child_run(board: ThrowawayBoard) -> None:
    async def parent(payload: Any, ctx: TaskContext) -> Any:
        return await ctx.wait(await ctx.tasks.submit("echo", 7))

    def blocking_parent(payload: Any, ctx: TaskContext) -> Any:
        return ctx.run(ctx.wait(ctx.run(ctx.tasks.submit("parent"))))

    handle = await board.tasks.submit("blocking")

    await board.drain({"parent": parent, "blocking": blocking_parent, "echo": echo})

    await board.assert_done(handle, result=7)


async def test_waiting_for_a_child_that_is_retried_takes_no_real_time(
    board: ThrowawayBoard,
) -> None:
    async def parent(payload: Any, ctx: TaskContext) -> Any:
        return await ctx.wait(await ctx.tasks.submit("late"))

    async def late(payload: Any, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            raise Retry("later", delay=86_400)
        return "there"

    handle = await board.tasks.submit("parent")

    drained = await board.drain({"parent": parent, "late": late}, with_retries=True)

    await board.assert_done(handle, result="there")
    assert drained.refused == ()


async def test_split_input_handoff_and_release_end_the_claim(board: ThrowawayBoard) -> None:
    async def splits(payload: Any, ctx: TaskContext) -> list[Any]:
        children = await ctx.split([TaskSpec(kind="echo", payload=n) for n in (1, 2)])
        return [child.result for child in children]

    async def asks(payload: Any, ctx: TaskContext) -> str:
        return f"it is {await ctx.input('which colour?')}"

    async def releases(payload: Any, ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            await ctx.release(delay=60)

    for kind in ("splits", "asks", "releases"):
        await board.tasks.submit(kind, id=kind)
    handlers: dict[str, Any] = {"splits": splits, "asks": asks, "releases": releases, "echo": echo}

    drained = await board.drain(handlers)
    assert sorted(drained.set_aside) == ["asks", "releases", "splits"]
    assert (drained.left.input_required, drained.left.scheduled) == (1, 1)
    await board.assert_done("splits", result=[1, 2])

    await board.tasks.answer("asks", "green")
    await board.clock.advance(60)
    await board.drain(handlers)
    await board.assert_done("asks", result="it is green")
    await board.assert_done("releases")


async def test_a_handler_that_hears_of_a_cancellation_ends_cancelled(
    board: ThrowawayBoard,
) -> None:
    async def cancelled(payload: Any, ctx: TaskContext) -> None:
        await ctx.tasks.cancel(ctx.id)
        await ctx.progress("half")
        raise AssertionError("it went on")

    await board.tasks.submit("cancelled", id="t")

    drained = await board.drain({"cancelled": cancelled})

    assert drained.cancelled == ("t",)
    assert (await board.tasks.get("t")).status is Status.CANCELLED


async def test_an_outcome_after_the_lease_was_lost_is_refused(board: ThrowawayBoard) -> None:
    async def slow(payload: Any, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            await board.clock.advance(31)
        return f"attempt {ctx.attempt}"

    await board.tasks.submit("slow", id="t")

    drained = await board.drain({"slow": slow})

    assert (drained.refused, drained.completed) == (("t",), ("t",))
    await board.assert_done("t", result="attempt 2")


async def test_a_drain_that_does_not_end_says_what_it_waited_for(board: ThrowawayBoard) -> None:
    async def parent(payload: Any, ctx: TaskContext) -> Any:
        return await ctx.wait(await ctx.tasks.submit("nobody", id="child"))

    await board.tasks.submit("parent", id="t")

    with pytest.raises(TimeoutError, match=r"within 0\.2 s: parent t waits for task child"):
        await board.drain({"parent": parent}, timeout=0.2)

    assert (await board.tasks.get("t")).status is Status.PENDING


# The clock


async def test_time_stands_still_where_a_moment_is_given() -> None:
    async with testing.board(at=NEW_YEAR) as board:
        handle = await board.tasks.submit("echo", delay=3_600)
        await board.clock.advance(1_800)
        assert (await handle.task()).status is Status.SCHEDULED

        await board.clock.set(NEW_YEAR + timedelta(hours=1, seconds=1))
        task = await handle.task()

        assert task.status is Status.PENDING
        assert abs(task.created_at - NEW_YEAR) < timedelta(milliseconds=10)
        assert board.clock.is_frozen
        board.clock.run()
        assert not board.clock.is_frozen
        assert board.clock.now() - NEW_YEAR < timedelta(hours=1, minutes=1)


async def test_what_was_submitted_first_is_first_while_time_stands_still() -> None:
    async with testing.board(at=NEW_YEAR) as board:
        for name in ("c", "b", "a"):
            await board.tasks.submit("echo", id=name)

        assert (await board.drain({"echo": echo})).completed == ("c", "b", "a")


async def test_time_stands_still_from_a_freeze_on(board: ThrowawayBoard) -> None:
    board.clock.freeze()
    before = board.clock.now()

    await board.tasks.submit("echo", id="t")

    assert board.clock.now() - before < timedelta(milliseconds=1)


async def test_time_does_not_go_back(board: ThrowawayBoard) -> None:
    with pytest.raises(InvalidArgument, match="only goes forward"):
        await board.clock.advance(-1)
    with pytest.raises(InvalidArgument, match="cannot go back"):
        await board.clock.set(NEW_YEAR - timedelta(days=20_000))


async def test_a_moved_clock_runs_leases_out_without_a_grace(board: ThrowawayBoard) -> None:
    await board.cb.agents.register("mira", heartbeat_interval=3_600)
    handle = await board.tasks.submit("echo")
    claimed = (await board.tasks.claim("mira", lease=20)).tasks[0]

    await board.clock.advance(19)
    assert (await handle.task()).status is Status.CLAIMED

    await board.clock.advance(2)
    task = await handle.task()
    assert (task.status, task.crashes) == (Status.PENDING, 1)
    with pytest.raises(LeaseLost):
        await board.tasks.complete(claimed.id, fence=claimed.fence)


async def test_a_moved_clock_brings_retries_and_ends_what_is_past_its_deadline(
    board: ThrowawayBoard,
) -> None:
    deadline = board.clock.now() + timedelta(minutes=5)
    await board.tasks.submit("fail", id="retried")
    await board.drain({"fail": fail})
    await board.tasks.submit("echo", id="late", deadline=deadline)

    await board.clock.advance(600)

    assert (await board.tasks.get("retried")).status is Status.PENDING
    await board.assert_failed("late", error="deadline_exceeded")


# A crash


async def test_a_crash_loses_what_the_agent_holds_and_nothing_else(
    board: ThrowawayBoard,
) -> None:
    for agent in ("mira", "noor"):
        await board.cb.agents.register(agent)
    await board.tasks.submit_many([TaskSpec(kind="echo", id="a"), TaskSpec(kind="echo", id="b")])
    mira = (await board.tasks.claim("mira")).tasks[0]
    noor = (await board.tasks.claim("noor")).tasks[0]

    lost = await board.crash("mira")

    assert lost == [mira.id]
    task = await board.tasks.get(mira.id)
    assert (task.status, task.crashes) == (Status.PENDING, 1)
    assert (await board.tasks.get(noor.id)).status is Status.CLAIMED
    await board.tasks.complete(noor.id, fence=noor.fence)
    with pytest.raises(LeaseLost):
        await board.tasks.complete(mira.id, fence=mira.fence)
    assert (await board.cb.agents.get("mira")).gone == "lost"
    assert (await board.cb.agents.get("noor")).gone == ""


async def test_a_task_that_crashes_too_often_is_a_dead_letter(board: ThrowawayBoard) -> None:
    await board.tasks.submit("echo", id="t")

    for _ in range(5):
        await board.cb.agents.register("mira")
        await board.tasks.claim("mira")
        await board.crash("mira")

    await board.assert_failed("t", error="poison")


# Assertions


async def test_assert_submitted_finds_by_kind_payload_and_fields(board: ThrowawayBoard) -> None:
    await board.tasks.submit("greet", {"name": "Ada"}, priority="high")
    await board.tasks.submit("greet", {"name": "Grace"})

    found = await board.assert_submitted("greet", payload={"name": "Ada"}, priority=10, times=1)

    assert [task.payload_as() for task in found] == [{"name": "Ada"}]
    assert len(await board.assert_submitted("greet", times=2)) == 2
    await board.assert_not_submitted("greet", payload={"name": "Alan"})
    await board.assert_not_submitted("mail")


async def test_assert_submitted_says_what_was_there_instead(board: ThrowawayBoard) -> None:
    await board.tasks.submit("greet", {"name": "Ada"}, id="t1")

    with pytest.raises(AssertionError) as other_payload:
        await board.assert_submitted("greet", payload={"name": "Grace"})
    with pytest.raises(AssertionError) as other_kind:
        await board.assert_submitted("mail")
    with pytest.raises(AssertionError) as too_often:
        await board.assert_not_submitted("greet")

    assert str(other_payload.value) == (
        "Expected a task of kind 'greet' with payload {'name': 'Grace'} on board 'default'; "
        "there are 0.\n  t1 (pending): payload {'name': 'Ada'}"
    )
    assert "none of this kind; the board has 1 × greet" in str(other_kind.value)
    assert "Expected no task of kind 'greet' on board 'default'; there are 1." in str(
        too_often.value
    )


async def test_assert_done_and_failed_say_what_is_there_instead(board: ThrowawayBoard) -> None:
    await board.tasks.submit("echo", 1, id="done")
    await board.tasks.submit("fail", id="retried")
    await board.tasks.submit("echo", id="blocked", depends_on=["retried"])
    await board.drain({"echo": echo, "fail": fail})

    expected = {
        board.assert_done("gone"): r"gone is not on board 'default', which has 2 × echo, 1 × fail",
        board.assert_done("done", result=2): r"another result\.\n  expected: 2\n  it has:   1",
        board.assert_failed("done"): r"is done, not failed.*\n  result: 1",
        board.assert_done("retried"): r"is scheduled, not done.*last error: OSError: no network",
        board.assert_done("blocked"): r"is blocked, not done\.\n  why: .*retried",
    }
    for check, message in expected.items():
        with pytest.raises(AssertionError) as raised:
            await check
        assert re.search(message, str(raised.value), re.DOTALL)


# One handler alone


async def test_a_handler_runs_without_a_board() -> None:
    worker = Worker(agent="mira")

    @worker.handles("greet")
    async def greet(payload: Greeting, ctx: TaskContext) -> tuple[str, int]:
        await ctx.progress(0.5)
        await ctx.say("well")
        await ctx.used_tool("search")
        await ctx.note("greeting")
        await ctx.partial({"so": "far"})
        return f"Hello {payload.name}", ctx.attempt

    run = await testing.run_handler(worker, "greet", {"name": "Ada"}, attempt=2)

    assert run.result == ["Hello Ada", 2]
    assert (run.progress, run.notes, run.partials) == ([0.5], ["greeting"], [{"so": "far"}])
    assert (run.said, run.tools) == (["well"], ["search"])
    assert run.ended_by == "return"


async def test_what_a_lone_handler_raises_is_raised() -> None:
    def strict(payload: int) -> int:
        return payload

    with pytest.raises(OSError, match="no network"):
        await testing.run_handler(fail, "fail")
    with pytest.raises(Fatal, match="does not fit handler 'strict'"):
        await testing.run_handler(strict, "strict", "seven")
    with pytest.raises(InvalidArgument, match="cannot be written as JSON"):
        await testing.run_handler(lambda payload: object(), "opaque")
    with pytest.raises(ConfigError, match="no handler for kind 'mail'"):
        await testing.run_handler(Worker(agent="mira"), "mail")


async def test_a_lone_handlers_context_answers_from_what_it_was_given() -> None:
    async def asks(payload: Any, ctx: TaskContext) -> str:
        colour = await ctx.input("which colour?")
        size = await ctx.input("which size?")
        return f"{colour} {size} {await ctx.wait('other')} {await ctx.earlier_partial()}"

    done = await testing.run_handler(
        asks, "asks", answers=["green", "small"], results={"other": 7}, earlier_partial="half"
    )
    asked = await testing.run_handler(asks, "asks", answers=["green"])

    assert done.result == "green small 7 half"
    assert (asked.ended_by, asked.question) == ("input", "which size?")


async def test_a_lone_handler_may_split_hand_off_and_release() -> None:
    async def splits(payload: Any, ctx: TaskContext) -> None:
        await ctx.split([TaskSpec(kind="echo", payload=1)])

    async def hands_off(payload: Any, ctx: TaskContext) -> None:
        await ctx.handoff("noor")

    def releases(payload: Any, ctx: TaskContext) -> None:
        ctx.run(ctx.release(30))

    async def submits(payload: Any, ctx: TaskContext) -> None:
        await ctx.tasks.submit("echo")

    split = await testing.run_handler(splits, "k")
    handed = await testing.run_handler(hands_off, "k")
    released = await testing.run_handler(releases, "k")

    assert (split.ended_by, [child.kind for child in split.children]) == ("split", ["echo"])
    assert (handed.ended_by, handed.to) == ("handoff", "noor")
    assert (released.ended_by, released.delay) == ("release", 30)
    with pytest.raises(InvalidArgument, match=r"no board, so ctx\.tasks\.submit cannot be used"):
        await testing.run_handler(submits, "k")


# With a real worker beside it, and as a plugin


async def test_a_real_worker_on_the_board_sees_the_moved_clock(board: ThrowawayBoard) -> None:
    worker = Worker(board.cb, agent="mira")
    worker.handles("fail")(fail)
    running = asyncio.create_task(worker.run(handle_signals=False))
    handle = await board.tasks.submit("fail", retry=RetryPolicy(max_retries=1, base=3_600))
    async with asyncio.timeout(10):
        await anext(board.cb.events.follow(await _start(board), types=["task:retry*"]))

    await board.clock.advance(3_600)

    with pytest.raises(TaskFailed, match="no network"):
        await handle.result(timeout=10)
    worker.stop()
    await running


async def _start(board: ThrowawayBoard) -> str:
    _, cursor = await board.cb.events.read(limit=1)
    return cursor.split(":")[0] + ":0"


def test_the_plugin_gives_a_fixture(tmp_path: Path) -> None:
    Path(tmp_path, "conftest.py").write_text('pytest_plugins = ["callboard.testing.pytest"]\n')
    Path(tmp_path, "test_echo.py").write_text(
        """
import pytest

@pytest.mark.asyncio
async def test_echo(callboard_board):
    await callboard_board.tasks.submit("echo", 1, id="t")
    await callboard_board.drain({"echo": lambda payload: payload})
    await callboard_board.assert_done("t", result=1)
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]

    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert (run.returncode, "1 passed" in run.stdout) == (0, True), run.stdout + run.stderr
