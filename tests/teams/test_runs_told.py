"""What a run tells: its events from any cursor, and what members are told of each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

import callboard
from callboard import testing
from callboard.domain.run import Phase, Run
from callboard.domain.story import RunEvent
from callboard.exceptions import Fatal, InvalidArgument
from callboard.runs import Runs
from callboard.teams.agents import Invocation
from tests.teams.support import (
    Held,
    Planner,
    Team,
    Worker,
    document,
    soon,
    told,
    types_told,
    work_of,
)

PLAN = [
    {"id": "a", "title": "A"},
    {"id": "b", "title": "B", "depends_on": ["a"]},
    {"id": "c", "title": "C"},
]


async def a_run_with_everything(cb: callboard.Callboard) -> Run:
    """Two rounds of planning, a failure, a retry of it, a remark, a pause, two answers."""
    broken = {"c"}

    async def do(invocation: Invocation) -> Any:
        await invocation.context.say("thinking")
        await invocation.context.used_tool("search")
        if work_of(invocation).task.id in broken:
            raise Fatal("c is broken")
        return {"did": work_of(invocation).task.id}

    planner = Planner(PLAN, [{"id": "d", "title": "D", "priority": 9}], [])
    team = Team(cb, document("w", replan="idle"), planner=planner, w=Worker(do))
    run = await team.start()
    await cb.runs.pause(run.id)
    await cb.runs.resume(run.id)
    await team.host(run)
    broken.clear()
    return await team.host(await cb.runs.retry(run.id, "c"))


async def test_a_run_tells_each_thing_once_and_in_order(cb: callboard.Callboard) -> None:
    run = await a_run_with_everything(cb)

    events = await told(cb, run)
    types = Counter(event.type for event in events)
    order = [event.type for event in events]

    assert types["team_start"] == types["paused"] == types["unpaused"] == 1
    assert (types["task_created"], types["task_completed"], types["task_failed"]) == (4, 4, 1)
    assert (types["task_claimed"], types["task_retry"], types["retry_done"]) == (5, 1, 1)
    assert (types["agent_token"], types["agent_tool"], types["done"]) == (5, 5, 2)
    phases = [event.data["phase"] for event in events if event.type == "phase_change"]
    assert phases == [
        *("planning", "execution", "replanning", "execution", "replanning", "execution"),
        *("synthesis", "execution", "synthesis"),
    ]
    assert order[0] == "team_start"
    assert order[-1] == "done"
    assert events[-1].data["response"] == dict.fromkeys("abcd", "done")
    assert (events[-1].data["tasks_created"], events[-1].data["workers_used"]) == (4, ["w"])
    places = [tuple(int(part) for part in event.cursor.split(".")) for event in events]
    assert all(first < second for first, second in pairwise(places))


async def test_from_every_cursor_exactly_the_rest_is_told_again(cb: callboard.Callboard) -> None:
    """The whole log is replayed from its start, and what a retry did is missing from it."""
    run = await a_run_with_everything(cb)
    events = await told(cb, run)

    assert await told(cb, run) == events
    for number, event in enumerate(events, 1):
        assert await told(cb, run, event.cursor) == events[number:], event


async def test_what_is_followed_is_what_is_replayed(cb: callboard.Callboard) -> None:
    held = Held()
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Worker(held))
    run = await team.start()
    seen: list[Any] = []

    async def follow(cursor: str | None) -> None:
        async for event in cb.runs.events(run.id, cursor, follow=True):
            assert isinstance(event, RunEvent)
            seen.append(event)
            if event.type == "task_claimed":
                held.release(event.data["task_id"])

    async with team.hosted(run):
        await soon(follow(None))

    assert seen == await told(cb, run)
    assert seen[-1].type == "done"


async def test_followers_who_come_back_miss_nothing_and_hear_nothing_twice(
    cb: callboard.Callboard,
) -> None:
    held = Held()
    team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Worker(held))
    run = await team.start()
    seen: list[RunEvent] = []

    async def follow_a_little() -> None:
        """Hear one event, and go: as a reader whose connection breaks each time."""
        cursor = seen[-1].cursor if seen else None
        async for event in cb.runs.events(run.id, cursor, follow=True):
            assert isinstance(event, RunEvent)
            seen.append(event)
            return

    held.release("a", "b", "c")
    async with team.hosted(run):
        while not seen or seen[-1].type != "done":
            await soon(follow_a_little())

    assert seen == await told(cb, run)


async def test_a_follower_hears_how_the_tasks_of_a_cancelled_run_end(
    cb: callboard.Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told_to_stop, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    is_over = Runs._is_over

    async def let_go_and_look(runs: Runs, run: str, is_silent: bool) -> bool:
        """The follower has read all that there is, and asks whether that was all."""
        answer = await is_over(runs, run, is_silent)
        await told_to_stop.wait()
        go_on.set()
        return answer

    monkeypatch.setattr(Runs, "_is_over", let_go_and_look)

    async def slow_to_stop(invocation: Invocation) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            told_to_stop.set()
            await go_on.wait()

    team = Team(cb, document("w"), planner=Planner(PLAN), w=Worker(slow_to_stop))
    run = await team.start()
    seen: list[Any] = []

    async def follow() -> None:
        seen.extend([event async for event in cb.runs.events(run.id, follow=True)])

    async with team.hosted(run):
        following = asyncio.create_task(follow())
        await soon(begun.wait())
        await cb.runs.cancel(run.id)
        await soon(following)

    assert seen == await told(cb, run)
    ended = [event.data["task_id"] for event in seen if event.type == "task_cancelled"]
    assert sorted(ended) == ["a", "b", "c"]


async def test_events_are_the_same_after_the_engine_was_restarted(tmp_path: Path) -> None:
    async with callboard.connect(data=tmp_path / "engine", durable=True) as cb:
        run = await a_run_with_everything(cb)
        before = await told(cb, run)
    assert len(before) > 30

    async with callboard.connect(data=tmp_path / "engine", durable=True) as cb:
        after = await told(cb, run)
        half = await told(cb, run, before[17].cursor)
        answer = await cb.runs.result(run.id)

    assert after == before
    assert half == before[18:]
    assert answer == dict.fromkeys("abcd", "done")


async def test_a_run_goes_on_after_the_engine_was_restarted(tmp_path: Path) -> None:
    held = Held()
    async with callboard.connect(data=tmp_path / "engine", durable=True) as cb:
        team = Team(cb, document("w"), planner=Planner(PLAN, []), w=Worker(held))
        run = await team.start()
        held.release("a", "c")
        async with team.hosted(run):
            await held.until_begun("b")
        before = await told(cb, run)
    held.release("b")

    async with callboard.connect(data=tmp_path / "engine", durable=True) as cb:
        team.cb = cb
        ended = await team.host(run)
        after = await told(cb, run)

    assert ended.phase is Phase.DONE
    assert after[: len(before)] == before
    assert Counter(event.type for event in after)["done"] == 1
    assert team.done["a"] == team.done["c"] == 1


async def test_a_cursor_that_is_none_is_refused(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w"), planner=Planner(PLAN, []))
    run = await team.run()

    with pytest.raises(InvalidArgument, match="is no cursor of a run"):
        await told(cb, run, "yesterday")


async def test_what_was_planned_again_is_told_of_the_tasks_that_were_added(
    cb: callboard.Callboard,
) -> None:
    """A list sorted by priority is cut, and the wrong tasks are named."""
    later = [
        {"id": "urgent", "title": "Follow up", "priority": 9, "depends_on": ["a"]},
        {"id": "idle", "title": "Tidy up", "priority": -9},
    ]
    planner = Planner(PLAN, later, [])
    team = Team(cb, document("w", replan="idle"), planner=planner)

    run = await team.run()

    events = await told(cb, run)
    again = [event.type for event in events].index("phase_change", 10)
    created = [
        (place > again, event.data["task"])
        for place, event in enumerate(events)
        if event.type == "task_created"
    ]
    assert [(task["id"], task["depends_on"]) for late, task in created if not late] == [
        ("a", []),
        ("b", ["a"]),
        ("c", []),
    ]
    assert [
        (t["id"], t["title"], t["priority"], t["depends_on"]) for late, t in created if late
    ] == [
        ("urgent", "Follow up", 9, ["a"]),
        ("idle", "Tidy up", -9, []),
    ]


async def test_results_are_passed_whole_as_far_as_they_fit(cb: callboard.Callboard) -> None:
    """Each result is cut after 500 characters, and conclusions stand at the end."""

    async def do(invocation: Invocation) -> Any:
        return {
            "long": "begin " + "x" * 50_000 + " the conclusion",
            "rows": list(range(20_000)),
            "small": {"n": 2**53 + 1, "of": []},
        }.get(work_of(invocation).task.id, "joined")

    plan: list[dict[str, Any]] = [{"id": name, "title": name} for name in ("long", "rows", "small")]
    plan.append({"id": "join", "title": "Join", "depends_on": ["long", "rows", "small"]})
    worker = Worker(do)
    team = Team(cb, document("w", result_bytes=10_000), planner=Planner(plan, []), w=worker)

    run = await team.run()

    [join] = [one for one in worker.asked if one.task.id == "join"]
    small, long, rows = (join.results[name] for name in ("small", "long", "rows"))
    assert (small.result, small.is_truncated) == ({"n": 2**53 + 1, "of": []}, False)
    assert long.is_truncated and rows.is_truncated
    assert long.result.startswith("begin xxx") and long.result.endswith("xxx the conclusion")
    assert rows.result["bytes"] == 108_891
    assert rows.result["head"].startswith("[0,1,2,") and rows.result["tail"].endswith(",19999]")
    for told_to in (list(join.results.values()), list(team.writer.told.values())):
        results = [outcome.result for outcome in told_to]
        assert len(msgspec.json.encode(results)) < 11_000
    kept = await cb.board(run.id).tasks.get("long")
    assert len(kept.result) == 50_021


async def test_the_bound_on_results_holds_for_very_many_tasks(cb: callboard.Callboard) -> None:
    async def do(invocation: Invocation) -> Any:
        return "y" * 2_000

    plan = [{"id": f"t{n}", "title": str(n)} for n in range(100)]
    agents = {"w": {"max_concurrent": 20}}
    team = Team(
        cb,
        document("w", agents=agents, result_bytes=50_000),
        planner=Planner(plan, []),
        w=Worker(do),
    )

    await team.run()

    told_of = team.writer.told
    assert len(told_of) == 100
    assert len(msgspec.json.encode([one.result for one in told_of.values()])) < 60_000
    assert all(one.is_truncated for one in told_of.values())


async def test_the_planner_is_told_what_is_new_and_only_once(cb: callboard.Callboard) -> None:
    planner = Planner(PLAN, [{"id": "d", "title": "D"}], [{"id": "e", "title": "E"}], [])
    team = Team(cb, document("w", replan="idle"), planner=planner)

    await team.run()

    assert [sorted(o.id for o in one.finished) for one in planner.asked] == [
        [],
        ["a", "b", "c"],
        ["d"],
        ["e"],
    ]
    assert planner.asked[1].counts["done"] == 3


async def test_the_planner_is_asked_while_tasks_run_and_adds_to_them(
    cb: callboard.Callboard,
) -> None:
    """Planning again waits until the whole board is idle."""
    held = Held()
    later = [{"id": "next", "title": "Next", "worker": "w2"}]
    planner = Planner(
        [
            {"id": "quick", "title": "Q", "worker": "w2"},
            {"id": "slow", "title": "S", "worker": "w1"},
        ],
        later,
        {"tasks": [], "done": True},
    )
    team = Team(cb, document(), planner=planner, w1=Worker(held))
    run = await team.start()

    async with team.hosted(run):
        async for event in cb.runs.events(run.id, follow=True):
            assert isinstance(event, RunEvent)
            if event.type == "task_completed" and event.data["task_id"] == "next":
                held.release("slow")  # Only what was planned meanwhile lets it end.
        ended = await soon(cb.runs.wait(run.id))

    assert ended.phase is Phase.DONE
    assert [outline.id for outline in planner.asked[1].unfinished] == ["slow"]
    assert await cb.runs.result(run.id) == {"quick": "done", "slow": "done", "next": "done"}


async def test_a_run_is_told_of_long_after_its_end(engine_url: str) -> None:
    """After ten minutes nobody may read it, and after a day it is unknown."""
    async with testing.board(url=engine_url) as moved:
        run = await a_run_with_everything(moved.cb)
        before = await told(moved.cb, run)
        for seconds in (600, 86_400, 20 * 86_400):
            await moved.pass_time(seconds)

            assert await told(moved.cb, run) == before
            assert await moved.cb.runs.result(run.id) == dict.fromkeys("abcd", "done")


async def test_a_failed_attempt_is_told_and_so_is_the_next(cb: callboard.Callboard) -> None:
    attempts: list[int] = []

    async def flaky(invocation: Invocation) -> str:
        attempts.append(invocation.request.attempt)
        if len(attempts) < 3:
            raise RuntimeError(f"not yet, for the {len(attempts)}th time")
        return f"after {invocation.request.previous_error}"

    agents = {"w": {"retry": {"max_retries": 5, "base": 0}}}
    plan = [{"id": "a", "title": "A", "worker": "w"}]
    team = Team(cb, document("w", agents=agents), planner=Planner(plan, []), w=Worker(flaky))

    run = await team.run()

    events = await types_told(cb, run)
    assert attempts == [1, 2, 3]
    assert (events["task_retry_scheduled"], events["task_claimed"]) == (2, 3)
    assert (events["task_completed"], events["task_failed"]) == (1, 0)
    [task] = (await cb.runs.report(run.id)).tasks
    assert task.result == "after not yet, for the 2th time"


async def test_two_followers_hear_the_same(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w"), planner=Planner(PLAN, []))
    run = await team.start()

    async def follow() -> list[Any]:
        return [event async for event in cb.runs.events(run.id, follow=True)]

    async with team.hosted(run):
        first, second = await soon(asyncio.gather(follow(), follow()))

    assert first == second == await told(cb, run)
