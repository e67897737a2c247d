"""Locks through their functions: one call a step, by a clock that only the test moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from callboard.services.locks import LockTable
from tests.functions.support import Reply, Stage


@dataclass
class Table:
    """The functions of locks on a stage."""

    stage: Stage

    def __post_init__(self) -> None:
        self.service = LockTable(self.stage.namespace)
        self.count = 0
        self.operations: dict[str, str] = {}

    async def acquire(
        self,
        owner: str,
        *names: str,
        mode: str = "x",
        limit: int | str = "",
        wait: float = 0,
        lease: float = 30,
        priority: int = 0,
        agent: str = "",
        operation: str = "",
    ) -> Reply:
        self.count += 1
        self.operations[owner] = operation or f"op{self.count}"
        self.stage.now += 1
        return await self.stage.call(
            "lock_acquire",
            owner,
            agent,
            mode,
            limit,
            round(wait * 1_000),
            round(lease * 1_000),
            priority,
            f"bell-{owner.replace(':', '-')}",
            self.operations[owner],
            len(names),
            *sorted(names),
        )

    async def take(self, owner: str, *names: str, **options: Any) -> int:
        """Acquire what must be free; the highest fence."""
        reply = await self.acquire(owner, *names, **options)
        assert reply.status == "ok", reply
        return max(int(fence) for fence in reply.facts[2].split(","))

    async def queue(self, owner: str, *names: str, wait: float = 600, **options: Any) -> str:
        """Acquire what must not be free; `waiting`, or `deadlock_victim`."""
        reply = await self.acquire(owner, *names, wait=wait, **options)
        assert reply.status in ("waiting", "deadlock_victim"), reply
        return reply.status

    async def hear(self, *owners: str) -> list[str]:
        """What each wait came to, the first word."""
        rows = [part for owner in owners for part in (owner, self.operations[owner])]
        reply = await self.stage.call("lock_await", len(owners), *rows)
        return [answer.split(" ")[0] for answer in reply.facts[2].split(",")]

    async def heard(self, owner: str) -> str:
        return (await self.hear(owner))[0]

    async def age(self, *owners: str, seconds: float = 2.1) -> None:
        """Let so much time pass that these waiters reserve what they want."""
        left = seconds
        while left > 0:
            step = min(left, 1.0)
            await self.stage.advance(step)
            left -= step
            if owners:
                assert set(await self.hear(*owners)) == {"waiting"}

    async def each(self, name: str, owner: str, *rows: tuple[str, int]) -> list[str]:
        self.count += 1
        flat = [part for row in rows for part in row]
        second = 30_000 if name == "lock_renew" else f"free{self.count}"
        reply = await self.stage.call(name, owner, second, len(rows), *flat)
        return reply.words

    async def release(self, owner: str, *names: str, fence: int = 0) -> list[str]:
        return await self.each("lock_release", owner, *((name, fence) for name in names))

    async def renew(self, owner: str, *names: str, fence: int = 0) -> list[str]:
        return await self.each("lock_renew", owner, *((name, fence) for name in names))

    async def leave(self, owner: str) -> int:
        return int((await self.stage.call("lock_leave", owner)).facts[1])

    async def withdraw(self, owner: str, *names: str, keep: int = 1) -> str:
        reply = await self.stage.call(
            "lock_withdraw", owner, self.operations[owner], keep, len(names), *sorted(names)
        )
        return reply.status

    async def sweep(self) -> None:
        for _ in range(1_000):
            if not (await self.stage.call("lock_sweep", 200)).facts[0]:
                return
        raise AssertionError("the sweep found more for ever")

    async def after(self, seconds: float) -> None:
        await self.stage.advance(seconds)
        await self.sweep()

    async def holders(self, name: str) -> list[str]:
        return [holder.owner for holder in (await self.service.get(name)).holders]

    async def line(self, name: str) -> list[str]:
        return [wait.owner for wait in (await self.service.get(name)).waiting]

    async def left(self) -> set[str]:
        """Names of keys about locks that stand there, but what the engine itself deletes."""
        names = {name for name in await self.stage.key_names() if name.startswith("lock")}
        return {name for name in names if not name.startswith("lockreleased:")}


def claim(task: str, fence: int, board: str = "b") -> str:
    return f"claim:{board}:{task}:{fence}"
