"""An event: one thing that happened, as one entry of the namespace's stream tells it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

import msgspec

from callboard.exceptions import InvalidArgument

EVENT_TYPES: Final = (
    "agent:registered agent:conflict agent:status agent:instance_lost agent:lost "
    "agent:deregistered team:saved team:removed board:created board:changed board:removed "
    "run:created run:phase run:paused run:unpaused run:reopened run:told run:removed "
    "task:created task:completed task:started task:progress task:output task:noted "
    "task:input_required task:answered task:split task:released task:lease_lost "
    "task:retry_scheduled task:failed task:cancel_requested task:cancelled task:revived "
    "task:ready task:moved task:edited workstealing:request task:assigned task:claimed "
    "task:purged context:updated agent:idle agent:active agent:error conflict:resource "
    "conflict:task conflict:context conflict:voting conflict:voted conflict:referred "
    "conflict:undecided conflict:resolved conflict:removed circuitbreaker:state-change "
    "circuitbreaker:changed circuitbreaker:removed error:cascade error:group error:cleared "
    "metrics:coordination message:sent message:broadcast message:received "
    "message:acknowledged message:replied message:released message:expired message:dead "
    "message:requeued message:purged inbox:changed deadlock:detected resource:forced "
    "resource:released resource:acquired flow:changed recurring:changed recurring:fired"
).split()
"""All types of event, in the order of ``EVENT_KINDS`` in ``include/open.lua``."""


class Fact(msgspec.Struct, frozen=True):
    """What an entry says of one task or agent.

    Attributes:
        id: The task or agent; empty where the entry is about a board.
        state: Its status after the change, or the name of the setting changed.
        holder: The agent and instance concerned.
        fence: Of the claim concerned; 0 for none.
        extra: What some types add: the attempt, the due time, the cause.
    """

    id: str
    state: str
    holder: str
    fence: int
    extra: str = ""


class Event(msgspec.Struct, frozen=True):
    """All facts of one type that one call made true, in order.

    Attributes:
        n: Its number in the namespace: each event is one more than the last.
        cursor: Resume behind this event with it.
        type: As ``task:completed``; ``gap`` where events before are missing.
        by: Who made the call.
    """

    n: int
    cursor: str
    type: str
    board: str
    at: datetime
    by: str
    facts: tuple[Fact, ...]


class Gap(msgspec.Struct, frozen=True):
    """Events that a reader will not see.

    Attributes:
        first: Number of the first missing event, 0 where it is not known.
        last: Number of the last missing event.
        cursor: Where the reader goes on.
        reason: ``retention`` (they were trimmed) or ``incarnation`` (the cursor is from
            before the engine's data was replaced, so numbers may mean other events).
    """

    first: int
    last: int
    cursor: str
    reason: str
    type: str = "gap"


class Cursor(msgspec.Struct, frozen=True):
    """A place in the stream: behind event *n* of an incarnation."""

    incarnation: str
    n: int

    def __str__(self) -> str:
        return f"{self.incarnation}:{self.n}"

    @classmethod
    def parse(cls, text: Any) -> Cursor:
        """Read ``incarnation:n``; InvalidArgument where it is not one."""
        match = isinstance(text, str) and re.fullmatch(r"([A-Za-z0-9]{1,64}):([0-9]{1,16})", text)
        if not match:
            raise InvalidArgument(
                f"{text!r} is not a cursor. Use one that an event carried, as in 'a1b2c3d4:42'.",
                field="cursor",
            )
        return cls(match[1], int(match[2]))


def parse_facts(text: str) -> tuple[Fact, ...]:
    """Read the lines ``id|state|holder|fence[|extra]`` of an entry."""
    facts = []
    for line in text.split("\n"):
        task, state, holder, fence, *extra = line.split("|", 4)
        facts.append(Fact(task, state, holder, int(fence), extra[0] if extra else ""))
    return tuple(facts)


def check_types(patterns: Iterable[str]) -> None:
    """Raise InvalidArgument for a pattern that no type matches: its reader would wait for ever."""
    for pattern in patterns:
        matches = TypeFilter(pattern)
        if pattern != "gap" and not any(matches(known) for known in EVENT_TYPES):
            close = get_close_matches(pattern, EVENT_TYPES, n=1)
            hint = (
                f" Did you mean {close[0]}?" if close else " Name one as task:completed or task:*."
            )
            raise InvalidArgument(f"No event has a type like {pattern!r}.{hint}", field="types")


@lru_cache(maxsize=256)
def filter_of(patterns: tuple[str, ...]) -> TypeFilter:
    """The filter of patterns as ``task:*``, made once.

    Raises:
        InvalidArgument: One of them matches no type that there is.
    """
    check_types(patterns)
    return TypeFilter(patterns)


class TypeFilter:
    """Matches event types against patterns with ``*``; no pattern matches all."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        self._match = (
            re.compile("|".join(translate(pattern) for pattern in patterns)).match
            if patterns
            else None
        )

    def __call__(self, event_type: str) -> bool:
        """Whether the type passes; gaps always do."""
        return self._match is None or event_type == "gap" or self._match(event_type) is not None
