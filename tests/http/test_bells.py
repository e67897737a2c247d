"""What clients ask for on behalf of those who wait there: bells, and places in line."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from tests.http.support import Served

SECONDS = 10.0


class Bells:
    """A stream of bells, read block by block."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, served: Served, query: str) -> Bells:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"GET /bells?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        bells = cls(reader, writer)
        assert await bells.next() == ("listening", {"on": query.replace("on=", "").split("&")})
        return bells

    async def next(self) -> tuple[str, Any]:
        """The next event and its data."""
        name = ""
        async with asyncio.timeout(SECONDS):
            while True:
                line = (await self._reader.readline()).decode().strip()
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    return name, msgspec.json.decode(line[6:])

    def close(self) -> None:
        self._writer.close()


async def test_bells_ring_for_what_they_are_named_after(served: Served) -> None:
    cb = await served.coordinator.board(served.coordinator.settings.namespace)
    bells = await Bells.of(served, "on=inbox/noor&on=broadcasts&on=events")

    await cb.messages.send("noor", 1, sender="mira")
    heard = {(await bells.next())[1]["bell"] for _ in range(1)}
    await cb.messages.broadcast(2, sender="mira")
    while "broadcasts" not in heard:
        heard.add((await bells.next())[1]["bell"])
    await cb.tasks.submit("greet")
    while "events" not in heard:
        heard.add((await bells.next())[1]["bell"])
    bells.close()

    assert heard >= {"inbox/noor", "broadcasts", "events"}


async def test_a_waiting_worker_is_told_which_tasks_are_reserved_for_it(served: Served) -> None:
    bells = await Bells.of(served, "on=agent/mira/i1")
    await served.ok(
        "PUT", "/agents/mira", {"instance": {"id": "i1", "max_concurrent": 2}, "kinds": ["greet"]}
    )
    await served.ok("POST", "/tasks/claim", {"agent": "mira", "instance": "i1", "wait": 5})

    task = (await served.ok("POST", "/tasks", {"kind": "greet"}))["task"]
    name, rung = await bells.next()
    bells.close()

    assert (name, rung) == ("bell", {"bell": "agent/mira/i1", "payload": f"default|{task['id']}"})


@pytest.mark.parametrize(
    "query",
    [
        "",
        "on=",
        "on=keys/x",
        "on=events/x",
        "on=inbox/",
        "on=agent",
        "on=inbox/a%20b",
        "&".join(f"on=reply/r{n}" for n in range(101)),
    ],
    ids=["none", "empty", "unknown", "too long", "nobody", "no agent", "no name", "too many"],
)
async def test_what_is_no_bell_is_refused(served: Served, query: str) -> None:
    response = await served.call("GET", f"/bells?{query}")

    assert response.status_code == 422


def _request(**fields: Any) -> dict[str, Any]:
    given = {
        "owner": "one",
        "resources": ["r"],
        "mode": "exclusive",
        "limit": None,
        "lease": 5.0,
        "priority": 0,
        "agent": "",
        "operation": "op-1",
    }
    return {"request": given | fields, "wait": 5.0, "bell": ""}


async def test_a_place_in_line_is_kept_until_it_is_given_up(served: Served) -> None:
    await served.ok("POST", "/locks/acquire", {"resources": ["r"], "owner": "zero"})

    entered = await served.ok("POST", "/waits/enter", _request())
    found = await served.ok("POST", "/waits/await", {"rows": [["one", "op-1"]]})
    left = await served.ok(
        "POST", "/waits/leave", {"request": _request()["request"], "keep": False}
    )

    assert entered["lock"] is None
    assert found["found"][0][0]["status"] == "waiting"
    assert left["lock"] is None
    assert (await served.ok("GET", "/waits"))["waits"] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": "a b"},
        {"resources": []},
        {"resources": ["a|b"]},
        {"resources": [f"r{n}" for n in range(101)]},
        {"mode": "both"},
        {"mode": "semaphore"},
        {"lease": 1e9},
        {"priority": 10_000},
        {"agent": "a b"},
        {"operation": ""},
    ],
    ids=lambda fields: f"{next(iter(fields))}",
)
async def test_a_place_in_line_is_asked_for_as_strictly_as_a_lock(
    served: Served, fields: dict[str, Any]
) -> None:
    response = await served.call("POST", "/waits/enter", _request(**fields))

    assert response.status_code == 422


async def test_waits_are_asked_about_in_bounds(served: Served) -> None:
    many = await served.call("POST", "/waits/await", {"rows": [["one", "op"]] * 501})
    wrong = await served.call("POST", "/waits/await", {"rows": [["a b", "op"]]})
    late = await served.call("POST", "/waits/enter", {**_request(), "wait": 1e9})
    bell = await served.call("POST", "/waits/enter", {**_request(), "bell": "a b"})

    assert [one.status_code for one in (many, wrong, late, bell)] == [413, 422, 422, 422]
