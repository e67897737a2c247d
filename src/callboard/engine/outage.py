"""What a process says of an engine that does not answer: once, then now and then, then the end.

Each connection, and each loop that asks the engine again and again, has a ``Witness``. All
witnesses of one engine share its voice, so that a hundred loops say no more than one.
"""

from __future__ import annotations

import logging
import time
from typing import Final
from weakref import WeakSet

from callboard.exceptions import CallboardError, EngineError, EngineUnavailable, OutcomeUnknown

REPEAT_SECONDS: Final = 30.0
"""How often it is said that the engine is away still, or that it refuses the same thing still."""

_log = logging.getLogger("callboard.engine")


class Voice:
    """What is said of one engine by all who need it in this process.

    Attributes:
        since: When it went, by the monotonic clock; None while it answers.
        tries: How often it was tried since.
    """

    def __init__(self, engine: str) -> None:
        self.since: float | None = None
        self.tries = 0
        self._engine = engine or "that is asked"
        self._said_at = 0.0
        self._failed_at = 0.0
        self._lost: WeakSet[Witness] = WeakSet()
        self._waiting: WeakSet[Witness] = WeakSet()

    def failed(self, reason: str, now: float, by: Witness | None = None) -> None:
        """It was tried in vain."""
        is_quiet = now - self._failed_at >= REPEAT_SECONDS
        if is_quiet and not (self._lost or self._waiting):
            self.since = None  # Who waited is gone, and saw no end of the outage before.
        self._failed_at = now
        if by is not None:
            self._waiting.add(by)
        if self.since is None:
            self.since, self.tries, self._said_at = now, 1, now
            _log.warning("The engine at %s does not answer: %s", self._engine, reason)
            return
        self.tries += 1
        if now - self._said_at >= REPEAT_SECONDS:
            self._said_at = now
            _log.warning(
                "The engine at %s has not answered for %.0f s and %d tries: %s",
                *(self._engine, now - self.since, self.tries, reason),
            )

    def lost(self, connection: Witness, reason: str, now: float) -> None:
        """A connection was lost: it is back no sooner than all that were."""
        self.failed(reason, now, connection)
        self._lost.add(connection)

    def answered(self, by: Witness, now: float) -> None:
        """It answered one of those whom it had not."""
        self._lost.discard(by)
        self._waiting.discard(by)
        if self.since is not None and not self._lost:
            _log.warning(
                "The engine at %s answers again, after %.1f s and %d tries.",
                *(self._engine, now - self.since, self.tries),
            )
            self.since = None

    def leave(self, by: Witness) -> None:
        """One of those who wait was closed by its owner; with the last the outage is forgotten."""
        self._lost.discard(by)
        self._waiting.discard(by)
        if not (self._lost or self._waiting):
            self.since = None


_voices: dict[str, Voice] = {}


def voice_of(engine: str) -> Voice:
    """The voice of the engine at an address, as errors name it; one for each in a process."""
    return _voices.setdefault(engine, Voice(engine))


class Witness:
    """One who asks the engine again and again, and tells how it went.

    Args:
        what: What waits for the engine meanwhile, as the begin of a sentence.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._voice: Voice | None = None
        self._refusal = ""
        self._refused = 0
        self._said_at = 0.0

    def lost(self, engine: str, reason: object) -> None:
        """The connection to the engine is gone; ``answered`` ends that, and nothing else."""
        self._voice = voice_of(engine)
        self._voice.lost(self, str(reason), time.monotonic())

    def tried(self, engine: str, reason: object) -> None:
        """It was tried in vain to connect."""
        self._voice = voice_of(engine)
        self._voice.failed(str(reason), time.monotonic(), self)

    def failed(self, error: EngineError) -> None:
        """What was asked failed: the engine does not answer, or it answered that it cannot."""
        now = time.monotonic()
        if isinstance(error, EngineUnavailable | OutcomeUnknown):
            self._voice = voice_of(str(error.details.get("engine", "")))
            self._voice.failed(_reason(error), now, self)
            return
        self._refused += 1
        if error.code != self._refusal or now - self._said_at >= REPEAT_SECONDS:
            self._refusal, self._said_at = error.code, now
            _log.warning("%s waits for the engine (try %d): %s", self._what, self._refused, error)

    def answered(self) -> None:
        """The engine did what was asked."""
        if self._voice is not None:
            voice, self._voice = self._voice, None
            voice.answered(self, time.monotonic())
        if self._refused:
            _log.info("%s goes on, after %d tries.", self._what, self._refused)
            self._refusal, self._refused = "", 0

    def leave(self) -> None:
        """Its owner closes it, or waits for the engine no more; repeatable."""
        voice, self._voice = self._voice, None
        if voice is not None:
            voice.leave(self)


def _reason(error: CallboardError) -> str:
    """Why, without the address, which the line begins with."""
    return str(error.details.get("reason") or error.message)
