"""Where a coordinator listens: its sockets, and what is wrong with them."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from callboard.exceptions import ConfigError
from callboard.http.security import TlsSettings
from callboard.http.settings import PORT

LOOPBACK: Final = "127.0.0.1"


class ListenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a coordinator listens.

    Attributes:
        host: An address of this machine, or a name of one.
        port: 0 for one of the system's choice.
        uds: A unix socket to listen on instead.
        tls: Its certificate; None for plain HTTP.
        shares_port: Other processes listen on the same port; the system spreads callers.
    """

    host: str = LOOPBACK
    port: int = PORT
    uds: Path | None = None
    tls: TlsSettings | None = None
    shares_port: bool = False

    @property
    def place(self) -> str:
        """The host, or the path of the socket."""
        return self.host if self.uds is None else str(self.uds.absolute())

    @property
    def scheme(self) -> str:
        """``https`` with a certificate, else ``http``."""
        return "http" if self.tls is None else "https"


def bind(settings: ListenSettings) -> socket.socket:
    """Take the address; nobody is let in before the socket listens.

    Raises:
        ConfigError: It is in use, not of this machine, or not ours to take.
    """
    if not 0 <= settings.port <= 65_535:
        raise ConfigError(
            f"Port {settings.port} is none: they go from 1 to 65535, 0 for a free one."
        )
    if settings.uds is not None:
        return _bind_path(settings.uds)
    host, port = settings.host.strip("[]"), settings.port
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(
            f"Host {settings.host!r} is no address and no name that can be found. "
            "Give --host an address of this machine, as 127.0.0.1.",
            host=settings.host,
        ) from error
    taken = socket.socket(family, kind)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Else the second of two short frames waits 40 ms for the first to be acknowledged.
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings.shares_port:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "::" means every address; on some systems it would be those of version 6 alone.
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise ConfigError(_why_not(error, host, port), host=host, port=port) from error
    taken.setblocking(False)
    return taken


def url_of(taken: socket.socket, settings: ListenSettings) -> str:
    """The address that callers on this machine use."""
    if settings.uds is not None:
        return f"http+unix://{settings.uds}"
    host, port = taken.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "::1" if ":" in host else LOOPBACK
    return f"{settings.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _bind_path(path: Path) -> socket.socket:
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_behind(path)
        # The owner and the group may connect; whom the folder lets in is the user's to say.
        before = os.umask(0o117)
        try:
            taken.bind(str(path))
        finally:
            os.umask(before)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            why = "somebody listens on it already, or it is a file of another kind"
        else:
            why = (error.strerror or str(error)).lower()
        raise ConfigError(f"Cannot listen on {path}: {why}.", path=str(path)) from error
    taken.setblocking(False)
    return taken


def _remove_left_behind(path: Path) -> None:
    """Remove a socket that nobody listens on: a killed process leaves it."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = holder_of(port)
        by = f" by process {owner[0]} ({owner[1]})" if owner else ""
        return (
            f"Port {port} on {host} is in use{by}. "
            "Stop that, or listen elsewhere: --port N, or 0 for a free one."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"Port {port} may be used by the administrator only. "
            "Take one from 1024 up, and put a reverse proxy before it."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine. Give --host one, or 0.0.0.0 for all."
    return f"Cannot listen on {host}, port {port}: {error.strerror}."


def holder_of(port: int) -> tuple[int, str] | None:
    """The process that listens on a port, and its name, where the system lets us see it."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                parts = line.split()
                if parts[3] == "0A" and int(parts[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{parts[9]}]")
    if not inodes:
        return None
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            for link in folder.iterdir():
                with suppress(OSError):
                    if str(link.readlink()) in inodes:
                        name = (folder.parent / "comm").read_text().strip()
                        return int(folder.parent.name), name
    return None
