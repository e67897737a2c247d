"""A coordinator's dispatcher and janitor, in a process of their own."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import callboard
from callboard.dispatch import Dispatcher, DispatchSettings

ARGUMENTS = json.loads(sys.argv[1])


def say(what: str, **facts: Any) -> None:
    print(json.dumps({"what": what, **facts}), flush=True)


async def main() -> None:
    async with callboard.connect(ARGUMENTS["url"], namespace=ARGUMENTS["namespace"]) as cb:
        cb.observers.add(lambda name, facts: say(name, **facts))
        janitor = cb.janitor(interval=0.2)
        janitor.start()
        settings = DispatchSettings(push_timeout=0.5, delay=0.05, delay_most=0.2, rest=0.1)
        async with Dispatcher(cb, settings):
            say("ready")
            await asyncio.to_thread(sys.stdin.readline)
        await janitor.stop()
        say("stopped")


asyncio.run(main())
