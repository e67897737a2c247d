"""Tasks: submitted, read, explained, steered; claimed, renewed, finished."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from callboard.app import BoardTasks
from callboard.domain.record import Claimed
from callboard.domain.retry import Failure
from callboard.domain.task import Status, TaskSpec
from callboard.engine.answers import Answer
from callboard.operations.operation import BOUNDED, operations_of
from callboard.operations.wires import Names
from callboard.services.claims import Claims, Step
from callboard.services.tasks import TaskHandle


class Submitted(msgspec.Struct, frozen=True):
    """A task that was submitted.

    Attributes:
        existed: It had been submitted before, with the same body.
    """

    id: str
    existed: bool


def _submitted(handle: TaskHandle) -> Submitted:
    return Submitted(handle.id, handle.existed)


def _all_submitted(handles: Iterable[TaskHandle]) -> list[Submitted]:
    return [_submitted(handle) for handle in handles]


class ClaimedTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task that was claimed: present its fence with every later write.

    Attributes:
        attempt: How often it was claimed, this time included.
        failures: Failed attempts before this one.
        crashes: Holders that were lost with it before.
        until: End of the lease unless it is renewed.
        timeout: Seconds that this attempt may run.
        lease: Seconds without a renewal after which it is lost, where the task says so itself.
        is_ahead: Claimed ahead of its start: losing it before ``start`` is no crash.
        was_lost: It was lost before, unstarted: say ``start`` before it runs.
        has_extra: Answers, children or partial results of earlier attempts may be there to read.
    """

    id: str
    board: str
    kind: str
    fence: int
    attempt: int
    until: datetime
    payload: msgspec.Raw
    agent: str
    instance: str = ""
    failures: int = 0
    crashes: int = 0
    timeout: float | None = None
    lease: float | None = None
    is_ahead: bool = False
    was_lost: bool = False
    has_extra: bool = False
    trace_context: str = ""


