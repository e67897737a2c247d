"""The parent of several processes: whom it ends, by what it heard and when."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from callboard.http.listening import ListenSettings
from callboard.http.workers import HANG_SECONDS, START_SECONDS, Workers

PID = 4_000_000  # More than there can be on most machines; nothing is sent to it.


class Parent:
    """Workers whose one process is none, and the signals that it was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.killed: list[int] = []
        self.workers = Workers(1, ListenSettings(port=0), _unused, _unused, _unused)
        monkeypatch.setattr(os, "fork", lambda: PID)
        monkeypatch.setattr(os, "kill", self._kill)

    def begin(self, *, was_ready: bool) -> float:
        """Begin the process; answers when."""
        self.workers._was_ready = was_ready
        self.workers._begin()
        return self.workers.processes[PID]

    def look(self, at: float) -> None:
        """Look each second until then, as a parent that was never stopped itself."""
        now = self.workers._looked
        while now < at:
            now = min(at, now + 1)
            self.workers._end_hung(now)

    def _kill(self, pid: int, number: int) -> None:
        assert (pid, number) == (PID, signal.SIGKILL)
        self.killed.append(pid)


def _unused(*_: object) -> Any:
    raise AssertionError


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parent]:
    found = Parent(monkeypatch)
    yield found
    found.workers._reserved.close()


def test_one_begun_again_that_never_says_anything_is_ended(parent: Parent) -> None:
    began = parent.begin(was_ready=True)
    parent.look(began + START_SECONDS - 1)
    before = list(parent.killed)
    parent.look(began + START_SECONDS + 1)

    assert (before, parent.killed) == ([], [PID])


def test_one_that_spoke_once_is_ended_after_its_silence(parent: Parent) -> None:
    began = parent.begin(was_ready=True)
    parent.workers._heard["1"] = began + 2
    parent.look(began + HANG_SECONDS + 1)
    before = list(parent.killed)
    parent.look(began + HANG_SECONDS + 4)

    assert (before, parent.killed) == ([], [PID])


def test_the_first_ones_may_take_as_long_as_they_need(parent: Parent) -> None:
    began = parent.begin(was_ready=False)
    parent.look(began + 10 * START_SECONDS)

    assert parent.killed == []


def test_a_parent_that_was_stopped_itself_ends_nobody_for_it(parent: Parent) -> None:
    began = parent.begin(was_ready=True)
    parent.workers._end_hung(began + 10 * START_SECONDS)

    assert parent.killed == []
