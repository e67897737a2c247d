"""From words of the command line to values; what does not fit is an InvalidArgument."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from callboard.exceptions import InvalidArgument

_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d|)")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def json_value(what: str, text: str | None) -> Any:
    """JSON, or ``@file``, or ``-`` for standard input, kept as it is written; None for None."""
    if text is None:
        return None
    encoded = source(what, text) if text == "-" or text.startswith("@") else text.encode()
    try:
        msgspec.json.decode(encoded)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidArgument(
            f"{what} is not valid JSON: {error}. Quote it for the shell, as in "
            '\'{"name": "Ada"}\'; text needs quotes of its own, as in \'"text"\'.',
            field=what,
        ) from error
    return msgspec.Raw(encoded.strip())


def source(what: str, name: str) -> bytes:
    """What standard input holds for ``-``, else the file of that name, with or without ``@``."""
    if name == "-":
        return sys.stdin.buffer.read()
    path = Path(name.removeprefix("@")).expanduser()
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(
            f"{what} cannot be read from {path}: {error.strerror}.", field=what
        ) from error


def seconds(what: str, text: str | None) -> float | None:
    """Seconds, or a number with ms, s, m, h or d; None for None."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidArgument(
            f"{what} is {text!r}; give seconds, or a number with ms, s, m, h or d, as in 90 or 5m.",
            field=what,
        )
    return float(match[1]) * _UNITS[match[2]]


def moment(what: str, text: str | None, *, past: bool = False) -> datetime | None:
    """A time of ISO 8601, else a duration from now, or back from now where *past* is meant.

    A time without a zone is one of the local zone, as people mean it.
    """
    if text is None:
        return None
    try:
        if _DURATION.fullmatch(text.strip().lower()):
            span = timedelta(seconds=seconds(what, text) or 0)
            return datetime.now(UTC) - span if past else datetime.now(UTC) + span
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument(
            f"{what} is {text!r}; give a time as 2031-05-01T09:30:00Z, or a span as 10m.",
            field=what,
        ) from error


def names(given: Iterable[str] | None) -> tuple[str, ...]:
    """Names of an option that may be repeated, and may hold several between commas."""
    return tuple(name.strip() for text in given or () for name in text.split(",") if name.strip())


def labels(given: Iterable[str] | None) -> dict[str, str]:
    """Labels as ``key=value``."""
    found: dict[str, str] = {}
    for pair in names(given):
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidArgument(f"Label {pair!r} has no value; write key=value.", field="labels")
        found[key] = value
    return found


def variables(given: Iterable[str] | None) -> dict[str, str]:
    """Values of ``--var`` as ``NAME=value``; the value is whatever follows, commas too."""
    found: dict[str, str] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise InvalidArgument(f"--var {pair!r} is not of the form NAME=value.", field="var")
        found[name] = value
    return found


def priority(text: str) -> int | str:
    """A number, or a word that the library knows."""
    try:
        return int(text)
    except ValueError:
        return text


def operator() -> str:
    """Who gives this command, for the record: the name that the system has for them."""
    name = os.environ.get("USER") or os.environ.get("LOGNAME") or "cli"
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:128]


def json_object(what: str, text: str | None) -> dict[str, Any] | None:
    """A JSON object, read as ``json_value`` reads."""
    raw = json_value(what, text)
    value = None if raw is None else msgspec.json.decode(raw)
    if value is not None and not isinstance(value, dict):
        raise InvalidArgument(
            f'{what} must be a JSON object, as in {{"team": "blue"}}.', field=what
        )
    return value
