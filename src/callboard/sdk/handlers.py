"""Handlers: how a function becomes what runs the tasks of a kind."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from callboard.domain.names import check_name
from callboard.domain.record import Claimed
from callboard.exceptions import ConfigError, Fatal, InvalidArgument
from callboard.sdk.context import TaskContext

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """A kind's function, how its payload is decoded, and which arguments it takes.

    Attributes:
        timeout: Seconds one attempt may run, where the task does not say.
        is_async: It runs on the loop; else in a thread.
        is_context_first: The context stands before the payload.
    """

    kind: str
    function: Function
    is_async: bool
    takes_payload: bool
    context_name: str | None
    is_context_first: bool
    timeout: float | None
    decode: Callable[[Claimed], Any]

    def invoke(self, claimed: Claimed, context: TaskContext) -> Awaitable[Any] | Any:
        """Decode the payload and call the function.

        Raises:
            Fatal: The payload cannot be decoded to the annotated type; no retry cures that.
        """
        arguments: tuple[Any, ...] = ()
        if self.takes_payload:
            try:
                arguments = (self.decode(claimed),)
            except (msgspec.DecodeError, ValueError, TypeError) as error:
                raise Fatal(
                    f"The payload of task {claimed.id} does not fit handler {self.kind!r}: {error}"
                ) from error
        if self.context_name is None:
            return self.function(*arguments)
        if self.is_context_first:
            return self.function(context, *arguments)
        return self.function(*arguments, **{self.context_name: context})


def make_handler(kind: str, function: Function, timeout: float | None) -> Handler:
    """Read the function's signature: at most a payload and a ``TaskContext``, in any order.

    Raises:
        ConfigError: It takes something else; the message says what a handler may take.
    """
    check_name("kind", kind)
    if timeout is not None and not timeout > 0:
        raise InvalidArgument(f"timeout of handler {kind!r} is {timeout!r}; use seconds above 0.")
    payload, context_name = _parameters(kind, function)
    parameters = list(inspect.signature(function).parameters.values())
    return Handler(
        kind=kind,
        function=function,
        is_async=inspect.iscoroutinefunction(function)
        or inspect.iscoroutinefunction(type(function).__call__),
        takes_payload=payload is not None,
        context_name=context_name,
        is_context_first=context_name is not None
        and parameters[0].name == context_name
        and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY,
        timeout=timeout,
        decode=_decoder_of(payload),
    )


def _parameters(kind: str, function: Function) -> tuple[Any, str | None]:
    """The payload's annotation (None: no payload) and the context parameter's name."""
    payload: Any = None
    context_name = None
    for parameter in inspect.signature(function).parameters.values():
        annotation = _annotation(kind, function, parameter)
        if annotation is TaskContext or parameter.name in ("ctx", "context"):
            context_name = parameter.name
        elif payload is None and parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            payload = Any if annotation is inspect.Parameter.empty else annotation
        elif parameter.default is inspect.Parameter.empty:
            raise ConfigError(
                f"Handler {kind!r} ({getattr(function, '__name__', function)}) takes "
                f"{parameter.name!r}; "
                "a handler takes a payload and, if it wants, a TaskContext named ctx."
            )
    return payload, context_name


def _annotation(kind: str, function: Function, parameter: inspect.Parameter) -> Any:
    """The parameter's annotation as a type, also where it is written as text."""
    written = parameter.annotation
    if written is None:
        return type(None)
    if not isinstance(written, str) or parameter.name in ("ctx", "context"):
        return written
    function = inspect.unwrap(getattr(function, "func", function))
    names = getattr(function, "__globals__", None)
    if names is None:
        names = getattr(type(function).__call__, "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={"it": written})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["it"]
    except (NameError, TypeError, SyntaxError) as error:
        raise ConfigError(
            f"Handler {kind!r}: the type of {parameter.name!r}, {written!r}, cannot be found "
            f"({error}). Define it at the top of the module that has the handler."
        ) from error


def _foreign(kind: type[Any], value: Any) -> Any:
    """Values of types that msgspec does not know: pydantic models inside other types."""
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        raise TypeError(f"{kind.__name__} cannot be read from JSON")
    return validate(value)


def _decoder_of(annotation: Any) -> Callable[[Claimed], Any]:
    """Decodes a claim's payload to the annotated type, in one pass where msgspec knows it."""
    if annotation is None:
        return lambda claimed: None
    validate = getattr(annotation, "model_validate_json", None)
    if validate is not None:
        return lambda claimed: validate(bytes(claimed.payload))
    body_type = msgspec.defstruct("PayloadBody", [("payload", annotation, None)])
    within = msgspec.json.Decoder(body_type, dec_hook=_foreign).decode
    alone = msgspec.json.Decoder(annotation, dec_hook=_foreign).decode

    def decode(claimed: Claimed) -> Any:
        if claimed.large_payload:
            return alone(claimed.large_payload)
        body = claimed.body
        if b'"payload"' not in body:
            return alone(b"null")
        return within(body).payload  # type: ignore[attr-defined]

    return decode
