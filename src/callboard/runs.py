"""Runs of teams: started, read, steered and told from wherever one is connected.

What happens in a run is done by its hosts (``callboard.teams``); here is all that needs none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any, Final

from callboard.domain.board import BoardSettings
from callboard.domain.bounds import check_text
from callboard.domain.event import Gap
from callboard.domain.names import check_name
from callboard.domain.placeholders import expand, lookup_in
from callboard.domain.report import Report, failures_of, is_work
from callboard.domain.retry import RetryPolicy
from callboard.domain.run import (
    ENDED,
    LEAD_BOARD,
    Phase,
    Run,
    answer_id,
    lead_id,
    lead_kind,
    plan_id,
)
from callboard.domain.story import RunEvent
from callboard.domain.task import BATCH_MAX, FINISHED, Requirements, Status, TaskSpec, new_id
from callboard.domain.team import TeamSpec, parse_team
from callboard.exceptions import (
    BoardNotFound,
    EngineError,
    EngineUnavailable,
    IdConflict,
    IllegalState,
    InvalidArgument,
    NotFound,
    OutcomeUnknown,
    Refused,
    RunFailed,
)
from callboard.services.boards import Boards
from callboard.services.events import Events
from callboard.services.runs import RunRecords
from callboard.services.tasks import Tasks
from callboard.services.teams import Teams
from callboard.telling import Bell, tell

REQUEST_MAX: Final = 262_144
RUN_ID_MAX: Final = 60
"""With a member's name of 64 characters it makes the name of an agent, of at most 128."""

LEAD_RETRY: Final = RetryPolicy(max_retries=10, base=0.5, cap=30.0)
"""A leader that fails is tried again for a while; then the run ends as failed."""

UNFINISHED: Final = tuple(status for status in Status if status not in FINISHED)
LIVE: Final = tuple(phase for phase in Phase if phase not in ENDED)
CANCEL_ROUNDS: Final = 3
SETTLE_SECONDS: Final = 10.0
"""How long a retry waits for the handlers of the last generation, which were cancelled."""

SETTLE_LOOK_SECONDS: Final = 0.2
REASON_MAX: Final = 4_000
UNLED: Final = "its time was over, and nobody led it to its end"
SWEPT_MAX: Final = 10
"""Runs deleted in one sweep: each may have thousands of tasks."""

Ids = list[str]


