"""A retry beside what ends a run, and a run that nobody leads."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

import callboard
from callboard.domain.run import LEAD_BOARD, Phase
from callboard.exceptions import Fatal, IllegalState
from callboard.teams.agents import Invocation
from callboard.teams.lead import Lead
from tests.teams.support import Planner, Team, Worker, document, soon, told


def plan_of(*titles: str) -> Planner:
    return Planner({"tasks": [{"id": name, "title": name} for name in titles], "done": True})


async def test_a_retry_right_after_the_end_loses_none_of_its_tasks(
    cb: callboard.Callboard,
) -> None:
    tries = Counter[str]()

    async def do(invocation: Invocation) -> str:
        tries[invocation.context.id] += 1
        if invocation.context.id == "bad" and tries["bad"] == 1:
            raise Fatal("no")
        return "ok"

    names = ["bad", *(f"t{n}" for n in range(120))]
    given = document("w1", on_failure="stop", replan="never")
    team = Team(cb, given, planner=plan_of(*names), w1=Worker(do))
    run = await team.start()
    first = asyncio.create_task(team.host(run))
    await soon(cb.runs.wait(run.id))

    again = await cb.runs.retry(run.id)
    ended = await team.host(again)
    await soon(first)

    assert (ended.phase, ended.generation) == (Phase.DONE, 2)
    assert set(team.writer.told) == set(names)
    assert {told.status for told in team.writer.told.values()} == {"done"}


async def test_a_retry_waits_for_handlers_that_are_still_ending(cb: callboard.Callboard) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    cancelled = asyncio.Event()

    async def do(invocation: Invocation) -> str:
        if cancelled.is_set():
            return "ok"
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            await may_end.wait()
            raise
        return "never"

    team = Team(cb, document("w1", replan="never"), planner=plan_of("a", "b"), w1=Worker(do))
    run = await team.start()
    first = asyncio.create_task(team.host(run))
    await soon(begun.wait())
    await cb.runs.cancel(run.id)
    await soon(cancelled.wait())

    retrying = asyncio.create_task(cb.runs.retry(run.id))
    may_end.set()
    again = await soon(retrying)
    ended = await team.host(again)
    await soon(first)

    assert ended.phase is Phase.DONE
    assert {name: told.status for name, told in team.writer.told.items()} == {
        "a": "done",
        "b": "done",
    }


async def test_a_task_put_back_before_the_answer_is_asked_for_is_part_of_it(
    cb: callboard.Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided, may_go_on = asyncio.Event(), asyncio.Event()
    synthesise = Lead._synthesise

    async def late(lead: Lead) -> None:
        decided.set()
        await may_go_on.wait()
        await synthesise(lead)

    tries = Counter[str]()

    async def do(invocation: Invocation) -> str:
        tries[invocation.context.id] += 1
        if invocation.context.id == "bad" and tries["bad"] == 1:
            raise Fatal("no")
        return "ok"

    monkeypatch.setattr(Lead, "_synthesise", late)
    team = Team(cb, document("w1", replan="never"), planner=plan_of("a", "bad"), w1=Worker(do))
    run = await team.start()
    hosting = asyncio.create_task(team.host(run))
    await soon(decided.wait())

    await cb.runs.retry(run.id, "bad")
    may_go_on.set()
    ended = await soon(hosting)

    assert ended.counts == {"total": 2, "unfinished": 0, "done": 2, "failed": 0, "cancelled": 0}
    assert team.writer.told["bad"].status == "done"


async def test_a_retry_of_a_task_that_was_done_changes_nothing(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w1", replan="never"), planner=plan_of("a"))
    run = await team.run()

    with pytest.raises(IllegalState, match="Task a of run .* is done"):
        await cb.runs.retry(run.id, "a")

    assert await cb.runs.get(run.id) == run


async def test_a_run_that_nobody_leads_is_ended_by_a_sweep_when_its_time_is_over(
    engine_url: str, namespace: str
) -> None:
    now = [1_700_000_000_000_000]
    async with callboard.connect(engine_url, namespace=namespace, clock=lambda: now[0]) as cb:
        given: dict[str, Any] = document("w1", global_timeout_seconds=60)
        run = await Team(cb, given).start()
        now[0] += 89_000_000
        await cb.runs.sweep()
        assert (await cb.runs.get(run.id)).phase is Phase.PLANNING

        now[0] += 1_000_000
        await cb.runs.sweep()

        ended = await cb.runs.get(run.id)
        assert (ended.phase, ended.reason) == (
            Phase.FAILED,
            "its time was over, and nobody led it to its end",
        )
        assert (await cb.board(LEAD_BOARD).tasks.get(run.id)).status == "cancelled"
        assert [event.type for event in await told(cb, run)][-1] == "error"
