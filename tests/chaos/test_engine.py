"""The embedded engine killed in the middle of the work, or suspended with everybody on it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import callboard
from callboard.domain.breaker import BreakerPolicy
from callboard.domain.task import Status, TaskSpec
from callboard.engine.embedded import engine_status
from callboard.exceptions import CircuitOpen, EngineError, LockHeld, RevisionConflict
from tests.chaos.board import check_each_was_done_once, counts_of, facts_of, until_done
from tests.chaos.processes import Program, Stage
from tests.waiting import block_until, until

LEASE = 1.0

pytestmark = pytest.mark.timeout(240)


def engine_pid(data: Path, earlier: Sequence[int] = ()) -> int:
    """The process id of the engine, once there is one other than these."""

    def pid() -> int | None:
        found = engine_status(data).pid
        return None if found in earlier else found

    found = block_until(pid, "the engine runs")
    assert found is not None
    return found


def told(program: Program, what: str) -> list[dict]:
    return [line for line in program.hear_all() if line.get("what") == what]


def submitted_by(programs: list[Program]) -> list[str]:
    """The tasks whose submitting was acknowledged."""
    return [
        task for program in programs for line in program.hear_all() for task in line["submitted"]
    ]


def have_submitted(submitters: list[Program], count: int) -> bool:
    return len(submitted_by(submitters)) >= count


def accepted_of(finisher: Program) -> dict[str, int]:
    """Task and fence of each completion that was acknowledged."""
    accepted = {}
    for line in finisher.hear_all():
        for (task, status), fence in zip(line["accepted"], line["fences"], strict=True):
            assert status in ("ok", "replayed"), (task, status)
            accepted[task] = fence
    return accepted


@pytest.mark.parametrize("durable", [False, True], ids=["everysec", "durable"])
async def test_engine_killed_loses_no_acknowledged_task(
    data: Path, stage: Stage, tmp_path: Path, durable: bool
) -> None:
    gate = tmp_path / "gate"
    async with callboard.connect(data=data, durable=durable) as cb:
        workers = [
            stage.start("worker", data=str(data), durable=durable, agent=f"w{n}", lease=5.0)
            for n in range(3)
        ]
        block_until(lambda: all(told(worker, "worker.started") for worker in workers), "all work")
        submitters = [
            stage.start(
                "submitter", data=str(data), durable=durable, prefix=f"s{n}", gate=str(gate)
            )
            for n in range(2)
        ]
        finisher = stage.start(
            "finisher", data=str(data), durable=durable, agent="finisher", gate=str(gate)
        )
        block_until(
            lambda: all(one.hear_all() for one in [*submitters, finisher]), "all work on it"
        )
        killed: list[int] = []
        for _ in range(3):
            enough = len(submitted_by(submitters)) + 150
            block_until(partial(have_submitted, submitters, enough), "more is submitted")
            killed.append(engine_pid(data, killed))
            os.kill(killed[-1], signal.SIGKILL)
        gate.touch()
        for program in [*submitters, finisher]:
            assert program.wait() == 0, program.errors
        ids = submitted_by(submitters)
        await until_done(cb, len(ids))

        await check_each_was_done_once(cb, ids)
        accepted = accepted_of(finisher)
        assert accepted, "it never got a task"
        for task, fence in accepted.items():
            found = await cb.tasks.get(task)
            assert (found.fence, found.result) == (fence, fence), "an accepted result is gone"
        for worker in workers:
            assert worker.is_running, f"A worker did not carry on. {worker.errors}"
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0, worker.errors


async def test_an_engine_that_is_killed_keeps_what_is_held_limited_and_undecided(
    data: Path,
) -> None:
    async with callboard.connect(data=data) as cb:
        await cb.agents.register("mira")
        lock = await cb.locks.acquire("db", owner="one", lease=600)
        await cb.breakers.configure("api", BreakerPolicy(open_for=600))
        await cb.breakers.force("api", "open")
        await cb.conflicts.report("resource", "db", ["mira", "noor"], id="c1")
        await cb.conflicts.open_vote("c1", members=["ann", "bob", "cyd"], deadline=600)
        await cb.conflicts.vote("c1", "ann", "noor")
        written = await cb.context.set("p", {"n": 1})
        await cb.flow.limit("tenant", concurrency=1)
        for task in ("t1", "t2"):
            await cb.tasks.submit("work", id=task, concurrency_key="tenant")
        held = (await cb.tasks.claim("mira", lease=600)).tasks[0]

        os.kill(engine_pid(data), signal.SIGKILL)
        while True:
            with suppress(EngineError):  # its end, unless this link saw it before
                await cb.locks.get("db")
                break

        assert await cb.locks.check("db", lock.fence)
        with pytest.raises(LockHeld):
            await cb.locks.acquire("db", owner="two", wait=0)
        with pytest.raises(CircuitOpen):
            await cb.breakers.admit("api")
        assert (await cb.conflicts.vote("c1", "bob", "noor")).winner == "noor"
        with pytest.raises(RevisionConflict):
            await cb.context.set("p", {"n": 2}, if_rev=0)
        assert (await cb.context.get("p")).rev == written.rev
        assert (await cb.tasks.claim("mira")).tasks == ()
        await cb.tasks.complete(held.id, fence=held.fence)
        (other,) = (await cb.tasks.claim("mira")).tasks
        assert other.fence > max(held.fence, lock.fence)


@pytest.mark.parametrize("durable", [False, True], ids=["everysec", "durable"])
async def test_suspended_host_counts_no_crash(
    data: Path, stage: Stage, tmp_path: Path, durable: bool
) -> None:
    ids = [f"task-{number}" for number in range(12)]
    gate = tmp_path / "gate"
    async with callboard.connect(data=data, durable=durable) as cb:
        await cb.tasks.submit_many(TaskSpec(kind="held", id=task) for task in ids)
        workers = [
            stage.start(
                "worker",
                data=str(data),
                durable=durable,
                agent=f"w{n}",
                lease=LEASE,
                concurrency=4,
                prefetch=0,
                gate=str(gate),
            )
            for n in range(3)
        ]
        block_until(
            lambda: sum(len(told(worker, "started")) for worker in workers) == len(ids),
            "all tasks have begun",
        )
        fences = {task: (await cb.tasks.get(task)).fence for task in ids}

        # The engine first to sleep and first to wake: the workers find their leases overdue.
        everybody = [engine_pid(data), *(worker.pid for worker in workers)]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        awake_at = time.monotonic() + 5 * LEASE
        block_until(lambda: time.monotonic() >= awake_at, "the night is over")
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)

        # Longer than a lease: each worker has renewed, each janitor has swept.
        swept_at = time.monotonic() + 2 * LEASE

        async def has_swept() -> bool:
            return time.monotonic() >= swept_at

        await until(has_swept, "the sweeps go on")
        counts = await counts_of(cb)
        assert (counts.held, counts.failed, counts.dead_letters) == (len(ids), 0, 0)
        gate.touch()
        await until_done(cb, len(ids))
        await check_each_was_done_once(cb, ids)
        for task in ids:
            found = await cb.tasks.get(task)
            assert (found.status, found.attempt, found.crashes) == (Status.DONE, 1, 0)
            assert found.fence == fences[task], "it was taken from its holder"
        assert await facts_of(cb, "task:lease_lost", "agent:lost", "agent:instance_lost") == []
