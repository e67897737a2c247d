"""What the functions of flow control and of recurring tasks refuse, with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.domain.task import at_ms
from callboard.engine.told import Told


def of_flow(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of keys and of recurring tasks; None where it is about something else."""
    key, recurring = known.get("key", ""), known.get("recurring", "")
    match status:
        case "at_limit" if facts[0] in ("concurrency", "rate", "paused") and facts[1]:
            return _held_back(facts[0], facts[1], int(float(facts[2] or 0)), known)
        case "flow_key_not_found":
            return (
                e.FlowKeyNotFound,
                f"Nothing is set for key {key!r}. List what is: callboard flow list.",
                {},
            )
        case "too_many_keys":
            what = "patterns" if str(key).endswith("*") else "keys"
            return (
                e.TooLarge,
                f"Something is set for {int(facts[0]):,} {what} already, the maximum. Remove some, "
                "or set a pattern: a key that ends with *.",
                {"limit": int(facts[0])},
            )
        case "recurring_not_found":
            return (
                e.RecurringNotFound,
                f"No recurring task {recurring!r}. List them: callboard recurring list.",
                {},
            )
        case "recurring_conflict":
            return (
                e.IdConflict,
                f"Recurring task {recurring!r} is there with another definition. Replace it "
                "(replace=True, --replace), or use another name.",
                {},
            )
        case "too_many_recurring":
            return (
                e.TooLarge,
                f"There are {int(facts[0]):,} recurring tasks, the maximum. Delete some.",
                {"limit": int(facts[0])},
            )
    return None


def _held_back(what: str, key: str, until_ms: int, known: Mapping[str, Any]) -> Told:
    task = known.get("task", "")
    details: dict[str, Any] = {"limit": f"{what}_key" if what != "paused" else what, "key": key}
    if what == "paused":
        text = f"tasks with key {key!r} are paused. Resume them: callboard flow resume {key}."
    elif what == "concurrency":
        text = (
            f"as many tasks with concurrency key {key!r} run as may at once. Wait, or raise the "
            f"limit: callboard flow limit {key}."
        )
    else:
        details["until"] = at_ms(until_ms)
        text = f"its rate key {key!r} lets the next through at {at_ms(until_ms):%H:%M:%S.%f} UTC."
    return e.AtLimit, f"Task {task} cannot be claimed now: {text}", details
