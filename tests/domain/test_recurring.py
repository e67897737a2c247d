"""When recurring tasks are due: over daylight saving, outages and the ends of schedules."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest

from callboard.domain.recurring import (
    Definition,
    Due,
    Template,
    check_definition,
    dues,
    newest_ticks,
    next_tick,
    spec_of,
    task_id,
    ticks_after,
)
from callboard.exceptions import InvalidArgument

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cron(expression: str, timezone: str = "UTC", **fields: Any) -> Definition:
    return Definition(kind="k", cron=expression, timezone=timezone, **fields)


def every(seconds: float, **fields: Any) -> Definition:
    return Definition(kind="k", every=seconds, **fields)


def texts(definition: Definition, after: str, count: int) -> list[str]:
    ticks = islice(ticks_after(definition, utc(after)), count)
    return [f"{tick:%m-%d %H:%M:%S}" for tick in ticks]


# Refusals


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({}, "cron", "either"),
        ({"cron": "* * * * *", "every": 5}, "cron", "either"),
        ({"cron": "61 * * * *"}, "cron", "minute '61'"),
        ({"cron": "* 24 * * *"}, "cron", "hour '24'"),
        ({"cron": "* * 0 * *"}, "cron", "day of month '0'"),
        ({"cron": "* * * 13 *"}, "cron", "month '13'"),
        ({"cron": "* * * * FRY"}, "cron", "day of week 'FRY'"),
        ({"cron": "77 * * * * *"}, "cron", "second '77'"),
        ({"cron": "*/0 * * * *"}, "cron", "minute '\\*/0'"),
        ({"cron": "5-1 * * * *"}, "cron", "minute '5-1'"),
        ({"cron": "* * * *"}, "cron", "has 4 fields"),
        ({"cron": ""}, "cron", "has 0 fields"),
        ({"cron": "@never"}, "cron", "@daily"),
        ({"cron": "0 0 31 2 *"}, "cron", "day of month"),
        ({"cron": "0 0 */31 4 1#5"}, "cron", "never comes"),
        ({"cron": "1," * 200 + "1 * * * *"}, "cron", "200 characters"),
        ({"cron": 5}, "cron", "string"),
        ({"every": 0.5}, "every", "from 1"),
        ({"every": True}, "every", "from 1"),
        ({"every": 31_622_401}, "every", "to 31,622,400"),
        ({"every": float("nan")}, "every", "number"),
        ({"cron": "* * * * *", "timezone": "Berlin"}, "timezone", "Europe/Berlin"),
        ({"cron": "* * * * *", "timezone": "../etc/passwd"}, "timezone", "not known"),
        ({"cron": "* * * * *", "timezone": 5}, "timezone", "not known"),
        ({"every": 5, "catch_up": "two"}, "catch_up", "skip or one or all"),
        ({"every": 5, "overlap": "no"}, "overlap", "allow or skip"),
        ({"every": 5, "start": utc("2026-01-01").replace(tzinfo=None)}, "start", "time zone"),
        ({"every": 5, "end": "2026-01-01"}, "end", "time zone"),
        ({"cron": "* * * * *", "anchor": utc("2026-01-01")}, "anchor", "every"),
        ({"every": 5, "start": utc("2026-01-02"), "end": utc("2026-01-01")}, "end", "before"),
        ({"every": 5, "board": "no board"}, "board", "valid name"),
    ],
    ids=str,
)
def test_a_schedule_that_cannot_be_carried_out_is_refused_with_its_field(
    fields: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        check_definition("n", Definition(kind="k", **fields))

    assert caught.value.details["field"] == field


@pytest.mark.parametrize("name", ["", "a b", "n" * 97, 7], ids=str)
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument):
        check_definition(name, every(5))


def test_an_expression_is_kept_in_its_usual_form() -> None:
    assert check_definition("n", cron("  0  3 * *   mon ")).cron == "0 3 * * mon"
    assert check_definition("n", cron("@Daily")).cron == "0 0 * * *"


# Cron, and daylight saving. In Berlin the clock goes from 02:00 to 03:00 on 2027-03-28 at
# 01:00 UTC, and from 03:00 to 02:00 on 2027-10-31 at 01:00 UTC.


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 3 * * *", "2027-06-01", ["06-01 01:00:00", "06-02 01:00:00"]),
        ("0 3 * * *", "2027-01-01", ["01-01 02:00:00", "01-02 02:00:00"]),
        ("*/20 * * * *", "2027-06-01 10:59:59", ["06-01 11:00:00", "06-01 11:20:00"]),
        ("*/15 30 8 * * *", "2027-06-01 06:30:00", ["06-01 06:30:15", "06-01 06:30:30"]),
        ("0 9 * * 1-5", "2027-06-04 08:00:00", ["06-07 07:00:00", "06-08 07:00:00"]),
        ("0 0 L * *", "2027-02-01", ["02-27 23:00:00", "03-30 22:00:00"]),
    ],
    ids=str,
)
def test_ticks_follow_the_wall_clock_of_their_zone(
    expression: str, after: str, expected: list[str]
) -> None:
    assert texts(cron(expression, BERLIN), after, 2) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # 02:30 does not exist on the 28th: the first moment behind the gap, 03:00.
        ("30 2 * * *", ["03-27 01:30:00", "03-28 01:00:00", "03-29 00:30:00"]),
        ("0 2 * * *", ["03-27 01:00:00", "03-28 01:00:00", "03-29 00:00:00"]),
        ("0 2,3 * * *", ["03-27 01:00:00", "03-27 02:00:00", "03-28 01:00:00", "03-29 00:00:00"]),
        ("30 3 * * *", ["03-27 02:30:00", "03-28 01:30:00", "03-29 01:30:00"]),
    ],
    ids=str,
)
def test_in_spring_a_task_in_the_missing_hour_comes_once_behind_the_gap(
    expression: str, expected: list[str]
) -> None:
    assert texts(cron(expression, BERLIN), "2027-03-26 20:00:00", len(expected)) == expected


def test_in_spring_what_runs_by_elapsed_time_goes_on_through_the_switch() -> None:
    ticks = texts(cron("*/30 * * * *", BERLIN), "2027-03-28 00:00:00", 4)

    assert ticks == ["03-28 00:30:00", "03-28 01:00:00", "03-28 01:30:00", "03-28 02:00:00"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # 02:30 is there twice on the 31st: the first, which is summer time.
        ("30 2 * * *", ["10-30 00:30:00", "10-31 00:30:00", "11-01 01:30:00"]),
        ("0 3 * * *", ["10-30 01:00:00", "10-31 02:00:00", "11-01 02:00:00"]),
    ],
    ids=str,
)
def test_in_autumn_a_task_in_the_repeated_hour_comes_once(
    expression: str, expected: list[str]
) -> None:
    assert texts(cron(expression, BERLIN), "2027-10-29 20:00:00", 3) == expected


@pytest.mark.parametrize("minutes", range(0, 180, 15))
def test_in_autumn_no_tick_comes_again_from_wherever_it_is_asked(minutes: int) -> None:
    after = utc("2027-10-31 00:00:00") + timedelta(minutes=minutes)

    found = next_tick(cron("30 2 * * *", BERLIN), after)

    is_before = minutes < 30
    assert found == utc("2027-10-31 00:30:00" if is_before else "2027-11-01 01:30:00")


def test_in_autumn_what_runs_by_elapsed_time_comes_in_both_hours() -> None:
    ticks = texts(cron("30 * * * *", BERLIN), "2027-10-31 00:00:00", 3)

    assert ticks == ["10-31 00:30:00", "10-31 01:30:00", "10-31 02:30:00"]


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/7 * * * *", "0 */3 * * *", "5 1-4 * * *"])
def test_a_walk_from_tick_to_tick_is_the_same_as_one_walk(expression: str) -> None:
    definition = cron(expression, BERLIN)
    whole = list(islice(ticks_after(definition, utc("2027-10-30")), 300))

    steps = [next_tick(definition, utc("2027-10-30"))]
    while len(steps) < 300:
        assert steps[-1] is not None
        steps.append(next_tick(definition, steps[-1]))

    assert steps == whole
    assert all(one < other for one, other in pairwise(whole))


# Intervals


def test_an_interval_counts_from_the_epoch_so_that_an_hour_is_a_full_one() -> None:
    assert texts(every(3_600), "2027-06-01 10:20:00", 2) == ["06-01 11:00:00", "06-01 12:00:00"]
    assert texts(every(3_600), "2027-06-01 11:00:00", 1) == ["06-01 12:00:00"]


@pytest.mark.parametrize("anchor", ["2027-06-01 00:07:00", "2030-01-01 00:07:00"])
def test_an_anchor_is_a_tick_past_or_to_come(anchor: str) -> None:
    ticks = texts(every(3_600, anchor=utc(anchor)), "2027-06-01 10:20:00", 2)

    assert ticks == ["06-01 11:07:00", "06-01 12:07:00"]


def test_start_and_end_are_ticks_themselves_where_the_schedule_says_so() -> None:
    bounds: dict[str, Any] = {
        "start": utc("2027-06-01 03:00:00"),
        "end": utc("2027-06-02 03:00:00"),
    }

    assert texts(cron("0 3 * * *", **bounds), "2027-01-01", 9) == [
        "06-01 03:00:00",
        "06-02 03:00:00",
    ]
    assert texts(every(86_400, anchor=bounds["start"], **bounds), "2027-01-01", 9) == [
        "06-01 03:00:00",
        "06-02 03:00:00",
    ]
    assert next_tick(cron("0 3 * * *", **bounds), bounds["end"]) is None


# What is made good


EXPECTED = utc("2027-06-01 08:00:00")


def due(tick: str | None, following: str, expected: str = "08:00:00") -> Due:
    day = "2027-06-01 "
    return Due(utc(day + expected), utc(day + tick) if tick else None, utc(day + following))


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
@pytest.mark.parametrize("late", [0, 1, 60])
def test_a_tick_that_is_hardly_late_is_fired_by_any_policy(catch_up: str, late: int) -> None:
    definition = cron("0 * * * *", catch_up=catch_up)

    found = dues(definition, EXPECTED, EXPECTED + timedelta(seconds=late))

    assert found == [due("08:00:00", "09:00:00")]


def test_skip_leaves_out_what_was_missed_but_not_what_is_just_due() -> None:
    definition = cron("0 * * * *", catch_up="skip")

    assert dues(definition, EXPECTED, utc("2027-06-01 10:20:00")) == [due(None, "11:00:00")]
    assert dues(definition, EXPECTED, utc("2027-06-01 10:00:30")) == [due("10:00:00", "11:00:00")]


def test_one_makes_good_the_newest() -> None:
    found = dues(cron("0 * * * *"), EXPECTED, utc("2027-06-01 10:20:00"))

    assert found == [due("10:00:00", "11:00:00")]


def test_all_makes_good_each_in_order() -> None:
    found = dues(cron("0 * * * *", catch_up="all"), EXPECTED, utc("2027-06-01 10:20:00"))

    assert found == [
        due("08:00:00", "09:00:00"),
        due("09:00:00", "10:00:00", "09:00:00"),
        due("10:00:00", "11:00:00", "10:00:00"),
    ]


def test_of_more_than_a_thousand_missed_ticks_the_newest_are_made_good() -> None:
    definition = every(60, catch_up="all")
    now = EXPECTED + timedelta(days=30)

    found = dues(definition, EXPECTED, now)

    assert len(found) == 1_000
    assert found[0].expected == EXPECTED
    assert (found[-1].tick, found[-1].following) == (now, now + timedelta(seconds=60))
    assert found[0].tick == now - timedelta(seconds=60 * 999)
    assert all(one.following == other.expected for one, other in pairwise(found))


def test_an_end_that_has_passed_makes_good_what_came_before() -> None:
    definition = cron("0 * * * *", catch_up="all", end=utc("2027-06-01 09:30:00"))

    found = dues(definition, EXPECTED, utc("2027-06-01 12:00:00"))

    assert [one.tick for one in found] == [EXPECTED, utc("2027-06-01 09:00:00")]
    assert found[-1].following is None


def test_nothing_is_due_behind_an_end() -> None:
    definition = every(60, end=utc("2027-06-01 07:00:00"))

    assert dues(definition, EXPECTED, EXPECTED + timedelta(hours=1)) == [Due(EXPECTED, None, None)]


def test_the_newest_ticks_before_an_end_long_past_are_found_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = 0

    def counted(definition: Any, after: datetime) -> Any:
        nonlocal seen
        for tick in ticks_after(definition, after):
            seen += 1
            yield tick

    monkeypatch.setattr("callboard.domain.recurring.ticks_after", counted)
    end = EXPECTED + timedelta(days=300)

    found = newest_ticks(every(1, end=end), EXPECTED, end + timedelta(days=300), 1)

    assert found == [end]
    assert seen < 10_000


@pytest.mark.parametrize("seed", range(20))
def test_the_newest_ticks_are_those_of_a_walk_over_all(seed: int) -> None:
    chance = random.Random(seed)
    definition = chance.choice(
        [cron("*/7 2-5 * * 1,4", BERLIN), every(777), cron("30 2 1 * *", BERLIN), cron("0 * * * *")]
    )
    since = next_tick(definition, utc("2027-01-01") + timedelta(hours=chance.randrange(8_000)))
    assert since is not None
    now = since + timedelta(minutes=chance.randrange(100_000))
    most = chance.choice([1, 3, 50])

    found = newest_ticks(definition, since, now, most)

    walk = [since]
    for tick in ticks_after(definition, since):
        if tick > now:
            break
        walk.append(tick)
    assert found == walk[-most:]


# Tasks


def test_the_task_of_a_tick_is_named_by_it_and_told_of_it() -> None:
    template = Template(title="T", priority="high", metadata={"team": "x"}, rate_key="r")
    tick = datetime.fromisoformat("2027-06-01T03:00:00+02:00")

    spec = spec_of("nightly", cron("0 3 * * *", template=template), tick)

    assert (spec.id, spec.title, spec.priority, spec.rate_key) == (
        "nightly-20270601T010000Z",
        "T",
        "high",
        "r",
    )
    assert spec.metadata == {"team": "x", "recurring": "nightly", "tick": "2027-06-01T01:00:00Z"}
    assert task_id("n", utc("2027-06-01 00:00:00.5")) == "n-20270601T000000.500Z"
