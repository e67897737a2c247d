"""What the documented routes share: how they read what was sent, and how they refuse."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from callboard.domain.access import Role
from callboard.exceptions import InvalidArgument, TooLarge
from callboard.http import errors
from callboard.http.documented.examples import EXAMPLES
from callboard.http.route import JSON, Call, Reply, Route

Struct = TypeVar("Struct", bound=msgspec.Struct)
Inner = Callable[[Call], Awaitable[Reply]]

Object = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
"""A JSON object that goes on as it came, unread."""

LIST_MAX: Final = 1_000

encode: Final = msgspec.json.Encoder().encode


class Done(msgspec.Struct, frozen=True):
    """What every documented answer begins with."""

    status: str = "success"


class InvalidAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal of what was sent; a name that is none of the documented ones is a sentence."""

    detail: list[errors.Fault] | str
    code: str = "invalid_argument"
    details: dict[str, Any] = {}


class Refusal(Exception):
    """A documented refusal, with its answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def documented(
    verb: str,
    path: str,
    inner: Inner,
    answer: Any,
    *,
    role: Role | None,
    summary: str,
    tag: str,
    body: Any = None,
    query: Any = None,
    others: Mapping[int, Any] | None = None,
    description: str = "",
    content_type: str = JSON,
) -> Route:
    """A route in the documented shapes; *others* are its own statuses besides 200."""
    places = _places(path, body, query)

    async def handle(call: Call) -> Reply:
        try:
            return await inner(call)
        except Refusal as refusal:
            return refusal.reply
        except TooLarge:
            raise
        except InvalidArgument as error:
            loc = _place(str(error.details.get("field", "")), places)
            fault = errors.Fault(type=error.code, loc=loc, msg=error.message)
            return errors.invalid([fault], error.code, errors.plain(error.details))

    return Route(
        verb=verb,
        path=path,
        handle=handle,
        role=role,
        summary=summary,
        description=description,
        tag=tag,
        body=body,
        query=query,
        example=EXAMPLES.get(f"{verb} {path}"),
        answers={200: answer, **(others or {})},
        content_type=content_type,
        is_documented=True,
    )


_DOCUMENTED: Final[Mapping[str, tuple[str, ...]]] = {
    "agent": ("agent_id", "agent"),
    "capability": ("capabilities",),
    "service": ("services", "service"),
    "tag": ("tags",),
    "labels": ("chain_id", "island_id"),
    "load": ("load_metrics",),
    "metric": ("load_metrics",),
    "to": ("receiver_id", "recipient"),
    "receiver": ("receiver_id", "agent_id"),
    "sender": ("sender_id", "sender"),
    "peers": ("peer_id",),
    "thread": ("correlation_id",),
    "in_reply_to": ("reply_to",),
    "message id": ("message_id",),
    "payload": ("payload", "content", "task_data"),
    "min_health_score": ("requirements",),
}
"""What the fields of the library are called here, where it is another name."""


def _places(path: str, body: Any, query: Any) -> dict[str, str]:
    """In which part of a request each of its values stands."""
    found = dict.fromkeys(re.findall(r"\{(\w+)\}", path), "path")
    for struct, place in ((query, "query"), (body, "body")):
        found |= dict.fromkeys(struct.__struct_fields__ if struct is not None else (), place)
    return found


def _place(field: str, places: Mapping[str, str]) -> tuple[str, ...]:
    """Where the value stands that the library calls *field*."""
    for name in (*_DOCUMENTED.get(field, ()), field):
        if name in places:
            return places[name], name
    return ("body", field) if field else ("body",)


BAD_NAME: Final[Mapping[int, Any]] = {400: errors.ErrorBody}
"""The status of a name that is none of the documented ones."""


def bad_request(detail: str) -> Refusal:
    """400, as the documented service answers an unknown priority, strategy, type or protocol."""
    return Refusal(errors.refused(400, detail, "invalid_argument"))


def unusable(field: str, message: str, place: str = "body") -> Refusal:
    """422 about one field."""
    fault = errors.Fault(type="value_error", loc=(place, field), msg=message)
    return Refusal(errors.invalid([fault]))


async def sent(call: Call, decoder: msgspec.json.Decoder[Struct]) -> Struct:
    """The body as a struct; what it does not name is ignored. Refuses with 422."""
    return decoder.decode(await call.body())


def asked(call: Call, struct: type[Struct]) -> Struct:
    """The query as a struct, the last of each name. Refuses with 422."""
    given = {name: texts[-1] for name, texts in call.query().items()}
    try:
        return msgspec.convert(given, struct, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(errors.invalid([errors.fault_of("query", str(error))])) from None


def is_object(value: msgspec.Raw) -> bool:
    """Whether a value that was checked to be JSON is an object."""
    return bytes(value).lstrip()[:1] == b"{"


def answer(value: msgspec.Struct) -> Reply:
    """200 with a struct as JSON."""
    return Reply(encode(value))


def iso(at: datetime) -> str:
    """A time as the documented service writes it: UTC, with microseconds."""
    return at.isoformat(timespec="microseconds")


def caller_name(call: Call) -> str:
    """Who asks, for what is kept of it; empty where no key is used."""
    caller = call.caller
    return caller.name if caller is not None and caller.key_id else ""


def act_as(call: Call, agent: str) -> None:
    """Raise NotPermitted where the caller's key is for another agent."""
    if call.caller is not None:
        call.caller.check_agent(agent)
