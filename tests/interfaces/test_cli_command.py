"""From a function to a command."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from callboard.cli.command import Options, command, group
from callboard.cli.output import Output


def test_options_that_belong_together_reach_the_command_as_one_value() -> None:
    @dataclass(frozen=True)
    class Colours:
        front: Annotated[str, typer.Option("--front")] = "black"
        back: Annotated[str, typer.Option("--back")] = "white"

    given: list[tuple[str, Colours]] = []
    app = group("paint", "Paint.")

    app.callback()(lambda: None)

    @command(app, "wall", example="paint wall room")
    def wall(
        options: Options, out: Output, room: Annotated[str, typer.Argument()], colours: Colours
    ) -> None:
        given.append((room, colours))

    done = CliRunner().invoke(app, ["wall", "hall", "--back", "blue"])

    assert done.exit_code == 0, done.output
    assert given == [("hall", Colours(front="black", back="blue"))]
