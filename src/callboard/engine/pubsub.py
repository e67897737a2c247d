"""Doorbells: pub/sub on its own connection, made with the first subscription.

A bell is only a hint. Bells are lost while the connection is; each subscriber is
then woken with an empty payload, and has to look for itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from redis.exceptions import AskError
from redis.exceptions import ConnectionError as RedisConnectionError

from callboard.engine.address import Address
from callboard.engine.outage import Witness
from callboard.engine.pushes import PushLink
from callboard.engine.verdicts import is_not_run
from callboard.engine.wire import Wire, backoff
from callboard.exceptions import EngineUnavailable

_log = logging.getLogger("callboard.engine")

# Bells that one slow subscriber may let pile up; then the oldest goes.
_BELLS_MAX = 1024


@dataclass(frozen=True)
class Mode:
    """A kind of channel: how it is joined and left, and what its messages are called."""

    join: bytes
    leave: bytes
    message: bytes


SHARDED = Mode(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"smessage")
PLAIN = Mode(b"SUBSCRIBE", b"UNSUBSCRIBE", b"message")
PATTERN = Mode(b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"pmessage")

Bell = tuple[str, bytes]


class Subscription:
    """Yields ``(channel, payload)``; an empty payload may also mean that bells were missed.

    Attributes:
        channels: What was subscribed to.
        dropped: How many bells went unread because too many piled up.
    """

    def __init__(self, channels: tuple[str, ...], release: Callable[[Subscription], None]) -> None:
        self.channels = channels
        self.dropped = 0
        self._release = release
        self._bells: deque[Bell] = deque()
        self._news = asyncio.Event()
        self._is_closed = False

    async def get(self, timeout: float | None = None) -> Bell | None:
        """Wait for the next bell, at most *timeout* seconds; None if there was none.

        None also when the subscription is closed.
        """
        if not self._bells and not self._is_closed:
            try:
                async with asyncio.timeout(timeout):
                    while not self._bells and not self._is_closed:
                        self._news.clear()
                        await self._news.wait()
            except TimeoutError:
                pass
        return self._bells.popleft() if self._bells else None

    def close(self) -> None:
        """Leave the channels and end every wait; repeatable."""
        if not self._is_closed:
            self._is_closed = True
            self._bells.clear()
            self._news.set()
            self._release(self)

    def ring(self, channel: str, payload: bytes) -> None:
        """Deliver a bell."""
        if len(self._bells) >= _BELLS_MAX:
            self._bells.popleft()
            self.dropped += 1
        self._bells.append((channel, payload))
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Bell:
        bell = await self.get()
        if bell is None:
            raise StopAsyncIteration
        return bell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Subscription {', '.join(self.channels)}>"


class _Channel:
    """A channel that somebody listens to. ``joined`` is done while the engine sends it."""

    def __init__(self, mode: Mode, name: str) -> None:
        self.mode = mode
        self.name = name
        self.subscribers: set[Subscription] = set()
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.was_joined = False

    def forget(self) -> None:
        """The connection is gone, and with it the subscription at the engine."""
        if self.joined.done():
            self.joined = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Tell those who wait for the confirmation that it will not come."""
        if not self.joined.done():
            self.joined.set_exception(error)
            self.joined.exception()  # Whoever waits sees it, but nobody has to.

    def ring(self, channel: str, payload: bytes) -> None:
        for subscription in self.subscribers:
            subscription.ring(channel, payload)


