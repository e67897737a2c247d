"""Results and failures as they are handed in: checked, encoded, and as rows of the functions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from callboard.domain.bounds import check_claim
from callboard.domain.error import ErrorRule, mark_failure
from callboard.domain.retry import Failure
from callboard.domain.task import BATCH_BYTES_MAX, BATCH_MAX, check_seconds
from callboard.engine.codec import encode_json
from callboard.exceptions import InvalidArgument


class Encoded(msgspec.Struct, frozen=True):
    """JSON that was checked already."""

    json: bytes


class Completion(msgspec.Struct, frozen=True):
    """A result to hand in: the task, the fence of its claim, any JSON value."""

    id: str
    fence: int
    result: Any = None


class FailedAttempt(msgspec.Struct, frozen=True):
    """A failure to hand in; *delay* in seconds overrides the task's retry policy."""

    id: str
    fence: int
    failure: Failure
    delay: float | None = None


def as_encoded(result: Any) -> Encoded | None:
    """A result as checked JSON; None stays None.

    Raises:
        InvalidArgument: It has no JSON form.
        TooLarge: It is over 1 MiB.
    """
    if result is None or type(result) is Encoded:
        return result
    return Encoded(encode_json("result", result))


def fitting(results: Sequence[Completion]) -> int:
    """How many of these encoded results one call may carry: 1,000, and 8 MiB."""
    total = 0
    for count, item in enumerate(results[:BATCH_MAX]):
        total += len(item.result.json) if item.result is not None else 0
        if total > BATCH_BYTES_MAX and count:
            return count
    return min(len(results), BATCH_MAX)


def checked_completion(item: Completion) -> Completion:
    """The same with its result encoded; the same object where it is already."""
    if not isinstance(item, Completion):
        raise InvalidArgument(
            f"A result to hand in is a Completion, not {type(item).__name__}.", field="results"
        )
    check_claim(item.id, item.fence)
    encoded = as_encoded(item.result)
    return item if encoded is item.result else Completion(item.id, item.fence, encoded)


def completion_rows(results: Iterable[Completion]) -> list[Any]:
    """Three values a result: see ``task_complete.lua``."""
    rows: list[Any] = []
    for item in results:
        rows += (item.id, item.fence, item.result.json if item.result is not None else b"")
    return rows


def failure_row(item: FailedAttempt, rules: Sequence[ErrorRule]) -> tuple[Any, ...]:
    """The values of a failure, with what *rules* make of it: see ``task_fail.lua``."""
    if not isinstance(item, FailedAttempt):
        raise InvalidArgument(
            f"A failure to hand in is a FailedAttempt, not {type(item).__name__}.",
            field="failures",
        )
    check_claim(item.id, item.fence)
    failure = failure_of(item.failure, None)
    delay = "" if item.delay is None else check_seconds("delay", item.delay, 0, 2_592_000)
    jitter = f"{random.random():.6f}"
    mark = mark_failure(failure, rules)
    return (
        *(item.id, item.fence, failure.encode(), int(failure.retryable), jitter, delay),
        *(mark.text, mark.message),
    )


def failure_of(error: Any, retryable: bool | None) -> Failure:
    """A failure from what a holder says: a message, an exception, or one already."""
    if retryable is not None and not isinstance(retryable, bool):
        raise InvalidArgument(f"retryable is {retryable!r}; use True or False.", field="retryable")
    if isinstance(error, str):
        return Failure("Error", error, True if retryable is None else retryable)
    if isinstance(error, BaseException):
        return Failure.from_exception(error, retryable=retryable)
    if not isinstance(error, Failure):
        raise InvalidArgument(
            f"error must be a message, an exception or a Failure, not {type(error).__name__}.",
            field="error",
        )
    if retryable is None or retryable == error.retryable:
        return error
    return msgspec.structs.replace(error, retryable=retryable)
