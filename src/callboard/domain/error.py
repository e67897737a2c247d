"""Errors as they are tracked: how bad one is, which are the same, what is said of them.

Pure. What a process makes of an error here, the functions keep and count as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import msgspec

from callboard.domain.retry import Failure
from callboard.domain.retry import names_of as names_of
from callboard.exceptions import InvalidArgument

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[str, ...]] = get_args(Severity)

GroupState = Literal["open", "resolved", "ignored"]
GROUP_STATES: Final[tuple[str, ...]] = get_args(GroupState)

NAME_CHARS_MAX: Final = 128
MESSAGE_CHARS_MAX: Final = 1_000
"""Of a message in the log; the whole one stands in the task's attempts."""

STACK_CHARS_MAX: Final = 8_192
PATTERN_CHARS_MAX: Final = 500
"""Of a normalised message that count for its fingerprint."""

LOG_KEPT_DAYS: Final = 7
TRAINING_LOG_KEPT_DAYS: Final = 30
GROUPS_KEPT_DAYS: Final = 90
GROUPS_MOST: Final = 100_000
CASCADE_WINDOW_SECONDS: Final = 300.0
CASCADE_TYPES: Final = 3

# How bad an error is, and whether trying again may help


def check_severity(value: Any) -> Severity:
    """Return *value* if it is a severity; InvalidArgument where it is not."""
    if value not in SEVERITIES:
        raise InvalidArgument(
            f"severity is {value!r}; use one of {', '.join(SEVERITIES)}.", field="severity"
        )
    severity: Severity = value
    return severity


