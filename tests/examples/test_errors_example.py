"""The example of errors: sixty failures are three groups and one warning."""

from __future__ import annotations

from tests.examples.primitives import story


def test_failures_that_differ_in_ids_are_three_groups_and_one_cascade() -> None:
    lines = story("errors")

    assert lines == [
        "60 attempts failed; they are 3 groups:",
        "  CacheMiss: 20 times, medium",
        "  ConnectionRefusedError: 20 times, medium",
        "  QueryTimeout: 20 times, medium",
        "Cascades told: 1, of CacheMiss, ConnectionRefusedError, QueryTimeout.",
        "Resolved, and it came again: open, reopened 1 time.",
    ]
