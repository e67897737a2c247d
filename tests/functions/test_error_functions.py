"""Errors as the engine keeps them: logged, counted, grouped, correlated, each in one step."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from callboard.domain.error import ErrorReport, ErrorRule
from callboard.domain.retry import Failure
from callboard.domain.task import at_ms
from callboard.exceptions import EngineError, ErrorNotFound, InvalidArgument
from callboard.services.claims import Holding
from callboard.services.errors import Errors
from tests.functions.support import BOARD, MIRA, START_US, Stage, spec

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000
DAY = 86_400
NOBODY = "0" * 32


@pytest.fixture
def errors(stage: Stage) -> Errors:
    return Errors(stage.namespace)


async def heard(stage: Stage, *channels: str) -> Any:
    """A subscription to documented channels of this namespace."""
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(stage.connection.url)
    listener = client.pubsub(ignore_subscribe_messages=True)
    await listener.subscribe(*(stage.keys.prefix + channel for channel in channels))
    await listener.get_message(timeout=5)
    return client, listener


async def messages(listener: Any, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    deadline = asyncio.get_running_loop().time() + 2
    while len(found) < count and asyncio.get_running_loop().time() < deadline:
        message = await listener.get_message(ignore_subscribe_messages=True, timeout=0.2)
        if message is not None:
            found.append(json.loads(message["data"]))
    return found


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": 1},
        {"message": 1},
        {"task": "no name"},
        {"project": ""},
        {"agent": "a/b"},
        {"component": "a b"},
        {"severity": "bad"},
        {"by": 1},
    ],
    ids=str,
)
async def test_what_cannot_be_recorded_is_refused_at_the_edge(
    stage: Stage, errors: Errors, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await errors.record(**{"error": "E", **wrong})

    assert await stage.dump() == before


async def test_one_wrong_report_of_many_records_none(stage: Stage, errors: Errors) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await errors.record_many([ErrorReport(name="E"), ErrorReport(name="E", task="no name")])

    assert await stage.dump() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 1_001},
        {"severity": "bad"},
        {"before": "x"},
        {"fingerprint": "x"},
        {"since": 3},
        {"training": True},
    ],
    ids=str,
)
async def test_a_filter_that_nothing_could_fit_is_refused(
    errors: Errors, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        await errors.list(**wrong)


async def test_a_group_that_nobody_recorded_is_not_found(stage: Stage, errors: Errors) -> None:
    before = await stage.dump()

    for call in (errors.group(NOBODY), errors.resolve(NOBODY), errors.ignore(NOBODY)):
        with pytest.raises(ErrorNotFound):
            await call

    assert await stage.dump() == before


@pytest.mark.parametrize(
    "key",
    [
        "errors:tasks:log",
        "errors:unique_signatures",
        "errors:counters",
        "errors:recent",
        "errors:correlations:log",
        "errors:task:t:details:p",
        "events",
    ],
)
async def test_a_foreign_value_stops_recording_before_its_first_write(
    stage: Stage, errors: Errors, key: str
) -> None:
    await stage.raw("DEL", key)
    await stage.raw("RPUSH" if key == "none" else "SADD", key, "not ours")
    before = await stage.dump()

    with pytest.raises(EngineError, match="of the wrong type"):
        await errors.record("E", "m", task="t", project="p")

    assert await stage.dump() == before


@pytest.mark.parametrize(
    "call",
    [
        lambda e: e.list(since=datetime.min),  # noqa: DTZ901
        lambda e: e.groups(since=datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))),
        lambda e: e.list(name=5),
        lambda e: e.list(before="0-0"),
        lambda e: e.list(before="99999999999999999999999-0"),
        lambda e: e.record_many(None),
        lambda e: e.record_many([ErrorReport(name="E", kinds=(1,))]),  # type: ignore[arg-type]
        lambda e: e.configure(track_failures="yes"),
        lambda e: e.configure(stacks=1),
    ],
)
async def test_what_means_nothing_is_an_error_of_ours(errors: Errors, call: Any) -> None:
    with pytest.raises(InvalidArgument):
        await call(errors)


def test_a_rule_or_name_that_is_none_is_refused_and_changes_nothing(errors: Errors) -> None:
    for call in (
        lambda: errors.add_rules(ErrorRule("E", "low"), "x"),  # type: ignore[arg-type]
        lambda: errors.classify(5),  # type: ignore[arg-type]
        lambda: errors.fingerprint(5, "x"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgument):
            call()

    assert errors.classify("E").severity == "medium"


@pytest.mark.parametrize(
    ("key", "is_kept"),
    [
        ("errors:tasks:log", False),
        ("errors:counters", False),
        ("errors:task:t:details:b", True),
        (f"errors:recent:{START_MS // 10_000 - 5}", True),
    ],
)
async def test_a_foreign_value_costs_errors_and_no_task(
    stage: Stage, errors: Errors, key: str, is_kept: bool
) -> None:
    await stage.submit("t", "other", spec("late", deadline=at_ms(START_MS + 5_000)))
    fence = await stage.held("t")
    await stage.held("other")
    await stage.raw("SADD", key, "not ours")

    assert await stage.fail("t", fence) == "retry_scheduled"
    await stage.after(31)

    assert await stage.status("late") == "failed"
    assert (await stage.record("other")).crashes == 1
    kept = {entry.task for entry in await errors.list()} if is_kept else set()
    expected = {"other", "late"} | (set() if "details" in key else {"t"}) if is_kept else set()
    assert kept == expected
    assert list(await stage.raw("SMEMBERS", key)) == [b"not ours"]


async def test_an_agent_that_is_lost_gives_back_whatever_is_foreign(
    stage: Stage, errors: Errors
) -> None:
    profile = (MIRA, ";;;;", "", 10, 10_000, "i1", 10, 0, "1", "here")
    assert (await stage.call("agent_register", *profile)).status == "ok"
    await stage.submit("t")
    await stage.started("t")
    await stage.raw("SADD", "errors:task:t:details:b", "not ours")
    await stage.advance(31)

    await stage.call("agent_sweep", 10)

    assert await stage.status("t") == "pending"
    assert await errors.list() == []


# Recording


async def test_an_error_is_in_the_log_with_the_documented_fields(
    stage: Stage, errors: Errors
) -> None:
    await errors.record(
        "ApiError", 'no "answer"\n', task="t1", project="proj-1", agent="mira", code="E42"
    )

    (entry,) = await stage.raw("XRANGE", "errors:tasks:log", "-", "+")
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=True))
    assert {name.decode() for name in fields} == {
        *("type", "taskId", "projectId", "agent", "error", "timestamp", "severity"),
        *("recoverable", "fingerprint"),
    }
    assert (fields[b"type"], fields[b"taskId"], fields[b"projectId"]) == (
        b"task_failure",
        b"t1",
        b"proj-1",
    )
    assert json.loads(fields[b"error"]) == {
        "name": "ApiError",
        "message": 'no "answer"\n',
        "code": "E42",
    }
    assert fields[b"timestamp"] == b"2027-01-15T08:00:00.000Z"
    assert (fields[b"severity"], fields[b"recoverable"]) == (b"medium", b"true")
    (found,) = await errors.list()
    assert found.to_source() == {
        "type": "task_failure",
        "taskId": "t1",
        "projectId": "proj-1",
        "agent": "mira",
        "error": {"name": "ApiError", "message": 'no "answer"\n', "code": "E42"},
        "timestamp": "2027-01-15T08:00:00.000Z",
        "severity": "medium",
        "recoverable": True,
    }


async def test_the_details_of_a_task_are_set_with_their_lifetime(
    stage: Stage, errors: Errors
) -> None:
    await errors.record("A", "first", task="t", agent="mira")
    await errors.record("B", 'a "second"', task="t", agent="noor", severity="high")

    found = await errors.details("t")

    assert (found["error_message"], found["agent"], found["severity"]) == (
        'a "second"',
        "noor",
        "high",
    )
    assert (found["error_name"], found["count"]) == ("B", "2")
    assert 0 < await stage.raw("PTTL", "errors:task:t:details") <= 7 * DAY * 1_000
    assert await errors.details("t", project="other") == {}


async def test_fifty_at_once_count_fifty(errors: Errors) -> None:
    answers = await asyncio.gather(*(errors.record("E", f"id {i}") for i in range(50)))

    assert await errors.counters() == {"E": 50}
    (group,) = await errors.groups()
    assert group.count == 50
    assert sorted(answer.count for answer in answers) == list(range(1, 51))
    assert sum(answer.is_new for answer in answers) == 1


async def test_ten_thousand_messages_of_one_kind_are_one_group(
    stage: Stage, errors: Errors
) -> None:
    reports = [
        ErrorReport(name="E", message=f"row {i:032x} of /data/{i}/x, {i * 7} bytes")
        for i in range(10_000)
    ]

    answers = await errors.record_many(reports)

    assert len({answer.fingerprint for answer in answers}) == 1
    assert await stage.raw("ZCARD", "errors:unique_signatures") == 1
    assert (await errors.groups())[0].count == 10_000


async def test_a_call_that_is_repeated_counts_once(stage: Stage, errors: Errors) -> None:
    await errors.record("E", "m")
    row = ('ab12|medium|1|E||"m"', "m", "default", "", "", "", "", 0)

    first = await stage.call("error_record", "op1", "", 1, *row)
    again = await stage.call("error_record", "op1", "", 1, *row)

    assert (first.words, again.words) == (["1:1"], ["1:0"])
    assert await errors.counters() == {"E": 2}


async def test_an_exception_brings_all_it_knows(errors: Errors) -> None:
    try:
        raise FileNotFoundError(2, "no such file")
    except OSError as error:
        answer = await errors.record(error, component="disk")

    (found,) = await errors.list(component="disk")
    assert (answer.severity, answer.recoverable) == ("medium", True)
    assert (found.error.name, found.error.code) == ("FileNotFoundError", "2")
    assert "raise FileNotFoundError" in found.stack


async def test_rules_of_the_client_decide(errors: Errors) -> None:
    from callboard.domain.error import ErrorRule

    errors.add_rules(ErrorRule("Billing*", severity="critical", recoverable=False))

    answer = await errors.record("BillingError", "m")

    assert (answer.severity, answer.recoverable) == ("critical", False)
    assert errors.classify("BillingError").severity == "critical"


# Reading


async def test_the_log_is_read_newest_first_by_filter_and_page(
    stage: Stage, errors: Errors
) -> None:
    for i in range(20):
        stage.now += 1_000_000
        await errors.record("A" if i % 2 else "B", f"{i}", agent=f"a{i % 4}", project="p")

    found = await errors.list(limit=3)
    assert [entry.error.message for entry in found] == ["19", "18", "17"]
    found = await errors.list(before=found[-1].id, limit=2)
    assert [entry.error.message for entry in found] == ["16", "15"]
    found = await errors.list(name="B", agent="a2")
    assert [entry.error.message for entry in found] == ["18", "14", "10", "6", "2"]
    since = at_ms(START_MS + 19_000)
    assert [entry.error.message for entry in await errors.list(since=since)] == ["19", "18"]
    assert await errors.list(project="other") == []


async def test_a_filter_looks_through_the_whole_log(errors: Errors) -> None:
    await errors.record("Rare", "m")
    await errors.record_many(ErrorReport(name="E", message="m") for _ in range(6_000))

    (found,) = await errors.list(name="Rare")

    assert found.error.name == "Rare"


async def test_counts_by_minute_are_of_the_last_day(stage: Stage, errors: Errors) -> None:
    for seconds, times in ((0, 2), (61, 1), (3_600, 3), (23 * 3_600 - 61, 1)):
        await stage.advance(seconds)
        for _ in range(times):
            answer = await errors.record("E", "m")

    group = await errors.group(answer.fingerprint)

    assert group.count == 7
    assert [(int(at.timestamp()) - START_MS // 1_000, n) for at, n in group.per_minute.items()] == [
        (60, 1),
        (3_660, 3),
        (86_400, 1),
    ]


# Retention


async def test_the_log_keeps_seven_days_and_those_alone(stage: Stage, errors: Errors) -> None:
    for day in range(10):
        await errors.record("E", f"of day {day}")
        await stage.advance(DAY)

    await errors.record("E", "now")

    kept = [entry.error.message for entry in await errors.list()]
    assert kept == ["now", *(f"of day {day}" for day in (9, 8, 7, 6, 5, 4, 3))]
    assert await stage.raw("XLEN", "errors:tasks:log") == len(kept)
    await stage.advance(8 * DAY)
    assert await errors.list() == []
    assert 0 < await stage.raw("PTTL", "errors:tasks:log") <= 7 * DAY * 1_000


async def test_errors_of_trainings_are_kept_thirty_days(stage: Stage, errors: Errors) -> None:
    await errors.record("E", "old", project="proj-1", training=True)
    await stage.advance(29 * DAY)
    await errors.record("E", "new", project="proj-1", training=True)

    kept = await errors.list(project="proj-1", training=True)
    assert [entry.error.message for entry in kept] == ["new", "old"]
    assert {entry.type for entry in kept} == {"training_failure"}
    assert await errors.list() == []
    await stage.advance(2 * DAY)
    await errors.record("E", "newest", project="proj-1", training=True)
    assert await stage.raw("XLEN", "errors:training:proj-1:log") == 2


async def test_groups_leave_ninety_days_after_they_were_last_seen(
    stage: Stage, errors: Errors
) -> None:
    await errors.record("Old", "m")
    await stage.advance(60 * DAY)
    await errors.record("Kept", "m")
    await stage.advance(31 * DAY)

    await errors.record("New", "m")

    assert [group.name for group in await errors.groups()] == ["New", "Kept"]
    assert await stage.raw("ZCARD", "errors:unique_signatures") == 2


async def test_each_key_of_errors_has_a_lifetime(stage: Stage, errors: Errors) -> None:
    for name in "ABC":
        await errors.record(name, "m", task="t", project="p")
        await errors.record(name, "m", project="p", training=True)

    names = [name for name in await stage.key_names() if name.startswith("errors:")]

    assert len(names) > 10
    for name in names:
        assert await stage.raw("PTTL", name) > 0, name


async def test_counters_of_ten_thousand_names_are_the_most(errors: Errors) -> None:
    await errors.record_many(ErrorReport(name=f"E{i}") for i in range(10_000))

    await errors.record_many([ErrorReport(name="new"), ErrorReport(name="E7")])

    counters = await errors.counters()
    assert (counters["others"], counters["E7"], len(counters)) == (1, 2, 10_001)


# Cascades


async def test_three_types_within_five_minutes_are_told_once(stage: Stage, errors: Errors) -> None:
    client, listener = await heard(stage, "events:errors:correlations")

    for name in ("A", "A", "B", "C", "D", "A"):
        await stage.advance(20)
        await errors.record(name, "m")

    told = await messages(listener, 2)
    assert told == [
        {
            "type": "error_cascade_detected",
            "severity": "critical",
            "error_types": ["A", "B", "C"],
            "error_counts": {"A": 2, "B": 1, "C": 1},
            "recommendation": "Investigate root cause - multiple subsystems failing",
            "timestamp": "2027-01-15T08:01:20.000Z",
        }
    ]
    (cascade,) = await errors.correlations()
    assert cascade.error_types == ("A", "B", "C")
    events = [event for event in await stage.news() if event.type == "error:cascade"]
    assert [event.facts[0].extra for event in events] == ["A,B,C"]
    await client.aclose()


async def test_types_that_are_further_apart_are_no_cascade(stage: Stage, errors: Errors) -> None:
    for name in ("A", "B", "C", "D"):
        await errors.record(name, "m")
        await stage.advance(151)

    assert await errors.correlations() == []


async def test_one_error_from_three_components_is_a_cascade(errors: Errors) -> None:
    for component in ("api", "db", "disk"):
        await errors.record("timeout", "m", component=component)

    (cascade,) = await errors.correlations()
    assert cascade.error_types == ("api:timeout", "db:timeout", "disk:timeout")


async def test_after_its_cool_down_a_cascade_is_told_again(stage: Stage, errors: Errors) -> None:
    await errors.configure(cooldown=60)
    for seconds, told in ((0, 1), (59, 1), (2, 2)):
        await stage.advance(seconds)
        for name in "ABC":
            await errors.record(name, "m")

        assert len(await errors.correlations()) == told


async def test_concurrent_errors_tell_one_cascade(errors: Errors) -> None:
    await asyncio.gather(*(errors.record(f"E{i % 5}", "m") for i in range(100)))

    assert len(await errors.correlations()) == 1


# Channels


async def test_the_channel_of_a_severity_carries_the_documented_payload(
    stage: Stage, errors: Errors
) -> None:
    client, listener = await heard(stage, "events:errors:high", "events:errors:low")

    await errors.record("E", 'a "b"', task="t", agent="mira", severity="high", stack="Trace")

    assert await messages(listener, 1) == [
        {
            "type": "task_failure",
            "agent": "mira",
            "taskId": "t",
            "error": {"name": "E", "message": 'a "b"'},
            "timestamp": "2027-01-15T08:00:00.000Z",
        }
    ]
    await errors.configure(stacks=True)
    await errors.record("E", "m", severity="low", stack='Trace "x"\n')
    (told,) = await messages(listener, 1)
    assert told["error"]["stack"] == 'Trace "x"\n'
    await client.aclose()


async def test_with_channels_off_nothing_is_published(stage: Stage, errors: Errors) -> None:
    names = ("events:errors:medium", "events:errors:correlations", "events:training:progress")
    client, listener = await heard(stage, *names)
    await stage.call("namespace_configure", "channels", "0")

    for name in "ABC":
        await errors.record(name, "m")
    await stage.call("metric_train", "p", 1, 1, "", "0.5", "null", 1, "loss", "0.5")
    await stage.call("namespace_configure", "channels", "1")
    await errors.record("last", "m")

    assert [told["error"]["name"] for told in await messages(listener, 2)] == ["last"]
    assert len(await errors.correlations()) == 1
    await client.aclose()


# What is thought of groups


async def test_a_resolved_group_is_open_again_when_it_comes_again(
    stage: Stage, errors: Errors
) -> None:
    answer = await errors.record("E", "m")
    resolved = await errors.resolve(answer.fingerprint, by="ann", note="fixed in 1.2")
    assert (resolved.state, resolved.by, resolved.note) == ("resolved", "ann", "fixed in 1.2")
    assert [group.state for group in await errors.groups(state="resolved")] == ["resolved"]

    await errors.record("E", "m")

    group = await errors.group(answer.fingerprint)
    assert (group.state, group.reopened, group.count) == ("open", 1, 2)
    events = [event for event in await stage.news() if event.type == "error:group"]
    assert [(event.by, event.facts[0].state) for event in events] == [("ann", "resolved")]


async def test_a_group_that_is_resolved_again_has_the_later_note(errors: Errors) -> None:
    mark = (await errors.record("E", "m")).fingerprint
    await errors.resolve(mark, note="first", by="ann")

    again = await errors.resolve(mark, note="second", by="bob")
    still = await errors.resolve(mark)

    assert (again.note, again.by) == (still.note, still.by) == ("second", "bob")


async def test_an_exception_that_cannot_say_its_code_has_none(errors: Errors) -> None:
    class Broken(Exception):
        @property
        def code(self) -> int:
            raise RuntimeError("no code")

    await errors.record(Broken("m"))

    assert (await errors.list())[0].error.code is None


async def test_an_ignored_group_is_counted_but_not_told(stage: Stage, errors: Errors) -> None:
    ignored = await errors.record("C", "m")
    await errors.ignore(ignored.fingerprint)
    await stage.advance(301)
    client, listener = await heard(stage, "events:errors:medium")

    for name in "CAB":
        await errors.record(name, "m")

    assert await errors.correlations() == []
    assert [told["error"]["name"] for told in await messages(listener, 3)] == ["A", "B"]
    assert (await errors.group(ignored.fingerprint)).count == 2
    await errors.reopen(ignored.fingerprint)
    await errors.record("C", "m")
    assert len(await errors.correlations()) == 1
    await client.aclose()


async def test_cleared_errors_are_gone_but_for_those_of_trainings(
    stage: Stage, errors: Errors
) -> None:
    await errors.record_many(ErrorReport(name=f"{chr(65 + i % 26)}{i}") for i in range(2_500))
    await errors.record("E", "m", project="p", training=True)

    await errors.clear(by="ann")

    assert not [name for name in await stage.key_names() if ":minutes:" in name]
    assert (await errors.list(), await errors.groups(), await errors.counters()) == ([], [], {})
    assert len(await errors.list(project="p", training=True)) == 1
    await errors.clear(project="p")
    assert await errors.list(project="p", training=True) == []
    assert [e.by for e in await stage.news() if e.type == "error:cleared"] == ["ann", ""]


# Tasks


async def test_a_failed_attempt_is_recorded_by_itself(stage: Stage, errors: Errors) -> None:
    tasks = Holding(stage.namespace, BOARD)
    await stage.submit("t")
    fence = await stage.held("t")

    await tasks.fail("t", fence=fence, error=Failure("ApiError", "status 502", retryable=True))

    (found,) = await errors.list()
    assert (found.task, found.project, found.agent, found.attempt) == ("t", BOARD, MIRA, 1)
    assert (found.error.name, found.error.message) == ("ApiError", "status 502")
    assert (found.severity, found.recoverable) == ("medium", True)
    assert (await errors.details("t", project=BOARD))["agent"] == MIRA


async def test_a_failure_is_classified_by_what_the_exception_is_a_kind_of(
    stage: Stage, errors: Errors
) -> None:
    class Broken(AssertionError):
        pass

    class PaymentsDown(ConnectionError):
        pass

    errors.add_rules(ErrorRule("ConnectionError", "critical"))
    tasks = Holding(stage.namespace, BOARD)
    await stage.submit("a", "b")

    await tasks.fail("a", fence=await stage.held("a"), error=Broken("x"))
    await tasks.fail("b", fence=await stage.held("b"), error=PaymentsDown("x"))

    severities = {entry.task: entry.severity for entry in await errors.list()}
    assert severities == {"a": "high", "b": "critical"}
    assert "kinds" not in str((await stage.task("a")).error)


async def test_what_is_known_of_a_failed_task_goes_with_it(stage: Stage, errors: Errors) -> None:
    await stage.submit("dead", "again")
    await stage.fail("dead", await stage.held("dead"), retryable=False)
    await stage.fail("again", await stage.held("again"))
    await stage.after(600)
    await stage.complete("again", await stage.held("again"))
    assert await errors.details("again", project=BOARD) != {}

    await stage.purge("dead", "again")

    assert await errors.details("dead", project=BOARD) == {}
    assert await errors.details("again", project=BOARD) == {}


async def test_a_stale_or_repeated_failure_records_nothing(stage: Stage, errors: Errors) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    assert await stage.fail("t", fence - 1) == "lease_lost"
    assert await errors.list() == []

    assert await stage.fail("t", fence) == "retry_scheduled"
    assert await stage.fail("t", fence) == "replayed"

    assert len(await errors.list()) == 1


async def test_what_the_engine_ends_is_recorded_too(stage: Stage, errors: Errors) -> None:
    late = at_ms(START_MS + 5_000)
    await stage.submit(spec("late", deadline=late), spec("slow", timeout=8), "lost")
    await stage.configure(poison=1)
    for name in ("slow", "lost"):
        await stage.started(name)

    await stage.after(31)

    found = {(entry.task, entry.error.name) for entry in await errors.list()}
    assert found == {
        ("late", "deadline_exceeded"),
        ("slow", "timeout"),
        ("lost", "lease_lost"),
        ("lost", "poison"),
    }
    severities = {entry.error.name: entry.severity for entry in await errors.list()}
    assert severities == {
        "deadline_exceeded": "high",
        "timeout": "medium",
        "lease_lost": "medium",
        "poison": "critical",
    }
    groups = {group.name: group.fingerprint for group in await errors.groups()}
    assert groups["poison"] == errors.fingerprint("poison", "")


async def test_a_failed_dependency_is_no_error_of_its_own(stage: Stage, errors: Errors) -> None:
    await stage.submit("root", spec("next", "root"))

    await stage.fail("root", await stage.held("root"), retryable=False)

    assert await stage.status("next") == "failed"
    assert [entry.task for entry in await errors.list()] == ["root"]


async def test_tracking_can_be_switched_off(stage: Stage, errors: Errors) -> None:
    await errors.configure(track_failures=False)
    await stage.submit("t")

    await stage.fail("t", await stage.held("t"))
    await errors.record("E", "by hand")

    assert [entry.error.message for entry in await errors.list()] == ["by hand"]


async def test_a_thousand_that_fail_in_one_call_are_a_thousand(
    stage: Stage, errors: Errors
) -> None:
    await stage.submit_all(spec(f"t{i}") for i in range(1_000))
    grant = await stage.claim(limit=1_000)
    rows = [
        (t.id, t.fence, "{}", 1, 0.5, "", f'ab12|medium|1|E||"{i}"', f"{i}")
        for i, t in enumerate(grant.tasks)
    ]

    await stage.each("task_fail", *rows)

    assert await errors.counters() == {"E": 1_000}
    assert await stage.raw("XLEN", "errors:tasks:log") == 1_000
