"""Calls of methods as requests: arguments written, answers read, by the table of operations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.retry import Failure
from callboard.engine import codec
from callboard.engine.handed_in import Encoded
from callboard.exceptions import InvalidArgument, OutcomeUnknown
from callboard.operations import OPERATIONS, Operation, Parameter
from callboard.sdk.remote.transport import DONE_BEFORE, Transport

BODY_BYTES_MAX: Final = 1 << 40
"""A body is bounded by what it is made of, and by the coordinator, which says so."""

DROPPED: Final = frozenset({"address", "folder"})
"""What a coordinator knows better, or has no use for: it is left out without a word."""

_plain: Final = msgspec.json.Encoder(enc_hook=codec._foreign)


class Asking:
    """Asks for one operation."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._signature = inspect.signature(operation.function)
        self._kinds = {one.name: one.kind for one in self._signature.parameters.values()}
        self._defaults = {one.name: one.default for one in self._signature.parameters.values()}
        self._parameters = {one.name: one for one in operation.parameters if not one.is_extra}
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(operation.envelope)

    def bound(self, service: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The values of a call by name; those that were left out are not among them.

        Raises:
            TypeError: As the method itself would.
            InvalidArgument: Something does not travel.
        """
        found: dict[str, Any] = {}
        given = self._signature.bind(service, *args, **kwargs).arguments
        given.pop(next(iter(self._kinds)))
        for name, value in given.items():
            if self._kinds[name] is inspect.Parameter.VAR_KEYWORD:
                found |= value
            elif self._kinds[name] is inspect.Parameter.VAR_POSITIONAL:
                found[name] = list(value)
            else:
                found[name] = value
        # The library's own mark for what was left out.
        found = {name: value for name, value in found.items() if value is not ...}
        for name in [name for name in found if name not in self._parameters]:
            self._leave_out(name, found.pop(name))
        return found

    async def __call__(
        self,
        transport: Transport,
        values: Mapping[str, Any],
        *,
        board: str,
        is_repeatable: bool,
        done_before: tuple[type[Exception], ...] = DONE_BEFORE,
    ) -> Any:
        """Send a call and answer what came back, as the table has it."""
        operation = self.operation
        path, body = self.request(operation.sent(values), board)
        response = await transport.ask(
            operation.verb,
            path,
            body,
            asked=operation.name,
            is_repeatable=operation.is_repeatable or is_repeatable,
            done_before=done_before,
        )
        try:
            answer = self._decoder.decode(response.body)
        except msgspec.DecodeError as error:
            raise OutcomeUnknown(
                f"{transport.place} answered {operation.name} in words that are not understood "
                f"here: {error}. Client and coordinator may be of different releases."
            ) from error
        return getattr(answer, operation.answers) if operation.answers else None

    def request(self, values: Mapping[str, Any], board: str) -> tuple[str, bytes]:
        """The path with its query, and the body, of what is sent."""
        operation = self.operation
        in_path: dict[str, str] = {}
        query: list[tuple[str, str]] = []
        body: list[bytes] = []
        for name, value in values.items():
            parameter = self._parameters[name]
            if parameter.place == "path":
                in_path[name] = _segment(name, value)
            elif parameter.place == "query":
                query += [(name, text) for text in _texts(value)]
            else:
                body.append(b'"%b":%b' % (name.encode(), _encoded(parameter, value)))
        path = operation.path.format_map(in_path)
        # A task that is named as a documented path, as ``status``, is hidden by it elsewhere.
        is_hidden = operation.name == "tasks.get" and in_path["task_id"] in ("status", "queues")
        if operation.is_on_board and (board != DEFAULT_BOARD or is_hidden):
            path = f"/boards/{quote(board, safe='')}{path}"
        if query:
            path += f"?{urlencode(query)}"
        has_body = operation.verb not in ("GET", "DELETE")
        return path, b"{%b}" % b",".join(body) if has_body else b""

    def _leave_out(self, name: str, value: Any) -> None:
        """A value that cannot be sent: harmless where it is the default."""
        default = self._defaults.get(name, inspect.Parameter.empty)
        if name in self.operation.hidden and (name in DROPPED or value == default):
            return
        if name in self.operation.hidden:
            raise InvalidArgument(
                f"{name} does not travel: {self.operation.name} is asked of a coordinator over "
                "HTTP. Leave it out, or connect to the engine itself.",
                field=name,
            )
        known = ", ".join(self._parameters)
        raise InvalidArgument(
            f"{self.operation.name} takes no {name!r}; it takes {known}.", field=name
        )


def _segment(name: str, value: Any) -> str:
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise InvalidArgument(f"{name} is {value!r}; it must be a name.", field=name)
    return quote(value, safe="")


def _texts(value: Any) -> list[str]:
    """A value as it stands behind the question mark; None is left out."""
    if value is None:
        return []
    if isinstance(value, Enum):
        return [str(value.value)]
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, datetime):
        return [value.isoformat()]
    if isinstance(value, int | float):
        return [repr(value)]
    if isinstance(value, Mapping | msgspec.Struct):
        return [_json("query", value).decode()]
    return [text for part in value for text in _texts(part)]


def _encoded(parameter: Parameter, value: Any) -> bytes:
    name = parameter.name
    if parameter.type is Any:
        return codec.encode_json(name, value, BODY_BYTES_MAX)
    return _json(name, _travelling(value))


def _json(name: str, value: Any) -> bytes:
    try:
        return _plain.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"{name} does not travel, since it cannot be written as JSON: {error}.", field=name
        ) from error


def _travelling(value: Any) -> Any:
    """The value with what users gave in it checked and encoded, as the library does it."""
    if isinstance(value, msgspec.Struct):
        fields = _fields(type(value))
        if not any(is_free for _, _, is_free in fields):
            return value
        told: dict[str, Any] = {}
        for name, default, is_free in fields:
            part = getattr(value, name)
            if part is not default:
                told[name] = _raw(name, part) if is_free else part
        return told
    if isinstance(value, BaseException):
        return Failure.from_exception(value)
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        return value
    return [_travelling(one) for one in value]


def _raw(name: str, value: Any) -> msgspec.Raw:
    if isinstance(value, Encoded):
        return msgspec.Raw(value.json)
    return msgspec.Raw(codec.encode_json(name, value, BODY_BYTES_MAX))


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any, bool], ...]:
    """Name, default, and whether it holds any JSON value, of each field of a struct."""
    return tuple((one.name, one.default, one.type is Any) for one in msgspec.structs.fields(kind))


@cache
def asking(name: str) -> Asking:
    """How the operation of this name is asked for; made with the first call."""
    return Asking(OPERATIONS[name])
