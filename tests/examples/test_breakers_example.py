"""The example of breakers: a service that is down is spared, probed, and used again."""

from __future__ import annotations

import re

from tests.examples.primitives import story


def test_a_service_that_is_down_is_spared_and_every_task_is_done_in_the_end() -> None:
    lines = story("breakers")

    assert lines[0] == "weather-api is down: open after 5 failures in a row."
    assert lines[1] == "All 40 cities are looked up, and the breaker is closed."
    calls = re.fullmatch(r"Calls while it was down: (\d+)\. Calls spared: (\d+)\.", lines[2])
    assert calls
    assert 5 <= int(calls[1]) < 40
    assert int(calls[2]) > 0
    assert re.fullmatch(r"Probes at a time, at most: [12]\.", lines[3])
    assert "kind:publish is isolated" in lines[4]
    assert lines[5] == "Reset: page 1 is out."
