"""The coordinator: the namespaces that it serves, and the ASGI application over them."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import msgspec

from callboard.app import Callboard
from callboard.config import EngineChoice, check_namespace
from callboard.domain.access import AUDITED, Caller, includes
from callboard.exceptions import CallboardError, EngineUnavailable, NamespaceNotFound
from callboard.http import errors, openapi
from callboard.http.live.hub import Hub
from callboard.http.observing import Requests
from callboard.http.recalling import Recalling, has_work
from callboard.http.route import Call, Gone, Receive, Reply, Route, Router, Scope, Send, deny
from callboard.http.routes import all_routes
from callboard.http.security.whole import ANSWER, WHOLE
from callboard.http.settings import ServeSettings
from callboard.http.siblings import Siblings, Together
from callboard.janitor import Janitor

PATIENCE_SECONDS: Final = 0.25
"""How long a request waits for a lost engine: a reconnection takes less, an outage more."""

_log = logging.getLogger("callboard.http")


@dataclass
class Served:
    """One namespace, and what runs for it."""

    cb: Callboard
    hub: Hub
    janitor: Janitor | None = None
    dispatcher: Any = None
    used_at: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """The namespace's name."""
        return self.cb.namespace.name

    async def stop(self) -> None:
        """End all that runs, then the connection."""
        if self.dispatcher is not None:
            await self.dispatcher.stop()
        if self.janitor is not None:
            await self.janitor.stop()
        await self.hub.close()
        await self.cb.close()


class Coordinator:
    """What one process serves: connections to namespaces, each with its janitor and dispatcher.

    It holds nothing that another coordinator would miss: any number may stand on one engine.

    Attributes:
        settings: How it was set up.
        is_stopping: It takes no new requests, and long ones end.
        routes: All that is served.
        requests: What passed through this process.
        siblings: The other processes on its port, where there are such.
    """

    siblings: Siblings | None = None

    def __init__(self, choice: EngineChoice, settings: ServeSettings, **connecting: Any) -> None:
        self.choice = choice
        self.settings = settings
        self.is_stopping = asyncio.Event()
        self.routes: list[Route] = []
        self.started_at = time.time()
        self.requests = Requests()
        self._connecting = connecting
        self._served: dict[str, Served] = {}
        self._opening: dict[str, asyncio.Task[Served]] = {}
        self._recalling = Recalling(self)

    @cached_property
    def document(self) -> bytes:
        """The OpenAPI document of what is served; made when it is first asked for."""
        return openapi.document(self.routes)

    async def together(self) -> Together:
        """What passed through all processes on the port, and what each says of itself."""
        if self.siblings is None:
            return Together(self.requests, [])
        return await self.siblings.together()

    async def start(self) -> None:
        """Connect to the default namespace, then to others that have something to do.

        Raises as ``connect`` does.
        """
        await self.served(self.settings.namespace)
        if self.settings.recalls:
            self._recalling.start()

    async def retire(self) -> None:
        """Hand nothing out any more; what was handed out and not accepted goes back."""
        self.is_stopping.set()
        for served in list(self._served.values()):
            dispatcher, served.dispatcher = served.dispatcher, None
            if dispatcher is not None:
                await dispatcher.stop()

    async def stop(self) -> None:
        """End streams and loops, then the connections."""
        self.is_stopping.set()
        await self._recalling.stop()
        for opening in list(self._opening.values()):
            opening.cancel()
        for served in list(self._served.values()):
            with suppress(CallboardError):
                await served.stop()
        self._served.clear()

    async def board(self, namespace: str, *, creates: bool = True) -> Callboard:
        """The connection to a namespace, which flows.

        Raises:
            EngineUnavailable: It does not flow just now. Nothing was done.
            NamespaceNotFound: It is not there, and this does not *create* it.
        """
        served = self._served.get(namespace)
        if served is None:
            served = await self.served(namespace, creates=creates)
        served.used_at = time.monotonic()
        cb = served.cb
        if not cb.is_connected:
            await self._await_connection(cb)
        return cb

    async def served(self, namespace: str, *, creates: bool = True) -> Served:
        """What runs for a namespace; begun with the first who asks.

        Raises:
            NamespaceNotFound: It is not there, and this does not *create* it.
        """
        creates = creates or namespace == self.settings.namespace
        while True:
            found = self._served.get(namespace)
            if found is not None:
                found.used_at = time.monotonic()
                return found
            opening = self._opening.get(namespace)
            is_own = opening is None
            if opening is None:
                opening = asyncio.create_task(
                    self._open(namespace, creates), name="callboard-namespace"
                )
                self._opening[namespace] = opening
                opening.add_done_callback(lambda _: self._opening.pop(namespace, None))
            try:
                return await asyncio.shield(opening)
            except NamespaceNotFound:
                # Another one only looked for it; who may make it goes on.
                if is_own or not creates:
                    raise

    def is_open(self, namespace: str) -> bool:
        """Whether a namespace is served just now, or about to be."""
        return namespace in self._served or namespace in self._opening

    @property
    def is_full(self) -> bool:
        """As many namespaces are open as may be."""
        return len(self._served) >= self.settings.namespaces_max

    async def close(self, namespace: str) -> None:
        """End what runs for a namespace, until it is asked for again."""
        served = self._served.pop(namespace, None)
        if served is not None:
            await served.stop()

    def open_now(self) -> list[Served]:
        """What runs at the moment."""
        return list(self._served.values())

    async def _open(self, namespace: str, creates: bool) -> Served:
        settings = self.settings
        cb = Callboard(
            self.choice,
            check_namespace(namespace),
            durable=self._connecting.get("durable", False),
            adopt=self._connecting.get("adopt", False),
            call_timeout=settings.call_timeout,
            clock=self._connecting.get("clock"),
            creates=creates,
        )
        await cb.open()
        served = Served(cb, Hub(cb.events, settings.live))
        try:
            if settings.sweeps:
                served.janitor = cb.janitor()
                served.janitor.start()
            if settings.dispatches:
                from callboard.dispatch import Dispatcher, DispatchSettings

                how = settings.dispatch or DispatchSettings()
                if settings.strategy is not None:
                    how = msgspec.structs.replace(how, strategy=settings.strategy)
                served.dispatcher = Dispatcher(cb, how)
                await served.dispatcher.start()
        except BaseException:
            await served.stop()
            raise
        self._served[namespace] = served
        self._recalling.opened()
        await self._make_room(namespace)
        return served

    async def _make_room(self, newest: str) -> None:
        """Close namespaces beyond the bound: of those without work the one unused the longest.

        Never the *newest*, which somebody asks for just now.
        """
        while len(self._served) > self.settings.namespaces_max:
            unused = sorted(
                (one.used_at, name)
                for name, one in self._served.items()
                if name not in (self.settings.namespace, newest) and one.hub.is_idle
            )
            if not unused:
                return
            for used_at, name in unused:
                served = self._served.get(name)
                if served is None or served.used_at != used_at:
                    break  # somebody came meanwhile: look anew
                if not await _has_work(served):
                    await self.close(name)
                    break
            else:
                name = unused[0][1]
                _log.warning(
                    "More than %d namespaces have work, so that of %s waits until it is asked "
                    "for. Start another coordinator with a --namespace of its own.",
                    self.settings.namespaces_max,
                    name,
                )
                await self.close(name)

    async def _await_connection(self, cb: Callboard) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_SECONDS
        while not cb.is_connected:
            if loop.time() >= give_up_at:
                raise EngineUnavailable(
                    "The engine cannot be reached just now. Nothing was done; repeat the "
                    "request in a moment."
                )
            await asyncio.sleep(0.01)


