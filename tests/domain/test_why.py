"""What is said of an explanation names all that one can say."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from callboard.domain import why
from callboard.engine.library import LUA

ROOT = Path(__file__).parents[2]
SOURCE = inspect.getsource(why)
DOC = why.Why.__doc__ or ""


def of_field(name: str) -> set[str]:
    """The words in code type that the docstring has for a field."""
    found = re.search(rf"^        {name}: (.*?)(?=^        \w+: |\Z)", DOC, re.M | re.S)
    assert found is not None
    return set(re.findall(r"``(\w+)``", found[1]))


def test_every_code_is_in_the_docstring_and_in_the_reference() -> None:
    codes = set(re.findall(r'facts\.why\(\s*"(\w+)"', SOURCE))
    page = (ROOT / "docs" / "reference" / "tasks.md").read_text("utf-8")
    table = page.partition("## Why")[2].partition("\n## ")[0]

    assert len(codes) > 20
    assert of_field("code") == codes
    assert codes <= set(re.findall(r"`(\w+)`", table))


def test_every_verdict_about_an_agent_is_in_the_docstring() -> None:
    lua = (LUA / "task_why.lua").read_text()
    verdicts = set(re.findall(r"verdict(?:, missing)? = '(\w+)'", lua))
    verdicts |= set(re.findall(r'verdict = "(\w+)"', SOURCE))

    assert of_field("agents") == verdicts
    assert {"could_claim", "inactive", "resting"} <= verdicts
