"""How errors are classified, and which of them are the same."""

from __future__ import annotations

import random
import time
import uuid

import pytest

from callboard.domain.error import (
    Classification,
    ErrorReport,
    ErrorRule,
    classify,
    fingerprint,
    mark_failure,
    marked,
    names_of,
    normalise,
    plain_name,
)
from callboard.domain.retry import Failure
from callboard.engine.library import LUA
from callboard.exceptions import InvalidArgument


class PageTimeoutError(ConnectionError):
    """Of a program: a kind of a built-in one."""


# Which are the same


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("user 550e8400-e29b-41d4-a716-446655440000 is gone", "user <uuid> is gone"),
        ("USER 550E8400-E29B-41D4-A716-446655440000 is gone", "USER <uuid> is gone"),
        ("task_550e8400-e29b-41d4-a716-446655440000", "task_<uuid>"),
        ("commit a1b2c3d4e5f6 of 0xDEADBEEF", "commit <n> of <n>"),
        ("at 2026-11-21T16:00:00.123Z or 2026-11-21 16:00", "at <time> or <time>"),
        ("GET https://h.example/a/7?q=1 failed", "GET <url> failed"),
        ("no /var/lib/x/7.py, nor ./rel/p or C:\\a\\b.txt", "no <path>, nor <path> or <path>"),
        ("mail ann.b+c@example.org", "mail <email>"),
        ("took 3.5e-7 s, 17 times, -4", "took <n> s, <n> times, <n>"),
        ("and/or  stays\n as it is", "and/or stays as it is"),
        ("------------------------------------", "------------------------------------"),
        ("a decade of facades", "a decade of facades"),
    ],
)
def test_what_differs_between_occurrences_is_taken_out(message: str, pattern: str) -> None:
    assert normalise(message) == pattern


def test_ten_thousand_messages_that_differ_in_ids_numbers_and_paths_are_one_group() -> None:
    chance = random.Random(3)

    prints = {
        fingerprint(
            "NotFound",
            f"row {uuid.UUID(int=chance.getrandbits(128))} of /data/{chance.randrange(9**9)}/p"
            f" (sha {chance.getrandbits(160):040x}) after {chance.random()} s",
        )
        for _ in range(10_000)
    }

    assert len(prints) == 1


def test_another_name_or_another_text_is_another_group() -> None:
    same = fingerprint("A", "no answer after 3 s")

    assert fingerprint("A", "no answer after 40 s") == same
    assert fingerprint("B", "no answer after 3 s") != same
    assert fingerprint("A", "bad answer after 3 s") != same
    assert len(same) == 32


@pytest.mark.parametrize("text", ["a1", "/", "a.a@", "1", "f", "a+", "1.e", "12-", "x://", "0-"])
def test_a_hostile_message_takes_no_time(text: str) -> None:
    begin = time.perf_counter()

    normalise(text * 100_000)

    assert time.perf_counter() - begin < 1


def test_the_engine_has_the_fingerprints_of_its_own_errors() -> None:
    lua = (LUA / "include" / "errors.lua").read_text()

    for word in ("lease_lost", "timeout", "poison", "deadline_exceeded"):
        found = classify([word])
        line = f"{fingerprint(word, '')}|{found.severity}|{int(found.recoverable)}"
        assert f"{word} = '{line}'" in lua


# How bad


@pytest.mark.parametrize(
    ("error", "severity", "recoverable"),
    [
        (MemoryError(), "critical", False),
        (PermissionError(), "high", False),
        (AssertionError(), "high", False),
        (ModuleNotFoundError(), "high", False),
        (TimeoutError(), "medium", True),
        (ConnectionResetError(), "medium", True),
        (FileNotFoundError(), "medium", True),
        (KeyError(), "medium", False),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), "medium", False),
        (ZeroDivisionError(), "medium", False),
        (RuntimeError(), "medium", True),
        (PageTimeoutError(), "medium", True),
        (DeprecationWarning(), "low", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_exception_is_classified_by_what_it_is_a_kind_of(
    error: BaseException, severity: str, recoverable: bool
) -> None:
    found = classify(names_of(error))

    assert (found.severity, found.recoverable) == (severity, recoverable)


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("openai.RateLimitError", "low"),
        ("botocore.ThrottlingException", "low"),
        ("AuthenticationError", "high"),
        ("poison", "critical"),
        ("SomethingElse", "medium"),
    ],
)
def test_a_name_alone_is_classified_without_its_module(name: str, severity: str) -> None:
    assert classify([name]).severity == severity


def test_rules_of_a_program_go_before_the_built_in_ones_each_for_what_it_says() -> None:
    rules = [ErrorRule("Key*", severity="critical"), ErrorRule("*", recoverable=True)]

    assert classify(["KeyError"], rules) == Classification("critical", recoverable=True)
    assert classify(["ValueError"], rules) == Classification("medium", recoverable=True)


@pytest.mark.parametrize("wrong", [{"pattern": ""}, {"pattern": "*", "severity": "bad"}], ids=str)
def test_what_is_no_rule_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        ErrorRule(**wrong)  # type: ignore[arg-type]


def test_the_word_of_a_failure_on_retrying_goes_before_the_rules() -> None:
    kept = mark_failure(Failure("ValueError", "7", retryable=True))

    assert kept.classification == Classification("medium", recoverable=True)


# What is kept


def test_a_mark_has_bars_and_quotes_in_its_message_only() -> None:
    mark = marked('a|b"c\\d\n', 'm "|" \\ \n', Classification("low", recoverable=False), 'x|"y')

    head, message = mark.text.split("|", 5)[:5], mark.text.split("|", 5)[5]

    assert head == [mark.fingerprint, "low", "0", "a_b_c_d_", "x_y"]
    assert message == '"m \\"|\\" \\\\ \\n"'


@pytest.mark.parametrize("name", ["", "\x00", "é" * 500, "\ud800"], ids=ascii)
def test_any_text_becomes_a_name(name: str) -> None:
    assert 1 <= len(plain_name(name)) <= 128
    plain_name(name).encode()


def test_an_exception_brings_its_own_code_and_kinds() -> None:
    report = ErrorReport.from_exception(FileNotFoundError(2, "no file"), component="disk")

    assert (report.name, report.code, report.component) == ("FileNotFoundError", "2", "disk")
    assert report.kinds == ("FileNotFoundError", "OSError")
