"""A member that is any worker of another board."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import callboard
from callboard.domain.run import Phase
from callboard.exceptions import Fatal
from callboard.sdk.context import TaskContext
from tests.teams.support import Planner, Team, document, soon
from tests.waiting import until

ELSEWHERE = {"far": {"elsewhere": {"board": "pool", "kind": "research"}, "capabilities": ["deep"]}}


def far_document() -> dict[str, Any]:
    given = document("far", agents={"far": {"retry": {"max_retries": 1, "base": 0}}})
    del given["agents"]["far"]["callable"]
    given["agents"]["far"].update(ELSEWHERE["far"])
    return given


@asynccontextmanager
async def working(
    cb: callboard.Callboard, do: Callable[..., Any], *, agent: str = "scholar"
) -> AsyncIterator[None]:
    """A worker of board `pool` that knows nothing of teams."""
    worker = callboard.Worker(cb, agent=agent, board="pool", capabilities=["deep"], drain=0.2)
    worker.handles("research")(do)
    running = asyncio.create_task(worker.run(handle_signals=False))
    try:
        yield
    finally:
        worker.stop()
        await soon(running)


def team_of_far(cb: callboard.Callboard, *tasks: str) -> Team:
    team = Team(cb, far_document(), planner=Planner({"tasks": list(tasks), "done": True}))
    del team.agents["far"]
    return team


async def test_any_worker_that_fits_does_the_tasks_of_a_member_elsewhere(
    cb: callboard.Callboard,
) -> None:
    async def research(payload: dict[str, Any]) -> str:
        return f"{payload['task']['title']} for {payload['request']}"

    team = team_of_far(cb, "dig", "delve")
    async with working(cb, research):
        run = await team.run("gold")

    told = team.writer.told
    assert run.phase is Phase.DONE
    assert [told[name].result for name in ("t1-1", "t1-2")] == ["dig for gold", "delve for gold"]
    assert told["t1-1"].worker == "far"
    there = await cb.board("pool").tasks.get(f"{run.id}.t1-1.0")
    assert (there.agent, there.title) == ("scholar", "dig")


async def test_a_task_that_failed_elsewhere_is_another_one_when_it_is_tried_again(
    cb: callboard.Callboard,
) -> None:
    seen: list[str] = []

    async def research(payload: dict[str, Any], ctx: TaskContext) -> str:
        seen.append(ctx.id)
        if len(seen) == 1:
            raise Fatal("the library is closed")
        return payload["previous_error"]

    team = team_of_far(cb, "dig")
    async with working(cb, research):
        run = await team.run()

    assert seen == [f"{run.id}.t1-1.0", f"{run.id}.t1-1.1"]
    assert "the library is closed" in team.writer.told["t1-1"].result


async def test_cancelling_a_run_cancels_what_it_asked_for_elsewhere(
    cb: callboard.Callboard,
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def research(payload: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    team = team_of_far(cb, "dig")
    run = await team.start()
    async with working(cb, research), team.hosted(run):
        await soon(begun.wait())
        await cb.runs.cancel(run.id)
        await soon(ended.wait())
        there = await soon(cb.board("pool").tasks.wait(f"{run.id}.t1-1.0"))

    assert there.status == "cancelled"


async def test_a_member_elsewhere_whom_nobody_is_waits_and_says_so(
    cb: callboard.Callboard,
) -> None:
    team = team_of_far(cb, "dig")
    run = await team.start()
    async with team.hosted(run):
        pool = cb.board("pool").tasks

        async def is_there() -> bool:
            return bool((await pool.list()).tasks)

        await until(is_there, "the task stands on the other board")
        why = await pool.why(f"{run.id}.t1-1.0")
        await cb.runs.cancel(run.id)

    assert why.code == "no_agent_fits"
