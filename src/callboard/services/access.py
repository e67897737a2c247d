"""API keys, how often they may ask, and the log of what was done with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from callboard.domain.access import (
    ALL_NAMESPACES,
    KEY_ID_LENGTH,
    LIFETIME_MAX,
    LIFETIME_MIN,
    ApiKey,
    AuditEntry,
    AuditPage,
    Credential,
    IssuedKey,
    KeyStatus,
    Role,
    Ticket,
    check_namespaces,
    check_rate,
    check_role,
    cut,
    digest_of,
    interval_us,
    new_token,
)
from callboard.domain.bounds import check_string, check_whole
from callboard.domain.names import check_name
from callboard.domain.task import at_ms, check_seconds, to_ms
from callboard.engine.answers import checked
from callboard.engine.replies import raise_refusal
from callboard.engine.reserved import ReservedNamespace
from callboard.exceptions import ApiKeyNotFound, InvalidArgument

TICKET_SECONDS: Final = 60.0
USE_NOTED_SECONDS: Final = 60.0
SERVED_KEPT_MS: Final = 30 * 86_400_000
SERVED_MAX: Final = 1_000
AUDIT_LOOKED_AT_MAX: Final = 5_000
AUDIT_FIELDS: Final = tuple(
    "name key role address namespace operation target outcome request".split()
)

ApiKeys = list[ApiKey]


class Access:
    """The API keys of an engine, for all of its namespaces.

    They matter to who comes by HTTP. Who can reach the engine itself needs none.
    """

    def __init__(self, place: ReservedNamespace) -> None:
        self._place = place

    async def create(
        self,
        name: str,
        *,
        role: Role = "work",
        namespaces: Iterable[str] = (ALL_NAMESPACES,),
        agent: str | None = None,
        expires_in: float | None = None,
        rate: float | None = None,
        burst: int | None = None,
        by: str = "",
        by_key: str = "",
        address: str = "",
    ) -> IssuedKey:
        """Make an API key; its secret is in this answer and nowhere else.

        Only a hash of the secret is stored. Noted in the audit log in the same step.

        Args:
            name: What it is for, for people and the audit log; several may have the same.
            role: ``read``, ``work``, ``operate`` or ``admin``: each may do what those before
                it may.
            namespaces: Where it may be used; ``""`` is the default one, ``"*"`` all.
            agent: It may act as this agent alone.
            expires_in: Seconds that it holds for, 60 to ten years; None for ever.
            rate: Requests a second that are let through, 0.001 to 100,000; None for what the
                coordinator says.
            burst: Requests at once after a quiet time; else as many as come in a second.
            by: Who makes it.
            by_key: The id of the key with which they do.
            address: Where the request for it came from.

        Raises:
            InvalidArgument: A value is out of its bounds.
            TooLarge: 1,000 keys hold already. Of those that ended, the oldest make room.
        """
        per_second, most = check_rate(rate, burst)
        lifetime = 0
        if expires_in is not None:
            lifetime = check_seconds("expires_in", expires_in, LIFETIME_MIN, LIFETIME_MAX)
        key_id, secret, text = new_token()
        record = _Record(
            name=check_name("key name", name),
            role=check_role(role),
            namespaces=check_namespaces(namespaces),
            agent=None if agent is None else check_name("agent", agent),
            hash=digest_of(secret).hex(),
            rate=per_second,
            burst=most,
            by=cut("by", by),
        )
        functions = (await self._place.reach()).functions
        reply = await functions.call(
            "access_create",
            key_id,
            msgspec.json.encode(record),
            lifetime,
            record.by,
            cut("by_key", by_key),
            cut("address", address),
            record.name,
        )
        checked(reply, "ok", api_key=key_id)
        return IssuedKey(key=_credential(key_id, reply[1], b"", b"", 0).key, secret=text)

    async def list(self) -> ApiKeys:
        """All keys, the oldest first; those that ended are forgotten after 30 days at most."""
        functions = (await self._place.reach()).functions
        reply = await functions.call("access_list")
        checked(reply, "ok")
        found = [
            _credential(row[0].decode(), row[1], row[2], row[3], int(reply[1])).key
            for row in reply[2:]
        ]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def get(self, key_id: str) -> ApiKey:
        """One key, also one that ended. Raises ApiKeyNotFound."""
        found = await self.credential(key_id)
        if found is None:
            raise_refusal("api_key_not_found", api_key=key_id)
        return found.key

    async def revoke(
        self, key_id: str, *, by: str = "", by_key: str = "", address: str = ""
    ) -> ApiKey:
        """Take a key back for good; coordinators know within two seconds.

        Raises:
            ApiKeyNotFound: There is none with this id.
        """
        functions = (await self._place.reach()).functions
        reply = await functions.call(
            "access_revoke",
            _check_id(key_id),
            cut("by", by),
            cut("by_key", by_key),
            cut("address", address),
        )
        checked(reply, "ok", api_key=key_id)
        return _credential(key_id, reply[2], reply[3], reply[4], int(reply[1])).key

    async def credential(self, key_id: str) -> Credential | None:
        """One key with the hash of its secret, to compare what was shown; None: no such key."""
        functions = (await self._place.reach()).functions
        reply = await functions.call("access_read", _check_id(key_id))
        if reply[0] == b"api_key_not_found":
            return None
        checked(reply, "ok")
        return _credential(key_id, reply[2], reply[3], reply[4], int(reply[1]))

    async def use(self, key_id: str) -> None:
        """Remember that a key was used now. For coordinators, about once a minute each."""
        functions = (await self._place.reach()).functions
        reply = await functions.call("access_use", _check_id(key_id))
        checked(reply, "ok", api_key=key_id)

    async def take(self, bucket: str, *, rate: float, burst: int | None = None) -> float:
        """Let one request through by a rate that all coordinators count together.

        Args:
            bucket: Whose rate: a key's, or an address's.
            rate: Requests a second.
            burst: Requests at once after a quiet time; else as many as come in a second.

        Returns:
            0 where it is let through, else in how many seconds to try again.
        """
        per_second, most = check_rate(rate, burst)
        assert per_second is not None
        functions = (await self._place.reach()).functions
        reply = await functions.call(
            "access_take", cut("bucket", bucket), interval_us(per_second), most
        )
        checked(reply, "ok")
        return int(reply[1]) / 1_000

    async def ticket(self, key_id: str) -> Ticket:
        """A text that stands for a key, once and for a minute: for where no header can be set.

        Raises:
            ApiKeyNotFound: There is no such key.
        """
        _, secret, _ = new_token()
        functions = (await self._place.reach()).functions
        reply = await functions.call(
            "access_grant", digest_of(secret).hex(), _check_id(key_id), int(TICKET_SECONDS * 1_000)
        )
        checked(reply, "ok", api_key=key_id)
        return Ticket(ticket=secret, expires_in=TICKET_SECONDS)

    async def redeem(self, ticket: str) -> str:
        """The id of the key that a ticket stands for; it stands for nothing from then on.

        Raises:
            NotAuthenticated: It does not hold, or was used.
        """
        functions = (await self._place.reach()).functions
        digest = digest_of(check_string("ticket", ticket)).hex()
        reply = await functions.call("access_redeem", digest)
        checked(reply, "ok")
        return str(reply[1].decode())

    async def note(
        self,
        operation: str,
        *,
        name: str = "",
        key: str = "",
        role: str = "",
        address: str = "",
        namespace: str = "",
        target: str = "",
        outcome: str = "ok",
        request: str = "",
    ) -> str:
        """Append to the audit log; answers the entry's cursor.

        The newest 100,000 entries of the last 90 days are kept. Each text is cut at 200
        characters. What was sent has no place here: no payload, no secret.
        """
        given = (name, key, role, address, namespace, operation, target, outcome, request)
        fields: list[str] = []
        for what, value in zip(AUDIT_FIELDS, given, strict=True):
            if text := cut(what, value):
                fields += (what, text)
        functions = (await self._place.reach()).functions
        reply = await functions.call("access_note", *fields)
        checked(reply, "ok")
        return str(reply[1].decode())

    async def audit(
        self,
        *,
        cursor: str | None = None,
        since: datetime | None = None,
        name: str | None = None,
        operation: str | None = None,
        limit: int = 100,
    ) -> AuditPage:
        """What operators and administrators did, the newest first.

        Args:
            cursor: Of an entry or an earlier page: only what is older.
            since: Only what was done at this moment or later.
            name: Only what was done with keys of this name.
            operation: Only this one, as ``boards.pause``; or ``boards.*``.
            limit: 1 to 1,000. Where a filter passes over many entries, at most 5,000 are
                looked at, and the page may hold fewer, and still have a cursor.
        """
        check_whole("limit", limit, 1, 1_000)
        place = await self._place.reach()
        low = "-" if since is None else f"{max(to_ms(since, 'since'), 0)}-0"
        at = "+" if cursor is None else f"({_check_cursor(cursor)}"
        found: list[AuditEntry] = []
        looked_at = 0
        while len(found) < limit and looked_at < AUDIT_LOOKED_AT_MAX:
            count = limit if name is None and operation is None else 1_000
            rows = await place.read("XREVRANGE", place.keys.audit, at, low, "COUNT", count)
            for entry_id, values in rows:
                entry = _entry(entry_id.decode(), values)
                looked_at += 1
                at = f"({entry.cursor}"
                if _fits(entry, name, operation):
                    found.append(entry)
                if len(found) == limit:
                    break
            else:
                if len(rows) < count:
                    return AuditPage(entries=tuple(found), cursor=None)
        return AuditPage(entries=tuple(found), cursor=at[1:])

    async def _serve(self, names: Sequence[str], gone: Sequence[str] = ()) -> Sequence[str]:
        """Remember namespaces that are served, forget those that are gone.

        Answers all that are remembered, at most 1,000 of the last 30 days, the latest first.
        """
        functions = (await self._place.reach()).functions
        reply = await functions.call(
            "access_serve", SERVED_KEPT_MS, SERVED_MAX, len(gone), *gone, *names
        )
        checked(reply, "ok")
        return [name.decode() for name in reply[1:]]


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a key and never changes, as JSON."""

    name: str
    role: Role
    namespaces: tuple[str, ...]
    agent: str | None
    hash: str
    rate: float | None
    burst: int | None
    by: str


