"""Metrics: points recorded and read, trainings, and what the boards measure of themselves."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import operations_of
from callboard.services.metrics import Metrics

_operation = operations_of("metrics")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work", answers="")
_steer = partial(_operation, role="operate", is_repeatable=True)

_ONE: Final = "/series/{name}"
_TRAINING: Final = "/trainings/{project}"

OPERATIONS: Final = (
    _work("record", Metrics.record, path=f"{_ONE}/points"),
    _work("record_many", Metrics.record_many, path="/series/points"),
    _read("series", Metrics.series, path="/series", answers="series"),
    _read("recent", Metrics.recent, path=f"{_ONE}/points", answers="points"),
    _read("range", Metrics.range, path=f"{_ONE}/range", answers="points"),
    _read("history", Metrics.history, path=f"{_ONE}/history", answers="points"),
    _read("percentiles", Metrics.percentiles, path=f"{_ONE}/percentiles", answers="percentiles"),
    _read("moving_average", Metrics.moving_average, path=f"{_ONE}/averages", answers="means"),
    _read("downsample", Metrics.downsample, path=f"{_ONE}/buckets", answers="buckets"),
    _steer("configure", Metrics.configure, verb="PUT", path=_ONE, answers=""),
    _steer("clear", Metrics.clear, verb="DELETE", path="/series", answers="count"),
    _read("top", Metrics.top, path="/metrics/top", answers="top"),
    _read("snapshot", Metrics.snapshot, path="/metrics/snapshot", answers="snapshot"),
    _read("prometheus", Metrics.prometheus, path="/metrics/exposition", answers="text"),
    _work("record_training", Metrics.record_training, path=f"{_TRAINING}/steps"),
    _work("record_training_many", Metrics.record_training_many, path=f"{_TRAINING}/steps/batch"),
    _read("training", Metrics.training, path=f"{_TRAINING}/points", answers="points"),
    _read(
        "training_average", Metrics.training_average, path=f"{_TRAINING}/averages", answers="means"
    ),
)
