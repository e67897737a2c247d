"""What is made here before a call is sent, so that it may be sent again without harm."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from callboard.domain.agent import AgentSpec
from callboard.domain.agent import spec_of as agent_spec_of
from callboard.domain.message import MessageSpec
from callboard.domain.task import TaskSpec, new_id, spec_of
from callboard.exceptions import InvalidArgument

Values = dict[str, Any]


def _submit(values: Values) -> Values:
    spec_of(**values)  # Names the nearest field where there is no such one.
    return _with_id(values)


def _with_id(values: Values) -> Values:
    if values.get("id") is None:
        values["id"] = new_id()
    return values


def _with_request_id(values: Values) -> Values:
    if values.get("request_id") is None:
        values["request_id"] = secrets.token_hex(8)
    return values


def _children(values: Values) -> Values:
    values["children"] = [with_id(spec) for spec in values["children"]]
    return values


def _messages(values: Values) -> Values:
    values["specs"] = [
        msgspec.structs.replace(one, id=new_id())
        if isinstance(one, MessageSpec) and one.id is None
        else one
        for one in values["specs"]
    ]
    return values


def _agent(values: Values) -> Values:
    """An agent's spec as its id and what differs from the defaults."""
    instance = values.pop("instance", None)
    spec: AgentSpec = agent_spec_of(values.pop("agent"), values)
    told = {
        one.name: getattr(spec, one.name)
        for one in msgspec.structs.fields(AgentSpec)
        if one.name != "id" and getattr(spec, one.name) != one.default
    }
    return {"agent": spec.id, **told, **({} if instance is None else {"instance": instance})}


def with_id(spec: Any) -> TaskSpec:
    """The task with an id. Raises InvalidArgument where it is none."""
    if not isinstance(spec, TaskSpec):
        raise InvalidArgument(
            f"A task to submit is a TaskSpec, not {type(spec).__name__}.", field="specs"
        )
    return spec if spec.id is not None else msgspec.structs.replace(spec, id=new_id())


PREPARE: Final[Mapping[str, Callable[[Values], Values]]] = {
    "agents.register": _agent,
    "conflicts.decide": _with_request_id,
    "conflicts.open_vote": _with_request_id,
    "conflicts.refer": _with_request_id,
    "conflicts.report": _with_id,
    "conflicts.resolve": _with_request_id,
    "context.increment": _with_request_id,
    "context.set": _with_request_id,
    "errors.record": _with_request_id,
    "errors.record_many": _with_request_id,
    "locks.release": _with_request_id,
    "messages.broadcast": _with_id,
    "messages.publish": _with_id,
    "messages.reply_to": _with_id,
    "messages.send": _with_id,
    "messages.take": _with_request_id,
    "messages.send_many": _messages,
    "messages.send_request": _with_id,
    "runs.start": _with_id,
    "tasks.claim": _with_request_id,
    "tasks.complete_and_claim": _with_request_id,
    "tasks.note": _with_request_id,
    "tasks.split": _children,
    "tasks.submit": _submit,
    "tasks.take": _with_request_id,
}
"""By operation: completes the values of a call, which makes the call repeatable."""
