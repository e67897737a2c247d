"""The options of ``callboard serve``, by what they are about."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from callboard.cli import parse
from callboard.exceptions import ConfigError, InvalidArgument

if TYPE_CHECKING:
    from callboard.dispatch import DispatchSettings
    from callboard.http.listening import ListenSettings
    from callboard.http.security import AccessSettings, TlsSettings

LISTEN: Final = "Where it listens"
GUARD: Final = "Who may ask"
WORK: Final = "What it does"
PUSH: Final = "How it brings tasks to agents"
LOG: Final = "What it logs"


def _option(panel: str, name: str, text: str, metavar: str | None = None, *more: str) -> Any:
    """An option whose variable has its name, behind ``CALLBOARD_``."""
    variable = "CALLBOARD_" + name.removeprefix("--").replace("-", "_").upper()
    return typer.Option(
        name, *more, envvar=variable, metavar=metavar, help=text, rich_help_panel=panel
    )


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """Where it listens."""

    host: Annotated[
        str,
        _option(LISTEN, "--host", "An address of this machine; 0.0.0.0 for all.", "ADDRESS"),
    ] = "127.0.0.1"
    port: Annotated[int, _option(LISTEN, "--port", "0 for a free one.", "N", "-p")] = 9001
    uds: Annotated[
        Path | None,
        _option(LISTEN, "--uds", "A unix socket instead of host and port.", "FILE"),
    ] = None
    tls_cert: Annotated[
        Path | None,
        _option(LISTEN, "--tls-cert", "Certificate, in PEM form: callers use https.", "FILE"),
    ] = None
    tls_key: Annotated[
        Path | None,
        _option(LISTEN, "--tls-key", "Its key, where the certificate's file has it not.", "FILE"),
    ] = None
    tls_client_ca: Annotated[
        Path | None,
        _option(
            LISTEN,
            "--tls-client-ca",
            "Callers must show a certificate of this authority.",
            "FILE",
        ),
    ] = None

    def settings(self) -> ListenSettings:
        """What they say.

        Raises:
            ConfigError: There is a key, or an authority, and no certificate.
        """
        from callboard.http.listening import ListenSettings

        return ListenSettings(host=self.host, port=self.port, uds=self.uds, tls=self._tls())

    def _tls(self) -> TlsSettings | None:
        from callboard.http.security import TlsSettings

        if self.tls_cert is None:
            if self.tls_key is not None or self.tls_client_ca is not None:
                raise ConfigError(
                    "A key or an authority for callers was given, and no certificate. "
                    "Give --tls-cert too."
                )
            return None
        return TlsSettings(
            certificate=str(self.tls_cert),
            key=None if self.tls_key is None else str(self.tls_key),
            key_password=os.environ.get("CALLBOARD_TLS_KEY_PASSWORD") or None,
            client_authority=None if self.tls_client_ca is None else str(self.tls_client_ca),
        )


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """Who may ask, and how much."""

    require_keys: Annotated[
        bool,
        _option(
            GUARD,
            "--require-keys",
            "Serve nobody without an API key, on this machine too; as before a proxy.",
        ),
    ] = False
    insecure_no_keys: Annotated[
        bool,
        _option(
            GUARD,
            "--insecure-no-keys",
            "Open to the network without keys: whoever reaches it may do anything.",
        ),
    ] = False
    allow_host: Annotated[
        list[str] | None,
        _option(
            GUARD,
            "--allow-host",
            "A name that callers without a key may use for it. May be repeated.",
            "NAME",
        ),
    ] = None
    cors_origin: Annotated[
        list[str] | None,
        _option(
            GUARD,
            "--cors-origin",
            "Pages from there may ask, as https://ops.example.com. May be repeated.",
            "ORIGIN",
        ),
    ] = None
    proxy: Annotated[
        list[str] | None,
        _option(
            GUARD,
            "--proxy",
            "A proxy whose X-Forwarded-For is believed. May be repeated.",
            "ADDRESS",
        ),
    ] = None
    rate: Annotated[
        float | None,
        _option(
            GUARD,
            "--rate",
            "Requests a second of each key, over all coordinators; else no limit.",
            "N",
        ),
    ] = None
    burst: Annotated[
        int | None,
        _option(GUARD, "--burst", "So many of them at once after a quiet time.", "N"),
    ] = None
    connections: Annotated[
        int,
        _option(GUARD, "--connections", "Open at once; beyond it the most silent one goes.", "N"),
    ] = 10_000

    def settings(self, namespace: str) -> AccessSettings:
        """What they say, for callers who name no namespace that of *namespace*."""
        from callboard.http.security import AccessSettings

        return AccessSettings(
            require_keys=self.require_keys,
            namespace=namespace,
            allowed_hosts=tuple(self.allow_host or ()),
            cors_origins=tuple(self.cors_origin or ()),
            rate=self.rate,
            burst=self.burst,
            connections_max=self.connections,
        )


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """What it does, and how it ends."""

    durable: Annotated[
        bool,
        _option(WORK, "--durable", "The embedded engine writes to disk before it answers."),
    ] = False
    no_dispatch: Annotated[
        bool,
        _option(WORK, "--no-dispatch", "Hand no tasks to agents: other coordinators do."),
    ] = False
    strategy: Annotated[
        str,
        _option(
            WORK,
            "--strategy",
            "How agents are chosen, where the board does not say; `none` leaves it.",
            "NAME",
        ),
    ] = "least_connections"
    workers: Annotated[int, _option(WORK, "--workers", "Processes on the one port.", "N")] = 1
    drain: Annotated[
        str, _option(WORK, "--drain", "What requests under way get at the end.", "TIME")
    ] = "10s"
    linger: Annotated[
        str,
        _option(
            WORK,
            "--linger",
            "Go on so long after the signal, not ready, for load balancers to notice.",
            "TIME",
        ),
    ] = "0s"

    @property
    def drain_seconds(self) -> float:
        """What requests under way get."""
        return parse.seconds("drain", self.drain) or 0.0

    @property
    def linger_seconds(self) -> float:
        """How long it goes on after the signal."""
        return parse.seconds("linger", self.linger) or 0.0


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How it brings tasks to agents."""

    board: Annotated[
        list[str] | None,
        _option(
            PUSH,
            "--board",
            "Whose tasks it hands to agents; `*` for all boards. May be repeated.",
            "NAME",
        ),
    ] = None
    push_timeout: Annotated[
        str,
        _option(PUSH, "--push-timeout", "Within which an agent must have answered.", "TIME"),
    ] = "5s"
    push_lease: Annotated[
        str,
        _option(
            PUSH,
            "--push-lease",
            "How long an agent has a task that it accepted, until it renews it.",
            "TIME",
        ),
    ] = "5m"
    push_per_agent: Annotated[
        int, _option(PUSH, "--push-per-agent", "Pushes to one agent at once.", "N")
    ] = 32
    push_at_once: Annotated[int, _option(PUSH, "--push-at-once", "Pushes at once in all.", "N")] = (
        512
    )
    push_deliveries: Annotated[
        int,
        _option(
            PUSH,
            "--push-deliveries",
            "Failed deliveries that count as one failed attempt.",
            "N",
        ),
    ] = 3
    push_allow: Annotated[
        list[str] | None,
        _option(
            PUSH,
            "--push-allow",
            "A host, address or network that is pushed to though it is refused else. "
            "May be repeated.",
            "HOST",
        ),
    ] = None

    def settings(self) -> DispatchSettings:
        """What they say, checked."""
        from callboard.dispatch import DispatchSettings

        given: dict[str, Any] = {
            "boards": tuple(self.board or ("default",)),
            "push_timeout": parse.seconds("push-timeout", self.push_timeout),
            "lease": parse.seconds("push-lease", self.push_lease),
            "per_agent": self.push_per_agent,
            "concurrency": self.push_at_once,
            "deliveries": self.push_deliveries,
            "allow": tuple(self.push_allow or ()),
        }
        return DispatchSettings(**given).checked()


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What it logs."""

    log_format: Annotated[
        str,
        _option(LOG, "--log-format", "Lines for people, or JSON objects.", "text|json"),
    ] = "text"
    access_log: Annotated[
        bool,
        _option(
            LOG, "--access-log", "Log each request: route, status, time, key; never what was sent."
        ),
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Log only what goes wrong.", rich_help_panel=LOG)
    ] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log more.", rich_help_panel=LOG)
    ] = False

    def begin(self) -> None:
        """Log from now on as they say.

        Raises:
            InvalidArgument: There is no such format.
        """
        from callboard.cli.logs import log_to_stderr

        if self.log_format not in ("text", "json"):
            raise InvalidArgument(f"--log-format is {self.log_format!r}; it must be text or json.")
        log_to_stderr(quiet=self.quiet, verbose=self.verbose, as_json=self.log_format == "json")
