"""A worker as people write it, whose handlers tell what happens to them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
from typing import Any

import callboard
from callboard.engine.handed_in import Completion
from callboard.sdk.context import TaskContext
from callboard.sdk.worker import Worker

ARGUMENTS = json.loads(sys.argv[1])


def say(what: str, **facts: Any) -> None:
    print(json.dumps({"what": what, **facts}), flush=True)


def build(cb: callboard.Callboard) -> Worker:
    worker = Worker(
        cb,
        agent=ARGUMENTS["agent"],
        concurrency=ARGUMENTS.get("concurrency", 4),
        lease=ARGUMENTS.get("lease", 30.0),
        prefetch=ARGUMENTS.get("prefetch"),
    )

    @worker.handles("work")
    async def work(payload: Any, ctx: TaskContext) -> str:
        """Takes up to *payload* milliseconds."""
        await asyncio.sleep(random.random() * (payload or 0) / 1000)
        return f"{ctx.task.instance}:{ctx.fence}"

    @worker.handles("crash")
    async def crash(ctx: TaskContext) -> None:
        """Takes its whole process down."""
        say("crash", task=ctx.id, attempt=ctx.attempt)
        os.kill(os.getpid(), signal.SIGKILL)

    @worker.handles("first_hangs")
    async def first_hangs(ctx: TaskContext) -> str:
        """The first attempt never ends by itself, and writes late when it is cancelled."""
        say("started", task=ctx.id, attempt=ctx.attempt, fence=ctx.fence)
        if ctx.attempt > 1:
            return "done by another"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            late = await ctx.tasks.complete_many([Completion(ctx.id, ctx.fence, "too late")])
            say("cancelled", task=ctx.id, reason=ctx.cancel_reason, late=late[0].status)
            raise
        return "never"

    @worker.handles("held")
    async def held(ctx: TaskContext) -> str:
        """Runs until the file named by the test is there."""
        say("started", task=ctx.id, attempt=ctx.attempt, fence=ctx.fence)
        while not os.path.exists(ARGUMENTS["gate"]):
            await asyncio.sleep(0.02)
        return "let go"

    return worker


async def main() -> None:
    if "url" in ARGUMENTS:
        cb = callboard.connect(ARGUMENTS["url"], namespace=ARGUMENTS["namespace"])
    else:
        cb = callboard.connect(data=ARGUMENTS["data"], durable=ARGUMENTS.get("durable", False))
    async with cb:
        worker = build(cb)
        worker.observers.add(lambda name, facts: say(name, **facts))
        say("ready", instance=worker.instance)
        await worker.run()
    say("ended")


logging.basicConfig(level=logging.INFO)
asyncio.run(main())
