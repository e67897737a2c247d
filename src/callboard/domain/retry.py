"""When a failed attempt is tried again, and what a failure says.

Pure: chance comes in as an argument, so a delay can be computed where the decision is
made and checked in a test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from traceback import format_exception
from typing import Any, Final, Literal, Self

import msgspec

from callboard.domain.bounds import check_depth
from callboard.exceptions import CallboardError, Fatal, InvalidArgument, Retry

MAX_RETRIES_MAX: Final = 1_000
"""Every attempt of a task is kept, so their number is bounded."""

BASE_SECONDS_MAX: Final = 86_400.0
FACTOR_MAX: Final = 100.0
CAP_SECONDS_MAX: Final = 2_592_000.0
"""Thirty days: also the longest delay that a handler may ask for."""

KINDS_MAX: Final = 32
"""Of the classes that an exception is of."""

TYPE_BYTES_MAX: Final = 256
MESSAGE_BYTES_MAX: Final = 4_096
DETAILS_BYTES_MAX: Final = 8_192
TRACEBACK_BYTES_MAX: Final = 8_192
"""Each attempt's failure is stored: these bound what a task can grow to."""

_TRACEBACK_FRAMES_MAX: Final = 64
# From here on any factor above 1 (so at least 1.001) has met any cap from any base.
_EXPONENT_MAX: Final = 100_000


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a failed task is tried again, and how long it waits before.

    The wait after the *n*-th failure is a random share of
    ``min(cap, base * factor ** (n - 1))`` seconds. Times are kept to the millisecond and
    the factor to a thousandth, as the engine stores them.

    Attributes:
        max_retries: Tries after the first, 0 to 1,000: 3 retries end at the 4th failure.
        base: Bound of the first wait in seconds, 0 to 86,400; 0 means at once, always.
        factor: What each further failure multiplies the bound by, 1 to 100.
        cap: The bound never exceeds this, in seconds, 0 to 2,592,000 (30 days).
        jitter: ``full``: any wait from none to the bound is equally likely. It is the
            only one: with less, tasks that failed together come back together.

    Raises:
        InvalidArgument: A field is out of its bounds or of the wrong type.
    """

    max_retries: int = 3
    base: float = 1.0
    factor: float = 2.0
    cap: float = 300.0
    jitter: Literal["full"] = "full"

    def __post_init__(self) -> None:
        """Refuse what is out of bounds and round to what the engine stores."""
        _check_number("max_retries", self.max_retries, 0, MAX_RETRIES_MAX, whole=True)
        for field, low, high in (
            ("base", 0.0, BASE_SECONDS_MAX),
            ("factor", 1.0, FACTOR_MAX),
            ("cap", 0.0, CAP_SECONDS_MAX),
        ):
            value = _check_number(field, getattr(self, field), low, high)
            msgspec.structs.force_setattr(self, field, _thousandths(value) / 1000)
        if self.jitter != "full":
            raise InvalidArgument(
                f'Retry policy: jitter is {self.jitter!r}; the only one is "full".',
                field="jitter",
                value=repr(self.jitter),
            )

    def allows(self, failures: int) -> bool:
        """Tell whether a task that failed this often, the last time included, is tried again."""
        return failures <= self.max_retries

    def delay_bound(self, failures: int) -> float:
        """Return the longest wait in seconds after this many failures, the last included.

        Raises:
            InvalidArgument: *failures* is below 1.
        """
        _check_number("failures", failures, 1, None, whole=True)
        if self.base == 0:
            return 0.0
        try:
            grown = self.factor ** min(failures - 1, _EXPONENT_MAX)
        except OverflowError:
            return self.cap
        return min(self.cap, self.base * grown)

    def delay(self, failures: int, random_unit: float) -> float:
        """Return the seconds to wait after this many failures: a share of the bound.

        "Full jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture
        Blog, 2015: ``random(0, min(cap, base * factor ** (failures - 1)))``.

        Args:
            failures: Failures so far, the last included; at least 1.
            random_unit: A random number from 0 to 1, equally distributed.

        Raises:
            InvalidArgument: An argument is out of its bounds.
        """
        _check_number("random_unit", random_unit, 0.0, 1.0)
        return random_unit * self.delay_bound(failures)

    def encode(self) -> str:
        """Return ``max:base_ms:factor_milli:cap_ms``, or the empty string for the default.

        :meth:`decode` gives back an equal policy.
        """
        if self == RetryPolicy():
            return ""
        base, factor, cap = map(_thousandths, (self.base, self.factor, self.cap))
        return f"{self.max_retries}:{base}:{factor}:{cap}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what :meth:`encode` wrote.

        Raises:
            InvalidArgument: The text has another form, or a number is out of its bounds.
        """
        if not text:
            return cls()
        parts = text.split(":")
        if len(parts) != 4 or not all(p.isascii() and p.isdigit() and len(p) < 16 for p in parts):
            raise InvalidArgument(
                f"Retry policy {text[:100]!r} cannot be read; it must be four whole numbers,"
                ' "max:base_ms:factor_milli:cap_ms", for example "3:1000:2000:300000".',
                value=text[:100],
            )
        retries, base, factor, cap = map(int, parts)
        return cls(max_retries=retries, base=base / 1000, factor=factor / 1000, cap=cap / 1000)


