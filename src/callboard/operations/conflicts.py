"""Conflicts: reported, voted on, referred, decided."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.domain.conflict import Party
from callboard.operations.operation import operations_of
from callboard.services.conflicts import Conflicts

_operation = operations_of("conflicts")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work")
_steer = partial(_operation, verb="POST", role="operate")

_ONE: Final = "/conflicts/{conflict_id}"

OPERATIONS: Final = (
    _work(
        "report",
        Conflicts.report,
        path="/conflicts",
        answers="conflict",
        types={"parties": list[Party | str]},
    ),
    _read("active", Conflicts.active, path="/conflicts", answers="conflicts"),
    _read("history", Conflicts.history, path="/resolutions", answers="conflicts"),
    _read("stats", Conflicts.stats, path="/resolutions/stats", answers="stats"),
    _read("pending", Conflicts.pending, path="/arbiters/{arbiter}/conflicts", answers="conflicts"),
    _read("get", Conflicts.get, path=_ONE, answers="conflict"),
    _work("vote", Conflicts.vote, path=f"{_ONE}/votes", answers="vote", is_repeatable=True),
    _work("open_vote", Conflicts.open_vote, path=f"{_ONE}/ballot", answers="ballot"),
    _work("refer", Conflicts.refer, path=f"{_ONE}/refer", answers="conflict"),
    _work("decide", Conflicts.decide, path=f"{_ONE}/decide", answers="resolution"),
    _work("resolve", Conflicts.resolve, path=f"{_ONE}/resolve", answers="resolution"),
    _steer("cleanup", Conflicts.cleanup, path="/resolutions/cleanup", answers="count"),
)
