"""What the page of locks lists is what the rules say: overlaps, bounds, words of events."""

from __future__ import annotations

import re
from typing import Final

import pytest

from callboard.domain import lock
from callboard.domain.task import PRIORITIES
from callboard.engine.library import LUA
from tests.docs.pages import ROOT

PAGE: Final = (ROOT / "docs/reference/locks.md").read_text("utf-8")
LOCK_LUA: Final = (LUA / "include/lock.lua").read_text("utf-8")
WAITS_LUA: Final = (LUA / "include/waits.lua").read_text("utf-8")


def _table(title: str) -> list[list[str]]:
    """The rows below the header that begins with *title*."""
    lines = iter(PAGE.splitlines())
    next(line for line in lines if line.startswith(f"| {title} |"))
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line[1:-1].split("|")])
    return rows


OVERLAPS: Final = [
    (one.strip("`"), other.strip(" `"), verdict == "yes")
    for one, others, verdict in _table("one")
    for other in others.split(",")
]


def test_the_overlaps_were_read() -> None:
    assert {verdict for _, _, verdict in OVERLAPS} == {True, False}
    assert len(OVERLAPS) == 9


@pytest.mark.parametrize(("one", "other", "verdict"), OVERLAPS, ids=str)
def test_two_names_exclude_each_other_as_the_page_says(one: str, other: str, verdict: bool) -> None:
    assert lock.overlap(one, other) == verdict


@pytest.mark.parametrize(
    ("what", "cells"),
    [
        ("wait", (f"{lock.WAIT_DEFAULT:g} s", f"0 to {lock.WAIT_MAX:,.0f} s")),
        ("lease", (f"{lock.LEASE_DEFAULT:g} s", f"{lock.LEASE_MIN} to {lock.LEASE_MAX:,.0f} s")),
        ("resources in a call", ("", f"1 to {lock.RESOURCES_MAX}")),
        ("parts of a name, wildcards in it", ("", f"{lock.PARTS_MAX}, {lock.WILDCARDS_MAX}")),
    ],
    ids=["wait", "lease", "resources", "parts"],
)
def test_a_bound_is_as_the_page_says(what: str, cells: tuple[str, str]) -> None:
    (row,) = [row for row in _table("what") if row[0].strip("`") == what]

    assert row[1].startswith(cells[0])
    assert row[2].startswith(cells[1])


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("LOCK_TAKE_UP_MS", 2_000, "taken up within 2 s"),
        ("LOCK_WAIT_LEASE_MS", 5_000, "not heard of for 5 s"),
        ("LOCK_RESERVES_US", 2_000_000, "it has waited 2 s"),
        ("LOCK_PRIORITY_US", 1_000_000, "a point of `priority` is worth a second of waiting"),
        ("VICTIM_GRACE_MS", 5_000, "is taken from it after 5 s"),
        ("KARMA_KEPT_MS", 600_000, "in the last ten minutes"),
        ("INCIDENTS_KEPT_MS", 604_800_000, "kept for 7 days"),
        ("INCIDENTS_MOST", 1_000, "at most 1,000 are"),
        ("WAITS_VISITS", 1_500, "1,500 in the call"),
        ("WAITS_VISITS_SWEEP", 12_000, "up to 12,000"),
        ("WAITS_REQUESTS_MOST", 100, "100 are seen"),
        ("LOCKS_HELD_MOST", 1_000, "| resources of an owner | | 1,000: `TooManyLocks` |"),
        ("LOCK_OVERLAPS_MOST", 1_000, "that a pattern covers | | 1,000: `TooManyLocks` |"),
        ("LOCK_HOLDERS_MOST", 1_000, "yes, up to 1,000 owners"),
    ],
)
def test_a_number_of_the_engines_is_as_the_page_says(name: str, number: int, said: str) -> None:
    numbers: dict[str, int] = {}
    for names, values in re.findall(
        r"^local ([A-Z_, ]+) = ([\d, ]+?)(?: --.*)?$", LOCK_LUA + WAITS_LUA, re.MULTILINE
    ):
        numbers |= dict(zip(names.split(", "), map(int, values.split(", ")), strict=True))

    assert numbers[name] == number
    assert said in PAGE


def test_the_words_of_priorities_are_those_of_tasks() -> None:
    (row,) = [row for row in _table("what") if row[0] == "`priority`"]

    for word, points in re.findall(r"`(\w+)` \(([−\d]+)\)", row[2]):
        assert PRIORITIES[word] == int(points.replace("−", "-"))
