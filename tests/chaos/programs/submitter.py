"""Submits tasks in small batches, tells which were acknowledged, and survives the engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import callboard
from callboard.domain.task import TaskSpec
from callboard.exceptions import EngineError

ARGUMENTS = json.loads(sys.argv[1])


async def insist(cb: callboard.Callboard, specs: list[TaskSpec]) -> None:
    """Tasks with ids may be submitted again, whatever became of the first time."""
    while True:
        try:
            await cb.tasks.submit_many(specs)
            return
        except EngineError:
            await asyncio.sleep(0.05)


async def trickle(cb: callboard.Callboard) -> None:
    """Batches of ten until it is told to end, each told once it was acknowledged."""
    number = 0
    while not os.path.exists(ARGUMENTS["gate"]):
        ids = [f"{ARGUMENTS['prefix']}-{n}" for n in range(number, number + 10)]
        await insist(cb, [TaskSpec(kind="work", id=task, payload=5) for task in ids])
        print(json.dumps({"submitted": ids}), flush=True)
        number += 10
        await asyncio.sleep(0.02)  # No more than the workers can do.


async def in_one_go(cb: callboard.Callboard) -> None:
    """Everything with one call of the library, which is several of the engine."""
    functions, die_after = cb.namespace.functions, ARGUMENTS["die_after"]
    original, answered = functions.call, 0

    async def counted(name: str, *arguments: Any, timeout: float | None = None) -> list[Any]:
        nonlocal answered
        reply = await original(name, *arguments, timeout=timeout)
        answered += 1
        if answered == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    functions.call = counted  # type: ignore[method-assign]
    specs = [TaskSpec(kind="work", id=f"t-{n}") for n in range(ARGUMENTS["count"])]
    handles = await cb.tasks.submit_many(specs)
    existed = sum(handle.existed for handle in handles)
    print(json.dumps({"existed": existed, "calls": answered}), flush=True)


async def main() -> None:
    if "url" in ARGUMENTS:
        cb = callboard.connect(ARGUMENTS["url"], namespace=ARGUMENTS["namespace"])
    else:
        cb = callboard.connect(data=ARGUMENTS["data"], durable=ARGUMENTS.get("durable", False))
    async with cb:
        await (trickle(cb) if "prefix" in ARGUMENTS else in_one_go(cb))


asyncio.run(main())
