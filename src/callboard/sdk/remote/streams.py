"""Streams of server-sent events: read, come back to, and made into bells."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final
from urllib.parse import urlencode

import msgspec

from callboard.dispatch.client import HttpFailure, Stream
from callboard.engine.pubsub import Subscription
from callboard.exceptions import CallboardError, EngineError, EngineUnavailable
from callboard.sdk.remote.transport import Transport

PAUSE_SECONDS: Final = 0.2
PAUSE_MAX: Final = 5.0
_log = logging.getLogger("callboard.remote")


class Told(msgspec.Struct, frozen=True):
    """One server-sent event. *id* is empty where it moves the reader nowhere."""

    name: str
    data: str
    id: str = ""


async def told(stream: Stream) -> AsyncGenerator[Told, None]:
    """The events of a stream as they come; those without a name or data only carry their id."""
    rest = b""
    name, data, place = "", [], ""
    async for chunk in stream:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if line:
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    place = value
            elif name or data or place:
                yield Told(name, "\n".join(data), place)
                name, data, place = "", [], ""


class _Rung(msgspec.Struct):
    bell: str
    payload: str


class RemoteBells:
    """Bells over HTTP: each subscription is a stream, which comes back when it is lost."""

    def __init__(self, transport: Transport, call_timeout: float) -> None:
        self._transport = transport
        self._call_timeout = call_timeout
        self._keepers: dict[Subscription, asyncio.Task[None]] = {}
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """The connection was closed here."""
        return self._is_closed or self._transport.is_closed

    def agent(self, agent: str, instance: str) -> str:
        """Rings for one process of an agent."""
        return f"agent/{agent}/{instance}"

    def inbox(self, agent: str) -> str:
        """Rings for new messages of an agent."""
        return f"inbox/{agent}"

    def broadcasts(self) -> str:
        """Rings for broadcasts."""
        return "broadcasts"

    def reply(self, request: str) -> str:
        """Rings where a request was answered."""
        return f"reply/{request}"

    def locks(self, client: str) -> str:
        """Rings for one client that waits for locks, or holds them."""
        return f"locks/{client}"

    def events(self) -> str:
        """Rings for new events."""
        return "events"

    def board(self, board: str) -> str:
        """Rings for new events of a board with a journal."""
        return f"board/{board}"

    async def listen(self, *names: str) -> Subscription:
        """Hear these bells. Raises EngineUnavailable, or the coordinator's refusal."""
        if self.is_closed:
            raise self._closed()
        subscription = Subscription(names, self._release)
        is_heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keeper = asyncio.create_task(self._keep(subscription, is_heard), name="callboard-bells")
        self._keepers[subscription] = keeper
        try:
            async with asyncio.timeout(self._call_timeout):
                await asyncio.wait((is_heard, keeper), return_when=asyncio.FIRST_COMPLETED)
            if not is_heard.done():
                raise self._closed()
            is_heard.result()
        except TimeoutError:
            subscription.close()
            raise EngineUnavailable(
                f"No stream of bells could be had from {self._transport.place} in time. Check "
                "that the coordinator runs, then try again."
            ) from None
        except BaseException:
            subscription.close()
            raise
        return subscription

    async def close(self) -> None:
        """End all subscriptions; who is about to listen is told so."""
        self._is_closed = True
        keepers = list(self._keepers.values())
        for subscription in list(self._keepers):
            subscription.close()
        await asyncio.gather(*keepers, return_exceptions=True)

    def _closed(self) -> EngineUnavailable:
        return EngineUnavailable(f"The connection to {self._transport.place} is closed.")

    def _release(self, subscription: Subscription) -> None:
        keeper = self._keepers.pop(subscription, None)
        if keeper is not None:
            keeper.cancel()

    async def _keep(self, subscription: Subscription, is_heard: asyncio.Future[None]) -> None:
        """Hold the stream, for as long as somebody listens."""
        query = urlencode([("on", name) for name in subscription.channels])
        pause = PAUSE_SECONDS
        while True:
            try:
                async with (
                    self._transport.stream(f"/bells?{query}") as stream,
                    aclosing(told(stream)) as events,
                ):
                    async for one in events:
                        pause = PAUSE_SECONDS
                        self._heed(one, subscription, is_heard)
            except (EngineError, HttpFailure) as error:
                _log.info("The stream of bells is lost: %s", error)
            except CallboardError as error:
                if not is_heard.done():  # Refused: coming back would cure nothing.
                    is_heard.set_exception(error)
                    return
                _log.warning("The stream of bells is refused: %s", error)
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(pause * 2, PAUSE_MAX)

    def _heed(self, one: Told, subscription: Subscription, is_heard: asyncio.Future[None]) -> None:
        if one.name == "listening":
            if is_heard.done():  # Back again: some may have been missed.
                for name in subscription.channels:
                    subscription.ring(name, b"")
            else:
                is_heard.set_result(None)
        elif one.name == "bell":
            rung = msgspec.json.decode(one.data, type=_Rung)
            subscription.ring(rung.bell, rung.payload.encode())
