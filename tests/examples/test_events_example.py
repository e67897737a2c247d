"""The example of events: a reader goes on where another one stopped."""

from __future__ import annotations

import re

from tests.examples.primitives import story


def test_the_second_reader_misses_nothing_that_the_first_did_not_see() -> None:
    lines = story("events")

    assert lines[0] == "10 tasks wait."
    assert lines[2] == "The second went on from its cursor: 0 events missed, none seen twice."
    completed = [int(re.fullmatch(r"  \w+ completed (\d+)", line)[1]) for line in lines[3:]]  # type: ignore[index]
    assert len(completed) == 3
    assert sum(completed) == 10
