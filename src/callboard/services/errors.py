"""The errors of a namespace: recorded, classified, grouped by what they have in common."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from callboard.domain import error as domain
from callboard.domain.bounds import check_list, check_string, check_text, check_whole
from callboard.domain.error import (
    Cascade,
    Classification,
    ErrorEntry,
    ErrorGroup,
    ErrorReport,
    ErrorRule,
    GroupState,
    Recorded,
    Severity,
)
from callboard.domain.names import check_name
from callboard.domain.repeats import operation_id
from callboard.domain.retry import Failure
from callboard.domain.task import BATCH_MAX, at_ms, check_seconds
from callboard.engine import codec, error_codec
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.exceptions import InvalidArgument

CLEARED_AT_ONCE: Final = 200
"""Groups a call, each with up to 26 keys."""

CLEAR_CALLS_MAX: Final = 1_000
LIST_CALLS_MAX: Final = 200
"""Of 5,000 entries each: a filter looks through as many as the log holds."""

_FINGERPRINT_DIGITS: Final = 32
ENTRY_PART_MAX: Final = 2**64 - 1

Recordings = list[Recorded]
ErrorGroups = list[ErrorGroup]
Cascades = list[Cascade]


class Errors:
    """Keeps what went wrong: failed attempts of tasks by themselves, all else as it is recorded.

    One step of the engine logs an error, counts it by name and by minute, groups it with
    those that differ in ids and numbers only, and tells of a cascade where three types came
    up within five minutes.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._rules = namespace.error_rules

    # Recording

    async def record(
        self,
        error: BaseException | Failure | str,
        message: str | None = None,
        *,
        task: str = "",
        project: str = "default",
        agent: str = "",
        code: str | None = None,
        component: str = "",
        stack: str | None = None,
        severity: Severity | None = None,
        recoverable: bool | None = None,
        training: bool = False,
        by: str = "",
        request_id: str | None = None,
    ) -> Recorded:
        """Record one error, in one step with all that follows from it.

        What workers report of failed tasks is recorded without this.

        Args:
            error: An exception, a failure, or the name of a kind of error.
            message: For people; the exception's own where it is not given. The first 1,000
                characters are kept.
            task: The task that it came up in; its details are kept for 7 days, and
                no longer than the task.
            project: The board, project or run.
            code: A stable code; an exception's own where it has one.
            component: The part of the system that it came from.
            stack: Its last 8,192 characters are kept; an exception's own where it is not given.
            severity: How bad; else what the rules say.
            recoverable: Whether trying again may help; else what the rules say.
            training: Into the log of the project's trainings, which is kept for 30 days.
            request_id: Makes the call repeatable for ten minutes: the repeat records nothing.

        Raises:
            InvalidArgument: An argument is no name, text or severity. Nothing was recorded.
        """
        given = {"message": message, "code": code, "stack": stack}
        about: dict[str, Any] = {k: value for k, value in given.items() if value is not None}
        about |= {"task": task, "project": project, "agent": agent, "component": component}
        about |= {"severity": severity, "recoverable": recoverable, "training": training}
        reports = [_report(error, about)]
        return (await self.record_many(reports, by=by, request_id=request_id))[0]

    async def record_many(
        self, reports: Iterable[ErrorReport], *, by: str = "", request_id: str | None = None
    ) -> Recordings:
        """Record many errors, an answer each, in order; of more than 1,000 each thousand.

        Args:
            request_id: Makes the call repeatable for ten minutes: the repeat records nothing.

        Raises:
            InvalidArgument: One of them cannot be recorded. None was.
        """
        rows = [
            error_codec.row_of(report, self._rules) for report in check_list("reports", reports)
        ]
        answers: Recordings = []
        for batch in codec.in_batches(rows, error_codec.row_bytes):
            values = [value for _, row in batch for value in row]
            operation = operation_id(request_id, "error", len(answers), by, values)
            reply = await self._functions.call(
                "error_record", operation, check_text("by", by), len(batch), *values
            )
            checked(reply, "ok")
            answers += error_codec.recorded_of([mark for mark, _ in batch], reply[1])
        return answers

    def classify(self, error: BaseException | str) -> Classification:
        """How bad an error is, and whether trying again may help, by this client's rules."""
        names = (
            domain.names_of(error)
            if isinstance(error, BaseException)
            else [check_text("error", error)]
        )
        return domain.classify(names, self._rules)

    def fingerprint(self, name: str, message: str) -> str:
        """What errors have in common that differ in ids, times, paths and numbers only."""
        return domain.fingerprint(
            domain.plain_name(check_text("name", name)), check_text("message", message)
        )

    def add_rules(self, *rules: ErrorRule) -> None:
        """Ask these before those that are built in; what is added last is asked first.

        They hold for what this client records, failures of its workers included.
        """
        for rule in rules:
            if not isinstance(rule, ErrorRule):
                raise InvalidArgument(
                    f"A rule is an ErrorRule, not {type(rule).__name__}.", field="rules"
                )
        self._rules[:0] = rules

    # Reading

    async def list(
        self,
        *,
        severity: Severity | None = None,
        name: str | None = None,
        project: str | None = None,
        task: str | None = None,
        agent: str | None = None,
        component: str | None = None,
        fingerprint: str | None = None,
        training: bool = False,
        since: datetime | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[ErrorEntry]:
        """The errors that fit, newest first.

        Args:
            name: The name of the error, as it stands in the log.
            training: From the log of the trainings of *project*, which must be named then.
            since: Not those before.
            before: An entry's id: those before it, for the next page.
            limit: 1 to 1,000.

        Raises:
            InvalidArgument: A filter that nothing could fit.
        """
        check_whole("limit", limit, 1, BATCH_MAX)
        if training and project is None:
            raise InvalidArgument("Name the project whose trainings are meant.", field="project")
        filters = {
            "severity": None if severity is None else domain.check_severity(severity),
            "name": None if name is None else domain.plain_name(check_text("name", name)),
            "projectId": None if project is None else check_name("project", project),
            "taskId": None if task is None else check_name("task id", task),
            "agent": None if agent is None else check_name("agent", agent),
            "component": None if component is None else check_name("component", component),
            "fingerprint": None if fingerprint is None else _fingerprint(fingerprint),
        }
        rows = [part for pair in filters.items() if pair[1] is not None for part in pair]
        log = (project or "") if training else ""
        at = "+" if before is None else _entry_id(before)
        found: list[ErrorEntry] = []
        for _ in range(LIST_CALLS_MAX):
            reply = await self._functions.call(
                "error_list", log, at, _ms(since), limit - len(found), *rows
            )
            checked(reply, "ok")
            found += [error_codec.entry_of(entry) for entry in reply[2]]
            at = reply[1].decode()
            if not at or len(found) >= limit:
                break
        return found

    async def groups(
        self,
        *,
        since: datetime | None = None,
        state: GroupState | None = None,
        limit: int = 100,
    ) -> ErrorGroups:
        """The groups of errors with one fingerprint, those seen last first.

        Args:
            since: Seen then or later; all of the last 90 days where it is not given.
            limit: 1 to 1,000.
        """
        check_whole("limit", limit, 1, BATCH_MAX)
        wanted = "" if state is None else domain.check_state(state)
        reply = await self._functions.call("error_groups", _ms(since), limit, wanted)
        checked(reply, "ok")
        return [error_codec.group_of(raw.decode(), flat) for raw, flat in reply[1]]

    async def group(self, fingerprint: str) -> ErrorGroup:
        """One group, with how many came in each minute of the last 24 hours.

        Raises:
            ErrorNotFound: Nobody recorded such an error in the last 90 days.
        """
        reply = await self._functions.call("error_read", _fingerprint(fingerprint))
        checked(reply, "ok", fingerprint=fingerprint)
        minutes = reply[2]
        counts = {
            at_ms(int(minutes[i]) * 60_000): int(minutes[i + 1]) for i in range(0, len(minutes), 2)
        }
        group = error_codec.group_of(fingerprint, reply[1])
        return msgspec.structs.replace(group, per_minute=dict(sorted(counts.items())))

    async def counters(self) -> dict[str, int]:
        """How often errors of each name were recorded, the most frequent first."""
        raw = await self._namespace.connection.call("HGETALL", self._namespace.keys.error_counters)
        counts = {name.decode(): int(count) for name, count in error_codec.pairs_of(raw)}
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    async def correlations(self, *, limit: int = 100) -> Cascades:
        """The cascades that were told of in the last 90 days, newest first."""
        check_whole("limit", limit, 1, BATCH_MAX)
        raw = await self._namespace.connection.call(
            "XREVRANGE", self._namespace.keys.error_cascades, "+", "-", "COUNT", limit
        )
        return [error_codec.cascade_of(entry) for entry in raw]

    async def details(self, task: str, *, project: str = "default") -> dict[str, str]:
        """What is known of the last error of a task, of the last 7 days; empty where nothing.

        They go with a task that is purged, if it was one that failed.
        """
        key = self._namespace.keys.error_details(
            check_name("project", project), check_name("task id", task)
        )
        raw = await self._namespace.connection.call("HGETALL", key)
        return {name.decode(): value.decode() for name, value in error_codec.pairs_of(raw)}

    # Operating

    async def resolve(self, fingerprint: str, *, by: str = "", note: str = "") -> ErrorGroup:
        """Mark a group as dealt with; it is open again once such an error comes again.

        Raises:
            ErrorNotFound: No such group.
        """
        return await self._mark(fingerprint, "resolved", by, note)

    async def ignore(self, fingerprint: str, *, by: str = "", note: str = "") -> ErrorGroup:
        """Go on counting a group, but publish it no more, nor let it be part of a cascade.

        Raises:
            ErrorNotFound: No such group.
        """
        return await self._mark(fingerprint, "ignored", by, note)

    async def reopen(self, fingerprint: str, *, by: str = "", note: str = "") -> ErrorGroup:
        """Undo ``resolve`` or ``ignore``. Raises ErrorNotFound."""
        return await self._mark(fingerprint, "open", by, note)

    async def clear(self, *, project: str | None = None, by: str = "") -> None:
        """Forget the log, groups, counters and cascades; or one project's log of trainings."""
        name = "" if project is None else check_name("project", project)
        for _ in range(CLEAR_CALLS_MAX):
            reply = await self._functions.call(
                "error_clear", name, check_text("by", by), CLEARED_AT_ONCE
            )
            checked(reply, "ok")
            if not reply[1]:
                return

    async def configure(
        self,
        *,
        track_failures: bool | None = None,
        cooldown: float | None = None,
        stacks: bool | None = None,
    ) -> None:
        """Set what holds for all clients of the namespace; what is None stays as it is.

        Args:
            track_failures: Whether failed attempts of tasks are recorded by themselves. True.
            cooldown: Seconds after a cascade in which none is told, 0 to 86,400. 300.
            stacks: Whether what is published of an error has its stack trace. False.

        Raises:
            InvalidArgument: A value is out of its bounds.
        """
        pairs: list[str] = []
        if track_failures is not None:
            pairs += ["errors", str(int(_flag("track_failures", track_failures)))]
        if cooldown is not None:
            pairs += ["error_cooldown", str(check_seconds("cooldown", cooldown, 0, 86_400))]
        if stacks is not None:
            pairs += ["error_stacks", str(int(_flag("stacks", stacks)))]
        if pairs:
            checked(await self._functions.call("namespace_configure", *pairs), "ok")

    async def _mark(self, fingerprint: str, state: str, by: str, note: str) -> ErrorGroup:
        if len(check_text("note", note)) > 1_000:
            raise InvalidArgument("note must be at most 1,000 characters.", field="note")
        reply = await self._functions.call(
            "error_mark", _fingerprint(fingerprint), state, check_text("by", by), note
        )
        checked(reply, "ok", "same", fingerprint=fingerprint)
        return await self.group(fingerprint)


def _report(error: Any, about: dict[str, Any]) -> ErrorReport:
    if isinstance(error, BaseException):
        return ErrorReport.from_exception(error, **about)
    if isinstance(error, Failure):
        said = {"name": error.type, "message": error.message, "stack": error.traceback or ""}
        about = {"kinds": error.kinds, **about}
        return ErrorReport(**{**said, "recoverable": error.retryable, **about})
    return ErrorReport(name=check_string("error", error), **about)


def _flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{what} is {value!r}; use True or False.", field=what)
    return value


def _fingerprint(value: Any) -> str:
    text = check_text("fingerprint", value)
    if len(text) != _FINGERPRINT_DIGITS or not set(text) <= set("0123456789abcdef"):
        raise InvalidArgument(
            f"{text[:60]!r} is no fingerprint, which is 32 digits of 0-9 and a-f. "
            "See callboard errors groups.",
            field="fingerprint",
        )
    return text


def _entry_id(value: Any) -> str:
    text = check_text("before", value)
    ms, dash, n = text.partition("-")
    is_id = dash and ms.isdecimal() and n.isdecimal() and text.isascii() and len(text) < 40
    if not is_id or not (int(ms), int(n)) > (0, 0) or max(int(ms), int(n)) > ENTRY_PART_MAX:
        raise InvalidArgument(
            f"before is {text[:60]!r}; use the id of an entry, as in 1800000000000-0.",
            field="before",
        )
    return text


def _ms(since: datetime | None) -> int:
    if since is None:
        return 0
    if not isinstance(since, datetime):
        raise InvalidArgument(f"since must be a datetime, not {since!r}.", field="since")
    try:
        return max(0, round(since.astimezone(UTC).timestamp() * 1_000))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidArgument(
            f"since is {since!r}, of which there is no UTC.", field="since"
        ) from error
