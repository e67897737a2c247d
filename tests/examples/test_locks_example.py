"""The example of locks: files, a deadlock with a survivor, and a late writer refused."""

from __future__ import annotations

from tests.examples.primitives import story


def test_nobody_destroys_what_another_does() -> None:
    lines = story("locks")

    assert "The formatter has 8 files to itself." in lines
    assert "60 edits by 6 agents, at most 1 at a time in a file." in lines
    assert lines[2:] == [
        "Deadlock over account:1 and account:2: account:2 to account:1 gives back and tries again.",
        "Done: account:1 to account:2 at attempt 1.",
        "Done: account:2 to account:1 at attempt 2.",
        "Kept as an incident between mira and noor.",
        "The holder sleeps; noor has the page. Her fence is higher: True.",
        "The sleeper wakes and writes: refused.",
        "It gives the page back: lost before.",
        "The page was written by noor.",
    ]
