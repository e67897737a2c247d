"""Leading a run: what its lease holder does, from the first plan to the end.

The leader keeps nothing that is not on the board. Each of its steps may be repeated: tasks
have ids that follow from the plan, phases move by compare-and-set, and a plan is taken from
the one accepted result of the task that asked for it. So it may be killed between any two.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import msgspec

from callboard.app import BoardTasks, Callboard
from callboard.domain import course
from callboard.domain.board import BoardSettings
from callboard.domain.course import Ask, Course, End, EndPlanning, Synthesise, TakePlan
from callboard.domain.event import Event, Gap
from callboard.domain.plan import Plan, PlannedTask
from callboard.domain.retry import RetryPolicy
from callboard.domain.run import (
    PLAN,
    SYNTHESIS,
    WORK,
    Phase,
    Run,
    agent_name,
    answer_id,
    lead_id,
    plan_id,
)
from callboard.domain.task import PRIORITY_MAX, Requirements, Status, Task, TaskSpec
from callboard.domain.team import AgentDefinition, TeamSpec
from callboard.exceptions import IdConflict, IllegalState, LeaseLost, Refused
from callboard.runs import LIVE, REASON_MAX, UNFINISHED
from callboard.sdk.context import TaskContext
from callboard.teams.requests import Outline
from callboard.teams.results import short_title

PLAN_RETRY: Final = RetryPolicy(max_retries=2, base=0.5, cap=30.0)
"""Where the agent's definition says nothing: a plan that is no plan is asked for again."""

LOOK_SECONDS: Final = 5.0
"""A leader that hears nothing looks at the clock and at its run so often."""

ANSWER_CRASHES: Final = 5
"""As often as a task may be lost with its host before it is set aside."""

COMPLETE: Final = "the planner said that the plan is complete"

log = logging.getLogger("callboard.teams")


