"""The look at an engine before it is used: version, settings, whose database it is."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from callboard import exceptions
from callboard.engine.keys import FORMAT, Keys

REDIS_MIN: Final = (7, 0)
VALKEY_MIN: Final = (7, 2)
SCAN_ROUNDS_MAX: Final = 100

_FORMAT_KEY: Final = re.compile(rb"(\{[^{}]+\}:)?" + re.escape(FORMAT).encode())
_FORMAT_NUMBER: Final = re.compile(rb"[0-9]{1,9}")

Call = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the engine is, and how far its promises go.

    Attributes:
        software: ``valkey`` or ``redis``.
        durability: ``always`` (every acknowledged write is on disk), ``everysec`` (a power
            loss may cost the last second; a killed process costs nothing), ``snapshots``,
            ``none``, or ``unknown`` where the engine does not let us read its settings.
        incarnation: Of the namespace's events.
    """

    software: str
    version: str
    is_cluster: bool
    durability: str
    replicas: int
    maxmemory: int
    used_memory: int
    incarnation: str
    format: str


async def probe(
    call: Call, keys: Keys, functions_call: Call, *, adopt: bool, creates: bool = True
) -> EngineFacts:
    """Check the engine and open the namespace on it.

    Args:
        call: Runs a command; of a new link, where the connection comes back.
        functions_call: Runs one of our functions the same way.
        adopt: Use a non-empty database that has no format key of ours.
        creates: Make the namespace where it is missing.

    Raises:
        EngineUnsuitable: Version or settings would break a guarantee.
        ForeignDatabase: The database holds keys and none of them is ours, or something else
            under the name of our format key.
        NewerFormat: A newer release wrote the namespace.
        NamespaceNotFound: It is missing, and was not to be made.
    """
    try:
        info = parse_info(await call("INFO"))
        _check_version(info)
        _check_settings(info, keys)
        is_ours = await _has_format(call, keys)
        if not (is_ours or creates):
            raise exceptions.NamespaceNotFound(
                f"There is no namespace {keys.prefix[1:-2]!r} yet. It comes into being with the "
                "first key that does more than read in it.",
                namespace=keys.prefix[1:-2],
            )
        if not (is_ours or adopt):
            await _check_owner(call)
    except NoPermissionError as error:
        raise exceptions.EngineUnsuitable(
            f"The engine's user may not do what Callboard needs in namespace "
            f"{keys.prefix or 'default'!r}: {error}. Its rights are given by ACL SETUSER on the "
            "engine; docs/how-to/deploy.md lists those it needs."
        ) from error
    reply = await functions_call(
        "namespace_open", info.get("master_replid", ""), secrets.token_hex(4)
    )
    if reply[0] == b"newer_format":
        raise exceptions.NewerFormat(
            f"Namespace {keys.prefix or 'default'!r} was written in format {reply[1].decode()}, "
            f"which this "
            "release cannot read. Install a newer release of Callboard."
        )
    return EngineFacts(
        software="valkey" if "valkey_version" in info else "redis",
        version=info.get("valkey_version") or info.get("redis_version", ""),
        is_cluster=info.get("cluster_enabled") == "1",
        durability=await _durability(call, info),
        replicas=int(info.get("connected_slaves", 0)),
        maxmemory=int(info.get("maxmemory", 0)),
        used_memory=int(info.get("used_memory", 0)),
        incarnation=reply[3].decode(),
        format=f"{reply[1].decode()}.{reply[2].decode()}",
    )


def parse_info(raw: bytes | str | dict[Any, Any]) -> dict[str, str]:
    """The fields of an INFO reply."""
    text = raw.decode() if isinstance(raw, bytes) else str(raw)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and line[0] != "#")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _check_version(info: dict[str, str]) -> None:
    if "valkey_version" in info:
        found, least, name = info["valkey_version"], VALKEY_MIN, "Valkey"
    else:
        found, least, name = info.get("redis_version", "0"), REDIS_MIN, "Redis"
    if _version(found) < least:
        raise exceptions.EngineUnsuitable(
            f"The engine is {name} {found}; Callboard needs Redis 7.0 or Valkey 7.2, or newer, "
            "because its operations are server-side functions. Upgrade the server, or leave out "
            "the URL "
            "to use the bundled engine."
        )


def _check_settings(info: dict[str, str], keys: Keys) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise exceptions.EngineUnsuitable(
            f"The engine's maxmemory-policy is {policy}: under memory pressure it would delete "
            f"tasks, "
            "leases and locks. Set it: CONFIG SET maxmemory-policy noeviction."
        )
    if info.get("cluster_enabled") == "1" and not keys.prefix:
        raise exceptions.EngineUnsuitable(
            "On a Cluster the default namespace cannot be used, as its keys would lie in many "
            "slots. "
            "Name one: connect(url, namespace='team'), or --namespace team."
        )
    if info.get("role") == "slave":
        raise exceptions.EngineUnsuitable(
            "The engine is a replica, which takes no writes. Connect to its primary, or through "
            "Sentinel: "
            "redis+sentinel://host:26379/name."
        )


async def _has_format(call: Call, keys: Keys) -> bool:
    """Whether the namespace is there; its format key must be one that a release wrote."""
    # In this order: another process may make the namespace between the two.
    if not await call("EXISTS", keys.format):
        return False
    try:
        parts = await call("HMGET", keys.format, "major", "minor")
    except ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        parts = [b"", b""]
    if not all(part is not None and _FORMAT_NUMBER.fullmatch(part) for part in parts):
        raise exceptions.ForeignDatabase(
            f"The key {keys.format} of the database was not written by Callboard. Remove or "
            "rename it, use another database (…/1 in the URL), or another namespace.",
            key=keys.format,
        )
    return True


async def _check_owner(call: Call) -> None:
    if not await call("DBSIZE"):
        return
    cursor = b"0"
    for _ in range(SCAN_ROUNDS_MAX):
        cursor, found = await call("SCAN", cursor, "MATCH", f"*{FORMAT}", "COUNT", 1000)
        if any(_FORMAT_KEY.fullmatch(key) for key in found):
            return
        if cursor == b"0":
            break
    raise exceptions.ForeignDatabase(
        "The database is not empty and holds none of Callboard's keys: it seems to be somebody "
        "else's. "
        "Use another database (…/1 in the URL), or say that it may be shared: adopt=True, or "
        "--adopt."
    )


async def _durability(call: Call, info: dict[str, str]) -> str:
    if info.get("aof_enabled") == "1":
        try:
            raw = await call("CONFIG", "GET", "appendfsync")
        except ResponseError:
            return "unknown"
        values = list(raw.values()) if isinstance(raw, dict) else raw[1::2]
        return values[0].decode() if values else "unknown"
    try:
        raw = await call("CONFIG", "GET", "save")
    except ResponseError:
        return "unknown"
    values = list(raw.values()) if isinstance(raw, dict) else raw[1::2]
    return "snapshots" if values and values[0] else "none"
