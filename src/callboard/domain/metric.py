"""Metrics: series of points, what is computed of them, and the coordination snapshot.

Pure. A mean says of how many points it is; of no points there is none, never NaN.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec

from callboard.domain.names import check_label, check_name
from callboard.exceptions import InvalidArgument

POINTS_KEPT: Final = 1_000
"""Of a series for which nothing else was set, as the documented pattern has it."""

POINTS_MAX: Final = 100_000
SERIES_MAX: Final = 10_000
TAGS_MAX: Final = 8
KEPT_SECONDS: Final = 30 * 86_400
"""A series that nobody adds to is gone after this."""

SAMPLE_SECONDS: Final = 30.0
"""How often the coordination metrics are sampled, as the documented collector has it; the
functions have it too."""

TOP_WINDOW_SECONDS: Final = 300.0
BUCKET_SECONDS_MAX: Final = 3_155_760_000

Aggregate = Literal["mean", "sum", "min", "max", "count", "first", "last", "p50", "p95", "p99"]

# Points


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A value to record.

    Attributes:
        name: Of the series.
        value: A finite number.
        tags: Each combination of them is a series of its own; at most 8.
        step: A whole number, where the series has steps.
    """

    name: str
    value: float
    tags: dict[str, str] = {}
    step: int | None = None


class MetricPoint(msgspec.Struct, frozen=True):
    """One value of a series, at the engine's time."""

    at: datetime
    value: float
    step: int | None = None


class TrainingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A value of a training's series.

    Attributes:
        learning_rate: As it was reported with the step, where it was.
    """

    at: datetime
    step: int
    value: float
    learning_rate: float | None = None


class TrainingStep(msgspec.Struct, frozen=True, kw_only=True):
    """What a training reports of one step: finite numbers by name, as ``loss`` or ``wer``."""

    step: int
    values: Mapping[str, float]
    learning_rate: float | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A series that points were recorded for in the last 30 days."""

    name: str
    tags: dict[str, str]
    last_at: datetime


class Mean(msgspec.Struct, frozen=True):
    """A mean that ends with a point.

    Attributes:
        points: Of how many it is: fewer than the window where the series begins.
    """

    at: datetime
    mean: float
    points: int
    step: int | None = None


class Percentiles(msgspec.Struct, frozen=True):
    """Values that so many per cent do not exceed, each one that was really recorded."""

    p50: float
    p95: float
    p99: float
    points: int


class Bucket(msgspec.Struct, frozen=True):
    """What the points of one span come to; *at* is the beginning of the span."""

    at: datetime
    value: float
    points: int


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """A series with what was recorded of it lately."""

    name: str
    tags: dict[str, str]
    points: int
    last: float
    mean: float


def check_value(what: str, value: Any) -> float:
    """Return *value* as a float if it is a finite number. Raises InvalidArgument."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument(f"{what} must be a number, not {type(value).__name__}.", field=what)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidArgument(f"{what} is {value!r:.40}; it must be finite.", field=what)
    return number


def series_id(name: str, tags: Any) -> str:
    """The name, and each tag behind a semicolon, in order: ``latency;kind=greet``.

    Raises:
        InvalidArgument: The name is none, or there are more than 8 tags, or one is no tag.
    """
    check_name("metric", name)
    if (
        not isinstance(tags, Mapping)
        or len(tags) > TAGS_MAX
        or not all(isinstance(key, str) for key in tags)
    ):
        raise InvalidArgument(f"tags must be at most {TAGS_MAX} names with values.", field="tags")
    return ";".join([name, *(check_label(key, tags[key]) for key in sorted(tags))])


def plain_tags(tags: Any) -> dict[str, str]:
    """Tags as a dict of their own. Raises InvalidArgument."""
    if tags is not None and not isinstance(tags, Mapping):
        raise InvalidArgument(f"tags must be at most {TAGS_MAX} names with values.", field="tags")
    return dict(tags or {})


def parse_series(text: str) -> tuple[str, dict[str, str]]:
    """The name and tags of a series' id."""
    name, *tags = text.split(";")
    return name, dict(tag.split("=", 1) for tag in tags)


