"""Runs one of ``examples/primitives``, on an engine of its own, as its first lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples/primitives"
DEADLINE_SECONDS = 60


def story(name: str) -> list[str]:
    """The lines that ``examples/primitives/{name}.py`` prints; it must end well."""
    environment = {key: value for key, value in os.environ.items() if key[:9] != "CALLBOARD"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()