class Doorbells:
    """Shares one pub/sub connection among all subscriptions; makes it again when it is lost."""

    def __init__(
        self,
        dial: Callable[[], Awaitable[Wire]],
        address: Address,
        engine: str,
        ping_interval: float,
    ) -> None:
        self._dial = dial
        self._address = address
        self._engine = engine
        self._ping_interval = ping_interval
        self._channels: dict[tuple[bytes, bytes], _Channel] = {}
        self._link: PushLink | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._outage = Witness("The doorbells")
        self._failure: BaseException | None = None

    async def subscribe(self, wanted: Iterable[tuple[Mode, str]], timeout: float) -> Subscription:
        """Join the channels; returns once the engine confirmed each."""
        wanted = list(dict.fromkeys(wanted))
        subscription = Subscription(tuple(name for _, name in wanted), self._release)
        channels = [self._join(mode, name, subscription) for mode, name in wanted]
        self._keep()
        try:
            async with asyncio.timeout(timeout):
                for channel in channels:
                    # Asked again each time: a loss meanwhile replaces the promise.
                    while not channel.joined.done():
                        await asyncio.wait([channel.joined])
                    channel.joined.result()
        except TimeoutError:
            subscription.close()
            reason = f": {self._failure}" if self._failure else ""
            raise EngineUnavailable(
                f"No pub/sub connection to {self._engine} in time{reason}. "
                "Check that the engine runs, then subscribe again.",
                engine=self._engine,
            ) from self._failure
        except BaseException:
            subscription.close()
            raise
        return subscription

    def follow(self, place: str) -> None:
        """Connect again if the calls go to another node than the bells come from."""
        if self._link is not None and self._link.place != place:
            self._link.drop(RedisConnectionError(f"The engine has moved to {place}"))

    async def close(self) -> None:
        """End all subscriptions and the connection."""
        for channel in list(self._channels.values()):
            channel.fail(EngineUnavailable(f"The connection to {self._engine} is closed."))
            for subscription in list(channel.subscribers):
                subscription.close()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._outage.leave()

    def _join(self, mode: Mode, name: str, subscription: Subscription) -> _Channel:
        key = (mode.message, name.encode())
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel(mode, name)
            self._request(channel)
        channel.subscribers.add(subscription)
        return channel

    def _release(self, subscription: Subscription) -> None:
        for key, channel in list(self._channels.items()):
            channel.subscribers.discard(subscription)
            if not channel.subscribers:
                del self._channels[key]
                if self._link is not None:
                    _ = self._link.send(channel.mode.leave, channel.name)

    def _request(self, channel: _Channel) -> None:
        if self._link is None:
            return  # It will be requested as soon as there is a link.
        answer = self._link.send(channel.mode.join, channel.name)
        answer.add_done_callback(lambda call: self._answered(channel, call))

    def _answered(self, channel: _Channel, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled() or channel.joined.done():
            return
        error = answer.exception()
        if isinstance(error, Exception):
            if self._may_pass(error):
                self._address.heed(error)  # The link ends too, and the next one asks again.
            else:
                _log.warning("Cannot listen to %s at %s: %s", channel.name, self._engine, error)
                channel.fail(error)
            return
        channel.joined.set_result(None)
        if channel.was_joined:
            channel.ring(channel.name, b"")
        channel.was_joined = True

    def _may_pass(self, error: Exception) -> bool:
        return is_not_run(error) and (self._address.can_move or not isinstance(error, AskError))

    def _keep(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep_link(), name="callboard-bells")

    async def _keep_link(self) -> None:
        """Hold a connection for as long as there are subscriptions."""
        attempt = 0
        while self._channels:
            try:
                wire = await self._dial()
            except Exception as error:  # Whatever it is, the way back must stay open.
                self._failure = error
                self._outage.lost(self._engine, str(error) or type(error).__name__)
                _log.debug("No pub/sub connection to %s: %s", self._engine, error)
                await asyncio.sleep(backoff(attempt))
                attempt += 1
                continue
            self._outage.answered()
            loop = asyncio.get_running_loop()
            born_at = loop.time()
            self._failure = await self._use(wire)
            _log.debug("Lost the pub/sub connection to %s: %s", self._engine, self._failure)
            if loop.time() - born_at >= self._ping_interval:
                attempt = 0
            else:
                await asyncio.sleep(backoff(attempt))
                attempt += 1
        self._outage.leave()  # Nobody waits for the way back any more.

    async def _use(self, wire: Wire) -> Exception:
        """Listen on a new connection until it is lost; return why it was."""
        link = PushLink(wire, self._deliver, ping_interval=self._ping_interval)
        link.start()
        self._link = link
        try:
            for channel in self._channels.values():
                self._request(channel)
            return await link.lost()
        finally:
            self._link = None
            await link.stop(RedisConnectionError("The connection was closed"))
            for call in (*link.unanswered, *link.queue):
                call.cancel()
            for channel in self._channels.values():
                channel.forget()

    def _deliver(self, push: list[Any]) -> None:
        kind, name, *rest = push
        channel = self._channels.get((kind, name))
        if channel is not None:
            source = rest[0] if len(rest) == 2 else name
            channel.ring(source.decode(), rest[-1])
