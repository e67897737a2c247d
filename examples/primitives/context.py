"""Share the state of a project between agents, none of whom overwrites another.

Four agents train parts of one model at once and write what they found into one context.
Each counts its epochs, and each tries to set the best score: only if nobody wrote meanwhile,
else it reads again and decides anew. One program watches and sees every change. At the end
somebody looks for an agent that is idle.

    python examples/primitives/context.py
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile

import callboard
from callboard.exceptions import RevisionConflict

AGENTS = ("ada", "mira", "noor", "olga")
EPOCHS = 5
PROJECT = "voice-2"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="context-example", adopt=True) as cb:
            await tell(cb)


async def tell(cb: callboard.Callboard) -> None:
    for agent in AGENTS:
        await cb.agents.register(agent, agent_type="trainer")
    begun = await cb.context.set(
        PROJECT,
        {"name": "Voice 2", "status": "training", "epochs": 0, "best": {"score": 0.0}},
        replace=True,
        ttl=3_600,
    )
    watching = asyncio.create_task(watch(cb, begun.rev))
    refused = sum(await asyncio.gather(*(train(cb, agent) for agent in AGENTS)))
    await cb.context.set(PROJECT, {"status": "done"}, by="ada")
    changes = await watching

    context = await cb.context.get(PROJECT)
    print(f"{len(AGENTS)} agents counted {context['epochs']} epochs together.")
    print(f"The best score is {context['best']['score']}, found by {context['best']['agent']}.")
    print(f"{refused} writes came too late, were refused, and decided anew.")
    print(f"The watcher saw {changes} changes, and the last said {context['status']}.")
    print(f"Idle now: {', '.join(sorted(await cb.context.available('trainer')))}.")


async def train(cb: callboard.Callboard, agent: str) -> int:
    """Train for a while; how many writes were refused because another came first."""
    chance, refused = random.Random(agent), 0
    await cb.context.set_state(agent, "busy", current_task=f"train-{agent}")
    for _ in range(EPOCHS):
        await asyncio.sleep(chance.random() / 50)
        await cb.context.increment(PROJECT, "epochs", by=agent)
        refused += await offer(cb, agent, round(chance.random(), 3))
    await cb.context.set_state(agent, "idle")
    return refused


async def offer(cb: callboard.Callboard, agent: str, score: float) -> int:
    """Set the best score, if this one is better than whatever stands there when it is set."""
    refused = 0
    while True:
        context = await cb.context.get(PROJECT)
        if score <= context["best"]["score"]:
            return refused
        best = {"score": score, "agent": agent}
        try:
            await cb.context.set(PROJECT, {"best": best}, if_rev=context.rev, by=agent)
            return refused
        except RevisionConflict:
            refused += 1


async def watch(cb: callboard.Callboard, since: int) -> int:
    """Follow the context until it is done; how many changes that were."""
    changes = 0
    async for change in cb.context.watch(PROJECT, since=since, values=False):
        changes += 1
        if "status" in change.changed:
            return changes
    raise AssertionError("a watch goes on for ever")


asyncio.run(main())