def names_of(error: BaseException) -> list[str]:
    """The names of an exception's class and of those that it is a kind of, nearest first."""
    plain = (BaseException, Exception, object)
    return [kind.__qualname__ for kind in type(error).__mro__ if kind not in plain]


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt failed, bounded in size however it was made.

    What is too long is cut, never refused: reporting a failure must not fail. Text that
    UTF-8 cannot write is written as escapes.

    Attributes:
        type: The exception's class with its module, or the word of a rule, such as
            ``deadline_exceeded``; at most 256 bytes of UTF-8.
        message: For people; at most 4 KiB, its beginning kept.
        retryable: False if no retry can cure it: the task becomes a dead letter.
        delay: Seconds that the handler asked to wait, 0 to 30 days; None: as the policy says.
        details: Plain JSON values, at most 8 KiB encoded; more is replaced by a note.
        traceback: At most 8 KiB, its end kept, where the fault is.
        kinds: Names of the classes that the exception is of, for the rules on errors where it
            is reported; at most 32. They are not kept.
    """

    type: str
    message: str
    retryable: bool
    delay: float | None = None
    details: dict[str, Any] | None = None
    traceback: str | None = None
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Cut each field to its bound."""
        bounded = {
            "type": _keep_start(self.type, TYPE_BYTES_MAX),
            "message": _keep_start(self.message, MESSAGE_BYTES_MAX),
            "delay": _bound_delay(self.delay),
            "details": _plain_details(self.details) if self.details else None,
            "traceback": _keep_end(self.traceback, TRACEBACK_BYTES_MAX) if self.traceback else None,
            "kinds": tuple(self.kinds[:KINDS_MAX]),
        }
        for field, value in bounded.items():
            msgspec.structs.force_setattr(self, field, value)

    @classmethod
    def from_exception(
        cls, exc: BaseException, *, retryable: bool | None = None, traceback: bool = True
    ) -> Self:
        """Describe an exception, whatever it is, without ever raising one.

        Args:
            exc: What the handler raised. ``Retry`` brings its own delay.
            retryable: Overrules the rule, which is: ``Fatal`` and data that cannot be
                decoded or validated (``msgspec.DecodeError``) are not retryable, all else
                is. A handler whose decoding may go better next time raises ``Retry``.
            traceback: Whether to keep the traceback, of at most 64 frames an exception.
        """
        if retryable is None:
            retryable = not isinstance(exc, Fatal | msgspec.DecodeError)
        return cls(
            type=_type_name(type(exc)),
            message=_message(exc),
            retryable=retryable,
            delay=_own_delay(exc),
            details=_own_details(exc),
            traceback=_traceback(exc) if traceback else None,
            kinds=tuple(names_of(exc)),
        )

    def encode(self) -> bytes:
        """Return it as JSON; fields that are None, and *kinds*, are left out."""
        kept = msgspec.structs.replace(self, kinds=()) if self.kinds else self
        return msgspec.json.encode(kept)

    @classmethod
    def decode(cls, data: bytes | str) -> Self:
        """Read what :meth:`encode` wrote; fields unknown to this release are ignored.

        Raises:
            InvalidArgument: It is not JSON, or not of this shape.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise InvalidArgument(
                f"A failure cannot be read: {error}. It must be a JSON object with type,"
                " message and retryable."
            ) from error


def _check_number(
    field: str, value: object, low: float, high: float | None, *, whole: bool = False
) -> float:
    kinds = (int,) if whole else (int, float)
    fits = (
        isinstance(value, kinds)
        and not isinstance(value, bool)
        and low <= value  # False for NaN, which no comparison accepts.
        and (high is None or value <= high)
    )
    if not fits:
        noun = "whole number" if whole else "number"
        bounds = f"of at least {low:g}" if high is None else f"from {low:g} to {high:.12g}"
        raise InvalidArgument(
            f"Retry policy: {field} is {_short(value)}; it must be a {noun} {bounds}.",
            field=field,
            value=_short(value),
        )
    assert isinstance(value, int | float)
    return value


def _thousandths(value: float) -> int:
    return round(value * 1000)


def _short(value: object) -> str:
    """Return a value's repr for a message; a number of 5,000 digits has none."""
    try:
        return repr(value)[:100]
    except ValueError:
        return f"too large a {type(value).__name__}"


