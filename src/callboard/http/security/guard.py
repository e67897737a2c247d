"""What stands before the application: who asks, how often and how much; what all answers say."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from callboard.domain.access import AUDITED, Caller, Role
from callboard.exceptions import (
    CallboardError,
    EngineError,
    NotAuthenticated,
    RateLimited,
)
from callboard.http import errors
from callboard.http.route import Reply, deny
from callboard.http.security import bodies
from callboard.http.security.bodies import Budget
from callboard.http.security.cors import Cors
from callboard.http.security.headers import ALL_HEADERS, Header, guarded, has_own, request_id
from callboard.http.security.identity import PROTOCOL, Doorkeeper, Identity, Keyring
from callboard.http.security.settings import AccessSettings
from callboard.http.security.strangers import Strangers
from callboard.http.security.whole import ANSWER, WHOLE, Whole, in_block
from callboard.services.access import Access

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Screen = Callable[[Scope], Reply | None]
"""Gives the refusal that needs no look at a request's body; None where there is none."""

READING: Final = frozenset({"GET", "HEAD"})
"""Who looks changes nothing: else who looks at the log would fill it."""

OF_THEMSELVES: Final = frozenset({"access.create", "access.revoke"})
"""What writes its own entry, in the same step; only what came of it otherwise is written here."""

STRANGER_BYTES_MAX: Final = 1_024

ALL_IN_BLOCK: Final = in_block(ALL_HEADERS)
_NONE: Final[Mapping[str, Any]] = {}
_USUAL_HEADERS: Final = 2
"""Of an answer: its type and its length."""

_CLOSE: Final[Header] = (b"connection", b"close")
_CHALLENGE: Final[Header] = (b"www-authenticate", b'Bearer realm="callboard"')
_log = logging.getLogger("callboard.http")


