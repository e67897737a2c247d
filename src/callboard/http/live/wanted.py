"""Which events a listener wants: by type, board, task and agent. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from callboard.domain.event import Event, Fact, filter_of
from callboard.exceptions import InvalidArgument

PATTERNS_MAX: Final = 50
NAMES_MAX: Final = 100
TEXT_MAX: Final = 200


class Wanted(msgspec.Struct, frozen=True):
    """A wish; empty parts leave all through. Those who wish the same share what is made for it.

    Attributes:
        types: Patterns as ``task:*``.
        boards: Of these boards.
        tasks: About these tasks.
        agents: About these agents, or about what they hold.
    """

    types: tuple[str, ...] = ()
    boards: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        types: Iterable[str] = (),
        boards: Iterable[str] = (),
        tasks: Iterable[str] = (),
        agents: Iterable[str] = (),
    ) -> Wanted:
        """The wish in its one form.

        Raises:
            InvalidArgument: It is too long, or names types that no event has.
        """
        patterns = tuple(sorted(_some("types", types, PATTERNS_MAX)))
        filter_of(patterns)
        return cls(
            patterns,
            _some("board", boards, NAMES_MAX),
            _some("task", tasks, NAMES_MAX),
            _some("agent", agents, NAMES_MAX),
        )

    def facts(self, event: Event) -> tuple[Fact, ...]:
        """The facts of an event that are wanted; none where it is not."""
        if self.types and not _matches(self.types, event.type):
            return ()
        if self.boards and event.board not in self.boards:
            return ()
        if not (self.tasks or self.agents):
            return event.facts
        return tuple(fact for fact in event.facts if self._is_about(event.type, fact))

    def narrowed(self, event: Event, facts: tuple[Fact, ...]) -> Event:
        """The event with these facts alone."""
        return msgspec.structs.replace(event, facts=facts)

    def _is_about(self, event_type: str, fact: Fact) -> bool:
        is_of_agent = event_type.partition(":")[0] == "agent"
        if fact.id in self.tasks and not is_of_agent:
            return True
        if not self.agents:
            return False
        if fact.holder.partition("/")[0] in self.agents:
            return True
        return is_of_agent and fact.id in self.agents


ALL: Final = Wanted()


@lru_cache(maxsize=4096)
def _matches(patterns: tuple[str, ...], event_type: str) -> bool:
    return filter_of(patterns)(event_type)


def _some(what: str, given: Iterable[str], most: int) -> frozenset[str]:
    found = frozenset(one.strip() for one in given if one.strip())
    if len(found) > most or any(len(one) > TEXT_MAX for one in found):
        raise InvalidArgument(
            f"{what} has {len(found)} parts; at most {most}, of {TEXT_MAX} characters each.",
            field=what,
        )
    return found
