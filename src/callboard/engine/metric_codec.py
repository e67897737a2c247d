"""Between metrics as Python has them and the rows and replies of the functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from callboard.domain import metric as domain
from callboard.domain.bounds import check_whole
from callboard.domain.metric import Metric, MetricPoint, TrainingPoint, TrainingStep
from callboard.domain.names import check_name
from callboard.domain.snapshot import BoardFacts
from callboard.domain.task import at_ms
from callboard.exceptions import InvalidArgument

WHOLE_NUMBER_MAX: Final = 9_007_199_254_740_991
TRAINING_VALUES_MAX: Final = 64


def row_of(point: Any) -> tuple[str, str, Any]:
    """The row that records a point. Raises InvalidArgument."""
    if not isinstance(point, Metric):
        raise InvalidArgument(
            f"A point to record is a Metric, not {type(point).__name__}.", field="points"
        )
    series = domain.series_id(point.name, point.tags)
    value = domain.number_text(domain.check_value("value", point.value))
    return series, value, "" if point.step is None else _step(point.step)


def _step(step: Any) -> int:
    return check_whole("step", step, -WHOLE_NUMBER_MAX, WHOLE_NUMBER_MAX)


def training_row_of(step: Any) -> list[Any]:
    """The row that records a training's step. Raises InvalidArgument."""
    if not isinstance(step, TrainingStep):
        raise InvalidArgument(
            f"A step to record is a TrainingStep, not {type(step).__name__}.", field="steps"
        )
    given: Any = step.values
    if not isinstance(given, Mapping) or not 1 <= len(given) <= TRAINING_VALUES_MAX:
        raise InvalidArgument(
            f"A step reports 1 to {TRAINING_VALUES_MAX} values, as in {{'loss': 0.3}}.",
            field="values",
        )
    values = {
        check_name("metric", name): domain.number_text(domain.check_value(name, value))
        for name, value in given.items()
    }
    rate = (
        ""
        if step.learning_rate is None
        else domain.check_value("learning_rate", step.learning_rate)
    )
    row: list[Any] = [_step(step.step), rate if rate == "" else domain.number_text(float(rate))]
    row += [values.get("loss", "null"), values.get("wer", "null"), len(values)]
    return row + [part for pair in values.items() for part in pair]


def point_of(raw: Any) -> MetricPoint:
    """A point of a series from its entry."""
    fields = dict(pairs_of(raw[1]))
    step = fields.get(b"step")
    return MetricPoint(
        at_ms(int(raw[0].partition(b"-")[0])),
        float(fields[b"value"]),
        None if step is None else int(step),
    )


def training_point_of(raw: Any) -> TrainingPoint:
    """A point of a training from its entry."""
    fields = dict(pairs_of(raw[1]))
    rate = fields.get(b"learning_rate")
    return TrainingPoint(
        at=at_ms(int(fields[b"timestamp"])),
        step=int(fields[b"step"]),
        value=float(fields[b"loss" if b"loss" in fields else b"value"]),
        learning_rate=None if rate is None else float(rate),
    )


def numbers_of(flat: Any) -> dict[str, int]:
    """Names and whole numbers of a flat list."""
    return {name.decode(): int(float(value)) for name, value in pairs_of(flat)}


def info_of(raw: bytes, name: str) -> float:
    """A number of the engine's INFO; 0 where it has none of this name."""
    for line in raw.decode().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return float(value)
    return 0.0


def pairs_of(raw: Any) -> Any:
    """The fields of a hash or entry, in either protocol's shape."""
    return raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)


def facts_of(reply: Any) -> BoardFacts:
    """What the engine said of a board."""
    counts, kinds, priorities, pending, durations = reply[2:7]
    split = [raw.decode().split("|") for raw in durations]
    return BoardFacts(
        counts=numbers_of(counts),
        kinds=numbers_of(kinds),
        priorities=numbers_of(priorities),
        pending=numbers_of(pending),
        durations=[(kind, float(took), max(float(wait), 0.0)) for kind, took, wait in split],
    )