class Guard:
    """An ASGI application around another one, which it lets through who may pass.

    What the inner one finds in ``scope["state"]``:

    - ``caller``, ``namespace``: who asks, and for which namespace.
    - ``request_id``: as the answer's header ``X-Request-ID`` says it.
    - ``note``: writes into the audit log: ``await note(operation, target, outcome)``.
    - ``spend``, ``check``: for what stays open: ``await spend()`` counts one more against the
      key's rate, and raises RateLimited; ``await check()`` raises NotAuthenticated once the
      key does not hold any more.

    It may leave ``asked`` there, a tuple of an operation's name, its role and its target:
    what takes the role operate or admin, and changes something, is then written into the audit
    log before the answer goes out.
    """

    def __init__(
        self,
        app: App,
        settings: AccessSettings,
        access: Callable[[], Awaitable[Access]],
        screen: Screen | None = None,
    ) -> None:
        self._app = app
        self._screen = screen
        self._settings = settings
        self._access = access
        self._cors = Cors(settings.cors_origins)
        strangers = Strangers(settings.refused_rate, settings.refused_burst)
        keyring = Keyring(access, settings.key_seconds, strangers)
        self._doorkeeper = Doorkeeper(settings, keyring, self._cors)
        self._budget = Budget(settings.bodies_bytes_max, settings.body_bytes_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request or WebSocket through, or refuse it."""
        kind = scope["type"]
        if kind == "http":
            await _Exchange(self, scope, receive, send).pass_on()
        elif kind == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def leave(self) -> None:
        """Wait no more for what stalls: the coordinator stops."""
        self._budget.end()

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        number = request_id(headers.get(b"x-request-id"))
        was_offered = PROTOCOL in (scope.get("subprotocols") or ())

        async def answer(message: Message) -> None:
            if message["type"] == "websocket.accept" and was_offered:
                # A browser that offered one and is given none hangs up.
                message = {"subprotocol": PROTOCOL, **message}
            elif message["type"] == "websocket.http.response.start":
                own = (*message.get("headers", ()), (b"x-request-id", number))
                message = {**message, "headers": guarded(own)}
            await send(message)

        try:
            await self._admit(scope, headers, number)
        except Exception as error:
            await deny(scope, receive, answer, _refusal_of(error))
            return
        await self._app(scope, receive, answer)

    async def _admit(self, scope: Scope, headers: Mapping[bytes, bytes], number: bytes) -> Identity:
        """Say who asks, and leave it in the scope. Raises what the caller is to be told."""
        identity = await self._doorkeeper.identify(scope, headers)
        await self._spend(identity)
        state = scope.setdefault("state", {})
        state["caller"] = identity.caller
        state["namespace"] = identity.namespace
        state["request_id"] = number.decode()
        state["note"] = partial(self._note, identity.caller, identity.namespace, number.decode())
        state["spend"] = partial(self._spend, identity)
        state["check"] = partial(self._doorkeeper.check, identity.caller)
        return identity

    async def _spend(self, identity: Identity) -> None:
        """Count one request, or one frame of a socket, against the key's rate."""
        if identity.rate is None:
            return
        access = await self._access()
        wait = await access.take(identity.bucket, rate=identity.rate, burst=identity.burst)
        if wait > 0:
            raise RateLimited("Rate limit exceeded", retry_after=wait)

    async def _note(
        self,
        caller: Caller,
        namespace: str,
        number: str,
        operation: str,
        target: str = "",
        outcome: str = "ok",
    ) -> None:
        """Write into the audit log; what was done stays done where that is not possible."""
        if outcome == "ok" and operation in OF_THEMSELVES:
            return
        try:
            access = await self._access()
            await access.note(
                operation,
                name=caller.name,
                key=caller.key_id or "",
                role=caller.role,
                address=caller.address,
                namespace=namespace,
                target=target,
                outcome=outcome,
                request=number,
            )
        except CallboardError as error:
            _log.error(
                "The audit log could not be written: %s by %s (%s), %s: %s",
                operation,
                caller.name,
                number,
                outcome,
                error.message,
            )


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_guard", "_has_started", "_headers", "_number", "_receive", "_scope", "_send")

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._number = request_id(self._headers.get(b"x-request-id"))
        self._has_started = False

    async def pass_on(self) -> None:
        guard = self._guard
        if self._scope["method"] == "OPTIONS":
            headers = guard._cors.preflight(self._headers)
            if headers is not None:
                await self._refuse(Reply(b"", 204, headers))
                return
        try:
            identity = await guard._admit(self._scope, self._headers, self._number)
        except Exception as error:
            await self._refuse(_refusal_of(error))
            return
        if not self._has_body:
            await self._call(self._receive)
            return
        # Whose path, verb or role leads nowhere is told so before the body takes up memory.
        refusal = guard._screen(self._scope) if guard._screen is not None else None
        if refusal is not None:
            await self._note(refusal.status)
            await self._refuse(refusal)
        else:
            await self._with_body(identity)

    @property
    def _has_body(self) -> bool:
        headers = self._headers
        return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

    async def _with_body(self, identity: Identity) -> None:
        guard, settings = self._guard, self._guard._settings
        announced = self._headers.get(b"content-length", b"")
        caller, who = identity.caller, identity.bucket
        most, seconds = settings.body_bytes_max, settings.body_seconds
        if not caller.namespaces:
            # On a public path without a key: nothing there takes a body.
            most, seconds = min(most, STRANGER_BYTES_MAX), min(seconds, bodies.DISCARD_SECONDS)
        if announced.isdigit() and int(announced[:20]) > most:
            await self._refuse(_too_large(most))
            return
        whole: Whole | None = self._scope.get("extensions", _NONE).get(WHOLE)
        body = None if whole is None else whole.take_body(most)
        try:
            if body is None:
                body = await bodies.read(self._receive, most, seconds, guard._budget, who)
            else:
                guard._budget.take(len(body), who)
        except bodies.BodyTooLarge as error:
            await self._refuse(_too_large(most), is_taken=error.is_all)
        except bodies.BodyTooSlow:
            await self._refuse(_too_slow(seconds), is_hopeless=True)
        except bodies.BodyTooLate:
            await self._refuse(errors.stopping(), is_hopeless=True)
        except bodies.NoRoom:
            await self._refuse(_no_room(), is_hopeless=True)
        except bodies.CallerGone:
            return
        else:
            try:
                await self._call(_replay(body, self._receive))
            finally:
                guard._budget.give_back(len(body), who)

    async def _call(self, receive: Receive) -> None:
        try:
            await self._guard._app(self._scope, receive, self._answer)
        except Exception as error:
            if self._has_started:
                raise
            route = self._scope["state"].get("route")
            _log.error(
                "%s failed (%s).",
                "A request" if route is None else f"{route.verb} {route.path}",
                self._number.decode(),
                exc_info=error,
            )
            failed = errors.refused(
                500, "The coordinator failed; its log says how. Nothing more is known.", "internal"
            )
            await self._tell(failed)

    async def _answer(self, message: Message) -> None:
        """Send a part of the inner application's answer, its headers with those of all."""
        kind = message["type"]
        if kind == ANSWER:
            self._has_started = True
            if "asked" in self._scope["state"]:
                await self._note(message["status"])
            self._dress_whole(message)
        elif kind == "http.response.start":
            self._has_started = True
            await self._note(message["status"])
            message["headers"] = self._dressed(message.get("headers", ()))
        await self._send(message)

    async def _note(self, status: int) -> None:
        asked = self._scope["state"].get("asked")
        if asked is not None and asked[1] in AUDITED and self._scope["method"] not in READING:
            await self._audit(asked, status)

    async def _audit(self, asked: tuple[str, Role, str], status: int) -> None:
        operation, role, target = asked
        state = self._scope["state"]
        outcome = "ok" if status < 400 else state.get("outcome", str(status))
        if status == 403:
            # Who may not do it cannot push out of the log what others did.
            _log.warning(
                "%s may not %s, which takes %s (%s).",
                state["caller"].name,
                operation,
                role,
                self._number.decode(),
            )
            return
        await state["note"](operation, target, outcome)

    def _dressed(self, headers: Any) -> list[Header]:
        found = guarded(headers)
        found.append((b"x-request-id", self._number))
        found += self._guard._cors.headers(self._headers.get(b"origin"))
        return found

    def _dress_whole(self, message: Message) -> None:
        """The same for an answer in one piece, of which most headers are written already."""
        headers: list[Header] = message["headers"]
        if len(headers) > _USUAL_HEADERS and has_own(headers):
            message["headers"] = self._dressed(headers)
            return
        headers.append((b"x-request-id", self._number))
        headers += self._guard._cors.headers(self._headers.get(b"origin"))
        message["block"] = ALL_IN_BLOCK

    async def _refuse(
        self, reply: Reply, *, is_hopeless: bool = False, is_taken: bool = False
    ) -> None:
        """Answer without the inner application; a body that nobody wants is taken or cut off."""
        headers = reply.headers
        if self._has_body and not is_taken:
            # Who waits to be told to go on sends nothing, and reads the answer at once.
            is_waiting = b"expect" in self._headers
            if is_hopeless or is_waiting or not await bodies.discard(self._receive):
                headers = (*headers, _CLOSE)
        await self._tell(Reply(reply.body, reply.status, headers, reply.content_type))

    async def _tell(self, reply: Reply) -> None:
        is_empty = reply.status == 204
        body = b"" if self._scope["method"] == "HEAD" else reply.body
        about = (
            ()
            if is_empty
            else (
                (b"content-type", reply.content_type.encode()),
                (b"content-length", b"%d" % len(reply.body)),
            )
        )
        headers = self._dressed((*about, *reply.headers))
        await self._send(
            {"type": "http.response.start", "status": reply.status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": body})


def secure(
    app: App,
    settings: AccessSettings,
    access: Callable[[], Awaitable[Access]],
    screen: Screen | None = None,
) -> Guard:
    """The application behind its guard.

    Args:
        app: What answers those who may pass.
        settings: Who may pass, and the bounds.
        access: Gives the API keys' service; raises EngineUnavailable while it cannot be asked.
        screen: What the application would refuse whatever the body holds; asked before a body
            is read.
    """
    return Guard(app, settings, access, screen)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body, whole, and then what else comes."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refusal_of(error: Exception) -> Reply:
    """The answer to who was not let through, and so may be anybody."""
    if isinstance(error, EngineError):
        return errors.engine_away()
    reply = errors.reply_of(error)
    if isinstance(error, NotAuthenticated):
        return Reply(reply.body, reply.status, (*reply.headers, _CHALLENGE))
    return reply


def _too_large(most: int) -> Reply:
    return errors.refused(
        413,
        f"The body may have {most:,} bytes. Send several things in several requests; put what is "
        "large in itself elsewhere, and send where it is.",
        "too_large",
        {"limit": most},
    )


def _too_slow(seconds: float) -> Reply:
    return errors.refused(
        408, f"The body did not come within {seconds:g} seconds.", "body_too_slow"
    )


def _no_room() -> Reply:
    return errors.refused(
        503,
        "The bodies of other requests, of all callers or of this one, fill the memory that there "
        "is for them. Try again.",
        "busy",
        after=1,
    )
