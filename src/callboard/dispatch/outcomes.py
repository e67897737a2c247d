"""How pushes ended, handed in to the engine: gathered while the call before is under way."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from callboard.dispatch.answers import Place
from callboard.dispatch.message import Outcome
from callboard.dispatch.settings import DispatchSettings
from callboard.domain.record import Claimed
from callboard.engine.answers import Answer
from callboard.engine.handed_in import Completion, FailedAttempt
from callboard.engine.outage import Witness
from callboard.exceptions import CallboardError, EngineError
from callboard.services.claims import Holding
from callboard.services.deliveries import Deliveries, Rests, Undelivered

PAUSE_SECONDS: Final = 0.5
"""How long to wait for an engine that cannot be reached."""

HEARD_SECONDS: Final = 0.05
"""How often it is noted at most that an agent was heard; half of the shortest interval."""

TRIES_MAX: Final = 120
"""Times that it is tried; by then the claims are long given to somebody else."""

_log = logging.getLogger("callboard.dispatch")


class Ended:
    """One push that ended; of the task only what is needed, since payloads may be large."""

    __slots__ = ("agent", "fence", "had_failures", "outcome", "place", "size", "task")

    def __init__(
        self, claimed: Claimed, agent: str, had_failures: bool, outcome: Outcome | None = None
    ) -> None:
        self.task = claimed.id
        self.fence = claimed.fence
        self.size = len(claimed.payload)
        self.agent = agent
        self.had_failures = had_failures
        self.place: Place | None = None  # what its answer takes in memory
        self.outcome = outcome or Outcome("released")


class Outcomes:
    """Hands in how the pushes of one board ended; many in one call, one call at a time.

    Args:
        on_done: Called with those that were handed in.

    Attributes:
        under_way: Pushes that were begun and are not handed in.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        claims: Holding,
        settings: DispatchSettings,
        on_done: Callable[[Sequence[Ended]], None],
    ) -> None:
        self.board = deliveries.board
        self._deliveries = deliveries
        self._claims = claims
        self._lease_ms = round(settings.lease * 1_000)
        self._rests = Rests(
            settings.deliveries,
            round(settings.delay * 1_000),
            round(settings.delay_most * 1_000),
            settings.rest_after,
            round(settings.rest * 1_000),
            round(settings.rest_most * 1_000),
        )
        self._on_done = on_done
        self.under_way = 0
        self._waiting: list[Ended] = []
        self._news = asyncio.Event()
        self._is_closing = False
        self._outage = Witness("What became of pushes")
        self._noted: set[str] = set()
        self._noted_since = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Hand in from here on what is added."""
        self._task = asyncio.create_task(self._run(), name="callboard-dispatch-outcomes")

    def add(self, ended: Ended) -> None:
        """Have it handed in with the next call."""
        self._waiting.append(ended)
        self._news.set()

    async def stop(self) -> None:
        """Hand in what is left, as long as the engine is there."""
        self._is_closing = True
        self._news.set()
        if self._task is not None:
            await self._task
        self._outage.leave()

    async def _run(self) -> None:
        while True:
            while not self._waiting:
                if self._is_closing:
                    return
                self._news.clear()
                await self._news.wait()
            batch, self._waiting = self._waiting, []
            try:
                await self._hand_in(batch)
            except Exception:
                _log.exception("How pushes ended was not handed in; their leases end.")
            self.under_way -= len(batch)
            self._on_done(batch)

    async def _hand_in(self, batch: Sequence[Ended]) -> None:
        by_word: dict[str, list[Ended]] = {}
        for ended in batch:
            by_word.setdefault(ended.outcome.word, []).append(ended)
        good = by_word.get("accepted", [])
        # That deliveries to it succeed again is noted where there is doubt.
        doubted = [one for one in by_word.get("completed", []) if one.had_failures]
        if good or doubted:
            await self._try(self._deliver, good + doubted)
        started = {one.agent for one in good + doubted}
        await asyncio.gather(
            self._hear({one.agent for one in batch if one.outcome.is_heard} - started),
            *(
                self._try(hand_in, by_word[word])
                for word, hand_in in (
                    ("completed", self._complete),
                    ("failed", self._fail),
                    ("undelivered", self._undeliver),
                    ("released", self._release),
                )
                if word in by_word
            ),
        )

    async def _hear(self, agents: set[str]) -> None:
        """Note that agents live which answered; one that is called often, now and then."""
        now = asyncio.get_running_loop().time()
        if now - self._noted_since >= HEARD_SECONDS:
            self._noted, self._noted_since = set(), now
        news = sorted(agents - self._noted)
        if not news:
            return
        self._noted.update(news)
        try:
            await self._deliveries.heard(news)
        except CallboardError as error:  # their next answer is noted
            _log.info("That agents were heard was not noted: %s", error)

    async def _try(
        self, hand_in: Callable[[Sequence[Ended]], Awaitable[list[Answer]]], batch: Sequence[Ended]
    ) -> None:
        """Hand in, again while the engine is away: each of these calls knows a repeat."""
        for _ in range(TRIES_MAX):
            try:
                answers = await hand_in(batch)
                self._outage.answered()
            except EngineError as error:
                self._outage.failed(error)
                if self._is_closing:
                    return  # the claims come back when their leases end
                await asyncio.sleep(PAUSE_SECONDS * (1 + random.random()))
                continue
            except CallboardError as error:
                _log.warning("Outcomes of pushes were refused: %s", error)
                return
            for answer in answers:
                if not answer.is_ok:
                    # Who accepted a task may have ended it before that was noted: all is well.
                    is_over = hand_in == self._deliver and answer.status == "lease_lost"
                    level = logging.DEBUG if is_over else logging.INFO
                    _log.log(level, "Task %s was pushed, but: %s", answer.id, answer.status)
            return

    async def _deliver(self, batch: Sequence[Ended]) -> list[Answer]:
        return await self._deliveries.delivered(_claims(batch), lease_ms=self._lease_ms)

    async def _complete(self, batch: Sequence[Ended]) -> list[Answer]:
        return await self._claims.complete_many(
            [Completion(e.task, e.fence, e.outcome.result) for e in batch]
        )

    async def _fail(self, batch: Sequence[Ended]) -> list[Answer]:
        return await self._claims.fail_many(
            [FailedAttempt(e.task, e.fence, _failure(e)) for e in batch]
        )

    async def _undeliver(self, batch: Sequence[Ended]) -> list[Answer]:
        items = [Undelivered(e.task, e.fence, _failure(e)) for e in batch]
        return await self._deliveries.undelivered(items, self._rests)

    async def _release(self, batch: Sequence[Ended]) -> list[Answer]:
        return await self._deliveries.released(_claims(batch))


def _claims(batch: Sequence[Ended]) -> list[tuple[str, int]]:
    return [(ended.task, ended.fence) for ended in batch]


def _failure(ended: Ended) -> Any:
    assert ended.outcome.failure is not None
    return ended.outcome.failure