class Lead:
    """One leader of one run, for as long as it holds the lease."""

    def __init__(self, cb: Callboard, spec: TeamSpec, ctx: TaskContext, run: Run) -> None:
        self._cb = cb
        self._runs = cb.runs
        self._spec = spec
        self._ctx = ctx
        self._run = run
        self._generation = run.generation
        self._tasks: BoardTasks = cb.board(run.id).tasks
        self._course = Course(spec, generation=run.generation)
        self._titles: dict[str, str] = {}
        self._clock = _Clock()
        self._claims_left = 0
        self._is_turn_known = True

    async def lead(self) -> dict[str, Any]:
        """Carry the run to its end; answers how it ended."""
        run = self._run
        if self._ctx.id != lead_id(run.id, run.generation):
            return {"run": run.id, "phase": run.phase.value, "reason": "it was retried"}
        if self._ctx.attempt > 1:
            await self._runs.records.tell(
                run.id,
                kind="run_resumed",
                key=f"resumed:{self._ctx.fence}",
                value={"phase": run.phase.value, "generation": run.generation},
            )
        # From here on, whoever led it before is refused.
        await self._move(run.phase)
        cursor = await self._cb.events.cursor(board=run.id)
        await self._read_board()
        async with _News(self._cb, cursor, run.id) as news:
            while not self._is_over:
                if self._clock.has_come(self._run):
                    await self._check_time()
                elif not await self._step():
                    await self._wait(news)
        await self._wind_up()
        return {"run": run.id, "phase": self._run.phase.value, "reason": self._run.reason}

    @property
    def _is_over(self) -> bool:
        """The run has ended, or was taken up again since: then another leads it."""
        return self._run.phase.is_ended or self._run.generation != self._generation

    async def _wind_up(self) -> None:
        """Cancel what is left of an ended run, unless it was taken up again."""
        self._run = run = await self._runs.get(self._run.id)
        if run.phase.is_ended and run.generation == self._generation:
            reason = run.reason or f"the run is {run.phase.value}"
            with suppress(IllegalState):  # Taken up again, just now.
                await self._runs.wind_up(run.id, generation=run.generation, reason=reason)

    # What the board says

    async def _read_board(self) -> None:
        """Read where everything stands, once: what comes after is told by events."""
        found: list[tuple[datetime, str, Status]] = []
        async for each in self._tasks.iterate():
            if _is_own(each.id):
                self._course.own[each.id] = each.status
            else:
                found.append((each.created_at, each.id, each.status))
        run = self._run
        self._course.planning = run.planning
        await self._read_plans(run.round)
        for _, task_id, status in sorted(found):
            self._course.note(task_id, status)
        await self._count_turns()

    async def _read_plans(self, rounds: int) -> None:
        """What was planned so far, and what the planner was told."""
        ids = [plan_id(n) for n in range(1, rounds + 2)]
        for n, task in enumerate(await self._tasks.get_many(ids), 1):
            if task is None:
                continue
            asked = task.payload_as(Asked)
            self._course.note_asked(asked.finished, asked.barren, asked.counts.get("unfinished", 0))
            if n <= rounds and task.status is Status.DONE:
                self._note_plan(msgspec.convert(task.result, Plan))
        self._course.round = rounds

    def _note_plan(self, plan: Plan) -> None:
        self._course.fingerprints.add(plan.fingerprint)
        for planned in plan.tasks:
            self._titles[planned.id] = short_title(planned.title)

    def _heed(self, event: Event) -> None:
        """Follow one entry of the run's journal."""
        kind, course = event.type, self._course
        for fact in event.facts:
            if kind == "task:claimed":
                self._claims_left -= 1
                self._is_turn_known = False
            status = _status_of(kind, fact.state)
            if status is None or not fact.id:
                continue
            if _is_own(fact.id):
                course.own[fact.id] = status
            else:
                course.note(fact.id, status)

    async def _count_turns(self) -> None:
        """Ask the board how many turns are left, and what time it is.

        That they are used up is believed of the board alone: events from before it was read
        are heeded too, and would count twice.
        """
        self._is_turn_known = True
        board = await self._cb.boards.get(self._run.id)
        self._clock.set(board.at)
        most = board.settings.claims_most
        self._claims_left = (most if most is not None else 1 << 53) - board.claims
        self._course.spent = self._claims_left <= 0

    async def _wait(self, news: _News) -> None:
        """Wait for what happens next on the board, or until the run's time is over."""
        events = await news.next(min(LOOK_SECONDS, self._clock.left(self._run)))
        if not events:
            await self._check_time()
        if any(event.type.startswith("run:") for event in events):
            self._run = await self._runs.get(self._run.id)
        for event in events:
            if isinstance(event, Gap):
                await self._read_board()
            else:
                self._heed(event)

    async def _check_time(self) -> None:
        """End the run where its time is over, by the engine's clock and not by this machine's."""
        self._run = await self._runs.get(self._run.id)
        self._clock.set((await self._cb.boards.get(self._run.id)).at)
        if not self._is_over and self._clock.has_come(self._run):
            limit = self._spec.global_timeout_seconds
            await self._end(Phase.FAILED, f"it took longer than its {limit:,g} s")

    # What the leader does about it

    async def _step(self) -> bool:
        """Do what comes next; False where there is nothing to do but wait."""
        if self._claims_left <= 0 and not self._is_turn_known:
            await self._count_turns()
        if self._course.spent:
            await self._stop_waiting_tasks()
        step = self._course.next()
        if isinstance(step, Ask):
            await self._ask(step)
        elif isinstance(step, TakePlan):
            await self._take_plan(step.round)
        elif isinstance(step, EndPlanning):
            await self._end_planning(step.reason)
        elif isinstance(step, Synthesise):
            await self._synthesise()
        elif isinstance(step, End):
            await self._end(step.phase, await self._in_detail(step))
        return step is not None

    async def _ask(self, ask: Ask) -> None:
        phase = Phase.PLANNING if ask.round == 1 else Phase.REPLANNING
        await self._move(phase)
        payload = Asked(
            round=ask.round,
            finished=ask.finished,
            barren=ask.barren,
            counts=self._course.counts,
            tasks_left=self._course.tasks_left,
            unfinished=tuple(
                Outline(id=i, title=self._titles.get(i, i), status=self._course.work[i].value)
                for i in self._course.open
            ),
        )
        spec = self._asking(PLAN, plan_id(ask.round), self._spec.planner, payload)
        spec.title = "Plan" if ask.round == 1 else f"Plan again ({ask.round})"
        await self._submit_own(spec)
        self._course.note_asked(ask.finished, ask.barren, self._course.open_count)

    async def _take_plan(self, round_number: int) -> None:
        """Put the planned tasks on the board. Repeating it changes nothing."""
        task = await self._tasks.get(plan_id(round_number))
        plan = msgspec.convert(task.result, Plan)
        reason = ""
        if plan.fingerprint and plan.fingerprint in self._course.fingerprints:
            reason = course.SAME_PLAN
        else:
            try:
                await self._submit(plan)
            except Refused as error:
                # No repetition cures it: too many lanes, a board that is full.
                return await self._end(Phase.FAILED, f"the plan was refused: {error.message}")
            self._note_plan(plan)
        self._course.round = round_number
        if not reason and plan.is_last:
            reason = ": ".join([COMPLETE, plan.remark] if plan.remark else [COMPLETE])
        elif not (reason or plan.tasks or self._course.open_count or self._course.has_news):
            reason = course.NOTHING_MORE
        self._course.planning = reason
        await self._move(Phase.EXECUTION, round=str(round_number), planning=reason)

    async def _submit(self, plan: Plan) -> None:
        specs = [self._spec_of(n, planned) for n, planned in enumerate(plan.tasks)]
        try:
            handles = await self._tasks.submit_many(specs)
        except IdConflict:
            # A batch of an earlier try is there, planned by another version of the team.
            there = await self._tasks.get_many([spec.id or "" for spec in specs])
            known = {task.id for task in there if task is not None}
            specs = [spec for spec in specs if spec.id not in known]
            handles = await self._tasks.submit_many(specs)
        for handle in handles:
            if handle.id not in self._course.work:
                self._course.note(handle.id, Status.PENDING)
        existed = [handle.id for handle in handles if handle.existed]
        for task in await self._tasks.get_many(existed) if existed else ():
            if task is not None:
                self._course.note(task.id, task.status)

    def _spec_of(self, n: int, planned: PlannedTask) -> TaskSpec:
        retry = self._retry_of(planned)
        if planned.max_retries is not None:
            retry = msgspec.structs.replace(retry, max_retries=planned.max_retries)
        return TaskSpec(
            kind=f"{WORK}.{planned.worker}" if planned.worker else WORK,
            id=planned.id,
            title=planned.title,
            description=planned.description,
            payload=planned.payload,
            priority=planned.priority,
            requirements=Requirements(capabilities=planned.capabilities),
            depends_on=planned.depends_on,
            on_dependency_failure=planned.on_dependency_failure,
            suggested_worker=(
                agent_name(planned.suggested_worker, self._run.id)
                if planned.suggested_worker
                else None
            ),
            timeout=planned.timeout,
            retry=retry,
            created_by="planner",
            metadata={"n": n},
        )

    def _retry_of(self, planned: PlannedTask) -> RetryPolicy:
        """The policy of whoever may do the task; of several the one with the most tries."""
        spec, wanted = self._spec, set(planned.capabilities)
        names = [planned.worker] if planned.worker else spec.workers
        agents = [spec.agents[name] for name in names]
        able = [agent for agent in agents if wanted <= set(agent.capabilities)] or agents
        policies = [agent.retry or RetryPolicy() for agent in able]
        return max(policies, key=lambda policy: policy.max_retries)

    async def _end_planning(self, reason: str) -> None:
        self._course.planning = reason
        await self._move(Phase.EXECUTION, planning=reason)

    async def _synthesise(self) -> None:
        await self._move(Phase.SYNTHESIS)
        if self._run.phase is not Phase.SYNTHESIS:
            # Ended, or a task was put back just now: what is known here is behind.
            return await self._read_board()
        definition = self._spec.agents[self._spec.synthesizer]
        turns = 1 + (definition.retry or PLAN_RETRY).max_retries + ANSWER_CRASHES
        if self._claims_left < turns:
            # The last turn is the synthesizer's, with all tries that it may need.
            board = await self._cb.boards.get(self._run.id)
            self._claims_left = turns
            settings = BoardSettings(claims_most=board.claims + turns)
            await self._cb.boards.configure(self._run.id, settings, by="lead")
        remark = self._course.planning
        spec = self._asking(
            SYNTHESIS,
            answer_id(self._generation),
            self._spec.synthesizer,
            Told(remark=remark, counts=self._course.counts),
        )
        spec.title = "Write the answer"
        await self._submit_own(spec)

    async def _stop_waiting_tasks(self) -> None:
        """The turns are used up: what has not begun will not."""
        ids = self._course.waiting
        asked = plan_id(self._course.round + 1)
        if self._course.own.get(asked) in _WAITING:
            ids.append(asked)
        if ids:
            reason = f"the run's {self._spec.global_max_turns:,} turns are used up"
            await self._tasks.cancel_many(ids, reason=reason, by="lead")
            for name in ids:
                if name in self._course.own:
                    self._course.own[name] = Status.CANCELLED
                else:
                    self._course.note(name, Status.CANCELLED)

    async def _in_detail(self, end: End) -> str:
        """The reason, with what the agent said that failed."""
        name = {
            "planning failed": plan_id(self._course.round + 1),
            "the synthesizer failed": answer_id(self._generation),
        }.get(end.reason)
        if name is None:
            return end.reason
        task = await self._tasks.get(name)
        message = (task.error or {}).get("message") or task.reason or "no message was kept"
        return f"{end.reason}: {message}"

    async def _end(self, phase: Phase, reason: str) -> None:
        counts = self._course.counts
        await self._move(
            phase, reason=reason[:REASON_MAX], counts=msgspec.json.encode(counts).decode()
        )

    # By what means

    def _asking(self, kind: str, task_id: str, member: str, payload: Any) -> TaskSpec:
        definition: AgentDefinition = self._spec.agents[member]
        return TaskSpec(
            kind=kind,
            id=task_id,
            payload=payload,
            priority=PRIORITY_MAX,
            retry=definition.retry or PLAN_RETRY,
            created_by="lead",
        )

    async def _submit_own(self, spec: TaskSpec) -> None:
        assert spec.id is not None
        try:
            handle = await self._tasks.submit_many([spec])
        except IdConflict:
            # Asked before by a leader that was lost, who knew of other news: that one counts.
            task: Task | None = await self._tasks.get(spec.id)
        else:
            task = await handle[0].task() if handle[0].existed else None
        status = task.status if task is not None else Status.PENDING
        if task is not None and task.kind == PLAN:
            asked = task.payload_as(Asked)
            self._course.note_asked(asked.finished, asked.barren, asked.counts.get("unfinished", 0))
        self._course.own[spec.id] = status

    async def _move(self, to: Phase, **fields: str) -> None:
        """Move the run on; where somebody ended it meanwhile, heed that instead.

        Raises:
            LeaseLost: Another leads it by now.
        """
        try:
            await self._runs.records.move(
                self._run.id,
                from_=LIVE,
                to=to,
                generation=self._generation,
                fence=self._ctx.fence,
                fields=fields,
                by="lead",
            )
        except LeaseLost:
            raise
        except Refused as error:
            log.info("Run %s does not go on to %s: %s", self._run.id, to.value, error)
        self._run = await self._runs.get(self._run.id)


