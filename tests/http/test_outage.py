"""While the engine is away: what strangers are told, what readers are told, what is logged."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.access import Caller
from tests.engine.connection_support import Engine, free_port
from tests.http.nodes import Node
from tests.http.support import serving
from tests.waiting import block_until

pytestmark = pytest.mark.timeout(120)

PLAIN = {
    "detail": "The engine does not answer just now. Nothing was done; repeat the request in a "
    "moment.",
    "code": "engine_unavailable",
    "details": {},
}


@pytest.mark.parametrize("way", ["frozen", "killed"])
def test_strangers_learn_that_the_engine_is_away_and_not_where_it_is(
    namespace: str, way: str
) -> None:
    with (
        Engine(port=free_port()) as engine,
        Node("--url", engine.url, "--namespace", namespace) as node,
    ):
        (engine.freeze if way == "frozen" else engine.kill)()
        ready = node.client.get("/ready")
        if way == "frozen":
            engine.thaw()

    assert (ready.status_code, ready.json()) == (503, PLAIN)
    assert ready.headers["retry-after"] == "1"


def test_whose_key_cannot_be_looked_up_is_a_stranger_still(namespace: str) -> None:
    with (
        Engine(port=free_port()) as engine,
        Node("--url", engine.url, "--namespace", namespace) as node,
    ):
        secret = node.ok("POST", "/keys", {"name": "ci", "role": "read"})["issued"]["secret"]
        engine.kill()
        shown = node.client.get("/tasks", headers={"authorization": f"Bearer {secret}"})

    assert (shown.status_code, shown.json()) == (503, PLAIN)


async def test_who_shows_a_key_is_told_by_ready_what_the_engine_said() -> None:
    def knowing(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            one = Caller(name="ci", role="read", namespaces=("ns",), key_id="k")
            scope.setdefault("state", {})["caller"] = one
            await app(scope, receive, send)

        return call

    with Engine() as engine:
        async with serving(engine.url, wrap=knowing, namespace="ns") as served:
            await served.ok("GET", "/ready")
            engine.freeze()
            ready = await served.call("GET", "/ready")
            engine.thaw()

    assert ready.status_code == 503
    assert "PING got no reply from" in ready.json()["detail"]


@pytest.mark.parametrize("path", ["/tasks/none", "/boards", "/tasks/none/why", "/events/page"])
async def test_a_question_that_got_no_answer_is_not_said_to_have_run(path: str) -> None:
    with Engine() as engine:
        async with serving(engine.url, namespace="ns", call_timeout=0.4, sweeps=False) as served:
            await served.ok("POST", "/tasks", {"kind": "greet", "id": "one"})
            engine.freeze()
            asked = await served.call("GET", path)
            changed = await served.call("POST", "/tasks", {"kind": "greet", "id": "two"})
            engine.thaw()

    assert (asked.status_code, asked.json()["code"]) == (503, "engine_unavailable")
    assert "may have run" not in asked.text
    assert (changed.status_code, changed.json()["code"]) == (503, "outcome_unknown")
    assert "may have run" in changed.json()["detail"]


def test_all_loops_of_a_coordinator_say_together_that_the_engine_went_and_came(
    namespace: str,
) -> None:
    with (
        Engine(port=free_port()) as engine,
        Node("--url", engine.url, "--namespace", namespace, dispatches=True) as node,
        node.client.stream("GET", "/events") as stream,
    ):
        next(stream.iter_bytes())
        assert node.client.get("/ready").status_code == 200
        before = len(node.errors)
        engine.kill()
        block_until(lambda: node.client.get("/ready").status_code == 503, "it is not ready")
        for _ in range(12):  # each takes a quarter of a second, in which the loops try
            assert node.client.get("/ready").status_code == 503
        engine.start()
        block_until(lambda: "answers again" in node.log, "it says that the engine is back")
        block_until(lambda: node.client.get("/ready").status_code == 200, "it is ready")
        told = [line for line in node.errors[before:] if "callboard.http.access" not in line]

    went, came = told
    assert "WARNING callboard.engine  The engine at" in went
    assert "does not answer" in went
    assert "answers again, after" in came
