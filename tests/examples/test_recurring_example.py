"""The example of recurring tasks: a tick once, over a switch of clocks and an outage."""

from __future__ import annotations

from tests.examples.primitives import story


def test_ticks_are_fired_once_and_made_good() -> None:
    assert story("recurring") == [
        "The report, at 2:30 in Berlin, comes at these hours of UTC:",
        "  27 March 01:30",
        "  28 March 01:00",
        "  29 March 00:30",
        "Swept by three at once, four times: 4 poll, 1 report",
        "After an outage, polls made good: 10 poll, 1 report",
        "Paused for ten hours, nothing is made good: 10 poll, 1 report",
        "The next poll: 27 March 21:00",
    ]
