"""Streams about one run, one task, one bell; and an engine that goes away meanwhile."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from callboard.app import Callboard
from callboard.domain.agent import InstanceSpec
from callboard.domain.event import Fact
from callboard.engine.embedded import EmbeddedEngine
from callboard.exceptions import EngineError
from tests.http.live_support import sse
from tests.http.support import Served, serving
from tests.waiting import until

TEAM = {
    "team": {"planner": "plan", "synthesizer": "write", "workers": ["read"]},
    "agents": {name: {"callable": f"handlers:{name}"} for name in ("plan", "read", "write")},
}


async def board_of(served: Served) -> Callboard:
    return await served.coordinator.board(served.coordinator.settings.namespace)


async def test_a_task_is_told_from_how_it_stands_to_its_end(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")
    await cb.tasks.submit("greet", id="a")

    async with sse(served.port, "/tasks/a/stream") as stream:
        before = await stream.next()
        (claimed,) = (await cb.tasks.claim("mira")).tasks
        await cb.tasks.progress("a", fence=claimed.fence, value="half")
        await cb.tasks.complete("a", fence=claimed.fence, result=42)
        told = await stream.rest()

    assert (before.event, before.json["status"]) == ("task", "pending")
    assert [block.event for block in told] == [
        "task:claimed",
        "task:progress",
        "task:completed",
        "task",
        "end",
    ]
    assert told[-2].json["result"] == 42
    assert told[-1].json == {"task": "a", "status": "done"}


async def test_a_task_of_another_board_is_told_by_the_boards_path(served: Served) -> None:
    cb = await board_of(served)
    await cb.board("other").tasks.submit("greet", id="a")
    await cb.tasks.submit("greet", id="a")

    async with sse(served.port, "/boards/other/tasks/a/stream") as stream:
        await stream.next()
        await cb.tasks.cancel("a")
        await cb.board("other").tasks.cancel("a", reason="mine")
        await stream.until("task:cancelled")
        last = await stream.until("task")

    assert last.json["reason"] == "mine"


async def test_a_reader_that_comes_back_to_a_task_that_has_ended_is_told_to_stop(
    served: Served,
) -> None:
    cb = await board_of(served)
    await cb.tasks.submit("greet", id="a")
    await cb.tasks.cancel("a")

    async with sse(served.port, "/tasks/a/stream") as stream:
        first, last = await stream.next(), await stream.next()
        assert await stream.next_or_end() is None
    again = await served.client.get("/tasks/a/stream", headers={"last-event-id": first.id})
    unknown = await served.client.get("/tasks/nothing/stream")

    assert (first.event, last.event) == ("task", "end")
    assert again.status_code == 204
    assert unknown.status_code == 404


async def test_a_reader_that_was_away_when_its_task_ended_is_told_of_the_end(
    served: Served,
) -> None:
    cb = await board_of(served)
    await cb.tasks.submit("greet", id="a")
    async with sse(served.port, "/tasks/a/stream") as stream:
        seen = await stream.next()
    await cb.tasks.cancel("a", reason="enough")
    await cb.tasks.submit("greet", id="b")

    async with sse(served.port, "/tasks/a/stream", last_event_id=seen.id) as stream:
        status = stream.status
        told = await stream.rest()
    again = await served.client.get("/tasks/a/stream", headers={"last-event-id": told[0].id})

    assert status == 200
    assert [block.event for block in told] == ["task", "end"]
    assert told[0].json["reason"] == "enough"
    assert told[1].json == {"task": "a", "status": "cancelled"}
    assert again.status_code == 204


async def test_a_run_is_told_from_its_start_to_its_end_and_resumed_by_its_ids(
    served: Served,
) -> None:
    cb = await board_of(served)
    run = await begun_run(cb)

    async with sse(served.port, f"/runs/{run}/stream") as stream:
        first = await stream.next()
        await cb.runs.cancel(run, reason="enough")
        told = await stream.rest()
    async with sse(served.port, f"/runs/{run}/stream", last_event_id=first.id) as again:
        rest = await again.rest()
    over = await served.client.get(f"/runs/{run}/stream", headers={"last-event-id": told[-2].id})

    assert first.event == "team_start"
    assert told[-2].event == "cancelled"
    assert told[-1].json == {"run": run, "phase": "cancelled"}
    assert [block.id for block in rest] == [block.id for block in told]
    assert over.status_code == 204
    assert (await served.client.get("/runs/nothing/stream")).status_code == 404


async def begun_run(cb: Callboard) -> str:
    await cb.teams.add("survey", TEAM)
    return (await cb.runs.start("survey", "look")).id


async def test_the_bell_of_a_process_is_passed_on(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira", instance=InstanceSpec(id="p1"))

    async with sse(served.port, "/agents/mira/bell?instance=p1") as stream:
        await cb.tasks.claim("mira", instance="p1", wait=30)
        await cb.tasks.submit("greet", id="a")
        bell = await stream.next()

    assert (bell.event, bell.data) == ("bell", "default|a")


async def test_streams_live_through_an_engine_that_is_killed_and_miss_nothing(
    tmp_path: Path,
) -> None:
    engine = await EmbeddedEngine.acquire(tmp_path, True)
    try:
        async with serving(engine.url) as served:
            cb = await board_of(served)
            await cb.tasks.submit("greet", id="before")
            async with sse(served.port, "/events?types=task:created") as stream:
                await cb.tasks.submit("greet", id="a")
                first = await stream.next()
                os.kill(engine.pid, signal.SIGKILL)
                await engine.ensure_running()
                await until(lambda: cb.is_connected)

                async def is_submitted() -> bool:
                    with suppress(EngineError):
                        await cb.tasks.submit("greet", id="b")
                        return True
                    return False

                await until(is_submitted)
                found = []
                while "b" not in found:
                    block = await stream.next()
                    found += [Fact(**fact).id for fact in block.json.get("facts", ())]
    finally:
        await engine.release()

    assert [fact["id"] for fact in first.json["facts"]] == ["a"]
    assert found == ["b"]
