"""What operations on messages answer, one for each, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from callboard.engine.answers import Answer, checked
from callboard.engine.replies import raise_refusal


class MessageAnswer(Answer, frozen=True):
    """What became of one message.

    Attributes:
        status: ``ok``, ``replayed``; of a release also ``dead`` (it was its last delivery) or
            ``expired``; else why nothing was done: ``lease_lost held message_not_found
            illegal_state``.
    """

    @property
    def is_ok(self) -> bool:
        """Done as asked, now or by an earlier call."""
        return self.status in ("ok", "replayed", "dead", "expired")

    def check(self, **context: Any) -> MessageAnswer:
        """Return self, or raise the refusal that the status stands for."""
        if not self.is_ok:
            raise_refusal(self.status, (), message_id=self.id, **context)
        return self


def answers_of(reply: Sequence[Any], ids: Sequence[str]) -> list[MessageAnswer]:
    """Pair the ids with the comma-separated words of a reply."""
    checked(reply, "ok")
    words = reply[2].decode().split(",") if ids else []
    return [MessageAnswer(one, word) for one, word in zip(ids, words, strict=True)]
