"""Runs for tests: small teams of Python agents, hosts that must end, and what happened then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import callboard
from callboard.domain.event import Gap
from callboard.domain.run import Run
from callboard.domain.story import RunEvent
from callboard.teams.agents import Agent, Invocation
from callboard.teams.host import Host
from callboard.teams.requests import Outcome, PlanRequest, SynthesisRequest, WorkRequest

PATIENCE = 30.0
"""Seconds until a run counts as one that never ends, on a busy machine."""

LOOK_SECONDS = 0.01

Plans = list[Any]
Requests = list[Any]


class Planner:
    """Gives one plan a round, the last one again and again; an exception is raised.

    Attributes:
        asked: The requests, attempts included.
    """

    def __init__(self, *plans: Any) -> None:
        self.asked: list[PlanRequest] = []
        self._plans = plans

    async def run(self, invocation: Invocation) -> Any:
        assert isinstance(invocation.request, PlanRequest)
        self.asked.append(invocation.request)
        plan = self._plans[min(len(self.asked), len(self._plans)) - 1]
        if isinstance(plan, Exception):
            raise plan
        return plan


class Worker:
    """Does each task with the function given, and keeps count.

    Attributes:
        asked: The requests, in the order in which they came.
        at_once, most_at_once: Tasks in this worker's hands, now and at their most.
    """

    def __init__(self, do: Callable[[Invocation], Awaitable[Any]] | None = None) -> None:
        self.asked: list[WorkRequest] = []
        self.at_once = self.most_at_once = 0
        self._do = do

    async def run(self, invocation: Invocation) -> Any:
        self.asked.append(work_of(invocation))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self._do is None:
                return f"did {work_of(invocation).task.id}"
            return await self._do(invocation)
        finally:
            self.at_once -= 1

    @property
    def ids(self) -> list[str]:
        return [request.task.id for request in self.asked]


class Writer:
    """Answers with the status of each task; keeps what it was told."""

    def __init__(self) -> None:
        self.asked: list[SynthesisRequest] = []

    async def run(self, invocation: Invocation) -> Any:
        assert isinstance(invocation.request, SynthesisRequest)
        self.asked.append(invocation.request)
        return {outcome.id: outcome.status for outcome in invocation.request.tasks}

    @property
    def told(self) -> dict[str, Outcome]:
        """What it was told of each task, the last time."""
        return {outcome.id: outcome for outcome in self.asked[-1].tasks}


class Held:
    """What a worker does until the test lets it go; by task, what has begun and how it ended."""

    def __init__(self) -> None:
        self.begun: dict[str, asyncio.Event] = {}
        self.cancelled: dict[str, asyncio.Event] = {}
        self._gates: dict[str, asyncio.Event] = {}

    async def __call__(self, invocation: Invocation) -> Any:
        task = work_of(invocation).task.id
        self._of(self.begun, task).set()
        try:
            await self._of(self._gates, task).wait()
        except asyncio.CancelledError:
            self._of(self.cancelled, task).set()
            raise
        return f"held {task}"

    def release(self, *tasks: str) -> None:
        for task in tasks:
            self._of(self._gates, task).set()

    async def until_begun(self, task: str) -> None:
        await soon(self._of(self.begun, task).wait())

    async def until_cancelled(self, task: str) -> None:
        await soon(self._of(self.cancelled, task).wait())

    @staticmethod
    def _of(events: dict[str, asyncio.Event], task: str) -> asyncio.Event:
        return events.setdefault(task, asyncio.Event())


def document(
    *workers: str, agents: Mapping[str, Mapping[str, Any]] | None = None, **team: Any
) -> dict[str, Any]:
    """A team of ``planner``, ``writer`` and these workers; a failure is tried again at once.

    Args:
        agents: Further keys of members' definitions.
        team: Further keys of the team.
    """
    own = agents or {}
    members = ("planner", "writer", *(workers or ("w1", "w2")))
    definition = {"callable": "nobody:asks", "retry": {"max_retries": 0}}
    return {
        "team": {
            "planner": "planner",
            "synthesizer": "writer",
            "workers": list(members[2:]),
            **team,
        },
        "agents": {name: {**definition, **own.get(name, {})} for name in members},
    }


class Team:
    """A stored team and its agents, all in this process.

    Attributes:
        agents: By member; workers that were not given do each task at once.
    """

    def __init__(self, cb: callboard.Callboard, given: dict[str, Any], **agents: Agent) -> None:
        self.cb = cb
        self.document = given
        self.writer = Writer()
        members = {name: Worker() for name in given["team"]["workers"]}
        self.agents: dict[str, Any] = {"writer": self.writer, **members, **agents}

    async def start(self, request: str = "Do it.", **fields: Any) -> Run:
        await self.cb.teams.add("team", self.document)
        return await self.cb.runs.start("team", request, **fields)

    async def host(self, run: Run, *, cb: callboard.Callboard | None = None, **how: Any) -> Run:
        """Serve a run to its end; it must come."""
        host = Host(cb or self.cb, run, agents=self.agents, **how)
        async with asyncio.timeout(PATIENCE):
            return await host.serve()

    @asynccontextmanager
    async def hosted(
        self, run: Run, *, cb: callboard.Callboard | None = None, **how: Any
    ) -> AsyncIterator[Host]:
        """A host in the background, which leaves at the end unless the run has ended."""
        host = Host(cb or self.cb, run, agents=self.agents, **how)
        serving = asyncio.create_task(host.serve())
        try:
            yield host
        finally:
            host.leave()
            await soon(serving)

    async def run(self, request: str = "Do it.", **fields: Any) -> Run:
        """Start a run and serve it to its end."""
        return await self.host(await self.start(request, **fields))

    @property
    def workers(self) -> list[Worker]:
        return [self.agents[name] for name in self.document["team"]["workers"]]

    @property
    def done(self) -> Counter[str]:
        """How often each task was begun, by whomever."""
        return Counter(task for worker in self.workers for task in worker.ids)


def work_of(invocation: Invocation) -> WorkRequest:
    """What a worker is asked."""
    assert isinstance(invocation.request, WorkRequest)
    return invocation.request


async def soon(awaitable: Awaitable[Any]) -> Any:
    """Wait for what must come."""
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def told(cb: callboard.Callboard, run: Run, cursor: str | None = None) -> list[RunEvent]:
    """The events of a run, without a gap."""
    found: list[RunEvent] = []
    async for event in cb.runs.events(run.id, cursor):
        assert not isinstance(event, Gap)
        found.append(event)
    return found


async def types_told(cb: callboard.Callboard, run: Run) -> Counter[str]:
    return Counter(event.type for event in await told(cb, run))


async def statuses(cb: callboard.Callboard, run: Run) -> dict[str, str]:
    """Of all planned tasks."""
    return {task.id: task.status.value for task in (await cb.runs.report(run.id)).tasks}


async def all_keys(cb: callboard.Callboard) -> set[str]:
    """Names of all keys of the namespace, without its prefix."""
    prefix = cb.namespace.keys.prefix
    raw = await cb.namespace.connection.call("KEYS", prefix + "*")
    return {name.decode().removeprefix(prefix) for name in raw}
