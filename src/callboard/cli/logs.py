"""Log lines, for people or for programs. No line shows the password of a URL."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final, Literal

LogFormat = Literal["text", "json"]

_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+(@)", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text with the password of each URL in it replaced by ``***``."""
    return _PASSWORD.sub(r"\1***\2", text) if "://" in text else text


class TextFormatter(logging.Formatter):
    """A line for people: time, level, logger, message, and the fields as ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        fields = _fields(record)
        tail = "".join(f" {name}={value}" for name, value in fields.items())
        first, newline, rest = super().format(record).partition("\n")
        return redacted(f"{first}{'  ' if tail else ''}{tail.lstrip()}{newline}{rest}")


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message, the fields, and the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, ensure_ascii=False, default=str))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has besides its message: given as ``extra={"fields": …}``."""
    return getattr(record, "fields", None) or {}


def log_to_stderr(*, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Log what happens, or only what goes wrong, or more: a line each, or a JSON object each."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, handlers=[handler])
    # The server warns of each request that is no HTTP: whoever sends garbage would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
