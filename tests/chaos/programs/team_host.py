"""A host of a run whose members write down what they do, and which may die at a chosen point.

The points are reached by wrapping the methods of the machinery in this process alone; what
is under test knows nothing of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import callboard
from callboard.domain.run import Phase
from callboard.sdk.job import Job
from callboard.teams.agents import Agent, Invocation
from callboard.teams.host import Host
from callboard.teams.lead import Lead
from callboard.teams.requests import PlanRequest, SynthesisRequest, WorkRequest

ARGUMENTS = json.loads(sys.argv[1])
DIE = ARGUMENTS.get("die", "")
PLANS = [
    [
        {"id": "a", "title": "A"},
        {"id": "b", "title": "B", "depends_on": ["a"]},
        {"id": "c", "title": "C", "depends_on": ["b"]},
    ],
    [{"id": "d", "title": "D"}],
    {"tasks": [], "done": True},
]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def note(what: str, **facts: Any) -> None:
    """One line, written whole and at once, so that it survives what comes next."""
    line = json.dumps({"what": what, "pid": os.getpid(), **facts}) + "\n"
    log = os.open(ARGUMENTS["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)


class Planner:
    async def run(self, invocation: Invocation) -> Any:
        assert isinstance(invocation.request, PlanRequest)
        number = invocation.request.round
        note("planned", round=number)
        if ("planning" if number == 1 else f"replanning-{number}") == DIE:
            die()
        return PLANS[min(number, len(PLANS)) - 1]


class Worker:
    async def run(self, invocation: Invocation) -> Any:
        assert isinstance(invocation.request, WorkRequest)
        task = invocation.request.task.id
        note("began", task=task)
        if f"working-{task}" == DIE:
            die()
        if ARGUMENTS.get("gate") and task == "b":
            while not os.path.exists(ARGUMENTS["gate"]):
                await asyncio.sleep(0.01)
        return f"did {task}"


class Writer:
    async def run(self, invocation: Invocation) -> Any:
        assert isinstance(invocation.request, SynthesisRequest)
        note("wrote")
        if DIE == "synthesis":
            die()
        return {outcome.id: outcome.result for outcome in invocation.request.tasks}


def before(owner: type, name: str, is_it: Callable[..., bool]) -> None:
    """Die instead of this call, where it is the one."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if is_it(*arguments, **named):
            die()
        return original(*arguments, **named)

    setattr(owner, name, wrapped)


def set_trap() -> None:
    if DIE == "accepted":
        before(Lead, "_submit", lambda lead, plan: True)
    elif DIE == "submitted":
        before(Lead, "_move", lambda lead, to, **fields: fields.get("round") == "1")
    elif DIE == "submitted-2":
        before(Lead, "_move", lambda lead, to, **fields: fields.get("round") == "2")
    elif DIE.startswith("claimed-"):
        before(Job, "begin", lambda job: job.claimed.id == DIE.removeprefix("claimed-"))
    elif DIE == "asked":
        before(Lead, "_submit_own", lambda lead, spec: spec.id == "answer-1")
    elif DIE == "answered":
        before(Lead, "_end", lambda lead, phase, reason: phase is Phase.DONE)
    elif DIE == "ended":
        original = Lead._end

        async def end(lead: Lead, phase: Phase, reason: str) -> None:
            await original(lead, phase, reason)
            die()

        setattr(Lead, "_end", end)  # noqa: B010 - mypy knows the name as a method's


async def main() -> None:
    set_trap()
    async with callboard.connect(ARGUMENTS["url"], namespace=ARGUMENTS["namespace"]) as cb:
        run = await cb.runs.get(ARGUMENTS["run"])
        agents: dict[str, Agent] = {"planner": Planner(), "w": Worker(), "writer": Writer()}
        host = Host(cb, run, agents=agents, lease=ARGUMENTS["lease"])
        print(json.dumps({"what": "ready"}), flush=True)
        ended = await host.serve()
        print(json.dumps({"what": "ended", "phase": ended.phase.value}), flush=True)


logging.basicConfig(level=logging.INFO)
asyncio.run(main())
