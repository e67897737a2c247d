"""The bells of a namespace: who waits for something is woken by one.

A bell is only a hint. Whoever waits for one looks by itself too.
"""

from __future__ import annotations

from typing import Protocol

from callboard.engine.connection import Connection
from callboard.engine.keys import Keys
from callboard.engine.pubsub import Subscription


class Bells(Protocol):
    """Gives each bell its name, and listens to bells by their names."""

    @property
    def is_closed(self) -> bool:
        """Nothing more will ring: the connection was closed here."""

    def agent(self, agent: str, instance: str) -> str:
        """Rings for one process of an agent."""

    def inbox(self, agent: str) -> str:
        """Rings for new messages of an agent."""

    def broadcasts(self) -> str:
        """Rings for broadcasts."""

    def reply(self, request: str) -> str:
        """Rings where a request was answered."""

    def locks(self, client: str) -> str:
        """Rings for one client that waits for locks, or holds them."""

    def events(self) -> str:
        """Rings for new events."""

    def board(self, board: str) -> str:
        """Rings for new events of a board with a journal."""

    async def listen(self, *names: str) -> Subscription:
        """Hear these bells; what rings after this returns is heard.

        Raises:
            EngineUnavailable: They cannot be heard in time.
        """


class EngineBells:
    """Bells as the engine's own channels."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self.agent = keys.agent_bell
        self.inbox = keys.inbox_bell
        self.broadcasts = keys.broadcast_bell
        self.reply = keys.reply_bell
        self.locks = keys.locks_bell
        self.board = keys.board_bell
        self._events = keys.events_bell

    @property
    def is_closed(self) -> bool:
        """The connection was closed here."""
        return self._connection.is_closed

    def events(self) -> str:
        """Rings for new events."""
        return self._events

    async def listen(self, *names: str) -> Subscription:
        """Hear these bells. Raises EngineUnavailable."""
        return await self._connection.subscribe(*names)
