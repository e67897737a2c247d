"""The agents of team.yaml that are Python functions: they plan, read and write the answer.

A function takes one request and returns any JSON value. It may be ``async``. What it raises
is a failed attempt: it is tried again, as the agent's ``retry`` says.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from callboard.teams import PlanRequest, SynthesisRequest, WorkRequest

SUFFIXES = frozenset(
    ".c .cpp .css .csv .go .h .html .java .js .json .lua .md .py .rs .rst .sh .sql .toml .ts .txt "
    ".xml .yaml .yml".split()
)
PASSED_OVER = frozenset({"__pycache__", "node_modules", "venv", "build", "dist"})
FOLDERS_MAX = 5_000
FILES_MAX = 1_000
FILES_EACH = 25


# The planner


def plan(request: PlanRequest) -> dict[str, Any]:
    """Plan two tasks for each part of the folder: count its files, then read the longest.

    The tasks of a plan may have these keys: ``id``, ``title``, ``description``, ``worker`` (a
    member of the team; whoever fits, unless given), ``payload`` (for the worker),
    ``depends_on`` (ids), ``priority``, ``capabilities``, ``suggested_worker``, ``timeout``.
    """
    folder = folder_of(request.request)
    files = sorted(found_in(folder), key=lambda file: (file.parent.as_posix(), file.name))
    tasks: list[dict[str, Any]] = []
    for n, start in enumerate(range(0, len(files), FILES_EACH), 1):
        part = [file.as_posix() for file in files[start : start + FILES_EACH]]
        tasks += [
            {
                "id": f"count-{n}",
                "title": f"Count {part[0]}" + (f" and {len(part) - 1} more" if part[1:] else ""),
                "worker": "counter",
                "payload": {"folder": str(folder), "files": part},
            },
            {
                "id": f"read-{n}",
                "title": f"Read the longest file of part {n}",
                "worker": "reader",
                "payload": {"folder": str(folder)},
                "depends_on": [f"count-{n}"],
            },
        ]
    # Without "done" the planner is asked again as results arrive, with what they are in
    # request.finished, and may add more tasks.
    return {"tasks": tasks, "done": True, "remark": str(folder)}


def folder_of(request: str) -> Path:
    """The first word of the request that is a folder, or where the run was started."""
    for word in request.split():
        for name in (word, word.strip("\"'`.,:;?!()")):
            if name and os.path.isdir(os.path.expanduser(name)):
                return Path(name).expanduser().resolve()
    return Path.cwd()


def found_in(folder: Path) -> Iterator[Path]:
    """The text files below a folder, relative to it; what is hidden or was made is left out."""
    files = 0
    for folders, (path, subfolders, names) in enumerate(os.walk(folder), 1):
        subfolders[:] = sorted(
            name for name in subfolders if name[0] != "." and name not in PASSED_OVER
        )
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and name[0] != "." and name.isprintable():
                yield Path(path, name).relative_to(folder)
                files += 1
            if files == FILES_MAX:
                return
        if folders == FOLDERS_MAX:
            return


# A worker


def read(request: WorkRequest) -> dict[str, Any]:
    """Say how the longest file begins, and which words it uses most.

    The results of the tasks that this one depends on are in ``request.results``.
    """
    counted = [file for outcome in request.results.values() for file in outcome.result["files"]]
    if not counted:
        return {}
    longest = max(counted, key=lambda file: file["lines"])
    text = Path(request.task.payload["folder"], longest["path"]).read_text("utf-8", "replace")
    words = Counter(word.lower() for word in re.findall(r"[^\W\d_]{5,}", text))
    lines = (line.strip(" \t#/*-<>\"'!`") for line in text.splitlines())
    return {
        "path": longest["path"],
        "lines": longest["lines"],
        "begins": next((line[:100] for line in lines if len(line) > 3), ""),
        "words": [word for word, _ in words.most_common(5)],
    }


# The synthesizer


def write(request: SynthesisRequest) -> str:
    """Write the answer, in Markdown, of what the tasks came to."""
    results = [task.result for task in request.tasks if task.status == "done" and task.result]
    files = [file for result in results for file in result.get("files", ())]
    if not files:
        return "There are no text files to survey here."
    lines, words = (sum(file[what] for file in files) for what in ("lines", "words"))
    kinds = Counter(Path(file["path"]).suffix.lower() for file in files)
    by_kind = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    answer = [
        f"{len(files):,} text files with {lines:,} lines and {words:,} words: {by_kind}."
        if files[1:]
        else f"One text file with {lines:,} lines and {words:,} words: {files[0]['path']}.",
        "",
        "The longest:",
        "",
    ]
    read_files = sorted((r for r in results if "begins" in r), key=lambda r: -r["lines"])
    answer += [
        f"- {file['path']}, {file['lines']:,} lines. It begins: {file['begins']!r}. "
        f"Its words: {', '.join(file['words']) or 'none'}."
        for file in read_files[:10]
    ]
    if len(files) >= FILES_MAX:
        answer += ["", f"The survey ended at {FILES_MAX:,} files."]
    failed = [task.title for task in request.tasks if task.status != "done"]
    if failed:
        answer += ["", f"Not done: {', '.join(failed)}."]
    return "\n".join(answer)
