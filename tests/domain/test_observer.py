"""Observers watch; they never get in the way."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from callboard.observer import Observers


def test_an_observer_that_raises_harms_neither_caller_nor_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[tuple[str, Mapping[str, Any]]] = []

    def broken(name: str, facts: Mapping[str, Any]) -> None:
        raise RuntimeError("no")

    observers = Observers()
    observers.add(broken)
    observers.add(lambda name, facts: heard.append((name, facts)))

    with caplog.at_level(logging.ERROR, "callboard"):
        observers.tell("worker.task_started", task="t")

    assert heard == [("worker.task_started", {"task": "t"})]
    assert "worker.task_started" in caplog.text
