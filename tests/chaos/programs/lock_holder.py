"""Holds a lock and writes under its fence; or, told to, tries what a late holder would."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from typing import Any

import callboard
from callboard.exceptions import CallboardError, LockLost

ARGUMENTS = json.loads(sys.argv[1])


def tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


async def line() -> dict[str, Any]:
    text = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(text) if text else {"do": "end"}


async def once(cb: callboard.Callboard) -> None:
    """Hold in a scope until told to try; the scope's end tells whether it was lost."""
    owner = ARGUMENTS["owner"]
    lock = await cb.locks.acquire("r", owner=owner, lease=ARGUMENTS["lease"])
    tell(what="held", fence=lock.fence)
    while (await line())["do"] != "end":
        for name, attempt in {
            "renew": cb.locks.renew(lock),
            "release": cb.locks.release(lock),
        }.items():
            try:
                await attempt
            except CallboardError as error:
                tell(what=name, answer=error.code)
            else:
                tell(what=name, answer="ok")
        tell(what="write", answer=await cb.locks.check("r", lock.fence))


async def scope(cb: callboard.Callboard) -> None:
    try:
        async with cb.locks.hold("r", owner=ARGUMENTS["owner"], lease=ARGUMENTS["lease"]) as lock:
            tell(what="held", fence=lock.fence)
            await asyncio.sleep(600)
    except LockLost:
        tell(what="scope", answer="lock_lost")
    await line()


async def loop(cb: callboard.Callboard) -> None:
    """Acquire, append the fence to the log, release; until the gate opens."""
    log = os.open(ARGUMENTS["log"], os.O_WRONLY | os.O_APPEND)
    while not os.path.exists(ARGUMENTS["gate"]):
        async with cb.locks.hold("r", lease=ARGUMENTS["lease"], wait=120) as lock:
            await asyncio.sleep(random.random() / 50)
            os.write(log, f"{lock.fence} {os.getpid()}\n".encode())
            await asyncio.sleep(random.random() / 50)


async def main() -> None:
    async with callboard.connect(ARGUMENTS["url"], namespace=ARGUMENTS["namespace"]) as cb:
        await {"once": once, "scope": scope, "loop": loop}[ARGUMENTS["how"]](cb)


asyncio.run(main())