def number_text(value: float) -> str:
    """The shortest text that is this number again; whole ones without a point."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


# What is computed of points


def moving_average(points: Sequence[MetricPoint], window: int = 10) -> list[Mean]:
    """The mean of each point and those before it, at most *window* in all; none of none."""
    means: list[Mean] = []
    inside: deque[int] = deque()
    total = 0
    for point in points:
        inside.append(_scaled(point.value))
        total += inside[-1]
        if len(inside) > window:
            total -= inside.popleft()
        means.append(Mean(point.at, total / (len(inside) << _SCALE), len(inside), point.step))
    return means


_SCALE: Final = 1_074
"""Any float is a whole number of 2 ** -1074, so that sums of such numbers are exact."""


def _scaled(value: float) -> int:
    above, below = value.as_integer_ratio()
    return above << (_SCALE + 1 - below.bit_length())


def mean(values: Sequence[float]) -> float:
    """The exact mean of at least one value, rounded once; it never overflows."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return sum(map(_scaled, values)) / (len(values) << _SCALE)


def total(values: Sequence[float]) -> float:
    """The exact sum, rounded once; infinite where no float is as large."""
    try:
        return math.fsum(values)
    except OverflowError:
        exact = sum(map(_scaled, values))
    try:
        return exact / (1 << _SCALE)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def percentile(ordered: Sequence[float], q: float) -> float:
    """The nearest-rank percentile of ascending values, of which there is at least one.

    The smallest value that at least *q* per cent of them do not exceed.
    """
    return ordered[max(math.ceil(q / 100 * len(ordered)) - 1, 0)]


def percentiles(values: Iterable[float]) -> Percentiles | None:
    """The exact p50, p95 and p99; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    p50, p95, p99 = (percentile(ordered, q) for q in (50, 95, 99))
    return Percentiles(p50, p95, p99, len(ordered))


_AGGREGATES: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "mean": mean,
    "sum": total,
    "min": min,
    "max": max,
    "count": len,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "p50": lambda values: percentile(sorted(values), 50),
    "p95": lambda values: percentile(sorted(values), 95),
    "p99": lambda values: percentile(sorted(values), 99),
}


def downsample(
    points: Iterable[MetricPoint], bucket: float, aggregate: Aggregate = "mean"
) -> list[Bucket]:
    """One value for each span of *bucket* seconds that has points, oldest first.

    Spans begin at whole multiples of *bucket* since 1970, so two readings agree on them.

    Raises:
        InvalidArgument: No such aggregate, or *bucket* is not 0.001 s to a hundred years.
    """
    if aggregate not in get_args(Aggregate):  # which need not be hashable
        raise InvalidArgument(
            f"aggregate is {aggregate!r}; use one of {', '.join(get_args(Aggregate))}.",
            field="aggregate",
        )
    if not 0.001 <= check_value("bucket", bucket) <= BUCKET_SECONDS_MAX:
        raise InvalidArgument(
            f"bucket is {bucket!r}; it must be 0.001 to {BUCKET_SECONDS_MAX:,} s.", field="bucket"
        )
    span_ms = round(bucket * 1_000)
    spans: dict[int, list[float]] = {}
    for point in points:
        spans.setdefault(round(point.at.timestamp() * 1_000) // span_ms, []).append(point.value)
    apply = _AGGREGATES[aggregate]
    return [
        Bucket(
            datetime.fromtimestamp(span * span_ms / 1_000, UTC), float(apply(values)), len(values)
        )
        for span, values in sorted(spans.items())
    ]


def latest_steps(points: Iterable[TrainingPoint]) -> list[TrainingPoint]:
    """The points by step; of a step that was reported again, the last report counts."""
    by_step: dict[int, TrainingPoint] = {}
    for point in points:
        by_step[point.step] = point
    return [by_step[step] for step in sorted(by_step)]
