"""What one answer may hold, whatever its limit: the next call has the rest."""

from __future__ import annotations

from typing import Any

import pytest

from callboard import MessageSpec, TaskSpec, connect
from tests.http.support import Served

pytestmark = pytest.mark.timeout(120)

CLAIM_BYTES = 4 << 20
PAGE_BYTES = 16 << 20
MARGIN = 1 << 20
"""What is around the values, and the one with which the bound is met."""


async def board_of(served: Served, namespace: str) -> Any:
    return await served.coordinator.board(namespace)


async def test_a_claim_of_a_thousand_large_tasks_is_answered_in_parts(
    served: Served, namespace: str
) -> None:
    cb = await board_of(served, namespace)
    await cb.agents.register("mira", max_concurrent=1_000)
    large = "x" * 900_000
    await cb.tasks.submit_many([TaskSpec(kind="big", payload=large, id=f"t{n}") for n in range(11)])

    names, sizes = [], []
    for _ in range(4):
        answer = await served.call("POST", "/tasks/claim", {"agent": "mira", "limit": 1_000})
        sizes.append(len(answer.content))
        names += [one["id"] for one in answer.json()["claims"]["tasks"]]

    assert names == [f"t{n}" for n in range(11)]
    assert max(sizes) < CLAIM_BYTES + MARGIN


async def test_a_take_of_a_thousand_large_messages_is_answered_in_parts(
    served: Served, namespace: str
) -> None:
    cb = await board_of(served, namespace)
    large = "x" * 250_000
    specs = [MessageSpec(to="mira", payload=large, id=f"m{n}") for n in range(40)]
    await cb.messages.send_many(specs)

    names, sizes = [], []
    for _ in range(4):
        answer = await served.call("POST", "/inboxes/mira/take", {"limit": 1_000})
        sizes.append(len(answer.content))
        names += [one["id"] for one in answer.json()["messages"]]

    assert names == [f"m{n}" for n in range(40)]
    assert max(sizes) < CLAIM_BYTES + MARGIN


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/inboxes/mira", "page"),
        ("/messages", "page"),
        ("/messages/history", None),
        ("/api/v1/agent/messages/mira", None),
        ("/api/v1/agent/messages/inbox?agent_id=mira&unread_only=true", None),
    ],
)
async def test_a_page_of_large_messages_ends_by_its_bytes(
    served: Served, namespace: str, path: str, key: str | None
) -> None:
    cb = await board_of(served, namespace)
    large = "x" * 260_000
    await cb.messages.send_many([MessageSpec(to="mira", payload=large) for _ in range(100)])

    mark = "&" if "?" in path else "?"
    answer = await served.call("GET", f"{path}{mark}limit=1000")

    page = answer.json()[key] if key else answer.json()
    assert 50 < len(page["messages"]) < 90
    assert len(answer.content) < PAGE_BYTES + CLAIM_BYTES + MARGIN
    if "offset" in page:  # where it says how to go on
        assert page["limit"] == len(page["messages"])
        rest = await served.call("GET", f"{path}{mark}limit=1000&offset={page['limit']}")
        left = rest.json()[key] if key else rest.json()
        ids = {one["id"] for one in (*page["messages"], *left["messages"])}
        assert len(ids) == page["total"] == 100
        assert left["limit"] == 1_000


async def test_a_client_over_http_reads_all_by_what_a_page_says(
    served: Served, namespace: str
) -> None:
    cb = await board_of(served, namespace)
    await cb.messages.send_many([MessageSpec(to="mira", payload="x" * 260_000) for _ in range(100)])

    found: list[str] = []
    async with connect(served.url, namespace=namespace) as remote:
        offset = 0
        while len(found) < 100:
            page = await remote.messages.inbox("mira", limit=1_000, offset=offset)
            found += [message.id for message in page.messages]
            offset += page.limit
        whole = await cb.messages.inbox("mira", limit=1_000)

    assert found == [message.id for message in whole.messages]
    assert whole.limit == 1_000
