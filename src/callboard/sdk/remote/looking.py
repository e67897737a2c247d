"""What is looked at where nobody knows whether a call was done: the truth is often still there.

A call whose reply was lost is repeated where the engine knows it again. Where it is refused
then, as it is where the first try was done, or may not be repeated at all, what it was about
says whether it was done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from callboard.domain.event import Cursor, Event, Fact
from callboard.engine.answers import Answer
from callboard.exceptions import (
    CallboardError,
    LeaseLost,
    NotFound,
    OutcomeUnknown,
    TaskNotFound,
)
from callboard.sdk.remote.asking import asking
from callboard.services.events import READ_MAX

LOOK_BACK: Final = 5_000
"""Events that are looked through: those of the few seconds for which a call is tried."""

LOST: Final = "task:lease_lost"
"""It was not the holder that ended the claim."""

Look = Callable[[Any, Mapping[str, Any], OutcomeUnknown], Awaitable[Any]]


async def _ended(
    types: frozenset[str], service: Any, values: Mapping[str, Any], unknown: OutcomeUnknown
) -> Answer:
    """Whether the claim ended in this way, though the task is another's by now, or gone."""
    refused, task_id = unknown.__cause__, values["task_id"]
    if not isinstance(refused, LeaseLost | TaskNotFound):
        raise unknown
    try:
        told = await _told(service, task_id, values["fence"])
    except CallboardError as error:
        raise unknown from error
    if LOST in told:
        raise refused
    if not told & types:
        raise unknown
    return Answer(task_id, "replayed")


async def _told(service: Any, task_id: str, fence: int) -> set[str]:
    """The types of what is told of a claim, as far back as is looked."""
    return {
        entry.type
        async for entry, fact in _facts(service._transport, "task:*")
        if entry.board == service.board
        and fact.id == task_id
        and fact.fence == fence
        # Taken away by a conflict's verdict, which its holder has not asked for.
        and not (entry.type == "task:released" and fact.state == "assigned")
    }


async def _facts(transport: Any, types: str) -> AsyncIterator[tuple[Event, Fact]]:
    """What is told of these types, as far back as is looked."""
    cursor: str = await asking("events.cursor")(transport, {}, board="", is_repeatable=True)
    last = Cursor.parse(cursor)
    at = str(Cursor(last.incarnation, max(last.n - LOOK_BACK, 0)))
    for _ in range(2 * LOOK_BACK // READ_MAX):
        page = await asking("events.read")(
            transport,
            {"cursor": at, "types": [types], "limit": READ_MAX},
            board="",
            is_repeatable=True,
        )
        for entry in page.events:
            for fact in entry.facts:
                yield entry, fact
        if page.cursor == at:
            break
        at = page.cursor


async def _gone(
    name: str, told: str, service: Any, values: Mapping[str, Any], unknown: OutcomeUnknown
) -> None:
    """Whether what was to be removed is not there, and its removal is told.

    Who removed it is not to be seen, so where it was to be done at one revision only, it stays
    unknown.
    """
    if values.get("if_rev") is not None:
        raise unknown
    try:
        await service.get(values[name])
    except NotFound:
        if await _is_removed(service._transport, told, values[name], unknown):
            return
    except CallboardError as error:
        raise unknown from error
    raise unknown


async def _is_removed(transport: Any, told: str, name: str, unknown: OutcomeUnknown) -> bool:
    type_, _, state = told.partition(" ")
    try:
        async for _, fact in _facts(transport, type_):
            if fact.id == name and state in ("", fact.state):
                return True
    except CallboardError as error:
        raise unknown from error
    return False


ENDINGS: Final[Mapping[str, frozenset[str]]] = {
    "tasks.ask": frozenset({"task:input_required", "task:cancelled"}),
    "tasks.complete": frozenset({"task:completed"}),
    "tasks.confirm_cancel": frozenset({"task:cancelled"}),
    "tasks.fail": frozenset({"task:retry_scheduled", "task:failed", "task:cancelled"}),
    "tasks.release": frozenset({"task:released", "task:cancelled"}),
}
"""By operation that ends a claim: what is told of it. The engine knows its repeat only until
the task is claimed anew."""

LOOK: Final[Mapping[str, Look]] = {
    **{name: partial(_ended, types) for name, types in ENDINGS.items()},
    "context.delete": partial(_gone, "project", "context:updated deleted"),
    "recurring.delete": partial(_gone, "name", "recurring:changed deleted"),
    "runs.delete": partial(_gone, "run", "run:removed"),
    "teams.remove": partial(_gone, "name", "team:removed"),
}
"""By operation: finds out what came of it; raises what it is given where that is not to be had."""
