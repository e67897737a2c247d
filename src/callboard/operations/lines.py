"""What a client asks on behalf of those who wait there: places in line, and what became of them.

Who waits through a client keeps its place whatever becomes of a coordinator or a connection,
since the engine keeps it, and the client says once a second that the wait is still meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from callboard.domain.bounds import check_list
from callboard.domain.lock import WAIT_MAX, check_owner
from callboard.domain.names import check_name
from callboard.domain.task import check_seconds
from callboard.exceptions import TooLarge
from callboard.locking import BATCH, Locks
from callboard.messaging import Messages
from callboard.operations.operation import Operation, Wire
from callboard.services.locks import LockRequest


def _request(given: LockRequest) -> LockRequest:
    """The request, checked as ``acquire`` checks what it is made of."""
    checked = Locks._request(
        given.resources,
        given.owner,
        given.mode,
        given.limit,
        given.lease,
        given.priority,
        given.agent,
    )
    return msgspec.structs.replace(checked, operation=check_name("operation", given.operation))


def _wait(seconds: float) -> float:
    return check_seconds("wait", seconds, 0.0, WAIT_MAX) / 1_000


def _bell(name: str) -> str:
    return check_name("bell", name) if name else ""


def _rows(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    given = check_list("rows", rows)
    if len(given) > BATCH:
        raise TooLarge(f"At most {BATCH} waits in one call, not {len(given):,}.", field="rows")
    return [
        (check_owner(owner), operation and check_name("operation", operation))
        for owner, operation in given
    ]


def _operation(service: str, method: str, function: Callable[..., Any], **rest: Any) -> Operation:
    return Operation(service=service, method=method, function=function, verb="POST", **rest)


_lock = partial(_operation, "locks", role="work", is_repeatable=True)
_message = partial(_operation, "messages", is_repeatable=True)
_REQUEST: Final = Wire(LockRequest, taken=_request)

OPERATIONS: Final = (
    _lock(
        "_ask",
        Locks._ask,
        path="/waits/enter",
        answers="lock",
        types={
            "request": _REQUEST,
            "wait": Wire(float, taken=_wait),
            "bell": Wire(str, taken=_bell),
        },
    ),
    _lock(
        "_await",
        Locks._await,
        path="/waits/await",
        answers="found",
        types={"rows": Wire(list[tuple[str, str]], taken=_rows)},
    ),
    _lock(
        "_withdraw",
        Locks._withdraw,
        path="/waits/leave",
        answers="lock",
        types={"request": _REQUEST},
    ),
    Operation(
        service="locks",
        method="_incident",
        function=Locks._incident,
        verb="GET",
        path="/deadlocks/{incident}",
        role="read",
        answers="incident",
        types={"incident": Wire(str, taken=partial(check_name, "incident"))},
        is_repeatable=True,
    ),
    _message(
        "_look", Messages._look, path="/requests/{request_id}/look", role="read", answers="found"
    ),
    _message(
        "_stop_waiting",
        Messages._stop_waiting,
        path="/requests/{request_id}/stop-waiting",
        role="work",
        answers="",
    ),
)
