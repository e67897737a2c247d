"""Calls that the engine answered and did not run: kept, and written again when they can succeed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.exceptions import AskError, AuthenticationError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from callboard.engine.address import Address
from callboard.engine.multiplexer import Call, Link
from callboard.engine.verdicts import is_elsewhere
from callboard.engine.wire import backoff
from callboard.exceptions import EngineUnavailable

# A loading or busy engine is asked again after 10 ms at the soonest, 0.5 s at the latest.
_PAUSE_MIN = 0.01
_PAUSE_BASE = 0.02
_PAUSE_CAP = 0.5


class Repeats:
    """Repeats calls until they run or their time is up; the rest of the link waits meanwhile.

    LOADING, BUSY, MASTERDOWN, CLUSTERDOWN, TRYAGAIN and ASK: after a pause, when the
    engine answers a PING, on the same link. MOVED and READONLY: on a new link, as the
    address may be another now. Where the address cannot change, MOVED and ASK are
    final, and READONLY is repeated once.
    """

    def __init__(self, address: Address, unavailable: Callable[[Call], EngineUnavailable]) -> None:
        self._address = address
        self._unavailable = unavailable
        self._recoveries: set[asyncio.Task[None]] = set()

    def park(self, link: Link, call: Call, refusal: Exception) -> None:
        """Keep a call that was not run, and begin to cure the reason."""
        call.refusal = refusal
        if self._is_final(call, refusal):
            call.set_exception(self._unavailable(call))
            return
        call.repeats += 1
        link.parked.append(call)
        if len(link.parked) == 1:
            link.pause()
            recovery = asyncio.create_task(
                self._recover(link, refusal, call.repeats), name="callboard-repeat"
            )
            self._recoveries.add(recovery)
            recovery.add_done_callback(self._recoveries.discard)

    def stop(self) -> None:
        """Repeat nothing more."""
        for recovery in self._recoveries:
            recovery.cancel()

    def _is_final(self, call: Call, refusal: Exception) -> bool:
        if isinstance(refusal, AuthenticationError):
            return True
        if self._address.can_move:
            return False
        return isinstance(refusal, AskError) or (
            isinstance(refusal, ReadOnlyError) and call.repeats > 0
        )

    async def _recover(self, link: Link, refusal: Exception, repeats: int) -> None:
        """Wait, or look for the right node; then let the parked calls be written again."""
        await link.drained()
        if is_elsewhere(refusal):
            if repeats > 1:
                await _pause(repeats)
            self._address.heed(refusal)
            link.drop(RedisConnectionError(str(refusal)))
            return
        await _pause(repeats)
        while not link.is_broken and not await _works(link):
            repeats += 1
            await _pause(repeats)
        link.resume()


async def _pause(repeats: int) -> None:
    await asyncio.sleep(_PAUSE_MIN + backoff(repeats, base=_PAUSE_BASE, cap=_PAUSE_CAP))


async def _works(link: Link) -> bool:
    """Whether the engine answers; a lost link counts as working, as its calls move on."""
    probe = link.probe()
    await asyncio.wait([probe])
    return probe.cancelled() or not isinstance(probe.exception(), RedisError)
