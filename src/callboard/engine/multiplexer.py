"""One link to the engine that carries the calls of all coroutines at once.

The calls of one tick of the loop leave in one write; replies come back in the
order of the calls. A caller that gives up drops only its own promise: the reply
is still read, and thrown away, so the order of the others holds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from callboard.engine.verdicts import is_not_run, is_reply
from callboard.engine.wire import Argument, Wire, pack

# The most that one write takes: a longer one would keep the loop busy for milliseconds.
_FLUSH_BYTES = 256 * 1024


class Call(asyncio.Future[Any]):
    """A command, and the promise of its reply.

    Attributes:
        deadline: When the caller gives up, in the loop's time.
        size: Bytes on the wire, once written.
        repeats: How often the engine answered that it did not run it.
        refusal: The last such answer.
        is_probe: It passes a paused link, and any error reply is its own.
    """

    command: tuple[Argument, ...]
    deadline: float = float("inf")
    size: int = 0
    repeats: int = 0
    is_probe: bool = False
    refusal: Exception | None = None
    packed: bytes | None = None


class Link:
    """Writes calls from ``queue`` and matches the replies, until the connection is lost.

    Attributes:
        place: The node that it leads to.
        queue: Calls not yet written. May be exchanged for a shared one by ``adopt``.
        unanswered: Calls written, oldest first. Of these nobody knows whether they ran.
        parked: Calls that the engine answered but did not run; nothing is written until ``resume``.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        max_in_flight_bytes: int,
        stall_timeout: float,
        on_not_run: Callable[[Link, Call, Exception], None] | None = None,
        on_lost: Callable[[Link, Exception], None] | None = None,
    ) -> None:
        self.place = wire.place
        self.queue: deque[Call] = deque()
        self.unanswered: deque[Call] = deque()
        self.parked: list[Call] = []
        self.is_broken = False
        self.sleeper: asyncio.Future[None] | None = None
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._max_in_flight_bytes = max_in_flight_bytes
        self._stall_timeout = stall_timeout
        self._on_not_run = on_not_run
        self._on_lost = on_lost
        self._in_flight_bytes = 0
        self._is_paused = False
        self._probes: deque[Call] = deque()
        self._is_watched = False  # Somebody waits for room, or for the last reply.
        self._drained: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[Exception] = self._loop.create_future()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write and read."""
        self._task = self._loop.create_task(self._run(), name="callboard-link")

    async def lost(self) -> Exception:
        """Wait until the link has ended and its socket is closed; return why."""
        assert self._task is not None
        # Shielded: a cancelled waiter must not take the link with it.
        await asyncio.shield(self._task)
        return self._ended.result()

    def drop(self, reason: Exception) -> None:
        """End the link now."""
        self.is_broken = True
        if not self._ended.done():
            self._ended.set_result(reason)

    async def stop(self, reason: Exception) -> None:
        """End the link and wait until its socket is closed."""
        self.drop(reason)
        if self._task is not None:
            await asyncio.wait([self._task])

    def wake(self) -> None:
        """Tell the writer that there may be something to write."""
        sleeper, self.sleeper = self.sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def adopt(self, queue: deque[Call]) -> None:
        """Write from *queue* from now on, after what this link's own queue still holds."""
        queue.extendleft(reversed(self.queue))
        self.queue = queue
        self.wake()

    def pause(self) -> None:
        """Write nothing more until ``resume``."""
        self._is_paused = True

    def probe(self) -> Call:
        """Ask a paused link whether the engine works again."""
        call = Call(loop=self._loop)
        call.command = (b"PING",)
        call.is_probe = True
        self._probes.append(call)
        self.wake()
        return call

    def resume(self) -> None:
        """Write again, the parked calls first."""
        self.queue.extendleft(reversed(self.parked))
        self.parked.clear()
        self._is_paused = False
        self.wake()

    async def drained(self) -> None:
        """Wait until every written call has its reply, or the link is lost."""
        while self.unanswered and not self.is_broken:
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            self._is_watched = True
            await self._drained

    async def _run(self) -> None:
        tasks = [
            self._loop.create_task(part, name="callboard-link")
            for part in (self._write(), self._read(), *self._watchers())
        ]
        parts: list[asyncio.Future[Any]] = [*tasks, self._ended]
        graceful = False
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            graceful = self._ended.done() and not self.unanswered
        finally:
            self.is_broken = True
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            errors = [error for error in outcomes if isinstance(error, Exception)]
            self.drop(errors[0] if errors else RedisConnectionError("The link was stopped"))
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
            for probe in self._probes:
                probe.cancel()
            if self._on_lost is not None:
                self._on_lost(self, self._ended.result())
            await self._hang_up(graceful)

    async def _hang_up(self, graceful: bool) -> None:
        # An error means that it is gone already, which is what was wanted.
        with contextlib.suppress(RedisError, OSError):
            await self._wire.connection.disconnect(nowait=not graceful)

    def _watchers(self) -> list[Coroutine[Any, Any, None]]:
        return [self._watch_for_stall()]

    async def _write(self) -> None:
        connection = self._wire.connection
        try:
            while True:
                batch = self._next_batch()
                if batch:
                    # redis-py would quietly dial again, with an empty history.
                    if not connection.is_connected:
                        raise RedisConnectionError("The connection is closed")
                    await connection.send_packed_command(batch, check_health=False)
                else:
                    self.sleeper = sleeper = self._loop.create_future()
                    await sleeper
        finally:
            self.is_broken = True

    def _next_batch(self) -> list[bytes]:
        """Move calls from the queue to the unanswered, while there is room in flight.

        They count as written from here on, whatever becomes of the write.
        """
        batch: list[bytes] = []
        if self.is_broken:
            return batch
        queue, unanswered = self._probes if self._is_paused else self.queue, self.unanswered
        batch_bytes = 0
        while queue and batch_bytes < _FLUSH_BYTES:
            call = queue[0]
            if call.done():
                _ = queue.popleft()
                continue
            packed = call.packed
            if packed is None:
                try:
                    packed = pack(call.command)
                except (TypeError, ValueError) as error:
                    _ = queue.popleft()
                    call.set_exception(error)
                    continue
            size = len(packed)
            # The first always passes: a command larger than the bound travels alone.
            if self._in_flight_bytes and self._in_flight_bytes + size > self._max_in_flight_bytes:
                call.packed = packed
                self._is_watched = True
                break
            _ = queue.popleft()
            call.packed = None
            call.size = size
            self._in_flight_bytes += size
            batch_bytes += size
            unanswered.append(call)
            batch.append(packed)
        return batch

    async def _read(self) -> None:
        read = self._wire.connection.read_response
        unanswered = self.unanswered
        try:
            while True:
                try:
                    reply = await read(disconnect_on_error=False)
                except RedisError as error:
                    if not is_reply(error):
                        raise
                    self._refuse(error)
                    continue
                call = unanswered.popleft()
                self._in_flight_bytes -= call.size
                if not call.done():
                    call.set_result(reply)
                if self._is_watched:
                    self._notice()
        finally:
            self.is_broken = True

    def _refuse(self, error: Exception) -> None:
        """Hand an error reply to its caller, or to whoever repeats calls that were not run."""
        call = self.unanswered.popleft()
        self._in_flight_bytes -= call.size
        if not call.done():
            if self._on_not_run is not None and not call.is_probe and is_not_run(error):
                self._on_not_run(self, call, error)
            else:
                call.set_exception(error)
        if self._is_watched:
            self._notice()

    def _notice(self) -> None:
        """Tell those who wait for room, or for the last reply."""
        if self._drained is not None:
            if not self.unanswered and not self._drained.done():
                self._drained.set_result(None)
            self._is_watched = not self._drained.done()
        else:
            self._is_watched = False
        self.wake()

    async def _watch_for_stall(self) -> None:
        """Give up the connection when calls wait and not one byte came for the stall timeout."""
        tick = self._stall_timeout / 8
        since = self._loop.time()
        last: tuple[int, Call | None] = (-1, None)
        while True:
            due = self._loop.time() + tick
            await asyncio.sleep(tick)
            now = self._loop.time()
            seen = (self._wire.meter.chunks, self.unanswered[0] if self.unanswered else None)
            # A late tick means that this process was busy or asleep: the replies may lie
            # unread in the socket, so the engine gets its time again.
            if seen[1] is None or seen != last or now - due > tick:
                last, since = seen, now
            elif now - since >= self._stall_timeout:
                raise RedisConnectionError(
                    f"The engine sent nothing for {now - since:.0f} s while calls waited"
                )
