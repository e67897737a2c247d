"""Run the pipeline beside the service that it needs.

    python3 run.py ["REQUEST"] [OPTIONS OF callboard run]

The service is started on a free port, and stopped when the run has ended.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main(request: str = "How long are the days?", *options: str) -> int:
    """Answer with the exit code of ``callboard run``."""
    with subprocess.Popen(
        [sys.executable, FOLDER / "service.py"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the run; the service stays until it has ended.
    ) as service:
        try:
            assert service.stdout is not None
            address = service.stdout.readline().strip()
            if not address:
                return 1  # It has said why.
            print(f"The service listens at {address}", file=sys.stderr)
            team = str(FOLDER / "team.yaml")
            command = ["run", team, request, "--var", f"SERVICE={address}", *options]
            return run(sys.executable, "-m", "callboard.cli", *command)
        finally:
            service.terminate()


def run(*command: str) -> int:
    """Run a command to its end; signals to end are passed on, and its end is awaited."""
    with subprocess.Popen(command) as child:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal sends it to both.
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
