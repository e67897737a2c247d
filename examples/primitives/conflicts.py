"""Decide who gets what several agents want, and have the decision hold.

Two agents want the same task: the one whose work is more urgent gets it, although the other
has begun, and what the other hands in late is refused. Three reviewers disagree about the
status of a project: five agents vote, and the status is what they say. Two want a word in the
release notes: a person decides.

    python examples/primitives/conflicts.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile

import callboard
from callboard import Party
from callboard.exceptions import AlreadyResolved, LeaseLost

VOTERS = ("ann", "bob", "carl", "dora", "eve")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="conflicts-example", adopt=True) as cb:
            for agent in ("mira", "noor"):
                await cb.agents.register(agent)
            await over_a_task(cb)
            await over_a_status(cb)
            await over_a_word(cb)
            stats = await cb.conflicts.stats()
            print(f"{stats.resolved} conflicts were decided, {stats.active} are open.")


async def over_a_task(cb: callboard.Callboard) -> None:
    handle = await cb.tasks.submit("migrate", {"database": "orders"})
    early = await cb.tasks.take(handle.id, "mira")
    conflict = await cb.conflicts.report(
        "task", handle.id, [Party(name="mira", priority=10), Party(name="noor", priority=30)]
    )
    both = await asyncio.gather(
        cb.conflicts.resolve(conflict.id), cb.conflicts.resolve(conflict.id), return_exceptions=True
    )
    assert any(isinstance(one, AlreadyResolved) for one in both)
    (verdict,) = [one for one in both if not isinstance(one, BaseException)]
    print(f"The task: {verdict.winner} wins, because {verdict.reason}; {verdict.enforced}.")
    print("  Two nodes decided at once, and one verdict stands.")
    (late,) = (await cb.tasks.claim("noor")).tasks
    try:
        await cb.tasks.complete(early.id, fence=early.fence, result="mira was first")
    except LeaseLost:
        print("  What mira handed in late was refused.")
    await cb.tasks.complete(late.id, fence=late.fence, result="noor did it")
    print(f"  Its result: {await handle.result()}")


async def over_a_status(cb: callboard.Callboard) -> None:
    await cb.context.set("orders", {"status": "open"})
    conflict = await cb.conflicts.report(
        "context",
        "orders",
        [Party(name="mira", value="ready"), Party(name="noor", value="broken")],
        about="status",
    )
    await cb.conflicts.open_vote(conflict.id, members=VOTERS, quorum=0.6)
    wishes = dict(zip(VOTERS, ("noor", "mira", "noor", "noor", "mira"), strict=True))
    for voter, wish in wishes.items():
        taken = await cb.conflicts.vote(conflict.id, voter, wish)
        if taken.winner:
            print(f"The status: {voter}'s vote decided it for {taken.winner}.")
            break
    status = (await cb.context.get("orders"))["status"]
    print(f"  The project is {status!r} now.")


async def over_a_word(cb: callboard.Callboard) -> None:
    conflict = await cb.conflicts.report(
        "context",
        "notes",
        [Party(name="mira", value="faster"), Party(name="noor", value="much faster")],
        about="headline",
    )
    await cb.conflicts.refer(conflict.id, "ann", deadline=60)
    for pending in await cb.conflicts.pending("ann"):
        await cb.conflicts.decide(pending.id, "mira", by="ann", reason="nobody measured it")
    found = await cb.conflicts.get(conflict.id)
    assert found.resolution is not None
    print(f"The word: {found.resolution.by} chose, because {found.resolution.reason}.")
    print(f"  Trail: {', '.join(entry.what for entry in found.trail)}.")


asyncio.run(main())
