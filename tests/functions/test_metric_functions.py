"""Series as the engine keeps them, and coordination metrics that follow from the facts."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callboard.domain.metric import Metric, TrainingStep
from callboard.domain.task import at_ms
from callboard.exceptions import BoardNotFound, EngineError, InvalidArgument, TooLarge
from callboard.services.metrics import Metrics
from tests.functions.support import BOARD, MIRA, NOOR, START_US, Stage, spec
from tests.functions.test_claims import reserved
from tests.functions.test_error_functions import heard, messages

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000
DAY = 86_400


@pytest.fixture
def metrics(stage: Stage) -> Metrics:
    return Metrics(stage.namespace)


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "no name"},
        {"value": "1"},
        {"value": float("nan")},
        {"value": True},
        {"tags": {"k": "a b"}},
        {"step": 1.5},
    ],
    ids=str,
)
async def test_what_is_no_point_is_refused_at_the_edge(
    stage: Stage, metrics: Metrics, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await metrics.record(**{"name": "m", "value": 1, **wrong})

    assert await stage.dump() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"project": ""},
        {"step": "1"},
        {"values": {}},
        {"values": {"loss": float("inf")}},
        {"values": {"no name": 1}},
        {"learning_rate": "fast"},
    ],
    ids=str,
)
async def test_what_no_training_reports_is_refused_at_the_edge(
    stage: Stage, metrics: Metrics, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await metrics.record_training(**{"project": "p", "step": 1, "values": {"loss": 1}, **wrong})

    assert await stage.dump() == before


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.range("m", datetime.min),  # noqa: DTZ901
        lambda m: m.record("m", 1, tags=["x"]),
        lambda m: m.record("m", 1, tags={"k": "1", 2: "2"}),
        lambda m: m.record_many(None),
        lambda m: m.record_training_many("p", None),
        lambda m: m.downsample("m", 1, ["x"]),
        lambda m: m.downsample("m", 1e306),
        lambda m: m.history("task_thruput"),
    ],
)
async def test_what_means_nothing_is_an_error_of_ours(metrics: Metrics, call: Any) -> None:
    with pytest.raises(InvalidArgument):
        await call(metrics)


async def test_a_name_with_a_slip_is_told_the_one_that_was_meant(metrics: Metrics) -> None:
    with pytest.raises(InvalidArgument, match="did you mean task_throughput"):
        await metrics.history("task_thruput")


async def test_one_wrong_point_of_many_records_none(stage: Stage, metrics: Metrics) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await metrics.record_many([Metric(name="m", value=1), Metric(name="no name", value=1)])

    assert await stage.dump() == before


async def test_a_board_that_is_not_there_has_no_snapshot(metrics: Metrics) -> None:
    with pytest.raises(BoardNotFound):
        await metrics.snapshot("nowhere")


@pytest.mark.parametrize("key", ["metrics:series", "metrics:series:m", "metrics:settings"])
async def test_a_foreign_value_stops_recording_before_its_first_write(
    stage: Stage, metrics: Metrics, key: str
) -> None:
    await stage.raw("SADD", key, "not ours")
    before = await stage.dump()

    with pytest.raises(EngineError, match="of the wrong type"):
        await metrics.record_many([Metric(name="a", value=1), Metric(name="m", value=1)])

    assert await stage.dump() == before


async def test_settings_of_a_thousand_names_are_the_most(stage: Stage, metrics: Metrics) -> None:
    for i in range(1_000):
        await stage.call("metric_configure", f"m{i}", 10, 1_000)

    with pytest.raises(TooLarge):
        await metrics.configure("one-more", points=10)

    await metrics.configure("m7", points=20)


# Series


async def test_points_come_back_oldest_first_with_time_and_step(
    stage: Stage, metrics: Metrics
) -> None:
    for i in range(5):
        await metrics.record("m", i / 2, step=i)
        stage.now += 1_000_000

    found = await metrics.recent("m", 3)

    assert [(point.value, point.step) for point in found] == [(1.0, 2), (1.5, 3), (2.0, 4)]
    assert found[0].at == at_ms(START_MS + 2_000)
    spanned = await metrics.range("m", at_ms(START_MS + 1_000), at_ms(START_MS + 2_000))
    assert [point.value for point in spanned] == [0.5, 1.0]
    assert await metrics.recent("other") == []


async def test_each_combination_of_tags_is_a_series(metrics: Metrics) -> None:
    await metrics.record_many(
        Metric(name="m", value=i, tags={"kind": "a" if i % 2 else "b"}) for i in range(10)
    )
    await metrics.record("m", 99)

    assert [p.value for p in await metrics.recent("m", tags={"kind": "a"})] == [1, 3, 5, 7, 9]
    assert [p.value for p in await metrics.recent("m")] == [99]
    names = {(series.name, tuple(series.tags.items())) for series in await metrics.series()}
    assert names == {("m", ()), ("m", (("kind", "a"),)), ("m", (("kind", "b"),))}


async def test_before_the_first_point_there_is_none(stage: Stage, metrics: Metrics) -> None:
    await metrics.record("m", 1)

    for ms in (-86_400_000, 0, START_MS - 1):
        assert await metrics.range("m", until=at_ms(ms)) == []
    assert len(await metrics.range("m", until=at_ms(START_MS))) == 1


async def test_many_points_are_read_in_pages_each_point_once(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.services.metrics.POINTS_AT_ONCE", 7)
    await metrics.record_many(Metric(name="m", value=i) for i in range(50))

    assert [p.value for p in await metrics.recent("m", 20)] == list(range(30, 50))
    assert [p.value for p in await metrics.recent("m", 1_000)] == list(range(50))
    assert len(await metrics.moving_average("m", 3)) == 50


async def test_the_newest_thousand_points_are_kept(stage: Stage, metrics: Metrics) -> None:
    await metrics.record_many(Metric(name="m", value=i) for i in range(2_500))

    found = await metrics.recent("m", 100_000)

    assert [found[0].value, found[-1].value, len(found)] == [1_500, 2_499, 1_000]
    assert await stage.raw("XLEN", "metrics:series:m") == 1_000
    assert 0 < await stage.raw("PTTL", "metrics:series:m") <= 30 * DAY * 1_000


async def test_a_series_is_kept_by_count_and_time_as_configured(
    stage: Stage, metrics: Metrics
) -> None:
    await metrics.configure("m", points=5, keep=60)
    for i in range(8):
        await metrics.record("m", i, tags={"k": "v"})
        await stage.advance(20)

    await metrics.record("m", 8, tags={"k": "v"})

    kept = await metrics.recent("m", tags={"k": "v"})
    assert [point.value for point in kept] == [5, 6, 7, 8]


async def test_a_setting_is_gone_once_it_is_what_is_usual(stage: Stage, metrics: Metrics) -> None:
    for i in range(1_000):
        await stage.call("metric_configure", f"m{i}", 10, 1_000)

    await metrics.configure("m0")
    await metrics.configure("other")
    await metrics.configure("another", points=5)

    assert await stage.raw("HLEN", "metrics:settings") == 1_000
    assert await stage.raw("HEXISTS", "metrics:settings", "m0") == 0


async def test_at_most_ten_thousand_series_are_kept(stage: Stage, metrics: Metrics) -> None:
    await metrics.record_many(Metric(name=f"m{i}", value=i) for i in range(10_500))

    assert await stage.raw("ZCARD", "metrics:series") == 10_000
    names = await stage.raw("ZRANGE", "metrics:series", 0, -1)
    keys = {name for name in await stage.key_names() if name.startswith("metrics:series:")}
    assert keys == {f"metrics:series:{name.decode()}" for name in names}


async def test_means_percentiles_and_spans_are_of_what_was_recorded(
    stage: Stage, metrics: Metrics
) -> None:
    for i in range(1, 101):
        await metrics.record("m", i)
        stage.now += 1_000_000

    means = await metrics.moving_average("m", 10)
    found = await metrics.percentiles("m")
    buckets = await metrics.downsample("m", 60, "count")

    assert [(mean.mean, mean.points) for mean in (means[0], means[-1])] == [(1, 1), (95.5, 10)]
    assert found is not None
    assert (found.p50, found.p95, found.p99) == (50, 95, 99)
    assert [bucket.value for bucket in buckets] == [60, 40]


async def test_of_a_series_without_points_there_is_nothing(metrics: Metrics) -> None:
    assert await metrics.moving_average("m") == []
    assert await metrics.percentiles("m") is None
    assert await metrics.downsample("m", 60) == []
    assert await metrics.training("p") == []
    assert await metrics.training_average("p") == []
    assert await metrics.history("task_throughput") == []


async def test_the_top_are_those_with_the_most_points_lately(
    stage: Stage, metrics: Metrics
) -> None:
    await metrics.record_many(Metric(name="old", value=1) for _ in range(50))
    await stage.advance(301)
    await metrics.record_many(Metric(name="busy", value=i) for i in range(10))
    await metrics.record("quiet", 7)

    tops = await metrics.top(5)

    assert [(top.name, top.points, top.mean, top.last) for top in tops] == [
        ("busy", 10, 4.5, 9),
        ("quiet", 1, 7, 7),
    ]


async def test_series_are_removed_by_name_or_all(metrics: Metrics) -> None:
    await metrics.record_many(
        Metric(name=name, value=1, tags={"i": str(i)}) for name in "ab" for i in range(3)
    )

    assert await metrics.clear("a") == 3
    assert {series.name for series in await metrics.series()} == {"b"}
    assert await metrics.clear() == 3
    assert await metrics.series() == []


# Trainings


async def test_a_training_is_kept_and_published_as_documented(
    stage: Stage, metrics: Metrics
) -> None:
    client, listener = await heard(stage, "events:training:progress")

    await metrics.record_training("proj-1", 7, {"loss": 0.25, "wer": 0.5}, learning_rate=1e-05)
    await metrics.record_training("proj-1", 8, {"accuracy": 1})

    (entry,) = await stage.raw("XRANGE", "metrics:training:proj-1:loss", "-", "+")
    assert dict(zip(entry[1][::2], entry[1][1::2], strict=True)) == {
        b"timestamp": str(START_MS).encode(),
        b"step": b"7",
        b"loss": b"0.25",
        b"learning_rate": b"1e-05",
    }
    (entry,) = await stage.raw("XRANGE", "metrics:training:proj-1:accuracy", "-", "+")
    assert dict(zip(entry[1][::2], entry[1][1::2], strict=True))[b"value"] == b"1"
    at = "2027-01-15T08:00:00.000Z"
    assert await messages(listener, 2) == [
        {"projectId": "proj-1", "step": 7, "loss": 0.25, "wer": 0.5, "timestamp": at},
        {"projectId": "proj-1", "step": 8, "loss": None, "wer": None, "timestamp": at},
    ]
    await client.aclose()


async def test_late_and_repeated_steps_are_read_in_order_the_last_report_of_each(
    metrics: Metrics,
) -> None:
    for step, loss in ((1, 0.9), (3, 0.5), (2, 0.7), (3, 0.4)):
        await metrics.record_training("p", step, {"loss": loss}, learning_rate=0.1)

    found = await metrics.training("p")
    means = await metrics.training_average("p", window=2)

    assert [(point.step, point.value) for point in found] == [(1, 0.9), (2, 0.7), (3, 0.4)]
    assert {point.learning_rate for point in found} == {0.1}
    assert [(mean.step, round(mean.mean, 9), mean.points) for mean in means] == [
        (1, 0.9, 1),
        (2, 0.8, 2),
        (3, 0.55, 2),
    ]


async def test_many_steps_are_kept_to_the_newest_thousand(stage: Stage, metrics: Metrics) -> None:
    await metrics.record_training_many(
        "p", [TrainingStep(step=i, values={"loss": 1 / (i + 1)}) for i in range(1_500)]
    )

    found = await metrics.training("p", limit=2_000)

    assert [found[0].step, found[-1].step, len(found)] == [500, 1_499, 1_000]


# The coordination metrics


async def ended(stage: Stage, count: int, *, took: float = 0.0, **options: Any) -> None:
    """Tasks that were claimed and done, in batches of a thousand."""
    await stage.submit_all(spec(f"d{stage.now}-{i}", **options) for i in range(count))
    while tasks := (await stage.claim(limit=1_000)).tasks:
        stage.now += round(took * 1e6)
        await stage.step(done=[(task.id, task.fence, "1") for task in tasks])


async def test_twenty_thousand_completions_in_a_minute_are_twenty_thousand(
    stage: Stage, metrics: Metrics
) -> None:
    await ended(stage, 20_000)

    found = await metrics.snapshot(BOARD)

    assert found.task_metrics.task_throughput == 20_000
    assert found.task_metrics.completed_tasks == 20_000
    assert found.task_metrics.tasks_by_type == {"work": 1_000}
    assert found.task_metrics.tasks_looked_at == 1_000
    await stage.advance(61)
    assert (await metrics.snapshot(BOARD)).task_metrics.task_throughput == 0


async def test_an_attempt_that_is_tried_again_is_no_failed_task(
    stage: Stage, metrics: Metrics
) -> None:
    await stage.submit("again", "over")
    await stage.fail("again", await stage.held("again"))
    await stage.fail("over", await stage.held("over"), retryable=False)

    found = (await metrics.snapshot(BOARD)).task_metrics

    assert (found.failed_tasks, found.failed_last_minute, found.retrying) == (1, 1, 1)
    assert found.dead_letters == 1


async def test_kinds_and_priorities_are_filled(stage: Stage, metrics: Metrics) -> None:
    await stage.submit(
        spec("a", kind="read", priority=10),
        spec("b", kind="read"),
        spec("c", kind="write"),
        spec("d", "a", kind="write"),
    )
    await stage.held("b")

    found = (await metrics.snapshot()).task_metrics

    assert found.tasks_by_type == {"read": 2, "write": 2}
    assert found.tasks_by_priority == {"0": 3, "10": 1}
    assert found.pending_by_type == {"read": 1, "write": 1}
    assert (found.total_tasks, found.active_tasks, found.pending_tasks, found.blocked_tasks) == (
        4,
        1,
        2,
        1,
    )
    assert found.tasks_looked_at == 4


async def test_durations_have_percentiles_by_kind(stage: Stage, metrics: Metrics) -> None:
    for i in range(1, 101):
        await stage.submit(spec(f"t{i}", kind="read" if i % 2 else "write"))
        stage.now += 5_000
        task = (await stage.claim()).tasks[0]
        stage.now += i * 1_000
        await stage.complete(task.id, task.fence)

    found = await metrics.snapshot(BOARD)

    durations = found.task_metrics.durations
    assert durations is not None
    assert (durations.p50, durations.p95, durations.p99, durations.mean) == (50, 95, 99, 50.5)
    assert found.task_metrics.durations_by_type["read"].p99 == 99
    assert found.task_metrics.durations_by_type["write"].tasks == 50
    assert found.performance_metrics.scheduling_latency == 5


async def test_agents_are_busy_while_they_hold_something(stage: Stage, metrics: Metrics) -> None:
    await stage.agent("olga", limit=4, agent_type="coder")
    await stage.agent(MIRA, limit=4)
    await stage.agent(NOOR, limit=8, status="draining")
    await stage.submit("a", "b")
    await stage.held("a")
    await stage.held("b")

    found = (await metrics.snapshot()).agent_metrics

    assert (found.total_agents, found.active_agents) == (3, 2)
    assert (found.busy_agents, found.idle_agents) == (1, 1)
    assert found.agent_utilization == 25.0
    assert found.agents_by_type == {"coder": 1, "worker": 2}


async def test_thefts_are_counted_as_they_happen(stage: Stage, metrics: Metrics) -> None:
    await reserved(stage, NOOR, 4)

    await stage.claim(MIRA, 10)

    assert (await metrics.snapshot()).coordination_metrics.work_stealing_events == 1


async def test_an_empty_namespace_has_a_snapshot_of_zeros(metrics: Metrics) -> None:
    found = await metrics.snapshot()

    assert found.task_metrics.total_tasks == 0
    assert found.task_metrics.durations is None
    assert found.performance_metrics.memory_usage > 0
    assert found.performance_metrics.coordination_latency > 0


async def test_a_snapshot_of_all_boards_adds_them_up(stage: Stage, metrics: Metrics) -> None:
    await stage.submit("a", board="b1")
    await stage.submit("a", "b", board="b2")

    assert (await metrics.snapshot()).task_metrics.total_tasks == 3
    assert (await metrics.snapshot("b2")).task_metrics.total_tasks == 2


# Samples


async def test_a_sample_is_taken_every_thirty_seconds_by_one(
    stage: Stage, metrics: Metrics
) -> None:
    others = [Metrics(stage.namespace) for _ in range(5)]
    await ended(stage, 3)

    await asyncio.gather(*(each.sweep() for each in (metrics, *others)))
    await stage.advance(29)
    await metrics.sweep()
    assert len(await metrics.history("task_throughput")) == 1
    await stage.advance(2)
    await asyncio.gather(*(each.sweep() for each in (metrics, *others)))

    found = await metrics.history("taskThroughput")
    assert [point.value for point in found] == [3, 3]
    assert [point.value for point in await metrics.history("completed_tasks")] == [3, 3]
    events = [event for event in await stage.news() if event.type == "metrics:coordination"]
    assert len(events) == 2
    assert json.loads(events[0].facts[0].extra)["taskMetrics"]["taskThroughput"] == 3


async def test_the_history_is_of_the_last_hour(stage: Stage, metrics: Metrics) -> None:
    await stage.submit("t")
    for _ in range(3):
        await metrics.sweep()
        await stage.advance(1_801)

    assert len(await metrics.history("total_tasks")) == 1
    assert len(await metrics.history("total_tasks", since=at_ms(START_MS))) == 3


async def test_without_boards_nothing_is_sampled(stage: Stage, metrics: Metrics) -> None:
    before = await stage.dump()

    await metrics.sweep()

    assert await stage.dump() == before


# Prometheus


async def values(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(await metrics.prometheus())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_the_exposition_is_read_by_the_parser_of_prometheus(
    stage: Stage, metrics: Metrics
) -> None:
    await ended(stage, 3, kind="read")
    await stage.submit("t")
    await metrics.record("latency", 1.5, tags={"kind": "x/y"})
    await stage.advance(1)

    found = await values(metrics)

    assert found["callboard_tasks", (("board", "b"), ("status", "done"))] == 3
    assert found["callboard_tasks", (("board", "b"), ("status", "pending"))] == 1
    assert found["callboard_tasks_ended_total", (("board", "b"), ("status", "done"))] == 3
    assert found["callboard_tasks_ended_total", (("board", "b"), ("status", "failed"))] == 0
    assert found["callboard_series", (("name", "latency"), ("tag_kind", "x/y"))] == 1.5
    quantile = (("board", "b"), ("kind", "read"), ("quantile", "0.95"))
    assert ("callboard_task_duration_seconds", quantile) in found
    text = await metrics.prometheus()
    for line in text.splitlines():
        if line.startswith("# TYPE") and line.endswith("counter"):
            assert line.split()[2].endswith("_total")


async def test_counters_only_rise_whatever_is_purged(stage: Stage, metrics: Metrics) -> None:
    key = ("callboard_tasks_ended_total", (("board", "b"), ("status", "done")))
    await ended(stage, 3)
    await stage.advance(1)
    assert (await values(metrics))[key] == 3
    await stage.advance(1)
    assert (await values(metrics))[key] == 3

    await stage.advance(2 * DAY)
    await stage.sweep()
    assert (await stage.counts())["done"] == 0
    assert (await values(metrics))[key] == 3
    await ended(stage, 2)
    await stage.advance(1)

    assert (await values(metrics))[key] == 5


@pytest.mark.parametrize("ticks", [True, False], ids=["ticked", "never-ticked"])
async def test_what_is_purged_before_a_tick_is_counted_once(
    stage: Stage, metrics: Metrics, ticks: bool
) -> None:
    key = ("callboard_tasks_ended_total", (("board", "b"), ("status", "done")))
    await ended(stage, 2)
    if ticks:
        await stage.advance(1)
        await metrics.sweep()
    await ended(stage, 3)
    done = await stage.raw("ZRANGE", "tasks:b:done", 0, -1)

    await stage.purge(*(name.decode() for name in done))
    await stage.advance(1)

    assert (await values(metrics))[key] == 5
    assert (await values(metrics))[key] == 5


async def test_tags_that_prometheus_cannot_tell_apart_are_two_samples(metrics: Metrics) -> None:
    await metrics.record("m", 1, tags={"a-b": "x"})
    await metrics.record("m", 2, tags={"a.b": "x"})
    await metrics.record("m", 3, tags={"c": "x"})
    await metrics.record("m", 4, tags={"a-b": "x", "a.b": "y"})

    text = await metrics.prometheus()

    lines = [line for line in text.splitlines() if line.startswith("callboard_series{")]
    assert sorted(lines) == [
        'callboard_series{name="m",tag_a_b="x",series="m;a-b=x"} 1',
        'callboard_series{name="m",tag_a_b="x",series="m;a.b=x"} 2',
        'callboard_series{name="m",tag_a_b="y",series="m;a-b=x;a.b=y"} 4',
        'callboard_series{name="m",tag_c="x"} 3',
    ]


async def test_each_key_of_metrics_has_a_lifetime(stage: Stage, metrics: Metrics) -> None:
    await ended(stage, 1)
    await metrics.sweep()
    await metrics.record("m", 1)
    await metrics.record_training("p", 1, {"loss": 1})

    names = [name for name in await stage.key_names() if name.startswith("metrics:")]

    assert len(names) > 5
    for name in names:
        assert await stage.raw("PTTL", name) > 0, name
