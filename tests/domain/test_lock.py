"""The rules of locks that need no engine: names, patterns, owners."""

from __future__ import annotations

import inspect
import itertools
import random
import re
from types import SimpleNamespace
from typing import Any

import pytest

from callboard.domain import lock
from callboard.domain.lock import (
    WaitEdge,
    WaitGraph,
    check_owner,
    check_resource,
    check_resources,
    overlap,
    parts_of,
)
from callboard.exceptions import InvalidArgument
from callboard.locking import Locks


def test_the_documented_default_of_the_wait() -> None:
    assert inspect.signature(Locks.acquire).parameters["wait"].default == 30.0


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("db", ["db"]),
        ("file:src/a.py", ["file:", "src/", "a.py"]),
        ("file:src/", ["file:", "src/"]),
        ("//x", ["/", "/", "x"]),
    ],
)
def test_a_name_is_cut_behind_slashes_and_colons(name: str, parts: list[str]) -> None:
    assert parts_of(name) == parts


def as_regex(pattern: str) -> re.Pattern[str]:
    """What a pattern means, in another way: as a regular expression over whole names."""
    text = ""
    for part in parts_of(pattern):
        if part.rstrip("/:") == "**":
            text += "(?:[^/:]*[/:])*(?:[^/:]+)?"
            continue
        for letter in part:
            text += {"*": "[^/:]*", "?": "[^/:]"}.get(letter, re.escape(letter))
    return re.compile(text)


def test_a_pattern_overlaps_the_names_that_it_matches() -> None:
    chance = random.Random(1)
    pieces = ["a", "b", "ab", "*", "a*", "?", "**"]
    names = ["a", "b", "ab", "ba"]
    for _ in range(3_000):
        pattern = "f:" + "/".join(chance.choice(pieces) for _ in range(chance.randrange(1, 4)))
        name = "f:" + "/".join(chance.choice(names) for _ in range(chance.randrange(1, 4)))
        if "**/" in pattern:
            continue  # Its end is told apart below.

        assert overlap(pattern, name) == bool(as_regex(pattern).fullmatch(name)), (pattern, name)


def test_two_patterns_overlap_where_some_name_is_meant_by_both() -> None:
    chance = random.Random(2)
    pieces = ["a", "b", "*", "a*", "**", "?"]
    names = [
        "/".join(parts)
        for n in range(1, 4)
        for parts in itertools.product(["a", "b", "ab", "aa"], repeat=n)
    ]
    for _ in range(400):
        first, second = (
            "/".join(chance.choice(pieces) for _ in range(chance.randrange(1, 4))) for _ in "ab"
        )
        both = [name for name in names if overlap(first, name) and overlap(second, name)]

        if both:
            assert overlap(first, second), (first, second, both)


def test_a_claim_owns_by_board_task_and_fence() -> None:
    claimed = SimpleNamespace(board="b", id="t", fence=7)

    assert check_owner(claimed) == "claim:b:t:7"
    assert check_owner(SimpleNamespace(task=claimed)) == "claim:b:t:7"
    assert check_owner("claim:b:t:7") == "claim:b:t:7"


@pytest.mark.parametrize("wrong", ["", "a b", "claim:b:t", "ä", "x" * 301, 7, None], ids=str)
def test_what_is_no_owner_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        check_owner(wrong)


def test_checked_names_are_remembered_up_to_a_bound() -> None:
    for i in range(5_000):
        check_resource(f"order:{i}")

    assert lock._checked_resource.cache_info().currsize <= 4_096


def test_resources_are_sorted_and_once_each() -> None:
    assert check_resources(["b", "a", "b"]) == ["a", "b"]
    with pytest.raises(InvalidArgument):
        check_resources([f"r{i}" for i in range(101)])


def test_a_graph_is_told_for_graphviz() -> None:
    graph = WaitGraph((WaitEdge("a", "b", 'file:"x"'), WaitEdge("b", "c", "s", is_any=True)))

    assert graph.dot() == (
        'digraph waits {\n  rankdir=LR;\n  "a";\n  "b";\n  "c";\n'
        '  "a" -> "b" [label="file:\\"x\\""];\n  "b" -> "c" [label="s", style=dashed];\n}\n'
    )
