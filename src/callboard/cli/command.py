"""From a function to a command: the options that all commands take, the connection, the exit."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import typer

from callboard.cli.output import Output

if TYPE_CHECKING:
    from callboard.app import Callboard

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
PANEL: Final = "Options of all commands"

# Below this width panels would cut the names of options: plain help gives each its own line.
PANELS_WIDTH: Final = 80
HELP_MODE: Final[Literal["rich"] | None] = (
    "rich" if shutil.get_terminal_size().columns >= PANELS_WIDTH else None
)


@dataclass(frozen=True, slots=True)
class Options:
    """What all commands take, before or after the command's name."""

    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Engine, as redis://host:6379/0, or coordinator, as http://host:9001; else "
            "CALLBOARD_URL; else the embedded engine.",
            rich_help_panel=PANEL,
        ),
    ] = None
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            metavar="NAME",
            help="Group of agents and boards, apart from others.",
            rich_help_panel=PANEL,
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Data directory of the embedded engine; else CALLBOARD_DATA; else the nearest "
            ".callboard from here upward.",
            rich_help_panel=PANEL,
        ),
    ] = None
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt", help="Use a database that holds other keys too.", rich_help_panel=PANEL
        ),
    ] = False
    json: Annotated[
        bool, typer.Option("--json", help="Answer in JSON, for programs.", rich_help_panel=PANEL)
    ] = False
    no_color: Annotated[
        bool,
        typer.Option("--no-color", help="No colours; NO_COLOR says so too.", rich_help_panel=PANEL),
    ] = False

    def over(self, before: Options) -> Options:
        """These, with what they leave open taken from *before*."""
        return Options(
            **{
                field.name: getattr(self, field.name) or getattr(before, field.name)
                for field in fields(self)
            }
        )

    def connect(self) -> Callboard:
        """The connection that they ask for, not yet open."""
        from callboard.sdk.connect import connect

        return connect(self.url, namespace=self.namespace, data=self.data, adopt=self.adopt)


def _parameters_of(group: Any) -> list[inspect.Parameter]:
    """A parameter for each field of a group of options."""
    annotations = inspect.get_annotations(group, eval_str=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=annotations[field.name],
        )
        for field in fields(group)
    ]


_SHARED: Final = tuple(_parameters_of(Options))
_CONTEXT: Final = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def take_options(values: dict[str, Any]) -> Options:
    """Take the options that all commands have out of *values*."""
    options: Options = _taken(Options, values)
    return options


def _taken(group: Any, values: dict[str, Any]) -> Any:
    return group(**{field.name: values.pop(field.name) for field in fields(group)})


def sign(function: Callable[..., Any], own: Iterable[inspect.Parameter] = ()) -> None:
    """Give a function of ``ctx`` and keywords the parameters *own*, and those that all have."""
    parameters = [_CONTEXT, *(p.replace(kind=_CONTEXT.kind) for p in own), *_SHARED]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    panel: str | None = None,
    kind: type[typer.core.TyperCommand] | None = None,
) -> Callable[[F], F]:
    """Make a function the command *name*; its docstring and *example* are the help.

    A coroutine function is given an open connection and the output, a plain one the options
    and the output; its other parameters are those of the command. One whose annotation is a
    dataclass, as `Options` is, stands for an option of each of its fields. What it returns is
    the exit code, None for 0. A command with words of its own to read is of another *kind*.
    """

    def decorate(function: F) -> F:
        given = list(inspect.signature(function).parameters.values())[2:]
        groups: dict[str, Any] = {p.name: p.annotation for p in given if is_dataclass(p.annotation)}
        is_async = inspect.iscoroutinefunction(function)

        def run(ctx: typer.Context, **values: Any) -> None:
            options = take_options(values).over(ctx.obj or Options())
            out = Output(as_json=options.json)
            values |= {name: _taken(group, values) for name, group in groups.items()}
            if is_async:
                import asyncio

                code = asyncio.run(_connected(function, options, out, values))
            else:
                code = function(options, out, **values)
            if code:
                raise typer.Exit(code)

        sign(run, chain.from_iterable(_flat(parameter) for parameter in given))
        text = _help(function, example)
        app.command(name, cls=kind, help=text, rich_help_panel=panel)(run)
        return function

    return decorate


def _flat(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    is_group = is_dataclass(parameter.annotation)
    return _parameters_of(parameter.annotation) if is_group else [parameter]


async def _connected(
    function: Callable[..., Awaitable[T]], options: Options, out: Output, values: dict[str, Any]
) -> T:
    async with options.connect() as cb:
        return await function(cb, out, **values)


def group(name: str, summary: str) -> typer.Typer:
    """The commands of one noun."""
    return typer.Typer(name=name, help=summary, no_args_is_help=True, rich_markup_mode=HELP_MODE)


def _help(function: Callable[..., Any], example: str) -> str:
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    lines = "\n".join(f"  {line}" for line in inspect.cleandoc(example).splitlines())
    if HELP_MODE is None:
        # The mark keeps the lines of the example apart.
        return f"{text}\n\n\b\nExample:\n{lines}"
    # Brackets would be read as markup.
    return f"{text}\n\nExample:\n{lines}".replace("[", "\\[")
