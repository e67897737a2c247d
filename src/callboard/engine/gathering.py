"""Single calls of one kind that are under way at once, gathered into calls of many.

What one call of the engine costs is for the most part the same for one item as for ten, so
that many callers of one item each are served several times as fast. Nobody waits for company:
an item that finds nothing under way goes at once, and what comes while calls are under way
goes together when one of them ends, or soon.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from callboard.exceptions import (
    BoardFull,
    CallboardError,
    EngineFull,
    EngineUnavailable,
    OutcomeUnknown,
)

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

AT_ONCE: Final = 2
"""Calls under way: one is on its way while the engine works on the other."""

PATIENCE_SECONDS: Final = 0.02
"""After which what was gathered goes, whatever is under way: a link may be stuck."""

ITEMS_MAX: Final = 128
"""Items of one call: between two calls the engine serves others."""

BYTES_MAX: Final = 256 * 1024
"""Of the items of one call, where they are several."""


class Gathering(Generic[Item, Outcome]):
    """Sends items one by one where they come so, and together where they come at once.

    Args:
        send: Does for all items, or for none, what is asked, and answers each in order. Where
            it refuses several, each half is sent by itself, of a full board each item: so every
            item gets the answer that it would have got alone.
        bytes_of: About what an item takes in a call.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        bytes_of: Callable[[Item], int],
    ) -> None:
        self._send = send
        self._bytes_of = bytes_of
        self._under_way = 0
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._timer: asyncio.Handle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def add(self, item: Item) -> Outcome:
        """Have one item sent, and return its own answer. Raises what sending it alone would.

        A caller that gives up before its item was sent takes it back.
        """
        if not self._under_way and not self._waiting:
            self._under_way = 1
            try:
                return (await self._send((item,)))[0]
            finally:
                self._end()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((item, answer))
        if self._timer is None:
            if self._under_way < AT_ONCE:
                self._timer = loop.call_soon(self._flush)
            else:
                self._timer = loop.call_later(PATIENCE_SECONDS, self._flush)
        return await answer

    def _end(self) -> None:
        """A call ended: what waits goes, with all that its answers bring in this tick."""
        self._under_way -= 1
        if self._waiting:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        part: list[tuple[Item, asyncio.Future[Outcome]]] = []
        size = 0
        for item, answer in waiting:
            if answer.done():
                continue
            item_bytes = self._bytes_of(item)
            if part and (len(part) == ITEMS_MAX or size + item_bytes > BYTES_MAX):
                self._begin(part)
                part, size = [], 0
            part.append((item, answer))
            size += item_bytes
        if part:
            self._begin(part)

    def _begin(self, part: Sequence[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        self._under_way += 1
        call = asyncio.get_running_loop().create_task(self._call(part), name="callboard-gathered")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, part: Sequence[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        try:
            await self._send_all(part)
        except asyncio.CancelledError:
            for _, answer in part:
                answer.cancel()
            raise
        except Exception as error:  # a fault in here: nobody is to wait for ever
            for _, answer in part:
                if not answer.done():
                    answer.set_exception(error)
        finally:
            self._end()

    async def _send_all(self, part: Sequence[tuple[Item, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes = await self._send([item for item, _ in part])
        except Exception as error:
            if len(part) > 1 and _is_of_one(error):
                size = 1 if isinstance(error, BoardFull) else (len(part) + 1) // 2
                await asyncio.gather(
                    *(self._send_all(part[at : at + size]) for at in range(0, len(part), size))
                )
                return
            for _, answer in part:
                if not answer.done():
                    answer.set_exception(copy.copy(error) if len(part) > 1 else error)
            return
        for (_, answer), outcome in zip(part, outcomes, strict=True):
            if not answer.done():
                answer.set_result(outcome)


def _is_of_one(error: Exception) -> bool:
    """Whether what refused them all may lie in one of the items: not in what holds for all."""
    return isinstance(error, CallboardError) and not isinstance(error, _OF_ALL)


_OF_ALL: Final = (EngineUnavailable, OutcomeUnknown, EngineFull)
