"""The example of contexts: nobody's write is lost, and the watcher sees each."""

from __future__ import annotations

import re

from tests.examples.primitives import story


def test_four_agents_share_one_context_and_lose_nothing() -> None:
    lines = story("context")

    assert lines[0] == "4 agents counted 20 epochs together."
    assert re.fullmatch(r"The best score is 0\.\d+, found by \w+\.", lines[1])
    assert re.fullmatch(r"\d+ writes came too late, were refused, and decided anew\.", lines[2])
    changes = re.fullmatch(r"The watcher saw (\d+) changes, and the last said done\.", lines[3])
    assert changes
    assert int(changes[1]) > 20
    assert lines[4] == "Idle now: ada, mira, noor, olga."
