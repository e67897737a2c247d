"""What can be asked of a coordinator: a service method, and how it is asked for by HTTP.

The types of what is sent and answered are those of the method's own signature; nothing is
said twice. The HTTP router, the OpenAPI document, the frames of ``/ws`` and the client over
HTTP all come from this.
"""

from __future__ import annotations

import functools
import inspect
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec

from callboard.domain.access import Role

Verb = Literal["GET", "POST", "PUT", "DELETE"]
Place = Literal["path", "query", "body"]

ANONYMOUS: Final = "anonymous"
"""Who did it, where nobody said and it has to be said."""

POLL_MAX: Final = 60.0
"""Seconds that a request may be held: proxies give up on those that are silent for longer."""

BOUNDED: Final = frozenset({"bytes_max"})
"""Hidden, as is said by the coordinator alone: what one answer may hold."""

Poll = Annotated[float, msgspec.Meta(ge=0, le=POLL_MAX)]

_PARAMETER = re.compile(r"\{(\w+)\}")
_UNSET: Final = msgspec.UNSET


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Wire:
    """How a value travels that a method takes in more forms than JSON has.

    Attributes:
        type: What it is in JSON.
        sent: Makes that of what a caller of the method gave; the client does it.
        taken: Makes what the method is given of it; the coordinator does it.
    """

    type: Any
    sent: Callable[[Any], Any] = _same
    taken: Callable[[Any], Any] = _same


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value that is sent.

    Attributes:
        place: Where it stands in the request.
        is_rest: It is a list that the method takes as ``*name``.
        is_extra: It is for the coordinator, not for the method.
        wire: How it travels, where its type alone does not say so.
    """

    name: str
    type: Any
    place: Place
    is_required: bool
    is_rest: bool = False
    is_extra: bool = False
    wire: Wire | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one service.

    Attributes:
        service: The attribute of ``Callboard``: ``tasks``, ``agents``, …
        method: Its name there.
        function: The method itself, whose signature and annotations are the types.
        verb, path: How it is asked for; ``{name}`` in the path is the parameter *name*.
        role: What a caller must be.
        answers: The key of the answer's value in the JSON; empty where there is none.
        fields: The struct whose fields the method takes as ``**fields``.
        types: What parameters are in JSON, where the annotation is wider: a type, or a ``Wire``.
        hidden: Parameters that cannot be sent; they keep their defaults.
        result: The type of the answer, where it is not the annotation.
        render: Makes the answer of what the method returned, where *result* is given.
        is_waiting: It may take long, and ends where the caller goes away.
        polls: It may be asked to wait, by ``poll`` seconds, until there is something to answer.
        is_audited: A call is written into the audit log; true of what ``operate`` and ``admin``
            change.
        is_global: It is about all namespaces, so that a key for some of them does not do.
        is_repeatable: Safe to send again where its outcome is unknown.
    """

    service: str
    method: str
    function: Callable[..., Any]
    verb: Verb
    path: str
    role: Role
    answers: str
    fields: type[msgspec.Struct] | None = None
    types: Mapping[str, Any] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    result: Any = None
    render: Callable[[Any], Any] | None = None
    is_waiting: bool = False
    polls: bool = False
    is_global: bool = False
    is_repeatable: bool = False

    @property
    def name(self) -> str:
        """``service.method``, which names it everywhere."""
        return f"{self.service}.{self.method}"

    @property
    def is_audited(self) -> bool:
        """What operators and administrators change is written down; not what they look at."""
        return self.role in ("operate", "admin") and self.verb != "GET"

    @property
    def summary(self) -> str:
        """The first line of the method's docstring."""
        return (inspect.getdoc(self.function) or self.name).partition("\n")[0]

    @property
    def description(self) -> str:
        """The rest of the method's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[2].strip()

    @property
    def is_on_board(self) -> bool:
        """It is about the tasks of one board, which the path names or else is the default one."""
        return self.service in ("tasks", "dead_letters")

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """What is sent, in the order of the signature."""
        in_path = set(_PARAMETER.findall(self.path))
        elsewhere: Place = "query" if self.verb in ("GET", "DELETE") else "body"
        hints = typing.get_type_hints(self.function)
        found: list[Parameter] = []
        for given in list(inspect.signature(self.function).parameters.values())[1:]:
            if given.name in self.hidden:
                continue
            if given.kind is given.VAR_KEYWORD:
                found += self._spread({one.name for one in found}, elsewhere)
                continue
            is_rest = given.kind is given.VAR_POSITIONAL
            found.append(
                self._parameter(
                    given.name,
                    hints[given.name],
                    "path" if given.name in in_path else elsewhere,
                    # Who did it is known of a caller that has a name.
                    given.default is given.empty and not is_rest and given.name != "by",
                    is_rest,
                )
            )
        if self.polls:
            found.append(Parameter("poll", Poll, elsewhere, is_required=False, is_extra=True))
        return tuple(found)

    def _spread(self, known: set[str], place: Place) -> list[Parameter]:
        """The fields of the struct that the method takes as ``**fields``."""
        if self.fields is None:
            raise TypeError(f"{self.name} takes **fields: say of which struct")
        return [
            self._parameter(one.name, one.type, place, one.required)
            for one in msgspec.structs.fields(self.fields)
            if one.name not in known and one.name not in self.hidden
        ]

    def _parameter(
        self, name: str, annotation: Any, place: Place, is_required: bool, is_rest: bool = False
    ) -> Parameter:
        given = self.types.get(name, annotation)
        wire = given if isinstance(given, Wire) else None
        wanted: Any = plain(given.type if isinstance(given, Wire) else given)
        kind = list[wanted] if is_rest else wanted
        return Parameter(name, kind, place, is_required, is_rest, wire=wire)

    def struct(self, *places: Place) -> type[msgspec.Struct]:
        """The struct of all that stands in these places; unknown names are refused."""
        fields: list[Any] = []
        for one in self.parameters:
            if one.place in places:
                required = one.is_required
                fields.append(
                    (one.name, one.type)
                    if required
                    else (one.name, one.type | _UNSET_TYPE, _UNSET)
                    if one.type is not Any
                    else (one.name, Any, _UNSET)
                )
        return msgspec.defstruct(
            self._type_name, fields, forbid_unknown_fields=True, kw_only=True, frozen=True
        )

    @property
    def _type_name(self) -> str:
        words = f"{self.service}_{self.method}".split("_")
        return "".join(word.capitalize() for word in words)

    @cached_property
    def body(self) -> type[msgspec.Struct]:
        """What the request's JSON holds."""
        return self.struct("body")

    @cached_property
    def query(self) -> type[msgspec.Struct]:
        """What stands behind the question mark."""
        return self.struct("query")

    @cached_property
    def arguments(self) -> type[msgspec.Struct]:
        """All that is sent, as one object: what frames of ``/ws`` carry."""
        return self.struct("path", "query", "body")

    @cached_property
    def answer(self) -> Any:
        """The type of what is answered; None where it is nothing."""
        if self.result is not None:
            return self.result
        return plain(typing.get_type_hints(self.function).get("return"))

    @cached_property
    def envelope(self) -> type[msgspec.Struct]:
        """The JSON that is answered: ``status``, the value under its key, ``timestamp``."""
        fields: list[Any] = [("status", Literal["success"])]
        if self.answers:
            fields.append((self.answers, self.answer))
        fields.append(("timestamp", str))
        return msgspec.defstruct(f"{self._type_name}Answer", fields, kw_only=True, frozen=True)

    async def perform(self, service: Any, *values: dict[str, Any] | msgspec.Struct) -> Any:
        """Call the method of *service* with what was sent, and answer what goes back.

        *values* are structs of this operation, or dicts of names to values that have
        their types already.
        """
        rest: list[Any] = []
        named = named_of(values)
        for name in self._extras:
            named.pop(name, None)
        for name, wire in self._wires:
            if name in named:
                named[name] = wire.taken(named[name])
        if self._needs_by:
            named.setdefault("by", ANONYMOUS)
        if self._rest is not None:
            rest = named.pop(self._rest, [])
        for name in self._leading:
            if name in named:
                rest.insert(self._leading.index(name), named.pop(name))
        value = await getattr(service, self.method)(*rest, **named)
        return value if self.render is None else self.render(value)

    def sent(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What is sent of the values that a caller of the method gave, by name."""
        found = dict(values)
        for name, wire in self._wires:
            if name in found:
                found[name] = wire.sent(found[name])
        return found

    @cached_property
    def _wires(self) -> tuple[tuple[str, Wire], ...]:
        return tuple((one.name, one.wire) for one in self.parameters if one.wire is not None)

    @cached_property
    def _extras(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.parameters if one.is_extra)

    @cached_property
    def _needs_by(self) -> bool:
        by = inspect.signature(self.function).parameters.get("by")
        return by is not None and by.default is by.empty

    @cached_property
    def _rest(self) -> str | None:
        return next((one.name for one in self.parameters if one.is_rest), None)

    @cached_property
    def _leading(self) -> tuple[str, ...]:
        """Positional parameters that must be given as such, since ``*rest`` or ``/`` follows."""
        kinds = list(inspect.signature(self.function).parameters.values())[1:]
        if self._rest is None:
            return tuple(one.name for one in kinds if one.kind is one.POSITIONAL_ONLY)
        before: list[str] = []
        for one in kinds:
            if one.kind is one.VAR_POSITIONAL:
                break
            before.append(one.name)
        return tuple(before)


_UNSET_TYPE: Final = msgspec.UnsetType


def named_of(values: Iterable[dict[str, Any] | msgspec.Struct]) -> dict[str, Any]:
    """All that was sent, by name; what was left out is not there. Later values go before."""
    found: dict[str, Any] = {}
    for given in values:
        if isinstance(given, dict):
            found.update(given)
            continue
        # Most fields of a large struct are unset: this takes a third of the time of ``asdict``.
        fields = zip(given.__struct_fields__, msgspec.structs.astuple(given), strict=True)
        for name, value in fields:
            if value is not _UNSET:
                found[name] = value  # noqa: PERF403
    return found


def operations_of(service: str, **usual: Any) -> Callable[..., Operation]:
    """What makes the operations of a service, by method and function; *usual* holds for all."""

    def make(method: str, function: Callable[..., Any], **rest: Any) -> Operation:
        return Operation(service=service, method=method, function=function, **usual, **rest)

    return make


def plain(annotation: Any) -> Any:
    """The annotation as msgspec knows it: an iterable of something is a list of it."""
    origin = typing.get_origin(annotation)
    if origin is None:
        return annotation
    parts = tuple(plain(one) for one in typing.get_args(annotation))
    if origin is typing.Literal:
        return annotation
    if origin in (Iterable, typing.Iterable):
        return list[parts[0]]  # type: ignore[valid-type]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, parts)
    if origin is tuple and len(parts) == 2 and parts[1] is Ellipsis:
        return tuple[parts[0], ...]  # type: ignore[valid-type]
    if origin is typing.Annotated:
        return annotation
    return origin[parts]
