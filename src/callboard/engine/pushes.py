"""A link that also receives what nobody asked for: the pushes of RESP3 pub/sub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from callboard.engine.multiplexer import Call, Link
from callboard.engine.verdicts import is_not_run, is_reply
from callboard.engine.wire import Argument, Wire

_MESSAGES = frozenset({b"message", b"pmessage", b"smessage"})
# Commands of a subscriber are tiny; the bound of the shared link would never be met.
_IN_FLIGHT_BYTES = 64 << 20


class PushLink(Link):
    """Carries the commands of a subscriber, and hands every message to *deliver*.

    The engine answers SUBSCRIBE and the like with pushes, in the order of the
    commands. A silent connection is tested with PING: one that is half open would
    swallow bells for ever.
    """

    def __init__(
        self, wire: Wire, deliver: Callable[[list[Any]], None], *, ping_interval: float
    ) -> None:
        super().__init__(wire, max_in_flight_bytes=_IN_FLIGHT_BYTES, stall_timeout=ping_interval)
        self._deliver = deliver
        self._ping_interval = ping_interval

    def send(self, *command: Argument) -> Call:
        """Queue a command; its result is the confirming push, or the reply."""
        call = Call(loop=self._loop)
        call.command = command
        self.queue.append(call)
        self.wake()
        return call

    def _watchers(self) -> list[Coroutine[Any, Any, None]]:
        return [*super()._watchers(), self._test_when_silent()]

    async def _read(self) -> None:
        read = self._wire.connection.read_response
        try:
            while True:
                try:
                    reply = await read(disconnect_on_error=False, push_request=True)
                except RedisError as error:
                    if not is_reply(error):
                        raise
                    self._refuse(error)
                    if is_not_run(error):
                        raise RedisConnectionError(str(error)) from error
                    continue
                if not isinstance(reply, hiredis.PushNotification):
                    self._answer(reply)
                elif reply[0] in _MESSAGES:
                    self._deliver(reply)
                elif self._is_awaited(reply):
                    self._answer(reply)
                elif reply[0] == b"sunsubscribe":
                    # A Cluster takes the subscription away when the slot moves.
                    raise RedisConnectionError("The channels have moved to another node")
        finally:
            self.is_broken = True

    def _is_awaited(self, push: list[Any]) -> bool:
        if not self.unanswered:
            return False
        command = self.unanswered[0].command
        if len(command) != 2 or not isinstance(command[0], bytes):
            return False
        return (command[0].lower(), str(command[1]).encode()) == (push[0], push[1])

    def _answer(self, reply: Any) -> None:
        call = self.unanswered.popleft()
        self._in_flight_bytes -= call.size
        if not call.done():
            call.set_result(reply)
        if self._is_watched:
            self._notice()

    async def _test_when_silent(self) -> None:
        seen = -1
        while True:
            if self._wire.meter.chunks == seen and not self.unanswered:
                _ = self.send(b"PING")
            seen = self._wire.meter.chunks
            await asyncio.sleep(self._ping_interval)