async def _has_work(served: Served) -> bool:
    """Whether a namespace has something to do; taken as true where that cannot be known."""
    try:
        return await has_work(served.cb)
    except CallboardError:
        return True


class Application:
    """The ASGI application: finds the route, checks the role, answers."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator
        self.router = Router(all_routes())
        coordinator.routes = self.router.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or serve one WebSocket."""
        kind = scope["type"]
        if kind == "http":
            reply = await self._answer(scope, receive, send)
            if reply is not None:
                await send_reply(scope, send, reply)
        elif kind == "websocket":
            await self._socket(scope, receive, send)
        else:
            raise RuntimeError(f"{kind} is nothing that this application serves")

    def screen(self, scope: Scope) -> Reply | None:
        """The refusal of a request whatever its body holds; None where it may be read."""
        found = self._find(scope)
        return found if isinstance(found, Reply) else None

    def _find(self, scope: Scope) -> tuple[Route, dict[str, str]] | Reply:
        """The route and the values of its path, looked for once; or the refusal."""
        state = scope.setdefault("state", {})
        known: tuple[Route, dict[str, str]] | Reply | None = state.get("found")
        if known is not None:
            return known
        state["found"] = found = self._look(scope, state)
        return found

    def _look(self, scope: Scope, state: dict[str, Any]) -> tuple[Route, dict[str, str]] | Reply:
        verb = scope["method"]
        raw = scope.get("raw_path") or scope["path"].encode()
        found = self.router.find("GET" if verb == "HEAD" else verb, raw)
        if not found or isinstance(found[0], str):
            if verb == "GET" and "WEBSOCKET" in found:
                return errors.upgrade_needed()
            return errors.not_allowed(found) if found else errors.missing()
        route, path = found
        state["route"] = route
        if route.role in AUDITED:
            state["asked"] = (_asked(route), route.role, "/".join(path.values()))
        refusal = refusal_of(state.get("caller"), route)
        return (route, path) if refusal is None else refusal

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Reply | None:
        found = self._find(scope)
        if isinstance(found, Reply):
            return found
        route, path = found
        state = scope["state"]
        call = Call(scope, receive, send, route, path, self.coordinator)
        try:
            return await route.handle(call)
        except Gone:
            return None
        except Exception as error:
            state["outcome"] = getattr(error, "code", type(error).__name__)
            return errors.reply_of(error, route)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or scope["path"].encode()
        found = self.router.find("WEBSOCKET", raw)
        if not found or isinstance(found[0], str):
            await deny(scope, receive, send, errors.missing())
            return
        route, path = found
        scope.setdefault("state", {})["route"] = route
        call = Call(scope, receive, send, route, path, self.coordinator)
        refusal = refusal_of(call.caller, route)
        if refusal is not None:
            await deny(scope, receive, send, refusal)
            return
        await route.handle(call)


def refusal_of(caller: Caller | None, route: Route) -> Reply | None:
    """The refusal of a caller whose role does not suffice, or whom nobody vouched for."""
    if route.role is None:
        return None
    if caller is None:  # The guard is missing in front of this: serve nobody.
        return errors.refused(401, "Nothing says who asks.", "not_authenticated")
    if includes(caller.role, route.role):
        return None
    return errors.forbidden(caller.role, route.role)


def _asked(route: Route) -> str:
    """What the audit log calls it."""
    operation = route.operation
    return operation.name if operation is not None else f"{route.verb} {route.path}"


async def send_reply(scope: Scope, send: Send, reply: Reply) -> None:
    """Send an answer that is complete, in one message where the server takes it so."""
    body = b"" if scope["method"] == "HEAD" else reply.body
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    if WHOLE in scope.get("extensions", ()):
        await send(
            {
                "type": ANSWER,
                "status": reply.status,
                "headers": headers,
                "body": body,
                "block": b"",
            }
        )
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
