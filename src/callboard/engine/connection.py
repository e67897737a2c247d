"""The one connection of a process to its engine: every call goes through here."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError

from callboard.engine.address import address_of, redact_url
from callboard.engine.deadlines import Deadlines
from callboard.engine.multiplexer import Call, Link
from callboard.engine.outage import Witness
from callboard.engine.outcomes import closed, unavailable, unknown
from callboard.engine.pubsub import PATTERN, PLAIN, SHARDED, Doorbells, Subscription
from callboard.engine.repeats import Repeats
from callboard.engine.verdicts import diagnose
from callboard.engine.wire import Argument, Wire, backoff
from callboard.exceptions import EngineUnavailable, InvalidArgument

__all__ = ["Argument", "Connection", "LinkCall", "Subscription", "redact_url"]

LinkCall = Callable[..., Awaitable[Any]]

_log = logging.getLogger("callboard.engine")

# A link that lived shorter than this counts as a failed attempt, so that an engine
# that accepts and dies at once is not dialled in a tight loop.
_STABLE_SECONDS = 5.0
# With less of the connect timeout left another attempt would be pointless.
_LEFT_MIN = 0.02
# How long ``close`` waits for replies of calls in flight.
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class _Limits:
    call_timeout: float
    connect_timeout: float
    stall_timeout: float
    ping_interval: float
    max_in_flight_bytes: int


class Connection:
    """All calls of a process to the engine, over one socket, in one write a tick of the loop.

    It connects again by itself. A call meanwhile waits, up to its time limit.
    Calls issued together run in the order they were issued, except those that the
    engine refused to run (LOADING, MOVED and the like), which are repeated later.

    Attributes:
        on_reconnect: Each is awaited after the connection came back and before other
            calls flow. Its argument is a callable like ``call`` for the new link: the
            ordinary ``call`` would wait for the callback itself. A callback that raises
            makes the attempt fail; it is made again.
    """

    def __init__(
        self,
        url: str,
        name: str,
        route: str,
        limits: _Limits,
        before_connect: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.on_reconnect: list[Callable[[LinkCall], Awaitable[None]]] = []
        self._url = url
        self._name = name
        self._address = address_of(url, route)
        self._limits = limits
        self._call_timeout = limits.call_timeout
        self._before_connect = before_connect
        self._before_connect_lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Call] = deque()
        self._link: Link | None = None
        self._young_link: Link | None = None  # Not yet open for ordinary calls.
        self._epoch = 0
        self._attempts = 0
        self._failure: BaseException | None = None
        self._outage = Witness("The connection")
        self._deadlines = Deadlines(self._live_calls, self._expire)
        self._is_closing = False
        self._supervisor: asyncio.Task[None] | None = None
        self._repeats = Repeats(self._address, self._unavailable)
        self._doorbells = Doorbells(
            partial(self._dial, f"{name}-bells"), self._address, str(self), limits.ping_interval
        )

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str = "callboard",
        route: str = "callboard:format",
        call_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        stall_timeout: float = 15.0,
        ping_interval: float = 5.0,
        max_in_flight_bytes: int = 64 << 20,
        before_connect: Callable[[], Awaitable[None]] | None = None,
    ) -> Self:
        """Connect, trying for *connect_timeout* seconds.

        Args:
            url: redis, rediss, unix, redis+sentinel or redis+cluster URL.
            name: Shown by CLIENT LIST; without spaces.
            route: On a Cluster all calls go to the node that owns this key's slot.
            call_timeout: Seconds a call may take, unless it says otherwise.
            connect_timeout: Also bounds each later attempt.
            stall_timeout: The connection is dropped when calls wait and nothing is
                received for so long.
            ping_interval: A silent pub/sub connection is tested this often.
            max_in_flight_bytes: Bound on commands written and not answered; further
                calls wait in line. A larger command passes alone.
            before_connect: Awaited before each attempt; one at a time.

        Raises:
            ConfigError: The URL, login or certificate cannot be used. Raised at once.
            EngineUnavailable: No connection within the time.
        """
        limits = _Limits(
            call_timeout, connect_timeout, stall_timeout, ping_interval, max_in_flight_bytes
        )
        connection = cls(url, name, route, limits, before_connect)
        link = await connection._first_link()
        connection._take_up(link)
        connection._supervisor = asyncio.create_task(
            connection._supervise(link), name="callboard-connection"
        )
        return connection

    @property
    def url(self) -> str:
        """The URL as given, passwords included: print the connection itself instead."""
        return self._url

    @property
    def is_cluster(self) -> bool:
        """Whether the URL names a Cluster."""
        return self._address.is_cluster

    @property
    def is_closed(self) -> bool:
        """Whether it was closed for good: no call will flow again."""
        return self._is_closing

    @property
    def is_connected(self) -> bool:
        """Whether a call would be written at once."""
        return self._link is not None and not self._link.is_broken

    @property
    def epoch(self) -> int:
        """The number of the connection: 1 for the first, one more at each reconnection."""
        return self._epoch

    def __repr__(self) -> str:
        state = "closed" if self._is_closing else "connected" if self.is_connected else "lost"
        return f"<Connection {self._address} {state} epoch={self._epoch}>"

    def __str__(self) -> str:
        return str(self._address)

    def call(self, *command: Argument, timeout: float | None = None) -> asyncio.Future[Any]:
        """Run one command; await the result for its raw reply (bytes, int, list, None ...).

        Never for blocking commands: they would hold up everybody else.
        A cancelled call may still run.

        Raises:
            EngineUnavailable: Certainly not run: no connection, or no room, in time.
            OutcomeUnknown: Written, and its reply was lost or did not come in time; of what
                only reads, EngineUnavailable.
            redis.exceptions.ResponseError: The engine's error reply. Replies that mean
                "not run, try again" never get here; such calls are repeated.
            TypeError: A part of the command is not bytes, str, int or float.
        """
        call = self._promise(command, timeout)
        if self._is_closing:
            call.set_exception(closed(str(self)))
            return call
        self._queue.append(call)
        link = self._link
        if link is not None and link.sleeper is not None:
            link.wake()
        return call

    async def subscribe(self, *channels: str) -> Subscription:
        """Listen to sharded channels; returns once the engine confirmed all of them.

        The subscription yields ``(channel, payload)``, and ``(channel, b"")`` after a
        reconnection, as bells may have been missed. A bell is a hint, nothing more.

        Raises:
            EngineUnavailable: Not confirmed within the call timeout.
            InvalidArgument: On a Cluster: a channel of another slot than ``route``.
        """
        for channel in channels:
            if not self._address.owns(channel):
                raise InvalidArgument(
                    f'The channel "{channel}" belongs to another slot of the Cluster than the '
                    "namespace. Begin its name with the namespace in braces.",
                    channel=channel,
                )
        return await self._listen([(SHARDED, channel) for channel in channels])

    async def subscribe_plain(self, *channels: str, patterns: Iterable[str] = ()) -> Subscription:
        """Listen to ordinary channels and glob patterns, like ``subscribe``."""
        plain = [(PLAIN, channel) for channel in channels]
        return await self._listen(plain + [(PATTERN, pattern) for pattern in patterns])

    async def close(self) -> None:
        """Wait up to 5 s for the replies of calls in flight, then close; repeatable.

        What is left fails: with ``OutcomeUnknown`` if it was written, else with
        ``EngineUnavailable``.
        """
        self._is_closing = True
        try:
            calls = [call for call, _ in self._live_calls() if not call.done()]
            if calls and self.is_connected:
                await asyncio.wait(calls, timeout=_CLOSE_SECONDS)
        finally:
            if self._supervisor is not None:
                self._supervisor.cancel()
                await asyncio.wait([self._supervisor])
            # Again, as a supervisor that was cancelled before its first step did nothing.
            await self._wind_up()
            await self._doorbells.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _listen(self, wanted: list[tuple[Any, str]]) -> Subscription:
        if self._is_closing:
            raise closed(str(self))
        return await self._doorbells.subscribe(wanted, self._call_timeout)

    # Connecting, and connecting again

    async def _first_link(self) -> Link:
        give_up_at = self._loop.time() + self._limits.connect_timeout
        for attempt in count():
            try:
                async with asyncio.timeout_at(give_up_at):
                    return await self._connect()
            except Exception as error:
                verdict = diagnose(error, str(self))
                left = give_up_at - self._loop.time()
                if left < _LEFT_MIN or not isinstance(verdict, EngineUnavailable):
                    raise verdict from (None if verdict is error else error)
                await asyncio.sleep(min(backoff(attempt), left / 2))
        raise AssertionError("count() does not end")

    async def _supervise(self, link: Link) -> None:
        """Keep a link for as long as the connection is open."""
        try:
            while True:
                born_at = self._loop.time()
                error = await link.lost()
                self._link = None
                self._outage.lost(str(self), f"the connection was lost: {error}")
                if self._loop.time() - born_at >= _STABLE_SECONDS:
                    self._attempts = 0
                link = await self._reconnect()
                self._take_up(link)
                self._doorbells.follow(link.place)
                self._outage.answered()
        finally:
            await self._wind_up()

    async def _wind_up(self) -> None:
        """Close the socket, and settle every call that is left."""
        link, self._link = self._link, None
        self._outage.leave()
        self._repeats.stop()
        if link is not None:
            reason = RedisConnectionError("it was closed")
            await link.stop(reason)
        for call in self._queue:
            if not call.done():
                call.set_exception(closed(str(self)))
        self._queue.clear()
        self._deadlines.stop()

    def _take_up(self, link: Link) -> None:
        """Let ordinary calls flow over a new link."""
        self._link = link
        link.adopt(self._queue)

    async def _reconnect(self) -> Link:
        while True:
            if self._attempts:
                await asyncio.sleep(backoff(self._attempts - 1))
            self._attempts += 1
            try:
                return await self._connect()
            except Exception as error:  # Whatever it is, the way back must stay open.
                self._failure = error
                self._outage.tried(str(self), str(error) or type(error).__name__)
                _log.debug("No connection to %s: %r", self, error)
                self._forget_settled()

    async def _connect(self) -> Link:
        wire = await self._dial(self._name)
        link = Link(
            wire,
            max_in_flight_bytes=self._limits.max_in_flight_bytes,
            stall_timeout=self._limits.stall_timeout,
            on_not_run=self._repeats.park,
            on_lost=self._strand,
        )
        link.start()
        self._young_link = link
        try:
            if self._epoch:
                for callback in tuple(self.on_reconnect):
                    await callback(partial(self._call_on, link))
            if link.is_broken:
                raise await link.lost()
        except BaseException as error:
            await link.stop(RedisConnectionError(f"The connection was not taken up: {error}"))
            raise
        finally:
            self._young_link = None
        self._epoch += 1
        self._failure = None
        return link

    async def _dial(self, name: str) -> Wire:
        if self._before_connect is not None:
            async with self._before_connect_lock:
                await self._before_connect()
        async with asyncio.timeout(self._limits.connect_timeout):
            return await self._address.connect(name, self._limits.connect_timeout)

    def _call_on(
        self, link: Link, *command: Argument, timeout: float | None = None
    ) -> asyncio.Future[Any]:
        """Like ``call``, on a link that is not yet open for ordinary calls."""
        call = self._promise(command, timeout)
        if link.is_broken:
            call.set_exception(self._unavailable(call))
            return call
        link.queue.append(call)
        link.wake()
        return call

    def _promise(self, command: tuple[Argument, ...], timeout: float | None) -> Call:
        call = Call(loop=self._loop)
        call.command = command
        seconds = self._call_timeout if timeout is None else timeout
        call.deadline = deadline = self._loop.time() + seconds
        if deadline < self._deadlines.next_at and not self._is_closing:
            self._deadlines.plan(deadline)
        return call

    # Calls that end without a reply

    def _strand(self, link: Link, error: Exception) -> None:
        """Settle the calls of a lost link: what was not written is kept, if it can be."""
        for call in link.unanswered:
            if not call.done():
                call.set_exception(unknown(call, str(self), f"the connection was lost: {error}"))
        link.unanswered.clear()
        if link.queue is self._queue:
            self._queue.extendleft(reversed(link.parked))
        else:
            for call in chain(link.parked, link.queue):
                if not call.done():
                    call.set_exception(self._unavailable(call))
            link.queue.clear()
        link.parked.clear()

    def _forget_settled(self) -> None:
        """Free the calls that nobody waits for any more: only a link would take them out."""
        waiting = [call for call in self._queue if not call.done()]
        self._queue.clear()
        self._queue.extend(waiting)

    def _live_calls(self) -> Iterator[tuple[Call, bool]]:
        """All calls without a result, and for each whether it was written."""
        for link in (self._link, self._young_link):
            if link is not None:
                yield from ((call, True) for call in link.unanswered)
                yield from ((call, False) for call in link.parked)
                if link.queue is not self._queue:
                    yield from ((call, False) for call in link.queue)
        yield from ((call, False) for call in self._queue)

    def _expire(self, call: Call, is_written: bool) -> None:
        """Fail a call whose time is up."""
        if is_written:
            call.set_exception(unknown(call, str(self), "no reply came in time"))
        else:
            call.set_exception(self._unavailable(call))

    def _unavailable(self, call: Call) -> EngineUnavailable:
        if self.is_connected:
            return unavailable(call, self._address, "the engine took no more calls in time", None)
        return unavailable(call, self._address, "there was no connection in time", self._failure)
