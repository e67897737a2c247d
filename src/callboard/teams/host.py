"""A host: the process, or the part of one, that carries a run out.

Any number of hosts may serve one run, and any of them may be killed: whoever holds the
run's lease leads it, and all of their crews work on its board.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from callboard.app import Callboard
from callboard.domain.run import LEAD_BOARD, Run, lead_id, lead_kind
from callboard.domain.task import LEASE_DEFAULT
from callboard.domain.team import TeamSpec
from callboard.exceptions import (
    AgentUnusable,
    CallboardError,
    ConfigError,
    EngineError,
    IllegalState,
    RunNotFound,
)
from callboard.sdk.context import TaskContext
from callboard.sdk.worker import Worker
from callboard.teams.agents import Agent, close_agent, make_agent
from callboard.teams.crew import END_DRAIN, Crew
from callboard.teams.document import team_of
from callboard.teams.lead import Lead

LEAVE_DRAIN: Final = 1.0
"""What handlers get when a host leaves a run that goes on: their tasks are given back."""

STOP_SECONDS: Final = 0.5
ERROR_MAX: Final = 4_000

log = logging.getLogger("callboard.teams")


def check_can_host(cb: Callboard, instead: str = "Start them there (cb.runs.start)") -> None:
    """Raise ConfigError where runs cannot be hosted: who leads one needs the engine itself.

    It need not be open. *instead* is what can be done there.
    """
    if cb.choice.is_coordinator:
        raise ConfigError(
            f"Runs are not hosted over HTTP, and {cb.choice} is a coordinator. {instead}, and host "
            "their team next to the engine: callboard teams host team.yaml --url redis://…"
        )


class Host:
    """Serves one run: leads it when nobody else does, and does its tasks.

    Args:
        folder: Where the team's modules, commands and relative paths are looked up.
        agents: Instead of what the team's document says, by member: for tests, and for
            programs that have their agents at hand.
        lease: Seconds without a sign of life after which others take over.
        environ: For the document's placeholders; this process's where not given.

    Attributes:
        spec: The team, once ``serve`` has read it.
    """

    spec: TeamSpec

    def __init__(
        self,
        cb: Callboard,
        run: Run,
        *,
        folder: Path | None = None,
        agents: Mapping[str, Agent] | None = None,
        lease: float = LEASE_DEFAULT,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._cb = cb
        self._run = run
        self._folder = folder or Path.cwd()
        self._given = dict(agents or {})
        self._lease = lease
        self._environ = environ
        self._seen = run
        self._leaving = asyncio.Event()

    async def serve(self) -> Run:
        """Work until the run has ended, or ``leave``; answers the run as it then is.

        An ended run is answered as it was when its end was seen here, even if somebody has
        deleted it or taken it up again since.

        Raises:
            ConfigError: The connection is to a coordinator.
            EngineUnavailable: The connection was closed by whoever made it.
            AgentUnusable: An agent of the team cannot be had here; the run is left alone.
            InvalidTeam: A placeholder has no value here.
        """
        run, cb = self._run, self._cb
        check_can_host(cb)
        document = await cb.runs.records.document(run.id)
        self.spec = team_of(run.team, document, variables=run.variables, environ=self._environ)
        async with contextlib.AsyncExitStack() as stack:
            agents = await self._make_agents(stack)
            if not run.phase.is_ended:
                await cb.runs.ensure_lead(run)
                await self._serve(agents)
        return self._seen if self._seen.phase.is_ended else await cb.runs.get(run.id)

    def leave(self) -> None:
        """Stop serving; what is not finished here is given back at once."""
        self._leaving.set()

    async def _make_agents(self, stack: contextlib.AsyncExitStack) -> dict[str, Agent]:
        """Make those that were not given; one that cannot be made here is told in the run."""
        agents = dict(self._given)
        for name, definition in self.spec.agents.items():
            if name in agents:
                continue
            try:
                agents[name] = make_agent(definition, self._folder)
            except AgentUnusable as error:
                await self._tell_unusable(name, error)
                raise
            stack.push_async_callback(close_agent, agents[name])
        return agents

    async def _tell_unusable(self, name: str, error: AgentUnusable) -> None:
        said = error.message[:ERROR_MAX]
        await self._cb.runs.records.tell(
            self._run.id,
            kind="worker_error",
            key=f"unusable:{name}:{hashlib.sha256(said.encode()).hexdigest()[:16]}",
            value={"agent": name, "error": said},
        )

    async def _serve(self, agents: Mapping[str, Agent]) -> None:
        cb, run = self._cb, self._run
        crew = Crew(cb, run, self.spec, agents, lease=self._lease)
        leader = self._leader()

        def stop(drain: float) -> None:
            leader.drain = drain
            leader.stop()
            crew.stop(drain=drain)

        watch = asyncio.create_task(self._watch(stop), name="callboard-run-watch")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(crew.work())
                group.create_task(leader.run(handle_signals=False))
        except ExceptionGroup as group_of_errors:
            # Callers tell an engine that did not answer from what no repetition cures.
            raise _first(group_of_errors) from group_of_errors
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        with contextlib.suppress(CallboardError):
            if await self._is_over():
                await crew.sign_off()
                await cb.agents.deregister(leader.agent)

    async def _is_over(self) -> bool:
        """Whether nobody works for the run any more: it has ended, or is gone."""
        try:
            return (await self._cb.runs.get(self._run.id)).phase.is_ended
        except RunNotFound:
            return True

    def _leader(self) -> Worker:
        run = self._run
        worker = Worker(
            self._cb,
            agent=run.id,
            agent_type="lead",
            labels={"run": run.id},
            concurrency=1,
            board=LEAD_BOARD,
            lease=self._lease,
            prefetch=0,
            drain=END_DRAIN,
        )

        @worker.handles(lead_kind(run.team))
        async def lead(ctx: TaskContext) -> dict[str, Any]:
            now = await self._cb.runs.get(run.id)
            return await Lead(self._cb, self.spec, ctx, now).lead()

        return worker

    async def _watch(self, stop: Callable[[float], None]) -> None:
        """Stop once the run has ended, or this host is to leave it."""
        over = asyncio.create_task(self._until_over())
        leaving = asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({over, leaving}, return_when=asyncio.FIRST_COMPLETED)
            drain = END_DRAIN if over.done() else LEAVE_DRAIN
            while True:
                # Again and again: a worker that had not begun to run would not have heard it.
                stop(drain)
                await asyncio.sleep(STOP_SECONDS)
        finally:
            over.cancel()
            leaving.cancel()
            await asyncio.gather(over, leaving, return_exceptions=True)

    async def _until_over(self) -> None:
        """Return once the run has ended; end it where nobody can lead it any more."""
        leads = self._cb.board(LEAD_BOARD).tasks
        while True:
            try:
                run = self._seen = await self._cb.runs.get(self._run.id)
                if run.phase.is_ended:
                    return
                await leads.wait(lead_id(run.id, run.generation))
                now = self._seen = await self._cb.runs.get(run.id)
                if not now.phase.is_ended and now.generation == run.generation:
                    await self._end_unled(now)
            except EngineError as error:
                log.info("The engine did not answer; looking at the run again: %s", error)
                await asyncio.sleep(1.0)

    async def _end_unled(self, run: Run) -> None:
        """Its leading task has ended before it: say so instead of waiting for ever."""
        lead = await self._cb.board(LEAD_BOARD).tasks.get(lead_id(run.id, run.generation))
        said = (lead.error or {}).get("message") or lead.reason or "no message was kept"
        with contextlib.suppress(IllegalState):  # It has ended, or was taken up again.
            await self._cb.runs.fail(run, reason=f"nobody could lead the run: {said}", by="host")


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The error that came first."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, ExceptionGroup) else inner
