"""Flow: how many at once, how often and in which turns, by the keys of tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, Literal

import msgspec

from callboard.domain.flow import FlowKey, FlowLimits
from callboard.operations.operation import Wire, operations_of
from callboard.operations.wires import Names
from callboard.services.flow import Flow

Unlimited = Literal["unlimited"]
"""JSON has no infinity."""


class Limits(FlowLimits, frozen=True, kw_only=True):  # noqa: D101 # That of its base.
    __doc__ = FlowLimits.__doc__

    concurrency: int | Unlimited | None = None  # type: ignore[assignment] # as above


class Key(FlowKey, frozen=True, kw_only=True):  # noqa: D101 # That of its base.
    __doc__ = FlowKey.__doc__

    own: Limits
    holds: Limits


def key_sent(key: FlowKey) -> Key:
    """The key as it is sent."""
    fields = msgspec.structs.asdict(key)
    return Key(**{**fields, "own": _sent(key.own), "holds": _sent(key.holds)})


def key_restored(key: Key) -> FlowKey:
    """The key as the library gives it, of what was sent."""
    fields = msgspec.structs.asdict(key)
    return FlowKey(**{**fields, "own": _restored(key.own), "holds": _restored(key.holds)})


def _sent(limits: FlowLimits) -> Limits:
    fields = msgspec.structs.asdict(limits)
    return Limits(**{**fields, "concurrency": _finite(limits.concurrency)})


def _restored(limits: Limits) -> FlowLimits:
    fields = msgspec.structs.asdict(limits)
    return FlowLimits(**{**fields, "concurrency": _infinite(limits.concurrency)})


def _finite(value: Any) -> Any:
    return "unlimited" if value == math.inf else value


def _infinite(value: Any) -> Any:
    return math.inf if value == "unlimited" else value


def _keys_sent(keys: Iterable[FlowKey]) -> list[Key]:
    return [key_sent(key) for key in keys]


_operation = operations_of("flow", is_repeatable=True)
_one: Final[Any] = {"answers": "key", "result": Key, "render": key_sent}
_many: Final[Any] = {"answers": "keys", "result": list[Key], "render": _keys_sent}
_read = partial(_operation, verb="GET", role="read")
_steer = partial(
    _operation, verb="POST", role="operate", answers="key", result=Key, render=key_sent
)

_ONE: Final = "/flow/{key}"
_CONCURRENCY: Final = Wire(int | Unlimited | None, _finite, _infinite)
_RATE: Final = Wire(float | Unlimited | None, _finite, _infinite)

OPERATIONS: Final = (
    _read("list", Flow.list, path="/flow", **_many),
    _read("get", Flow.get, path=_ONE, **_one),
    _operation(
        "get_many",
        Flow.get_many,
        verb="POST",
        path="/flow/read",
        role="read",
        types={"keys": Names},
        **_many,
    ),
    _steer(
        "limit",
        Flow.limit,
        verb="PUT",
        path=_ONE,
        types={"concurrency": _CONCURRENCY, "rate": _RATE},
    ),
    _steer("weight", Flow.weight, verb="PUT", path=f"{_ONE}/weight"),
    _steer("pause", Flow.pause, path=f"{_ONE}/pause"),
    _steer("resume", Flow.resume, path=f"{_ONE}/resume"),
    _operation("remove", Flow.remove, verb="DELETE", path=_ONE, role="operate", answers=""),
)
