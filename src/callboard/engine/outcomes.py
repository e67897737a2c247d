"""Errors for calls that end without a reply: certainly not run, or nobody knows."""

from __future__ import annotations

from typing import Final

from redis.exceptions import AskError, ReadOnlyError

from callboard.engine.address import Address
from callboard.engine.multiplexer import Call
from callboard.engine.wire import Argument
from callboard.exceptions import EngineUnavailable, OutcomeUnknown

READING: Final = frozenset(
    "DBSIZE EXISTS GET HGET HGETALL HKEYS HLEN HMGET INFO LLEN LRANGE MEMORY MGET OBJECT PING "
    "PTTL SCAN SCARD SISMEMBER SMEMBERS STRLEN TIME TTL TYPE XINFO XLEN XRANGE XREVRANGE ZCARD "
    "ZCOUNT ZRANGE ZRANGEBYSCORE ZREVRANGE ZSCORE".split()
)
"""Commands that change nothing, whatever became of the reply."""


class Unread(EngineUnavailable):
    """What was sent only reads, and its reply was lost: nothing was changed. Safe to repeat."""


def unavailable(
    call: Call, engine: Address, reason: str, failure: BaseException | None
) -> EngineUnavailable:
    """A call that was certainly not run, because of its last refusal or else of *failure*."""
    if call.refusal is not None:
        reason, failure = "the engine refused it", call.refusal
    cure = "Repeat it."
    if isinstance(failure, AskError) and not engine.is_cluster:
        cure = "This is a node of a Cluster: use a redis+cluster:// URL."
    elif isinstance(failure, ReadOnlyError) and not engine.can_move:
        cure = "This is a replica: use the URL of the primary, or of its Sentinels."
    if failure is not None:
        reason = f"{reason}: {str(failure) or type(failure).__name__}"
    error = EngineUnavailable(
        f"{_name(call)} was not run at {engine}: {reason.rstrip('. ')}. {cure}",
        engine=str(engine),
        reason=reason,
    )
    error.__cause__ = failure
    return error


def unknown(call: Call, engine: str, reason: str) -> OutcomeUnknown | Unread:
    """A call that was written, and whose reply will not be seen."""
    if _word(call) in READING:
        return unread(_name(call), engine, reason)
    return OutcomeUnknown(
        f"{_name(call)} was sent to {engine} and may have run: {reason.rstrip('. ')}. "
        "Repeat it only if that does no harm, as with an operation id.",
        engine=engine,
        reason=reason,
    )


def unread(name: str, engine: str, reason: str) -> Unread:
    """A call that only reads, and whose reply will not be seen."""
    return Unread(
        f"{name} got no reply from {engine}: {reason.rstrip('. ')}. It changes nothing: repeat it.",
        engine=engine,
        reason=reason,
    )


def closed(engine: str) -> EngineUnavailable:
    """A call on a connection that its owner closed."""
    return EngineUnavailable(
        f"The connection to {engine} is closed. Open a new one; nothing was run.", engine=engine
    )


def _name(call: Call) -> str:
    """The command without its arguments, which may be secret; for FCALL also the function."""
    word = _word(call)
    return f"{word} {_text(call.command[1])}" if word == "FCALL" else word


def _word(call: Call) -> str:
    return _text(call.command[0])


def _text(word: Argument) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
