"""Many forked processes that work at one namespace, of which one after another is killed.

Its argument says what they do (``claim`` or ``fire``), how many they are, and how many are to
be killed, each of which another takes the place of. It tells how many it killed, once all
are gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import callboard.app  # whole, before the forks: names of callboard load when they are used
from callboard.engine.library import library
from callboard.exceptions import CallboardError

KILL_EVERY = 0.06
SECONDS_MAX = 60.0


async def claim(cb: callboard.Callboard, name: str) -> None:
    """Claim a few, hold them for a moment, and end them one way or another."""
    chance = random.Random(name)
    await cb.agents.register(name, max_concurrent=5, heartbeat_interval=3_600)
    while os.getppid() == PARENT:
        with suppress(CallboardError):
            claims = await cb.tasks.claim(name, instance="1", limit=chance.randint(1, 4), lease=0.3)
            await asyncio.sleep(chance.random() * 0.03)
            for task in claims.tasks:
                if chance.random() < 0.8:
                    await cb.tasks.complete(task.id, fence=task.fence)
                elif chance.random() < 0.5:
                    await cb.tasks.release(task.id, fence=task.fence)
                else:
                    await cb.tasks.fail(task.id, fence=task.fence, error="by chance", delay=0.01)
            if not claims.tasks:
                await asyncio.sleep(claims.again or 0.02)


async def fire(cb: callboard.Callboard, name: str) -> None:
    """Fire what is due, again and again."""
    while os.getppid() == PARENT:
        await cb.recurring.sweep()
        await asyncio.sleep(0.005)


DOES: dict[str, Callable[[callboard.Callboard, str], Coroutine[Any, Any, None]]] = {
    "claim": claim,
    "fire": fire,
}


def child(arguments: dict[str, Any], number: int) -> int:
    """Fork a process that works until it is killed; its id."""
    pid = os.fork()
    if pid:
        return pid

    async def work() -> None:
        async with callboard.connect(arguments["url"], namespace=arguments["namespace"]) as cb:
            await DOES[arguments["do"]](cb, f"agent-{number}")

    try:
        asyncio.run(work())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def main(arguments: dict[str, Any]) -> None:
    chance = random.Random(1)
    count = arguments["count"]
    library()  # assembled once, for all children
    children = [child(arguments, number) for number in range(count)]
    print(json.dumps("ready"), flush=True)
    killed, until = 0, time.monotonic() + SECONDS_MAX
    while killed < arguments["kills"] and time.monotonic() < until:
        time.sleep(KILL_EVERY)
        place = chance.randrange(count)
        os.kill(children[place], signal.SIGKILL)
        os.waitpid(children[place], 0)
        killed += 1
        children[place] = child(arguments, count + killed)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(json.dumps(killed), flush=True)


PARENT = os.getpid()
main(json.loads(sys.argv[1]))
