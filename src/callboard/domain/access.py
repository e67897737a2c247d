"""Who may do what: roles, API keys, callers, and the entries of the audit log."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from callboard.domain.bounds import check_list, check_text, check_whole
from callboard.domain.names import check_name
from callboard.exceptions import InvalidArgument, NotPermitted

Role = Literal["read", "work", "operate", "admin"]
ROLES: Final[tuple[Role, ...]] = ("read", "work", "operate", "admin")
"""Each may do what those before it may."""

AUDITED: Final[frozenset[Role]] = frozenset({"operate", "admin"})
"""Roles whose doings are written into the audit log."""

ALL_NAMESPACES: Final = "*"
DEFAULT_NAMESPACE: Final = ""
"""How a key names the namespace that has no name."""

NAMESPACES_MAX: Final = 100
LIFETIME_MIN: Final = 60.0
LIFETIME_MAX: Final = 10 * 366 * 86_400.0
RATE_MIN: Final = 0.001
RATE_MAX: Final = 100_000.0
BURST_MAX: Final = 1_000_000
TEXT_MAX: Final = 200
"""Characters of a field of the audit log; what is longer is cut."""

KEY_ID_LENGTH: Final = 12
SECRET_BYTES: Final = 32

_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_TOKEN: Final = re.compile(r"cb_([a-z0-9]{12})_([A-Za-z0-9_-]{43})", re.ASCII)

KeyStatus = Literal["active", "revoked", "expired"]


def includes(role: Role, wanted: Role) -> bool:
    """Whether who has *role* may do what takes *wanted*."""
    return ROLES.index(role) >= ROLES.index(wanted)


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an API key; its secret is known only to who was given it.

    Attributes:
        id: The part of the key that may be shown, 12 letters and digits.
        namespaces: Where it may be used: names, ``""`` for the default one, or ``("*",)``.
        agent: The only agent that may be acted as with it; None for any.
        rate: Requests a second that are let through; None for what the coordinator says.
        burst: Requests that may come at once after a quiet time.
        last_used_at: When it was last used, a minute more or less.
    """

    id: str
    name: str
    role: Role
    status: KeyStatus
    namespaces: tuple[str, ...]
    agent: str | None
    rate: float | None
    burst: int | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new API key.

    Attributes:
        secret: The whole text that a caller shows, ``cb_<id>_<secret>``. It is stored nowhere
            and can be had only from this answer.
    """

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"IssuedKey(key={self.key!r}, secret='cb_{self.key.id}_…')"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """An API key with the hash of its secret.

    Attributes:
        unused_for: Seconds since its use was last noted; ``math.inf`` where it never was.
    """

    key: ApiKey
    digest: bytes
    unused_for: float

    def matches(self, secret: str) -> bool:
        """Whether this is the secret, in a time that does not depend on where they differ."""
        return hmac.compare_digest(digest_of(secret), self.digest)

    def __repr__(self) -> str:
        return f"Credential(key={self.key!r})"


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """Stands for an API key in an address, where no header can be set: once, for a minute.

    Attributes:
        expires_in: Seconds for which it holds.
    """

    ticket: str
    expires_in: float


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done, or tried, by an operator or administrator.

    Attributes:
        cursor: Names the entry: read on from it.
        name: Of the API key, or of who gave a command on the engine itself.
        key: The id of the API key; empty where there was none.
        address: Where the request came from.
        operation: ``service.method``.
        target: What it was done to; never what was sent.
        outcome: ``ok``, or the code of the error.
        request: The id of the request, as in the logs and the answer's headers.
    """

    cursor: str
    at: datetime
    name: str = ""
    key: str = ""
    role: str = ""
    address: str = ""
    namespace: str = ""
    operation: str = ""
    target: str = ""
    outcome: str = ""
    request: str = ""


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of the audit log, the newest first.

    Attributes:
        cursor: Where older ones are read on from; None where there are none.
    """

    entries: tuple[AuditEntry, ...]
    cursor: str | None


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a request, and what they may do.

    Attributes:
        name: Of the API key, ``anonymous`` without one.
        key_id: None without an API key.
    """

    name: str
    role: Role
    namespaces: tuple[str, ...] = (ALL_NAMESPACES,)
    agent: str | None = None
    key_id: str | None = None
    address: str = ""

    def check(self, role: Role) -> None:
        """Raise NotPermitted unless the caller may do what takes *role*."""
        if not includes(self.role, role):
            raise NotPermitted(
                f"This takes the role {role}, and {self._who} has the role {self.role}. "
                "Use a key with more, or have one made: callboard keys create NAME "
                f"--role {role}",
                role=self.role,
                wanted=role,
            )

    def check_namespace(self, namespace: str) -> None:
        """Raise NotPermitted unless the caller may use the namespace."""
        if not self.may_use(namespace):
            raise NotPermitted(
                f"{self._who.capitalize()} may not use namespace {namespace or 'default'!r}.",
                namespace=namespace,
            )

    def may_use(self, namespace: str) -> bool:
        """Whether the caller may use the namespace."""
        return ALL_NAMESPACES in self.namespaces or namespace in self.namespaces

    def check_everywhere(self) -> None:
        """Raise NotPermitted unless the caller may use all namespaces: keys are of all."""
        if ALL_NAMESPACES not in self.namespaces:
            raise NotPermitted(
                f"{self._who.capitalize()} holds for some namespaces only, and API keys and the "
                "audit log are of all. Use one made without --namespace.",
            )

    def check_agent(self, agent: str | None) -> None:
        """Raise NotPermitted unless the caller may act as *agent*."""
        if self.agent is not None and agent != self.agent:
            raise NotPermitted(
                f"{self._who.capitalize()} is for agent {self.agent!r} alone.", agent=self.agent
            )

    @property
    def _who(self) -> str:
        return f"key {self.name!r}" if self.key_id else "who shows no key"


