"""A coordinator in a process of its own, started as a user starts it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 20.0
#: The service has this core to itself; the engine and the load share the others.
CORE = 1


class Service:
    """One running coordinator."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def cpu_seconds(self) -> float:
        """User and system time that the process has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def post(self, path: str, body: Any) -> Any:
        """One request by a plain client; its JSON."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def get(self, path: str) -> Any:
        """The JSON of a path."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def wait_until_ready(self) -> None:
        """Return once it serves."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"The coordinator ended with {self._process.returncode}.")
            with contextlib.suppress(OSError):
                self.get("/ready")
                return
            time.sleep(0.02)
        raise RuntimeError("The coordinator did not get ready.")

    def stop(self) -> None:
        """End it in good order."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def serving(engine_url: str, *options: str) -> Iterator[Service]:
    """A coordinator on the engine at this URL."""
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("callboard")),
        *("serve", "--url", engine_url, "--adopt", "--port", str(port), *options),
    ]
    if shutil.which("taskset") and (os.cpu_count() or 1) > CORE:
        command = ["taskset", "-c", str(CORE), *command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    service = Service(process, port)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
