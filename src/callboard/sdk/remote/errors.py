"""From what a coordinator refused to the exception that the library would have raised."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final

import msgspec

from callboard.dispatch.client import HttpFailure, Response
from callboard.exceptions import (
    CallboardError,
    ConfigError,
    EngineUnavailable,
    InvalidArgument,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    RateLimited,
    TooLarge,
)

TIMED_OUT: Final = "timeout"
"""The code of a wait whose time was over, which is Python's own TimeoutError."""

MAY_HAVE_RUN: Final = " It may or may not have run."

_BY_STATUS: Final[Mapping[int, type[CallboardError]]] = {
    400: InvalidArgument,
    401: NotAuthenticated,
    403: NotPermitted,
    404: NotFound,
    413: TooLarge,
    422: InvalidArgument,
    429: RateLimited,
}
_SHOWN: Final = 300
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII
)


class _Told(msgspec.Struct):
    """What any refusal may hold."""

    code: str = ""
    message: str = ""
    detail: Any = None
    details: dict[str, Any] = {}


def error_of(response: Response, asked: str, place: str) -> Exception:
    """The exception for a refusal.

    Args:
        asked: What was asked for, for messages: an operation's name, or a path.
        place: The coordinator's address.
    """
    told = _read(response.body)
    after = response.headers.get("retry-after", "")
    if told.code == TIMED_OUT:
        return TimeoutError(_message(told))
    kind = _classes().get(told.code) or _BY_STATUS.get(response.status)
    if kind is None:
        return _of_the_way(response, told, asked, place)
    message = _message(told)
    if not message:
        message = f"{place} answered {response.status} to {asked}."
    if response.status == 404 and not told.code:
        message = (
            f"{place} does not know {asked}: it is another release of Callboard, or another "
            "service. Check the URL, and callboard doctor."
        )
    details = {name: _moment(value) for name, value in told.details.items()}
    if kind is RateLimited and after.isdecimal():
        details.setdefault("retry_after", float(after))
    return made(kind, message, details)


def made(kind: type[CallboardError], message: str, details: Mapping[str, Any]) -> CallboardError:
    """An exception of this kind; what its constructor wants besides is not asked for."""
    error = kind.__new__(kind, message)
    CallboardError.__init__(error, message)
    error.details = details
    return error


def failed(failure: HttpFailure, asked: str, place: str) -> CallboardError:
    """The exception where there was no answer: certainly not run, or nobody knows."""
    if failure.word in ("refused", "unusable"):
        return ConfigError(f"{place} cannot be asked: {failure}.", coordinator=place)
    if failure.word == "too_large":
        return TooLarge(
            f"What {place} answers to {asked} is too much: {failure}. Ask for less at once: a "
            "smaller limit, or page by page.",
            coordinator=place,
        )
    if failure.is_sent:
        return OutcomeUnknown(
            f"{asked} was sent to {place}, and no answer came: {failure}.{MAY_HAVE_RUN}",
            coordinator=place,
        )
    return EngineUnavailable(
        f"No coordinator could be asked for {asked} at {place}: {failure}. Check the URL, and "
        "that it runs: callboard serve",
        coordinator=place,
    )


def _of_the_way(response: Response, told: _Told, asked: str, place: str) -> CallboardError:
    """What came back is no refusal of ours: of a proxy, or of a coordinator that failed."""
    said = _message(told) or response.body[:_SHOWN].decode("utf-8", "replace")
    if response.status == 503:
        return EngineUnavailable(f"{place} cannot serve {asked} just now: {said}")
    if response.status >= 500:
        return OutcomeUnknown(f"{place} failed at {asked} ({response.status}): {said}")
    return CallboardError(
        f"{place} answered {response.status} to {asked}, which no coordinator does: {said}",
        status=response.status,
    )


def _read(body: bytes) -> _Told:
    try:
        return msgspec.json.decode(body, type=_Told)
    except msgspec.DecodeError:
        return _Told()


def _message(told: _Told) -> str:
    if told.message:
        return told.message
    if isinstance(told.detail, str):
        return told.detail
    if isinstance(told.detail, list):
        return " ".join(_fault(one) for one in told.detail if isinstance(one, dict))
    return ""


def _moment(value: Any) -> Any:
    """A moment among the details, which JSON has as text."""
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return msgspec.convert(value, datetime)
    return value


def _fault(fault: Mapping[str, Any]) -> str:
    """One value that could not be used; the library's own message says where by itself."""
    text = str(fault.get("msg", ""))
    if fault.get("type") in _classes():
        return text
    where = ".".join(str(part) for part in fault.get("loc", ())[1:])
    return f"{where}: {text}." if where else text


@cache
def _classes() -> dict[str, type[CallboardError]]:
    # Those of users have the codes of ours, or none that a coordinator says.
    ours = (kind for kind in _tree(CallboardError) if kind.__module__ == CallboardError.__module__)
    return {kind.code: kind for kind in ours}


def _tree(kind: type[CallboardError]) -> Iterator[type[CallboardError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _tree(one)
