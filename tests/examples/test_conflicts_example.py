"""The example of conflicts: each decided once, and the decision holds."""

from __future__ import annotations

from tests.examples.primitives import story


def test_a_task_a_status_and_a_word_are_decided_and_it_holds() -> None:
    assert story("conflicts") == [
        "The task: noor wins, because priority 30 is the highest; taken_back.",
        "  Two nodes decided at once, and one verdict stands.",
        "  What mira handed in late was refused.",
        "  Its result: noor did it",
        "The status: dora's vote decided it for noor.",
        "  The project is 'broken' now.",
        "The word: ann chose, because nobody measured it.",
        "  Trail: reported, referred, resolved.",
        "3 conflicts were decided, 0 are open.",
    ]
