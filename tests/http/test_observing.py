"""What is counted of the requests of a process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callboard.domain.access import Caller
from callboard.http.observing import Observed, Requests
from tests.http.support import Served


def samples(text: str) -> dict[tuple[str, str], float]:
    """Value by name and labels, as a parser of the format reads them."""
    return {
        (sample.name, ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_verb_and_class_of_status() -> None:
    requests = Requests()
    requests.record("GET", "/tasks/{task_id}", 200, 0.002, 100)
    requests.record("GET", "/tasks/{task_id}", 404, 0.2, 50)
    requests.record("GET", "/tasks/{task_id}", 0, 20.0, 0)

    found = samples(requests.exposition())

    route = "method=GET,route=/tasks/{task_id}"
    total = "callboard_http_requests_total"
    assert found[total, f"{route},status=2xx"] == 1
    assert found[total, f"{route},status=4xx"] == 1
    assert found[total, f"{route},status=none"] == 1
    bucket = "callboard_http_request_seconds_bucket"
    assert found[bucket, "le=0.001," + route] == 0
    assert found[bucket, "le=0.0025," + route] == 1
    assert found[bucket, "le=0.25," + route] == 2
    assert found[bucket, "le=10.0," + route] == 2
    assert found[bucket, "le=+Inf," + route] == 3
    assert found["callboard_http_request_seconds_count", route] == 3
    assert found["callboard_http_response_bytes_total", route] == 150
    assert found["callboard_http_requests_in_flight", ""] == 0


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 0.0025), (0.9, 0.01), (1.0, 0.01)])
def test_a_share_of_the_times_is_as_precise_as_the_buckets(share: float, seconds: float) -> None:
    requests = Requests()
    for took in [0.002] * 5 + [0.009] * 5:
        requests.record("GET", "/", 200, took, 0)

    assert requests.quantile(share) == pytest.approx(seconds, abs=0.005 * share)


async def test_whoever_asks_for_what_is_no_route_makes_no_new_series(served: Served) -> None:
    for number in range(50):
        await served.call("GET", f"/no/such/path/{number}")
        await served.call("GET", f"/tasks/t-{number}")
    app = Observed(served_app(served), served.coordinator.requests)
    for verb in ("BREW", "SHAKE"):
        await asked(app, verb, "/tasks")

    known = served.coordinator.requests.series
    assert {verb for verb, _ in known} == {"OTHER"}
    assert len(known) == 1


def served_app(served: Served) -> Any:
    from callboard.http.app import Application

    return Application(served.coordinator)


async def asked(
    app: Any, verb: str, path: str, query: bytes = b"", body: bytes = b""
) -> list[dict[str, Any]]:
    """What an application answers to a request whose caller goes away once it is answered."""
    told: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": body}]
    is_begun = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if parts and verb != "GET":
            return parts.pop()
        await is_begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)
        is_begun.set()

    scope: dict[str, Any] = {"type": "http", "method": verb, "path": path, "headers": []}
    scope |= {"query_string": query, "state": {"caller": Caller(name="ci", role="work")}}
    await app(scope, receive, send)
    return told


async def test_routes_stand_for_the_paths_that_fit_them(served: Served) -> None:
    app = Observed(served_app(served), served.coordinator.requests)
    for number in range(20):
        await asked(app, "GET", f"/tasks/t-{number}")
        await asked(app, "GET", f"/no/such/path/{number}")

    known = served.coordinator.requests.series

    assert set(known) == {("GET", "/tasks/{task_id}"), ("GET", "unmatched")}
    assert known["GET", "/tasks/{task_id}"].statuses == {"4xx": 20}
    assert known["GET", "unmatched"].statuses == {"4xx": 20}


async def test_a_request_is_in_flight_until_it_is_answered() -> None:
    requests, release, entered = Requests(), asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        entered.set()
        await release.wait()
        raise RuntimeError("it failed")

    running = asyncio.create_task(asked(Observed(app, requests), "GET", "/"))
    await entered.wait()
    during = requests.in_flight
    release.set()
    with pytest.raises(RuntimeError):
        await running

    assert (during, requests.in_flight) == (1, 0)
    assert requests.series["GET", "unmatched"].statuses == {"none": 1}


async def test_what_waits_is_counted_and_its_time_is_not(served: Served) -> None:
    requests = served.coordinator.requests
    app = Observed(served_app(served), requests)
    await served.ok("PUT", "/agents/mira", {})
    await served.ok("POST", "/tasks", {"kind": "greet", "id": "t-1", "delay": 60})

    await asked(app, "GET", "/tasks/t-1")
    await asked(app, "GET", "/tasks/t-1/wait", b"timeout=0.01")
    await asked(app, "GET", "/tasks/t-1/stream")
    await asked(app, "POST", "/tasks/claim", body=b'{"agent":"mira","poll":0.01}')
    await asked(app, "POST", "/tasks/claim", body=b'{"agent":"mira"}')

    timed = {path: sum(one.buckets) for (_, path), one in requests.series.items()}
    counted = {path: sum(one.statuses.values()) for (_, path), one in requests.series.items()}
    waited, followed = "/tasks/{task_id}/wait", "/tasks/{task_id}/stream"
    assert counted == {"/tasks/{task_id}": 1, waited: 1, followed: 1, "/tasks/claim": 2}
    assert timed == {"/tasks/{task_id}": 1, waited: 0, followed: 0, "/tasks/claim": 1}
