"""``callboard init``: a team to begin with."""

import importlib.resources
import os
import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from callboard.cli.command import Options, command
from callboard.cli.output import Output
from callboard.exceptions import ConfigError

FILES: Final = ("team.yaml", "handlers.py", "counter.py")
REQUEST: Final = "What is in this folder?"

_TEMPLATES: Final = importlib.resources.files("callboard.cli") / "templates"


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``init`` a command of *app*."""
    command(app, "init", panel=panel, example="callboard init surveyors")(init)


def init(
    options: Options,
    out: Output,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where to; made where it is not there."),
    ] = Path(),
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there under these names.")
    ] = False,
) -> None:
    """Write a team that runs at once: team.yaml and the agents that it names.

    They survey the text files of a folder, without a model and without the network. Replace
    them by your own.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = [name for name in FILES if os.path.lexists(folder / name)]
        if there and not force:
            raise ConfigError(
                f"{folder.resolve()} has {' and '.join(there)} already. Name another folder, or "
                "have them replaced with --force.",
                files=there,
            )
        for name in FILES:
            (folder / name).write_bytes((_TEMPLATES / name).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder} cannot be written: {error.strerror}. Name another folder."
        ) from error
    run = f"callboard run {shlex.quote(str(folder / FILES[0]))} {shlex.quote(REQUEST)}"
    value = {"folder": str(folder.resolve()), "files": list(FILES), "next": run}
    out.emit(value, _lines, folder, run)


def _lines(folder: Path, run: str) -> list[str]:
    return [*(f"Wrote {folder / name}" for name in FILES), f"Next: {run}"]
