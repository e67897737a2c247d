"""The endpoint of this example: it describes the days of a city, and is busy at first.

    python3 service.py [PORT]

The first calls of each task are answered with 503 and the time to come back after, as a
service does that has too much to do. It prints its address, and ends with whoever started it.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUSY_CALLS = 2
BUSY_SECONDS = 1


class Service(ThreadingHTTPServer):
    """Counts the calls of each task, and ends with its parent."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Call)
        self.calls: Counter[str] = Counter()
        self.parent = os.getppid()

    def service_actions(self) -> None:
        """Look, twice a second, whether whoever started this is still there."""
        if os.getppid() != self.parent:
            sys.exit()


class Call(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Describe the days that came as the result of the task before."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # The same for all attempts at one task.
        task = self.headers["Idempotency-Key"]
        self.server.calls[task] += 1
        if self.path != "/describe":
            self.answer(404, {"detail": f"There is no {self.path} here."})
        elif self.server.calls[task] <= BUSY_CALLS:
            self.answer(503, {"detail": "Busy."}, {"Retry-After": str(BUSY_SECONDS)})
        else:
            (before,) = request["results"].values()
            self.answer(200, describe(**before["result"]))

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        """Send a value as JSON."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal is the run's."""


def describe(city: str, days: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean, the longest and the shortest day."""
    return {
        "city": city,
        "mean": round(sum(day["hours"] for day in days) / len(days), 2),
        "longest": max(days, key=lambda day: day["hours"]),
        "shortest": min(days, key=lambda day: day["hours"]),
    }


if __name__ == "__main__":
    with Service(int(sys.argv[1]) if sys.argv[1:] else 0) as service:
        print(f"http://127.0.0.1:{service.server_port}", flush=True)
        service.serve_forever()
