"""What the services of one namespace share: the functions, the connection, the key names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from callboard.domain.error import ErrorRule
from callboard.engine.bells import Bells, EngineBells
from callboard.engine.connection import Connection
from callboard.engine.functions import Functions, translated
from callboard.engine.keys import Keys


@dataclass(frozen=True, slots=True)
class Namespace:
    """One group of agents on one engine: the unit of atomicity.

    Attributes:
        error_rules: What this process says of errors before the rules that are built in.
    """

    name: str
    connection: Connection
    functions: Functions
    keys: Keys
    error_rules: list[ErrorRule] = field(default_factory=list)

    @property
    def bells(self) -> Bells:
        """What wakes those who wait."""
        return EngineBells(self.connection, self.keys)

    async def read(self, command: str, *arguments: Any) -> Any:
        """Run one plain command of the engine.

        Raises:
            EngineError: As of a function: the key is somebody else's.
        """
        try:
            return await self.connection.call(command, *arguments)
        except ResponseError as error:
            raise translated(command, error) from error
