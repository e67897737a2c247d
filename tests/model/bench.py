"""What models are compared on: one connection, one clock, and how many examples."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import Any, Final

from hypothesis import Phase

from callboard.engine.connection import Connection

PHASES: Final = [Phase.explicit, Phase.reuse, Phase.generate]
if not os.environ.get("CALLBOARD_MODEL_NO_SHRINK"):
    PHASES.append(Phase.shrink)
START_US: Final = 1_800_000_000_000_000
CALL_US: Final = 1_007
"""Between two calls: no multiple of it is a multiple of what a point of priority is worth, so
no two tasks get the same score."""


def examples(usual: int) -> int:
    """How many examples to try, where the environment does not say."""
    return int(os.environ.get("CALLBOARD_MODEL_EXAMPLES", usual))


class Bench:
    """One connection, and the loop that it lives on, for all examples."""

    def __init__(self, url: str, name: str) -> None:
        self.runner = asyncio.Runner()
        self.connection: Connection = self.run(Connection.open(url, name=name))

    def run(self, work: Awaitable[Any]) -> Any:
        """What *work* comes to."""

        async def awaited() -> Any:
            return await work

        return self.runner.run(awaited())

    def close(self) -> None:
        """Give the connection and the loop back."""
        self.run(self.connection.close())
        self.runner.close()
