"""The example of messages: a role, a crash, a dead letter, questions, a topic, a broadcast."""

from __future__ import annotations

import re

from tests.examples.primitives import story


def test_agents_write_to_each_other_and_nothing_is_lost() -> None:
    lines = story("messages")

    assert lines == [
        "To all critics: mira, noor.",
        "A reader crashed with pages [0, 1, 2, 3, 4] in its hands; the other read them too.",
        "Dead letter after 3 deliveries: ValueError: page 7 cannot be read.",
        "All 40 pages are read, each 1 time.",
        "mira answers: chapter 1 looks fine.",
        "mira answers: chapter 2 looks fine.",
        "mira answers: chapter 3 looks fine.",
        "The thread of the first question holds 2 messages.",
        "Subscribed to builds: noor.",
        lines[9],
    ]
    told = "noor: the day is over; mira: the day is over"
    assert re.fullmatch(rf"Broadcast \d+ for 2 agents: {told}\.", lines[9])
