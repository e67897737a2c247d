"""Many callers of coordinators at once, who note what was acknowledged and what was refused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import httpx2

from tests.chaos.processes import PATIENCE

REPEAT_SECONDS = 0.05
"""What callers wait before they repeat: less than they are asked to, as there are such."""


class Load:
    """Callers who submit, and agents who claim and complete, each on its node until that fails.

    What may have been done and was not acknowledged is repeated, as a caller should: with the
    same id, or the same fence.

    Args:
        lost: Statuses by which an engine may say that it has lost what it had acknowledged.

    Attributes:
        acknowledged: Ids of tasks whose submitting was answered with 200.
        completed: Ids of tasks whose completion was.
        refusals: Status, code, ``Retry-After`` and seconds of each answer that was no 200.
        refused: Status and path of each of them.
        unreachable: Requests that got no answer at all.
    """

    def __init__(
        self,
        urls: Sequence[str],
        submitters: int = 25,
        agents: int = 25,
        *,
        lost: Sequence[int] = (),
    ) -> None:
        self.acknowledged: set[str] = set()
        self.completed: set[str] = set()
        self.refusals: list[tuple[int, str, str, float]] = []
        self.refused: set[tuple[int, str]] = set()
        self.unreachable = 0
        self._urls = list(urls)
        self._lost = tuple(lost)
        self._submitters, self._agents = submitters, agents
        self._is_submitting = self._is_working = True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
        self._client = httpx2.AsyncClient(timeout=30, limits=limits)
        for number in range(self._agents):
            self._start(self._work(f"agent-{number}", number))
        for number in range(self._submitters):
            self._start(self._submit(f"s{number}", number))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it holds; fail where it does not, or where a caller failed."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            for task in self._tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, f"{what}: {self}"
            await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """Submit no more, and wait until all that was acknowledged is completed."""
        self._is_submitting = False
        await self.until(lambda: all(t.done() for t in self._tasks[self._agents :]), "submitters")
        await self.until(lambda: self.acknowledged <= self.completed, "all are completed")
        self._is_working = False
        await self.until(lambda: all(task.done() for task in self._tasks), "agents")

    def statuses(self) -> Counter[int]:
        return Counter(status for status, _, _, _ in self.refusals)

    def __repr__(self) -> str:
        return (
            f"{len(self.acknowledged)} acknowledged, {len(self.completed)} completed, "
            f"{self.unreachable} unreachable, refused {dict(self.statuses())}"
        )

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _submit(self, name: str, at: int) -> None:
        number, place = 0, Place(self._urls, at)
        while self._is_submitting:
            task = f"{name}-{number}"
            body = {"id": task, "kind": "greet", "payload": {"n": number}}
            await self._insist(place, "/tasks", body)
            self.acknowledged.add(task)
            number += 1

    async def _work(self, agent: str, at: int) -> None:
        place, number = Place(self._urls, at), 0
        await self._insist(place, f"/agents/{agent}", {"max_concurrent": 10}, verb="PUT")
        while self._is_working:
            number += 1
            # The same request id brings the same grants where the answer was lost.
            body = {"agent": agent, "limit": 5, "request_id": f"{agent}-{number}", "poll": 0.2}
            found = await self._insist(place, "/tasks/claim", body)
            assert found is not None
            for task in found["claims"].get("tasks", []):
                ending = {"fence": task["fence"], "result": "hello"}
                answer = await self._insist(place, f"/tasks/{task['id']}/complete", ending, 409)
                if answer is not None:
                    self.completed.add(task["id"])

    async def _insist(
        self, place: Place, path: str, body: Any, *also: int, verb: str = "POST"
    ) -> dict[str, Any] | None:
        """Repeat a request until it is answered; None for a refusal that is an answer too."""
        while True:
            started = time.monotonic()
            try:
                answer = await self._client.request(verb, place.url + path, json=body)
            except httpx2.TransportError:
                self.unreachable += 1
                place.move_on()
            else:
                if answer.status_code == 200:
                    found: dict[str, Any] = answer.json()
                    return found
                code = ""
                with suppress(ValueError):
                    code = answer.json().get("code", "")
                after = answer.headers.get("retry-after", "")
                took = time.monotonic() - started
                self.refusals.append((answer.status_code, code, after, took))
                self.refused.add((answer.status_code, path))
                if answer.status_code in (*also, *self._lost):
                    return None
                assert answer.status_code == 503, answer.text
            await asyncio.sleep(REPEAT_SECONDS)


class Place:
    """The node that one caller asks; the next one, once this one gave no answer."""

    def __init__(self, urls: Sequence[str], at: int) -> None:
        self._urls, self._at = urls, at

    @property
    def url(self) -> str:
        return self._urls[self._at % len(self._urls)]

    def move_on(self) -> None:
        self._at += 1
