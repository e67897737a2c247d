"""Messages between agents: ``cb.messages``.

What one call does is in ``services``; here is what goes on for a while: waiting for a reply,
listening to an inbox, serving it with a handler.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from callboard.domain import message as messages
from callboard.domain.bounds import check_whole
from callboard.domain.lock import check_owner
from callboard.domain.message import Message
from callboard.domain.names import check_name
from callboard.domain.task import LEASE_MIN, check_seconds, new_id
from callboard.engine import message_codec
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.engine.outage import Witness
from callboard.exceptions import (
    AlreadyAnswered,
    CallboardError,
    DeadlockVictim,
    EngineError,
    EngineUnavailable,
    LeaseLost,
    MessageExpired,
    RequestTimeout,
)
from callboard.listener import Listener
from callboard.services.mailboxes import Mailboxes
from callboard.services.messages import Post

Handler = Callable[[Message], Any]
"""Gets a message; what it returns answers a request. A coroutine function, or a plain one,
which runs in a thread."""

Victim = Callable[[str, str], Awaitable[CallboardError]]
"""Makes the exception of an owner, and the incident whose victim it became."""

REPLY_POLL_SECONDS: Final = 1.0
"""The backstop of one who waits for a reply: its bell is only a hint."""

BACKOFF_MAX: Final = 60.0
_log = logging.getLogger("callboard.messages")


class Messages(Post, Mailboxes):
    """Messages between the agents of a namespace: durable, acknowledged, in order.

    Delivered at least once: who takes a message and does not acknowledge it in time loses it
    to the next. The id of a message is what to recognise a second delivery by.
    """

    def __init__(self, namespace: Namespace, victim: Victim | None = None) -> None:
        Post.__init__(self, namespace)
        self._victim = victim

    async def request(
        self,
        to: str,
        payload: Any = None,
        *,
        timeout: float = messages.REQUEST_TIMEOUT,
        owner: Any = None,
        **fields: Any,
    ) -> Message:
        """Send a request and wait for its reply.

        With an *id* it can be waited for again after a crash, by ``wait_reply`` or the same
        call: the request is durable, and so is its reply, for a day.

        Args:
            timeout: Seconds; then the request expires, and is not answered any more. One that
                was sent before keeps its deadline, and is waited for so long here.
            owner: What holds locks and waits: a claimed task, or a token, as of
                ``cb.locks``. Then the wait is one that deadlocks are detected over.
            fields: The other fields of ``MessageSpec``, but ``ttl``.

        Raises:
            RequestTimeout: Nobody answered in time, or nobody could after all deliveries.
            DeadlockVictim: The owner waited in a circle, and its wait was ended.
            InboxFull, IdConflict, NotAPeer, NotInHierarchy: Nothing was sent.
        """
        check_seconds("timeout", timeout, 0.001, messages.TTL_MAX)
        request_id = fields.pop("id", None)
        request_id = new_id() if request_id is None else check_name("message id", request_id)
        token = "" if owner is None else check_owner(owner)
        bells = self._namespace.bells
        names = [bells.reply(request_id)]
        if token:
            names.append(bells.locks(f"m.{request_id}"))
        subscription = await bells.listen(*names)
        is_over = False
        try:
            try:
                sent = await self.send_request(
                    to, payload, timeout=timeout, owner=token, id=request_id, **fields
                )
            except DeadlockVictim as error:
                raise await self._told(token, error.details["incident"]) from None
            # One sent now ends by its own deadline; one sent before may have another, or none.
            patience = timeout if sent.status == "replayed" else timeout + REPLY_POLL_SECONDS
            reply = await self._wait(request_id, subscription, patience)
            is_over = True
            return reply
        finally:
            subscription.close()
            if token and not is_over:
                with suppress(CallboardError):
                    await self._stop_waiting(request_id)

    async def wait_reply(self, request_id: str, *, timeout: float | None = None) -> Message:
        """Wait for the reply to a request, whoever sent it, at most until its deadline.

        Args:
            timeout: Seconds to wait here; the request stands after that. None for as long as
                it stands.

        Raises:
            RequestTimeout: The deadline or *timeout* has passed, or the request is a dead letter.
            MessageNotFound: There is no such request, or it is kept no more.
            NotARequest: The message is none.
        """
        bells = self._namespace.bells
        subscription = await bells.listen(bells.reply(check_name("message id", request_id)))
        try:
            return await self._wait(request_id, subscription, timeout)
        finally:
            subscription.close()

    async def reply_of(self, request_id: str) -> Message | None:
        """The reply to a request; None where there is none yet. Raises as ``wait_reply``."""
        return (await self._look(request_id))[0]

    async def listen(
        self,
        agent: str,
        *,
        batch: int = 16,
        lease: float = messages.LEASE_DEFAULT,
        taker: str = "",
        broadcasts: bool = True,
        limit: int | None = None,
    ) -> AsyncIterator[Message]:
        """Yield an agent's messages as they come, for ever, and broadcasts too.

        A message is acknowledged when the loop asks for the next one. Where its body raises or
        is left by ``break``, that message goes back, its delivery spent; what was taken ahead
        goes back unharmed. Leases are renewed while the loop's event loop turns. Survives
        reconnections. Any number of listeners may share an agent; each message goes to one.

        Args:
            batch: How many are taken ahead, 1 to 1,000.
            broadcasts: Read them too. Those missed, since they are not kept any more, are
                logged; ``hear`` tells them.
            limit: End after so many, the last one acknowledged; None for never.
        """
        if limit is not None:
            check_whole("limit", limit, 1, 1_000_000_000)
            batch = min(batch, limit)
        listener = self._listener(agent, batch, lease, taker, broadcasts)
        given = 0
        async with listener:
            while limit is None or given < limit:
                given += 1
                message = await listener.next()
                try:
                    yield message
                except BaseException:
                    await listener.failed(message, "The loop was left.")
                    raise
                await listener.done(message)

    async def serve(
        self,
        agent: str,
        handler: Handler,
        *,
        concurrency: int = 1,
        lease: float = messages.LEASE_DEFAULT,
        backoff: float = 1.0,
        taker: str = "",
        broadcasts: bool = True,
    ) -> None:
        """Call *handler* with each message of an agent, until cancelled.

        What it returns answers a request. What it raises is logged and kept with the message,
        which comes again after *backoff* seconds, twice that the next time, at most a minute;
        after its ``max_deliveries`` it is a dead letter. The sender sees nothing of that.
        When cancelled, messages under way go back unharmed.

        Args:
            handler: A coroutine function; a plain function runs in a thread.
            concurrency: Messages handled at once, 1 to 1,000; with one they are handled in
                order.
        """
        check_whole("concurrency", concurrency, 1, messages.BATCH_MAX)
        check_seconds("backoff", backoff, 0, messages.TTL_MAX)
        ahead = min(2 * concurrency, messages.BATCH_MAX)
        listener = self._listener(agent, ahead, lease, taker, broadcasts)
        try:
            async with listener, asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._serve_one(listener, handler, backoff))
        except ExceptionGroup as failures:
            if self._namespace.bells.is_closed:
                raise failures.exceptions[0] from None
            raise

    def _listener(
        self, agent: str, batch: int, lease: float, taker: str, broadcasts: bool
    ) -> Listener:
        return Listener(
            self,
            self._namespace.bells,
            check_name("agent", agent),
            batch=check_whole("batch", batch, 1, messages.BATCH_MAX),
            lease=check_seconds("lease", lease, LEASE_MIN, 3_600) / 1000,
            taker=taker and check_name("taker", taker),
            broadcasts=broadcasts,
        )

    async def _serve_one(self, listener: Listener, handler: Handler, backoff: float) -> None:
        while True:
            message = await listener.next()
            try:
                result = await _handled(handler, message)
                if message.is_request:
                    with suppress(AlreadyAnswered):
                        await self.reply(message, result)
            except (MessageExpired, LeaseLost) as error:
                _log.info("%s: %s", message.id, error)
            except asyncio.CancelledError:
                await listener.give_back(message)
                raise
            except Exception as error:
                _log.exception(
                    "The handler of %s failed with message %s", message.agent, message.id
                )
                delay = min(backoff * 2.0 ** min(message.deliveries - 1, 10), BACKOFF_MAX)
                await listener.failed(message, _words_of(error), delay)
                continue
            await listener.done(message)

    async def _wait(self, request_id: str, subscription: Any, timeout: float | None) -> Message:
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        outage = Witness("A wait for a reply")
        while True:
            try:
                reply, state, left = await self._look(request_id)
                outage.answered()
            except EngineError as error:
                if self._namespace.bells.is_closed:
                    raise EngineUnavailable(
                        f"The connection was closed while a reply to {request_id} was waited for. "
                        "The request stands: wait_reply(…) waits for it again."
                    ) from error
                outage.failed(error)
                reply, state, left = None, "waiting", REPLY_POLL_SECONDS
            if reply is not None:
                return reply
            if until is not None and loop.time() >= until:
                state, left = "timeout", 0.0
            if state in ("expired", "dead", "timeout"):
                why = {
                    "expired": "was not answered in time",
                    "dead": "was given out as often as it may, and never answered",
                    "timeout": f"was not answered within {timeout:g} s, but still may be"
                    if timeout is not None
                    else "",
                }[state]
                raise RequestTimeout(
                    f"Request {request_id} {why}.", request=request_id, state=state
                )
            pause = REPLY_POLL_SECONDS * (1 + random.random() / 4)
            if left is not None:
                pause = min(pause, left + 0.01)
            if until is not None:
                pause = min(pause, max(until - loop.time(), 0.0) + 0.001)
            await subscription.get(pause)

    async def _told(self, owner: str, incident: str) -> CallboardError:
        if self._victim is not None:
            return await self._victim(owner, incident)
        return DeadlockVictim(f"{owner} waited in a circle.", owner=owner, incident=incident)

    async def _stop_waiting(self, request_id: str) -> None:
        """End the wait of a request's owner, as deadlocks are detected over it."""
        await self._functions.call("message_await", check_name("message id", request_id), 1)

    async def _look(self, request_id: str) -> tuple[Message | None, str, float | None]:
        """The reply, the request's state, and in how many seconds it expires, if ever."""
        name = check_name("message id", request_id)
        reply = await self._functions.call("message_await", name, 0)
        if checked(reply, "ok", "deadlock_victim", message_id=name) == "deadlock_victim":
            raise await self._told(reply[2].decode(), reply[1].decode())
        left = max(float(reply[3]) - float(reply[1]), 0.0) / 1000 if reply[3] else None
        found = message_codec.reply_of(reply[4], reply[5]) if reply[4] else None
        return found, reply[2].decode(), left


def _words_of(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # A broken __str__ is not the failure to report.
        return type(error).__name__


async def _handled(handler: Handler, message: Message) -> Any:
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004
    ):
        return await handler(message)
    result = await asyncio.to_thread(handler, message)
    return await result if inspect.isawaitable(result) else result
