"""Claims and completes by hand, repeats what it got no answer to, tells what was accepted."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import callboard
from callboard.engine.handed_in import Completion
from callboard.exceptions import EngineError

T = TypeVar("T")
ARGUMENTS = json.loads(sys.argv[1])


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """A claim has its request id, a completion its fence: both may be sent again."""
    while True:
        try:
            return await call()
        except EngineError:
            await asyncio.sleep(0.05)


async def main() -> None:
    agent = ARGUMENTS["agent"]
    async with callboard.connect(data=ARGUMENTS["data"], durable=ARGUMENTS["durable"]) as cb:
        await insist(lambda: cb.agents.register(agent, max_concurrent=20))
        while not os.path.exists(ARGUMENTS["gate"]):
            claim = partial(cb.tasks.claim, agent, limit=5, request_id=secrets.token_hex(8))
            claims = await insist(claim)
            results = [Completion(task.id, task.fence, task.fence) for task in claims.tasks]
            answers = await insist(partial(cb.tasks.complete_many, results))
            accepted = [[answer.id, answer.status] for answer in answers]
            fences = [result.fence for result in results]
            print(json.dumps({"accepted": accepted, "fences": fences}), flush=True)
            await asyncio.sleep(0.01)


asyncio.run(main())
