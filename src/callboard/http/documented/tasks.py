"""Tasks over the documented routes: submitted, counted, cleared."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callboard.app import Callboard
from callboard.domain.names import NAME
from callboard.domain.task import NO_REQUIREMENTS, PRIORITIES, QueueSizes, Requirements
from callboard.http import errors
from callboard.http.documented.balancer import BalancerStats, balancer_of
from callboard.http.documented.shapes import (
    BAD_NAME,
    Done,
    Object,
    answer,
    bad_request,
    caller_name,
    documented,
    encode,
    is_object,
    unusable,
)
from callboard.http.route import Call, Reply, Route

KIND: Final = "task"
"""The kind of a task that names no ``task_type``."""


class SubmitTask(msgspec.Struct, kw_only=True):
    """A task to submit.

    Attributes:
        task_data: The payload, as it is; its ``task_id`` names the task, and its
            ``task_type`` is the kind, where it has them.
        priority: ``low normal high critical urgent``, in any case.
        requirements: What an agent must have; unknown names are ignored.
        chain_id: Only agents that registered with it.
    """

    task_data: Object
    priority: str = "normal"
    requirements: TaskRequirements | None = None
    chain_id: str | None = None


class TaskRequirements(msgspec.Struct, kw_only=True):
    """What an agent must have to be given a task."""

    agent_type: str | None = None
    capabilities: list[str] | None = None
    services: list[str] | None = None
    min_health_score: float | None = None


class TaskSubmitted(Done, frozen=True, kw_only=True):
    """The task is kept, and goes to an agent as soon as one fits."""

    message: str
    task_id: str
    priority: str
    submitted_at: str
    chain_id: str | msgspec.UnsetType = msgspec.UNSET


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that wait for an agent, by priority."""

    urgent: int
    critical: int
    high: int
    normal: int
    low: int


class TaskStats(msgspec.Struct, frozen=True, kw_only=True):
    """What became of tasks, of the default board.

    Attributes:
        tasks_distributed: Given to an agent; again is counted again.
        avg_distribution_time: Seconds that they waited for it.
    """

    tasks_distributed: int
    tasks_completed: int
    tasks_failed: int
    avg_distribution_time: float
    load_balancer_stats: BalancerStats
    queue_sizes: Sizes


class TaskStatus(Done, frozen=True, kw_only=True):
    """What became of tasks."""

    stats: TaskStats
    timestamp: str


class Queues(Done, frozen=True, kw_only=True):
    """Tasks that wait, by priority."""

    queue_sizes: Sizes
    timestamp: str


class QueueStats(Done, frozen=True, kw_only=True):
    """Tasks that wait, and what became of the others."""

    queue_sizes: Sizes
    distribution_stats: TaskStats
    timestamp: str


class Cleared(Done, frozen=True, kw_only=True):
    """Waiting tasks were cancelled."""

    message: str
    priority: str
    cleared_count: int
    timestamp: str


class _Peek(msgspec.Struct):
    task_id: Any = None
    task_type: Any = None


_submit = msgspec.json.Decoder(SubmitTask)
_peek = msgspec.json.Decoder(_Peek)


async def submit(call: Call) -> Reply:
    """Keep a task, and give it to an agent as soon as one fits; the same again is the same."""
    given = _submit.decode(await call.body())
    priority = PRIORITIES.get(given.priority.lower())
    if priority is None:
        raise bad_request(f"Invalid priority: {given.priority}")
    if not is_object(given.task_data):
        raise unusable("task_data", "Input should be an object")
    known = _peek.decode(given.task_data)
    kind = known.task_type
    cb = await call.board()
    handle = await cb.tasks.submit(
        kind if isinstance(kind, str) and NAME.fullmatch(kind) else KIND,
        given.task_data,
        id=_id_of(known.task_id),
        priority=priority,
        requirements=_requirements(given),
    )
    return Reply(
        encode(
            TaskSubmitted(
                message="Task submitted successfully",
                task_id=handle.id,
                priority=given.priority,
                submitted_at=errors.now(),
                chain_id=given.chain_id or msgspec.UNSET,
            )
        )
    )


