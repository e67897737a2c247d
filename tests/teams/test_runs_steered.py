"""Runs cancelled, paused, retried, deleted, and served by several hosts at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import callboard
from callboard import telling, testing
from callboard.domain.run import Phase, Run
from callboard.domain.task import Status
from callboard.exceptions import (
    BoardPaused,
    Fatal,
    IllegalState,
    InvalidArgument,
    RunFailed,
    RunNotFound,
)
from callboard.services.runs import RunRecords
from callboard.teams.agents import Invocation
from callboard.teams.lead import Lead
from tests.teams.support import (
    Held,
    Planner,
    Team,
    Worker,
    all_keys,
    document,
    soon,
    statuses,
    told,
    types_told,
    work_of,
)
from tests.waiting import until

PLAN = [{"id": "a", "title": "A"}, {"id": "b", "title": "B", "depends_on": ["a"]}]


@pytest.fixture
async def other(engine_url: str, namespace: str, cb: callboard.Callboard) -> Any:
    """A second connection, as another process has one."""
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


class Broken(Worker):
    """Fails the tasks named, until it is mended."""

    def __init__(self, *tasks: str) -> None:
        super().__init__(self._try)
        self.broken = set(tasks)

    async def _try(self, invocation: Invocation) -> Any:
        if work_of(invocation).task.id in self.broken:
            raise Fatal(f"{work_of(invocation).task.id} is broken")
        return f"did {work_of(invocation).task.id}"


async def phase_of(cb: callboard.Callboard, run: Run) -> Phase:
    return (await cb.runs.get(run.id)).phase


# Cancelled


async def test_cancel_reaches_a_running_handler_and_nothing_changes_afterwards(
    cb: callboard.Callboard, other: callboard.Callboard
) -> None:
    """The handler goes on; its task fails, is done three seconds later, and the run is idle."""
    held = Held()
    plan = [{"id": "z", "title": "Z"}, {"id": "a", "title": "A", "depends_on": ["z"]}, *PLAN[1:]]
    team = Team(cb, document("w"), planner=Planner(plan), w=Worker(held))
    held.release("z")
    run = await team.start()

    async with team.hosted(run):
        await held.until_begun("a")
        cancelled = await other.runs.cancel(run.id, reason="not needed", by="ann")
        await held.until_cancelled("a")
        ended = await soon(cb.runs.wait(run.id))

    expected = {"z": "done", "a": "cancelled", "b": "cancelled"}
    assert cancelled.phase is ended.phase is Phase.CANCELLED
    assert (ended.reason, ended.is_paused) == ("not needed", False)
    assert await statuses(other, run) == expected
    held.release("a")
    assert await phase_of(other, run) is Phase.CANCELLED
    assert await statuses(other, run) == expected
    events = await types_told(other, run)
    assert (events["cancelled"], events["done"], events["error"]) == (1, 0, 0)
    with pytest.raises(RunFailed, match="cancelled: not needed"):
        await other.runs.result(run.id, timeout=1)


async def test_a_handler_that_will_not_stop_begins_nothing_more(
    cb: callboard.Callboard,
) -> None:
    begun, told_to_stop, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    late: list[str] = []

    async def stubborn(invocation: Invocation) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told_to_stop.set()
            await go_on.wait()
        late.append(work_of(invocation).task.id)
        return "done all the same"

    team = Team(cb, document("w"), planner=Planner(PLAN), w=Worker(stubborn))
    run = await team.start()

    async with team.hosted(run):
        await soon(begun.wait())
        await cb.runs.cancel(run.id)
        await soon(told_to_stop.wait())
        go_on.set()

    assert late == ["a"]
    assert await phase_of(cb, run) is Phase.CANCELLED
    found = await statuses(cb, run)
    assert found["b"] == "cancelled"
    assert found["a"] == "done", "what it did all the same is kept"
    events = await types_told(cb, run)
    assert (events["cancelled"], events["done"], events["task_claimed"]) == (1, 0, 1)
    assert team.writer.asked == []


async def test_cancelling_twice_is_cancelling_once(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w"), planner=Planner(PLAN))
    run = await team.start()

    await asyncio.gather(*(cb.runs.cancel(run.id) for _ in range(5)))

    assert await phase_of(cb, run) is Phase.CANCELLED
    assert (await types_told(cb, run))["cancelled"] == 1
    assert await statuses(cb, run) == {}


async def test_a_run_that_nobody_hosts_is_cancelled_by_its_id(cb: callboard.Callboard) -> None:
    """The id is told only when the run has ended, and nothing listens for a cancellation."""
    team = Team(cb, document("w"), planner=Planner(PLAN))
    run = await team.start()
    await cb.runs.cancel(run.id)

    ended = await team.host(run)

    assert ended.phase is Phase.CANCELLED
    assert team.done == {}
    assert team.writer.asked == []


async def test_a_run_that_is_done_is_not_cancelled(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w"), planner=Planner(PLAN, []))
    run = await team.run()

    with pytest.raises(IllegalState):
        await cb.runs.cancel(run.id)

    assert await phase_of(cb, run) is Phase.DONE
    assert await statuses(cb, run) == {"a": "done", "b": "done"}


async def test_every_connection_sees_a_run_that_runs(
    cb: callboard.Callboard, other: callboard.Callboard
) -> None:
    """One replica says *running*, the others *idle*."""
    held = Held()
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Worker(held))
    run = await team.start()

    async with team.hosted(run):
        await held.until_begun("a")
        seen = [await phase_of(each, run) for each in (cb, other)]
        listed = [[one.id for one in await each.runs.list()] for each in (cb, other)]
        held.release("a", "b")
        ended = await asyncio.gather(*(soon(each.runs.wait(run.id)) for each in (cb, other)))

    assert seen == [Phase.EXECUTION] * 2
    assert listed == [[run.id]] * 2
    assert [one.phase for one in ended] == [Phase.DONE] * 2
    assert await other.runs.result(run.id) == {"a": "done", "b": "done"}


# Paused


async def test_a_paused_run_begins_nothing_and_goes_on_afterwards(
    cb: callboard.Callboard, other: callboard.Callboard
) -> None:
    held = Held()
    team = Team(
        cb,
        document("w", global_timeout_seconds=3600),
        planner=Planner(PLAN, {"tasks": [], "done": True}),
        w=Worker(held),
    )
    held.release("b")
    run = await team.start()

    async with team.hosted(run):
        await held.until_begun("a")
        paused = await other.runs.pause(run.id)
        held.release("a")

        async def a_is_done() -> bool:
            return (await statuses(cb, run)).get("a") == "done"

        await until(a_is_done, "what runs goes on")
        with pytest.raises(BoardPaused):
            await cb.board(run.id).tasks.claim(agent=f"w.{run.id}")
        begun_while_paused = dict(team.done)
        resumed = await other.runs.resume(run.id)
        ended = await soon(cb.runs.wait(run.id))

    assert paused.is_paused and not resumed.is_paused
    assert begun_while_paused == {"a": 1}
    assert ended.phase is Phase.DONE
    assert team.done == {"a": 1, "b": 1}
    assert resumed.deadline_at > run.deadline_at
    events = await types_told(cb, run)
    assert (events["paused"], events["unpaused"]) == (1, 1)


async def test_the_time_of_a_paused_run_stands_still(engine_url: str) -> None:
    async with testing.board(url=engine_url) as moved:
        cb = moved.cb
        held = Held()
        team = Team(
            cb,
            document("w", global_timeout_seconds=3_600),
            planner=Planner(PLAN, {"tasks": [], "done": True}),
            w=Worker(held),
        )
        run = await team.start()

        async with team.hosted(run):
            await held.until_begun("a")
            await cb.runs.pause(run.id)
            await moved.pass_time(4_000)
            still = await phase_of(cb, run)
            resumed = await cb.runs.resume(run.id)
            held.release("a", "b")
            ended = await soon(cb.runs.wait(run.id))

    assert still is Phase.EXECUTION
    assert ended.phase is Phase.DONE
    assert 4_000 <= (resumed.deadline_at - run.deadline_at).total_seconds() < 4_060


async def test_a_run_that_has_ended_is_neither_paused_nor_resumed(
    cb: callboard.Callboard,
) -> None:
    team = Team(cb, document("w"), planner=Planner(PLAN, []))
    run = await team.run()

    for steer in (cb.runs.pause, cb.runs.resume):
        with pytest.raises(IllegalState, match=rf"^Run {run.id} has ended \(done\): ") as raised:
            await steer(run.id)
        assert raised.value.details["phase"] == "done"

    assert not (await cb.runs.get(run.id)).is_paused
    events = await types_told(cb, run)
    assert (events["paused"], events["unpaused"]) == (0, 0)


async def test_a_paused_run_can_be_cancelled(cb: callboard.Callboard) -> None:
    held = Held()
    team = Team(cb, document("w"), planner=Planner(PLAN), w=Worker(held))
    run = await team.start()

    async with team.hosted(run):
        await held.until_begun("a")
        await cb.runs.pause(run.id)
        await cb.runs.cancel(run.id)
        await held.until_cancelled("a")

    assert await phase_of(cb, run) is Phase.CANCELLED
    assert await statuses(cb, run) == {"a": "cancelled", "b": "cancelled"}


# Retried


async def test_a_retried_task_revives_what_failed_for_its_sake_and_is_answered_anew(
    cb: callboard.Callboard,
) -> None:
    """The task is done, its dependents stay as they were, and so does the answer."""
    worker = Broken("a")
    plan = [*PLAN, {"id": "c", "title": "C"}]
    team = Team(cb, document("w"), planner=Planner(plan, []), w=worker)
    first = await team.run()
    assert await cb.runs.result(first.id) == {"a": "failed", "b": "failed", "c": "done"}
    worker.broken.clear()

    again = await cb.runs.retry(first.id, "a", by="ann")
    ended = await team.host(again)

    assert (again.phase, again.generation) == (Phase.EXECUTION, 2)
    assert (ended.phase, ended.generation) == (Phase.DONE, 2)
    assert await cb.runs.result(first.id) == {"a": "done", "b": "done", "c": "done"}
    assert team.done == {"a": 2, "b": 1, "c": 1}
    assert ended.counts == {"total": 3, "unfinished": 0, "done": 3, "failed": 0, "cancelled": 0}
    events = await told(cb, first)
    assert [e.data["task_id"] for e in events if e.type == "retry_done"] == ["a", "b"]
    answers = [event.data["response"] for event in events if event.type == "done"]
    assert answers[-1] == {"a": "done", "b": "done", "c": "done"}
    assert len(answers) == 2


async def test_of_three_who_retry_one_task_at_once_one_does_and_it_runs_once(
    cb: callboard.Callboard,
) -> None:
    """Each of them looks, finds it failed, and runs it: three executions."""
    worker = Broken("a")
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=worker)
    run = await team.run()
    worker.broken.clear()

    found = await asyncio.gather(
        *(cb.runs.retry(run.id, "a") for _ in range(3)), return_exceptions=True
    )
    ended = await team.host(await cb.runs.get(run.id))

    assert [type(one) for one in found].count(Run) >= 1
    assert all(isinstance(one, Run | IllegalState) for one in found), found
    assert team.done == {"a": 2, "b": 1}
    assert (ended.phase, ended.generation) == (Phase.DONE, 2)
    assert len(team.writer.asked) == 2


async def test_a_task_retried_while_the_run_goes_on_is_done_in_the_same_answer(
    cb: callboard.Callboard,
) -> None:
    held, worker = Held(), Broken("a")
    plan = [
        {"id": "a", "title": "A", "worker": "w1"},
        {"id": "b", "title": "B", "worker": "w1", "depends_on": ["a"]},
        {"id": "c", "title": "C", "worker": "w2"},
    ]
    team = Team(cb, document(), planner=Planner(plan, []), w1=worker, w2=Worker(held))
    run = await team.start()

    async with team.hosted(run):
        await held.until_begun("c")

        async def b_has_failed() -> bool:
            return (await statuses(cb, run)).get("b") == "failed"

        await until(b_has_failed, "b has failed because of a")
        worker.broken.clear()
        await cb.runs.retry(run.id, "a")
        held.release("c")
        ended = await soon(cb.runs.wait(run.id))

    assert (ended.phase, ended.generation) == (Phase.DONE, 1)
    assert await cb.runs.result(run.id) == {"a": "done", "b": "done", "c": "done"}
    assert len(team.writer.asked) == 1


async def test_all_that_failed_is_retried_together(cb: callboard.Callboard) -> None:
    worker = Broken("a", "c")
    plan = [*PLAN, {"id": "c", "title": "C"}, {"id": "d", "title": "D"}]
    team = Team(cb, document("w"), planner=Planner(plan, []), w=worker)
    run = await team.run()
    worker.broken.clear()

    ended = await team.host(await cb.runs.retry(run.id))

    assert await cb.runs.result(run.id) == dict.fromkeys("abcd", "done")
    assert team.done == {"a": 2, "b": 1, "c": 2, "d": 1}
    assert ended.generation == 2


async def test_a_run_that_was_cancelled_can_be_taken_up_again(cb: callboard.Callboard) -> None:
    held = Held()
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Worker(held))
    run = await team.start()
    async with team.hosted(run):
        await held.until_begun("a")
        await cb.runs.cancel(run.id)
        await held.until_cancelled("a")
    held.release("a", "b")

    ended = await team.host(await cb.runs.retry(run.id))

    assert ended.phase is Phase.DONE
    assert await cb.runs.result(run.id) == {"a": "done", "b": "done"}


async def test_a_run_whose_planning_failed_can_be_retried(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w"), planner=Planner(Fatal("no model answers"), PLAN, []))
    run = await team.run()
    assert run.phase is Phase.FAILED

    ended = await team.host(await cb.runs.retry(run.id))

    assert (ended.phase, ended.reason) == (Phase.DONE, "")
    assert await cb.runs.result(run.id) == {"a": "done", "b": "done"}


async def test_a_run_whose_answer_failed_can_be_retried(cb: callboard.Callboard) -> None:
    class Blotted:
        async def run(self, invocation: Invocation) -> Any:
            raise Fatal("out of ink")

    team = Team(cb, document("w"), planner=Planner(PLAN, []))
    writer, team.agents["writer"] = team.agents["writer"], Blotted()
    run = await team.run()
    team.agents["writer"] = writer

    ended = await team.host(await cb.runs.retry(run.id))

    assert ended.phase is Phase.DONE
    assert await cb.runs.result(run.id) == {"a": "done", "b": "done"}
    assert team.done == {"a": 1, "b": 1}


async def test_a_run_whose_time_was_over_has_all_of_it_again_after_a_retry(
    cb: callboard.Callboard,
) -> None:
    held = Held()
    team = Team(
        cb, document("w", global_timeout_seconds=0.3), planner=Planner(PLAN, []), w=Worker(held)
    )
    run = await team.run()
    assert (run.phase, run.reason) == (Phase.FAILED, "it took longer than its 0.3 s")
    held.release("a", "b")

    ended = await team.host(await cb.runs.retry(run.id))

    assert ended.phase is Phase.DONE
    assert await statuses(cb, run) == {"a": "done", "b": "done"}


async def test_a_run_without_a_failure_is_not_retried(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w"), planner=Planner(PLAN, []))
    run = await team.run()

    for task in (None, "a"):
        with pytest.raises(IllegalState):
            await cb.runs.retry(run.id, task)

    assert (await cb.runs.get(run.id)).generation == 1
    assert team.done == {"a": 1, "b": 1}


# Deleted


PASSING = {
    "requests:": 600,  # What was claimed is known so long to those who did not hear the answer.
    "errors:recent:": 600,  # Errors are counted by stretches of time, and a new one may begin.
    "errors:minutes:": 25 * 3_600,
}
"""Keys that a deleted run may leave, by how they begin, and their lifetime in seconds."""


async def test_a_deleted_run_leaves_no_key(cb: callboard.Callboard) -> None:
    """Its tasks turn to failures, their results are overwritten, and the board stays for ever."""
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Broken("a"))
    await cb.runs.delete((await team.run()).id)
    before = await all_keys(cb)
    worker = Broken("a")
    team.agents.update(planner=Planner(PLAN, []), w=worker)
    run = await team.run()
    worker.broken.clear()
    ended = await team.host(await cb.runs.retry(run.id))
    assert (ended.phase, ended.generation) == (Phase.DONE, 2)
    assert len(await all_keys(cb)) > len(before)

    await cb.runs.delete(run.id)

    left = await all_keys(cb) - before
    assert {key for key in left if not key.startswith(tuple(PASSING))} == set()
    prefix = cb.namespace.keys.prefix
    for key in left:
        most = next(PASSING[start] for start in PASSING if key.startswith(start))
        assert 0 < await cb.namespace.connection.call("PTTL", prefix + key) <= most * 1000, key
    assert await cb.runs.list() == []
    assert [board.name for board in await cb.boards.list()] == ["runs"]
    assert (await cb.boards.get("runs")).counts.total == 0
    assert not await cb.agents.list()
    with pytest.raises(RunNotFound):
        await cb.runs.get(run.id)


async def test_a_run_that_goes_on_is_not_deleted_and_keeps_its_results(
    cb: callboard.Callboard,
) -> None:
    held = Held()
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Worker(held))
    run = await team.start()
    held.release("a")

    async with team.hosted(run):
        await held.until_begun("b")
        with pytest.raises(IllegalState, match="has not ended"):
            await cb.runs.delete(run.id)
        task = await cb.board(run.id).tasks.get("a")
        held.release("b")
        await soon(cb.runs.wait(run.id))

    assert (task.status, task.result) == (Status.DONE, "held a")
    assert await statuses(cb, run) == {"a": "done", "b": "done"}


async def test_deleting_a_run_touches_no_other(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w"), planner=Planner(PLAN, []))
    kept = await team.run()
    team.agents["planner"] = Planner(PLAN, [])
    gone = await team.run()
    before = await cb.runs.report(kept.id)

    await cb.runs.delete(gone.id)

    assert await cb.runs.report(kept.id) == before
    assert [run.id for run in await cb.runs.list()] == [kept.id]
    assert (await types_told(cb, kept))["done"] == 1


async def test_a_run_is_deleted_once_its_team_keeps_it_no_longer(engine_url: str) -> None:
    async with testing.board(url=engine_url) as moved:
        cb = moved.cb
        team = Team(cb, document("w", keep=86_400), planner=Planner(PLAN, []))
        run = await team.run()

        await moved.pass_time(86_400 - 60)
        kept = [one.id for one in await cb.runs.list()]
        await moved.pass_time(120)

        assert kept == [run.id]
        assert await cb.runs.list() == []
        assert {key for key in await all_keys(cb) if run.id in key} == set()


async def test_a_run_whose_host_was_lost_can_be_deleted_though_nobody_sweeps(
    cb: callboard.Callboard,
) -> None:
    run = await with_a_lost_holder(cb)
    await cb.runs.cancel(run.id)

    async def is_deleted() -> bool:
        try:
            await cb.runs.delete(run.id)
        except IllegalState:
            return False
        return True

    await until(is_deleted, "the lease of what was lost is over")
    assert {key for key in await all_keys(cb) if run.id in key} == set()


async def with_a_lost_holder(cb: callboard.Callboard) -> Run:
    """A run, a task of which is held by somebody who is not there any more."""
    run = await Team(cb, document("w"), planner=Planner(PLAN)).start()
    tasks = cb.board(run.id).tasks
    await tasks.submit("work", id="a")
    await cb.agents.register("dead", kinds=("work",))
    claims = await tasks.claim("dead", lease=0.2)
    assert [claim.id for claim in claims.tasks] == ["a"]
    return run


async def test_whoever_follows_a_cancelled_run_does_not_wait_for_the_dead(
    cb: callboard.Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "RECHECK_SECONDS", 0.05)
    run = await with_a_lost_holder(cb)
    await cb.runs.cancel(run.id)

    async def follow() -> list[str]:
        return [event.type async for event in cb.runs.events(run.id, follow=True)]

    assert (await soon(follow()))[-1] == "cancelled"


async def test_a_task_put_back_behind_the_runs_back_keeps_nobody_waiting(
    cb: callboard.Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "RECHECK_SECONDS", 0.05)
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Broken("a"))
    run = await team.run()
    await cb.board(run.id).tasks.retry("a")

    async def follow() -> list[str]:
        return [event.type async for event in cb.runs.events(run.id, follow=True)]

    assert "done" in await soon(follow())
    assert await phase_of(cb, run) is Phase.DONE


async def test_while_the_answer_is_written_nothing_is_retried(cb: callboard.Callboard) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def run(self, invocation: Invocation) -> str:
            begun.set()
            await go_on.wait()
            return "the answer"

    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Broken("a"), writer=Slow())
    run = await team.start()

    async with team.hosted(run):
        await soon(begun.wait())
        with pytest.raises(IllegalState, match="is writing its answer"):
            await cb.runs.retry(run.id, "a")
        unchanged = await statuses(cb, run)
        put_back = (await types_told(cb, run))["task_retry"]
        # Somebody may still put it back on the board itself.
        await cb.board(run.id).tasks.retry("a")
        go_on.set()
        ended = await soon(cb.runs.wait(run.id))

    assert (unchanged, put_back) == ({"a": "failed", "b": "failed"}, 0)
    assert ended.phase is Phase.DONE
    assert (await cb.boards.get(run.id)).counts.unfinished == 0


@pytest.mark.parametrize("when", ["before it is read again", "after it was read"])
async def test_a_leader_leaves_the_next_generation_alone(
    cb: callboard.Callboard, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A run that is retried the moment it ends: its leader has yet to cancel what is left."""
    worker = Broken("a")
    team = Team(cb, document("w", on_failure="stop"), planner=Planner(PLAN, []), w=worker)
    owner, name = (RunRecords, "move") if when.startswith("before") else (Lead, "_end")
    original = getattr(owner, name)

    async def and_be_retried(*arguments: Any, **named: Any) -> Any:
        answer = await original(*arguments, **named)
        if worker.broken and await phase_of(cb, run) is Phase.FAILED:
            worker.broken.clear()
            await cb.runs.retry(run.id)
        return answer

    monkeypatch.setattr(owner, name, and_be_retried)
    run = await team.start()

    ended = await team.host(run)

    assert (ended.phase, ended.generation) == (Phase.DONE, 2)
    assert await cb.runs.result(run.id) == {"a": "done", "b": "done"}
    assert team.done == {"a": 2, "b": 1}
    assert (await types_told(cb, run))["task_cancelled"] == 0


