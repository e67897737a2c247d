"""Which run a word of the command line means: an id, the beginning of one, or ``last``."""

from __future__ import annotations

import difflib
import os
import shlex
from typing import TYPE_CHECKING, Final

from callboard.cli.failures import printable
from callboard.config import redact_url
from callboard.domain.run import Run
from callboard.exceptions import InvalidArgument, RunNotFound

if TYPE_CHECKING:
    from callboard.app import Callboard

LAST: Final = "last"
NO_RUNS: Final = 'No runs yet. Start one: callboard run team.yaml "…"'
LOOKED_AT: Final = 1_000
"""Runs whose ids are compared with a word that is no id, the newest first."""

NAMED: Final = 5


async def find_run(cb: Callboard, word: str) -> Run:
    """The run that *word* names: by its id, its beginning where only one has it, or ``last``.

    Raises:
        RunNotFound: None is; the message names the nearest.
        InvalidArgument: Several begin so.
    """
    if word != LAST:
        try:
            return await cb.runs.get(word)
        except (RunNotFound, InvalidArgument):
            pass
    runs = await cb.runs.list(limit=1 if word == LAST else LOOKED_AT)
    if not runs:
        raise RunNotFound(NO_RUNS, run=word)
    if word == LAST:
        return runs[0]
    found = [run for run in runs if word and run.id.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(run.id for run in found[:NAMED])
        more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
        raise InvalidArgument(
            f"{len(found):,} runs begin with {word!r}: {some}{more}. Give more of the id.",
            field="run",
        )
    raise RunNotFound(f"No run {shown(word)!r}{_nearest(word, runs)}", run=word)


def _nearest(word: str, runs: list[Run]) -> str:
    ids = [run.id for run in runs]
    # Who types only a part of an id may have mistyped that part.
    beginnings = {each[: len(word)]: each for each in reversed(ids)}
    close = difflib.get_close_matches(word, [*ids, *beginnings], n=1, cutoff=0.6)
    if close:
        return f"; did you mean {beginnings.get(close[0], close[0])}?"
    return ". See: callboard runs list"


def shown(word: str) -> str:
    """A word of the user's in a message, not at any length."""
    text = printable(word)
    return text if len(text) <= 60 else text[:57] + "..."


def where(cb: Callboard) -> str:
    """What has to follow a command for it to reach the engine that this one is connected to."""
    choice, text = cb.choice, ""
    if choice.source.startswith("argument"):
        if choice.url is not None and choice.url != os.environ.get("CALLBOARD_URL"):
            text = f" --url {shlex.quote(redact_url(choice.url))}"
        elif choice.data_dir is not None:
            text = f" --data {shlex.quote(str(choice.data_dir))}"
    return text + (f" --namespace {cb.namespace.name}" if cb.namespace.name else "")
