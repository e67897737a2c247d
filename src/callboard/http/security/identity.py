"""Who asks: by an API key, by a ticket, or, on this machine alone, without either."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

from callboard.config import check_namespace
from callboard.domain.access import (
    ALL_NAMESPACES,
    Caller,
    Credential,
    parse_token,
)
from callboard.exceptions import (
    ConfigError,
    EngineError,
    InvalidArgument,
    NotAuthenticated,
    NotPermitted,
)
from callboard.http.route import QUERY_FIELDS_MAX
from callboard.http.security.cors import Cors
from callboard.http.security.settings import AccessSettings, is_loopback
from callboard.http.security.strangers import Strangers
from callboard.services.access import USE_NOTED_SECONDS, Access

ANONYMOUS: Final = "anonymous"
NAMESPACE_HEADER: Final = b"x-callboard-namespace"
PROTOCOL: Final = "callboard"
"""The subprotocol of ``/ws``, offered beside one that holds the key: ``bearer.cb_…``."""

_BEARER: Final = "bearer."
_FORWARDED: Final = frozenset(
    b"cdn-loop cf-connecting-ip cf-ray fastly-client-ip forwarded true-client-ip via x-client-ip "
    b"x-cluster-client-ip x-envoy-external-address x-forwarded x-forwarded-by x-forwarded-for "
    b"x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-server x-original-host "
    b"x-real-ip".split()
)
"""What proxies say of themselves, where they say anything."""

KNOWN_MAX: Final = 2_000
"""Keys that are remembered at once: twice as many as there can be."""

_UNIQUE: Final = (b"host", b"authorization", b"x-api-key", NAMESPACE_HEADER, b"origin")
_SAME: Final = (b"same-origin", b"none")

Headers = Mapping[bytes, bytes]
Place = Literal["header", "query"]
"""Where a request said it."""

_HEADER: Final[Place] = "header"
_QUERY: Final[Place] = "query"
_NAMESPACE_FIELDS: Final[Mapping[Place, str]] = {
    "header": NAMESPACE_HEADER.decode(),
    "query": "namespace",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is believed of a key until *until*, by the clock of the loop."""

    credential: Credential
    until: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, for which namespace, and how often they may."""

    caller: Caller
    namespace: str
    bucket: str
    rate: float | None
    burst: int | None


class Keyring:
    """Compares what callers show with the keys of the engine, which it looks up now and then.

    A key that was revoked, or ran out, is refused once what is known of it is older than
    *seconds*: each process forgets by itself, and while the engine is away nobody new is
    believed. Who shows what does not hold is one of the *strangers*, whom the engine is asked
    about so often and not more.
    """

    def __init__(
        self, access: Callable[[], Awaitable[Access]], seconds: float, strangers: Strangers
    ) -> None:
        self._access = access
        self._seconds = seconds
        self._strangers = strangers
        self._known: dict[str, Known] = {}

    async def by_token(self, text: str, who: str) -> Credential:
        """The key of this text, shown from address *who*.

        Raises:
            NotAuthenticated: It does not hold.
            RateLimited: Too much came from there that did not. A key that was known before is
                looked at all the same.
            EngineError: It cannot be looked up just now.
        """
        token = parse_token(text)
        if token is None:
            self._strangers.take(who)
            raise NotAuthenticated(
                "This is no API key: one begins with cb_ and is shown as "
                "'Authorization: Bearer cb_…'. Have one made: callboard keys create NAME"
            )
        key_id, secret = token
        known = self._known.get(key_id)
        if known is None:
            with self._strangers.counted(who):
                return await self._compared(await self._look_up(key_id), secret, True)
        is_new = known.until <= asyncio.get_running_loop().time()
        credential = await self._look_up(key_id) if is_new else known.credential
        try:
            return await self._compared(credential, secret, is_new)
        except NotAuthenticated:
            self._strangers.take(who)
            raise

    async def by_ticket(self, ticket: str, who: str) -> Credential:
        """The key that a ticket stands for. Raises as *by_token* does."""
        with self._strangers.counted(who):
            access = await self._access()
            credential = await self._look_up(await access.redeem(ticket))
            if credential is None:
                raise _unknown()
            return await self._holding(credential, False)

    async def check(self, key_id: str) -> None:
        """Raise NotAuthenticated where a key that was believed does not hold any more."""
        known = self._known.get(key_id)
        is_new = known is None or known.until <= asyncio.get_running_loop().time()
        credential = await self._look_up(key_id) if is_new else known.credential  # type: ignore[union-attr]
        if credential is None:
            raise _unknown()
        await self._holding(credential, is_new)

    async def _compared(
        self, credential: Credential | None, secret: str, is_new: bool
    ) -> Credential:
        if credential is None or not credential.matches(secret):
            raise _unknown()
        return await self._holding(credential, is_new)

    async def _look_up(self, key_id: str) -> Credential | None:
        access = await self._access()
        credential = await access.credential(key_id)
        self._known.pop(key_id, None)
        if credential is None:
            return None
        now = asyncio.get_running_loop().time()
        self._known[key_id] = Known(credential, now + self._seconds)
        if len(self._known) > KNOWN_MAX:
            # Forgotten by the engine long ago, or not looked up for the longest.
            del self._known[next(iter(self._known))]
        return credential

    async def _holding(self, credential: Credential, is_new: bool) -> Credential:
        """Raise NotAuthenticated where the key does not hold; note its use now and then."""
        key = credential.key
        if key.status != "active":
            what = "was revoked" if key.status == "revoked" else "ran out"
            raise NotAuthenticated(
                f"API key {key.name!r} {what}. Have another one made: callboard keys create NAME",
                status=key.status,
            )
        if is_new and credential.unused_for >= USE_NOTED_SECONDS:
            with suppress(EngineError):
                await (await self._access()).use(key.id)
        return credential


class Doorkeeper:
    """Tells who makes a request, from its headers and where it came from."""

    def __init__(self, settings: AccessSettings, keyring: Keyring, cors: Cors) -> None:
        self._settings = settings
        self._keyring = keyring
        self._cors = cors
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)

    async def check(self, caller: Caller) -> None:
        """Raise NotAuthenticated where the key of a caller does not hold any more."""
        if caller.key_id is not None:
            await self._keyring.check(caller.key_id)

    async def identify(self, scope: dict[str, Any], headers: Headers) -> Identity:
        """Who asks; on a path that takes no key, one who may only read and is not counted.

        What was shown in the query, a ticket, is taken out of it, so that it gets into no log.

        Raises:
            NotAuthenticated: Nothing was shown that holds.
            RateLimited: Too much came from this address that did not hold.
            NotPermitted: The namespace is not the caller's, or the request came by a page of
                another origin.
            InvalidArgument: A header came twice, or the namespace is none.
            EngineError: Keys cannot be looked up just now.
        """
        client = scope.get("client")
        address = client[0] if client else ""
        token, ticket, namespace, place = shown(scope, headers)
        if token is None and ticket is None:
            if scope["type"] == "http" and scope["path"] in self._settings.public:
                return Identity(_stranger(address), self._settings.namespace, "", None, None)
            self._check_anonymous(scope, headers, address)
            caller = Caller(name=ANONYMOUS, role="admin", address=address)
            settings = self._settings
            return Identity(
                caller,
                self._namespace(caller, namespace, place),
                f"address:{_network(address)}",
                settings.rate,
                settings.burst,
            )
        if token is not None:
            credential = await self._keyring.by_token(token, _network(address))
        else:
            credential = await self._keyring.by_ticket(ticket or "", _network(address))
        key = credential.key
        caller = Caller(
            name=key.name,
            role=key.role,
            namespaces=key.namespaces,
            agent=key.agent,
            key_id=key.id,
            address=address,
        )
        own = key.rate is not None
        return Identity(
            caller,
            self._namespace(caller, namespace, place),
            f"key:{key.id}",
            key.rate if own else self._settings.rate,
            key.burst if own else self._settings.burst,
        )

    def _namespace(self, caller: Caller, given: str | None, place: Place) -> str:
        """The namespace that is meant: the one given, else that of coordinator or key."""
        if given is not None:
            try:
                name = check_namespace(given)
            except ConfigError as error:
                raise InvalidArgument(
                    error.message, field=_NAMESPACE_FIELDS[place], place=place
                ) from error
            caller.check_namespace(name)
            return name
        own = self._settings.namespace
        if ALL_NAMESPACES in caller.namespaces or own in caller.namespaces:
            return own
        if len(caller.namespaces) == 1:
            return caller.namespaces[0]
        names = ", ".join(name or "the default one" for name in caller.namespaces)
        raise InvalidArgument(
            f"Key {caller.name!r} is for several namespaces. Say which is meant in the header "
            f"X-Callboard-Namespace, which is empty for the default one: {names}.",
            field=_NAMESPACE_FIELDS["header"],
            place="header",
        )

    def _check_anonymous(self, scope: dict[str, Any], headers: Headers, address: str) -> None:
        """Raise unless who shows no key may be served as one who is on this machine."""
        settings = self._settings
        if settings.require_keys:
            raise NotAuthenticated(
                "An API key is needed here: 'Authorization: Bearer cb_…'. Have one made: "
                "callboard keys create NAME"
            )
        if not settings.anonymous_anywhere:
            is_near = not address or is_loopback(address)
            if not is_near or not _FORWARDED.isdisjoint(headers):
                raise NotAuthenticated(
                    "Without an API key only programs on the coordinator's own machine are "
                    "served, and this came from elsewhere, or through a proxy. Have one made: "
                    "callboard keys create NAME"
                )
        # A page of another site could have its own name point here (DNS rebinding), or send
        # what needs no reading of the answer.
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._is_allowed_host(host):
            raise NotPermitted(
                f"The request is for host {host[:100]!r}, which is not a name of this machine. "
                "Allow it (allowed_hosts, --allow-host), or use an API key.",
                host=host[:100],
            )
        origin = headers.get(b"origin")
        if origin is not None:
            scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
            if origin != f"{scheme}://{host}".encode() and not self._cors.allows(origin):
                raise NotPermitted(
                    f"A page of {origin[:100].decode('latin-1')!r} may not ask here without an "
                    "API key. Allow its origin (cors_origins, --cors-origin), or use a key.",
                )
        elif headers.get(b"sec-fetch-site", b"none") not in _SAME:
            raise NotPermitted("A page of another site may not ask here without an API key.")

    def _is_allowed_host(self, host: str) -> bool:
        name = _name_of(host)
        if name in self._hosts or host in self._hosts or is_loopback(name):
            return True
        if not self._settings.anonymous_anywhere:
            return False
        # An address, or a name without a domain, cannot be had by the owner of a page.
        return "." not in name or _is_address(name)


def shown(
    scope: dict[str, Any], headers: Headers
) -> tuple[str | None, str | None, str | None, Place]:
    """The API key, the ticket and the namespace that a request came with, and where that stood.

    A ticket, and with it the namespace, stands in the query where no header can be set: of
    a WebSocket, or an EventSource. Both are taken out of the scope.
    """
    if len(headers) != len(scope["headers"]):
        _check_unique(scope["headers"])
    namespace = headers.get(NAMESPACE_HEADER)
    token: str | None = None
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, rest = authorization.decode("latin-1").partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else ""
    elif b"x-api-key" in headers:
        token = headers[b"x-api-key"].decode("latin-1").strip()
    name = None if namespace is None else namespace.decode("latin-1").strip()
    is_socket = scope["type"] == "websocket"
    if is_socket and token is None:
        token = _of_protocols(scope)
    ticket, place = None, _HEADER
    if is_socket or (token is None and b"ticket=" in scope["query_string"]):
        ticket, given = _of_query(scope, is_socket)
        name, place = (name, _HEADER) if given is None else (given, _QUERY)
    return token, ticket if token is None else None, name, place


def _of_protocols(scope: dict[str, Any]) -> str | None:
    """The key among the offered subprotocols, which is then offered no more."""
    offered = list(scope.get("subprotocols") or ())
    keys = [one for one in offered if one.startswith(_BEARER)]
    if not keys:
        return None
    scope["subprotocols"] = [one for one in offered if not one.startswith(_BEARER)]
    return str(keys[0][len(_BEARER) :])


def _of_query(scope: dict[str, Any], is_socket: bool) -> tuple[str | None, str | None]:
    if not (is_socket or scope["method"] == "GET"):
        return None, None
    raw = scope["query_string"]
    if b"ticket=" not in raw and b"namespace=" not in raw:
        return None, None
    try:
        pairs = parse_qsl(
            raw.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX
        )
    except ValueError as error:
        raise InvalidArgument(f"The query cannot be read: {error}.", place="query") from error
    found = dict(pairs)
    left = [pair for pair in pairs if pair[0] not in ("ticket", "namespace")]
    scope["query_string"] = urlencode(left).encode()
    return found.get("ticket"), found.get("namespace")


def _check_unique(headers: list[tuple[bytes, bytes]]) -> None:
    """Two of these would be read one way here and another way elsewhere."""
    names = [name for name, _ in headers]
    for name in _UNIQUE:
        if names.count(name) > 1:
            raise InvalidArgument(
                f"The header {name.decode()} came more than once.",
                field=name.decode(),
                place="header",
            )


def _stranger(address: str) -> Caller:
    return Caller(name=ANONYMOUS, role="read", namespaces=(), address=address)


def _unknown() -> NotAuthenticated:
    return NotAuthenticated("There is no such API key. Have one made: callboard keys create NAME")


def _name_of(host: str) -> str:
    """The host without its port; what is not of that form stays as it is, and is no name."""
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        is_one = not port or port == ":" or (port[0] == ":" and port[1:].isdigit())
        return name if is_one else host
    return host.rpartition(":")[0] if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1_024)
def _network(address: str) -> str:
    """Whom an address stands for: a host of IPv6 has as many as it likes within its /64."""
    if ":" not in address:
        return address
    with suppress(ValueError):
        whole = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(whole, ipaddress.IPv6Address) and whole.ipv4_mapped is None:
            return str(ipaddress.ip_network((whole, 64), strict=False).network_address)
    return address
