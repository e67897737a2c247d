"""What a run keeps of its own: its tasks, its team, its last turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import callboard
from callboard.domain import course as courses
from callboard.domain.run import Phase
from callboard.exceptions import AgentUnusable, EngineError, Retry, RunNotFound
from callboard.services.agents import Agents
from callboard.teams import host, station
from callboard.teams.agents import Invocation
from callboard.teams.crew import Crew
from callboard.teams.host import Host
from callboard.teams.lead import Asked
from callboard.teams.requests import Outline
from callboard.teams.results import short_title
from tests.teams.support import Held, Planner, Team, Worker, document, soon, told


@pytest.fixture
async def other(
    engine_url: str, namespace: str, cb: callboard.Callboard
) -> AsyncIterator[callboard.Callboard]:
    """A second connection, as another process has one."""
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


async def test_sweeps_while_a_run_lasts_leave_it_its_results(cb: callboard.Callboard) -> None:
    plan = {
        "tasks": [{"id": "a", "title": "A"}, {"id": "b", "title": "B", "depends_on": ["a"]}],
        "done": True,
    }
    held = Held()

    async def do(invocation: Invocation) -> Any:
        if invocation.context.id == "b":
            # Sweeps come and go meanwhile.
            for _ in range(3):
                await cb.janitor().sweep(force=True)
        held.release("a", "b")
        return await held(invocation)

    team = Team(cb, document("w1", keep=60), planner=Planner(plan), w1=Worker(do))

    await team.run()

    assert set(team.writer.told) == {"a", "b"}
    asked = {request.task.id: request for request in team.agents["w1"].asked}
    assert asked["b"].results["a"].result == "held a"


async def test_a_run_goes_on_after_its_team_was_removed(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w1"), planner=Planner({"tasks": ["A"], "done": True}))
    run = await team.start()
    await cb.teams.remove("team")

    ended = await team.host(run)

    assert ended.phase is Phase.DONE


async def test_a_run_keeps_its_version_whatever_becomes_of_the_team(
    cb: callboard.Callboard,
) -> None:
    team = Team(cb, document("w1"), planner=Planner({"tasks": ["A"], "done": True}))
    run = await team.start()
    await cb.teams.add("team", document("w2", "w3"))

    async with team.hosted(run) as host:
        await soon(cb.runs.wait(run.id))

    assert host.spec.workers == ("w1",)


@pytest.mark.parametrize("turns", [3, 4])
async def test_a_synthesizer_that_fails_on_the_last_turn_is_tried_again(
    cb: callboard.Callboard, turns: int
) -> None:
    class Stumbles:
        tries = 0

        async def run(self, invocation: Invocation) -> str:
            self.tries += 1
            if self.tries == 1:
                raise Retry("not yet")
            return "at last"

    given = document(
        "w1", agents={"writer": {"retry": {"max_retries": 2, "base": 0}}}, global_max_turns=turns
    )
    team = Team(cb, given, planner=Planner({"tasks": ["A"], "done": True}), writer=Stumbles())

    run = await team.run()

    assert run.phase is Phase.DONE
    assert await cb.runs.result(run.id) == "at last"


async def test_an_agent_that_a_host_cannot_make_is_told_once_and_the_run_stays(
    cb: callboard.Callboard, tmp_path: Any
) -> None:
    team = Team(cb, document("w1"), planner=Planner({"tasks": ["A"], "done": True}))
    run = await team.start()

    for _ in range(2):
        with pytest.raises(AgentUnusable, match="nobody"):
            await Host(cb, run, folder=tmp_path).serve()

    errors = [event for event in await told(cb, run) if event.type == "worker_error"]
    assert len(errors) == 1
    assert "nobody" in errors[0].data["error"]
    assert (await cb.runs.get(run.id)).phase is Phase.PLANNING


async def test_a_host_answers_a_run_as_it_ended_though_it_was_deleted_meanwhile(
    cb: callboard.Callboard, other: callboard.Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has many agents to close takes a while after the end."""
    sign_off = Crew.sign_off

    async def and_be_deleted(crew: Crew) -> None:
        await other.runs.delete(run.id)
        await sign_off(crew)

    monkeypatch.setattr(Crew, "sign_off", and_be_deleted)
    team = Team(cb, document("w1"), planner=Planner({"tasks": ["A"], "done": True}))
    run = await team.start()

    ended = await team.host(run)

    assert (ended.id, ended.phase) == (run.id, Phase.DONE)
    with pytest.raises(RunNotFound):
        await cb.runs.get(run.id)


