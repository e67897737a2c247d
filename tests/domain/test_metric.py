"""What is computed of points, and the two shapes in which a snapshot is told."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from callboard.domain.exposition import Family, exposition, label_name
from callboard.domain.metric import (
    MetricPoint,
    TrainingPoint,
    check_value,
    downsample,
    latest_steps,
    moving_average,
    number_text,
    parse_series,
    percentiles,
    series_id,
)
from callboard.domain.snapshot import BoardFacts, Cost, Snapshot, snapshot_of, source_name
from callboard.exceptions import InvalidArgument

BEGIN = datetime(2027, 1, 15, 8, tzinfo=UTC)
NAMESPACE = dict.fromkeys(
    (
        *("agents", "resources", "locked", "lock_ms", "waiting", "deadlocks", "sent", "read"),
        *("message_ms", "conflicts", "resolved", "steals", "trips", "breakers_open"),
    ),
    0,
)


def points(*values: float, every: float = 1) -> list[MetricPoint]:
    return [
        MetricPoint(BEGIN + timedelta(seconds=i * every), float(value))
        for i, value in enumerate(values)
    ]


# Refusals


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, True, "1", None], ids=str
)
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument):
        check_value("value", value)


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("no name", {}),
        ("m", {"k": "a;b"}),
        ("m", {"k k": "a"}),
        ("m", {"k": 1}),
        ("m", {f"k{i}": "v" for i in range(9)}),
        ("m", ["k"]),
    ],
    ids=str,
)
def test_what_names_no_series_is_refused(name: str, tags: Any) -> None:
    with pytest.raises(InvalidArgument):
        series_id(name, tags)


@pytest.mark.parametrize(("bucket", "aggregate"), [(0, "mean"), (-1, "mean"), (1, "median")])
def test_a_span_or_aggregate_that_is_none_is_refused(bucket: float, aggregate: Any) -> None:
    with pytest.raises(InvalidArgument):
        downsample(points(1), bucket, aggregate)


# Points


def test_of_no_points_nothing_is_computed() -> None:
    assert moving_average([], 10) == []
    assert percentiles([]) is None
    assert downsample([], 60) == []


def test_each_mean_says_of_how_many_points_it_is() -> None:
    means = moving_average(points(1, 2, 3, 10), 3)

    assert [(mean.mean, mean.points) for mean in means] == [(1, 1), (1.5, 2), (2, 3), (5, 3)]


def test_means_and_sums_are_exact_where_floats_run_over_or_cancel() -> None:
    large = points(*[1e308] * 5)

    assert [m.mean for m in moving_average(large, 5)] == [1e308] * 5
    assert downsample(large, 60)[0].value == 1e308
    assert downsample(large, 60, "sum")[0].value == math.inf
    assert downsample(points(1e308, 1e308, -1e308), 60, "sum")[0].value == 1e308
    assert [m.mean for m in moving_average(points(1e16, 1.0, 5e-324), 1)] == [1e16, 1.0, 5e-324]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.integers(1, 10))
def test_a_moving_average_is_the_mean_of_its_window(values: list[float], window: int) -> None:
    means = [mean.mean for mean in moving_average(points(*values), window)]

    for i, mean in enumerate(means):
        inside = values[max(0, i + 1 - window) : i + 1]
        assert mean == pytest.approx(math.fsum(inside) / len(inside), rel=1e-12, abs=1e-12)


def test_percentiles_are_values_that_were_recorded() -> None:
    found = percentiles(range(1, 101))

    assert found is not None
    assert (found.p50, found.p95, found.p99, found.points) == (50, 95, 99, 100)
    one = percentiles([7.0])
    assert one is not None
    assert (one.p50, one.p95, one.p99) == (7, 7, 7)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200))
def test_at_least_so_many_per_cent_are_not_above_a_percentile(values: list[float]) -> None:
    found = percentiles(values)

    assert found is not None
    for q, value in ((50, found.p50), (95, found.p95), (99, found.p99)):
        assert value in values
        assert sum(v <= value for v in values) >= q / 100 * len(values) - 1e-9
        assert sum(v < value for v in values) < q / 100 * len(values) + 1e-9


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("mean", [2, 10]),
        ("sum", [6, 10]),
        ("min", [1, 10]),
        ("max", [3, 10]),
        ("count", [3, 1]),
        ("first", [1, 10]),
        ("last", [3, 10]),
        ("p50", [2, 10]),
        ("p99", [3, 10]),
    ],
)
def test_spans_begin_at_whole_multiples(aggregate: Any, expected: list[float]) -> None:
    found = downsample(points(1, 2, 3, 10, every=20), 60, aggregate)

    assert [bucket.value for bucket in found] == expected
    assert [bucket.points for bucket in found] == [3, 1]
    assert [bucket.at for bucket in found] == [BEGIN, BEGIN + timedelta(seconds=60)]


def test_a_late_step_takes_its_place_and_a_repeated_one_replaces() -> None:
    steps = [(1, 0.9), (3, 0.5), (2, 0.7), (3, 0.4)]

    found = latest_steps(TrainingPoint(at=BEGIN, step=step, value=value) for step, value in steps)

    assert [(point.step, point.value) for point in found] == [(1, 0.9), (2, 0.7), (3, 0.4)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_the_same_after_it_was_written(value: float) -> None:
    assert float(number_text(value)) == value


def test_tags_are_in_order_and_come_back() -> None:
    series = series_id("latency", {"kind": "greet", "agent": "a@b/c"})

    assert series == "latency;agent=a@b/c;kind=greet"
    assert parse_series(series) == ("latency", {"agent": "a@b/c", "kind": "greet"})


# The snapshot


def facts(**counts: int) -> BoardFacts:
    return BoardFacts(
        counts=counts,
        kinds={"read": 3},
        priorities={"0": 2, "10": 1},
        pending={"read": 1},
        durations=[("read", float(ms), 5.0) for ms in range(1, 101)],
    )


def snapshot(*boards: BoardFacts, agents: tuple[str, ...] = ()) -> Snapshot:
    cost = Cost(latency=1.5, memory=1_000, cpu=None)
    return snapshot_of(BEGIN, boards, {**NAMESPACE, "agents": len(agents)}, agents, cost)


def test_a_snapshot_has_the_documented_groups_and_fields() -> None:
    source = snapshot(facts(total=3, done=2, minute_done=2)).to_source()

    assert source["timestamp"] == "2027-01-15T08:00:00.000Z"
    assert set(source) == {
        *("timestamp", "taskMetrics", "agentMetrics", "resourceMetrics"),
        *("coordinationMetrics", "performanceMetrics"),
    }
    documented = {
        "taskMetrics": "totalTasks activeTasks completedTasks failedTasks cancelledTasks "
        "avgTaskDuration taskThroughput tasksByPriority tasksByType",
        "agentMetrics": "totalAgents activeAgents idleAgents busyAgents agentUtilization "
        "avgTasksPerAgent agentsByType",
        "resourceMetrics": "totalResources lockedResources freeResources resourceUtilization "
        "avgLockDuration lockContention deadlockCount",
        "coordinationMetrics": "messagesSent messagesReceived messageLatency conflictsDetected "
        "conflictsResolved workStealingEvents circuitBreakerTrips",
        "performanceMetrics": "coordinationLatency schedulingLatency memoryUsage cpuUsage "
        "errorRate",
    }
    for group, fields in documented.items():
        assert set(fields.split()) <= set(source[group]), group
    assert source["taskMetrics"]["tasksByType"] == {"read": 3}
    assert source["taskMetrics"]["tasksByPriority"] == {"0": 2, "10": 1}


def test_boards_add_up_and_durations_have_percentiles() -> None:
    found = snapshot(facts(total=3, minute_done=9, minute_failed=1), facts(total=4)).task_metrics

    assert (found.total_tasks, found.task_throughput) == (7, 9)
    assert found.tasks_by_type == {"read": 6}
    assert found.durations is not None
    assert (found.durations.p50, found.durations.p95, found.durations.tasks) == (50, 95, 200)
    assert found.durations_by_type["read"].p99 == 99
    assert found.avg_task_duration == 50.5


def test_utilization_is_of_those_who_may_claim() -> None:
    rows = ("coder|1|3|4", "coder|1|0|4", "|0|0|4")

    found = snapshot(agents=rows).agent_metrics

    assert (found.total_agents, found.active_agents, found.busy_agents, found.idle_agents) == (
        3,
        2,
        1,
        1,
    )
    assert found.agent_utilization == 37.5
    assert found.avg_tasks_per_agent == 1.5
    assert found.agents_by_type == {"coder": 2, "worker": 1}


def test_the_error_rate_is_of_the_tasks_that_ended() -> None:
    found = snapshot(facts(minute_done=3, minute_failed=1)).performance_metrics

    assert found.error_rate == 0.25
    assert snapshot().performance_metrics.error_rate == 0
    assert found.scheduling_latency == 5


def test_each_number_has_a_name_for_its_history() -> None:
    numbers = snapshot(facts(minute_done=3)).numbers()

    assert numbers["task_throughput"] == 3
    assert numbers["task_duration_p95"] == 95
    assert "cpu_usage" not in numbers
    assert source_name("taskThroughput") == "task_throughput"
    assert source_name("task_duration_p95") == "task_duration_p95"


# Prometheus


@pytest.mark.parametrize("text", ['a "b"', "back\\slash", "two\nlines", "é", "{}", ""], ids=ascii)
def test_any_label_comes_back_through_the_parser(text: str) -> None:
    written = exposition([Family("m", "gauge", f"About {text}", [({"l": text}, 1.5)])])

    (family,) = text_string_to_metric_families(written)
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"l": text}, 1.5)


def test_a_family_has_help_and_type_and_none_without_samples() -> None:
    written = exposition(
        [Family("a_total", "counter", "As.", [({}, 3)]), Family("b", "gauge", "Bs.", [])]
    )

    assert written == "# HELP a_total As.\n# TYPE a_total counter\na_total 3\n"


@pytest.mark.parametrize(("text", "name"), [("a-b.c", "a_b_c"), ("1a", "_1a")])
def test_a_tag_becomes_a_label(text: str, name: str) -> None:
    assert label_name(text) == name