async def test_an_id_that_leaves_no_room_for_its_members_names_is_refused(
    cb: callboard.Callboard,
) -> None:
    team = Team(cb, document("w" * 64), planner=Planner(PLAN, []))
    with pytest.raises(InvalidArgument, match="at most 60"):
        await team.start(id="r" * 61)

    run = await team.host(await team.start(id="r" * 60))

    assert run.phase is Phase.DONE


# Several hosts


async def test_two_hosts_of_one_run_do_nothing_twice(
    cb: callboard.Callboard, other: callboard.Callboard
) -> None:
    plan = [{"id": f"t{n}", "title": str(n)} for n in range(60)]
    planner = Planner(plan, [])
    team = Team(cb, document(), planner=planner)
    run = await team.start()

    ended = await asyncio.gather(team.host(run), team.host(run, cb=other))

    assert [one.phase for one in ended] == [Phase.DONE] * 2
    assert team.done == {f"t{n}": 1 for n in range(60)}
    assert len(team.writer.asked) == 1
    events = await types_told(cb, run)
    assert (events["task_created"], events["task_completed"], events["done"]) == (60, 60, 1)


async def test_a_host_that_leaves_gives_back_what_it_has_and_another_ends_the_run(
    cb: callboard.Callboard, other: callboard.Callboard
) -> None:
    held = Held()
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Worker(held))
    run = await team.start()
    held.release("b")
    async with team.hosted(run):
        await held.until_begun("a")
    await held.until_cancelled("a")
    held.release("a")

    ended = await team.host(run, cb=other)

    assert ended.phase is Phase.DONE
    assert await other.runs.result(run.id) == {"a": "done", "b": "done"}
    task = await other.board(run.id).tasks.get("a")
    assert (task.failures, task.crashes) == (0, 0)