class ErrorRule(msgspec.Struct, frozen=True):
    """What errors of some names are: the first rule that names one decides.

    Attributes:
        pattern: A name, without its module, in which ``*`` stands for any text. The name of a
            class that the error is a kind of counts too, where the error is an exception.
        severity: How bad; None leaves it to later rules.
        recoverable: Whether trying again may help; None leaves it to later rules.
    """

    pattern: str
    severity: Severity | None = None
    recoverable: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what no rule can be."""
        pattern: Any = self.pattern
        if not isinstance(pattern, str) or not pattern:
            raise InvalidArgument("A rule needs a pattern, as in '*Timeout*'.", field="pattern")
        if self.severity is not None:
            check_severity(self.severity)


DEFAULT_RULES: Final[tuple[ErrorRule, ...]] = (
    ErrorRule("poison", "critical", recoverable=False),
    ErrorRule("*OutOfMemory*", "critical", recoverable=False),
    ErrorRule("MemoryError", "critical", recoverable=False),
    ErrorRule("EngineFull", "critical", recoverable=True),
    ErrorRule("SystemError", "critical", recoverable=False),
    ErrorRule("*Corrupt*", "critical", recoverable=False),
    ErrorRule("*DataLoss*", "critical", recoverable=False),
    ErrorRule("*Security*", "critical", recoverable=False),
    ErrorRule("*RateLimit*", "low", recoverable=True),
    ErrorRule("*Throttl*", "low", recoverable=True),
    ErrorRule("*TooManyRequests*", "low", recoverable=True),
    ErrorRule("Retry", "low", recoverable=True),
    ErrorRule("*Cancelled*", "low", recoverable=True),
    ErrorRule("Warning", "low", recoverable=True),
    ErrorRule("deadline_exceeded", "high", recoverable=False),
    ErrorRule("timeout", "medium", recoverable=True),
    ErrorRule("lease_lost", "medium", recoverable=True),
    ErrorRule("*Timeout*", "medium", recoverable=True),
    ErrorRule("*Unavailable*", "medium", recoverable=True),
    ErrorRule("*Auth*", "high", recoverable=False),
    ErrorRule("*Forbidden*", "high", recoverable=False),
    ErrorRule("*Permission*", "high", recoverable=False),
    ErrorRule("*Integrity*", "high", recoverable=False),
    ErrorRule("Fatal", "high", recoverable=False),
    ErrorRule("AssertionError", "high", recoverable=False),
    ErrorRule("ImportError", "high", recoverable=False),
    ErrorRule("NotImplementedError", "high", recoverable=False),
    ErrorRule("RecursionError", "high", recoverable=False),
    ErrorRule("*Connection*", "medium", recoverable=True),
    ErrorRule("*Network*", "medium", recoverable=True),
    ErrorRule("OSError", "medium", recoverable=True),
    ErrorRule("*Validation*", "medium", recoverable=False),
    ErrorRule("*Decode*", "medium", recoverable=False),
    ErrorRule("ValueError", "medium", recoverable=False),
    ErrorRule("TypeError", "medium", recoverable=False),
    ErrorRule("LookupError", "medium", recoverable=False),
    ErrorRule("AttributeError", "medium", recoverable=False),
    ErrorRule("NameError", "medium", recoverable=False),
    ErrorRule("SyntaxError", "medium", recoverable=False),
    ErrorRule("ArithmeticError", "medium", recoverable=False),
    ErrorRule("*", "medium", recoverable=True),
)
"""Asked from the first to the last; what a program adds comes before them."""


class Classification(msgspec.Struct, frozen=True):
    """How bad an error is, and whether trying again may help."""

    severity: Severity
    recoverable: bool


def classify(names: Sequence[str], rules: Iterable[ErrorRule] = ()) -> Classification:
    """What the first rules that fit say, *rules* before those that are built in.

    Args:
        names: The error's name, then those of the classes it is a kind of, nearest first.
    """
    return _classified(tuple(names), tuple(rules))


@lru_cache(maxsize=1_024)
def _classified(names: tuple[str, ...], rules: tuple[ErrorRule, ...]) -> Classification:
    severity: Severity | None = None
    recoverable: bool | None = None
    plain = [name.rpartition(".")[2] for name in names]
    for rule in (*rules, *DEFAULT_RULES):
        if any(fnmatchcase(name, rule.pattern) for name in plain) or any(
            name == rule.pattern for name in names
        ):
            severity = severity or rule.severity
            recoverable = rule.recoverable if recoverable is None else recoverable
            if severity is not None and recoverable is not None:
                break
    return Classification(severity or "medium", True if recoverable is None else recoverable)


def check_state(value: Any) -> GroupState:
    """Return *value* if it is the state of a group; InvalidArgument where it is not."""
    if value not in GROUP_STATES:
        raise InvalidArgument(
            f"state is {value!r}; use one of {', '.join(GROUP_STATES)}.", field="state"
        )
    state: GroupState = value
    return state


# Which errors are the same

_NORMALISED: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        re.compile(
            r"(?<![0-9a-fA-F])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![0-9a-fA-F])"
        ),
        "<uuid>",
    ),
    (
        re.compile(
            r"(?<![0-9A-Za-z])(?<!\d\.)(?:0[xX][0-9a-fA-F]+|(?=[0-9a-fA-F]{0,63}[0-9])"
            r"(?=[0-9a-fA-F]{0,63}[a-fA-F])[0-9a-fA-F]{7,128})(?![0-9A-Za-z])"
        ),
        "<n>",  # as of a number: some are all digits
    ),
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
        ),
        "<time>",
    ),
    (re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\",;)\]}]+"), "<url>"),
    (
        re.compile(r"(?:(?<![\w<>/])(?:~|\.{1,2})?/|(?<![\w<>])[A-Za-z]:\\)[^\s'\",;:)\]}]+"),
        "<path>",
    ),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "<email>"),
    (re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"), "<n>"),
    (re.compile(r"\s+"), " "),
)
"""In this order: what stands in another is found before the digits inside it are taken."""


def normalise(message: str) -> str:
    """The message without what differs from one occurrence to the next.

    UUIDs, then hex ids and hashes of at least 7 digits, ISO times, URLs and paths, mail
    addresses, numbers; then any white space becomes one space. The first 4,096 characters count.
    """
    text = message[:4_096]
    for pattern, stand_in in _NORMALISED:
        text = pattern.sub(stand_in, text)
    return text.strip()[:PATTERN_CHARS_MAX]


def fingerprint(name: str, message: str) -> str:
    """What errors of one name have in common whose messages differ in ids and numbers only.

    The first 32 hex digits of the SHA-256 of name, newline, normalised message.
    """
    text = f"{name}\n{normalise(message)}"
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


# What is said of an error

_NOT_IN_NAMES: Final = re.compile(r'[\x00-\x20\x7f"\\|,]+')


def plain_name(text: str) -> str:
    """A name without what delimits names where they are kept, at most 128 characters."""
    encoded = text.encode("utf-8", "backslashreplace").decode()
    return _NOT_IN_NAMES.sub("_", encoded)[:NAME_CHARS_MAX] or "Error"


def plain_message(text: str) -> str:
    """The first 1,000 characters, of which UTF-8 can write each."""
    return text[:MESSAGE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()


def last_of(stack: str) -> str:
    """The end of a stack trace, where the fault is: at most 8,192 characters UTF-8 can write."""
    return stack[-STACK_CHARS_MAX:].encode("utf-8", "backslashreplace").decode()


class ErrorReport(msgspec.Struct, frozen=True, kw_only=True):
    """An error to record.

    Attributes:
        name: What kind of error: the class of an exception, or a word.
        message: For people; its first 1,000 characters are kept.
        task: The task that it came up in.
        project: The board, project or run.
        agent: Who had it.
        code: A stable code that it carries.
        component: The part of the system that it came from; in a cascade, errors of one name
            from two components are two types.
        stack: Its last 8,192 characters are kept. It is not published unless that was switched on.
        severity: How bad; None: as the rules say.
        recoverable: Whether trying again may help; None: as the rules say.
        training: It belongs into the log of the project's trainings, kept for 30 days.
        kinds: Names of what it is a kind of, for the rules.
    """

    name: str
    message: str = ""
    task: str = ""
    project: str = "default"
    agent: str = ""
    code: str = ""
    component: str = ""
    stack: str = ""
    severity: Severity | None = None
    recoverable: bool | None = None
    training: bool = False
    kinds: tuple[str, ...] = ()

    @classmethod
    def from_exception(cls, error: BaseException, **about: Any) -> ErrorReport:
        """Describe an exception; what is given besides goes before what it says of itself."""
        failure = Failure.from_exception(error)
        said: dict[str, Any] = {
            "name": failure.type,
            "message": failure.message,
            "code": _code_of(error),
            "stack": failure.traceback or "",
            "kinds": failure.kinds,
        }
        return cls(**{**said, **about})


def _code_of(error: BaseException) -> str:
    """A code that an exception carries; none where it cannot say."""
    try:
        return str(getattr(error, "code", None) or getattr(error, "errno", None) or "")
    except Exception:  # A property of its own may raise anything.
        return ""


class Marked(msgspec.Struct, frozen=True):
    """An error as the functions take it.

    Attributes:
        text: ``fingerprint|severity|recoverable|name|code|message as JSON``.
        message: The message as it is.
    """

    text: str
    message: str
    fingerprint: str
    classification: Classification


def marked(
    name: str,
    message: str,
    classification: Classification,
    code: str = "",
) -> Marked:
    """Put together what the functions keep of an error."""
    kind, said = plain_name(name), plain_message(message)
    mark = fingerprint(kind, message)
    encoded = msgspec.json.encode(said).decode()
    code = plain_name(code) if code else ""
    recoverable = int(classification.recoverable)
    return Marked(
        f"{mark}|{classification.severity}|{recoverable}|{kind}|{code}|{encoded}",
        said,
        mark,
        classification,
    )


def mark_failure(failure: Failure, rules: Iterable[ErrorRule] = ()) -> Marked:
    """What is kept of a task's failed attempt; its own word on retrying goes before the rules."""
    found = classify([failure.type, *failure.kinds], rules)
    code = (failure.details or {}).get("code", "")
    return marked(
        failure.type,
        failure.message,
        Classification(found.severity, failure.retryable),
        code if isinstance(code, str) else "",
    )


