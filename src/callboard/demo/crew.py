"""The demo's worker processes: started, watched, killed on purpose, stopped for good."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from callboard.config import EngineChoice

STOP_SECONDS: Final = 6.0
"""A worker drains for at most 3 s; what still runs after this is killed."""


@dataclass
class Hand:
    """A worker process and what became of it."""

    agent: str
    process: asyncio.subprocess.Process
    log: Path
    killed_at: datetime | None = None
    held: list[str] = field(default_factory=list)

    @property
    def is_alive(self) -> bool:
        """Its process runs."""
        return self.process.returncode is None

    @property
    def has_fallen(self) -> bool:
        """It ended, and nobody had killed it."""
        return not self.is_alive and self.killed_at is None


class Crew:
    """The worker processes of one board.

    Each leads a process group of its own: Ctrl-C reaches the demo alone, which then stops
    them in good order, and a kill takes the commands with it that a worker runs.
    """

    def __init__(self, board: str, choice: EngineChoice, folder: Path) -> None:
        self.hands: list[Hand] = []
        self._board = board
        self._folder = folder
        self._environment = _environment(choice)

    async def start(self, agent: str) -> Hand:
        """Start a worker process for this agent."""
        log = self._folder / f"{agent}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "callboard.demo.hand", self._board, agent),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self._environment,
                process_group=0,
            )
        hand = Hand(agent, process, log)
        self.hands.append(hand)
        return hand

    def pause(self, hand: Hand) -> None:
        """Let the process stand still, so that what it holds can be read and stays so."""
        _signal(hand, signal.SIGSTOP)

    def resume(self, hand: Hand) -> None:
        """Let it go on."""
        _signal(hand, signal.SIGCONT)

    async def kill(self, hand: Hand) -> None:
        """End it at once by SIGKILL, with the commands it runs; return when it is gone."""
        _signal(hand, signal.SIGKILL)
        await hand.process.wait()

    async def stop(self) -> None:
        """Let all finish what they do, kill what does not end in time; return when all are gone."""
        alive = [hand for hand in self.hands if hand.is_alive]
        for hand in alive:
            with suppress(ProcessLookupError):
                hand.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*(hand.process.wait() for hand in alive))
        except TimeoutError:
            await self.end()

    async def end(self) -> None:
        """Kill what is left."""
        await asyncio.gather(*(self.kill(hand) for hand in self.hands if hand.is_alive))


def _signal(hand: Hand, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(hand.process.pid, number)


def _environment(choice: EngineChoice) -> Mapping[str, str]:
    """The demo's own environment, and the engine it chose."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CALLBOARD_URL", "CALLBOARD_DATA")
    }
    if choice.url is not None:
        environment["CALLBOARD_URL"] = choice.url
    else:
        environment["CALLBOARD_DATA"] = str(choice.data_dir)
    return environment
