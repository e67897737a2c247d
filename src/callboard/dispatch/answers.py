"""How many bytes the answers of agents may take at once: large ones wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

ANSWERS_BYTES: Final = 67_108_864
"""Of all answers that are read, or were read and are not handed in yet."""

SHARES: Final = 4
"""One agent may have this part of them: so one that answers slowly leaves room for others."""

SMALL_BYTES: Final = 65_536
"""An answer up to this length takes no room: there are no more of them than pushes."""


class Room:
    """Bytes that are given out to answers, first come, first served.

    Args:
        most: In all. An answer that is longer has it for itself.
    """

    def __init__(self, most: int = ANSWERS_BYTES) -> None:
        self.most = most
        self.taken = 0
        self._of: dict[str, int] = {}
        self._waiting: dict[Place, int] = {}

    def place(self, agent: str) -> Place:
        """What an answer of this agent will take; nothing yet."""
        return Place(self, agent)

    def _fits(self, agent: str, size: int) -> bool:
        own = self._of.get(agent, 0)
        share = self.most // SHARES
        return (not self.taken or self.taken + size <= self.most) and (
            not own or own + size <= share
        )

    def _take(self, agent: str, size: int) -> None:
        self.taken += size
        own = self._of.get(agent, 0) + size
        if own:
            self._of[agent] = own
        else:
            self._of.pop(agent, None)

    def _give_out(self) -> None:
        for place, size in list(self._waiting.items()):
            if self.taken and self.taken + size > self.most:
                return  # a shorter one behind it does not overtake it
            if self._fits(place.agent, size):
                del self._waiting[place]
                place._grant(size)


class Place:
    """What one answer takes of a room, until it leaves."""

    __slots__ = ("_on_room", "_room", "agent", "size")

    def __init__(self, room: Room, agent: str) -> None:
        self._room = room
        self._on_room: Callable[[], None] | None = None
        self.agent = agent
        self.size = 0

    def ask(self, size: int, on_room: Callable[[], None]) -> bool:
        """Take so many bytes; where there is no room, False, and *on_room* is called later."""
        if not self._room._waiting and self._room._fits(self.agent, size):
            self._grant(size)
            return True
        self._room._waiting[self] = size
        self._on_room = on_room
        self._room._give_out()  # those in front may wait for their own agent's share
        return self.size > 0

    def keep(self, size: int) -> None:
        """Of what it has, so many bytes only; it waits for no more."""
        self._room._waiting.pop(self, None)
        self._on_room = None
        if size <= SMALL_BYTES:
            size = 0
        if size < self.size:
            self._room._take(self.agent, size - self.size)
            self.size = size
        self._room._give_out()

    def leave(self) -> None:
        """Give all of it back; again does nothing."""
        self.keep(0)

    def _grant(self, size: int) -> None:
        self._room._take(self.agent, size)
        self.size = size
        on_room, self._on_room = self._on_room, None
        if on_room is not None:
            on_room()
