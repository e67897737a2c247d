"""The list of commands in docs/reference/cli.md, made from the commands themselves.

    python -m tests.interfaces.cli_reference

writes it anew below the mark in the page; what stands above is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from callboard.cli.command import PANEL
from callboard.cli.program import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
MARK = "<!-- Made by python -m tests.interfaces.cli_reference: change the commands, not this. -->\n"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command with its path, in the order of the help."""
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            for inner, leaf in command.commands.items():
                yield (name, inner), leaf
        else:
            yield (name,), command


def reference() -> str:
    """The list as Markdown."""
    return "\n".join(_section(path, command) for path, command in commands())


def _section(path: tuple[str, ...], command: Any) -> str:
    text, _, example = command.help.replace("\\[", "[").partition("\n\nExample:\n")
    lines = [f"### `callboard {' '.join(path)}`", "", *text.replace(". ", ".\n").splitlines(), ""]
    lines += ["```sh", *(line.removeprefix("  ") for line in example.splitlines()), "```", ""]
    own = [param for param in command.params if param.name != "help" and not _is_shared(param)]
    if own:
        lines += ["| | |", "|---|---|", *map(_row, own), ""]
    return "\n".join(lines)


def _is_shared(param: Any) -> bool:
    return getattr(param, "rich_help_panel", None) == PANEL


def _row(param: Any) -> str:
    names = ", ".join([*param.opts, *param.secondary_opts])
    metavar = param.metavar or ""
    if param.param_type_name == "argument":
        shown = metavar if param.required else f"[{metavar}]"
        shown += "…" if param.nargs != 1 else ""
    else:
        shown = f"{names} {metavar}".strip()
    default = "" if param.default in (None, "", False, 0.0) else f" Default: `{param.default}`."
    needed = " Required." if param.required and param.param_type_name == "option" else ""
    text = f"{param.help}{default}{needed}".replace("|", "\\|")
    return f"| `{shown}` | {text} |"


def main() -> None:
    """Write the page anew."""
    above, _, _ = PAGE.read_text("utf-8").partition(MARK)
    PAGE.write_text(f"{above}{MARK}\n{reference()}", "utf-8")


if __name__ == "__main__":
    main()