def _encodable(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _keep_start(text: str, bytes_max: int) -> str:
    data = _encodable(text[: bytes_max + 1])
    if len(data) <= bytes_max:
        return data.decode()
    mark = "…"
    return data[: bytes_max - len(mark.encode())].decode("utf-8", "ignore") + mark


def _keep_end(text: str, bytes_max: int) -> str:
    data = _encodable(text[-bytes_max - 1 :])
    if len(data) <= bytes_max:
        return data.decode()
    mark = "…"
    return mark + data[len(data) - bytes_max + len(mark.encode()) :].decode("utf-8", "ignore")


def _bound_delay(delay: object) -> float | None:
    if isinstance(delay, bool) or not isinstance(delay, int | float) or math.isnan(delay):
        return None
    return float(min(max(delay, 0), CAP_SECONDS_MAX))


def _plain_details(details: dict[str, Any]) -> dict[str, Any]:
    plain = {_keep_start(str(key), TYPE_BYTES_MAX): _plain(value) for key, value in details.items()}
    size = len(msgspec.json.encode(plain))
    if size <= DETAILS_BYTES_MAX:
        return plain
    return {"dropped": f"details took {size} bytes; at most {DETAILS_BYTES_MAX} are kept"}


def _plain(value: object) -> Any:
    try:
        encoded = msgspec.json.encode(value)
        check_depth("details", encoded)
        return msgspec.json.decode(encoded)
    except Exception:  # Anything can be in there, and a failure report must not fail.
        return f"<{type(value).__name__}>"


def _type_name(kind: type[BaseException]) -> str:
    if kind.__module__ in ("builtins", "__main__", CallboardError.__module__):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _own_delay(exc: BaseException) -> float | None:
    # A subclass need not have called our __init__.
    return getattr(exc, "delay", None) if isinstance(exc, Retry) else None


def _own_details(exc: BaseException) -> dict[str, Any] | None:
    details = getattr(exc, "details", None) if isinstance(exc, CallboardError) else None
    return dict(details) if isinstance(details, Mapping) else None


def _message(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception:  # A broken __str__ is not the failure to report.
        text = ""
    return text or type(exc).__qualname__


def _traceback(exc: BaseException) -> str:
    try:
        return "".join(format_exception(exc, limit=-_TRACEBACK_FRAMES_MAX))
    except Exception as error:  # Source lines, notes and attributes may be anything.
        return f"(the traceback could not be written: {type(error).__name__})"


DEFAULT_POLICY: Final = RetryPolicy()
"""What a task has that says nothing."""
