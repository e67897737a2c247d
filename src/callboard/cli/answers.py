"""Answers of the commands that take many tasks: a line each, and one exit code for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from callboard.cli import failures
from callboard.cli.output import Output
from callboard.exceptions import CallboardError

if TYPE_CHECKING:
    from callboard.engine.answers import Answer


def tell(
    out: Output, answers: Sequence[Answer], words: Mapping[str, str], *, board: str, **more: Any
) -> int:
    """Say what became of each task; the exit code is that of the refusals, or 0.

    Args:
        words: What to say by status, with ``{id}``; ``ok`` stands in for those not named.
        more: What the JSON document says besides.
    """
    refusals = {answer.id: error for answer in answers if (error := _refusal(answer, board))}
    if out.as_json:
        rows = [
            {"id": a.id, "ok": a.is_ok, "status": a.status, "message": _message(refusals.get(a.id))}
            for a in answers
        ]
        out.document({"answers": rows, **more})
    for answer in answers:
        error = refusals.get(answer.id)
        if error is None:
            out.say(words.get(answer.status, words["ok"]).format(id=answer.id))
        elif not out.as_json:
            failures.report(error, as_json=False)
    codes = {failures.exit_code(error) for error in refusals.values()}
    return codes.pop() if len(codes) == 1 else failures.REFUSED if codes else failures.OK


def _refusal(answer: Answer, board: str) -> CallboardError | None:
    try:
        answer.check(board=board)
    except CallboardError as error:
        return error
    return None


def _message(error: CallboardError | None) -> str | None:
    return None if error is None else error.message
