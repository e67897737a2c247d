"""Worker processes that are killed, paused, told to stop, or take themselves down."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

import callboard
from callboard.domain.board import BoardSettings
from callboard.domain.task import Status, TaskSpec
from callboard.engine.handed_in import Completion
from tests.chaos.board import check_each_was_done_once, counts_of, facts_of, until_done
from tests.chaos.processes import Program, Stage
from tests.waiting import block_until, until

LEASE = 1.0

pytestmark = pytest.mark.timeout(180)


def told(program: Program, what: str) -> list[dict]:
    return [line for line in program.hear_all() if line["what"] == what]


async def test_killed_workers_lose_nothing(
    cb: callboard.Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    ids = [f"task-{number}" for number in range(600)]
    # An innocent task may meet several of these deaths.
    await cb.boards.configure("default", BoardSettings(poison=50, crashes=100))
    await cb.tasks.submit_many(TaskSpec(kind="work", id=task, payload=20) for task in ids)

    def start(number: int) -> Program:
        return stage.start(
            "worker", url=engine_url, namespace=namespace, agent=f"w{number}", lease=LEASE
        )

    alive = [start(number) for number in range(4)]
    for killed in range(8):
        await until_done(cb, 50 + killed * 50)
        at_work = [n for n, worker in enumerate(alive) if told(worker, "worker.started")]
        victim = random.choice(at_work)
        alive[victim].kill()
        alive[victim] = start(victim)
    await until_done(cb, len(ids))

    await check_each_was_done_once(cb, ids)
    lost = await facts_of(cb, "task:lease_lost")
    assert lost, "no worker was killed while it held a task"
    late = await cb.tasks.complete_many(Completion(fact.id, fact.fence, "late") for fact in lost)
    assert {answer.status for answer in late} == {"lease_lost"}


async def test_a_paused_worker_is_refused_and_its_handler_cancelled(
    cb: callboard.Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    await cb.tasks.submit("first_hangs", id="slow")
    paused = stage.start(
        "worker", url=engine_url, namespace=namespace, agent="paused", lease=LEASE, concurrency=1
    )
    block_until(lambda: told(paused, "started"), "the first worker has started the task")
    paused.signal(signal.SIGSTOP)
    stage.start("worker", url=engine_url, namespace=namespace, agent="other", lease=LEASE)

    await until_done(cb, 1)
    paused.signal(signal.SIGCONT)

    [cancelled] = block_until(lambda: told(paused, "cancelled"), "the handler was cancelled")
    assert (cancelled["reason"], cancelled["late"]) == ("lease_lost", "lease_lost")
    task = await cb.tasks.get("slow")
    assert (task.status, task.result, task.agent) == (Status.DONE, "done by another", "other")
    assert (task.attempt, task.crashes) == (2, 1)
    await check_each_was_done_once(cb, ["slow"])


async def test_a_task_that_kills_workers_is_buried_and_its_neighbours_are_done(
    cb: callboard.Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    neighbours = [f"task-{number}" for number in range(20)]
    await cb.tasks.submit("crash", id="poison", priority=5)
    await cb.tasks.submit_many(TaskSpec(kind="work", id=task) for task in neighbours)

    def start() -> Program:
        return stage.start(
            "worker",
            url=engine_url,
            namespace=namespace,
            agent="brave",
            lease=LEASE,
            concurrency=1,
            prefetch=30,
        )

    worker = start()

    async def is_over() -> bool:
        nonlocal worker
        if not worker.is_running:
            worker = start()
        counts = await counts_of(cb)
        return counts.unfinished == 0

    await until(is_over, "all tasks have ended")

    poison = await cb.tasks.get("poison")
    assert (poison.status, poison.crashes, poison.failures) == (Status.FAILED, 3, 0)
    assert poison.error is not None and poison.error["type"] == "poison"
    assert [letter.id for letter in await cb.dead_letters.list()] == ["poison"]
    assert len({one.instance for one in await cb.tasks.attempts("poison")}) == 3
    for task in neighbours:
        found = await cb.tasks.get(task)
        assert (found.status, found.crashes, found.failures) == (Status.DONE, 0, 0)


async def test_a_worker_told_to_stop_finishes_what_runs_and_gives_back_the_rest(
    cb: callboard.Callboard, stage: Stage, engine_url: str, namespace: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await cb.tasks.submit_many(TaskSpec(kind="held", id=f"task-{number}") for number in range(8))
    worker = stage.start(
        "worker",
        url=engine_url,
        namespace=namespace,
        agent="polite",
        gate=str(gate),
        concurrency=2,
        prefetch=4,
    )
    block_until(lambda: len(told(worker, "started")) == 2, "two handlers run")

    worker.signal(signal.SIGTERM)

    async def has_given_back() -> bool:
        counts = await counts_of(cb)
        return (counts.held, counts.pending) == (2, 6)

    await until(has_given_back, "what was claimed ahead is back on the board")
    gate.touch()
    assert worker.wait() == 0
    assert told(worker, "ended")
    counts = await counts_of(cb)
    assert (counts.done, counts.pending, counts.held) == (2, 6, 0)
    assert await facts_of(cb, "task:lease_lost") == []
    left = await cb.tasks.list(status="pending")
    assert {(task.failures, task.crashes) for task in left.tasks} == {(0, 0)}
    assert (await cb.agents.get("polite")).instances == ()


async def test_a_submitter_killed_between_its_calls_has_added_whole_calls_and_can_go_on(
    cb: callboard.Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    arguments = {"url": engine_url, "namespace": namespace, "count": 5_000}
    killed = stage.start("submitter", **arguments, die_after=3)
    assert killed.wait() == -signal.SIGKILL
    added = (await counts_of(cb)).total
    assert added in (3_000, 4_000)

    again = stage.start("submitter", **arguments, die_after=0).hear()

    assert again == {"existed": added, "calls": 5}
    assert (await counts_of(cb)).pending == 5_000
    created = await facts_of(cb, "task:created")
    assert len(created) == len({fact.id for fact in created}) == 5_000
