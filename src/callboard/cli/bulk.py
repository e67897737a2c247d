"""Many tasks from a file: all lines are read and checked before the first is submitted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from callboard.cli import parse
from callboard.cli.output import console
from callboard.domain.ordering import sort_batch
from callboard.domain.task import BATCH_MAX, TaskSpec
from callboard.engine.codec import row_of
from callboard.exceptions import CallboardError, InvalidArgument

if TYPE_CHECKING:
    from callboard.services.tasks import TaskHandle, Tasks

STEP: Final = 2 * BATCH_MAX
"""Tasks between two moves of the progress bar; the library sends them in two calls."""


class _Line(TaskSpec, forbid_unknown_fields=True):
    """A task as a line of a file: a misspelt field is an error, the payload stays as written."""

    payload: msgspec.Raw = msgspec.Raw(b"null")


def read_specs(source: str) -> list[TaskSpec]:
    """Read and check the tasks of a file, or of standard input for ``-``.

    Empty lines are passed over.

    Raises:
        InvalidArgument: With the number of the line and what is wrong in it.
        DependencyCycle: Tasks of the file would wait for each other for ever.
    """
    decoder = msgspec.json.Decoder(_Line)
    specs: list[TaskSpec] = []
    for number, line in enumerate(parse.source("--from", source).splitlines(), 1):
        if not line.strip():
            continue
        try:
            spec = decoder.decode(line)
            row_of(spec)
        except InvalidArgument as error:
            message = f"Line {number} of {_name(source)}: {error.message} Nothing was added."
            raise type(error)(message, **{**error.details, "line": number}) from error
        except (msgspec.DecodeError, UnicodeError) as error:
            raise InvalidArgument(
                f"Line {number} of {_name(source)} is no task: {error}. Nothing was added. "
                'A line is as {"kind": "greet", "payload": {"name": "Ada"}}.',
                line=number,
            ) from error
        specs.append(spec)
    sort_batch(specs)
    return specs


async def submit(tasks: Tasks, specs: Sequence[TaskSpec], *, created_by: str) -> list[TaskHandle]:
    """Submit them in order, with a progress bar on stderr where a person looks at it."""
    handles: list[TaskHandle] = []
    with _progress(len(specs)) as advance:
        for start in range(0, len(specs), STEP):
            part = specs[start : start + STEP]
            try:
                handles += await tasks.submit_many(part, created_by=created_by)
            except CallboardError as error:
                raise _with_count(error, len(handles)) from error
            advance(len(part))
    return handles


def _with_count(error: CallboardError, before: int) -> CallboardError:
    """The same error, saying how many tasks were added all the same."""
    count = before + int(error.details.get("submitted", 0))
    if count:
        error.message += f" {count:,} tasks were added; those with an id may be given again."
    error.details = {**error.details, "submitted": count}
    return error


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty() or total <= STEP:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("Adding", total=total)
        yield lambda count: progress.advance(task, count)


def _name(source: str) -> str:
    return "standard input" if source == "-" else source
