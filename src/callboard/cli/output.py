"""Where a command's answer goes: lines for people, or JSON for programs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callboard.cli.failures import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

UNBOUNDED: Final = 10_000
"""The width where nobody looks: what goes to a file or a pipe is not made to fit."""

Lines = Iterable["str | Text"]


class Output:
    """Standard output of one command, in one of two forms.

    Attributes:
        as_json: Programs read it: one JSON document, or a line of JSON an item of a stream.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads standard output."""
        return sys.stdout.isatty()

    @property
    def width(self) -> int:
        """Columns to fit tables into."""
        if not self.is_terminal and not os.environ.get("COLUMNS"):
            return UNBOUNDED
        return max(shutil.get_terminal_size().columns, 20)

    def emit(self, value: Any, render: Callable[..., Lines], *arguments: Any) -> None:
        """Answer once: *value* as the JSON document, or what ``render(*arguments)`` makes of it."""
        if self.as_json:
            self.document(value)
        else:
            self.say(*render(*arguments))

    def say(self, *lines: str | Text) -> None:
        """Print lines for people; nothing where programs read."""
        if self.as_json:
            return
        for line in lines:
            if isinstance(line, str):
                print(printable(line))
            else:
                self._console.print(line, soft_wrap=True)

    def document(self, value: Any) -> None:
        """Print one JSON document, indented."""
        _print_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2))

    def raw(self, text: str) -> None:
        """Print text of a language of its own, as it is."""
        print(text, end="")

    def item(self, value: Any) -> None:
        """Print one line of a JSON stream, at once."""
        _print_bytes(msgspec.json.encode(value))
        self.flush()

    def flush(self) -> None:
        """Let a reader at the other end of a pipe have what was printed."""
        sys.stdout.flush()

    def remark(self, text: str) -> None:
        """Tell people something on stderr that is no part of the answer."""
        if not self.as_json:
            print(printable(text), file=sys.stderr)

    @cached_property
    def _console(self) -> Console:
        return console()


def console(*, stderr: bool = False) -> Console:
    """A console that knows when colours are not wanted, and changes no text by itself."""
    from rich.console import Console

    system: Any = None if os.environ.get("NO_COLOR") else "auto"
    return Console(stderr=stderr, color_system=system, highlight=False, markup=False, emoji=False)


def _print_bytes(encoded: bytes) -> None:
    # Text that UTF-8 cannot write never gets this far: JSON was encoded as UTF-8.
    print(encoded.decode())
