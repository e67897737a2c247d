"""The metrics of a namespace: series that programs record, and the coordination metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from callboard.domain import metric as domain
from callboard.domain.bounds import check_list, check_whole
from callboard.domain.exposition import (
    Family,
    exposition,
    series_samples,
    snapshot_families,
    task_families,
)
from callboard.domain.metric import (
    Aggregate,
    Bucket,
    Mean,
    Metric,
    MetricPoint,
    Percentiles,
    Series,
    Top,
    TrainingPoint,
    TrainingStep,
)
from callboard.domain.names import check_name
from callboard.domain.snapshot import NUMBERS, BoardFacts, Cost, Snapshot, snapshot_of, source_name
from callboard.domain.task import BATCH_MAX, at_ms, check_seconds
from callboard.engine import codec, metric_codec
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.exceptions import BoardNotFound, EngineFull, InvalidArgument

BOARDS_LOOKED_AT: Final = 100
"""Of a snapshot of all boards: the newest ones."""

AGENTS_LOOKED_AT: Final = 1_000
TOP_LOOKED_AT: Final = 200
CLEARED_AT_ONCE: Final = 1_000
POINTS_READ_MAX: Final = domain.POINTS_MAX
POINTS_AT_ONCE: Final = 2_000
"""Read in one call, a few ms of the engine, and computed with on the loop."""

COORDINATION: Final = "coordination."
HISTORY_SECONDS: Final = 3_600.0

_P = ParamSpec("_P")
_Point = TypeVar("_Point")
_Result = TypeVar("_Result")


class Metrics:
    """Series of numbers, kept by count and by time, and what the board itself measures."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._cpu: tuple[float, float] | None = None

    # Recording

    async def record(
        self,
        name: str,
        value: float,
        *,
        tags: Mapping[str, str] | None = None,
        step: int | None = None,
    ) -> None:
        """Append one point to a series, at the engine's time.

        The newest 1,000 points of a series are kept, for 30 days after the last; ``configure``
        sets other bounds.

        Args:
            name: Of the series.
            value: A finite number.
            tags: Each combination is a series of its own; at most 8.
            step: A whole number, where the series has steps.

        Raises:
            InvalidArgument: Nothing was recorded.
            OutcomeUnknown: The reply was lost; recording it again may add the point twice.
        """
        await self.record_many(
            [Metric(name=name, value=value, tags=domain.plain_tags(tags), step=step)]
        )

    async def record_many(self, points: Iterable[Metric]) -> None:
        """Append many points, in order; up to 1,000 in one step.

        Raises:
            InvalidArgument: One of them cannot be recorded. None was.
        """
        rows = [metric_codec.row_of(point) for point in check_list("points", points)]
        for batch in codec.in_batches(rows, lambda row: len(row[0]) + 64):
            values = [value for row in batch for value in row]
            checked(await self._functions.call("metric_record", len(batch), *values), "ok")

    async def record_training(
        self,
        project: str,
        step: int,
        values: Mapping[str, float],
        *,
        learning_rate: float | None = None,
    ) -> None:
        """Append what a training reports of one step, and publish it.

        ``values`` is by name, as ``{"loss": 0.3, "wer": 0.2}``: each is a series
        ``metrics:training:{project}:{name}``. Subscribers of ``events:training:progress`` hear
        of step, loss and wer. A step that is reported again replaces the one before as the
        series is read; one that comes late takes its place by its number.

        Raises:
            InvalidArgument: Nothing was recorded.
        """
        one = TrainingStep(step=step, values=values, learning_rate=learning_rate)
        await self.record_training_many(project, [one])

    async def record_training_many(self, project: str, steps: Iterable[TrainingStep]) -> None:
        """Append what a training reports of many steps; up to 1,000 at once."""
        check_name("project", project)
        rows = [metric_codec.training_row_of(step) for step in check_list("steps", steps)]
        for batch in codec.in_batches(rows, lambda row: 64 * len(row)):
            values = [value for row in batch for value in row]
            reply = await self._functions.call("metric_train", project, len(batch), *values)
            checked(reply, "ok")

    async def configure(
        self, name: str, *, points: int = domain.POINTS_KEPT, keep: float = domain.KEPT_SECONDS
    ) -> None:
        """Set how much is kept of all series of a name, of trainings too.

        With neither given, or the values that are usual, the name has no setting any more.

        Args:
            points: The newest so many, 1 to 100,000.
            keep: Seconds that a point is kept, 1 to 31,536,000 (a year).

        Raises:
            TooLarge: 1,000 names have settings already.
        """
        reply = await self._functions.call(
            "metric_configure",
            check_name("metric", name),
            check_whole("points", points, 1, domain.POINTS_MAX),
            check_seconds("keep", keep, 1, 31_536_000),
        )
        checked(reply, "ok", metric=name)

    async def clear(self, name: str | None = None) -> int:
        """Remove the series of a name, or all; answers how many there were.

        Series of trainings leave by their own bounds.
        """
        if name is not None:
            check_name("metric", name)
        found = [
            domain.series_id(series.name, series.tags)
            for series in await self.series(limit=domain.SERIES_MAX)
            if name is None or series.name == name
        ]
        removed = 0
        for start in range(0, len(found), CLEARED_AT_ONCE):
            batch = found[start : start + CLEARED_AT_ONCE]
            reply = await self._functions.call("metric_clear", len(batch), *batch)
            checked(reply, "ok")
            removed += int(reply[1])
        return removed

    # Reading

    async def series(self, *, since: datetime | None = None, limit: int = 1_000) -> list[Series]:
        """The series that there are, the one last added to first; at most 10,000 are kept."""
        found = await self._list(_ms("since", since), limit)
        return [Series(name=name, tags=tags, last_at=at) for name, tags, at, _ in found]

    async def recent(
        self, name: str, limit: int = 100, *, tags: Mapping[str, str] | None = None
    ) -> list[MetricPoint]:
        """The newest points of a series, oldest first; none of one that is not there.

        Args:
            limit: 1 to 100,000.
        """
        return await self._points(name, tags, limit=limit)

    async def range(
        self,
        name: str,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        limit: int = domain.POINTS_KEPT,
    ) -> list[MetricPoint]:
        """The points of a span, its ends included, oldest first; the newest *limit* of them."""
        return await self._points(name, tags, since=since, until=until, limit=limit)

    async def moving_average(
        self,
        name: str,
        window: int = 10,
        *,
        tags: Mapping[str, str] | None = None,
        limit: int = domain.POINTS_KEPT,
    ) -> list[Mean]:
        """The mean of each point and those before it, each saying of how many it is.

        A series without points has no means.

        Args:
            window: Points of a mean, 1 to 1,000; fewer where the series begins.
        """
        check_whole("window", window, 1, BATCH_MAX)
        points = await self._points(name, tags, limit=limit)
        return await _aside(len(points), domain.moving_average, points, window)

    async def percentiles(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        since: datetime | None = None,
        limit: int = domain.POINTS_KEPT,
    ) -> Percentiles | None:
        """The exact p50, p95 and p99 of the newest points, by nearest rank; None of none."""
        points = await self._points(name, tags, since=since, limit=limit)
        return await _aside(len(points), domain.percentiles, [point.value for point in points])

    async def downsample(
        self,
        name: str,
        bucket: float,
        aggregate: Aggregate = "mean",
        *,
        tags: Mapping[str, str] | None = None,
        since: datetime | None = None,
        limit: int = domain.POINTS_MAX,
    ) -> list[Bucket]:
        """One value for each span of *bucket* seconds that has points, oldest first.

        Args:
            aggregate: mean, sum, min, max, count, first, last, p50, p95 or p99.
        """
        points = await self._points(name, tags, since=since, limit=limit)
        return await _aside(len(points), domain.downsample, points, bucket, aggregate)

    async def top(self, limit: int = 10, *, window: float = domain.TOP_WINDOW_SECONDS) -> list[Top]:
        """The series with the most points in the last *window* seconds, 5 minutes by default.

        The 200 series last added to are looked at; what the board samples of itself is none.
        """
        check_whole("limit", limit, 1, BATCH_MAX)
        span = check_seconds("window", window, 0.001, 31_536_000)
        found = [
            row
            for row in await self._list(0, TOP_LOOKED_AT, span_ms=span)
            if not row[0].startswith(COORDINATION)
        ]
        points = await asyncio.gather(
            *(self._points(name, tags, span_ms=span, limit=BATCH_MAX) for name, tags, *_ in found)
        )
        tops = [
            Top(
                name=name,
                tags=tags,
                points=len(of_it),
                last=of_it[-1].value,
                mean=domain.mean([point.value for point in of_it]),
            )
            for (name, tags, *_), of_it in zip(found, points, strict=True)
            if of_it
        ]
        return sorted(tops, key=lambda each: (-each.points, each.name))[:limit]

    async def training(
        self, project: str, name: str = "loss", limit: int = 100
    ) -> list[TrainingPoint]:
        """What a training reported of its last *limit* steps, by step, each once.

        Of a step that was reported again the last report counts.
        """
        check_whole("limit", limit, 1, POINTS_READ_MAX)
        points = await self._read(
            metric_codec.training_point_of,
            check_name("metric", name),
            project=check_name("project", project),
            limit=POINTS_READ_MAX,
        )
        return (await _aside(len(points), domain.latest_steps, points))[-limit:]

    async def training_average(
        self, project: str, name: str = "loss", window: int = 10, *, limit: int = 1_000
    ) -> list[Mean]:
        """The moving average of a training's series, by step, each saying of how many it is."""
        check_whole("window", window, 1, BATCH_MAX)
        points = await self.training(project, name, limit)
        plain = [MetricPoint(p.at, p.value, p.step) for p in points]
        return await _aside(len(plain), domain.moving_average, plain, window)

    async def history(
        self, name: str, *, since: datetime | None = None, limit: int = domain.POINTS_KEPT
    ) -> list[MetricPoint]:
        """A coordination metric as it was sampled every 30 seconds, oldest first.

        Args:
            name: A field of the snapshot as ``task_throughput``, or ``taskThroughput`` as the
                source has it; ``task_duration_p95`` and the like too.
            since: The last hour where it is not given.

        Raises:
            InvalidArgument: No coordination metric has this name.
        """
        field = source_name(check_name("metric", name)).removeprefix(COORDINATION)
        if field not in NUMBERS:
            near = get_close_matches(field, NUMBERS, 1)
            hint = f"did you mean {near[0]}?" if near else "see callboard metrics snapshot."
            raise InvalidArgument(
                f"{name} is no coordination metric; {hint} Of a series of your own, use range.",
                field="name",
            )
        span_ms = round(HISTORY_SECONDS * 1_000) if since is None else 0
        return await self._points(
            COORDINATION + field, None, since=since, span_ms=span_ms, limit=limit
        )

    # The coordination metrics

    async def snapshot(self, board: str | None = None) -> Snapshot:
        """The coordination metrics now, each derived from the structures that hold the facts.

        Args:
            board: Whose tasks to measure; all boards where none is named, or of more than 100
                boards the newest 100.

        Raises:
            BoardNotFound: No such board.
        """
        return (await self._measure(board))[0]

    async def sweep(self) -> bool:
        """Sample the coordination metrics if 30 seconds have passed; any number may ask.

        One of those who ask is told to, and records the series ``coordination.*``. Totals
        for Prometheus are brought up to date.
        """
        await self._tick()
        return False

    async def prometheus(self) -> str:
        """All metrics in the text format of Prometheus, version 0.0.4.

        Counters end in ``_total`` and only rise; the newest value of each series is a gauge.
        """
        totals = await self._tick()
        snapshot, boards = await self._measure(None)
        errors = await self._namespace.connection.call(
            "HGETALL", self._namespace.keys.error_counters
        )
        series = await self._list(0, BATCH_MAX)
        families = [
            *task_families(boards, totals),
            *snapshot_families(snapshot, totals),
            Family(
                "callboard_errors_total",
                "counter",
                "Errors recorded, by name.",
                [({"name": name.decode()}, int(n)) for name, n in metric_codec.pairs_of(errors)],
            ),
            Family(
                "callboard_series",
                "gauge",
                "Newest value of each recorded series.",
                series_samples(
                    (name, tags, n)
                    for name, tags, _, n in series
                    if not name.startswith(COORDINATION)
                ),
            ),
        ]
        return exposition(families)

    async def _tick(self) -> dict[str, int]:
        """Bring the totals up to date and answer them; sample where this is due."""
        reply = await self._functions.call("metric_tick")
        if checked(reply, "due", "not_due") == "due":
            await self._sample((await self._measure(None))[0])
        return metric_codec.numbers_of(reply[1])

    async def _sample(self, snapshot: Snapshot) -> None:
        values: list[str] = []
        for name, value in snapshot.numbers().items():
            values += (COORDINATION + name, domain.number_text(value), "")
        told = msgspec.json.encode(snapshot.to_source())
        try:
            reply = await self._functions.call("metric_sample", told, len(values) // 3, *values)
        except EngineFull:
            return  # a sample less: reading them goes on
        checked(reply, "ok")

    async def _measure(self, board: str | None) -> tuple[Snapshot, dict[str, BoardFacts]]:
        begin = time.perf_counter()
        reply = await self._functions.call("metric_namespace", AGENTS_LOOKED_AT)
        latency = (time.perf_counter() - begin) * 1_000
        checked(reply, "ok")
        names, total = await self._boards(board)
        found = await asyncio.gather(*(self._board(name) for name in names))
        boards = {n: facts for n, facts in zip(names, found, strict=True) if facts is not None}
        if board is not None and not boards:
            raise BoardNotFound(
                f"No board {board!r}. A board comes into being with its first task.", board=board
            )
        counts, agents = metric_codec.numbers_of(reply[2]), [raw.decode() for raw in reply[3]]
        memory, cpu = await self._engine_load()
        snapshot = snapshot_of(
            at_ms(int(reply[1])),
            list(boards.values()),
            counts,
            agents,
            Cost(latency=latency, memory=memory, cpu=cpu),
            board=board or "",
            is_partial=total > len(names) or counts["agents"] > len(agents),
        )
        return snapshot, boards

    async def _boards(self, board: str | None) -> tuple[list[str], int]:
        """The boards to look at, and how many there are."""
        if board is not None:
            return [check_name("board", board)], 1
        connection, key = self._namespace.connection, self._namespace.keys.boards
        raw, total = await asyncio.gather(
            connection.call("ZREVRANGE", key, 0, BOARDS_LOOKED_AT - 1),
            connection.call("ZCARD", key),
        )
        return [name.decode() for name in raw], int(total)

    async def _board(self, name: str) -> BoardFacts | None:
        """What the engine says of a board; None where it went away meanwhile."""
        reply = await self._functions.call("metric_board", name)
        if checked(reply, "ok", "board_not_found") != "ok":
            return None
        return metric_codec.facts_of(reply)

    async def _engine_load(self) -> tuple[int, float | None]:
        """Bytes in use, and per cent of a core since this was asked last."""
        connection = self._namespace.connection
        memory, cpu = await asyncio.gather(
            connection.call("INFO", "memory"), connection.call("INFO", "cpu")
        )
        used = metric_codec.info_of(cpu, "used_cpu_sys") + metric_codec.info_of(
            cpu, "used_cpu_user"
        )
        now, before = time.monotonic(), self._cpu
        self._cpu = now, used
        share = None
        if before is not None and now > before[0]:
            share = max(used - before[1], 0.0) / (now - before[0]) * 100
        return int(metric_codec.info_of(memory, "used_memory")), share

    async def _list(
        self, since_ms: int, limit: int, *, span_ms: int = 0
    ) -> list[tuple[str, dict[str, str], datetime, float]]:
        check_whole("limit", limit, 1, domain.SERIES_MAX)
        reply = await self._functions.call("metric_list", since_ms, span_ms, limit)
        checked(reply, "ok")
        return [
            (*domain.parse_series(raw.decode()), at_ms(float(at)), float(value))
            for raw, at, value in reply[2]
        ]

    async def _points(
        self,
        name: str,
        tags: Mapping[str, str] | None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        span_ms: int = 0,
        limit: int,
    ) -> list[MetricPoint]:
        check_whole("limit", limit, 1, POINTS_READ_MAX)
        series = domain.series_id(name, tags or {})
        return await self._read(
            metric_codec.point_of,
            series,
            since_ms=_ms("since", since),
            until="+" if until is None else str(_ms("until", until)),
            span_ms=span_ms,
            limit=limit,
        )

    async def _read(
        self,
        made: Callable[[Any], _Point],
        name: str,
        *,
        project: str = "",
        since_ms: int = 0,
        until: str = "+",
        span_ms: int = 0,
        limit: int,
    ) -> list[_Point]:
        """Points, oldest first, page by page, so that others have their turns in between."""
        found: list[_Point] = []
        while len(found) < limit:
            most = min(limit - len(found), POINTS_AT_ONCE)
            reply = await self._functions.call(
                "metric_read", project, name, since_ms, until, span_ms, most
            )
            checked(reply, "ok")
            rows = reply[2]
            found += map(made, rows)
            if len(rows) < most:
                break
            until = f"({rows[-1][0].decode()}"
        found.reverse()
        return found


async def _aside(
    points: int, apply: Callable[_P, _Result], *args: _P.args, **kwargs: _P.kwargs
) -> _Result:
    """Apply a function; to many points in a thread, so that the loop goes on meanwhile."""
    if points <= POINTS_AT_ONCE:
        return apply(*args, **kwargs)
    return await asyncio.to_thread(apply, *args, **kwargs)


def _ms(what: str, moment: datetime | None) -> int:
    if moment is None:
        return 0
    if not isinstance(moment, datetime):
        raise InvalidArgument(f"{what} must be a datetime, not {moment!r}.", field=what)
    try:
        return max(0, round(moment.astimezone(UTC).timestamp() * 1_000))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument(
            f"{what} is {moment!r}, of which there is no UTC.", field=what
        ) from error
