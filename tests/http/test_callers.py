"""Who asks: what a key for one agent, or for some namespaces, may do through the operations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from callboard.domain.access import Caller, Role
from tests.http.support import Served, serving


class As:
    """Makes every request one of this caller."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.caller: Caller | None = None
        self.also: Callable[[Any], None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            namespace = self.app.coordinator.settings.namespace
            scope.setdefault("state", {}).update(caller=self.caller, namespace=namespace)
            if self.also is not None:
                self.also(scope)
        await self.app(scope, receive, send)


class Asked(Served):
    """A coordinator that is asked by callers of the test's choice."""

    layer: As

    def asks(self, role: Role = "work", **rest: Any) -> None:
        self.layer.caller = Caller(name="ci", key_id="k", role=role, **rest)


@pytest_asyncio.fixture
async def asked(valkey_url: str, namespace: str) -> AsyncIterator[Asked]:
    layers: list[As] = []

    def wrap(app: Any) -> As:
        layers.append(As(app))
        return layers[0]

    async with serving(valkey_url, wrap, namespace=namespace) as service:
        found = Asked(service.coordinator, service.application, service.port, service.client)
        found.layer = layers[0]
        yield found


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("PUT", "/agents/noor", {}),
        ("POST", "/agents/noor/beat", {}),
        ("POST", "/agents/beats", {"beats": [{"agent": "mira"}, {"agent": "noor"}]}),
        ("POST", "/tasks/claim", {"agent": "noor"}),
        ("POST", "/messages", {"to": "mira", "sender": "noor"}),
        ("POST", "/messages/batch", {"specs": [{"to": "mira", "sender": "noor"}]}),
        ("POST", "/inboxes/noor/take", {}),
        ("POST", "/conflicts/c-1/votes", {"voter": "noor", "candidate": None}),
        ("PUT", "/agents/noor/activity", {"status": "idle"}),
    ],
    ids=[
        *("register", "beat", "beats", "claim", "send", "batch", "take", "vote", "activity"),
    ],
)
async def test_a_key_for_one_agent_acts_as_no_other(
    asked: Asked, verb: str, path: str, body: Any
) -> None:
    asked.asks(agent="mira")

    response = await asked.call(verb, path, body)

    assert (response.status_code, response.json()["code"]) == (403, "not_permitted")


async def test_a_key_for_one_agent_acts_as_this_one_and_reads_others(asked: Asked) -> None:
    asked.asks(agent="mira")

    await asked.ok("PUT", "/agents/mira", {})
    sent = await asked.ok("POST", "/messages", {"to": "noor", "sender": "mira"})
    inbox = await asked.ok("GET", "/inboxes/noor")

    assert sent["sent"]["recipients"] == ["noor"]
    assert inbox["page"]["total"] == 1


async def test_keys_and_the_audit_log_are_not_for_administrators_of_one_namespace(
    asked: Asked,
) -> None:
    asked.asks("admin", namespaces=("elsewhere",))
    refused = [
        (await asked.call("GET", "/keys")).status_code,
        (await asked.call("POST", "/keys", {"name": "x"})).status_code,
        (await asked.call("GET", "/audit")).status_code,
    ]
    asked.asks("admin")

    assert refused == [403, 403, 403]
    # Keys are of the whole engine, so other tests may have made some.
    assert (await asked.ok("GET", "/keys"))["status"] == "success"


async def test_a_role_that_does_not_suffice_is_named_with_the_one_that_would(asked: Asked) -> None:
    asked.asks("work")

    response = await asked.call("POST", "/boards/build/pause")

    assert response.status_code == 403
    assert response.json()["details"]["wanted"] == "operate"


async def test_what_a_key_does_is_done_by_its_name_whatever_it_says(asked: Asked) -> None:
    asked.asks("operate")
    cursor = (await asked.ok("GET", "/events/cursor"))["cursor"]

    await asked.ok("POST", "/tasks", {"kind": "x", "id": "t-1", "created_by": "ann"})
    await asked.ok("POST", "/tasks/t-1/cancel", {"by": "ann"})

    task = (await asked.ok("GET", "/tasks/t-1"))["task"]
    page = (await asked.ok("GET", f"/events/page?cursor={cursor}&types=task:cancelled"))["page"]
    assert task["created_by"] == "ci"
    assert [one["by"] for one in page["events"]] == ["ci"]


async def test_a_key_for_one_namespace_is_told_of_no_other(asked: Asked) -> None:
    own = asked.coordinator.settings.namespace
    await asked.coordinator.board(f"{own}-other")

    asked.asks("read", namespaces=(own,))
    told = (await asked.ok("GET", "/system"))["system"]["namespaces"]
    asked.asks("read")
    all_of_them = (await asked.ok("GET", "/system"))["system"]["namespaces"]

    assert [one["name"] for one in told] == [own]
    assert {one["name"] for one in all_of_them} == {own, f"{own}-other"}


