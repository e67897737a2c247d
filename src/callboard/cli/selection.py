"""Many tasks chosen by a filter: said first, and asked about where it cannot be undone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from callboard.cli.failures import counted
from callboard.cli.output import Output
from callboard.exceptions import InvalidArgument


def confirmed(
    out: Output, verb: str, ids: Sequence[str], *, dry_run: bool, yes: bool, noun: str = "task"
) -> bool:
    """Whether to go on; if not, what would have been done has been said.

    Raises:
        InvalidArgument: Nobody is there to be asked, and ``--yes`` was not given.
    """
    if dry_run or not ids:
        _say(out, verb, ids, noun, dry_run=dry_run)
        return False
    if yes:
        return True
    if out.as_json or not sys.stdin.isatty():
        raise InvalidArgument(
            f"This would {verb} {counted(len(ids), noun)}. "
            f"Say --yes to do it{', or --dry-run to see them' if noun == 'task' else ''}."
        )
    if typer.confirm(f"This will {verb} {counted(len(ids), noun)}. Go on?", err=True):
        return True
    out.remark("Nothing was changed.")
    return False


def _say(out: Output, verb: str, ids: Sequence[str], noun: str, *, dry_run: bool) -> None:
    if out.as_json:
        out.document({"answers": [], "would": {"verb": verb, "ids": list(ids)}})
        return
    if not ids:
        out.say(f"No {noun} matches, so nothing was changed.")
        return
    out.say(f"Would {verb} {counted(len(ids), noun)}:", *(f"  {task_id}" for task_id in ids))
