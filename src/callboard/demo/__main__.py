"""``python -m callboard.demo [FOLDER]``: the demo without the rest of the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from callboard.demo import main
from callboard.exceptions import CallboardError


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m callboard.demo", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--no-kill", dest="kill", action="store_false")
    parser.add_argument("--data", type=Path)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    try:
        sys.exit(main(given.folder, given.workers, given.out, given.kill, given.data))
    except CallboardError as error:
        sys.exit(f"{error}")
