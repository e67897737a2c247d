"""Flow control: the keys of tasks, what can be set for them, how they stood when read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from callboard.domain.task import at_ms
from callboard.exceptions import InvalidArgument

KEY: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
CONCURRENCY_MAX: Final = 1_000_000
RATE_MAX: Final = 10_000
"""Claims a second: the engine counts time in µs, and an interval is rounded up to one."""
BURST_MAX: Final = 100_000
PER_MAX: Final = 31_536_000.0
WEIGHT_MIN: Final = 0.001
WEIGHT_MAX: Final = 1_000.0
UNLIMITED: Final = "u"
"""How the engine writes that a key has no limit although a pattern would give it one."""


class FlowLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is set for a key, or for all keys that begin alike; None where nothing is.

    Attributes:
        concurrency: Tasks with it as ``concurrency_key`` that may be claimed at once;
            ``math.inf``, which JSON writes as ``"unlimited"``, for as many as there are.
        interval: Seconds from one claim of tasks with it as ``rate_key`` to the next, in the
            long run; 0 for no limit.
        burst: Claims that may come at once after a quiet time.
        weight: The share of tasks with it as ``fairness_key``, against 1 of other keys.
        is_paused: Nothing with the key, of whichever of the three kinds, is claimed.
    """

    concurrency: float | None = None
    interval: float | None = None
    burst: int | None = None
    weight: float | None = None
    is_paused: bool | None = None


class FlowHolder(msgspec.Struct, frozen=True):
    """A claim that occupies a slot of a key."""

    board: str
    task: str
    fence: int


class FlowKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it stood when it was read.

    Attributes:
        key: Its name; one that ends with ``*`` stands for all that begin so.
        own: What is set for itself.
        holds: What holds for it, patterns counted in.
        running: Claims that occupy a slot of it, on all boards.
        holders: The first 100 of these.
        waiting: Tasks with this key, of any of the three kinds, that wait to be claimed.
        next_at: When its rate lets the next claim through; None for at once.
    """

    key: str
    own: FlowLimits
    holds: FlowLimits
    running: int
    holders: tuple[FlowHolder, ...]
    waiting: int
    next_at: datetime | None

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for all keys that begin alike."""
        return self.key.endswith("*")


def check_key(what: str, value: Any) -> str:
    """Return *value* if it can be a key of a task: 1 to 128 letters, digits, ``. _ : -``.

    Raises:
        InvalidArgument: It cannot.
    """
    if not isinstance(value, str) or not KEY.fullmatch(value):
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        raise InvalidArgument(
            f"{what} is {shown}; use 1 to 128 letters, digits, '.', '_', ':' or '-'.", field=what
        )
    return value


def check_key_or_pattern(value: Any) -> str:
    """Return *value* if it is a key, or the beginning of keys with ``*`` behind it."""
    if isinstance(value, str) and value.endswith("*"):
        if value != "*":
            check_key("key", value[:-1])
        return value
    return check_key("key", value)


def flow_field(concurrency_key: str | None, rate_key: str | None, fairness_key: str | None) -> str:
    """The part of a lane that names its tasks' keys; empty where they have none."""
    if concurrency_key is None and rate_key is None and fairness_key is None:
        return ""
    names = (
        ("concurrency_key", concurrency_key),
        ("rate_key", rate_key),
        ("fairness_key", fairness_key),
    )
    return ",".join("" if key is None else check_key(what, key) for what, key in names)


def encode_concurrency(value: Any) -> str:
    """Claims at once as the engine takes it; empty for None, which changes nothing."""
    if value is None:
        return ""
    if value == math.inf:
        return UNLIMITED
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= CONCURRENCY_MAX:
        raise InvalidArgument(
            f"concurrency is {value!r}; it must be a whole number from 0 to "
            f"{CONCURRENCY_MAX:,}, or unlimited.",
            field="concurrency",
        )
    return str(value)


def encode_rate(rate: Any, per: Any, burst: Any) -> tuple[str, str]:
    """*rate* claims in *per* seconds as the µs between two, and how many may come at once.

    The interval is rounded up, so that the rate is never passed.
    """
    if rate is None:
        if burst is not None:
            raise InvalidArgument("burst says nothing without rate.", field="burst")
        return "", ""
    if rate == math.inf:
        return UNLIMITED, ""
    if not _is_number(per) or not 0 < per <= PER_MAX:
        raise InvalidArgument(
            f"per is {per!r}; it must be a number of seconds up to {PER_MAX:,.0f}.", field="per"
        )
    if not _is_number(rate) or rate <= 0 or not rate <= RATE_MAX * per:
        raise InvalidArgument(
            f"rate is {rate!r} in {per:g} s; it must be more than 0 and at most {RATE_MAX:,} a "
            "second, or unlimited. To let nothing through, pause the key.",
            field="rate",
        )
    exact = per * 1e6 / rate
    if exact > PER_MAX * 1e6:
        raise InvalidArgument(
            f"rate is {rate!r} in {per:g} s, which is less than once in a year.", field="rate"
        )
    interval = math.ceil(round(exact, 3))
    most = 1 if burst is None else burst
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= BURST_MAX:
        raise InvalidArgument(
            f"burst is {burst!r}; it must be a whole number from 1 to {BURST_MAX:,}.",
            field="burst",
        )
    return str(interval), str(most)


def encode_weight(value: Any) -> str:
    """A weight as the engine takes it."""
    if not _is_number(value) or not WEIGHT_MIN <= value <= WEIGHT_MAX:
        raise InvalidArgument(
            f"weight is {value!r}; it must be from {WEIGHT_MIN:g} to {WEIGHT_MAX:,.0f}.",
            field="weight",
        )
    return f"{value:.6g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def decode_limits(line: str) -> FlowLimits:
    """What a line of the engine says: ``concurrency|interval us|burst|paused|weight``."""
    concurrency, interval, burst, paused, weight = (line or "||||").split("|")
    return FlowLimits(
        concurrency=_value(concurrency, math.inf),
        interval=None if not interval else 0.0 if interval == UNLIMITED else int(interval) / 1e6,
        burst=int(burst) if burst else None,
        weight=float(weight) if weight else None,
        is_paused=paused == "1" if paused else None,
    )


def _value(text: str, unlimited: float) -> float | None:
    if not text:
        return None
    return unlimited if text == UNLIMITED else int(text)


def flow_key_of(values: Sequence[Any]) -> FlowKey:
    """A key from the eight values of ``flow_read``."""
    key, own, line, running, holders, waiting, _, next_ms = values
    return FlowKey(
        key=key.decode(),
        own=decode_limits(own.decode()),
        holds=decode_limits(line.decode()),
        running=int(running),
        holders=tuple(
            FlowHolder(*_board_and_task(holders[i]), int(float(holders[i + 1])))
            for i in range(0, len(holders), 2)
        ),
        waiting=int(waiting),
        next_at=at_ms(int(next_ms)) if next_ms else None,
    )


def _board_and_task(member: bytes) -> tuple[str, str]:
    board, _, task = member.decode().partition(":")
    return board, task
