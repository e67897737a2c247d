"""``callboard engine`` and ``callboard functions``: the embedded engine's life, the library."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import failures
from callboard.cli.command import Options, command, group
from callboard.cli.output import Output
from callboard.exceptions import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from callboard.app import Callboard

app = group("engine", "Look at the embedded engine, or stop it.")
functions = group("functions", "Load the functions that run on the engine.")


@command(app, "status", example="callboard engine status")
def status(options: Options, out: Output) -> int:
    """Say how the embedded engine is, without starting it.

    The exit code is 0 if it runs and answers, 3 if not.
    """
    from callboard.cli import render_engine
    from callboard.engine.embedded import engine_status

    found = engine_status(_data_dir(options))
    out.emit(render_engine.shape(found), render_engine.status, found)
    return failures.OK if found.state == "ready" else failures.ENGINE


@command(app, "stop", example="callboard engine stop")
def stop(
    options: Options,
    out: Output,
    force: Annotated[
        bool, typer.Option("--force", help="Also while it is in use: its users lose it.")
    ] = False,
) -> None:
    """Stop the embedded engine; what was acknowledged is on the disk."""
    from callboard.engine.embedded import stop_engine

    folder = _data_dir(options)
    stopped = stop_engine(folder, force)
    words = "Stopped the engine" if stopped else "No engine was running"
    out.emit({"data_dir": str(folder), "stopped": stopped}, lambda: [f"{words} in {folder}."])


def _data_dir(options: Options) -> "Path":
    from callboard.config import resolve_engine

    choice = resolve_engine(options.url, options.data)
    if choice.data_dir is None:
        raise ConfigError(
            f"The engine is a server, {choice}, which this command does not manage. "
            "Give --data for an embedded one, or look at the server: callboard doctor."
        )
    return choice.data_dir


@command(functions, "load", example="callboard functions load --url redis://localhost:6379")
async def load(cb: "Callboard", out: Output) -> None:
    """Load this release's functions, so that the first user need not."""
    from callboard.engine.library import library

    await cb.namespace.functions.load()
    name, count = library().name, len(library().headers)
    value: dict[str, Any] = {"library": name, "functions": count}
    out.emit(value, lambda: [f"Library {name} with {count} functions is loaded."])
