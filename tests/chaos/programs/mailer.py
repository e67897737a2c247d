"""Sends, takes, serves or asks, as its arguments say; tells each step, and survives the engine."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import callboard
from callboard.domain.message import Message, MessageSpec
from callboard.exceptions import EngineError

ARGUMENTS = json.loads(sys.argv[1])


def tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)


async def send(cb: callboard.Callboard) -> None:
    """Batches of ten with ids until it is told to end, each told once it was acknowledged."""
    number, stop = 0, asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    while not stop.done():
        ids = [f"{ARGUMENTS['prefix']}-{n}" for n in range(number, number + 10)]
        specs = [
            MessageSpec(to=ARGUMENTS["agent"], payload=n, id=name, sender=ARGUMENTS["prefix"])
            for n, name in enumerate(ids, number)
        ]
        while True:
            try:
                sent = await cb.messages.send_many(specs)
                break
            except EngineError:
                await asyncio.sleep(0.05)
        tell(sent=[one.id for one in sent if one.is_ok])
        number += 10
        await asyncio.sleep(0.01)


async def take(cb: callboard.Callboard) -> None:
    """Take what is there, tell it, and hold it until it is killed."""
    taken: list[Message] = []
    while not taken:
        taken = await cb.messages.take(ARGUMENTS["agent"], 10, lease=ARGUMENTS["lease"])
        await asyncio.sleep(0.01)
    tell(taken=[[message.id, message.deliveries] for message in taken])
    await asyncio.Event().wait()


async def serve(cb: callboard.Callboard) -> None:
    """Tell each message, and answer what is asked by twice its value."""

    async def handle(message: Message) -> int:
        tell(handled=message.id, deliveries=message.deliveries, sender=message.sender)
        await asyncio.sleep(ARGUMENTS.get("pause", 0))
        return message.value * 2

    tell(serves=True)
    await cb.messages.serve(
        ARGUMENTS["agent"], handle, lease=ARGUMENTS["lease"], concurrency=4, backoff=0.1
    )


async def ask(cb: callboard.Callboard) -> None:
    """Ask, and tell the answer."""
    tell(asks=True)
    reply = await cb.messages.request(
        ARGUMENTS["agent"], ARGUMENTS["value"], id=ARGUMENTS["id"], timeout=120, sender="asker"
    )
    tell(reply=reply.value)


async def drain(cb: callboard.Callboard) -> None:
    """Take and acknowledge until nothing is left; tell what was acknowledged."""
    sys.stdin.readline()
    mine = []
    while True:
        taken = await cb.messages.take(ARGUMENTS["agent"], 7)
        if not taken:
            break
        answers = await cb.messages.acknowledge_many(taken)
        mine += [answer.id for answer in answers if answer.status == "ok"]
    tell(acknowledged=mine)


async def main() -> None:
    where = {"url": ARGUMENTS.get("url"), "data": ARGUMENTS.get("data")}
    async with callboard.connect(namespace=ARGUMENTS.get("namespace"), **where) as cb:
        janitor = cb.janitor(interval=0.2)
        janitor.start()
        tell(ready=True)
        try:
            await {"send": send, "take": take, "serve": serve, "ask": ask, "drain": drain}[
                ARGUMENTS["do"]
            ](cb)
        finally:
            await janitor.stop()


asyncio.run(main())
