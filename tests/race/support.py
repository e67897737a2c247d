"""Programs that do what they are told at the same moment, and what they left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import callboard
from callboard.domain.event import Event
from tests.chaos.processes import Program, Stage

PROGRAMS: Final = Path(__file__).parent / "programs"
PATIENCE: Final = 120.0
"""Seconds within which a program has answered, on a machine that has much to do."""


@contextmanager
def racing(name: str, *each: dict[str, Any], **all_of_them: Any) -> Iterator[list[Program]]:
    """The program *name*, once for each of *each*, all of them ready."""
    stage = Stage(PROGRAMS)
    try:
        for own in each:
            stage.start(name, **all_of_them, **own)
        for program in stage.programs:
            assert program.hear() == "ready"
        yield stage.programs
    finally:
        stage.close()


def each_does(programs: list[Program], messages: list[dict[str, Any]]) -> list[Any]:
    """Let each do its own at the same moment; what each answers."""
    for program, message in zip(programs, messages, strict=True):
        program.tell(**message)
    return [program.hear(PATIENCE) for program in programs]


def all_do(programs: list[Program], **message: Any) -> list[Any]:
    """Let all do the same at the same moment; what each answers."""
    return each_does(programs, [message] * len(programs))


async def events_of(cb: callboard.Callboard) -> list[Event]:
    """All events of the namespace, and that none is missing."""
    found: list[Event] = []
    cursor: str | None = None
    while True:
        entries, following = await cb.events.read(cursor)
        found += [entry for entry in entries if isinstance(entry, Event)]
        if following == cursor:
            assert [event.n for event in found] == list(range(1, len(found) + 1))
            return found
        cursor = following
