"""One of several processes that call components behind breakers at the same moment."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import callboard
from callboard.exceptions import CircuitOpen


class Caller:
    """The operations that a test can ask for."""

    def __init__(self, cb: callboard.Callboard) -> None:
        self.cb = cb
        self.permits: list[callboard.Permit] = []

    async def storm(self, component: str, calls: int) -> list[int]:
        """Ask for many permits at once; the numbers of those that were given."""
        answers = await asyncio.gather(
            *(self.cb.breakers.admit(component) for _ in range(calls)), return_exceptions=True
        )
        for answer in answers:
            if not isinstance(answer, callboard.Permit | CircuitOpen):
                raise TypeError(repr(answer))
        given = [answer for answer in answers if isinstance(answer, callboard.Permit)]
        self.permits += given
        return [permit.number for permit in given]

    async def record(self, outcome: Any) -> list[bool]:
        """Record one outcome for all permits that this process has."""
        permits, self.permits = self.permits, []
        return list(
            await asyncio.gather(*(self.cb.breakers.record(permit, outcome) for permit in permits))
        )

    async def probe(self, component: str) -> bool:
        """Begin a guarded call that does not end, its permit renewed."""
        self.guard = self.cb.breakers.guard(component)
        return (await self.guard.__aenter__()).is_probe

    async def claim(self, agent: str, lease: float) -> list[str]:
        """Claim a task and do nothing with it."""
        claims = await self.cb.tasks.claim(agent, instance="doomed", lease=lease)
        return [task.id for task in claims.tasks]


async def main() -> None:
    arguments = json.loads(sys.argv[1])
    async with callboard.connect(arguments["url"], namespace=arguments["namespace"]) as cb:
        caller = Caller(cb)
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            message = json.loads(line)
            answer = await getattr(caller, message.pop("do"))(**message)
            print(json.dumps(answer), flush=True)


asyncio.run(main())
