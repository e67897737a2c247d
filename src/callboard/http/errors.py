"""Errors as answers: one shape, and the documented ones where the source has them."""

from __future__ import annotations

import logging
import math
import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from callboard.domain.access import Role
from callboard.exceptions import (
    CallboardError,
    CircuitOpen,
    ConfigError,
    EngineError,
    EngineUnavailable,
    InvalidArgument,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RateLimited,
    Refused,
    TooLarge,
)
from callboard.http.route import Reply, Route

RETRY_SECONDS: Final = 1
"""What ``Retry-After`` says where the engine is away."""

TOO_DEEP: Final = "The JSON is nested too deeply."

_log = logging.getLogger("callboard.http")
_encode = msgspec.json.Encoder().encode
_AT = re.compile(r" - at `(.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(.*?)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What every refusal but 404 and 422 holds.

    Attributes:
        detail: What happened, to which thing, what to do next.
        code: The stable word for this fact.
        details: The facts behind it.
    """

    detail: str
    code: str
    details: dict[str, Any] = {}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One value that could not be used: where it stands, and why."""

    type: str
    loc: tuple[str | int, ...]
    msg: str


class InvalidBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a refusal of what was sent holds."""

    detail: list[Fault]
    code: str = "invalid_argument"
    details: dict[str, Any] = {}


class MissingBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer about a thing that is not there holds."""

    status: str
    message: str
    timestamp: str
    code: str = ""
    details: dict[str, Any] = {}


def now() -> str:
    """UTC, ISO-8601, with microseconds."""
    seconds, rest = divmod(time.time_ns() // 1_000, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}+00:00"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def status_of(error: BaseException) -> int:
    """The HTTP status that stands for an error."""
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, NotAuthenticated):
        return 401
    if isinstance(error, NotPermitted):
        return 403
    if isinstance(error, RateLimited):
        return 429
    if isinstance(error, TooLarge):
        return 413
    if isinstance(error, (InvalidArgument, ConfigError, msgspec.DecodeError)):
        return 422
    if isinstance(error, CircuitOpen):
        return 409
    if isinstance(error, Refused):
        return 409
    if isinstance(error, EngineError):
        return 503
    if isinstance(error, TimeoutError):
        return 408
    return 500


def reply_of(error: Exception, route: Route | None = None) -> Reply:
    """The answer for an error; what was not foreseen is logged, and not told."""
    status = status_of(error)
    is_documented = route is not None and route.is_documented
    if isinstance(error, msgspec.ValidationError):
        return invalid([fault_of("body", str(error))])
    if isinstance(error, msgspec.DecodeError):
        return invalid([Fault(type="json_invalid", loc=("body",), msg=f"No JSON: {error}.")])
    if isinstance(error, RecursionError) and "deserializing" in str(error):
        return invalid([Fault(type="json_invalid", loc=("body",), msg=TOO_DEEP)])
    if isinstance(error, TimeoutError) and not isinstance(error, CallboardError):
        return refused(408, "The time to wait is over; what was waited for goes on.", "timeout")
    if not isinstance(error, CallboardError):
        where = f"{route.verb} {route.path}" if route is not None else "a request"
        _log.error("%s failed.", where, exc_info=error)
        return refused(
            500, "The coordinator failed; its log says how. Nothing more is known.", "internal"
        )
    details = plain(error.details)
    if status == 404:
        return missing(None if is_documented else error, details)
    if status == 422:
        fault = Fault(type=error.code, loc=_loc(error, route), msg=error.message)
        return invalid([fault], error.code, details)
    return refused(status, error.message, error.code, details, after=_after(error))


def _loc(error: CallboardError, route: Route | None) -> tuple[str, ...]:
    """Where the value stood that an error is about."""
    field = str(error.details.get("field", error.details.get("path", "")))
    is_read = route is not None and route.verb == "GET"
    place = error.details.get("place", "query" if is_read else "body")
    if route is not None and route.operation is not None:
        # Of several things the error names one: "task id" of ``task_ids``.
        plain_name = field.replace(" ", "_")
        for name in (field, plain_name, f"{plain_name}s"):
            for parameter in route.operation.parameters:
                if parameter.name == name:
                    return (parameter.place, name)
    return (place, field) if field else (place,)


def stopping() -> Reply:
    """The coordinator ends, and did nothing."""
    return refused(503, "This coordinator has stopped. Ask another.", "stopping", after=1)


def engine_away() -> Reply:
    """The engine does not answer, as told to who is not known: not where it is, nor why."""
    return refused(
        503,
        "The engine does not answer just now. Nothing was done; repeat the request in a moment.",
        EngineUnavailable.code,
        after=RETRY_SECONDS,
    )


def refused(
    status: int,
    detail: str,
    code: str,
    details: dict[str, Any] | None = None,
    *,
    after: float | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Reply:
    """An answer with ``detail`` and ``code``; *after* seconds it may be asked again."""
    if after is not None:
        headers = (*headers, (b"retry-after", str(max(1, math.ceil(after))).encode()))
    return Reply(
        _encode(ErrorBody(detail=detail, code=code, details=details or {})), status, headers
    )


def invalid(
    faults: list[Fault], code: str = "invalid_argument", details: dict[str, Any] | None = None
) -> Reply:
    """An answer about what was sent: 422."""
    return Reply(_encode(InvalidBody(detail=faults, code=code, details=details or {})), 422)


def missing(error: CallboardError | None = None, details: dict[str, Any] | None = None) -> Reply:
    """An answer about what is not there: 404, in the source's shape, which has no ``detail``."""
    if error is None:
        body = MissingBody(status="error", message="Resource not found", timestamp=now())
    else:
        body = MissingBody(
            status="error",
            message=error.message,
            timestamp=now(),
            code=error.code,
            details=details or {},
        )
    return Reply(_encode(body), 404)


def not_allowed(verbs: tuple[str, ...]) -> Reply:
    """The path is there, and this verb is not."""
    allowed = sorted({"GET" if verb == "WEBSOCKET" else verb for verb in verbs})
    allow = ", ".join(allowed).encode()
    return Reply(b'{"detail":"Method Not Allowed"}', 405, ((b"allow", allow),))


def upgrade_needed() -> Reply:
    """The path is one of a WebSocket, and this was a request."""
    return refused(
        426,
        "This is the path of a WebSocket, and the request asks for none. A proxy on the way has "
        "to pass the headers Upgrade and Connection on.",
        "upgrade_required",
        headers=((b"upgrade", b"websocket"), (b"connection", b"Upgrade")),
    )


def forbidden(role: Role, wanted: Role) -> Reply:
    """The caller's role does not suffice."""
    return refused(
        403,
        f"This takes the role {wanted}, and your key has {role}. Use a key with that role.",
        "not_permitted",
        {"role": role, "wanted": wanted},
    )


def fault_of(place: str, message: str) -> Fault:
    """A validation error of msgspec as a fault: *place* is where the value stood."""
    at = _AT.search(message)
    text = message[: at.start()] if at else message
    loc: list[str | int] = [place]
    if at:
        for name, index in _STEP.findall(at[1].removeprefix("$")):
            loc.append(name or (int(index) if index.isdecimal() else index))
    for pattern, kind, words in (
        (_MISSING, "missing", "Field required"),
        (_UNKNOWN, "extra_forbidden", "There is no such field"),
    ):
        found = pattern.search(text)
        if found:
            return Fault(type=kind, loc=(*loc, found[1]), msg=words)
    return Fault(type="value_error", loc=tuple(loc), msg=text)


def plain(details: Any) -> dict[str, Any]:
    """The details of an error as JSON has them; what has no form there is told in words."""
    found: dict[str, Any] = {}
    for name, value in details.items():
        try:
            found[name] = msgspec.to_builtins(value)
        except TypeError:
            found[name] = str(value)
    return found


def _after(error: CallboardError) -> float | None:
    if isinstance(error, EngineError):
        return RETRY_SECONDS
    given = error.details.get("retry_after")
    return float(given) if isinstance(given, int | float) else None
