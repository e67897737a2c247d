"""Housekeeping on an engine at its memory limit: what adds work is refused, the rest goes on."""

from __future__ import annotations

from pathlib import Path

import callboard
from callboard.exceptions import EngineFull
from callboard.janitor import Janitor


async def test_a_recurring_task_that_is_due_ends_no_round(tmp_path: Path) -> None:
    async with callboard.connect(data=tmp_path) as cb:
        engine = cb.namespace.connection
        await cb.recurring.create("n", "work", every=60)
        await engine.call("ZADD", f"{cb.namespace.keys.recurring}:due", 60_000, "n")
        await engine.call("CONFIG", "SET", "maxmemory", "1mb")

        assert await cb.janitor().sweep(force=True)

        stuck = await cb.recurring.get("n")
        assert "maxmemory" in stuck.last_error
        assert (await cb.flow.pause("k")).holds.is_paused
        assert "callboard_agents" in await cb.metrics.prometheus()
        await engine.call("CONFIG", "SET", "maxmemory", "0")
        await cb.recurring.sweep()
        fired = await cb.recurring.get("n")
        assert (fired.fired, fired.last_error) == (1, "")


async def test_a_sweep_that_an_engine_at_its_limit_refuses_keeps_no_other_from_its_turn(
    tmp_path: Path,
) -> None:
    ran = []

    async def refused() -> bool:
        raise EngineFull("full")

    async def other() -> bool:
        ran.append("other")
        return False

    async with callboard.connect(data=tmp_path) as cb:
        janitor = Janitor(cb.namespace, cb.agents, {"runs": refused, "locks": other})

        assert await janitor.sweep(force=True)

    assert ran == ["other"]