async def test_a_host_raises_the_error_itself_that_ended_it(
    cb: callboard.Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = EngineError("connection refused")
    monkeypatch.setattr(Agents, "register", failing_once(refused, Agents.register))
    team = Team(cb, document("w1"), planner=Planner({"tasks": ["A"], "done": True}))
    run = await team.start()

    with pytest.raises(EngineError) as raised:
        await team.host(run)

    assert raised.value is refused
    assert (await team.host(run)).phase is Phase.DONE


async def test_a_station_takes_a_run_again_after_the_engine_was_in_trouble(
    cb: callboard.Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(
        Agents, "register", failing_once(EngineError("connection refused"), Agents.register)
    )
    team = Team(cb, document("w1"), planner=Planner({"tasks": ["A"], "done": True}))
    monkeypatch.setattr(host, "make_agent", lambda definition, _: team.agents[definition.name])
    run = await team.start()
    standing = station.Station(cb, ["team"])
    serving = asyncio.create_task(standing.serve())

    ended = await soon(cb.runs.wait(run.id))

    assert ended.phase is Phase.DONE
    assert sum(team.done.values()) == 1
    standing.stop()
    await soon(serving)


def failing_once(error: Exception, method: Any) -> Any:
    """The method, whose third call raises this."""
    calls = 0

    async def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return await method(*arguments, **named)

    return call


async def test_long_titles_and_very_many_ends_fit_into_what_the_planner_is_asked(
    cb: callboard.Callboard,
) -> None:
    """Control characters take six bytes each in JSON."""
    finished = tuple(f"{n:0128}" for n in range(courses.NEWS_MAX))
    title = short_title("\x01" * 65_536)
    unfinished = tuple(
        Outline(id=f"{n:0128}", title=title, status="in_progress")
        for n in range(courses.OPEN_SHOWN)
    )
    counts = dict.fromkeys(("total", "unfinished", "done", "failed", "cancelled"), 10**6)
    asked = Asked(
        round=10_000,
        finished=finished,
        barren=1,
        counts=counts,
        tasks_left=10**6,
        unfinished=unfinished,
    )

    task = await cb.tasks.submit("plan", asked)

    assert (await task.task()).payload_as(Asked) == asked


async def test_other_agents_are_told_the_beginning_of_a_long_title(cb: callboard.Callboard) -> None:
    plan = [
        {"id": "a", "title": "A" * 60_000},
        {"id": "b", "title": "b", "depends_on": ["a"]},
        {"id": "c", "title": "C" * 60_000, "depends_on": ["b"]},
    ]
    planner = Planner(plan, {"tasks": [], "done": True})
    team = Team(cb, document("w1"), planner=planner)

    await team.run()

    short_a, short_c = "A" * 199 + "…", "C" * 199 + "…"
    second = planner.asked[1]
    assert [one.title for one in second.finished if one.id == "a"] == [short_a]
    assert [one.title for one in second.unfinished if one.id == "c"] == [short_c]
    [b] = [asked for asked in team.agents["w1"].asked if asked.task.id == "b"]
    assert b.results["a"].title == short_a
    assert [one.title for one in team.writer.told.values()] == [short_a, "b", short_c]
    [a] = [asked for asked in team.agents["w1"].asked if asked.task.id == "a"]
    assert a.task.title == "A" * 60_000


async def test_the_words_of_a_command_are_in_no_event_of_its_run(
    cb: callboard.Callboard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    given = document("w1")
    given["agents"]["w1"] = {"command": ["false", "s3cret-1", "s3cret-2"]}
    plan = {"tasks": [{"title": "A", "max_retries": 0}], "done": True}
    team = Team(cb, given, planner=Planner(plan))
    del team.agents["w1"]
    run = await team.start()

    await team.host(run, folder=tmp_path)

    failed = [event.data for event in await told(cb, run) if event.type == "task_failed"]
    assert "false …" in str(failed)
    logged = "".join(r.getMessage() for r in caplog.records if r.name.startswith("callboard"))
    assert "s3cret" not in str(await told(cb, run)) + logged
    assert "s3cret" not in str(team.writer.asked)


async def test_an_iteration_of_events_may_be_left_in_the_middle(cb: callboard.Callboard) -> None:
    team = Team(cb, document("w1"), planner=Planner({"tasks": ["A"], "done": True}))
    run = await team.run()

    async for event in cb.runs.events(run.id, follow=True):
        assert event.type == "team_start"
        break

    await asyncio.sleep(0)  # Whatever is left of the iteration is closed by the loop.
    assert (await cb.runs.get(run.id)).phase is Phase.DONE


async def test_a_plan_that_the_board_refuses_ends_the_run_and_says_why(
    cb: callboard.Callboard,
) -> None:
    plan = {"tasks": ["A", "B", "C"], "done": True}
    team = Team(cb, document("w1"), planner=Planner(plan))
    run = await team.start()
    await cb.boards.configure(run.id, callboard.BoardSettings(limit=2))

    ended = await team.host(run)

    assert ended.phase is Phase.FAILED
    assert ended.reason.startswith("the plan was refused: ")
    assert team.done == {}
