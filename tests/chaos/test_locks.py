"""Holders of locks that are paused or killed, in processes of their own."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

import callboard
from callboard.exceptions import LockHeld
from tests.chaos.processes import Program, Stage
from tests.waiting import block_until, until

pytestmark = pytest.mark.timeout(240)


def holder(stage: Stage, cb: callboard.Callboard, url: str, **arguments: object) -> Program:
    return stage.start("lock_holder", url=url, namespace=cb.namespace.name, **arguments)


async def heard(program: Program) -> dict:
    return await asyncio.to_thread(program.hear)


async def test_a_holder_paused_past_its_lease_can_neither_write_nor_renew_nor_release(
    cb: callboard.Callboard, stage: Stage, engine_url: str
) -> None:
    paused = holder(stage, cb, engine_url, how="once", owner="paused", lease=1.0)
    first = (await heard(paused))["fence"]
    os.kill(paused.pid, signal.SIGSTOP)

    lock = await cb.locks.acquire("r", owner="next", wait=30)
    os.kill(paused.pid, signal.SIGCONT)
    paused.tell(do="try")
    answers = {line["what"]: line["answer"] for line in [await heard(paused) for _ in range(3)]}

    assert answers == {"renew": "lock_lost", "release": "lock_lost", "write": False}
    assert lock.fence > first
    assert (await cb.locks.get("r")).holders[0].owner == "next"
    assert await cb.locks.check("r", lock.fence)


async def test_a_scope_paused_past_its_lease_is_cancelled_when_it_wakes(
    cb: callboard.Callboard, stage: Stage, engine_url: str
) -> None:
    paused = holder(stage, cb, engine_url, how="scope", owner="paused", lease=1.5)
    await heard(paused)
    os.kill(paused.pid, signal.SIGSTOP)
    await cb.locks.acquire("r", owner="next", wait=30)

    os.kill(paused.pid, signal.SIGCONT)

    assert await heard(paused) == {"what": "scope", "answer": "lock_lost"}


async def test_a_killed_holders_lock_goes_to_the_waiter_without_any_janitor(
    cb: callboard.Callboard, stage: Stage, engine_url: str
) -> None:
    killed = holder(stage, cb, engine_url, how="scope", owner="killed", lease=2.0)
    await heard(killed)
    waiting = asyncio.create_task(cb.locks.acquire("r", owner="next", wait=60))

    async def is_in_line() -> bool:
        return (await cb.locks.get("r")).waiting_count == 1

    await until(is_in_line, "the waiter is in line")
    killed.kill()

    async with asyncio.timeout(20):
        await waiting


async def test_an_interrupted_program_gives_its_lock_back_at_once(
    cb: callboard.Callboard, stage: Stage, engine_url: str
) -> None:
    program = holder(stage, cb, engine_url, how="scope", owner="one", lease=600)
    await heard(program)

    program.signal(signal.SIGINT)
    await asyncio.to_thread(program.wait)

    assert (await cb.locks.get("r")).is_free


async def test_a_waiter_killed_at_the_head_of_the_line_keeps_nobody_waiting(
    cb: callboard.Callboard, stage: Stage, engine_url: str
) -> None:
    lock = await cb.locks.acquire("r", owner="one", lease=120)
    killed = holder(stage, cb, engine_url, how="once", owner="killed", lease=60)

    async def are_in_line(count: int) -> bool:
        return (await cb.locks.get("r")).waiting_count == count

    await until(lambda: are_in_line(1), "the first is in line")
    waiting = asyncio.create_task(cb.locks.acquire("r", owner="two", wait=60))
    await until(lambda: are_in_line(2), "both are in line")
    killed.kill()
    await cb.locks.release(lock)

    async with asyncio.timeout(20):
        assert (await waiting).owner == "two"


async def test_fences_in_the_log_of_writes_only_rise_while_holders_are_killed(
    cb: callboard.Callboard, stage: Stage, engine_url: str, tmp_path: Path
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    log.touch()

    def start() -> Program:
        return holder(stage, cb, engine_url, how="loop", lease=3.0, log=str(log), gate=str(gate))

    def writes() -> int:
        return log.read_text().count("\n")

    alive = [start() for _ in range(20)]
    for kills in range(8):
        await asyncio.to_thread(
            block_until, lambda k=kills: writes() >= 30 * (k + 1), "more writes"
        )
        victim = random.randrange(len(alive))
        alive[victim].kill()
        alive[victim] = start()
    await asyncio.to_thread(block_until, lambda: writes() >= 300, "more writes")
    gate.touch()

    fences = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert len(fences) >= 300
    assert all(first < second for first, second in itertools.pairwise(fences))

    for program in alive:
        await asyncio.to_thread(block_until, lambda p=program: not p.is_running, "it ended")

    async def is_free() -> bool:
        await cb.locks.sweep()
        with suppress(LockHeld):
            await cb.locks.acquire("r", owner="last", wait=0)
            return True
        return False

    await until(is_free, "the last owner's lease is over")
