"""Frames that ask for an operation: what they say becomes a call, as with a request."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from callboard.exceptions import InvalidArgument, NotPermitted
from callboard.http.binding import (
    ANSWER_BYTES_MAX,
    answered,
    asker,
    service_of,
)
from callboard.http.errors import TOO_DEEP
from callboard.http.route import Call
from callboard.http.security.acting import acting_of, check_caller, check_holder
from callboard.operations import Operation, find
from callboard.operations.operation import BOUNDED

Fields = Mapping[str, msgspec.Raw]

SHORT: Final[Mapping[str, str]] = {
    "claim": "tasks.claim",
    "start": "tasks.start",
    "progress": "tasks.progress",
    "renew": "tasks.renew",
    "complete": "tasks.complete",
    "fail": "tasks.fail",
    "release": "tasks.release",
    "heartbeat": "agents.heartbeat",
    "message": "messages.send",
}
"""Frames whose type stands for an operation; its arguments stand beside the type."""

ENDING: Final = frozenset({"complete", "fail", "release", "handoff", "ask", "confirm_cancel"})
"""Operations on a claimed task after which its agent has room for another."""

READING: Final = frozenset({"acknowledge_ids", "release_ids", "reply_to"})
"""Operations on taken messages after which an inbox has room for others."""

_log = logging.getLogger("callboard.http")
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text: Final = msgspec.json.Decoder(str)


def fields_of(frame: bytes | str) -> dict[str, msgspec.Raw]:
    """A frame's fields, each as it was sent. Raises InvalidArgument."""
    try:
        # Decoded whole: a part that is kept as it was sent would not be looked at.
        return _fields.decode(frame if isinstance(frame, str) else frame.decode())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"A frame is a JSON object, and this is none: {error}.") from error
    except RecursionError:
        raise InvalidArgument(TOO_DEEP) from None


def text_of(fields: Fields, name: str, default: str = "") -> str:
    """A field that is text. Raises InvalidArgument."""
    raw = fields.get(name)
    if raw is None:
        return default
    try:
        return _text.decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{name} must be text: {error}.", field=name) from error


def value_of(raw: msgspec.Raw, type_: Any, what: str) -> Any:
    """A field as a value of *type_*. Raises InvalidArgument."""
    try:
        return msgspec.json.decode(raw, type=type_, strict=False)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{what} cannot be used: {error}.", field=what) from error
    except RecursionError:
        raise InvalidArgument(TOO_DEEP, field=what) from None


class Asked:
    """An operation and its arguments, read from a frame, not yet performed."""

    def __init__(self, name: str, fields: Fields, agent: str, instance: str) -> None:
        self.operation: Operation = find(name)
        given = dict(fields)
        self.board = None
        if self.operation.is_on_board and "board" in given:
            self.board = text_of(given, "board") or None
            del given["board"]
        if self.operation.polls and "poll" in given:
            raise InvalidArgument(
                "A call on a socket is not held. Leave poll out, and subscribe: work and messages "
                "then come by themselves.",
                field="poll",
            )
        if agent:
            self._fill_in(given, agent, instance)
        encoded = msgspec.Raw(msgspec.json.encode(given))
        self.arguments = value_of(encoded, self.operation.arguments, self.operation.name)

    def _fill_in(self, given: dict[str, msgspec.Raw], agent: str, instance: str) -> None:
        """Whose socket it is need not be said where an operation has to know who acts."""
        known = {one.name: one for one in self.operation.parameters}
        has_to = "agent" in known and known["agent"].is_required
        if has_to and "agent" not in given:
            given["agent"] = msgspec.Raw(msgspec.json.encode(agent))
            if "instance" in known:
                given.setdefault("instance", msgspec.Raw(msgspec.json.encode(instance)))
        if self.operation.service == "messages" and "sender" in known:
            given.setdefault("sender", msgspec.Raw(msgspec.json.encode(agent)))

    @property
    def is_waiting(self) -> bool:
        """It may take long, so that others are not to wait for its end."""
        return self.operation.is_waiting

    @property
    def may_be_large(self) -> bool:
        """Its answer may be as large as any may be."""
        return self.operation.hidden >= BOUNDED

    async def perform(self, call: Call, cb: Any) -> bytes:
        """Check the caller, call the service, and answer the JSON that goes back."""
        try:
            answer = await self._answer(call, cb)
        except NotPermitted:
            self._tell_refused(call)
            raise
        except Exception as error:
            await self._note(call, getattr(error, "code", type(error).__name__))
            raise
        await self._note(call, "ok")
        return answered(self.operation, answer)

    async def _answer(self, call: Call, cb: Any) -> Any:
        operation, caller = self.operation, call.caller
        besides: dict[str, Any] = {}
        if caller is not None:
            caller.check(operation.role)
            check_caller(caller, operation, self.arguments)
            if caller.key_id is not None:
                besides = acting_of(operation).in_place(caller, (self.arguments,))
            if "address" in operation.hidden:
                # It writes its own entry into the audit log, so nobody says who else it was.
                besides |= asker(caller)
        if self.may_be_large:
            besides["bytes_max"] = ANSWER_BYTES_MAX
        service = service_of(cb, operation, self.board)
        if caller is not None:
            await check_holder(caller, cb, service, operation, self.arguments)
        return await operation.perform(service, self.arguments, besides)

    @property
    def ended(self) -> tuple[str, ...]:
        """The task that its agent has done with where this succeeds."""
        operation = self.operation
        if operation.service != "tasks" or operation.method not in ENDING:
            return ()
        return (self.arguments.task_id,)

    @property
    def inbox(self) -> str:
        """Whose taken messages it ends or gives back where it succeeds; empty where none."""
        operation = self.operation
        if operation.service != "messages" or operation.method not in READING:
            return ""
        return str(self.arguments.agent)

    @property
    def messages_ended(self) -> list[tuple[str, int]]:
        """The messages of ``inbox`` that are held no more where this succeeds, with fences."""
        if self.operation.method == "reply_to":
            return [(self.arguments.request_id, self.arguments.fence)]
        return list(self.arguments.taken)

    async def _note(self, call: Call, outcome: str) -> None:
        note = (call.scope.get("state") or {}).get("note")
        if note is None or not self.operation.is_audited:
            return
        values = msgspec.structs.asdict(self.arguments)
        path = [str(values[one.name]) for one in self.operation.parameters if one.place == "path"]
        # As the path of a request names it, where it names one.
        board = [self.board] if self.board is not None else []
        await note(self.operation.name, "/".join(board + path), outcome)

    def _tell_refused(self, call: Call) -> None:
        """As of a request: who may not do it cannot push out of the audit log what others did."""
        if self.operation.is_audited and call.caller is not None:
            _log.warning(
                "%s may not %s, which takes %s (%s).",
                call.caller.name,
                self.operation.name,
                self.operation.role,
                (call.scope.get("state") or {}).get("request_id", "a socket"),
            )
