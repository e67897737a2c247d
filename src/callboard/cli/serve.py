"""``callboard serve``: a coordinator, until it is told to stop."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import failures, parse
from callboard.cli.command import Options, command
from callboard.cli.output import Output
from callboard.exceptions import ConfigError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

    from callboard.dispatch import DispatchSettings
    from callboard.http.security import TlsSettings
    from callboard.http.serve import Started
    from callboard.http.settings import ServeSettings

LISTEN = "Where it listens"
GUARD = "Who may ask"
WORK = "What it does"
PUSH = "How it brings tasks to agents"
LOG = "What it logs"


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``serve`` a command of *app*."""
    command(app, "serve", panel=panel, example=EXAMPLE)(serve)


EXAMPLE = """
callboard serve
callboard serve --port 9002 --url redis://redis:6379/1
"""


def serve(
    options: Options,
    out: Output,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            envvar="CALLBOARD_HOST",
            metavar="ADDRESS",
            help="An address of this machine; 0.0.0.0 for all.",
            rich_help_panel=LISTEN,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            "-p",
            envvar="CALLBOARD_PORT",
            metavar="N",
            help="0 for a free one.",
            rich_help_panel=LISTEN,
        ),
    ] = 9001,
    uds: Annotated[
        Path | None,
        typer.Option(
            "--uds",
            envvar="CALLBOARD_UDS",
            metavar="FILE",
            help="A unix socket instead of host and port.",
            rich_help_panel=LISTEN,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert",
            envvar="CALLBOARD_TLS_CERT",
            metavar="FILE",
            help="Certificate, in PEM form: callers use https.",
            rich_help_panel=LISTEN,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            "--tls-key",
            envvar="CALLBOARD_TLS_KEY",
            metavar="FILE",
            help="Its key, where the certificate's file has it not.",
            rich_help_panel=LISTEN,
        ),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-client-ca",
            envvar="CALLBOARD_TLS_CLIENT_CA",
            metavar="FILE",
            help="Callers must show a certificate of this authority.",
            rich_help_panel=LISTEN,
        ),
    ] = None,
    require_keys: Annotated[
        bool,
        typer.Option(
            "--require-keys",
            envvar="CALLBOARD_REQUIRE_KEYS",
            help="Serve nobody without an API key, on this machine too; as before a proxy.",
            rich_help_panel=GUARD,
        ),
    ] = False,
    insecure_no_keys: Annotated[
        bool,
        typer.Option(
            "--insecure-no-keys",
            envvar="CALLBOARD_INSECURE_NO_KEYS",
            help="Open to the network without keys: whoever reaches it may do anything.",
            rich_help_panel=GUARD,
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            envvar="CALLBOARD_ALLOW_HOST",
            metavar="NAME",
            help="A name that callers without a key may use for it. May be repeated.",
            rich_help_panel=GUARD,
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--cors-origin",
            envvar="CALLBOARD_CORS_ORIGIN",
            metavar="ORIGIN",
            help="Pages from there may ask, as https://ops.example.com. May be repeated.",
            rich_help_panel=GUARD,
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            envvar="CALLBOARD_PROXY",
            metavar="ADDRESS",
            help="A proxy whose X-Forwarded-For is believed. May be repeated.",
            rich_help_panel=GUARD,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            envvar="CALLBOARD_RATE",
            metavar="N",
            help="Requests a second of each key, over all coordinators; else no limit.",
            rich_help_panel=GUARD,
        ),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            "--burst",
            envvar="CALLBOARD_BURST",
            metavar="N",
            help="So many of them at once after a quiet time.",
            rich_help_panel=GUARD,
        ),
    ] = None,
    connections: Annotated[
        int,
        typer.Option(
            "--connections",
            envvar="CALLBOARD_CONNECTIONS",
            metavar="N",
            help="Open at once; beyond it the most silent one goes.",
            rich_help_panel=GUARD,
        ),
    ] = 10_000,
    durable: Annotated[
        bool,
        typer.Option(
            "--durable",
            envvar="CALLBOARD_DURABLE",
            help="The embedded engine writes to disk before it answers.",
            rich_help_panel=WORK,
        ),
    ] = False,
    no_dispatch: Annotated[
        bool,
        typer.Option(
            "--no-dispatch",
            envvar="CALLBOARD_NO_DISPATCH",
            help="Hand no tasks to agents: other coordinators do.",
            rich_help_panel=WORK,
        ),
    ] = False,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            envvar="CALLBOARD_STRATEGY",
            metavar="NAME",
            help="How agents are chosen, where the board does not say; `none` leaves it.",
            rich_help_panel=WORK,
        ),
    ] = "least_connections",
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            envvar="CALLBOARD_WORKERS",
            metavar="N",
            help="Processes on the one port.",
            rich_help_panel=WORK,
        ),
    ] = 1,
    drain: Annotated[
        str,
        typer.Option(
            "--drain",
            envvar="CALLBOARD_DRAIN",
            metavar="TIME",
            help="What requests under way get at the end.",
            rich_help_panel=WORK,
        ),
    ] = "10s",
    linger: Annotated[
        str,
        typer.Option(
            "--linger",
            envvar="CALLBOARD_LINGER",
            metavar="TIME",
            help="Go on so long after the signal, not ready, for load balancers to notice.",
            rich_help_panel=WORK,
        ),
    ] = "0s",
    board: Annotated[
        list[str] | None,
        typer.Option(
            "--board",
            envvar="CALLBOARD_BOARD",
            metavar="NAME",
            help="Whose tasks it hands to agents; `*` for all boards. May be repeated.",
            rich_help_panel=PUSH,
        ),
    ] = None,
    push_timeout: Annotated[
        str,
        typer.Option(
            "--push-timeout",
            envvar="CALLBOARD_PUSH_TIMEOUT",
            metavar="TIME",
            help="Within which an agent must have answered.",
            rich_help_panel=PUSH,
        ),
    ] = "5s",
    push_lease: Annotated[
        str,
        typer.Option(
            "--push-lease",
            envvar="CALLBOARD_PUSH_LEASE",
            metavar="TIME",
            help="How long an agent has a task that it accepted, until it renews it.",
            rich_help_panel=PUSH,
        ),
    ] = "5m",
    push_per_agent: Annotated[
        int,
        typer.Option(
            "--push-per-agent",
            envvar="CALLBOARD_PUSH_PER_AGENT",
            metavar="N",
            help="Pushes to one agent at once.",
            rich_help_panel=PUSH,
        ),
    ] = 32,
    push_at_once: Annotated[
        int,
        typer.Option(
            "--push-at-once",
            envvar="CALLBOARD_PUSH_AT_ONCE",
            metavar="N",
            help="Pushes at once in all.",
            rich_help_panel=PUSH,
        ),
    ] = 512,
    push_deliveries: Annotated[
        int,
        typer.Option(
            "--push-deliveries",
            envvar="CALLBOARD_PUSH_DELIVERIES",
            metavar="N",
            help="Failed deliveries that count as one failed attempt.",
            rich_help_panel=PUSH,
        ),
    ] = 3,
    push_allow: Annotated[
        list[str] | None,
        typer.Option(
            "--push-allow",
            envvar="CALLBOARD_PUSH_ALLOW",
            metavar="HOST",
            help="A host, address or network that is pushed to though it is refused else. "
            "May be repeated.",
            rich_help_panel=PUSH,
        ),
    ] = None,
    log_format: Annotated[
        str,
        typer.Option(
            "--log-format",
            envvar="CALLBOARD_LOG_FORMAT",
            metavar="text|json",
            help="Lines for people, or JSON objects.",
            rich_help_panel=LOG,
        ),
    ] = "text",
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log",
            envvar="CALLBOARD_ACCESS_LOG",
            help="Log each request: route, status, time, key; never what was sent.",
            rich_help_panel=LOG,
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Log only what goes wrong.", rich_help_panel=LOG)
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log more.", rich_help_panel=LOG)
    ] = False,
) -> int:
    """Serve agents in any language over HTTP, until SIGTERM or Ctrl-C.

    Any number may serve one engine. Without --url or --data the engine is that of
    CALLBOARD_URL, CALLBOARD_DATA, REDIS_URL, REDIS_HOST, the nearest .callboard folder, or a
    new one. At the end requests under way are answered; a second signal ends at once.
    """
    from callboard.cli import render_serve
    from callboard.cli.logs import log_to_stderr
    from callboard.config import resolve_engine
    from callboard.http.listening import ListenSettings
    from callboard.http.security import AccessSettings
    from callboard.http.serve import Service, run
    from callboard.http.workers import Workers

    if log_format not in ("text", "json"):
        raise InvalidArgument(f"--log-format is {log_format!r}; it must be text or json.")
    log_to_stderr(quiet=quiet, verbose=verbose, as_json=log_format == "json")
    listen = ListenSettings(
        host=host, port=port, uds=uds, tls=_tls(tls_cert, tls_key, tls_client_ca)
    )
    dispatch = _dispatch(
        boards=tuple(board or ("default",)),
        push_timeout=parse.seconds("push-timeout", push_timeout),
        lease=parse.seconds("push-lease", push_lease),
        per_agent=push_per_agent,
        concurrency=push_at_once,
        deliveries=push_deliveries,
        allow=tuple(push_allow or ()),
    )
    settings = _settings(options, strategy, drain, dispatches=not no_dispatch, dispatch=dispatch)
    access = AccessSettings(
        require_keys=require_keys,
        namespace=settings.namespace,
        allowed_hosts=tuple(allow_host or ()),
        cors_origins=tuple(cors_origin or ()),
        rate=rate,
        burst=burst,
        connections_max=connections,
    )
    choice = resolve_engine(options.url, options.data, honour_redis_env=True)

    def make(listen: ListenSettings, on_start: "Callable[[Started], None]") -> Service:
        return Service(
            choice,
            settings,
            listen,
            access,
            insecure=insecure_no_keys,
            proxies=proxy or (),
            durable=durable,
            adopt=options.adopt,
            logs_requests=access_log,
            linger=parse.seconds("linger", linger) or 0.0,
            on_start=on_start,
        )

    def tell(started: "Started") -> None:
        render_serve.tell(out, started, listen)

    code = failures.OK
    if workers == 1:
        run(make(listen, tell))
    else:
        report = partial(failures.report, as_json=out.as_json)
        code = Workers(workers, listen, make, tell, report).run()
    if code == failures.OK:
        out.remark("The coordinator has stopped.")
    return code


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> "TlsSettings | None":
    from callboard.http.security import TlsSettings

    if cert is None:
        if key is not None or client_ca is not None:
            raise ConfigError(
                "A key or an authority for callers was given, and no certificate. "
                "Give --tls-cert too."
            )
        return None
    return TlsSettings(
        certificate=str(cert),
        key=None if key is None else str(key),
        key_password=os.environ.get("CALLBOARD_TLS_KEY_PASSWORD") or None,
        client_authority=None if client_ca is None else str(client_ca),
    )


def _dispatch(**given: Any) -> "DispatchSettings":
    from callboard.dispatch import DispatchSettings

    return DispatchSettings(**given).checked()


def _settings(
    options: Options, strategy: str, drain: str, *, dispatches: bool, dispatch: "DispatchSettings"
) -> "ServeSettings":
    from callboard.config import check_namespace
    from callboard.domain.strategy import check_built_in
    from callboard.http.settings import ServeSettings

    return ServeSettings(
        namespace=check_namespace(options.namespace or os.environ.get("CALLBOARD_NAMESPACE")),
        dispatches=dispatches,
        dispatch=dispatch,
        strategy=None if strategy == "none" else check_built_in(strategy),
        drain=parse.seconds("drain", drain) or 0.0,
    )
