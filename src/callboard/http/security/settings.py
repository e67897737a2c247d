"""How a coordinator is guarded."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from callboard.domain.access import ApiKey, check_rate
from callboard.domain.bounds import check_whole
from callboard.exceptions import ConfigError, InvalidArgument

BODY_BYTES_MAX: Final = (8 << 20) + (64 << 10)
"""The largest batch, and room for its envelope."""

PUBLIC: Final = frozenset({"/", "/health", "/ready", "/docs", "/docs.css", "/openapi.json"})
"""Paths that tell nothing of anybody: watchdogs and readers of the docs come without a key."""

LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.", "ip6-localhost"})


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may ask, how much at once, and for how long.

    Attributes:
        require_keys: Nobody is served without an API key, but for *public* paths. Else who
            comes over the loopback without one is an administrator.
        anonymous_anywhere: Without keys, so is who comes from anywhere: for closed networks.
        namespace: That of callers who name none and whose key is not for others only.
        public: Paths that take no key.
        allowed_hosts: Names, besides those of the loopback, that ``Host`` may have where no
            key is shown.
        cors_origins: Pages of these origins, as ``https://ops.example.com``, may ask.
        rate, burst: Requests a second a key, or an address without one; None for no limit.
            What a key says for itself goes before it.
        refused_rate, refused_burst: Requests a second an address whose key, or ticket, does not
            hold; counted by each process. Keys that were known before are taken all the same.
        key_seconds: How long what is known of a key is believed: so long a revoked one may
            still be taken. At most 2.
        body_bytes_max: Of one request.
        bodies_bytes_max: Of all requests under way.
        body_seconds: In which a body must have come.
        head_bytes_max: Of a request's line and headers.
        head_seconds: In which they must have come.
        idle_seconds: A connection is closed after being silent for so long between requests.
        write_seconds: A connection is dropped whose peer takes nothing for so long.
        connections_max: Open at once; beyond it the one that is silent the longest goes.
    """

    require_keys: bool = False
    anonymous_anywhere: bool = False
    namespace: str = ""
    public: frozenset[str] = PUBLIC
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    rate: float | None = None
    burst: int | None = None
    refused_rate: float = 20.0
    refused_burst: int = 100
    key_seconds: float = 1.0
    body_bytes_max: int = BODY_BYTES_MAX
    bodies_bytes_max: int = 256 << 20
    body_seconds: float = 60.0
    head_bytes_max: int = 64 << 10
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    write_seconds: float = 60.0
    connections_max: int = 10_000

    def __post_init__(self) -> None:
        check_rate(self.rate, self.burst)
        check_rate(self.refused_rate, self.refused_burst)
        check_whole("body_bytes_max", self.body_bytes_max, 1_024, 1 << 30)
        check_whole("bodies_bytes_max", self.bodies_bytes_max, self.body_bytes_max, 1 << 40)
        check_whole("head_bytes_max", self.head_bytes_max, 1_024, 1 << 20)
        check_whole("connections_max", self.connections_max, 1, 1_000_000)
        if not 0 <= self.key_seconds <= 2:
            raise InvalidArgument(
                f"key_seconds is {self.key_seconds!r}; it must be from 0 to 2: so long a revoked "
                "key may be taken.",
                field="key_seconds",
            )
        for what in ("body_seconds", "head_seconds", "idle_seconds", "write_seconds"):
            if not 0 < getattr(self, what) <= 86_400:
                raise InvalidArgument(f"{what} must be above 0 and at most a day.", field=what)
        for origin in self.cors_origins:
            _check_origin(origin)


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a coordinator is reached over TLS.

    Attributes:
        certificate, key: Files in PEM: the chain, and the private key where it is not in it.
        client_authority: A file of certificates; who shows none that they signed is refused.
    """

    certificate: str
    key: str | None = None
    key_password: str | None = None
    client_authority: str | None = None

    def __repr__(self) -> str:
        return f"TlsSettings(certificate={self.certificate!r}, key={self.key!r})"


@lru_cache(maxsize=1_024)
def is_loopback(host: str) -> bool:
    """Whether this address, or name, is of this machine alone."""
    if host in LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def bound_to(
    settings: AccessSettings,
    host: str,
    keys: Sequence[ApiKey],
    *,
    is_insecure: bool = False,
) -> AccessSettings:
    """The settings of a coordinator that is bound to *host*: beyond the loopback keys are a must.

    Args:
        host: The address to bind to; a path, of a socket, is of this machine alone.
        keys: All that there are.
        is_insecure: The operator said that it shall be open to the network without keys.

    Raises:
        ConfigError: It would take keys and nobody has one, or be open to the network.
    """
    if is_insecure and settings.require_keys:
        raise ConfigError("Keys cannot be both required and not wanted. Drop one of the two.")
    has_one = any(key.status == "active" for key in keys)
    if host.startswith("/") or is_loopback(host):
        if settings.require_keys and not has_one:
            raise ConfigError(f"Keys are required, and there is none. {_MAKE_ONE}")
        return settings
    if is_insecure:
        return msgspec.structs.replace(settings, anonymous_anywhere=True)
    if not has_one:
        raise ConfigError(
            f"{host} can be reached from other machines, and there is no API key to ask for, so "
            f"anybody could do anything. {_MAKE_ONE} Or bind to 127.0.0.1; or, on a network "
            "where everybody is trusted, give --insecure-no-keys.",
            host=host,
        )
    return msgspec.structs.replace(settings, require_keys=True)


_MAKE_ONE: Final = "Make one first: callboard keys create NAME --role admin."


def _check_origin(origin: Any) -> None:
    text = str(origin)
    scheme, mark, rest = text.partition("://")
    if scheme not in ("http", "https") or not mark or not rest or "/" in rest or "*" in rest:
        raise ConfigError(
            f"{text!r} is no origin. Write each as https://ops.example.com, with its port where "
            "it has one, without a path and without *.",
            origin=text,
        )
