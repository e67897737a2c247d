"""The example of metrics: what the board says of itself is true."""

from __future__ import annotations

from tests.examples.primitives import story


def test_each_completion_counts_and_a_retried_attempt_is_no_failure() -> None:
    lines = story("metrics")

    assert lines[0] == "400 tasks done in the last minute, 0 failed."
    assert lines[1] == ("By kind: {'quick': 200, 'slow': 200}; by priority: {'0': 300, '10': 100}.")
    assert lines[2:] == [
        "The p95 of slow ones is above that of quick ones: True.",
        "The agents' own series has 220 attempts at slow tasks.",
        "The training's average loss: step 1: 1.00 of 1, step 2: 0.75 of 2, "
        "step 3: 0.42 of 2, step 4: 0.29 of 2.",
        "Prometheus is told of each completion: True.",
    ]
