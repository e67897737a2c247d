"""Every error that Callboard raises: one tree, one stable code a fact.

The code is the same word everywhere: the status that a function on the engine
returns, ``CallboardError.code`` here, and ``code`` in HTTP, MCP and CLI output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class CallboardError(Exception):
    """Base of all errors; the message says what happened, to what, and what to do next.

    Attributes:
        code: The stable word for this fact.
        details: The facts behind the message, as plain JSON values.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details


# What the caller gave


class InvalidArgument(CallboardError, ValueError):
    """A value that no state of the system could make valid. Nothing was changed."""

    code = "invalid_argument"


class TooLarge(InvalidArgument):
    """A payload, result or batch over its bound. Nothing was changed."""

    code = "too_large"


class ConfigError(CallboardError):
    """A setting, URL, file or environment variable that cannot be used."""

    code = "config_error"


class InvalidTeam(ConfigError):
    """A team's description that cannot be used; ``details["path"]`` says which part of it."""

    code = "invalid_team"


class AgentUnusable(ConfigError):
    """An agent of a team that could never be asked; the message names the cure."""

    code = "agent_unusable"


# The engine


class EngineError(CallboardError):
    """The engine, or the way to it, is at fault."""

    code = "engine_error"


class EngineUnavailable(EngineError):
    """The call was certainly not run: no connection could be had in time. Safe to repeat."""

    code = "engine_unavailable"


class OutcomeUnknown(EngineError):
    """The call was sent and its reply was lost: it may or may not have run.

    Repeat it only if it carries an operation id, a fence or a client-given id.
    """

    code = "outcome_unknown"


class EngineStartFailed(EngineError):
    """The embedded engine could not be started; the message names the cure."""

    code = "engine_start_failed"


class EngineUnsuitable(EngineError):
    """The engine's version or settings would break a guarantee; the message names the cure."""

    code = "engine_unsuitable"


class EngineFull(EngineError):
    """The engine is at its memory limit: new work is refused, finishing work still works."""

    code = "engine_full"


class ForeignDatabase(EngineError):
    """The database holds somebody else's keys and none of ours."""

    code = "foreign_database"


class NewerFormat(EngineError):
    """The namespace was written by a release whose format this one cannot read."""

    code = "newer_format"


# Things that are not there


class NotFound(CallboardError, LookupError):
    """Nothing has this name."""

    code = "not_found"


class TaskNotFound(NotFound):
    """No task on this board has this id."""

    code = "task_not_found"


class AgentNotFound(NotFound):
    """No agent is registered under this id."""

    code = "agent_not_found"


class BoardNotFound(NotFound):
    """No board has this name: boards come into being with their first task."""

    code = "board_not_found"


class RunNotFound(NotFound):
    """No run has this id, or it was removed."""

    code = "run_not_found"


class TeamNotFound(NotFound):
    """No team has this name, or not this version of it."""

    code = "team_not_found"


# Refusals


class Refused(CallboardError):
    """A rule of the board says no. Nothing was changed."""

    code = "refused"


class IdConflict(Refused):
    """This id was used before: for a task with another body, or for another caller's claim."""

    code = "id_conflict"


class UniqueConflict(Refused):
    """An unfinished task already has this unique key."""

    code = "unique_conflict"


class DependencyCycle(Refused):
    """The dependencies would form a cycle; ``details["cycle"]`` lists it."""

    code = "dependency_cycle"


class GraphTooLarge(Refused):
    """The check for cycles met its bound of visited tasks."""

    code = "graph_too_large"


class BoardFull(Refused):
    """The board holds as many unfinished tasks as it may."""

    code = "board_full"


class TooManyLanes(Refused):
    """The board has as many different requirement sets waiting as it may."""

    code = "too_many_lanes"


class BoardPaused(Refused):
    """The board, or this kind of task on it, is paused."""

    code = "paused"


class BoardClosed(Refused):
    """The board takes no new tasks: the run that it belongs to has ended."""

    code = "board_closed"


class LeaseLost(Refused):
    """The fence is stale: the task was given to someone else, or back. Stop work."""

    code = "lease_lost"


class IllegalState(Refused):
    """The task's state does not allow this operation."""

    code = "illegal_state"


class NotReady(Refused):
    """The task waits for something; ``details["waits_for"]`` says for what."""

    code = "not_ready"


class Held(Refused):
    """Another agent holds the task."""

    code = "held"


class DoesNotFit(Refused):
    """The agent lacks what the task requires."""

    code = "does_not_fit"


class AgentFull(Refused):
    """The agent holds as many tasks as it declared that it can."""

    code = "agent_full"


class AtLimit(Refused):
    """The board has as many tasks held, or gave out as many claims, as it may."""

    code = "at_limit"


class AgentDraining(Refused):
    """The agent takes no new work: it drains, or is set aside."""

    code = "agent_draining"


# Outcomes of a task, raised where its result is awaited


class TaskFailed(CallboardError):
    """The awaited task ended as failed; ``details["error"]`` says why."""

    code = "task_failed"


class TaskCancelled(CallboardError):
    """The awaited task was cancelled or skipped."""

    code = "task_cancelled"


# Inside a handler


class Retry(CallboardError):
    """Raise in a handler: a retryable failure, optionally with its own delay in seconds."""

    code = "retry"

    def __init__(self, message: str, *, delay: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.delay = delay


class Fatal(CallboardError):
    """Raise in a handler: a failure that no retry can cure; the task becomes a dead letter."""

    code = "fatal"


# Teams


class InvalidPlan(CallboardError):
    """A planner's answer that is no plan. It is asked again, and told why."""

    code = "invalid_plan"


class RunFailed(CallboardError):
    """The run that was waited for ended without an answer."""

    code = "run_failed"
