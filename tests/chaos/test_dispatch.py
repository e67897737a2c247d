"""Dispatchers that are killed while they push, with others on the same engine."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

import callboard
from callboard.domain.board import BoardSettings
from callboard.domain.task import Status, TaskSpec
from callboard.exceptions import CallboardError
from tests.chaos.board import check_each_was_done_once, facts_of, until_done
from tests.chaos.processes import Program, Stage
from tests.dispatch.agents import Agent, Answer, running
from tests.waiting import block_until

pytestmark = pytest.mark.timeout(180)

TASKS = 1_500


def start(stage: Stage, url: str, namespace: str) -> Program:
    program = stage.start("dispatcher", url=url, namespace=namespace)
    assert program.hear()["what"] == "ready"
    return program


async def test_killed_dispatchers_lose_nothing_and_nothing_is_done_twice(
    cb: callboard.Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    late: set[asyncio.Task[Any]] = set()

    async def at_once(_: Agent, __: dict[str, Any]) -> Answer:
        await asyncio.sleep(random.random() / 50)
        return 200, b'{"status":"completed","result":"at once"}'

    async def complete(payload: dict[str, Any]) -> None:
        await asyncio.sleep(random.random() / 50)
        with suppress(CallboardError):  # its fence may be void: the task went to somebody else
            await cb.tasks.complete(payload["task_id"], fence=payload["fence"], result="later")

    async def later(_: Agent, message: dict[str, Any]) -> Answer:
        task = asyncio.create_task(complete(message["payload"]))
        late.add(task)
        task.add_done_callback(late.discard)
        return 202, b""

    ids = [f"task-{number}" for number in range(TASKS)]
    await cb.boards.configure("default", BoardSettings(poison=50, crashes=100))
    async with running(at_once) as one, running(later) as two:
        for name, agent in (("one", one), ("two", two)):
            endpoints = {"http": agent.url}
            await cb.agents.register(
                name, endpoints=endpoints, max_concurrent=40, heartbeat_interval=60
            )
        alive = [start(stage, engine_url, namespace) for _ in range(2)]
        await cb.tasks.submit_many(TaskSpec(kind="work", id=task) for task in ids)
        for killed in range(4):
            await until_done(cb, 100 + killed * 250)
            alive[killed % 2].kill()
            alive[killed % 2] = start(stage, engine_url, namespace)
        await until_done(cb, TASKS)
        await asyncio.gather(*late)

    await check_each_was_done_once(cb, ids)
    stats = await cb.scheduler.distribution()
    assert (stats.tasks_completed, stats.tasks_failed) == (TASKS, 0)
    assert stats.tasks_distributed >= TASKS
    lost = await facts_of(cb, "task:lease_lost")
    assert lost, "no dispatcher was killed while it pushed"
    crashes = [(await cb.tasks.get(fact.id)).crashes for fact in lost]
    assert set(crashes) <= {0}, "a dispatcher's death was counted as the agent's crash"


async def test_a_task_submitted_on_one_goes_out_by_the_other(
    cb: callboard.Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    async def behave(_: Agent, __: dict[str, Any]) -> Answer:
        return 200, b'{"status":"completed"}'

    one, other = (start(stage, engine_url, namespace) for _ in range(2))
    one.kill()
    async with running(behave) as agent:
        await cb.agents.register("a", endpoints={"http": agent.url})
        task = await cb.tasks.submit("work")
        await until_done(cb, 1)

    assert (await cb.tasks.get(task.id)).status is Status.DONE
    other.tell(what="stop")
    block_until(lambda: not other.is_running, "the other stopped")
