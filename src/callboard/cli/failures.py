"""What a failed command says, and the code it exits with."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from callboard import exceptions as e

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
ENGINE: Final = 3
NOT_FOUND: Final = 4
INTERRUPTED: Final = 130

_CODES: Final[tuple[tuple[type[e.CallboardError], int], ...]] = (
    (e.NotFound, NOT_FOUND),
    (e.InvalidArgument, USAGE),
    (e.ConfigError, USAGE),
    # The engine answered and said no: trying another one would not help.
    (e.EngineFull, REFUSED),
    (e.EngineError, ENGINE),
)


def exit_code(error: e.CallboardError) -> int:
    """The exit code that stands for this error: the first class that fits."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), REFUSED)


def report(error: e.CallboardError, *, as_json: bool) -> int:
    """Write the error to stderr, as one line or one JSON document; return the exit code."""
    write(error.code, error.message, dict(error.details), as_json=as_json)
    return exit_code(error)


def write(code: str, message: str, details: dict[str, Any], *, as_json: bool) -> None:
    """Write ``Error: message`` to stderr, or the same with code and details as JSON."""
    if as_json:
        shape = {"error": {"code": code, "message": message, "details": details}}
        line = json.dumps(shape, default=str, ensure_ascii=False)
    else:
        # What is to be pasted keeps its lines.
        block = printable(str(details.get("block") or ""))
        text = printable(message).replace(block, " ") if block else printable(message)
        line = "Error: " + " ".join(text.split()) + (f"\n\n{block}" if block else "")
    print(line.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


def counted(number: int, noun: str) -> str:
    """As ``1 task`` and ``2,000 tasks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text without what a terminal would act on, as it may come from anybody."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
