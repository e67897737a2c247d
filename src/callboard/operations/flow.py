"""Flow: how many at once, how often and in which turns, by the keys of tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

import msgspec

from callboard.domain.flow import FlowHolder, FlowKey, FlowLimits
from callboard.operations.operation import Wire, operations_of
from callboard.operations.wires import Names
from callboard.services.flow import Flow

Unlimited = Literal["unlimited"]
"""JSON has no infinity."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is set for a key, or for all keys that begin alike; null where nothing is.

    Attributes:
        concurrency: Tasks with it as ``concurrency_key`` that may be claimed at once.
        interval: Seconds from one claim of tasks with it as ``rate_key`` to the next, in the
            long run; 0 for no limit.
        burst: Claims that may come at once after a quiet time.
        weight: The share of tasks with it as ``fairness_key``, against 1 of other keys.
        is_paused: Nothing with the key, of whichever of the three kinds, is claimed.
    """

    concurrency: int | Unlimited | None = None
    interval: float | None = None
    burst: int | None = None
    weight: float | None = None
    is_paused: bool | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it stood when it was read.

    Attributes:
        key: Its name; one that ends with ``*`` stands for all that begin so.
        own: What is set for itself.
        holds: What holds for it, patterns counted in.
        running: Claims that occupy a slot of it, on all boards.
        holders: The first 100 of these.
        waiting: Tasks with this key, of any of the three kinds, that wait to be claimed.
        next_at: When its rate lets the next claim through; null for at once.
    """

    key: str
    own: Limits
    holds: Limits
    running: int
    holders: tuple[FlowHolder, ...]
    waiting: int
    next_at: datetime | None


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
