"""A watcher of a context over the death of the engine: no change is missed, or it says so."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

import callboard
from callboard.domain.context import Change
from callboard.engine.embedded import engine_status
from callboard.exceptions import EngineError
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


async def test_a_watcher_goes_on_over_the_engines_death_and_misses_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    seen: list[Change] = []
    async with (
        callboard.connect(data=data, durable=True) as cb,
        callboard.connect(data=data, durable=True) as other,
    ):
        started = await cb.context.set("p", {"n": 0})

        async def watch() -> None:
            async for change in other.context.watch("p", since=started.rev):
                seen.append(change)
                if change.rev == last:
                    return

        last = -1
        watching = asyncio.create_task(watch())
        revs = []
        for n in range(1, 61):
            if n in (20, 40):
                pid = engine_status(data).pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            revs.append(await written(cb, n))
        last = revs[-1]
        await asyncio.wait_for(watching, 60)

    told = [change.rev for change in seen if change.kind == "updated"]
    begun = next(change.rev for change in seen if change.kind in ("current", "updated"))
    assert {rev for rev in revs if rev > begun} <= set(told)
    assert any(change.kind == "gap" for change in seen), "the watcher never lost the engine"
    assert told == sorted(set(told)), "in order, and none twice"


async def written(cb: callboard.Callboard, n: int) -> int:
    """Write *n*, over the death of the engine; the revision that it became."""

    async def revision() -> int:
        with suppress(EngineError):
            return (await cb.context.set("p", {"n": n})).rev
        return 0

    return int(await until(revision))
