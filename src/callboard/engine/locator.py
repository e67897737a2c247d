"""Reads the URL of an engine, and writes it without its passwords."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from redis.asyncio.connection import parse_url as parse_redis_url
from redis.exceptions import RedisError

from callboard.config import split_url
from callboard.engine.wire import SSLConnection, TcpConnection
from callboard.exceptions import ConfigError

Node = tuple[str, int]
Kind = Literal["single", "sentinel", "cluster"]

_EXAMPLES = (
    "redis://host:6379/0, rediss://host:6380/0 (TLS), unix:///path/engine.sock, "
    "redis+sentinel://host1:26379,host2:26379/service/0 or redis+cluster://host1:7000,host2:7001"
)
_KINDS: Mapping[str, Kind] = {
    "redis": "single",
    "rediss": "single",
    "unix": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_DEFAULT_PORTS: Mapping[Kind, int] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_exclude_verify_flags",
        "ssl_include_verify_flags",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    }
)
_TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_PLAIN_OPTIONS = frozenset({"db", "username", "password"})
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_SECRETS = ("password", "sentinel_password", "ssl_password")


@dataclass(frozen=True)
class Location:
    """What a URL says.

    Attributes:
        display_url: The URL without passwords.
        nodes: The servers, Sentinels or seed nodes; empty for a unix socket.
        service: The Sentinel service, else empty.
        options: Arguments of redis-py's connection to a server, its class among them.
        sentinel_options: The same for a connection to a Sentinel.
    """

    kind: Kind
    display_url: str
    nodes: tuple[Node, ...]
    service: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)


def redact_url(url: str) -> str:
    """Return *url* with every password in it replaced by ``***``."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "***" if "@" in url else url
    place, question, query = rest.partition("?")
    # A password with an unescaped "/" or "@" is not a valid URL, and must not be shown either.
    if "@" in place and not place.startswith("/"):
        login, _, place = place.rpartition("@")
        user = login.partition(":")[0] if ":" in login else ""
        place = f"{user}:***@{place}"
    for secret in _SECRETS:
        query = re.sub(rf"(^|&){secret}=[^&]*", rf"\g<1>{secret}=***", query, flags=re.IGNORECASE)
    return f"{scheme}{mark}{place}{question}{query}"


def parse_url(url: str) -> Location:
    """Read the URL of an engine.

    Raises:
        ConfigError: Wrong scheme, host, port, database, option or file.
    """
    try:
        parts = split_url(url)
        kind = _KINDS.get(parts.scheme)
        if kind is None:
            raise _unusable(url, f'"{parts.scheme}" is not a scheme known here')
        query = _checked_query(url, parts, kind)
        if kind == "single":
            return _single(url, parts, query)
        return _many(url, parts, query, kind)
    except (ValueError, RedisError, OSError) as error:
        raise _unusable(url, str(error)) from error


def _single(url: str, parts: SplitResult, query: dict[str, str]) -> Location:
    if parts.scheme == "unix":
        if not parts.path:
            raise _unusable(url, "it has no path of a socket")
        return Location("single", redact_url(url), (), options=_options(url, parts, query, ""))
    _database(url, parts.path.strip("/"))
    nodes = _nodes(url, parts, "single")
    if len(nodes) > 1:
        raise _unusable(url, "several hosts need redis+sentinel:// or redis+cluster://")
    return Location(
        "single", redact_url(url), nodes, options=_options(url, parts, query, parts.path.strip("/"))
    )


def _many(url: str, parts: SplitResult, query: dict[str, str], kind: Kind) -> Location:
    nodes = _nodes(url, parts, kind)
    path = [unquote(part) for part in parts.path.split("/") if part]
    login = {name: query.pop(name) for name in _SENTINEL_OPTIONS & query.keys()}
    if kind == "cluster":
        if path not in ([], ["0"]) or query.get("db", "0") != "0":
            raise _unusable(url, "a Cluster has only database 0")
        return Location(kind, redact_url(url), nodes, options=_options(url, parts, query, "0"))
    if not 1 <= len(path) <= 2:
        raise _unusable(url, "Sentinel needs the service name as its path, as in /service/0")
    database = path[1] if len(path) == 2 else ""
    _database(url, database)
    options = _options(url, parts, query, database)
    sentinel_options = {name: value for name, value in options.items() if name.startswith("ssl_")}
    sentinel_options["connection_class"] = options["connection_class"]
    for name, value in login.items():
        sentinel_options[name.removeprefix("sentinel_")] = value
    return Location(kind, redact_url(url), nodes, path[0], options, sentinel_options)


def _options(
    url: str, parts: SplitResult, query: Mapping[str, str], database: str
) -> dict[str, Any]:
    """Let redis-py read login, database and TLS options, as from a URL with one host."""
    scheme = parts.scheme.partition("+")[0]
    login, mark, _ = parts.netloc.rpartition("@")
    if scheme == "unix":
        place = f"{login}{mark}{parts.path}"
    else:
        host, port = _nodes(url, parts, _KINDS[parts.scheme])[0]
        host = f"[{host}]" if ":" in host else quote(host)
        place = f"{login}{mark}{host}:{port}/{database}"
    options: dict[str, Any] = dict(parse_redis_url(f"{scheme}://{place}?{urlencode(query)}"))
    options.setdefault("connection_class", SSLConnection if scheme == "rediss" else TcpConnection)
    for name in _TLS_FILES:
        if name in options and not os.path.exists(options[name]):
            raise _unusable(url, f"{name} names {options[name]}, which does not exist")
    if options["connection_class"] is SSLConnection:
        SSLConnection(**{name: options[name] for name in _TLS_OPTIONS & options.keys()})
    return options


def _checked_query(url: str, parts: SplitResult, kind: Kind) -> dict[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    allowed = _PLAIN_OPTIONS | _TLS_OPTIONS
    if kind == "sentinel":
        allowed |= _SENTINEL_OPTIONS
    unknown = sorted(query.keys() - allowed)
    if unknown:
        raise _unusable(
            url,
            f'it has the option "{unknown[0]}"; known are {", ".join(sorted(allowed))}, '
            "time limits and retries are settings of Callboard",
        )
    if not parts.scheme.startswith("rediss") and query.keys() & _TLS_OPTIONS:
        raise _unusable(url, "ssl_ options need a rediss:// scheme")
    if "db" in query:
        _database(url, query["db"])
    return query


def _nodes(url: str, parts: SplitResult, kind: Kind) -> tuple[Node, ...]:
    hosts = parts.netloc.rpartition("@")[2]
    nodes: list[Node] = []
    for item in hosts.split(",") if hosts else ["localhost"]:
        single = urlsplit(f"//{item.strip()}")
        if not single.hostname:
            raise _unusable(url, "a host is missing")
        nodes.append((unquote(single.hostname), single.port or _DEFAULT_PORTS[kind]))
    return tuple(nodes)


def _database(url: str, database: str) -> None:
    if database and not database.isdecimal():
        raise _unusable(url, f'the database "{database}" is not a number')


def _unusable(url: str, reason: str) -> ConfigError:
    return ConfigError(
        f"The engine URL {redact_url(url)} cannot be used: {reason.rstrip('.')}. "
        f"Write it like {_EXAMPLES}."
    )
