"""One table of routes, and the router made of it: a walk over the path's segments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from callboard.domain.access import Role
from callboard.exceptions import EngineUnavailable, InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.http.app import Coordinator
    from callboard.operations import Operation

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON: Final = "application/json"
POLICY_VIOLATION: Final = 1008


class Reply(msgspec.Struct, frozen=True):
    """An answer that is complete in memory."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: str = JSON


class Call:
    """One request, as a handler sees it.

    Attributes:
        scope, receive, send: As of ASGI; most handlers need none of them.
        route: What was asked for.
        path: The values of the path's parameters, by name, decoded.
        coordinator: What this process serves.
        caller: Who asks: name, role, namespaces.
    """

    __slots__ = ("caller", "coordinator", "namespace", "path", "receive", "route", "scope", "send")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        path: dict[str, str],
        coordinator: Coordinator,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.route = route
        self.path = path
        self.coordinator = coordinator
        state = scope.get("state") or {}
        self.caller = state.get("caller")
        self.namespace: str = state.get("namespace", coordinator.settings.namespace)

    async def board(self) -> Callboard:
        """The open connection to the caller's namespace; raises EngineUnavailable at once.

        Raises:
            NamespaceNotFound: It is not there, and the caller may only read.
        """
        return await self.coordinator.board(self.namespace, creates=self.creates)

    @property
    def creates(self) -> bool:
        """Whether a namespace comes into being as the caller asks for it: not by looking."""
        return self.caller is None or self.caller.role != "read"

    async def body(self) -> bytes:
        """The whole body of the request, which is text; its bound was watched on the way.

        Raises:
            msgspec.DecodeError: It is no UTF-8. Parts that are kept as they were sent would
                not be looked at otherwise, and whoever reads them later would fail.
        """
        found = await self._whole()
        if not found.isascii():
            try:
                found.decode()
            except UnicodeDecodeError as error:
                raise msgspec.DecodeError(f"byte {error.start} is no UTF-8") from error
        return found

    async def _whole(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            found: bytes = message.get("body", b"")
            return found
        parts: list[bytes] = []
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self.receive()
        raise Gone

    def query(self) -> dict[str, list[str]]:
        """The values behind the question mark, by name, in order."""
        raw: bytes = self.scope.get("query_string", b"")
        if not raw:
            return {}
        try:
            return parse_qs(
                raw.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=QUERY_FIELDS_MAX,
            )
        except ValueError as error:
            raise InvalidArgument(f"The query cannot be read: {error}.", place="query") from error

    def header(self, name: bytes) -> str | None:
        """The value of a header, whose *name* is in lower case; the first of several."""
        for key, value in self.scope["headers"]:
            if key == name:
                return str(value.decode("latin-1"))
        return None


class Gone(Exception):
    """The caller went away in the middle of its request: nobody waits for an answer."""


QUERY_FIELDS_MAX: Final = 1_000

Handler = Callable[[Call], Awaitable[Reply | None]]
"""Answers a request, or has sent the answer itself and returns None."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One verb on one path.

    Attributes:
        verb, path: ``{name}`` in the path takes one segment.
        handle: Answers it.
        role: What the caller must be; None where anybody may ask.
        summary, description: For the documentation.
        tag: The group it is listed under.
        operation: What it is made of, where it is an operation of the library.
        body, query: The structs of what is sent; None where nothing is.
        example: A body that does something where it is pasted; None where the types suffice.
        answers: Status and type of what comes back; None as a type for no JSON.
        content_type: Of the answer.
        is_documented: It keeps the shapes of the source's interface: an unknown name is
            answered ``Resource not found`` without details, unknown fields are ignored.
        is_streaming: The answer has no end of its own.
        needs_key: It is about the caller's API key: without one there is nothing to do.
    """

    verb: str
    path: str
    handle: Handler
    role: Role | None
    summary: str
    description: str = ""
    tag: str = ""
    operation: Operation | None = None
    body: Any = None
    query: Any = None
    example: Any = None
    answers: Mapping[int, Any] = field(default_factory=dict)
    content_type: str = JSON
    is_documented: bool = False
    is_streaming: bool = False
    needs_key: bool = False


class _Node:
    __slots__ = ("named", "other", "routes")

    def __init__(self) -> None:
        self.named: dict[str, _Node] = {}
        self.other: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...]]] = {}


class Router:
    """Finds the route of a request. A fixed segment goes before one that takes any value."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self._fixed: dict[tuple[str, bytes], Route] = {}
        self.routes: list[Route] = []
        for route in routes:
            self._add(route)

    def find(self, verb: str, raw_path: bytes) -> tuple[Route, dict[str, str]] | tuple[str, ...]:
        """The route and the values of its path; else the verbs that the path has, if any."""
        fixed = self._fixed.get((verb, raw_path))
        if fixed is not None:
            return fixed, {}
        try:
            segments = [unquote_to_bytes(part).decode() for part in raw_path.split(b"/")[1:]]
        except UnicodeDecodeError:
            return ()
        if segments and not segments[-1]:
            segments.pop()  # A slash at the end names the same thing.
        verbs: set[str] = set()
        found = self._walk(self._root, segments, 0, (), verb, verbs)
        return found if found is not None else tuple(sorted(verbs))

    def _walk(
        self,
        node: _Node,
        segments: list[str],
        at: int,
        values: tuple[str, ...],
        verb: str,
        verbs: set[str],
    ) -> tuple[Route, dict[str, str]] | None:
        if at == len(segments):
            if verb in node.routes:
                route, names = node.routes[verb]
                return route, dict(zip(names, values, strict=True))
            verbs.update(node.routes)
            return None
        named = node.named.get(segments[at])
        if named is not None:
            found = self._walk(named, segments, at + 1, values, verb, verbs)
            if found is not None:
                return found
        if node.other is not None and segments[at]:
            return self._walk(node.other, segments, at + 1, (*values, segments[at]), verb, verbs)
        return None

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.split("/")[1:]:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                if node.other is None:
                    node.other = _Node()
                node = node.other
            elif segment:
                node = node.named.setdefault(segment, _Node())
        if route.verb in node.routes:
            raise ValueError(f"{route.verb} {route.path} is there twice")
        node.routes[route.verb] = route, tuple(names)
        if not names:
            self._fixed[route.verb, route.path.encode()] = route
        self.routes.append(route)


def unavailable(what: str) -> EngineUnavailable:
    """The engine cannot be reached just now."""
    return EngineUnavailable(
        f"The engine is away: {what}. Nothing was done; repeat the request in a moment."
    )


async def deny(scope: Scope, receive: Receive, send: Send, reply: Reply) -> None:
    """Refuse a WebSocket before it is one: by an answer of HTTP, where the server can."""
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "refused"})
        return
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send(
        {"type": "websocket.http.response.start", "status": reply.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": reply.body})
