"""The forms that all nouns share."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from callboard.cli import parse
from callboard.cli.render import Column, bar, json_text, size, span, table
from callboard.exceptions import InvalidArgument

COLUMNS = [
    Column("ID"),
    Column("KIND", shrinks=True),
    Column("NOTE", drop=2, shrinks=True),
    Column("N", drop=1, right=True),
]
ROW = ("a" * 24, "k" * 30, "n" * 30, 7)


def drawn(width: int) -> list[str]:
    return [line.plain for line in table(COLUMNS, [ROW], width)]


def test_a_table_that_fits_is_whole() -> None:
    titles, row = drawn(100)

    assert titles.split() == ["ID", "KIND", "NOTE", "N"]
    assert row.split() == ["a" * 24, "k" * 30, "n" * 30, "7"]


def test_what_shrinks_is_cut_before_anything_goes() -> None:
    _, row = drawn(60)

    assert len(row) <= 60
    assert row.startswith("a" * 24 + "  kkk")
    assert "…" in row
    assert row.endswith("7")


def test_columns_go_in_their_order() -> None:
    assert drawn(45)[0].split() == ["ID", "KIND", "N"]
    assert drawn(38)[0].split() == ["ID", "KIND"]


def test_an_id_is_never_cut() -> None:
    assert drawn(20)[1].startswith("a" * 24)


def test_wide_letters_count_as_two() -> None:
    rows = [line.plain for line in table([Column("A"), Column("B")], [("漢字", 1), ("x", 2)], 80)]

    assert rows == ["A     B", "漢字  1", "x     2"]


def test_a_bar_shows_the_least_of_its_parts() -> None:
    line, legend = (text.plain for text in bar({"done": 1_000, "failed": 1}, 60))

    assert len(line) == 50
    assert line.endswith("✗")
    assert legend == "█ 1,000 done  ✗ 1 failed"


def test_nothing_has_no_bar() -> None:
    assert bar({"done": 0}, 60) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.25, "250ms"),
        (5, "5.0s"),
        (42, "42s"),
        (60, "1m"),
        (90, "1m30s"),
        (3_600, "1h"),
        (5_400, "1h30m"),
        (90_000, "1d1h"),
        (864_000, "10d"),
    ],
)
def test_a_span_reads_well(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_size_reads_well() -> None:
    shown = [size(count) for count in (0, 1023, 1536, 5 << 30)]

    assert shown == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]


def test_long_json_is_cut_and_says_so() -> None:
    shown = json_text(["x" * 100] * 100, 50)

    assert len(shown) < 120
    assert "all of it with --json" in shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5h", 5_400), ("250ms", 0.25), ("5 M", 300), (".5", 0.5), ("2d", 172_800)],
)
def test_a_span_is_read(text: str, seconds: float) -> None:
    assert parse.seconds("delay", text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "soon", "5x", "1e3", "nan"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse.seconds("delay", text)


def test_a_moment_is_read_in_its_zone() -> None:
    moment = parse.moment("deadline", "2031-05-01T11:30:00+02:00")

    assert moment == datetime(2031, 5, 1, 9, 30, tzinfo=UTC)


def test_a_span_is_ahead_or_back() -> None:
    now = datetime.now(UTC)

    ahead, back = parse.moment("deadline", "1h"), parse.moment("since", "1h", past=True)

    assert ahead is not None
    assert back is not None
    assert back < now < ahead
