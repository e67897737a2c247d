"""An agent that is called: it says where it is reached, and tasks come to it by POST.

    python3 push_agent.py

Python's own library is all it takes. It registers with its address, and the coordinator hands
it tasks of the kind ``words``, and no others. A quick answer carries the result; what takes
longer is accepted with 202 and handed in later. SIGTERM or Ctrl-C: what it has in hand is
finished, then it leaves.

    CALLBOARD_COORDINATOR   http://127.0.0.1:9001
    CALLBOARD_API_KEY       none, as on one's own machine
    AGENT                   its name, push-agent
    HOST, PORT              where it listens, 127.0.0.1 and a free port
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BASE = os.environ.get("CALLBOARD_COORDINATOR", "http://127.0.0.1:9001")
AGENT = os.environ.get("AGENT", "push-agent")
HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ.get("PORT", "0"))
QUICK_CHARACTERS = 1_000

in_hand: set[threading.Thread] = set()
seen: dict[str, int] = {}
"""The highest fence of each task: what comes again with the same one is not done twice."""


def count_words(data: Any) -> dict[str, int]:
    """The work: how often each word comes."""
    text = text_of(data)
    if text is None:
        raise ValueError("the task has no text")
    found: dict[str, int] = {}
    for word in text.lower().split():
        found[word] = found.get(word, 0) + 1
    return found


def text_of(data: Any) -> str | None:
    """What is to be counted. A task's data is what anybody sent: it may be no object at all."""
    text = data.get("text") if isinstance(data, dict) else None
    return text if isinstance(text, str) else None


class Agent(BaseHTTPRequestHandler):
    """Answers the coordinator."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a task."""
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/tasks/execute":
            self._answer(404, {"detail": "no such path"})
            return
        task = message["payload"]
        if seen.get(task["task_id"], -1) >= task["fence"]:
            self._answer(202, {"status": "accepted"})
            return
        data = task["task_data"]
        if len(text_of(data) or "") > QUICK_CHARACTERS:
            worker = threading.Thread(target=work, args=(task,))
            in_hand.add(worker)
            worker.start()
            seen[task["task_id"]] = task["fence"]
            self._answer(202, {"status": "accepted"})
            return
        # Not noted as seen: should the answer be lost, it is counted again.
        try:
            self._answer(200, {"status": "completed", "result": count_words(data)})
        except ValueError as error:
            self._answer(200, {"status": "failed", "error": str(error)})

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: what comes is told by the work."""


def work(task: dict[str, Any]) -> None:
    """Do what takes longer, and hand the result in."""
    try:
        ending = {"fence": task["fence"], "result": count_words(task["task_data"])}
        send("POST", f"/tasks/{task['task_id']}/complete", ending)
    finally:
        in_hand.discard(threading.current_thread())


def send(verb: str, path: str, body: Any) -> Any:
    """Send JSON; repeat what got no answer, or 503: a fence makes that harmless."""
    headers = {"content-type": "application/json"}
    if key := os.environ.get("CALLBOARD_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    for turn in range(30):
        request = urllib.request.Request(
            BASE + path, json.dumps(body).encode(), headers, method=verb
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or turn == 29:
                raise
        except OSError:
            if turn == 29:
                raise
        time.sleep(1)


def main() -> None:
    """Listen, register, say now and then that it lives, leave."""
    server = ThreadingHTTPServer((HOST, PORT), Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    leaving = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leaving.set())
    registration = {
        "agent_id": AGENT,
        "agent_type": "worker",
        "capabilities": ["words"],
        "kinds": ["words"],
        "endpoints": {"http": f"http://{HOST}:{server.server_port}"},
    }
    send("POST", "/agents/register", registration)
    print(f"Agent {AGENT} listens on port {server.server_port}.", flush=True)
    while not leaving.wait(30):
        send("POST", f"/agents/{AGENT}/heartbeat", {})
    send("PUT", f"/agents/{AGENT}/status", {"status": "inactive"})
    for worker in list(in_hand):
        worker.join()
    server.shutdown()
    send("POST", f"/agents/{AGENT}/leave", {})
    print(f"Agent {AGENT} has left.", flush=True)


if __name__ == "__main__":
    main()
