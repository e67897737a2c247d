"""The demo: a survey of a real source tree by several workers, one of which is killed."""

from __future__ import annotations

from pathlib import Path


def main(
    folder: Path | None = None,
    workers: int = 3,
    out: Path | None = None,
    kill: bool = True,
    data: Path | None = None,
) -> int:
    """Survey a tree of Python source and show it; 0 only if nothing was lost or done twice.

    Args:
        folder: The tree; some packages of the standard library where not given.
        workers: Worker processes, 1 to 64.
        out: A folder for the report, or its file; ``callboard-report`` where not given.
        kill: Kill one of the workers while it holds tasks; takes two workers or more.
        data: Data directory of the embedded engine, chosen as by ``connect``.
    """
    # Workers import this package, and need neither the view nor the story.
    from callboard.demo.story import run

    return run(folder, workers, out, kill, data)
