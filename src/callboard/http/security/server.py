"""What the server itself is told: bounds on connections, TLS, what it says of itself."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from callboard.exceptions import ConfigError
from callboard.http.security.connections import GuardedSocket, guarded_protocol
from callboard.http.security.settings import AccessSettings, TlsSettings

FRAME_BYTES_MAX: Final = 8 << 20
FRAMES_QUEUED_MAX: Final = 16
PING_SECONDS: Final = 20.0


def check_proxies(proxies: Iterable[str]) -> list[str]:
    """Return them if each is an address or a network; ``*`` is everybody.

    Raises:
        ConfigError: One is neither, and would be believed by nobody.
    """
    trusted = list(proxies)
    for one in trusted:
        try:
            _ = one == "*" or ipaddress.ip_network(one)
        except ValueError as error:
            raise ConfigError(
                f"The proxy {one!r} is no address and no network. Name it as callers come from "
                "it: 127.0.0.1, or 10.0.0.0/8."
            ) from error
    return trusted


def server_options(
    settings: AccessSettings,
    *,
    tls: TlsSettings | None = None,
    proxies: Iterable[str] = (),
) -> dict[str, Any]:
    """Arguments of ``uvicorn.Config`` that guard the server.

    Args:
        settings: Bounds of connections.
        tls: The certificate; None for plain HTTP.
        proxies: Addresses whose ``X-Forwarded-For`` is believed; else nobody's is.

    Raises:
        ConfigError: A file of TLS, or what is named as a proxy, cannot be used.
    """
    trusted = check_proxies(proxies)
    options: dict[str, Any] = {
        "http": guarded_protocol(settings),
        "ws": GuardedSocket,
        "ws_max_size": FRAME_BYTES_MAX,
        "ws_max_queue": FRAMES_QUEUED_MAX,
        "ws_ping_interval": PING_SECONDS,
        "ws_ping_timeout": PING_SECONDS,
        "ws_per_message_deflate": False,
        "server_header": False,
        "proxy_headers": bool(trusted),
        "forwarded_allow_ips": trusted,
        "timeout_keep_alive": max(1, round(settings.idle_seconds)),
        "access_log": False,
    }
    if tls is not None:
        check_tls(tls)
        options["ssl_certfile"] = tls.certificate
        options["ssl_keyfile"] = tls.key
        options["ssl_keyfile_password"] = tls.key_password
        if tls.client_authority is not None:
            options["ssl_ca_certs"] = tls.client_authority
            options["ssl_cert_reqs"] = ssl.CERT_REQUIRED
    return options


def check_tls(tls: TlsSettings) -> None:
    """Raise ConfigError where the server could not use these files."""
    for what, name in (
        ("certificate", tls.certificate),
        ("key", tls.key),
        ("client authority", tls.client_authority),
    ):
        if name is not None and not os.access(name, os.R_OK):
            missing = "cannot be read" if Path(name).exists() else "is not there"
            raise ConfigError(f"The TLS {what} {name} {missing}.", file=name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password it would be asked for at the terminal.
        context.load_cert_chain(tls.certificate, tls.key, tls.key_password or "")
        if tls.client_authority is not None:
            context.load_verify_locations(tls.client_authority)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise ConfigError(
            f"The TLS certificate {tls.certificate} and its key cannot be used: {reason}. "
            "Give both in PEM, the chain first, and the key's password where it has one.",
            file=tls.certificate,
        ) from error
