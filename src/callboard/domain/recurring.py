"""Recurring tasks: when they are due, and what of it is made good after an outage. Pure.

Moments of a cron expression are those of Debian's cron, as cronsim computes them. In a time
zone with daylight saving, a task at a fixed time of day that a switch skips comes at the
first moment behind the gap, and one at a time that there is twice comes at the first of the
two, once. One whose minute or hour begins with a star runs by elapsed time: through both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.names import check_name
from callboard.domain.retry import RetryPolicy
from callboard.domain.task import NO_REQUIREMENTS, Requirements, TaskSpec, at_ms, check_priority
from callboard.exceptions import InvalidArgument

CatchUp = Literal["skip", "one", "all"]
Overlap = Literal["allow", "skip"]

EVERY_MIN: Final = 1.0
EVERY_MAX: Final = 31_622_400.0
CAUGHT_UP_MAX: Final = 1_000
"""Missed ticks that ``all`` makes good: the newest."""
LATE_SECONDS: Final = 60.0
"""Up to here a tick is late and not missed: ``skip`` leaves it out only beyond."""
NAME_MAX: Final = 96
"""So that name and tick together make a task's id."""
EXPRESSION_MAX: Final = 200

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOW: Final = timedelta(hours=1)
_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "second": ("second", "0 to 59"),
    "minute": ("minute", "0 to 59"),
    "hour": ("hour", "0 to 23"),
    "day-of-month": ("day of month", "1 to 31, L or LW, and a day that its month has"),
    "month": ("month", "1 to 12 or JAN to DEC"),
    "day-of-week": ("day of week", "0 to 7 (0 and 7 are Sunday), SUN to SAT, 5L or MON#2"),
}
_MACROS: Final[Mapping[str, str]] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each of the tasks is submitted with, besides kind, payload and id."""

    title: str = ""
    description: str = ""
    priority: int | str = 0
    requirements: Requirements = NO_REQUIREMENTS
    suggested_worker: str | None = None
    metadata: dict[str, Any] | None = None
    timeout: float | None = None
    lease: float | None = None
    retry: RetryPolicy | None = None
    concurrency_key: str | None = None
    rate_key: str | None = None
    fairness_key: str | None = None


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said of a recurring task: what, where, when, and what of missed ticks.

    Attributes:
        cron: Five fields, or six with seconds first; or ``@daily`` and the like.
        every: Seconds from one tick to the next, counted from *anchor*.
        anchor: A tick of *every*, past or to come; the Unix epoch unless given, so that 3,600
            is every full hour.
        timezone: In which *cron* is read.
        catch_up: Of ticks that passed while nothing ran: ``skip`` leaves out what is over a
            minute late, ``one`` makes good the newest, ``all`` the newest 1,000.
        overlap: ``skip`` leaves out a tick while the task before has not ended.
        start, end: No tick before, none after.
    """

    kind: str
    payload: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    board: str = DEFAULT_BOARD
    cron: str | None = None
    every: float | None = None
    anchor: datetime | None = None
    timezone: str = "UTC"
    catch_up: CatchUp = "one"
    overlap: Overlap = "allow"
    start: datetime | None = None
    end: datetime | None = None
    template: Template = Template()


class Recurring(msgspec.Struct, frozen=True, kw_only=True):
    """A recurring task as it stood when it was read. Times are UTC.

    Attributes:
        is_paused: It fires nothing until it is resumed.
        next_at: Its next tick, which may be overdue; None where there is none: it is paused,
            or has ended.
        fired: Tasks that it submitted in all.
        last_at: The tick that was handled last.
        last_task: The task submitted last.
        last_outcome: What became of the last tick: ``fired``, ``exists`` (a task of that id
            was there), ``overlapped``, ``skipped`` (missed).
        last_error: Why its tick that has come cannot be fired; empty where nothing is wrong.
        revision: Rises with each change of the definition.
    """

    name: str
    definition: Definition
    is_paused: bool
    next_at: datetime | None
    fired: int
    last_at: datetime | None
    last_task: str | None
    last_outcome: str
    last_error: str
    revision: int
    created_at: datetime
    created_by: str


class Due(msgspec.Struct, frozen=True):
    """What is to be done about a tick that has come.

    Attributes:
        expected: The tick that stands in the engine: who moves it first has it.
        tick: The one to submit a task for; None where what was missed is left out.
        following: The next tick; None where there is none.
    """

    expected: datetime
    tick: datetime | None
    following: datetime | None