FAILURE = {"type": "X", "message": "y", "retryable": True}
ENDINGS: dict[str, tuple[str, Any]] = {
    "complete": ("/tasks/t-1/complete", {"result": 1}),
    "complete-many": ("/tasks/complete", ["results", {"id": "t-1"}]),
    "fail": ("/tasks/t-1/fail", {"error": "x"}),
    "fail-many": ("/tasks/fail", ["failures", {"id": "t-1", "failure": FAILURE}]),
    "start": ("/tasks/t-1/start", {}),
    "start-many": ("/tasks/start", ["claims"]),
    "renew": ("/tasks/t-1/renew", {}),
    "renew-many": ("/tasks/renew", ["claims"]),
    "release": ("/tasks/t-1/release", {}),
    "release-many": ("/tasks/release", ["claims"]),
    "handoff": ("/tasks/t-1/handoff", {"to": "mira"}),
    "progress": ("/tasks/t-1/progress", {"value": 1}),
    "partial": ("/tasks/t-1/partial", {"value": 1}),
    "tell": ("/tasks/t-1/tell", {"what": "log", "value": 1}),
    "split": ("/tasks/t-1/split", {"children": [{"kind": "a"}]}),
    "ask": ("/tasks/t-1/ask", {"question": 1}),
    "confirm-cancel": ("/tasks/t-1/confirm-cancel", {}),
    "step": ("/tasks/step", ["results", {"id": "t-1"}]),
    "step-begun": ("/tasks/step", ["begun"]),
}


def ending(name: str, fence: int) -> tuple[str, Any]:
    path, given = ENDINGS[name]
    body: dict[str, Any]
    if isinstance(given, list):
        field, *rest = given
        body = {field: [{**rest[0], "fence": fence} if rest else ["t-1", fence]]}
        if path == "/tasks/step":
            body |= {"agent": "mira", "instance": "p1"}
    else:
        body = {**given, "fence": fence}
    return path, body


async def claimed(asked: Asked, agent: str) -> int:
    asked.asks()
    for name in ("mira", "noor"):
        await asked.ok("PUT", f"/agents/{name}", {})
    await asked.ok("POST", "/tasks", {"kind": "greet", "id": "t-1"})
    claims = (await asked.ok("POST", "/tasks/claim", {"agent": agent}))["claims"]
    return int(claims["tasks"][0]["fence"])


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_key_for_one_agent_does_nothing_with_the_claim_of_another(
    asked: Asked, name: str
) -> None:
    fence = await claimed(asked, "noor")
    before = (await asked.ok("GET", "/tasks/t-1"))["task"]

    asked.asks(agent="mira")
    refused = [await asked.call("POST", *ending(name, one)) for one in (fence, fence + 1)]
    stale = await asked.call("POST", *ending("complete", fence - 1)) if fence > 1 else None

    assert [(one.status_code, one.json()["code"]) for one in refused] == [
        (403, "not_permitted"),
        (403, "not_permitted"),
    ], "a fence that is not given yet is nobody's"
    assert stale is None or stale.status_code == 409
    assert (await asked.ok("GET", "/tasks/t-1"))["task"] == before


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_key_for_one_agent_does_what_it_likes_with_a_claim_of_its_own(
    asked: Asked, name: str
) -> None:
    fence = await claimed(asked, "mira")

    asked.asks(agent="mira")
    path, body = ending(name, fence)
    if name == "handoff":
        body["to"] = "noor"
    first = await asked.call("POST", path, body)
    again = await asked.call("POST", path, body)

    assert first.status_code == 200, first.text
    assert again.status_code in (200, 409), again.text


async def test_what_is_unknown_is_told_to_a_key_for_one_agent_as_to_others(asked: Asked) -> None:
    asked.asks(agent="mira")

    response = await asked.call("POST", "/tasks/none/complete", {"fence": 3})

    assert response.status_code == 404


async def test_a_key_that_only_reads_makes_no_namespace(asked: Asked) -> None:
    new = f"{asked.coordinator.settings.namespace}-new"

    def namespace(scope: Any) -> None:
        scope["state"]["namespace"] = new

    asked.layer.also = namespace
    asked.asks("read")
    refused = [await asked.call("GET", path) for path in ("/tasks", "/events", "/agents")]
    asked.asks("work")
    await asked.ok("POST", "/tasks", {"kind": "greet"})
    asked.asks("read")
    found = await asked.ok("GET", "/tasks")

    assert [one.status_code for one in refused] == [404] * 3
    assert {one.json()["code"] for one in refused} == {"namespace_not_found"}
    assert len(found["page"]["tasks"]) == 1
