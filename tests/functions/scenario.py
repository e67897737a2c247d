"""A long mixed life of a board: every operation with every option, chosen by chance."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from callboard.domain.task import TaskSpec, at_ms
from tests.functions.support import MIRA, NOOR, Stage, spec

HELD = frozenset({"claimed", "in_progress"})


class Life:
    """Random calls on one board, a step each; the same seed makes the same calls."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.count = 0
        self.ids: list[str] = []
        self.kinds: list[Callable[[], Awaitable[Any]]] = [
            self.submit,
            self.submit,
            self.claim,
            self.claim,
            self.claim,
            self.finish,
            self.finish,
            self.hold,
            self.steer,
            self.pass_time,
        ]

    async def step(self) -> None:
        """One call, or a little time and what it brings."""
        await self.chance.choice(self.kinds)()

    def fresh(self) -> TaskSpec:
        """A task with options by chance."""
        chance, now_ms = self.chance, self.stage.now / 1_000
        self.count += 1
        name = f"t{self.count}"
        known = self.ids[-8:]
        depends_on = chance.sample(known, min(len(known), chance.choice([0, 0, 1, 2])))
        if chance.random() < 0.05:
            depends_on.append(f"never{chance.randrange(3)}")
        if chance.random() < 0.1:
            depends_on.append(f"t{self.count + chance.randrange(1, 4)}")
        self.ids.append(name)
        return spec(
            name,
            *dict.fromkeys(depends_on),
            kind=chance.choice(["k1", "k2"]),
            payload="x" * chance.choice([1, 1, 33_000]),
            unique=name if chance.random() < 0.2 else None,
            priority=chance.choice([0, 0, 5, -5]),
            on_dependency_failure=chance.choice(["fail", "skip", "run"]),
            suggested_worker=chance.choice([None, None, MIRA, NOOR, "nobody"]),
            delay=chance.choice([None, None, 3, 40]),
            deadline=at_ms(now_ms + 30_000) if chance.random() < 0.1 else None,
            timeout=chance.choice([None, None, None, 8]),
            metadata=None,
            concurrency_key=chance.choice([None, None, "few", "some"]),
            fairness_key=chance.choice([None, None, "big", "small"]),
        )

    async def submit(self) -> None:
        specs = [self.fresh() for _ in range(self.chance.randrange(1, 4))]
        reply = await self.stage.submit(*specs)
        if reply.status != "ok":
            for one in specs:
                self.ids.remove(one.id or "")

    async def claim(self) -> None:
        chance = self.chance
        await self.stage.claim(
            chance.choice([MIRA, NOOR]),
            chance.randrange(1, 5),
            instance=chance.choice(["i1", "i2", "i3"]),
            started=chance.choice([0, 1, 5]),
            wait=chance.choice([0, 5]),
            request=chance.choice(["", f"r{self.count}"]),
        )

    async def some_held(self) -> tuple[str, int] | None:
        ids = self.chance.sample(self.ids, min(len(self.ids), 20))
        for name, record in zip(ids, await self.stage.records(*ids), strict=True):
            if record is not None and record.status.value in HELD:
                return name, record.fence
        return None

    async def finish(self) -> None:
        held = await self.some_held() if self.ids else None
        if held is None:
            return
        name, fence = held
        how = self.chance.randrange(6)
        if how < 3:
            await self.stage.complete(name, fence, '"done"')
        elif how == 3:
            await self.stage.fail(name, fence, unit=self.chance.random())
        elif how == 4:
            await self.stage.fail(name, fence, retryable=False)
        else:
            await self.stage.step(done=[(name, fence, "1")], limit=2)

    async def hold(self) -> None:
        held = await self.some_held() if self.ids else None
        if held is None:
            return
        stage, chance = self.stage, self.chance
        name, fence = held
        self.count += 1
        children = [spec(f"t{self.count}-{i}") for i in range(2)]
        how: list[Callable[[], Awaitable[Any]]] = [
            lambda: stage.start(name, fence),
            lambda: stage.renew(name, fence),
            lambda: stage.release(name, fence, delay_ms=chance.choice([0, 2_000])),
            lambda: stage.handoff(name, fence, chance.choice([MIRA, NOOR])),
            lambda: stage.progress(name, fence, chance.choice(["progress", "partial"])),
            lambda: stage.ask(name, fence),
            lambda: stage.split(name, fence, *children, policy=chance.choice(["", "G", "S"])),
            lambda: stage.park(name, fence, chance.choice([1, 0])),
        ]
        chosen = chance.randrange(len(how))
        answer = await how[chosen]()
        if chosen == 6 and answer.status == "ok":
            self.ids += [one.id or "" for one in children]

    async def steer(self) -> None:
        if not self.ids:
            return
        stage, chance = self.stage, self.chance
        name = chance.choice(self.ids)
        how: list[Callable[[], Awaitable[Any]]] = [
            lambda: stage.cancel(name),
            lambda: stage.retry(name),
            lambda: stage.retry(*chance.sample(self.ids, min(5, len(self.ids)))),
            lambda: stage.reprioritise(name, chance.randrange(-9, 9)),
            lambda: stage.note(name, chance.choice(["", name])),
            lambda: stage.answer(name),
            lambda: stage.purge(name),
            lambda: stage.take(name, chance.choice([MIRA, NOOR])),
        ]
        await chance.choice(how)()

    async def pass_time(self) -> None:
        await self.stage.advance(self.chance.choice([0.5, 2, 9, 31]))
        await self.stage.call("board_sweep", "b", 200)

    async def settle(self) -> None:
        """End every task, one way or the other, by cancelling what nobody holds."""
        stage = self.stage
        for _ in range(50):
            unfinished = [
                name
                for name, status in (await stage.all_states()).items()
                if not status.is_finished
            ]
            if not unfinished:
                return
            for name in unfinished:
                await stage.cancel(name)
            await stage.after(31)
        raise AssertionError(f"never ended: {unfinished}")