# What was recorded


class Recorded(msgspec.Struct, frozen=True):
    """What became of an error that was recorded.

    Attributes:
        count: How often errors with this fingerprint were recorded by now.
        is_new: Nobody had recorded one before.
    """

    fingerprint: str
    severity: Severity
    recoverable: bool
    count: int
    is_new: bool


class ErrorInfo(msgspec.Struct, frozen=True):
    """What an error says of itself."""

    name: str
    message: str
    code: str | None = None


class ErrorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One error in the log.

    Attributes:
        id: Its place in the log: later errors have greater ones.
        type: ``task_failure``, or ``training_failure``.
        attempt: Which attempt of the task failed; 0 where that is not known.
    """

    id: str
    type: str
    task: str
    project: str
    agent: str
    error: ErrorInfo
    at: datetime
    severity: Severity
    recoverable: bool
    fingerprint: str
    component: str = ""
    stack: str = ""
    attempt: int = 0

    def to_source(self) -> dict[str, Any]:
        """The entry with the field names of the documented pattern, as plain JSON values."""
        return {
            "type": self.type,
            "taskId": self.task,
            "projectId": self.project,
            "agent": self.agent,
            "error": msgspec.to_builtins(self.error),
            "timestamp": iso(self.at),
            "severity": self.severity,
            "recoverable": self.recoverable,
        }


class ErrorGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Errors with one fingerprint.

    Attributes:
        sample: The message of the last of them.
        state: ``open``; ``resolved`` until it comes again; ``ignored``: counted, but neither
            published nor part of a cascade.
        reopened: How often it came again after it was resolved.
        by: Who resolved or ignored it, with the note they left.
        per_minute: Errors by minute of the last 24 hours, minutes without any left out; empty
            in lists.
    """

    fingerprint: str
    name: str
    sample: str
    severity: Severity
    count: int
    first_seen: datetime
    last_seen: datetime
    state: GroupState = "open"
    component: str = ""
    project: str = ""
    reopened: int = 0
    by: str = ""
    note: str = ""
    per_minute: dict[datetime, int] = {}


class Cascade(msgspec.Struct, frozen=True, kw_only=True):
    """Several types of errors within five minutes, told once.

    Attributes:
        error_types: Names of errors, with their component before a colon where they have one.
        error_counts: How often each came up in the window.
    """

    id: str
    at: datetime
    error_types: tuple[str, ...]
    error_counts: dict[str, int]
    severity: Severity = "critical"
    recommendation: str = ""


def iso(at: datetime) -> str:
    """UTC as the documented payloads write it, with milliseconds and a Z."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
