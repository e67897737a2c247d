"""From a function's status word to the exception that says the same, with the cure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from callboard import exceptions as e
from callboard.engine.replies_access import of_access
from callboard.engine.replies_breakers import of_breakers
from callboard.engine.replies_conflicts import of_conflicts
from callboard.engine.replies_contexts import of_contexts
from callboard.engine.replies_flow import of_flow
from callboard.engine.replies_locks import of_locks
from callboard.engine.replies_messages import of_messages


def words(reply: Sequence[Any]) -> list[str]:
    """The scalar parts of a refusal as text."""
    return [part.decode() if isinstance(part, bytes) else str(part) for part in reply]


def raise_refusal(status: str, reply: Sequence[Any] = (), **context: Any) -> NoReturn:
    """Raise the exception of *status*.

    Args:
        status: The status word of a function or of one item.
        reply: The whole reply, where the status is its first part: the facts follow it.
        context: What the caller knows: ``task``, ``agent``, ``board``, …

    Raises:
        CallboardError: The narrowest class for the status, always.
    """
    facts = words([part for part in reply[1:] if not isinstance(part, list)])
    facts += [""] * (4 - len(facts))
    task, agent, board = (context.get(name, "") for name in ("task", "agent", "board"))
    run, team = (context.get(name, "") for name in ("run", "team"))
    kind, message, details = (
        of_conflicts(status, facts, context)
        or of_contexts(status, facts, context)
        or of_locks(status, facts, context)
        or of_messages(status, facts, context)
        or of_breakers(status, facts, context)
        or of_flow(status, facts, context)
        or of_access(status, facts, context)
        or _of_teams(status, facts, run, team)
        or _refusal(status, facts, task, agent, board)
    )
    raise kind(message, **{**context, **details})


def _of_teams(
    status: str, facts: list[str], run: str, team: str
) -> tuple[type[e.CallboardError], str, dict[str, Any]] | None:
    """What is said of runs and teams; None where the refusal is about something else."""
    match status:
        case "run_not_found":
            return e.RunNotFound, f"No run {run!r}. List them: callboard runs list.", {}
        case "team_not_found":
            return e.TeamNotFound, f"No team {team!r}. List them: callboard teams list.", {}
        case "lease_lost" if run:
            return e.LeaseLost, f"Run {run} is led by another by now. Stop leading it.", {}
        case "unfinished" if run:
            return (
                e.Refused,
                f"Run {run} has {facts[0]} unfinished tasks, so it does not go on to its answer.",
                {"unfinished": int(facts[0])},
            )
        case "run_conflict":
            return (
                e.IdConflict,
                f"Run id {facts[0]!r} is taken: by a run with another team or request, or by a "
                "board or task of this name. Use another id.",
                {},
            )
        case "illegal_state" if run:
            return (
                e.IllegalState,
                f"Run {run} is in phase {facts[0]}, generation {facts[1]}, which does not allow "
                f"this. See callboard runs show {run}.",
                {"phase": facts[0], "generation": int(facts[1] or 0)},
            )
    return None


def _refusal(
    status: str, facts: list[str], task: str, agent: str, board: str
) -> tuple[type[e.CallboardError], str, dict[str, Any]]:
    first, second, third = facts[0], facts[1], facts[2]
    match status:
        case "task_not_found":
            return (
                e.TaskNotFound,
                f"No task {task!r} on board {board!r}. List them: callboard tasks list.",
                {},
            )
        case "agent_not_found":
            return (
                e.AgentNotFound,
                f"No agent {agent!r} is registered. Register it first: "
                f"cb.agents.register({agent!r}).",
                {},
            )
        case "instance_unknown":
            return (
                e.AgentNotFound,
                f"Agent {agent!r} has no such instance: it was silent too long and its work was "
                "given back. Register it again.",
                {},
            )
        case "too_many_instances":
            return (
                e.Refused,
                f"Agent {agent!r} has {first} live instances, its maximum. Stop some, or use "
                "another agent name.",
                {},
            )
        case "error_not_found":
            return (
                e.ErrorNotFound,
                "No error with this fingerprint was recorded in the last 90 days. "
                "List them: callboard errors groups.",
                {},
            )
        case "board_not_found":
            return (
                e.BoardNotFound,
                f"No board {board!r}. A board comes into being with its first task.",
                {},
            )
        case "lease_lost":
            return (
                e.LeaseLost,
                f"Task {task} is no longer held under this fence: it was given back or to "
                f"someone else. "
                "Stop work on it and claim again.",
                {},
            )
        case "cancel_requested":
            return (
                e.TaskCancelled,
                f"The cancellation of task {task} was asked for, so it takes no new turn. "
                "Stop work on it.",
                {},
            )
        case "illegal_state" | "finished":
            state = first or ("finished" if status == "finished" else "")
            return (
                e.IllegalState,
                f"Task {task} is {f'{state}, which' if state else 'in a state that'} does not "
                f"allow this. See callboard tasks show {task}.",
                {"status": state} if state else {},
            )
        case "dependency_failed":
            return (
                e.IllegalState,
                f"Task {task} depends on one that failed or was cancelled, so it would fail again. "
                "Retry that one first: callboard tasks show names the dependencies. "
                "If it was purged, submit both anew.",
                {"status": status},
            )
        case "id_conflict":
            return (
                e.IdConflict,
                f"Task {first} was submitted before with another body. Use another id, or the "
                f"same body.",
                {"task": first},
            )
        case "request_conflict":
            return (
                e.IdConflict,
                f"Request id {first!r} was used within ten minutes by another agent, instance or "
                "board. Use a new id for each claim, and repeat it only from where it was sent.",
                {"request": first},
            )
        case "unique_conflict":
            return (
                e.UniqueConflict,
                f"Unique key {second!r} is taken by unfinished task {third}. Wait for it, or "
                f"drop the key.",
                {"key": second, "holder": third},
            )
        case "board_full":
            return (
                e.BoardFull,
                f"Board {board!r} holds {second} unfinished tasks of at most {first}. "
                "Let agents work some off, or raise its limit: callboard boards set.",
                {"limit": int(first or 0)},
            )
        case "too_many_lanes":
            return (
                e.TooManyLanes,
                f"Board {board!r} has {first} different combinations of kind and requirements "
                f"waiting, "
                "its maximum. Use fewer distinct kinds and requirements; data belongs in the "
                "payload.",
                {"limit": int(first or 0)},
            )
        case "dependency_cycle":
            cycle = first.split(",")
            return (
                e.DependencyCycle,
                f"These tasks would wait for each other for ever: {' -> '.join(cycle)}. "
                "Remove one of these dependencies. Nothing was submitted.",
                {"cycle": cycle},
            )
        case "graph_too_large":
            return (
                e.GraphTooLarge,
                f"The check for cycles met its bound of {first} tasks. Submit dependencies "
                f"before their "
                "dependents (no forward references), which needs no check.",
                {},
            )
        case "unfinished":
            return (
                e.Refused,
                f"Board {board!r} has {first} unfinished tasks. Let them end, or cancel them, "
                "before it is removed.",
                {"unfinished": int(first or 0)},
            )
        case "board_closed":
            return (
                e.BoardClosed,
                f"Board {board!r} is closed: the run that it belongs to has ended. "
                f"Retry the run, which opens it again: callboard runs retry {board}.",
                {},
            )
        case "paused" if first == "closed":
            return (
                e.BoardPaused,
                f"Nothing is claimed from board {board!r}: the run that it belongs to has ended. "
                f"Retry the run, which opens it again: callboard runs retry {board}.",
                {},
            )
        case "paused":
            return (
                e.BoardPaused,
                f"Board {board!r} is paused. Resume it: callboard boards resume {board}.",
                {},
            )
        case "not_ready":
            waits = [part for part in second.split(",") if part]
            return (
                e.NotReady,
                f"Task {task} is {first}. Ask callboard tasks why {task} what it waits for.",
                {"status": first, "waits_for": waits},
            )
        case "held":
            return (
                e.Held,
                f"Task {task} is held by agent {first!r}. Claim another, or wait and try again.",
                {"holder": first, "until_ms": int(float(second or 0))},
            )
        case "does_not_fit":
            return (
                e.DoesNotFit,
                f"Agent {agent!r} lacks what task {task} requires: {first}.",
                {"missing": first.split(", ")},
            )
        case "agent_full":
            return (
                e.AgentFull,
                f"Agent {agent!r} holds as many tasks as it declared that it can. "
                "Finish some, or register it with a higher max_concurrent.",
                {},
            )
        case "at_limit":
            cause, cure = (
                ("gave out as many claims as it may", "Raise its claims_most")
                if first == "claims_most"
                else ("has as many tasks held at once as it may", "Wait, or raise its concurrency")
            )
            return (
                e.AtLimit,
                f"Board {board!r} {cause}. {cure}: callboard boards set {board}.",
                {"limit": first},
            )
        case "agent_draining":
            return (
                e.AgentDraining,
                f"Agent {agent!r} is {first or 'draining'} and takes no new work. "
                "Set it active again: callboard agents activate.",
                {"status": first},
            )
        case "step_fixed":
            return (
                e.Refused,
                f"Board {board!r} was created with a priority step of "
                f"{int(float(first or 0)) / 1e6:g} s, "
                "which cannot be changed. Create another board.",
                {},
            )
        case "too_many_series":
            return (
                e.TooLarge,
                f"{first} names of metrics have settings, the maximum. Use tags instead of names.",
                {"limit": int(first or 0)},
            )
        case "too_many_notes":
            return e.TooLarge, f"Task {task} has {first} notes, the maximum.", {}
        case "newer_format":
            return (
                e.NewerFormat,
                f"This namespace was written in format {first}, newer than this release can read. "
                "Install a newer release of Callboard.",
                {},
            )
        case "no_namespace":
            return (
                e.EngineError,
                "The namespace is gone from the engine (flushed, or another database). Connect "
                "again.",
                {},
            )
        case _:
            return (
                e.Refused,
                f"The engine refused with {status!r} ({', '.join(filter(None, facts))}).",
                {},
            )
