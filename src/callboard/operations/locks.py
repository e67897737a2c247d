"""Locks: acquired, renewed, released; who holds what, who waits for whom, and why."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.locking import Locks
from callboard.operations.operation import operations_of
from callboard.operations.wires import HELD, OWNER, OWNER_OR_NONE, SUBJECT

_operation = operations_of("locks")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work")

_ONE: Final = "/locks/{resource}"
_HELD: Final = {"lock": HELD, "owner": OWNER_OR_NONE}

OPERATIONS: Final = (
    _work(
        "acquire",
        Locks.acquire,
        path="/locks/acquire",
        answers="lock",
        types={"owner": OWNER},
        is_waiting=True,
    ),
    _work("renew", Locks.renew, path="/locks/renew", answers="", types=_HELD, is_repeatable=True),
    _work("release", Locks.release, path="/locks/release", answers="", types=_HELD),
    _work(
        "release_all",
        Locks.release_all,
        path="/locks/release-all",
        answers="released",
        types={"owner": OWNER},
        is_repeatable=True,
    ),
    _operation(
        "force_release",
        Locks.force_release,
        verb="POST",
        path=f"{_ONE}/force-release",
        role="operate",
        answers="fence",
        types={"owner": OWNER_OR_NONE},
    ),
    _read("list", Locks.list, path="/locks", answers="resources"),
    _read("get", Locks.get, path=_ONE, answers="resource"),
    _read("check", Locks.check, path=f"{_ONE}/check", answers="is_held"),
    _read(
        "why", Locks.why, path="/locks/{subject}/why", answers="reasons", types={"subject": SUBJECT}
    ),
    _read("waits", Locks.waits, path="/waits", answers="waits"),
    _read(
        "graph", Locks.graph, path="/waits/graph", answers="graph", types={"owner": OWNER_OR_NONE}
    ),
    _read("incidents", Locks.incidents, path="/deadlocks", answers="incidents"),
)
