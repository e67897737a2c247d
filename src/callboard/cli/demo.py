"""``callboard demo``: the main job on real input, watched."""

from pathlib import Path
from typing import Annotated

import typer

from callboard.cli.command import Options, command
from callboard.cli.output import Output
from callboard.exceptions import ConfigError


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``demo`` a command of *app*."""
    command(app, "demo", panel=panel, example="callboard demo src --workers 4")(demo)


def demo(
    options: Options,
    out: Output,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="The source tree to survey; a package of the standard library unless given.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=16, help="Worker processes.")
    ] = 3,
    report: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where the report goes."),
    ] = None,
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Whether a worker is killed on the way.")
    ] = True,
) -> int:
    """Survey a source tree with several workers, one of which is killed on the way.

    Nothing is lost and nothing is done twice; the end of it shows how that was checked.
    """
    if options.url is not None or options.namespace is not None or out.as_json:
        raise ConfigError(
            "The demo runs on an engine of its own: leave out --url, --namespace, --json."
        )
    from callboard.demo import main

    return main(folder, workers, report, kill, options.data)
