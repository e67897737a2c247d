"""One of many processes that do the same thing to one board at the same moment.

Told ``{"namespace": …}`` it opens it, and then does one operation a line, answering each.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

import callboard
from callboard.domain.task import TaskSpec
from callboard.engine.handed_in import Completion
from callboard.exceptions import BoardNotFound


class Racer:
    """The operations that a test can ask for."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.random = random.Random(name)
        self.cb: callboard.Callboard

    async def open(self, namespace: str) -> str:
        self.cb = callboard.connect(self.url, namespace=namespace)
        await self.cb.open()
        await self.cb.agents.register(self.name, max_concurrent=1_000, heartbeat_interval=3_600)
        return "open"

    async def close(self) -> str:
        await self.cb.close()
        return "closed"

    async def drain(self, most: int) -> list[Any]:
        """Claim and complete in random batches until all is done; what was accepted."""
        accepted: list[Any] = []
        held: list[Completion] = []
        while True:
            limit = self.random.randint(1, most)
            if self.random.random() < 0.5:
                step = await self.cb.tasks.complete_and_claim(
                    self.name, "1", results=held, limit=limit, started=limit
                )
                answers, claims = list(step.completed), step.claims
            else:
                answers = await self.cb.tasks.complete_many(held)
                claims = await self.cb.tasks.claim(self.name, instance="1", limit=limit)
            accepted += [
                [answer.id, done.fence]
                for answer, done in zip(answers, held, strict=True)
                if answer.status == "ok"
            ]
            held = [Completion(task.id, task.fence, self.name) for task in claims.tasks]
            if not held and (await self.cb.boards.get("default")).counts.unfinished == 0:
                return accepted

    async def submit(self, ids: list[str]) -> int:
        """Submit these in an order of its own; how many of them it added."""
        self.random.shuffle(ids)
        added = 0
        for start in range(0, len(ids), 50):
            specs = [TaskSpec(kind="x", id=task) for task in ids[start : start + 50]]
            added += sum(not handle.existed for handle in await self.cb.tasks.submit_many(specs))
        return added

    async def complete(self, claims: list[list[Any]]) -> list[Any]:
        """Complete these, one call each; the answers."""
        self.random.shuffle(claims)
        calls = [self.cb.tasks.complete_many([Completion(t, f, self.name)]) for t, f in claims]
        answers = await asyncio.gather(*calls)
        return [[*c, a[0].status] for c, a in zip(claims, answers, strict=True)]

    async def retry(self, ids: list[str]) -> list[Any]:
        """Requeue these dead letters, one call each; the answers."""
        self.random.shuffle(ids)
        answers = await asyncio.gather(*(self.cb.tasks.retry_many([task]) for task in ids))
        return [[answer[0].id, answer[0].status] for answer in answers]

    async def sweep(self) -> int:
        """Be a janitor until nothing is held; how often it swept."""
        janitor = self.cb.janitor()
        swept = 0
        while (await self.cb.boards.get("default")).counts.held:
            swept += await janitor.sweep(force=True)
        return swept

    async def wait_and_work(self, total: int) -> list[Any]:
        """Wait for work, dawdle before taking what is reserved, until *total* are done."""
        accepted: list[Any] = []
        while await self._done() < total:
            claims = await self.cb.tasks.claim(self.name, instance="1", limit=6, wait=5.0)
            held = [Completion(task.id, task.fence, self.name) for task in claims.tasks]
            accepted += await self._hand_in(held)
            for _ in range(self.random.randint(0, 6)):
                await self._done()
        return accepted

    async def steal(self, total: int) -> list[Any]:
        """Never wait, take what there is, until *total* are done."""
        accepted: list[Any] = []
        while await self._done() < total:
            claims = await self.cb.tasks.claim(self.name, instance="1", limit=3)
            held = [Completion(task.id, task.fence, self.name) for task in claims.tasks]
            accepted += await self._hand_in(held)
        return accepted

    async def trickle(self, prefix: str, count: int) -> int:
        """Submit a few tasks a call."""
        left = count
        while left:
            now = min(left, self.random.randint(1, 8))
            await self.cb.tasks.submit_many(
                [TaskSpec(kind="x", id=f"{prefix}-{left - i}") for i in range(now)]
            )
            left -= now
        return count

    async def _done(self) -> int:
        try:
            return (await self.cb.boards.get("default")).counts.done
        except BoardNotFound:
            return 0

    async def _hand_in(self, held: list[Completion]) -> list[Any]:
        answers = await self.cb.tasks.complete_many(held)
        return [[a.id, d.fence] for a, d in zip(answers, held, strict=True) if a.status == "ok"]


async def main() -> None:
    arguments = json.loads(sys.argv[1])
    racer = Racer(arguments["url"], arguments["name"])
    print(json.dumps("ready"), flush=True)
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            return
        message = json.loads(line)
        answer = await getattr(racer, message.pop("do"))(**message)
        print(json.dumps(answer), flush=True)


asyncio.run(main())