def check_definition(name: Any, definition: Definition) -> Definition:
    """Return *definition* if it can be carried out, in its usual form.

    Definitions that mean the same are the same then: ``every=15`` and ``15.0``, ``priority=0``
    and ``"normal"``, a *start* in one time zone and in another.

    Raises:
        InvalidArgument: Name, schedule, time zone or policy is wrong; ``details["field"]``.
    """
    check_name("name", name)
    if len(name) > NAME_MAX:
        raise InvalidArgument(
            f"The name of a recurring task has at most {NAME_MAX} characters, as its tasks' ids "
            f"are made of it; this has {len(name)}.",
            field="name",
        )
    check_name("board", definition.board)
    for field, choices in (("catch_up", CatchUp), ("overlap", Overlap)):
        value = getattr(definition, field)
        if value not in get_args(choices):
            raise InvalidArgument(
                f"{field} is {value!r}; use {' or '.join(get_args(choices))}.", field=field
            )
    if (definition.cron is None) == (definition.every is None):
        raise InvalidArgument("Give either cron or every.", field="cron")
    moments = {
        field: _utc(field, getattr(definition, field)) for field in ("anchor", "start", "end")
    }
    definition = msgspec.structs.replace(
        definition, template=_usual_template(definition.template), **moments
    )
    if definition.start and definition.end and definition.end < definition.start:
        raise InvalidArgument("end is before start.", field="end")
    zone = zone_of(definition.timezone)
    if definition.cron is not None:
        if definition.anchor is not None:
            raise InvalidArgument("anchor goes with every, not with cron.", field="anchor")
        return msgspec.structs.replace(definition, cron=check_cron(definition.cron, zone))
    return msgspec.structs.replace(definition, every=_check_every(definition.every))