async def status(call: Call) -> Reply:
    """What became of tasks, how work is spread, and how much waits."""
    cb = await call.board()
    return answer(TaskStatus(stats=await _stats(cb), timestamp=errors.now()))


async def queues(call: Call) -> Reply:
    """How many tasks wait, by priority."""
    sizes = await (await call.board()).tasks.queues()
    return answer(Queues(queue_sizes=_sizes(sizes), timestamp=errors.now()))


async def queue_stats(call: Call) -> Reply:
    """How many tasks wait, and what became of the others."""
    stats = await _stats(await call.board())
    return answer(
        QueueStats(queue_sizes=stats.queue_sizes, distribution_stats=stats, timestamp=errors.now())
    )


async def clear(call: Call) -> Reply:
    """Cancel the tasks that wait with a priority; what agents have stays."""
    priority = call.path["priority"]
    if priority not in PRIORITIES:
        raise bad_request(f"Invalid priority: {priority}")
    cb = await call.board()
    cleared = await cb.tasks.clear(priority, by=caller_name(call))
    return answer(
        Cleared(
            message=f"Cleared {cleared} tasks from {priority} queue",
            priority=priority,
            cleared_count=cleared,
            timestamp=errors.now(),
        )
    )


def _id_of(task_id: Any) -> str | None:
    if task_id is None or task_id == "":
        return None
    if isinstance(task_id, int) and not isinstance(task_id, bool):
        task_id = str(task_id)
    if not isinstance(task_id, str) or not NAME.fullmatch(task_id):
        raise unusable(
            "task_data.task_id", "task_id must be 1 to 128 letters, digits, '.', '_' or '-'"
        )
    return task_id


def _requirements(given: SubmitTask) -> Requirements:
    wanted = given.requirements
    if wanted is None and not given.chain_id:
        return NO_REQUIREMENTS
    wanted = wanted or TaskRequirements()
    return Requirements(
        agent_type=wanted.agent_type or "",
        capabilities=tuple(wanted.capabilities or ()),
        services=tuple(wanted.services or ()),
        labels={"chain_id": given.chain_id} if given.chain_id else {},
        min_health_score=wanted.min_health_score or 0.0,
    )


async def _stats(cb: Callboard) -> TaskStats:
    found = await cb.scheduler.distribution(cb.tasks.board)
    return TaskStats(
        tasks_distributed=found.tasks_distributed,
        tasks_completed=found.tasks_completed,
        tasks_failed=found.tasks_failed,
        avg_distribution_time=found.avg_distribution_time,
        load_balancer_stats=balancer_of(found.load),
        queue_sizes=_sizes(await cb.tasks.queues()),
    )


def _sizes(found: QueueSizes) -> Sizes:
    return Sizes(
        urgent=found.urgent,
        critical=found.critical,
        high=found.high,
        normal=found.normal,
        low=found.low,
    )


def routes() -> list[Route]:
    """The documented routes of tasks and their queues."""
    tag = "tasks"
    return [
        documented(
            *("POST", "/tasks/submit", submit, TaskSubmitted),
            role="work",
            summary="Submit a task: it goes to an agent as soon as one fits.",
            tag=tag,
            body=SubmitTask,
            others={**BAD_NAME, 409: errors.ErrorBody},
        ),
        documented(
            *("GET", "/tasks/status", status, TaskStatus),
            role="read",
            summary="What became of tasks, how work is spread, and how much waits.",
            tag=tag,
        ),
        documented(
            *("GET", "/tasks/queues", queues, Queues),
            role="read",
            summary="How many tasks wait, by priority.",
            tag=tag,
        ),
        documented(
            *("GET", "/tasks/queues/stats", queue_stats, QueueStats),
            role="read",
            summary="How many tasks wait, and what became of the others.",
            tag=tag,
        ),
        documented(
            *("POST", "/tasks/queues/{priority}/clear", clear, Cleared),
            role="operate",
            summary="Cancel the tasks that wait with a priority; what agents have stays.",
            tag=tag,
            others=BAD_NAME,
        ),
    ]
