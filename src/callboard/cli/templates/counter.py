"""The agent of team.yaml that is a program: it counts the lines and words of files.

It may be written in any language. One line of JSON comes on standard input, what goes to
standard output is the result. An exit code other than 0 is a failed attempt, with the end
of standard error as its reason.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Answer one request."""
    task = json.load(sys.stdin)["task"]
    folder = task["payload"]["folder"]
    files = []
    for path in task["payload"]["files"]:
        lines, words = count(os.path.join(folder, path))
        files.append({"path": path, "lines": lines, "words": words})
    json.dump({"files": files}, sys.stdout)


def count(path: str) -> tuple[int, int]:
    """The lines and words of one file."""
    lines = words = 0
    with open(path, encoding="utf-8", errors="replace") as text:
        for line in text:
            lines += 1
            words += len(line.split())
    return lines, words


if __name__ == "__main__":
    main()
