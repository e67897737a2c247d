"""Access: API keys, and the log of what operators and administrators did."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from callboard.operations.operation import Operation
from callboard.services.access import Access


def _operation(method: str, function: Callable[..., Any], **rest: Any) -> Operation:
    # Keys are those of the whole engine: a key for one namespace alone has no say in them.
    return Operation(
        service="access", method=method, function=function, role="admin", is_global=True, **rest
    )


_read = partial(_operation, verb="GET", is_repeatable=True)

_ASKER: Final = frozenset({"by_key", "address"})
"""Told by the coordinator, which knows."""

OPERATIONS: Final = (
    _operation("create", Access.create, verb="POST", path="/keys", answers="issued", hidden=_ASKER),
    _read("list", Access.list, path="/keys", answers="keys"),
    _read("get", Access.get, path="/keys/{key_id}", answers="key"),
    _operation(
        "revoke",
        Access.revoke,
        verb="DELETE",
        path="/keys/{key_id}",
        answers="key",
        hidden=_ASKER,
        is_repeatable=True,
    ),
    _read("audit", Access.audit, path="/audit", answers="page"),
)
