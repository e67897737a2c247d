"""Agents on sockets and readers of streams whose coordinator is killed under load."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

import callboard
from tests.chaos.board import check_each_was_done_once
from tests.engine.connection_support import Engine
from tests.http.live_support import sse
from tests.http.nodes import Node
from tests.http.socket_support import Socket, socket
from tests.waiting import until

TASKS = 400
AGENTS = 4

pytestmark = pytest.mark.timeout(300)


class Places:
    """The coordinators there are; the first is used until it is gone."""

    def __init__(self, *nodes: Node) -> None:
        self.ports = [int(node.url.rpartition(":")[2]) for node in nodes]

    def lose_first(self) -> None:
        del self.ports[0]


class Agent:
    """An agent on one socket at a time, which resumes wherever it finds a coordinator."""

    def __init__(self, name: str, places: Places) -> None:
        self.name = name
        self.places = places
        self.session = ""
        self.resumed = 0
        self.fences: dict[str, set[int]] = {}
        self.refused: list[str] = []
        self.messages: Counter[str] = Counter()
        self.acknowledged: set[str] = set()

    async def work(self) -> None:
        while True:
            with suppress(ConnectionClosed, OSError, TimeoutError):
                async with socket(self.places.ports[0]) as ws:
                    await self._enter(ws)
                    await ws.ask("subscribe", work={"limit": 8, "lease": 60}, inbox=True)
                    while True:
                        await self._heed(ws, await ws.next("task", "message", "result", "error"))
            await asyncio.sleep(0.05)

    async def _enter(self, ws: Socket) -> None:
        if not self.session:
            self.session = ws.session
            await ws.ask("register", agent=self.name, max_concurrent=8)
            return
        await ws.ask("resume", agent=self.name, session=self.session)
        self.resumed += 1

    async def _heed(self, ws: Socket, frame: dict[str, Any]) -> None:
        if frame["type"] == "task":
            task = frame["task"]
            self.fences.setdefault(task["id"], set()).add(task["fence"])
            await asyncio.sleep(0.001)
            await ws.send("complete", task_id=task["id"], fence=task["fence"], result=self.name)
        elif frame["type"] == "message":
            name = frame["message"]["id"]
            self.messages[name] += 1
            await ws.ask("ack", message=name)
            self.acknowledged.add(name)
        elif frame["type"] == "error":
            self.refused.append(frame["code"])


def check_running(tasks: list[asyncio.Task[None]]) -> None:
    """Raise what one of these failed with: nothing would come of it any more."""
    for task in tasks:
        if task.done():
            task.result()


async def read_events(places: Places, start: str, found: list[str]) -> None:
    """Read what was created, over as many streams as it takes."""
    last = start
    while True:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, AssertionError):
            path = "/events?types=task:created"
            async with sse(places.ports[0], path, last_event_id=last) as stream:
                while True:
                    block = await stream.next()
                    assert block.event == "task:created", block
                    found += [fact["id"] for fact in block.json["facts"]]
                    last = block.id
        await asyncio.sleep(0.05)


async def test_a_killed_coordinator_loses_no_task_no_message_and_no_event_of_its_sockets(
    engine: Engine, board: callboard.Callboard
) -> None:
    ids = [f"t{i}" for i in range(TASKS)]
    with Node("--url", engine.url) as doomed, Node("--url", engine.url) as other:
        places = Places(doomed, other)
        agents = [Agent(f"agent-{i}", places) for i in range(AGENTS)]
        created: list[str] = []
        start = await board.events.cursor()
        running = [asyncio.create_task(agent.work()) for agent in agents]
        running.append(asyncio.create_task(read_events(places, start, created)))
        try:
            for i, task in enumerate(ids):
                if i == TASKS // 2:
                    doomed.kill()
                    places.lose_first()
                await board.tasks.submit("greet", id=task)
                for agent in agents:
                    if i % 20 == 0:
                        await board.messages.send(agent.name, i, id=f"{agent.name}-m{i}")

            async def all_ended() -> bool:
                check_running(running)
                return (await board.boards.get("default")).counts.unfinished == 0

            def all_are_read() -> bool:
                check_running(running)
                return all(len(one.acknowledged) == TASKS // 20 for one in agents)

            await until(all_ended, "all tasks have ended")
            await until(all_are_read, "all messages are read")
            await until(lambda: len(created) >= TASKS, "all events were read")
        finally:
            for task_ in running:
                task_.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    await check_each_was_done_once(board, sorted(ids))
    assert all(agent.resumed for agent in agents)
    assert created == ids
    crashes = [(await board.tasks.get(task)).crashes for task in ids]
    assert sum(crashes) == 0, "what was claimed ahead, and taken over by resuming, is no crash"
    claims = Counter(task for agent in agents for task in agent.fences)
    assert set(claims) == set(ids)