class Runs:
    """The runs of a namespace's teams."""

    def __init__(
        self,
        records: RunRecords,
        teams: Teams,
        boards: Boards,
        events: Events,
        tasks_of: Callable[[str], Tasks],
    ) -> None:
        self.records = records
        self._teams = teams
        self._boards = boards
        self._events = events
        self._tasks_of = tasks_of

    async def start(
        self,
        team: str,
        request: str,
        *,
        version: int | None = None,
        variables: Mapping[str, str] | None = None,
        id: str | None = None,
        by: str = "",
        folder: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Run:
        """Begin a run of a stored team; a host of that team carries it out.

        Args:
            version: Which version of the team; the newest where not given.
            variables: For the placeholders of the team's document, before the environment's.
                They are kept with the run: no secrets.
            id: Makes starting idempotent; made where not given.
            folder: Where its agents' code lies, for whoever wants to host it.

        Raises:
            TeamNotFound: No such team, or version.
            InvalidTeam: A placeholder has no value, or what it expands to is not valid.
            InvalidArgument: The request is empty or longer than 256 KiB; the id is none, or
                longer than 60 characters.
            IdConflict: Another run has this id.
        """
        if not check_text("request", request).strip():
            raise InvalidArgument("The request is empty: say what the team is to do.")
        if len(request.encode()) > REQUEST_MAX:
            raise InvalidArgument(
                f"The request is longer than {REQUEST_MAX:,} bytes. Put the material into a file "
                "and name it."
            )
        run_id = _run_id(id) if id is not None else new_id()
        found = await self._teams.get(team, version)
        given = dict(variables or {})
        spec = _limits(team, found.document, given, environ)
        run, _ = await self.records.create(
            run_id,
            team=team,
            version=found.version,
            request=request,
            variables=given,
            document=found.document,
            timeout_seconds=spec.global_timeout_seconds,
            keep_seconds=spec.keep,
            concurrency=spec.max_concurrent,
            # The last turn is the synthesizer's.
            claims_most=spec.global_max_turns - 1,
            lead_spec=_lead(run_id, 1, team, by),
            by=by,
            host=os.uname().nodename,
            folder=folder,
        )
        return run

    async def get(self, run: str) -> Run:
        """Read a run. Raises RunNotFound."""
        return await self.records.get(run)

    async def list(
        self,
        *,
        team: str | None = None,
        phases: Iterable[Phase] | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Runs, the newest first."""
        return await self.records.list(team=team, phases=phases, limit=limit)

    async def report(self, run: str) -> Report:
        """A run with its tasks, its answer and its failures."""
        found = await self.get(run)
        tasks = self._tasks_of(run)
        ids = [summary.id async for summary in tasks.iterate()]
        read = [task for task in await tasks.get_many(ids) if task is not None]
        read.sort(key=lambda task: (task.created_at, task.metadata and task.metadata.get("n", 0)))
        answer = next((task for task in read if task.id == answer_id(found.generation)), None)
        ended = found.ended_at or datetime.now(found.created_at.tzinfo)
        planned = tuple(task for task in read if is_work(task.kind))
        return Report(
            run=found,
            answer=answer.result if answer is not None else None,
            tasks=planned,
            asked=tuple(task for task in read if not is_work(task.kind)),
            failures=failures_of(read, run),
            seconds=max(0.0, (ended - found.created_at).total_seconds()),
            is_led=await self._is_led(found),
        )

    async def _is_led(self, run: Run) -> bool:
        lead = lead_id(run.id, run.generation)
        found = (await self._tasks_of(LEAD_BOARD).get_many([lead]))[0]
        return found is not None and found.status.is_held

    async def cancel(self, run: str, *, reason: str = "requested", by: str = "") -> Run:
        """End a run: nothing more is begun, and handlers that run are cancelled.

        Raises:
            IllegalState: It has ended otherwise.
            RunNotFound: No such run.
        """
        found = await self.get(run)
        if found.phase is not Phase.CANCELLED:
            try:
                await self.records.move(
                    run,
                    from_=LIVE,
                    to=Phase.CANCELLED,
                    generation=found.generation,
                    fields={"reason": check_text("reason", reason)[:1_000]},
                    by=by,
                )
            except IllegalState as error:
                if error.details.get("phase") != Phase.CANCELLED:  # By another, just now.
                    raise
        with suppress(IllegalState):  # Taken up again, just now.
            await self.wind_up(
                run, generation=found.generation, reason=f"run cancelled: {reason}", by=by
            )
        with_lead = self._tasks_of(LEAD_BOARD)
        await with_lead.cancel_many([lead_id(run, found.generation)], reason=reason, by=by)
        return await self.get(run)

    async def wind_up(self, run: str, *, generation: int, reason: str, by: str = "") -> int:
        """Cancel what is left of a run that has ended; answers how much that was.

        Raises:
            IllegalState: It has not ended in this generation, or was taken up again since.
        """
        tasks = self._tasks_of(run)
        count = 0
        for _ in range(CANCEL_ROUNDS):
            ids = [each.id async for each in tasks.iterate(status=UNFINISHED)]
            if not ids:
                break
            answers = await self.records.wind_up(
                run, ids, generation=generation, reason=reason, by=by
            )
            count += sum(answer.status in ("cancelled", "requested") for answer in answers)
            if all(answer.status == "requested" for answer in answers):
                break
        return count

    async def pause(self, run: str, *, by: str = "") -> Run:
        """Begin nothing more until it is resumed; what runs goes on, and its time stands still.

        Raises:
            IllegalState: It has ended.
        """
        try:
            found = await self.records.pause(run, by=by)
        except IllegalState as error:
            found = await self.get(run)
            if not found.phase.is_ended:  # It was taken up again meanwhile.
                raise
            raise _has_ended(found) from error
        if found.phase.is_ended:
            raise _has_ended(found)
        return found

    async def resume(self, run: str, *, by: str = "") -> Run:
        """Undo a pause.

        Raises:
            IllegalState: It has ended.
        """
        found = await self.records.resume(run, by=by)
        if found.phase.is_ended:
            raise _has_ended(found)
        return found

    async def retry(self, run: str, task: str | None = None, *, by: str = "") -> Run:
        """Put a failed task back, with everything that failed because of it, and answer anew.

        Without *task*, all that failed or was cancelled. Of several callers at once one puts
        a task back; the others find it so, or are told that it has not failed.

        Raises:
            IllegalState: The task has not failed; nothing of the run has; or its answer is
                being written.
            TaskNotFound, RunNotFound: No such task or run.
        """
        found = await self.get(run)
        if found.phase is Phase.SYNTHESIS:
            raise _is_writing(run)
        if not found.phase.is_ended:
            return await self._retry_live(found, task, by)
        return await self._retry_ended(found, task, by)

    async def _retry_live(self, run: Run, task: str | None, by: str) -> Run:
        tasks = self._tasks_of(run.id)
        if task is not None:
            await tasks.retry(task, by=by)
            ids = [task]
        else:
            ids = await self._failed_ids(run)
            answers = await tasks.retry_many(ids, by=by)
            ids = [each.id for each in answers if each.status in ("ok", "blocked")]
            if not ids:
                raise _nothing_failed(run.id)
        now = await self.get(run.id)
        if now.phase is Phase.SYNTHESIS:
            # It went on to its answer just before: what was put back would not be part of it.
            await tasks.cancel_many(ids, reason="its run is writing its answer", by=by)
            raise _is_writing(run.id)
        return now

    async def _retry_ended(self, run: Run, task: str | None, by: str) -> Run:
        document = await self.records.document(run.id)
        spec = _limits(run.team, document, run.variables, None)
        await self._settle(run, by)
        if task is None:
            ids = await self._failed_ids(run)
            if not ids and run.phase is Phase.DONE:
                raise _nothing_failed(run.id)
        else:
            ids = [task]
            read = await self._tasks_of(run.id).get(task)
            if read.status not in (Status.FAILED, Status.CANCELLED):
                raise IllegalState(
                    f"Task {task} of run {run.id} is {read.status.value}: there is nothing to "
                    "retry.",
                    status=read.status.value,
                )
        board = await self._boards.get(run.id)
        await self._boards.configure(
            run.id, BoardSettings(claims_most=board.claims + spec.global_max_turns - 1), by=by
        )
        try:
            again = await self.records.reopen(
                run.id,
                generation=run.generation,
                timeout_seconds=spec.global_timeout_seconds,
                lead_spec=_lead(run.id, run.generation + 1, run.team, by),
                ids=ids[:BATCH_MAX],
                by=by,
            )
        except IllegalState:
            again = await self.get(run.id)
            if again.generation == run.generation or again.phase.is_ended:
                raise
            # Another who retried it was quicker; perhaps not this task.
            await self._put_back(again, ids, by, is_one=task is not None)
            return again
        await self._put_back(again, ids[BATCH_MAX:], by)
        return again

    async def _put_back(self, run: Run, ids: Sequence[str], by: str, is_one: bool = False) -> None:
        """Put tasks of a run back that was taken up again; those that are open stay so."""
        answers = await self._tasks_of(run.id).retry_many(ids, by=by)
        if is_one and answers[0].status == "illegal_state":
            raise IllegalState(
                f"Task {ids[0]} of run {run.id} was put back by someone else.", run=run.id
            )

    async def _settle(self, run: Run, by: str) -> None:
        """See an ended run's last handlers out: what they hold could not be put back.

        Raises:
            IllegalState: Some do not stop, or were lost and their leases are not over.
        """
        await self.wind_up(run.id, generation=run.generation, reason="the run has ended", by=by)
        async with Bell(self._events, run.id) as bell:
            try:
                async with asyncio.timeout(SETTLE_SECONDS):
                    while (await self._boards.get(run.id)).counts.held:
                        await self.records.sweep(run.id)
                        await bell.wait(SETTLE_LOOK_SECONDS)
            except TimeoutError:
                raise _is_held(run.id) from None

    async def _failed_ids(self, run: Run) -> Ids:
        """What failed or was cancelled, but for what asked for earlier answers and plans."""
        left_out = {answer_id(n) for n in range(1, run.generation + 1)}
        if run.planning:
            left_out.add(plan_id(run.round + 1))
        return [
            each.id
            async for each in self._tasks_of(run.id).iterate(
                status=(Status.FAILED, Status.CANCELLED)
            )
            if each.id not in left_out
        ]

    async def ensure_lead(self, run: Run) -> None:
        """Put the leading task of a run on its board, where it is missing."""
        lead = _lead(run.id, run.generation, run.team, run.created_by)
        with suppress(IdConflict):  # It is there, from somebody else who retried the run.
            await self._tasks_of(LEAD_BOARD).submit_many([lead])

    async def delete(self, run: str, *, by: str = "") -> None:
        """Remove a run that has ended, with its tasks, results and events.

        Raises:
            IllegalState: It has not ended, or a task of it is still held.
        """
        found = await self.get(run)
        if not found.phase.is_ended:
            raise IllegalState(
                f"Run {run} has not ended. Cancel it first: callboard runs cancel {run}",
                phase=found.phase.value,
            )
        await self.wind_up(run, generation=found.generation, reason="run removed", by=by)
        await self.records.sweep(run)
        try:
            await self._boards.remove(run, by=by)
        except BoardNotFound:
            pass  # An earlier call came as far as this.
        except Refused as error:
            raise _is_held(run) from error
        leads = [lead_id(run, n) for n in range(1, found.generation + 1)]
        await self._tasks_of(LEAD_BOARD).purge(leads, by=by)
        await self.records.remove(run, by=by)

    async def sweep(self) -> bool:
        """Delete runs that were kept for long enough, end those that nobody ended in time.

        One that cannot be done yet is due again in a minute, and the others have their turn.

        Returns:
            Whether more are due than were looked at.

        Raises:
            EngineError: Of the last of those that failed, once the others had their turn.
        """
        due, failure = await self.records.due(SWEPT_MAX), None
        for run in due:
            try:
                found = await self.get(run)
                if found.phase.is_ended:
                    await self.delete(run, by="janitor")
                else:
                    await self.fail(found, reason=UNLED, by="janitor")
            except (Refused, NotFound):
                pass  # Retried, still held, or done by another sweep.
            except (EngineUnavailable, OutcomeUnknown):
                raise
            except EngineError as error:
                failure = error
        if failure is not None:
            raise failure
        return len(due) >= SWEPT_MAX

    async def fail(self, run: Run, *, reason: str, by: str = "") -> None:
        """End a run that nobody leads as failed, and cancel what is left of it.

        Raises:
            IllegalState: It has ended, or was taken up again, since it was read.
        """
        await self.records.move(
            run.id,
            from_=LIVE,
            to=Phase.FAILED,
            generation=run.generation,
            fields={"reason": reason[:REASON_MAX]},
            by=by,
        )
        await self.wind_up(run.id, generation=run.generation, reason=reason, by=by)
        leads = self._tasks_of(LEAD_BOARD)
        await leads.cancel_many([lead_id(run.id, run.generation)], reason=reason, by=by)

    async def events(
        self, run: str, cursor: str | None = None, *, follow: bool = False
    ) -> AsyncIterator[RunEvent | Gap]:
        """What happened in a run, each thing once, from its start or behind *cursor*.

        With *follow* the iteration goes on as things happen. It ends once the run has, and
        so have its tasks, or nothing more was heard of them for five seconds.
        """
        found = await self.get(run)
        tasks = self._tasks_of(run)
        told = tell(found, self._events, tasks, self._is_over, cursor, follow=follow)
        async with aclosing(told):
            async for one in told:
                yield one

    async def _is_over(self, run: str, is_silent: bool) -> bool:
        """Whether nothing more is to be waited for: it has ended, and so has each of its tasks.

        Some may be held by whoever was lost, or were put back without the run: of these
        nothing is heard.
        """
        try:
            board = await self._boards.get(run)
        except BoardNotFound:
            return True
        is_quiet = is_silent or board.counts.unfinished == 0
        return is_quiet and (await self.get(run)).phase.is_ended

    async def wait(self, run: str, *, timeout: float | None = None) -> Run:
        """Wait until a run has ended, however it ended.

        Raises:
            TimeoutError: It has not ended within *timeout* seconds; it goes on.
        """
        async with asyncio.timeout(timeout):
            async with Bell(self._events, run) as bell:
                while not (found := await self.get(run)).phase.is_ended:
                    await bell.wait()
        return found

    async def result(self, run: str, *, timeout: float | None = None) -> Any:
        """Wait for a run's answer.

        Raises:
            RunFailed: It failed or was cancelled.
            TimeoutError: It has not ended within *timeout* seconds; it goes on.
        """
        found = await self.wait(run, timeout=timeout)
        if found.phase is not Phase.DONE:
            raise RunFailed(
                f"Run {run} {found.phase.value}: {found.reason or 'no reason was given'}.",
                run=run,
                phase=found.phase.value,
                reason=found.reason,
            )
        return (await self._tasks_of(run).get(answer_id(found.generation))).result


def _limits(
    team: str,
    document: Mapping[str, Any],
    variables: Mapping[str, str],
    environ: Mapping[str, str] | None,
) -> TeamSpec:
    """The limits that a team sets; what its agents are is for its hosts to know.

    So the values of their placeholders need not be known where a run is begun.
    """
    look_up = lookup_in(variables, environ)
    given = expand(document.get("team"), look_up, ("teams", "specs", team))
    agents = {name: {"callable": "known:elsewhere"} for name in document.get("agents") or {}}
    return parse_team(team, {"team": given, "agents": agents})


def _run_id(given: str) -> str:
    if len(check_name("run id", given)) > RUN_ID_MAX:
        raise InvalidArgument(
            f"The run's id has {len(given)} characters; it may have at most {RUN_ID_MAX}, since "
            "its members are named after it.",
            field="run id",
        )
    return given


def _is_held(run: str) -> IllegalState:
    return IllegalState(
        f"Run {run} has ended, and some of its tasks are not given up yet. Try again when "
        "their holders have stopped, or their leases are over."
    )


def _nothing_failed(run: str) -> IllegalState:
    return IllegalState(f"Nothing of run {run} has failed: there is nothing to retry.")


def _has_ended(run: Run) -> IllegalState:
    return IllegalState(
        f"Run {run.id} has ended ({run.phase.value}): it can be neither paused nor resumed. Look "
        f"at it: callboard runs show {run.id}",
        phase=run.phase.value,
    )


def _is_writing(run: str) -> IllegalState:
    return IllegalState(
        f"Run {run} is writing its answer. Wait for its end: callboard runs watch {run}",
        phase=Phase.SYNTHESIS.value,
    )


def _lead(run: str, generation: int, team: str, by: str) -> TaskSpec:
    """The task that whoever leads the run holds: only its own hosts have the label."""
    return TaskSpec(
        kind=lead_kind(team),
        id=lead_id(run, generation),
        title=f"Leads run {run}",
        payload={"run": run, "generation": generation},
        requirements=Requirements(labels={"run": run}),
        retry=LEAD_RETRY,
        created_by=by,
    )
