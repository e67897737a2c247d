"""What a worker does as OpenTelemetry spans and metrics; needs ``callboard[otel]``.

    worker.observers.add(OpenTelemetryObserver())

Only the API is used: what is exported, and where to, is up to the providers that the program
has set up. Without any, nothing is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from callboard.exceptions import ConfigError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

NAME: Final = "callboard"
GOOD_ENDINGS: Final = frozenset({"completed", "set_aside", "stopping", "cancelled"})
"""Of an attempt: no fault of the handler. Others make the span an error."""


class OpenTelemetryObserver:
    """An observer that tells each attempt as a span, and counts what happens.

    A span is named ``process {kind}`` and is of the trace that the task carries in its
    ``trace_context``, a trace of its own where it carries none. It is recorded when the attempt
    has ended, so one that a crash cuts short leaves none.

    Metrics: ``callboard.task.duration`` in seconds by kind and ending,
    ``callboard.tasks.active`` by kind, ``callboard.occurrences`` by name.

    Args:
        tracer_provider: The program's global one where it is not given.
        meter_provider: Likewise.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        try:
            from opentelemetry import metrics, trace
            from opentelemetry.context import Context
            from opentelemetry.trace.propagation import tracecontext
        except ImportError as error:
            raise _missing() from error
        self._trace = trace
        self._no_context = Context()
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(NAME, meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "callboard.task.duration", unit="s", description="How long attempts took."
        )
        self._active = meter.create_up_down_counter(
            "callboard.tasks.active", description="Attempts that run."
        )
        self._occurrences = meter.create_counter(
            "callboard.occurrences", description="What happened in this process."
        )

    def __call__(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record one occurrence."""
        self._occurrences.add(1, {"name": name})
        kind = {"callboard.task.kind": str(facts.get("kind", ""))}
        if name == "worker.task_started":
            self._active.add(1, kind)
        elif name == "worker.task_ended":
            self._active.add(-1, kind)
            ending = {"callboard.task.ending": str(facts["ending"])}
            self._duration.record(facts["seconds"], {**kind, **ending})
            self._record_span(facts, {**kind, **ending})

    def _record_span(self, facts: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        end = time.time_ns()
        parent = facts.get("trace_context", "")
        span = self._tracer.start_span(
            f"process {facts['kind']}",
            context=self._propagator.extract({"traceparent": parent}, self._no_context),
            kind=self._trace.SpanKind.CONSUMER,
            start_time=end - round(facts["seconds"] * 1e9),
            attributes={
                **attributes,
                **{
                    f"callboard.task.{name}": facts[fact]
                    for name, fact in (
                        *(("id", "task"), ("board", "board")),
                        *(("agent", "agent"), ("attempt", "attempt")),
                    )
                    if fact in facts
                },
            },
        )
        if facts["ending"] not in GOOD_ENDINGS:
            span.set_status(self._trace.StatusCode.ERROR, str(facts["ending"]))
        span.end(end)


def traceparent() -> str:
    """The current span as a task's ``trace_context``; empty where there is none.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.trace.propagation import tracecontext
    except ImportError as error:
        raise _missing() from error
    carrier: dict[str, str] = {}
    tracecontext.TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def _missing() -> ConfigError:
    return ConfigError("OpenTelemetry is not installed: install Callboard with the extra otel.")