def new_token() -> tuple[str, str, str]:
    """The id, the secret and the whole text of a new API key.

    The secret has 256 bits of the system's randomness.
    """
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(KEY_ID_LENGTH))
    secret = secrets.token_urlsafe(SECRET_BYTES)
    return key_id, secret, f"cb_{key_id}_{secret}"


def parse_token(text: str) -> tuple[str, str] | None:
    """The id and the secret in the text of an API key; None where it is none."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else (match[1], match[2])


def digest_of(secret: str) -> bytes:
    """What is stored of a secret: its SHA-256.

    A slow hash makes guesses dear, which protects what people choose. Nobody guesses one of
    2^256, so the fast one gives nothing away, and each request can afford it.
    """
    return hashlib.sha256(secret.encode()).digest()


def check_role(value: Any) -> Role:
    """Return *value* if it is a role. Raises InvalidArgument."""
    if value not in ROLES:
        raise InvalidArgument(
            f"Role {value!r} is none of {', '.join(ROLES)}: each may do what those before it may.",
            field="role",
        )
    return value  # type: ignore[no-any-return]


def check_namespaces(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the namespaces that a key is for. Raises InvalidArgument."""
    names = check_list("namespaces", values)
    if not 1 <= len(names) <= NAMESPACES_MAX:
        raise InvalidArgument(
            f"namespaces must be 1 to {NAMESPACES_MAX} names, or '*' for all.", field="namespaces"
        )
    if ALL_NAMESPACES in names:
        return (ALL_NAMESPACES,)
    for name in names:
        if name != DEFAULT_NAMESPACE:
            check_name("namespace", name)
    return tuple(dict.fromkeys(names))


def check_rate(rate: Any, burst: Any) -> tuple[float | None, int | None]:
    """Return requests a second and how many may come at once. Raises InvalidArgument."""
    if rate is None:
        if burst is not None:
            raise InvalidArgument("burst says nothing without rate.", field="burst")
        return None, None
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not is_number or not RATE_MIN <= rate <= RATE_MAX:
        raise InvalidArgument(
            f"rate is {rate!r}; it must be from {RATE_MIN:g} to {RATE_MAX:,.0f} requests a second.",
            field="rate",
        )
    if burst is None:
        return float(rate), max(1, math.ceil(rate))
    return float(rate), check_whole("burst", burst, 1, BURST_MAX)


def interval_us(rate: float) -> int:
    """The time between two requests at this rate, rounded up, so that it is never passed."""
    return math.ceil(1_000_000 / rate)


def cut(what: str, value: Any) -> str:
    """A text for the audit log: of one line, and not longer than it may be."""
    text = " ".join(check_text(what, value).split())
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
