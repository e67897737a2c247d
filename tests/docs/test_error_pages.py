"""The page on error tracking says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from callboard.domain.error import DEFAULT_RULES

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/error-tracking.md"


def test_the_table_of_rules_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (yes|no) \|$", PAGE.read_text(), re.MULTILINE)

    assert rows == [
        (rule.pattern, rule.severity, "yes" if rule.recoverable else "no") for rule in DEFAULT_RULES
    ]
