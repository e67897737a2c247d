"""Log lines, for people and for programs."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from callboard.cli.logs import JsonFormatter, TextFormatter, redacted


def record(message: str, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("callboard.http", logging.INFO, __file__, 1, message, (), None)
    made.__dict__.update(more)
    return made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("to rediss://mira:s3:cret@host, again", "to rediss://mira:***@host, again"),
        ("redis+sentinel://:p@a:1,b:2/m", "redis+sentinel://:***@a:1,b:2/m"),
        ("http://host/path:a@b", "http://host/path:a@b"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_no_line_shows_the_password_of_a_url(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_passwords_are_hidden_in_tracebacks_too(formatter: logging.Formatter) -> None:
    try:
        raise ConnectionError("cannot reach redis://:s3cret@host:1")
    except ConnectionError:
        made = record("It failed.", exc_info=sys.exc_info())

    line = formatter.format(made)

    assert "s3cret" not in line
    assert "ConnectionError" in line


def test_a_line_for_programs_is_one_object_with_the_fields_of_its_own() -> None:
    line = JsonFormatter().format(record("request", fields={"route": "/tasks", "status": 200}))

    found = json.loads(line)
    assert "\n" not in line
    assert found.pop("at").endswith("+00:00")
    assert found == {
        "level": "info",
        "logger": "callboard.http",
        "message": "request",
        "route": "/tasks",
        "status": 200,
    }


def test_a_line_for_people_has_its_fields_behind_the_message() -> None:
    line = TextFormatter().format(record("request", fields={"route": "/tasks", "status": 200}))

    assert line.endswith("INFO    callboard.http  request  route=/tasks status=200")