class Asked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a task that asks the planner."""

    round: int
    finished: tuple[str, ...] = ()
    barren: int = 0
    counts: dict[str, int] = {}
    tasks_left: int = 0
    unfinished: tuple[Outline, ...] = ()


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a task that asks the synthesizer."""

    remark: str = ""
    counts: dict[str, int] = {}


_WAITING: Final = frozenset(status for status in UNFINISHED if not status.is_held)
_STATES: Final[Mapping[str, Status]] = {status.value: status for status in Status}
_MOVING: Final = frozenset(
    {
        "task:created",
        "task:completed",
        "task:started",
        "task:input_required",
        "task:answered",
        "task:split",
        "task:released",
        "task:lease_lost",
        "task:retry_scheduled",
        "task:failed",
        "task:cancelled",
        "task:revived",
        "task:ready",
        "task:assigned",
        "task:claimed",
    }
)


def _status_of(kind: str, state: str) -> Status | None:
    return _STATES.get(state) if kind in _MOVING else None


def _is_own(task_id: str) -> bool:
    head, _, number = task_id.partition("-")
    return head in ("plan", "answer") and number.isdecimal()


class _Clock:
    """The engine's clock as far as this process knows it: read once, then carried on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = datetime.now(UTC)
        self._at = self._loop.time()

    def set(self, now: datetime) -> None:
        """What the engine said the time is."""
        self._read, self._at = now, self._loop.time()

    def left(self, run: Run) -> float:
        """Seconds until the run's time is over; a paused one has all of it."""
        if run.is_paused:
            return math.inf
        now = self._read + timedelta(seconds=self._loop.time() - self._at)
        return max(0.0, (run.deadline_at - now).total_seconds())

    def has_come(self, run: Run) -> bool:
        """Whether the run's time is over."""
        return self.left(run) <= 0


class _News:
    """The events of a run's board, in batches as they come."""

    def __init__(self, cb: Callboard, cursor: str, board: str) -> None:
        self._events = cb.events
        self._cursor = cursor
        self._board = board

    async def next(self, timeout: float) -> list[Event | Gap]:
        """What is new; nothing where nothing came in time."""
        found = await self._read()
        if not found:
            await self._bell.get(max(0.0, timeout))
            found = await self._read()
        return found

    async def _read(self) -> list[Event | Gap]:
        found, self._cursor = await self._events.read(self._cursor, board=self._board)
        return found

    async def __aenter__(self) -> Self:
        self._bell = await self._events.listen(board=self._board)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bell.close()
