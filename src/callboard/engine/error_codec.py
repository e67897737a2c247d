"""Between errors as Python has them and the rows and replies of the functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from callboard.domain import error as domain
from callboard.domain.bounds import check_string
from callboard.domain.error import (
    Cascade,
    Classification,
    ErrorEntry,
    ErrorGroup,
    ErrorInfo,
    ErrorReport,
    ErrorRule,
    Marked,
    Recorded,
    Severity,
)
from callboard.domain.names import check_name
from callboard.domain.task import at_ms
from callboard.engine.codec import encode_json
from callboard.exceptions import InvalidArgument


def row_of(report: Any, rules: Iterable[ErrorRule]) -> tuple[Marked, tuple[Any, ...]]:
    """What is kept of an error, and the row that records it. Raises InvalidArgument."""
    if not isinstance(report, ErrorReport):
        raise InvalidArgument(
            f"An error to record is an ErrorReport, not {type(report).__name__}.",
            field="reports",
        )
    for field in ("name", "message", "code", "stack"):
        check_string(field, getattr(report, field))
    for kind in report.kinds:
        check_string("kinds", kind)
    found = domain.classify([report.name, *report.kinds], rules)
    severity, recoverable = report.severity, report.recoverable
    classification = Classification(
        found.severity if severity is None else domain.check_severity(severity),
        found.recoverable if recoverable is None else bool(recoverable),
    )
    mark = domain.marked(report.name, report.message, classification, report.code)
    stack = encode_json("stack", domain.last_of(report.stack)) if report.stack else b""
    return mark, (
        mark.text,
        mark.message,
        check_name("project", report.project),
        report.task if report.task == "" else check_name("task id", report.task),
        report.agent if report.agent == "" else check_name("agent", report.agent),
        report.component if report.component == "" else check_name("component", report.component),
        stack,
        int(report.training),
    )


def row_bytes(row: tuple[Marked, tuple[Any, ...]]) -> int:
    """About how many bytes a row takes on its way."""
    mark, values = row
    return len(mark.text) + len(mark.message) * 4 + len(values[6]) + 600


def recorded_of(marks: Sequence[Marked], raw: bytes) -> list[Recorded]:
    """An answer for each error, from the counts that a call answered."""
    answers = []
    for mark, text in zip(marks, raw.decode().split(","), strict=True):
        count, _, is_new = text.partition(":")
        answers.append(
            Recorded(
                mark.fingerprint,
                mark.classification.severity,
                mark.classification.recoverable,
                int(count),
                is_new == "1",
            )
        )
    return answers


def entry_of(raw: Any) -> ErrorEntry:
    """An entry of a log."""
    said = {name.decode(): value for name, value in pairs_of(raw[1])}
    text = {name: value.decode() for name, value in said.items()}
    return ErrorEntry(
        id=raw[0].decode(),
        type=text["type"],
        task=text["taskId"],
        project=text["projectId"],
        agent=text["agent"],
        error=msgspec.json.decode(said["error"], type=ErrorInfo),
        at=at_ms(int(raw[0].partition(b"-")[0])),
        severity=domain.check_severity(text["severity"]),
        recoverable=text["recoverable"] == "true",
        fingerprint=text["fingerprint"],
        component=text.get("component", ""),
        stack=msgspec.json.decode(said["stack"], type=str) if "stack" in said else "",
        attempt=int(text.get("attempt", 0)),
    )


def group_of(fingerprint: str, flat: Any) -> ErrorGroup:
    """A group from its hash."""
    text = {name.decode(): value.decode() for name, value in pairs_of(flat)}
    return ErrorGroup(
        fingerprint=fingerprint,
        name=text["name"],
        sample=text["sample"],
        severity=domain.check_severity(text["severity"]),
        count=int(text["count"]),
        first_seen=at_ms(int(text["first_seen"])),
        last_seen=at_ms(int(text["last_seen"])),
        state=domain.check_state(text["state"]),
        component=text["component"],
        project=text["project"],
        reopened=int(text.get("reopened", 0)),
        by=text.get("by", ""),
        note=text.get("note", ""),
    )


class _Told(msgspec.Struct):
    error_types: list[str]
    error_counts: dict[str, int]
    severity: Severity
    recommendation: str


def cascade_of(raw: Any) -> Cascade:
    """A cascade that was told."""
    said = {name.decode(): value for name, value in pairs_of(raw[1])}
    told = msgspec.json.decode(said["cascade"], type=_Told)
    return Cascade(
        id=raw[0].decode(),
        at=at_ms(int(raw[0].partition(b"-")[0])),
        error_types=tuple(told.error_types),
        error_counts=told.error_counts,
        severity=told.severity,
        recommendation=told.recommendation,
    )


def pairs_of(raw: Any) -> Any:
    """The fields of a hash or entry, in either protocol's shape."""
    return raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
