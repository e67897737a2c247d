"""Agents that are whoever fits on another board: the request becomes a task there."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callboard.domain.names import NAME
from callboard.domain.task import Requirements
from callboard.exceptions import (
    CallboardError,
    Fatal,
    IdConflict,
    IllegalState,
    Retry,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
)
from callboard.teams.agents import unusable

if TYPE_CHECKING:
    from callboard.app import BoardTasks
    from callboard.domain.team import AgentDefinition
    from callboard.sdk.context import TaskContext
    from callboard.teams.agents import Invocation

GOES_ON: Final = frozenset({"stopping", "lease_lost"})
"""Ends of a claim after which the same attempt is made again, and finds the task under way."""

log = logging.getLogger("callboard.teams")


class ElsewhereAgent:
    """Submits the request as a task of another board, and waits for its result.

    Its requirements are the definition's capabilities and labels, its payload is the request.
    While it waits, the place here is free. The id is the same for an attempt that is made
    again after a crash, so that nothing is submitted twice. If the task here is cancelled or
    runs out of time, the other is cancelled too.
    """

    def __init__(self, definition: AgentDefinition, folder: Path) -> None:
        settings = definition.settings
        if not isinstance(settings, dict) or not {"kind"} <= settings.keys() <= {"board", "kind"}:
            raise unusable(definition, "elsewhere needs a kind, and may have a board.")
        self._board = settings.get("board", "default")
        self._kind = settings["kind"]
        for name in (self._board, self._kind):
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise unusable(
                    definition,
                    f"elsewhere names {name!r:.60}; use letters, digits, '.', '_' or '-'.",
                )
        self._requirements = Requirements(
            capabilities=definition.capabilities, labels=definition.labels
        )

    async def run(self, invocation: Invocation) -> Any:
        """Submit, and wait.

        Raises:
            Retry: The task there failed, all its own retries included.
            Fatal: Somebody cancelled it there, or there is no other board to reach.
        """
        context = invocation.context
        if invocation.tasks_of is None:
            raise Fatal(f"The board {self._board!r} cannot be reached from here.")
        tasks = invocation.tasks_of(self._board)
        task_id = await self._submit(invocation, tasks)
        where = f"Task {task_id} on board {self._board}"
        try:
            return await context.wait(task_id, tasks=tasks)
        except TaskFailed as error:
            why = (error.details.get("error") or {}).get("message", "no message was kept")
            raise Retry(f"{where} failed: {why}", task=task_id, board=self._board) from error
        except TaskCancelled as error:
            raise Fatal(f"{where} was cancelled there.", task=task_id, board=self._board) from error
        except asyncio.CancelledError:
            if context.cancel_reason not in GOES_ON:
                await self._cancel(tasks, task_id, context)
            raise

    async def _submit(self, invocation: Invocation, tasks: BoardTasks) -> str:
        request, context = invocation.request, invocation.context
        task_id = _id_of(f"{request.run}.{context.id}.{context.task.failures}")
        body = msgspec.json.decode(context.task.body, type=_Described)
        try:
            await tasks.submit(
                self._kind,
                request,
                id=task_id,
                title=body.title,
                requirements=self._requirements,
                created_by=context.task.agent,
                trace_context=body.trace_context,
            )
        except IdConflict:
            # An earlier try at this attempt, whose request said something else about itself.
            log.debug("Task %s is on board %s already.", task_id, self._board)
        return task_id

    async def _cancel(self, tasks: BoardTasks, task_id: str, context: TaskContext) -> None:
        reason = f"task {context.id} has ended: {context.cancel_reason or 'cancelled'}"
        try:
            await tasks.cancel(task_id, reason=reason, by=context.task.agent)
        except (IllegalState, TaskNotFound):
            pass  # It has ended by itself.
        except CallboardError as error:
            log.warning("Task %s on board %s is not cancelled: %s", task_id, self._board, error)


class _Described(msgspec.Struct):
    title: str = ""
    trace_context: str = ""


def _id_of(text: str) -> str:
    """The text where it is a name, else a name made of it that is always the same."""
    if NAME.fullmatch(text):
        return text
    return f"{text[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
