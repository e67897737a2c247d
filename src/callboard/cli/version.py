"""``callboard version``."""

import platform

import typer

from callboard.cli.command import Options, command
from callboard.cli.output import Output


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``version`` a command of *app*."""
    command(app, "version", panel=panel, example="callboard version --json")(version)


def version(options: Options, out: Output) -> None:
    """Say the versions of Callboard, of Python, and of the functions on the engine."""
    from callboard.engine.library import library
    from callboard.version import __version__

    python = platform.python_version()
    value = {"callboard": __version__, "python": python, "library": library().name}
    out.emit(
        value, lambda: [f"callboard {__version__} (Python {python}, functions {library().name})"]
    )


def show(options: Options) -> None:
    """What ``callboard --version`` prints."""
    version(options, Output(as_json=options.json))
