"""One of several processes at one context, or at the same conflicts, at the same moment."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import callboard
from callboard.exceptions import AlreadyResolved, RevisionConflict

FIELDS = [f"field{n}" for n in range(20)]


async def write(cb: callboard.Callboard, who: int, rounds: int) -> int:
    """Write the same value into all fields, again and again."""
    for n in range(rounds):
        value = f"{who}-{n}-" + "x" * (n % 50)
        await cb.context.set("p", dict.fromkeys(FIELDS, value))
    return rounds


async def read(cb: callboard.Callboard, who: int, rounds: int) -> list[int]:
    """Read it in both ways; how often the fields differed, and how many states were seen."""
    torn, seen = 0, set()
    for n in range(rounds):
        if n % 2:
            values = set((await cb.context.get("p")).fields.values())
        else:
            raw = await cb.namespace.connection.call("HGETALL", cb.namespace.keys.context("p"))
            values = set(raw.values() if isinstance(raw, dict) else raw[1::2])
        torn += len(values) != 1
        seen |= {value if isinstance(value, str) else value.decode() for value in values}
    return [torn, len(seen)]


async def add(cb: callboard.Callboard, who: int, rounds: int) -> int:
    """Count up by reading and writing at the revision read; how many writes were refused."""
    refused = 0
    for _ in range(rounds):
        while True:
            now = await cb.context.get("p")
            try:
                await cb.context.set("p", {"n": now["n"] + 1}, if_rev=now.rev)
                break
            except RevisionConflict:
                refused += 1
    return refused


async def decide(cb: callboard.Callboard, who: int, ids: list[str]) -> list[str]:
    """Resolve each conflict for the party of this process; those that it decided."""
    mine = []
    for conflict in ids:
        wish = {f"p{n}": int(n == who) for n in range(5)}
        try:
            found = await cb.conflicts.resolve(conflict, inputs={"priorities": wish})
        except AlreadyResolved:
            continue
        assert found.winner == f"p{who}"
        mine.append(conflict)
    return mine


ACTS: dict[str, Callable[..., Awaitable[Any]]] = {
    "write": write,
    "read": read,
    "add": add,
    "decide": decide,
}


async def main() -> None:
    arguments = json.loads(sys.argv[1])
    async with callboard.connect(arguments["url"], namespace=arguments["namespace"]) as cb:
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            message = json.loads(line)
            answer = await ACTS[message.pop("do")](cb, arguments["who"], **message)
            print(json.dumps(answer), flush=True)


asyncio.run(main())
