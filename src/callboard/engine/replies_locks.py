"""What the functions of locks refuse, as exceptions with the cure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_locks(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of locks; None where the refusal is about something else."""
    owner, resource = known.get("owner", ""), known.get("resource", "")
    match status:
        case "lock_held" | "lock_timeout":
            return _in_the_way(status, facts, known)
        case "lock_lost" if "fence" in known:
            return (
                e.LockLost,
                f"Resource {resource!r} is no longer held by {owner} under fence "
                f"{known['fence']}: its lease ran out, it was given back, or it was taken by "
                "force. Stop work on it, and acquire it again.",
                {},
            )
        case "lock_lost":
            return (
                e.LockLost,
                f"Resource {resource!r} is not held by {owner}: it never was, its lease ran out, "
                "it was given back, or it was taken by force. See who holds it: callboard locks "
                f"show {shlex.quote(resource)}. Before more work on it, acquire it again.",
                {},
            )
        case "lease_lost" if "resources" in known:
            return (
                e.LeaseLost,
                f"Owner {owner} is a claim that is held no longer, so it can own no lock. Stop "
                "work on its task and claim again.",
                {},
            )
        case "lock_mismatch":
            used = (
                f"by this owner as {facts[2]}" if facts[1] == "mode" else f"with limit {facts[2]}"
            )
            return (
                e.LockMismatch,
                f"Resource {facts[0]!r} is in use {used}. Ask for it in the same way, or wait "
                "until it is free.",
                {"resource": facts[0], facts[1]: facts[2]},
            )
        case "too_many_locks":
            what = f"Pattern {facts[1]!r} covers" if facts[1] else f"Owner {owner} would hold"
            return (
                e.TooManyLocks,
                f"{what} more than {facts[0]} resources in use, the maximum. Use a pattern "
                "further up, or a narrower one.",
                {"limit": int(facts[0])},
            )
        case "already_waiting":
            return (
                e.AlreadyWaiting,
                f"Owner {owner} waits for {facts[0]} already. Acquire both in one call, or give "
                "each its own owner token.",
                {"waits_for": facts[0].split(",")},
            )
        case "deadlock_victim":
            return (
                e.DeadlockVictim,
                f"Waiting would close a cycle, incident {facts[0]}: release what is held and try "
                "again. See callboard locks incidents.",
                {"incident": facts[0]},
            )
        case "lock_not_found":
            return (
                e.LockNotFound,
                f"Nobody holds {resource!r}. List what is held: callboard locks list.",
                {},
            )
    return None


def _in_the_way(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told:
    """Who holds what was wanted, and until when; a waiter ahead has no such time."""
    until = datetime.fromtimestamp(int(facts[3]) / 1_000, UTC) if facts[3] else None
    agent = f" (agent {facts[2]})" if facts[2] else ""
    how = (
        f"is held by {facts[1]}{agent} until {until:%H:%M:%S} UTC"
        if until
        else f"is reserved for {facts[1]}, which waits longer"
        if facts[1]
        else "was not to be had"
    )
    cure = (
        "Wait longer, or do other work first."
        if status == "lock_timeout"
        else "Acquire it with wait=, or do other work first."
    )
    return (
        e.LockTimeout if status == "lock_timeout" else e.LockHeld,
        f"Resource {facts[0] or ', '.join(known.get('resources', ()))!r} {how}. {cure}",
        {"resource": facts[0], "holder": facts[1], "agent": facts[2], "until": until},
    )
