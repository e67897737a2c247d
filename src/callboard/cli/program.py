"""The program ``callboard``: its commands put together, its errors told, its exit code."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn

import typer

from callboard.cli import failures
from callboard.cli.command import HELP_MODE, Options, sign, take_options
from callboard.exceptions import CallboardError

WORK: Final = "Work"
WATCH: Final = "Watch"
OPERATE: Final = "Operate"

TERMINATED: Final = 128 + signal.SIGTERM

# Typer has carried Click inside since 0.26 and stood on it before: this is the class in both.
_Misuse: Final[Any] = next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException")

#: Every command and group of the program in the order of its help: its module, what to call
#: or to add there, and its panel. A module is imported once its command is wanted.
_COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "demo": ("demo", "add_to", WORK),
    "init": ("init", "add_to", WORK),
    "run": ("run", "add_to", WORK),
    "worker": ("worker", "add_to", WORK),
    "tail": ("events", "add_to", WATCH),
    "doctor": ("doctor", "add_to", WATCH),
    "serve": ("serve", "add_to", OPERATE),
    "audit": ("keys", "add_to", OPERATE),
    "version": ("version", "add_to", OPERATE),
    "runs": ("runs", "app", WORK),
    "teams": ("teams", "app", WORK),
    "tasks": ("claims", "app", WORK),
    "boards": ("boards", "app", WORK),
    "dlq": ("dead_letters", "app", WORK),
    "messages": ("message_links", "app", WORK),
    "locks": ("lock_run", "app", WORK),
    "recurring": ("recurring", "app", WORK),
    "flow": ("flow", "app", WORK),
    "scheduler": ("scheduler", "app", WORK),
    "breakers": ("breakers", "app", WORK),
    "agents": ("agents", "app", WATCH),
    "context": ("context", "app", WORK),
    "conflicts": ("conflicts", "app", WORK),
    "errors": ("errors", "app", WATCH),
    "metrics": ("metrics", "app", WATCH),
    "simulate": ("simulate", "app", WATCH),
    "keys": ("keys", "app", OPERATE),
    "engine": ("engine", "app", OPERATE),
    "functions": ("engine", "functions", OPERATE),
}


class _Commands(Mapping[str, Any]):
    """The commands by name, each made when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, attribute, panel = _COMMANDS[name]
            found = getattr(importlib.import_module(f"callboard.cli.{module}"), attribute)
            alone = typer.Typer(rich_markup_mode=HELP_MODE, pretty_exceptions_enable=False)
            if isinstance(found, typer.Typer):
                alone.add_typer(found, rich_help_panel=panel)
            else:
                found(alone, panel)
            self._made[name] = typer.main.get_group(alone).commands[name]
        return self._made[name]


class _Program(typer.core.TyperGroup):
    """The program's own group: to make all of its commands takes longer than most of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    cls=_Program,
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
        from callboard.cli import version

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
    error.message = _clear(error.message)
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if context is not None:
        message = message.rstrip(".")
        stop = "" if message.endswith("?") else "."
        message = f"{message}{stop} See {context.command_path} --help"
    failures.write("usage", message, {}, as_json=as_json)
    return failures.USAGE


_EXPECTED: Final = {
    "Input should be a valid integer": "This takes a whole number.",
    "Input should be a valid number": "This takes a number.",
    "Input should be a valid boolean": "This takes true or false.",
}


def _clear(said: str) -> str:
    """What the parser says of a value, in the words of this program."""
    import difflib
    import re

    said = said.removeprefix("Value error, ")
    for begin, words in _EXPECTED.items():
        if said.startswith(begin):
            return words
    choice = re.fullmatch(r"(['\"])(.*)\1 is not one of (.*?)\.?", said, re.DOTALL)
    if choice is None:
        return said
    known = re.findall(r"'([^']*)'", choice[3])
    near = difflib.get_close_matches(choice[2].lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{choice[2]!r} is none of {', '.join(known)}.{hint}"


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