class ClaimedTasks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a claim brought.

    Attributes:
        tasks: Granted, best first.
        status: ``ok``, ``empty``, ``agent_full``, ``replayed``, or why nothing could be claimed.
        lost: Fences that an earlier call had granted and that are not held any more.
        again: Seconds until a rate that held tasks back lets one through.
    """

    tasks: list[ClaimedTask]
    status: str
    lost: tuple[int, ...] = ()
    again: float | None = None


class Stepped(msgspec.Struct, frozen=True, kw_only=True):
    """What a step brought: an answer a result, one a start, and the claims."""

    completed: tuple[Answer, ...]
    begun: tuple[Answer, ...]
    claims: ClaimedTasks


def claimed_task(claimed: Claimed) -> ClaimedTask:
    """The claimed task as it is sent."""
    return ClaimedTask(**{name: getattr(claimed, name) for name in _CLAIMED})


def claimed_tasks(claims: Claims) -> ClaimedTasks:
    """What a claim brought as it is sent."""
    return ClaimedTasks(
        tasks=[claimed_task(one) for one in claims.tasks],
        status=claims.status,
        lost=claims.lost,
        again=claims.again,
    )


def _stepped(step: Step) -> Stepped:
    return Stepped(completed=step.completed, begun=step.begun, claims=claimed_tasks(step.claims))


_CLAIMED: Final = ClaimedTask.__struct_fields__


_operation = operations_of("tasks")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work", answers="answer", is_repeatable=True)
_each = partial(_operation, verb="POST", role="work", answers="answers", is_repeatable=True)
_steer = partial(_operation, verb="POST", role="operate", answers="answer", is_repeatable=True)

_claims = partial(_work, answers="claims", result=ClaimedTasks, render=claimed_tasks)

_ONE: Final = "/tasks/{task_id}"
_STATUS: Final = {"status": Status | list[Status] | None}

OPERATIONS: Final = (
    _operation(
        "submit",
        BoardTasks.submit,
        verb="POST",
        path="/tasks",
        role="work",
        answers="task",
        fields=TaskSpec,
        result=Submitted,
        render=_submitted,
    ),
    _operation(
        "submit_many",
        BoardTasks.submit_many,
        verb="POST",
        path="/tasks/batch",
        role="work",
        answers="tasks",
        result=list[Submitted],
        render=_all_submitted,
    ),
    _read("get", BoardTasks.get, path=_ONE, answers="task"),
    _operation(
        "get_many",
        BoardTasks.get_many,
        verb="POST",
        path="/tasks/read",
        role="read",
        answers="tasks",
        types={"task_ids": Names},
        hidden=BOUNDED,
        is_repeatable=True,
    ),
    _read("outcome", BoardTasks.outcome, path=f"{_ONE}/outcome", answers="outcome"),
    _read("list", BoardTasks.list, path="/tasks", answers="page", types=_STATUS),
    _read("lanes", BoardTasks.lanes, path="/lanes", answers="lanes"),
    _read("queues", BoardTasks.queues, path="/queues", answers="queues"),
    _steer(
        "clear",
        BoardTasks.clear,
        path="/queues/{priority}/clear",
        answers="cleared",
    ),
    _read("wait", BoardTasks.wait, path=f"{_ONE}/wait", answers="task", is_waiting=True),
    _read("notes", BoardTasks.notes, path=f"{_ONE}/notes", answers="notes"),
    _read("attempts", BoardTasks.attempts, path=f"{_ONE}/attempts", answers="attempts"),
    _read("why", BoardTasks.why, path=f"{_ONE}/why", answers="why"),
    _operation(
        "note",
        BoardTasks.note,
        verb="POST",
        path=f"{_ONE}/notes",
        role="work",
        answers="",
    ),
    _steer("cancel", BoardTasks.cancel, path=f"{_ONE}/cancel"),
    _steer("cancel_many", BoardTasks.cancel_many, path="/tasks/cancel", answers="answers"),
    _steer("retry", BoardTasks.retry, path=f"{_ONE}/retry"),
    _steer("retry_many", BoardTasks.retry_many, path="/tasks/retry", answers="answers"),
    _steer("reprioritise", BoardTasks.reprioritise, path=f"{_ONE}/priority", verb="PUT"),
    _steer("purge", BoardTasks.purge, path="/tasks/purge", answers="answers"),
    _steer("answer", BoardTasks.answer, path=f"{_ONE}/answer", is_repeatable=False),
    _claims("claim", BoardTasks.claim, path="/tasks/claim", is_repeatable=False, polls=True),
    _work(
        "take",
        BoardTasks.take,
        path=f"{_ONE}/take",
        answers="claimed",
        result=ClaimedTask,
        render=claimed_task,
        is_repeatable=False,
    ),
    _claims("accept", BoardTasks.accept, path="/tasks/accept"),
    _work(
        "complete_and_claim",
        BoardTasks.complete_and_claim,
        path="/tasks/step",
        answers="step",
        result=Stepped,
        render=_stepped,
        is_repeatable=False,
    ),
    _work("complete", BoardTasks.complete, path=f"{_ONE}/complete"),
    _each("complete_many", BoardTasks.complete_many, path="/tasks/complete"),
    _work("fail", BoardTasks.fail, path=f"{_ONE}/fail", types={"error": Failure | str}),
    _each("fail_many", BoardTasks.fail_many, path="/tasks/fail"),
    _work("start", BoardTasks.start, path=f"{_ONE}/start"),
    _each("start_many", BoardTasks.start_many, path="/tasks/start"),
    _work("renew", BoardTasks.renew, path=f"{_ONE}/renew"),
    _each("renew_many", BoardTasks.renew_many, path="/tasks/renew"),
    _work("release", BoardTasks.release, path=f"{_ONE}/release"),
    _each("release_many", BoardTasks.release_many, path="/tasks/release"),
    _work("handoff", BoardTasks.handoff, path=f"{_ONE}/handoff"),
    _work("progress", BoardTasks.progress, path=f"{_ONE}/progress"),
    _work("partial", BoardTasks.partial, path=f"{_ONE}/partial"),
    _work("tell", BoardTasks.tell, path=f"{_ONE}/tell"),
    _work("split", BoardTasks.split, path=f"{_ONE}/split", answers="children"),
    _work("ask", BoardTasks.ask, path=f"{_ONE}/ask"),
    _work("confirm_cancel", BoardTasks.confirm_cancel, path=f"{_ONE}/confirm-cancel"),
    _work("park", BoardTasks.park, path=f"{_ONE}/park"),
    _work("unpark", BoardTasks.unpark, path=f"{_ONE}/unpark"),
)
