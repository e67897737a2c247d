"""One of several processes that choose agents, start what is reserved, or steal it, at once."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import callboard
from callboard.domain.strategy import Assignment


class FewestTasks:
    """A strategy of one's own."""

    def choose(self, assignment: Assignment) -> str:
        return min(assignment.candidates, key=lambda candidate: candidate.load).id


class Assigner:
    """The operations that a test can ask for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cb: Any = None

    async def open(self, namespace: str) -> str:
        self.cb = await callboard.connect(self.url, namespace=namespace).open()
        self.cb.scheduler.register("fewest", FewestTasks())
        return "open"

    async def close(self) -> str:
        await self.cb.close()
        return "closed"

    async def assign(self, ids: list[str], strategy: str, at_once: int) -> list[Any]:
        """Assign these, some a call and all calls under way at once; task, agent and status."""
        batches = [ids[i : i + at_once] for i in range(0, len(ids), at_once)]
        calls = (self.cb.scheduler.assign(*batch, strategy=strategy) for batch in batches)
        decided = await asyncio.gather(*calls)
        return [[d.task, d.agent, d.status] for found in decided for d in found]

    async def claim(self, agent: str, calls: int, limit: int) -> list[str]:
        """Claim as one agent, again and again; what was granted."""
        granted: list[str] = []
        for _ in range(calls):
            claims = await self.cb.tasks.claim(agent, limit=limit)
            granted += [task.id for task in claims.tasks]
        return granted


async def main() -> None:
    arguments = json.loads(sys.argv[1])
    assigner = Assigner(arguments["url"])
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        message = json.loads(line)
        answer = await getattr(assigner, message.pop("do"))(**message)
        print(json.dumps(answer), flush=True)


asyncio.run(main())
