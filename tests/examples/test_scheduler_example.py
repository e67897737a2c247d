"""The example of the scheduler: spread evenly, learned from, kept together, chosen by oneself."""

from __future__ import annotations

import re

from tests.examples.primitives import story


def test_tasks_go_where_the_counts_the_speeds_the_keys_and_ones_own_rule_say() -> None:
    lines = story("scheduler")

    assert lines[0] == "1,000 tasks, assigned all at once to 100 agents: [10] each."
    assert lines[1] == "Of 40 pages, one after the other, most went to 'quick'."
    assert re.fullmatch(r"The last one: Agent '\w+', of 3 with room, by best_idle: .*", lines[2])
    assert re.fullmatch(r"Of 12 repositories, \d+ have all .* with one agent\.", lines[3])
    assert int(lines[3].split()[3]) >= 8
    assert "Strategy 'cheapest' failed on task" in lines[4]
    assert "KeyError: 'west'" in lines[4]
    assert lines[5] == "Put right, the cheapest has it: south."
