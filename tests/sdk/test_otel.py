"""What a worker does, as OpenTelemetry's own SDK takes it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from callboard import TaskSpec, otel, testing
from callboard.exceptions import ConfigError, Fatal, TaskFailed
from callboard.otel import OpenTelemetryObserver
from tests.sdk.workers import SECONDS, worker_of, working

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Telemetry:
    """Providers that keep what they are given in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider(metric_readers=[self._reader])
        self.observer = OpenTelemetryObserver(self.tracers, self.meters)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    def metric(self, name: str) -> dict[tuple[Any, ...], Any]:
        """The points of a metric by the values of their attributes."""
        found: dict[tuple[Any, ...], Any] = {}
        data = self._reader.get_metrics_data()
        assert data is not None
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            found[tuple((point.attributes or {}).values())] = point
        return found


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def test_without_the_package_the_error_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "opentelemetry":
            monkeypatch.setitem(sys.modules, name, None)

    for use in (OpenTelemetryObserver, otel.traceparent):
        with pytest.raises(ConfigError, match=r"with the extra otel"):
            use()


async def test_a_task_without_a_trace_begins_one_whatever_the_worker_is_in(
    telemetry: Telemetry,
) -> None:
    async def greet() -> str:
        return "hello"

    worker = worker_of("mira", handlers={"greet": greet})
    worker.observers.add(telemetry.observer)
    async with testing.board() as board:
        handle = await board.tasks.submit("greet", id="t")
        with telemetry.tracers.get_tracer("program").start_as_current_span("main") as main:
            async with working(board.cb, worker):
                await handle.result(SECONDS)

    (span,) = (span for span in telemetry.spans if span.name == "process greet")
    assert span.context is not None
    assert span.parent is None
    assert span.context.trace_id != main.get_span_context().trace_id


async def test_each_attempt_is_a_span_of_the_trace_that_its_task_carries(
    telemetry: Telemetry,
) -> None:
    async def greet() -> str:
        return "hello"

    async def break_it() -> None:
        raise Fatal("no")

    worker = worker_of("mira", handlers={"greet": greet, "break": break_it})
    worker.observers.add(telemetry.observer)
    async with testing.board() as board:
        good_one = await board.tasks.submit("greet", id="good", trace_context=PARENT)
        bad_one = await board.tasks.submit("break", id="bad")
        async with working(board.cb, worker):
            await good_one.result(SECONDS)
            with pytest.raises(TaskFailed):
                await bad_one.result(SECONDS)

    spans = {span.attributes["callboard.task.id"]: span for span in telemetry.spans}  # type: ignore[index]
    good, bad = spans["good"], spans["bad"]
    assert (good.name, good.kind) == ("process greet", SpanKind.CONSUMER)
    assert good.context is not None
    assert good.parent is not None
    assert format(good.context.trace_id, "032x") == PARENT.split("-")[1]
    assert format(good.parent.span_id, "016x") == PARENT.split("-")[2]
    assert good.attributes is not None
    assert good.attributes["callboard.task.agent"] == "mira"
    assert good.attributes["callboard.task.attempt"] == 1
    assert good.attributes["callboard.task.ending"] == "completed"
    assert (good.start_time or 0) <= (good.end_time or 0)
    assert good.status.status_code is StatusCode.UNSET
    assert bad.parent is None
    assert bad.status.status_code is StatusCode.ERROR


def test_durations_and_what_runs_are_measured(telemetry: Telemetry) -> None:
    started = {"task": "t", "kind": "greet"}
    for seconds in (0.5, 1.5):
        telemetry.observer("worker.task_started", started)
        ended = {**started, "ending": "completed", "seconds": seconds}
        telemetry.observer("worker.task_ended", ended)
    telemetry.observer("worker.task_started", started)
    telemetry.observer("worker.lease_lost", {"task": "t"})

    (duration,) = telemetry.metric("callboard.task.duration").values()
    assert (duration.count, duration.sum) == (2, 2.0)
    assert telemetry.metric("callboard.tasks.active")[("greet",)].value == 1
    occurrences = telemetry.metric("callboard.occurrences")
    assert occurrences[("worker.task_started",)].value == 3
    assert occurrences[("worker.lease_lost",)].value == 1


def test_the_current_span_is_what_a_task_carries(telemetry: Telemetry) -> None:
    assert otel.traceparent() == ""

    with telemetry.tracers.get_tracer("test").start_as_current_span("outer") as span:
        carried = otel.traceparent()

    context = span.get_span_context()
    assert carried.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert TaskSpec(kind="k", trace_context=carried).trace_context == carried
