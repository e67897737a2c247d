"""Values as the library gives them, of those that came over the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from callboard.domain.event import Event, Gap
from callboard.domain.flow import FlowKey
from callboard.domain.record import Claimed
from callboard.operations.events import EntryPage, EventEntry
from callboard.operations.flow import Key, key_restored
from callboard.operations.tasks import ClaimedTask, ClaimedTasks, Stepped, Submitted
from callboard.services.claims import Claims, Step
from callboard.services.tasks import TaskHandle


def event_of(entry: EventEntry) -> Event | Gap:
    """The event, or the gap, of an entry."""
    if entry.type == "gap":
        return Gap(entry.first, entry.last, entry.cursor, entry.reason)
    assert entry.at is not None
    return Event(entry.n, entry.cursor, entry.type, entry.board, entry.at, entry.by, entry.facts)


class _Body(msgspec.Struct, omit_defaults=True):
    kind: str
    payload: msgspec.Raw
    trace_context: str = ""


_body: Final = msgspec.json.Encoder().encode


def claimed_of(_: Any, task: ClaimedTask) -> Claimed:
    """A claim as the engine gives it."""
    values = {name: getattr(task, name) for name in _CLAIMED}
    body = _body(_Body(task.kind, task.payload, task.trace_context))
    return Claimed.rebuilt(**values, body=body)


_CLAIMED: Final = tuple(
    name for name in ClaimedTask.__struct_fields__ if name not in ("payload", "trace_context")
)


def claims_of(service: Any, claims: ClaimedTasks) -> Claims:
    """What a claim brought."""
    tasks = tuple(claimed_of(service, one) for one in claims.tasks)
    return Claims(tasks, claims.status, claims.lost, claims.again)


def _step(service: Any, step: Stepped) -> Step:
    return Step(step.completed, step.begun, claims_of(service, step.claims))


def _handle(service: Any, submitted: Submitted) -> TaskHandle:
    return TaskHandle(service, submitted.id, submitted.existed)


def _handles(service: Any, submitted: Iterable[Submitted]) -> list[TaskHandle]:
    return [_handle(service, one) for one in submitted]


def _page(_: Any, page: EntryPage) -> tuple[list[Event | Gap], str]:
    return [event_of(one) for one in page.events], page.cursor


def _key(_: Any, key: Key) -> FlowKey:
    return key_restored(key)


def _keys(_: Any, keys: Iterable[Key]) -> list[FlowKey]:
    return [key_restored(key) for key in keys]


RESTORE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "tasks.submit": _handle,
    "tasks.submit_many": _handles,
    "tasks.claim": claims_of,
    "tasks.accept": claims_of,
    "tasks.take": claimed_of,
    "tasks.complete_and_claim": _step,
    "events.read": _page,
    "flow.list": _keys,
    "flow.get": _key,
    "flow.get_many": _keys,
    "flow.limit": _key,
    "flow.weight": _key,
    "flow.pause": _key,
    "flow.resume": _key,
}
"""By operation, where the wire has another form: from the service and the answer."""
