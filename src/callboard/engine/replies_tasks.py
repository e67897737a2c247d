"""What the functions of tasks refuse, as exceptions with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_tasks(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of tasks; None where the refusal is about something else."""
    return _not_as_it_stands(status, facts, known) or _not_to_be_added(status, facts, known)


def _not_as_it_stands(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """The task is not there, or not in the hands or the state for what was asked."""
    first, second = facts[0], facts[1]
    task, agent, board = (known.get(name, "") for name in ("task", "agent", "board"))
    match status:
        case "task_not_found":
            return (
                e.TaskNotFound,
                f"No task {task!r} on board {board!r}. List them: callboard tasks list.",
                {},
            )
        case "lease_lost":
            return (
                e.LeaseLost,
                f"Task {task} is no longer held under this fence: it was given back or to "
                "someone else. Stop work on it and claim again.",
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
    return None


def _not_to_be_added(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What was to be added is there already in another form, or is more than can be."""
    first, second, third = facts[0], facts[1], facts[2]
    match status:
        case "id_conflict":
            return (
                e.IdConflict,
                f"Task {first} was submitted before with another body. Use another id, or the "
                "same body.",
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
                "drop the key.",
                {"key": second, "holder": third},
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
                "before their dependents (no forward references), which needs no check.",
                {},
            )
        case "too_many_notes":
            return e.TooLarge, f"Task {known.get('task', '')} has {first} notes, the maximum.", {}
    return None