def _utc(field: str, value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidArgument(f"{field} must be a datetime with a time zone.", field=field)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(f"{field} is no moment in UTC.", field=field) from None


def _usual_template(template: Template) -> Template:
    taken = sorted({"recurring", "tick"} & set(template.metadata or ()))
    if taken:
        raise InvalidArgument(
            f"metadata has {taken[0]!r}, which each task of a recurring one is told by itself. "
            "Use another name.",
            field="metadata",
        )
    times = {field: getattr(template, field) for field in ("timeout", "lease")}
    return msgspec.structs.replace(
        template,
        priority=check_priority(template.priority),
        metadata=template.metadata or None,
        **{field: float(value) if _is_number(value) else value for field, value in times.items()},
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _check_every(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not EVERY_MIN <= value <= EVERY_MAX:
        raise InvalidArgument(
            f"every is {value!r}; it must be a number of seconds from {EVERY_MIN:g} to "
            f"{EVERY_MAX:,.0f}.",
            field="every",
        )
    return float(value)


def zone_of(name: Any) -> ZoneInfo:
    """The time zone of that name. Raises InvalidArgument."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        raise InvalidArgument(
            f"timezone {name!r} is not known here. Use a name as Europe/Berlin or UTC.",
            field="timezone",
        ) from None


def check_cron(expression: Any, zone: ZoneInfo) -> str:
    """The expression in its usual form: single spaces, macros written out.

    Raises:
        InvalidArgument: It is wrong; the message names the field, and what it may be.
    """
    if not isinstance(expression, str) or len(expression) > EXPRESSION_MAX:
        raise InvalidArgument(
            f"cron must be a string of at most {EXPRESSION_MAX} characters.", field="cron"
        )
    usual = " ".join(expression.split())
    if usual.startswith("@"):
        if usual.lower() not in _MACROS:
            raise InvalidArgument(f"cron {usual!r} is none of {', '.join(_MACROS)}.", field="cron")
        usual = _MACROS[usual.lower()]
    count = len(usual.split())
    if count not in (5, 6):
        raise InvalidArgument(
            f"cron {expression!r} has {count} fields. Use five: minute, hour, day of month, "
            "month, day of week; or six with the second before them.",
            field="cron",
        )
    try:
        ticks = CronSim(usual, datetime(2024, 1, 1, tzinfo=zone))
    except CronSimError as error:
        raise InvalidArgument(_wrong_field(usual, str(error)), field="cron") from None
    if next(ticks, None) is None:
        raise InvalidArgument(f"cron {usual!r} never comes.", field="cron")
    return usual


def _wrong_field(expression: str, said: str) -> str:
    name = said.removeprefix("Bad ")
    if name not in _FIELDS:
        return f"cron {expression!r} is wrong: {said}."
    words, allowed = _FIELDS[name]
    parts = expression.split()
    fields = list(_FIELDS)[6 - len(parts) :]
    part = parts[fields.index(name)]
    return f"cron {expression!r}: the {words} {part!r} is wrong. It may be {allowed}."


# Ticks


def ticks_after(definition: Definition, after: datetime) -> Iterator[datetime]:
    """The ticks behind a moment, in order, in UTC; from *start* on, until *end*."""
    after = after.astimezone(UTC)
    start = definition.start
    if start is not None and start.astimezone(UTC) > after:
        after = start.astimezone(UTC) - timedelta(microseconds=1)
    ticks = _every(definition, after) if definition.every else _cron(definition, after)
    while True:
        try:
            tick = next(ticks, None)
        except OverflowError:  # past the year 9999
            return
        if tick is None or (definition.end is not None and tick > definition.end):
            return
        yield tick


def _every(definition: Definition, after: datetime) -> Iterator[datetime]:
    step = timedelta(milliseconds=round((definition.every or 0) * 1_000))
    anchor = definition.anchor or _EPOCH
    anchor = anchor.astimezone(UTC).replace(microsecond=anchor.microsecond // 1_000 * 1_000)
    count = (after - anchor) // step + 1
    while True:
        yield anchor + count * step
        count += 1


@lru_cache(maxsize=1_000)
def _zone(name: str) -> ZoneInfo:
    return zone_of(name)


def _cron(definition: Definition, after: datetime) -> Iterator[datetime]:
    assert definition.cron is not None
    for tick in CronSim(definition.cron, after.astimezone(_zone(definition.timezone))):
        moment = tick.astimezone(UTC)
        # In an hour that there is twice, it counts from the first one's wall clock.
        if moment > after:
            after = moment
            yield moment


def next_tick(definition: Definition, after: datetime) -> datetime | None:
    """The first tick behind a moment; None where there is none."""
    return next(ticks_after(definition, after), None)


def newest_ticks(
    definition: Definition, since: datetime, now: datetime, most: int
) -> list[datetime]:
    """The newest ticks of those from *since* to *now*, both included; at most *most*.

    It looks back from *now* over ever longer times, so that its cost does not grow with a
    long outage.
    """
    since = since - timedelta(microseconds=1)
    if definition.end is not None and definition.end < now:
        now = definition.end
    window = _WINDOW
    while True:
        begin = max(since, now - window)
        found: deque[datetime] = deque(maxlen=most)
        for tick in ticks_after(definition, begin):
            if tick > now:
                break
            found.append(tick)
        if begin == since or len(found) == most:
            return list(found)
        window *= 2


def dues(definition: Definition, expected: datetime, now: datetime) -> Sequence[Due]:
    """What is to be done, in order, where the tick *expected* has come by *now*."""
    if definition.end is not None and expected > definition.end:
        return [Due(expected, None, None)]
    following = next_tick(definition, expected)
    if following is None or following > now:
        newest = [expected]
    else:
        most = CAUGHT_UP_MAX if definition.catch_up == "all" else 1
        newest = newest_ticks(definition, expected, now, most)
    if definition.catch_up == "skip" and (now - newest[-1]).total_seconds() > LATE_SECONDS:
        return [Due(expected, None, next_tick(definition, now))]
    found = []
    for i, tick in enumerate(newest):
        after = newest[i + 1] if i + 1 < len(newest) else next_tick(definition, tick)
        found.append(Due(expected, tick, after))
        expected = after or tick
    return found


def task_id(name: str, tick: datetime) -> str:
    """The id of the task of a tick: the name, and the tick in UTC."""
    utc = tick.astimezone(UTC)
    fraction = f".{utc.microsecond // 1_000:03d}" if utc.microsecond // 1_000 else ""
    return f"{name}-{utc:%Y%m%dT%H%M%S}{fraction}Z"


def spec_of(name: str, definition: Definition, tick: datetime) -> TaskSpec:
    """The task of a tick; its metadata says of what and when, too."""
    template = definition.template
    told = {"recurring": name, "tick": tick.astimezone(UTC).isoformat().replace("+00:00", "Z")}
    fields = {field: getattr(template, field) for field in template.__struct_fields__}
    return TaskSpec(
        id=task_id(name, tick),
        kind=definition.kind,
        payload=definition.payload,
        created_by=f"recurring/{name}",
        **{**fields, "metadata": {**(template.metadata or {}), **told}},
    )


def moment_of(ms: int | None) -> datetime | None:
    """A moment of the engine in ms as UTC; None for none."""
    return at_ms(ms) if ms else None
