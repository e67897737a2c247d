"""The crew of a run in one process: a worker for each member of the team."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from callboard.app import BoardTasks, Callboard
from callboard.domain.plan import Plan, check_references, read_plan, references
from callboard.domain.run import PLAN, SYNTHESIS, WORK, Run, agent_name, member_of
from callboard.domain.task import Task
from callboard.domain.team import TeamSpec
from callboard.engine import codec
from callboard.exceptions import CallboardError
from callboard.sdk.context import TaskContext
from callboard.sdk.worker import Worker
from callboard.teams.agents import Agent, Invocation
from callboard.teams.lead import Asked, Told
from callboard.teams.requests import (
    Member,
    PlanLimits,
    PlanRequest,
    SynthesisRequest,
    TaskNote,
    WorkRequest,
)
from callboard.teams.results import outcomes_of

END_DRAIN: Final = 5.0
"""What handlers get to end in once the run has: they were cancelled already."""

NOTES_MAX: Final = 20
NOTE_MAX: Final = 2_000
"""How many remarks on a task are told to the synthesizer, and how long each."""


class Crew:
    """The members of a team that work in this process, each an agent of the run's board.

    Attributes:
        workers: By member.
    """

    def __init__(
        self,
        cb: Callboard,
        run: Run,
        spec: TeamSpec,
        agents: Mapping[str, Agent],
        *,
        lease: float,
    ) -> None:
        self._cb = cb
        self._run = run
        self._spec = spec
        self.workers = {
            name: self._worker(name, agent, lease=lease) for name, agent in agents.items()
        }

    def _worker(self, name: str, agent: Agent, *, lease: float) -> Worker:
        spec, definition = self._spec, self._spec.agents[name]
        worker = Worker(
            self._cb,
            agent=agent_name(name, self._run.id),
            agent_type="team",
            capabilities=definition.capabilities,
            labels=definition.labels,
            concurrency=definition.max_concurrent,
            board=self._run.id,
            lease=lease,
            drain=END_DRAIN,
        )
        duty = _Duty(self._cb, self._run, spec, name, agent)
        if name == spec.planner:
            worker.handles(PLAN, timeout=definition.timeout)(duty.plan)
        if name == spec.synthesizer:
            worker.handles(SYNTHESIS, timeout=definition.timeout)(duty.synthesise)
        if name in spec.workers:
            worker.handles(WORK, timeout=definition.timeout)(duty.work)
            worker.handles(f"{WORK}.{name}", timeout=definition.timeout)(duty.work)
        return worker

    async def work(self) -> None:
        """Work until ``stop``."""
        async with asyncio.TaskGroup() as group:
            for worker in self.workers.values():
                group.create_task(worker.run(handle_signals=False))

    def stop(self, *, drain: float = END_DRAIN) -> None:
        """Claim nothing more; what runs gets *drain* seconds."""
        for worker in self.workers.values():
            worker.drain = drain
            worker.stop()

    async def sign_off(self) -> None:
        """Take the agents of an ended run off the registry."""
        for worker in self.workers.values():
            with suppress(CallboardError):
                await self._cb.agents.deregister(worker.agent)


class _Duty:
    """What one member does when its turn comes: ask its agent, and check what it says."""

    def __init__(self, cb: Callboard, run: Run, spec: TeamSpec, name: str, agent: Agent) -> None:
        self._cb = cb
        self._run = run
        self._spec = spec
        self._name = name
        self._agent = agent

    async def plan(self, ctx: TaskContext) -> Plan:
        """Ask for a plan; one that is none fails this attempt, and the next is told why."""
        asked = ctx.task.payload_as(Asked)
        spec = self._spec
        request = PlanRequest(
            **await self._common(ctx),
            round=asked.round,
            workers=tuple(
                Member(
                    name=name,
                    description=spec.agents[name].description,
                    capabilities=spec.agents[name].capabilities,
                )
                for name in spec.workers
            ),
            limits=PlanLimits(
                tasks_left=asked.tasks_left, rounds_left=max(0, spec.max_rounds - asked.round)
            ),
            finished=outcomes_of(await _read(ctx, asked.finished), self._run.id, spec.result_bytes),
            unfinished=asked.unfinished,
            counts=asked.counts,
        )
        answer = await self._agent.run(Invocation(request, ctx, self._tasks_of))
        plan = read_plan(
            answer,
            round_number=asked.round,
            members={name: spec.agents[name].capabilities for name in spec.workers},
            tasks_left=asked.tasks_left,
        )
        existing = {task.id for task in await _read(ctx, references(plan))}
        own = [task.id for task in plan.tasks] if asked.round > 1 else []
        check_references(plan, existing, {task.id for task in await _read(ctx, own)})
        return plan

    async def work(self, ctx: TaskContext) -> Any:
        """Do one task."""
        body = codec.body_of(ctx.task.body)
        needed = await _read(ctx, body.depends_on)
        outcomes = outcomes_of(needed, self._run.id, self._spec.result_bytes)
        request = WorkRequest(
            **await self._common(ctx),
            task=TaskNote(
                id=ctx.id,
                title=body.title,
                description=body.description,
                payload=msgspec.json.decode(ctx.task.payload),
            ),
            results={outcome.id: outcome for outcome in outcomes},
        )
        return await self._agent.run(Invocation(request, ctx, self._tasks_of))

    async def synthesise(self, ctx: TaskContext) -> Any:
        """Write the answer from all that was done."""
        told = ctx.task.payload_as(Told)
        report = await self._cb.runs.report(self._run.id)
        notes = await _notes(ctx, report.tasks)
        request = SynthesisRequest(
            **await self._common(ctx),
            tasks=outcomes_of(report.tasks, self._run.id, self._spec.result_bytes, notes),
            counts=told.counts,
            remark=told.remark,
        )
        return await self._agent.run(Invocation(request, ctx, self._tasks_of))

    def _tasks_of(self, board: str) -> BoardTasks:
        return self._cb.board(board).tasks

    async def _common(self, ctx: TaskContext) -> dict[str, Any]:
        return {
            "run": self._run.id,
            "team": self._run.team,
            "agent": self._name,
            "request": self._run.request,
            "attempt": ctx.attempt,
            "previous_error": await _previous_error(ctx) if ctx.attempt > 1 else None,
        }


async def _read(ctx: TaskContext, ids: Any) -> list[Task]:
    """Tasks of the run, in order; nothing is asked where nothing is wanted."""
    if not ids:
        return []
    return [task for task in await ctx.tasks.get_many(list(ids)) if task is not None]


async def _notes(ctx: TaskContext, tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """What was remarked on these tasks, and by which member; only some have notes."""
    noted = [task.id for task in tasks if task.has_notes]
    found = await asyncio.gather(*(ctx.tasks.notes(task_id) for task_id in noted))
    return {
        task_id: tuple(
            f"{member_of(note.author, ctx.tasks.board)}: {note.content}"[:NOTE_MAX]
            for note in notes[-NOTES_MAX:]
        )
        for task_id, notes in zip(noted, found, strict=True)
    }


async def _previous_error(ctx: TaskContext) -> str | None:
    attempts = await ctx.tasks.attempts(ctx.id)
    return str(attempts[-1].error.get("message", "")) or None if attempts else None
