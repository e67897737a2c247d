"""``callboard serve``: a coordinator, until it is told to stop."""

import os
from functools import partial
from typing import TYPE_CHECKING

import typer

from callboard.cli import failures
from callboard.cli.command import Options, command
from callboard.cli.output import Output
from callboard.cli.serve_options import (
    GuardOptions,
    ListenOptions,
    LogOptions,
    PushOptions,
    WorkOptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from callboard.http.listening import ListenSettings
    from callboard.http.serve import Service, Started
    from callboard.http.settings import ServeSettings


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
    listen: ListenOptions,
    guard: GuardOptions,
    work: WorkOptions,
    push: PushOptions,
    log: LogOptions,
) -> int:
    """Serve agents in any language over HTTP, until SIGTERM or Ctrl-C.

    Any number may serve one engine. Without --url or --data the engine is that of
    CALLBOARD_URL, CALLBOARD_DATA, REDIS_URL, REDIS_HOST, the nearest .callboard folder, or a
    new one. At the end requests under way are answered; a second signal ends at once.
    """
    from callboard.cli import render_serve
    from callboard.http.serve import run
    from callboard.http.workers import Workers

    log.begin()
    place = listen.settings()
    make = _maker(options, _settings(options, work, push), guard, work, log)

    def tell(started: "Started") -> None:
        render_serve.tell(out, started, place)

    code = failures.OK
    if work.workers == 1:
        run(make(place, tell))
    else:
        report = partial(failures.report, as_json=out.as_json)
        code = Workers(work.workers, place, make, tell, report).run()
    if code == failures.OK:
        out.remark("The coordinator has stopped.")
    return code


def _settings(options: Options, work: WorkOptions, push: PushOptions) -> "ServeSettings":
    from callboard.config import check_namespace
    from callboard.domain.strategy import check_built_in
    from callboard.http.settings import ServeSettings

    return ServeSettings(
        namespace=check_namespace(options.namespace or os.environ.get("CALLBOARD_NAMESPACE")),
        dispatches=not work.no_dispatch,
        dispatch=push.settings(),
        strategy=None if work.strategy == "none" else check_built_in(work.strategy),
        drain=work.drain_seconds,
    )


def _maker(
    options: Options,
    settings: "ServeSettings",
    guard: GuardOptions,
    work: WorkOptions,
    log: LogOptions,
) -> "Callable[[ListenSettings, Callable[[Started], None]], Service]":
    """What makes the coordinator of a process, of where it listens and what to call then."""
    from callboard.config import resolve_engine
    from callboard.http.serve import Service

    choice = resolve_engine(options.url, options.data, honour_redis_env=True)
    access = guard.settings(settings.namespace)
    linger = work.linger_seconds

    def make(listen: "ListenSettings", on_start: "Callable[[Started], None]") -> Service:
        return Service(
            choice,
            settings,
            listen,
            access,
            insecure=guard.insecure_no_keys,
            proxies=guard.proxy or (),
            durable=work.durable,
            adopt=options.adopt,
            logs_requests=log.access_log,
            linger=linger,
            on_start=on_start,
        )

    return make
