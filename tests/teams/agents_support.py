"""What the tests of agents share: a task that asks, and a look at what is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callboard.domain.team import AgentDefinition
from callboard.teams.agents import Invocation
from callboard.teams.requests import PlanLimits, PlanRequest, TaskNote, WorkRequest
from tests.waiting import until


@dataclass
class AskingTask:
    """As much of a claim as agents look at."""

    body: bytes = b'{"kind":"work"}'
    failures: int = 0
    agent: str = "reader.run-1"


@dataclass
class AskingContext:
    """As much of a task's context as agents look at."""

    id: str = "t-1"
    fence: int = 41
    is_cancelled: bool = False
    cancel_reason: str | None = None
    task: AskingTask = field(default_factory=AskingTask)


def definition(kind: str, settings: Any, **fields: Any) -> AgentDefinition:
    names = AgentDefinition.__struct_fields__
    options = {key: value for key, value in fields.items() if key not in names}
    known = {key: value for key, value in fields.items() if key in names}
    return AgentDefinition(
        **{"name": "reader", "kind": kind, "settings": settings, "options": options, **known}
    )


def work_request(payload: Any = None) -> WorkRequest:
    return WorkRequest(
        run="run-1",
        team="survey",
        agent="reader",
        request="Read them all.",
        task=TaskNote(id="t-1", title="Read one", payload=payload),
    )


def plan_request() -> PlanRequest:
    return PlanRequest(
        run="run-1",
        team="survey",
        agent="planner",
        request="Read them all.",
        round=1,
        workers=(),
        limits=PlanLimits(tasks_left=10, rounds_left=2),
    )


def asked(payload: Any = None, context: AskingContext | None = None, **more: Any) -> Invocation:
    return Invocation(work_request(payload), context or AskingContext(), **more)  # type: ignore[arg-type]


def processes_of(task: str) -> list[int]:
    """The living processes that were started for a task, in whatever group they are."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                state = (folder / "stat").read_bytes().rpartition(b") ")[2][:1]
            except OSError:
                continue
            if f"CALLBOARD_TASK={task}".encode() in environment and state != b"Z":
                found.append(int(folder.name))
    return found


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Fail where a file descriptor of this process is still open afterwards."""
    await asyncio.to_thread(int)  # The loop's own threads and descriptors are there by now.
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    await until(lambda: set(os.listdir("/proc/self/fd")) <= before, seconds=5)
