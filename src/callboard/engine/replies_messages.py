"""What the functions of messages refuse, as exceptions with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_messages(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of messages; None where the refusal is about something else."""
    message, inbox = known.get("message_id", ""), known.get("inbox", "")
    match status:
        case "message_not_found":
            where = f" in the inbox of {inbox!r}" if inbox else ""
            return (
                e.MessageNotFound,
                f"No message {message!r}{where}. Read and expired ones are kept for a day: "
                "callboard messages history.",
                {},
            )
        case "inbox_full":
            return (
                e.InboxFull,
                f"The inbox of {facts[0]} is full. Let it take and acknowledge messages, or raise "
                f"its bound: callboard messages limit {facts[0].partition(',')[0]} N.",
                {"agents": [name for name in facts[0].split(",") if name]},
            )
        case "not_a_peer":
            return (
                e.NotAPeer,
                f"Agent {facts[0]!r} is no peer of the sender, so peer_to_peer does not reach it. "
                "Add it first: cb.messages.add_peer.",
                {"agent": facts[0]},
            )
        case "not_in_hierarchy":
            return (
                e.NotInHierarchy,
                f"Agent {facts[0]!r} is neither above nor below the sender, so hierarchical does "
                "not reach it. Add it first: cb.messages.add_subordinate.",
                {"agent": facts[0]},
            )
        case "too_many_recipients":
            return (
                e.TooManyRecipients,
                "More than 1,000 agents would get this message. Use a topic, or a broadcast.",
                {},
            )
        case "too_many" if inbox:
            return (
                e.TooLarge,
                f"{inbox} would have more than {facts[1]} {facts[0]}. Remove some first.",
                {"limit": int(facts[1] or 0)},
            )
        case "deadlock_victim" if message:
            return (
                e.DeadlockVictim,
                f"Request {message} would have closed a circle of waits, so it was not sent. "
                "Give back what you hold of it, and try again.",
                {"incident": facts[0]},
            )
        case "already_answered":
            return (
                e.AlreadyAnswered,
                f"Request {message} was answered before, by reply {facts[0]}.",
                {"reply": facts[0]},
            )
        case "expired" if message:
            return (
                e.MessageExpired,
                f"Request {message} is over: its deadline passed, and nobody waits any more.",
                {},
            )
        case "not_a_request":
            return (
                e.NotARequest,
                f"Message {message} is no request, so nobody waits for a reply. "
                "Send its sender a message instead: cb.messages.send(..., in_reply_to=...).",
                {},
            )
        case "id_conflict" if "message_id" in known:
            return (
                e.IdConflict,
                f"Message {facts[0] or message} was sent before with another body or address. "
                "Use another id, or the same message.",
                {},
            )
        case "lease_lost" if message:
            return (
                e.LeaseLost,
                f"Message {message} is no longer held under this fence: it went back to the inbox, "
                "or to somebody else. Take it again.",
                {},
            )
        case "held" if message:
            return (
                e.Held,
                f"Message {message} is taken. Let its taker acknowledge it, or present its fence.",
                {},
            )
        case "illegal_state" if message:
            return (
                e.IllegalState,
                f"Message {message} is in a state that does not allow this. "
                f"See callboard messages show {message}.",
                {},
            )
    return None
