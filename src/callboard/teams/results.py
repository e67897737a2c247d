"""Results handed from one agent to the next, within a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from callboard.domain.run import member_of
from callboard.domain.task import Status, Task
from callboard.teams.requests import Outcome

CUT_MIN: Final = 200
"""Even where very many share the bound, this much of a large result is left."""

ERROR_MAX: Final = 4_096

TITLE_MAX: Final = 200
"""A title may be as long as a text; this much says which task it is, and very many are told."""


def outcomes_of(
    tasks: Sequence[Task], run: str, bytes_max: int, notes: dict[str, tuple[str, ...]] | None = None
) -> tuple[Outcome, ...]:
    """How these tasks ended; their results together are about *bytes_max* long at most.

    Small results stay whole, and the large ones share what is left evenly. A text that is
    cut keeps its beginning and its end, since conclusions stand at the end.
    """
    encoded = [b"" if task.result is None else msgspec.json.encode(task.result) for task in tasks]
    share = _share([len(each) for each in encoded], bytes_max)
    found: list[Outcome] = []
    for task, raw in zip(tasks, encoded, strict=True):
        is_cut = len(raw) > share
        found.append(
            Outcome(
                id=task.id,
                title=short_title(task.title),
                status=task.status.value,
                worker=member_of(task.agent, run),
                result=_cut(task.result, raw, share) if is_cut else task.result,
                error=_error_of(task),
                is_truncated=is_cut,
                notes=(notes or {}).get(task.id, ()),
            )
        )
    return tuple(found)


def short_title(title: str) -> str:
    """As much of a title as agents are told of other tasks: at most 200 characters."""
    return title if len(title) <= TITLE_MAX else f"{title[: TITLE_MAX - 1]}…"


def _share(sizes: Sequence[int], bytes_max: int) -> int:
    """The size at which to cut, so that all together stay within the bound."""
    left, count = bytes_max, len(sizes)
    for size in sorted(sizes):
        if size * count > left:
            return max(CUT_MIN, left // count)
        left -= size
        count -= 1
    return max(sizes, default=0)


def _cut(result: Any, raw: bytes, share: int) -> Any:
    text = result if isinstance(result, str) else raw.decode()
    data = text.encode()
    head = data[: share * 2 // 3].decode(errors="ignore")
    tail = data[len(data) - share // 3 :].decode(errors="ignore")
    if isinstance(result, str):
        return f"{head}\n[… {len(data) - share:,} bytes left out …]\n{tail}"
    return {"bytes": len(raw), "head": head, "tail": tail}


def _error_of(task: Task) -> str | None:
    if task.status is Status.FAILED:
        message = str((task.error or {}).get("message", "no message was kept"))
        cause = f" ({task.cause} failed)" if task.cause and task.cause not in message else ""
        return message[:ERROR_MAX] + cause
    return task.reason[:ERROR_MAX] if task.status is Status.CANCELLED and task.reason else None
