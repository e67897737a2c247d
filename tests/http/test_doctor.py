"""``callboard doctor`` at a coordinator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from callboard.cli.doctor_coordinator import of_system
from callboard.dispatch.dispatcher import DispatchState
from callboard.http.system import EngineState, NamespaceState, RequestState, System
from tests.engine.connection_support import Engine, free_port
from tests.http.nodes import PROGRAM, Node, engine_of
from tests.waiting import block_until

pytestmark = pytest.mark.timeout(180)


def examined(
    url: str, env: Mapping[str, str] | None = None
) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """The exit code; level, text and cure of the last finding about each thing."""
    ran = subprocess.run(
        [*PROGRAM, "--json", "doctor", "--url", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=env,
    )
    found = json.loads(ran.stdout)["findings"]
    return ran.returncode, {
        one["about"]: (one["level"], one["text"], one.get("cure", "")) for one in found
    }


def test_nobody_there_is_exit_code_3_and_says_how_to_start_one() -> None:
    code, found = examined(f"http://127.0.0.1:{free_port()}")

    assert code == 3
    assert found["reach"][0] == "problem"
    assert "callboard serve" in found["reach"][2]


def test_one_that_is_well_is_told_by_its_parts(valkey_url: str, namespace: str) -> None:
    with Node(*engine_of(valkey_url, namespace)) as node:
        block_until(
            lambda: node.ok("GET", "/system")["system"]["namespaces"][0]["swept_at"], "its janitor"
        )
        code, found = examined(node.url)

    assert code == 0
    about = f"namespace {namespace}"
    assert {name for name, finding in found.items() if finding[0] != "ok"} <= {about, "durability"}
    assert "valkey" in found["engine"][1]
    assert "the stream of events begins" in found["events"][1]
    assert "within" in found["clock"][1]
    assert "--no-dispatch" in found[about][2]


def test_an_engine_that_is_away_is_a_problem_with_a_cure(namespace: str) -> None:
    with (
        Engine(port=free_port()) as engine,
        Node("--url", engine.url, "--namespace", namespace) as node,
    ):
        engine.kill()
        block_until(lambda: node.client.get("/ready").status_code == 503, "it is not ready")
        code, found = examined(node.url)

    assert code == 1
    assert found["ready"][0] == "problem"
    assert found["engine"][0] == "problem"
    assert "away" in found["engine"][1]


def counts(failures: int = 0) -> RequestState:
    return RequestState(in_flight=1, total=9, failures=failures, p50_ms=1, p95_ms=2, p99_ms=3)


def state(**changes: Any) -> System:
    """A coordinator that is well, but for the changes."""
    from callboard import __version__

    now = datetime.now(UTC)
    engine = EngineState(
        software="valkey",
        version="9.1.2",
        durability="everysec",
        is_cluster=False,
        is_connected=True,
        latency_ms=0.2,
        offset_ms=0.0,
    )
    namespace = NamespaceState(
        name="", is_connected=True, listeners=0, swept_at=now, dispatcher=dispatching()
    )
    given: dict[str, Any] = {
        "version": __version__,
        "node": "n1",
        "pid": 7,
        "started_at": now,
        "uptime_seconds": 60.0,
        "time": now,
        "is_stopping": False,
        "engine": engine,
        "namespaces": [namespace],
        "requests": counts(),
    }
    return System(**{**given, **changes})


def dispatching(seconds_ago: float = 0.5) -> DispatchState:
    looked_at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return DispatchState(is_running=True, looked_at=looked_at, pushed=3)


def judged(system: System) -> dict[str, tuple[str, str]]:
    at = datetime.now(UTC).timestamp()
    return {one.about: (one.level, one.text) for one in of_system(system, at, at)}


def test_a_janitor_that_stands_still_is_a_problem() -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=40)
    still = NamespaceState(
        name="x", is_connected=True, listeners=0, swept_at=long_ago, dispatcher=None
    )

    found = [
        one
        for one in of_system(state(namespaces=[still]), 0, datetime.now(UTC).timestamp())
        if one.about == "namespace x"
    ]

    assert found[0].level == "problem"
    assert "40 s ago" in found[0].text
    assert found[1].level == "note"


def test_a_coordinator_whose_clock_is_off_is_not_said_to_stand_still() -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    well = NamespaceState(
        name="", is_connected=True, listeners=0, swept_at=ahead, dispatcher=dispatching(-300)
    )
    behind = msgspec.structs.replace(
        well, swept_at=ahead - timedelta(minutes=10), dispatcher=dispatching(300)
    )

    for seconds, namespace in ((300, well), (-300, behind)):
        time = datetime.now(UTC) + timedelta(seconds=seconds)
        at = time.timestamp()
        found = of_system(state(time=time, namespaces=[namespace]), at, at)
        assert {one.level for one in found} == {"ok"}


def test_a_dispatch_loop_that_stands_still_is_a_problem() -> None:
    still = NamespaceState(
        name="",
        is_connected=True,
        listeners=0,
        swept_at=datetime.now(UTC),
        dispatcher=dispatching(seconds_ago=60),
    )

    level, text = judged(state(namespaces=[still]))["namespace default"]

    assert level == "problem"
    assert "stands still" in text


@pytest.mark.parametrize(
    ("about", "changes", "said"),
    [
        ("coordinator", {"version": "0.0.1"}, "0.0.1"),
        ("clock", {"time": datetime.now(UTC) + timedelta(hours=1)}, "behind the coordinator's"),
        (
            "requests",
            {"requests": counts(failures=2)},
            "answered with 500",
        ),
    ],
    ids=["version", "clock", "failures"],
)
def test_what_is_worth_knowing_is_a_note(about: str, changes: dict[str, Any], said: str) -> None:
    level, text = judged(state(**changes))[about]

    assert level == "note"
    assert said in text


def test_all_is_well_without_a_note() -> None:
    assert {level for level, _ in judged(state()).values()} == {"ok"}