_decoder: Final = msgspec.json.Decoder(_Record)


def _credential(key_id: str, value: bytes, revoked: bytes, used: bytes, now_ms: int) -> Credential:
    """A key of what the engine has: ``created|expires|record``, ``revoked|by``, and its use."""
    created, expires, raw = value.split(b"|", 2)
    record = _decoder.decode(raw)
    revoked_at, _, revoked_by = revoked.partition(b"|")
    status: KeyStatus = "active"
    if revoked:
        status = "revoked"
    elif expires and int(expires) <= now_ms:
        status = "expired"
    key = ApiKey(
        id=key_id,
        name=record.name,
        role=record.role,
        status=status,
        namespaces=record.namespaces,
        agent=record.agent,
        rate=record.rate,
        burst=record.burst,
        created_at=at_ms(int(created)),
        created_by=record.by,
        expires_at=at_ms(int(expires)) if expires else None,
        last_used_at=at_ms(int(used)) if used else None,
        revoked_at=at_ms(int(revoked_at)) if revoked else None,
        revoked_by=revoked_by.decode(),
    )
    unused_for = max(now_ms - int(used), 0) / 1_000 if used else math.inf
    return Credential(key=key, digest=bytes.fromhex(record.hash), unused_for=unused_for)


def _check_id(value: Any) -> str:
    """Return *value* if it can be the id of a key: nothing else could be found."""
    text = check_string("key id", value)
    if len(text) != KEY_ID_LENGTH or not text.isascii() or not text.isalnum():
        shown = text if len(text) <= 40 else f"{text[:39]}…"
        raise ApiKeyNotFound(
            f"No API key {shown!r}: an id has {KEY_ID_LENGTH} letters and digits. "
            "List them: callboard keys list.",
            api_key=shown,
        )
    return text


def _check_cursor(value: Any) -> str:
    text = check_string("cursor", value)
    first, dash, second = text.partition("-")
    is_one = len(text) <= 40 and text.isascii() and first.isdigit() and second.isdigit() and dash
    if not is_one:
        raise InvalidArgument(
            f"cursor is {text[:40]!r}; use one that an entry or a page carried.", field="cursor"
        )
    return text


def _entry(entry_id: str, values: Any) -> AuditEntry:
    pairs = values.items() if isinstance(values, dict) else _pairs(values)
    fields = {name.decode(): value.decode(errors="replace") for name, value in pairs}
    known = {name: text for name, text in fields.items() if name in AUDIT_FIELDS}
    return AuditEntry(cursor=entry_id, at=at_ms(int(entry_id.partition("-")[0])), **known)


def _pairs(values: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(values[::2], values[1::2], strict=True)


def _fits(entry: AuditEntry, name: str | None, operation: str | None) -> bool:
    if name is not None and entry.name != name:
        return False
    if operation is None:
        return True
    if operation.endswith("*"):
        return entry.operation.startswith(operation[:-1])
    return entry.operation == operation
