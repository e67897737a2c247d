"""The worker that is a program: it compiles the modules of a package, and needs no Callboard.

One line of JSON comes on standard input; what goes to standard output is the result.
"""

from __future__ import annotations

import json
import marshal
import sys
import warnings
from pathlib import Path


def main() -> None:
    """Answer one request."""
    payload = json.load(sys.stdin)["task"]["payload"]
    warnings.simplefilter("ignore")  # What the source could be warned of is not asked here.
    sizes = [0, 0, 0]
    broken = []
    for name in payload["files"]:
        try:
            source = Path(payload["folder"], name).read_bytes()
            sizes = [sum(pair) for pair in zip(sizes, compiled(source, name), strict=True)]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            broken.append(f"{Path(payload['package'], name)}: {error}")
    plain, no_asserts, no_docstrings = sizes
    json.dump(
        {
            "bytecode": plain,
            "asserts": plain - no_asserts,
            "docstrings": no_asserts - no_docstrings,
            "broken": broken,
        },
        sys.stdout,
    )


def compiled(source: bytes, name: str) -> list[int]:
    """Bytes of bytecode: all of it, without asserts, and without docstrings too."""
    return [
        len(marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=level)))
        for level in (0, 1, 2)
    ]


if __name__ == "__main__":
    main()
