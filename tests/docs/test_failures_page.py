"""The page of failures names tests that exist, and covers what it is meant to cover."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/failures.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
COVERED = [str(number) for number in range(1, 21)]
COVERED_TOO = [
    "D1",
    "D2",
    "D3",
    "D4",
    "D5",
    "D6",
    *(f"R{n}" for n in range(1, 19)),
    *(f"F{n}" for n in range(1, 7)),
    *(f"C{n}" for n in range(1, 26)),
]


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text("utf-8"))

    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert name in functions


def test_every_failure_has_a_row_and_every_row_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \w+ \|", line)]

    assert {line.split("|")[1].strip() for line in rows} == {*COVERED, *COVERED_TOO}
    assert all(re.search(r"`tests/[\w/]+\.py::\w+` \|$", line) for line in rows)
