"""The program ``callboard``: its commands put together, its errors told, its exit code."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn

import typer

from callboard.cli import (
    agents,
    boards,
    breakers,
    conflicts,
    context,
    dead_letters,
    demo,
    doctor,
    engine,
    errors,
    events,
    failures,
    flow,
    init,
    lock_run,
    message_links,
    metrics,
    recurring,
    run,
    runs,
    scheduler,
    simulate,
    teams,
    version,
    worker,
)
from callboard.cli.claims import app as tasks_app
from callboard.cli.command import HELP_MODE, Options, sign, take_options
from callboard.exceptions import CallboardError

WORK: Final = "Work"
WATCH: Final = "Watch"
OPERATE: Final = "Operate"

TERMINATED: Final = 128 + signal.SIGTERM

# Typer has carried Click inside since 0.26 and stood on it before: this is the class in both.
_Misuse: Final[Any] = next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException")

app = typer.Typer(
    name="callboard",
    help="A board where teams of agents find, claim and finish work.",
    epilog="Begin here: callboard demo",
    no_args_is_help=True,
    rich_markup_mode=HELP_MODE,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _root(ctx: typer.Context, **values: Any) -> None:
    is_version = values.pop("version")
    ctx.obj = take_options(values)
    if is_version:
        version.show(ctx.obj)
        raise typer.Exit


sign(
    _root,
    [
        inspect.Parameter(
            "version",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, typer.Option("--version", help="Say the version.")],
        )
    ],
)
app.callback(invoke_without_command=True)(_root)

demo.add_to(app, WORK)
init.add_to(app, WORK)
run.add_to(app, WORK)
app.add_typer(runs.app, rich_help_panel=WORK)
app.add_typer(teams.app, rich_help_panel=WORK)
app.add_typer(tasks_app, rich_help_panel=WORK)
app.add_typer(boards.app, rich_help_panel=WORK)
app.add_typer(dead_letters.app, rich_help_panel=WORK)
app.add_typer(message_links.app, rich_help_panel=WORK)
app.add_typer(lock_run.app, rich_help_panel=WORK)
app.add_typer(recurring.app, rich_help_panel=WORK)
app.add_typer(flow.app, rich_help_panel=WORK)
app.add_typer(scheduler.app, rich_help_panel=WORK)
app.add_typer(breakers.app, rich_help_panel=WORK)
worker.add_to(app, WORK)
events.add_to(app, WATCH)
app.add_typer(agents.app, rich_help_panel=WATCH)
app.add_typer(context.app, rich_help_panel=WORK)
app.add_typer(conflicts.app, rich_help_panel=WORK)
app.add_typer(errors.app, rich_help_panel=WATCH)
app.add_typer(metrics.app, rich_help_panel=WATCH)
doctor.add_to(app, WATCH)
app.add_typer(simulate.app, rich_help_panel=WATCH)
app.add_typer(engine.app, rich_help_panel=OPERATE)
app.add_typer(engine.functions, rich_help_panel=OPERATE)
version.add_to(app, OPERATE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answer its exit code, as docs/reference/cli.md lists them."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    flags = given[: given.index("--")] if "--" in given else given
    as_json = "--json" in flags
    if "--no-color" in flags:
        # For Typer's own help too, and for processes that a command starts.
        os.environ["NO_COLOR"] = "1"
    try:
        with _termination_unwinds():
            code = app(args=given, prog_name="callboard", standalone_mode=False)
    except CallboardError as error:
        return failures.report(error, as_json=as_json)
    except _Misuse as error:
        return _misused(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return failures.INTERRUPTED
    return code if isinstance(code, int) else failures.OK


def _misused(error: Any, *, as_json: bool) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return failures.USAGE
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if context is not None:
        message = message.rstrip(".")
        stop = "" if message.endswith("?") else "."
        message = f"{message}{stop} See {context.command_path} --help"
    failures.write("usage", message, {}, as_json=as_json)
    return failures.USAGE


@contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that connection and engine are left in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


__all__ = ["Options", "app", "main"]
