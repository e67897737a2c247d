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


class MissingInput(InvalidArgument):
    """A decision lacks what it is made by; nothing is made up. Nothing was changed."""

    code = "missing_input"


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
    """The call was certainly not run, or it only reads and got no reply. Safe to repeat."""

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


class ContextNotFound(NotFound):
    """No context has this name: a context comes into being with its first field."""

    code = "context_not_found"


class BreakerNotFound(NotFound):
    """No breaker was configured for this component, or it was removed."""

    code = "breaker_not_found"


class ErrorNotFound(NotFound):
    """No error with this fingerprint was recorded in the last 90 days."""

    code = "error_not_found"


class FlowKeyNotFound(NotFound):
    """Nothing is set for this key of tasks."""

    code = "flow_key_not_found"


class RecurringNotFound(NotFound):
    """No recurring task has this name."""

    code = "recurring_not_found"


class MessageNotFound(NotFound):
    """No message has this id, or it is kept no more."""

    code = "message_not_found"


class NamespaceNotFound(NotFound):
    """Nobody has used this namespace yet, and who may only read makes none."""

    code = "namespace_not_found"


class ApiKeyNotFound(NotFound):
    """No API key has this id or name, or it is forgotten by now."""

    code = "api_key_not_found"


# Who asks


class NotAuthenticated(CallboardError):
    """The coordinator wants an API key: none was shown, or one that does not hold (any more)."""

    code = "not_authenticated"


class NotPermitted(CallboardError):
    """The API key holds, but not for this: its role, namespaces or agent say no."""

    code = "not_permitted"


class RateLimited(CallboardError):
    """Too many requests; ``details["retry_after"]`` says in how many seconds to try again."""

    code = "rate_limited"


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
    """The board, or a key of the task, has as many tasks held or claims given out as it may."""

    code = "at_limit"


class AgentDraining(Refused):
    """The agent takes no new work: it drains, or is set aside."""

    code = "agent_draining"


class RevisionConflict(Refused):
    """The context was changed since it was read; ``details["rev"]`` is its revision now."""

    code = "rev_conflict"


class ConflictNotFound(NotFound):
    """No conflict has this id, or it was removed."""

    code = "conflict_not_found"


class AlreadyResolved(Refused):
    """The conflict was decided; ``details["winner"]`` and ``details["strategy"]`` say how."""

    code = "already_resolved"


class ConflictBusy(Refused):
    """The conflict is being voted on, or lies with an arbiter."""

    code = "conflict_busy"


class NotEntitled(Refused):
    """The caller may not vote on this conflict, or is not its arbiter."""

    code = "not_entitled"


class NotAParty(Refused):
    """The one named is no party of the conflict."""

    code = "not_a_party"


class AlreadyVoted(Refused):
    """The member voted otherwise before, and votes of this ballot cannot be changed."""

    code = "already_voted"


class VoteClosed(Refused):
    """The conflict is not being voted on, or its deadline has passed."""

    code = "vote_closed"


class NotANumber(Refused):
    """A field cannot be incremented: it holds no number, or the sum would be too large."""

    code = "not_a_number"


class CircuitOpen(Refused):
    """The component's breaker lets no call through; nothing was called.

    ``details`` has ``component``, ``state`` (``open`` or ``half-open``), ``probes`` under way,
    and ``retry_after``: in how many seconds to try again, None where that is for a person to
    say.
    """

    code = "breaker_open"


class InboxFull(Refused):
    """The receiver's inbox takes no more; ``details["agents"]`` says whose it is."""

    code = "inbox_full"


class NotAPeer(Refused):
    """The sender may not write to this agent by ``peer_to_peer``: it is none of its peers."""

    code = "not_a_peer"


class NotInHierarchy(Refused):
    """The sender may not write to this agent by ``hierarchical``: neither is above the other."""

    code = "not_in_hierarchy"


class TooManyRecipients(Refused):
    """A message would go to more than 1,000 agents."""

    code = "too_many_recipients"


class AlreadyAnswered(Refused):
    """The request was answered before; ``details["reply"]`` is the id of the reply."""

    code = "already_answered"


class MessageExpired(Refused):
    """The request's deadline has passed: nobody waits for the reply."""

    code = "expired"


class NotARequest(Refused):
    """Nobody waits for a reply to this message."""

    code = "not_a_request"


class LockHeld(Refused):
    """Somebody holds the resource, and no wait was wanted; the details say who, until when."""

    code = "lock_held"


class LockTimeout(LockHeld):
    """The time to wait for the lock is over. The caller is not in line any more."""

    code = "lock_timeout"


class LockLost(Refused):
    """The owner does not hold it: never did, or its lease ran out, or it was taken. Stop."""

    code = "lock_lost"


class LockMismatch(Refused):
    """The resource is in use in a way that this request does not go together with."""

    code = "lock_mismatch"


class AlreadyWaiting(Refused):
    """This owner is in line already: one owner waits for one set of resources at a time."""

    code = "already_waiting"


class TooManyLocks(Refused):
    """The owner holds as many resources as one may, or the pattern covers too many."""

    code = "too_many_locks"


class DeadlockVictim(Refused):
    """This wait was ended because it was part of a cycle; release what you hold, and retry.

    ``details`` has *agents* and *resources* of the cycle, its owners as *cycle*, the
    *incident*, and a *suggestion*.
    """

    code = "deadlock_victim"


class LockNotFound(NotFound):
    """Nobody holds this resource."""

    code = "lock_not_found"


# Outcomes of a task, raised where its result is awaited


class TaskFailed(CallboardError):
    """The awaited task ended as failed; ``details["error"]`` says why."""

    code = "task_failed"


class TaskCancelled(CallboardError):
    """The awaited task was cancelled or skipped."""

    code = "task_cancelled"


class RequestTimeout(CallboardError, TimeoutError):
    """Nobody answered the request in time; ``details`` has its id and its state."""

    code = "request_timeout"


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


# Choosing an agent


class StrategyFailed(CallboardError):
    """A strategy of one's own threw, or answered nonsense; its task stays where it was."""

    code = "strategy_failed"


# Teams


class InvalidPlan(CallboardError):
    """A planner's answer that is no plan. It is asked again, and told why."""

    code = "invalid_plan"


class RunFailed(CallboardError):
    """The run that was waited for ended without an answer."""

    code = "run_failed"
