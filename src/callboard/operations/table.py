"""All operations, noun by noun, and the methods that are none, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Final

from callboard.operations import (
    access,
    agents,
    boards,
    breakers,
    conflicts,
    context,
    dead_letters,
    errors,
    events,
    flow,
    lines,
    locks,
    messages,
    metrics,
    recurring,
    runs,
    scheduler,
    tasks,
    teams,
)
from callboard.operations.operation import Operation

_NOUNS: Final = (
    tasks,
    dead_letters,
    boards,
    agents,
    scheduler,
    messages,
    locks,
    lines,
    context,
    conflicts,
    breakers,
    flow,
    recurring,
    errors,
    metrics,
    events,
    teams,
    runs,
    access,
)

ALL: Final[tuple[Operation, ...]] = tuple(chain.from_iterable(one.OPERATIONS for one in _NOUNS))

_JANITOR: Final = "the janitor of each coordinator does it"
_STREAM: Final = "a stream: "
_OBJECT: Final = "it takes objects of the caller's process; "
_LEAD: Final = "who leads or hosts a run does it, on the engine itself"
_GUARD: Final = "the coordinator does it for the requests that it lets in"

LOCAL: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{
            f"{service}.sweep": _JANITOR
            for service in (
                "agents",
                "breakers",
                "conflicts",
                "context",
                "flow",
                "locks",
                "messages",
                "metrics",
                "recurring",
                "runs",
            )
        },
        "access.credential": _GUARD,
        "access.note": _GUARD,
        "access.redeem": _GUARD,
        "access.take": _GUARD,
        "access.ticket": _GUARD,
        "access.use": _GUARD,
        "context.watch": "made of the event stream and of context.get_many",
        "events.follow": f"{_STREAM}GET /events",
        "events.listen": "a bell on the engine's connection; GET /events is live by itself",
        "messages.acknowledge": "made of messages.acknowledge_ids",
        "messages.acknowledge_many": "made of messages.acknowledge_ids",
        "messages.listen": "made of messages.take, messages.hear and those that end them",
        "messages.release": "made of messages.release_ids",
        "messages.release_many": "made of messages.release_ids",
        "messages.renew": "made of messages.renew_ids",
        "messages.reply": "made of messages.reply_to",
        "messages.serve": f"{_OBJECT}made of messages.take and messages.reply_to",
        "runs.ensure_lead": _LEAD,
        "runs.events": f"{_STREAM}GET /runs/{{run}}/stream",
        "runs.fail": _LEAD,
        "runs.result": "made of runs.wait",
        "runs.wind_up": _LEAD,
        "tasks.graph": "made of tasks.list and tasks.get_many",
        "tasks.iterate": "made of tasks.list, page by page",
        "tasks.result": "made of tasks.wait",
    }
)
"""Public asynchronous methods that are asked for in another way, and which."""
