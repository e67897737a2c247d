"""What a coordinator does with the tasks that it brings to agents: each one call.

Used by ``callboard.dispatch``; agents and users have ``claims`` and ``tasks`` for theirs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from callboard.domain import error as errors
from callboard.domain.names import check_name
from callboard.domain.record import Claimed
from callboard.domain.retry import Failure
from callboard.domain.task import BATCH_MAX
from callboard.engine import codec
from callboard.engine.answers import Answer, answers_of, checked, finish_cascade
from callboard.engine.namespace import Namespace

Claim = tuple[str, int]
"""A task and its fence."""


class Push(msgspec.Struct, frozen=True):
    """Tasks that were claimed for one agent, to be pushed to its address.

    Attributes:
        agent: Who they are for.
        url: Its endpoint ``http``.
        had_failures: Deliveries to it failed of late: one that succeeds is to be told.
        tasks: Each with its fence.
    """

    agent: str
    url: str
    had_failures: bool
    tasks: tuple[Claimed, ...]


class Dispatched(msgspec.Struct, frozen=True):
    """What one round brought.

    Attributes:
        status: ``ok``, ``paused``, or ``board_not_found``.
        more: As many as were asked for were given out, so there may be more.
        reserved: How many were reserved for agents without an address.
        pushes: What is to be pushed, an entry an agent.
    """

    status: str
    more: bool = False
    reserved: int = 0
    pushes: tuple[Push, ...] = ()


class Undelivered(msgspec.Struct, frozen=True):
    """A delivery that failed: the task, its fence, and why.

    The failure's *delay* is for how long the agent wants to be left alone; such a one does not
    count against the task.
    """

    id: str
    fence: int
    failure: Failure


class Rests(msgspec.Struct, frozen=True):
    """What follows on failed deliveries, in ms; as ``dispatch.settings`` has it in seconds."""

    deliveries: int
    delay_ms: int
    delay_most_ms: int
    rest_after: int
    rest_ms: int
    rest_most_ms: int


class Deliveries:
    """The deliveries of one board, by one coordinator.

    Args:
        by: The coordinator's name, which the events of its calls carry.
    """

    def __init__(self, namespace: Namespace, board: str, by: str) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self.board = check_name("board", board)
        self._by = by

    async def open(self) -> None:
        """Make the board, where it is not there: on others nobody is rung."""
        reply = await self._functions.call("board_configure", self.board, self._by)
        checked(reply, "ok", board=self.board)

    async def dispatch(
        self,
        *,
        strategy: str,
        most: int,
        each_most: int,
        reserve_most: int,
        push_ms: int,
        take_up_ms: int,
        serve_ms: int,
        busy: Mapping[str, int],
    ) -> Dispatched:
        """Give out up to *most* waiting tasks, as the strategy chooses.

        Args:
            strategy: Where the board has none of its own.
            most: 1 to 1,000.
            each_most: Tasks that are pushed to one agent at most.
            reserve_most: Tasks that are reserved for one without an address at most.
            push_ms: The lease of a claim until its delivery is reported.
            take_up_ms: How long a reservation stands for an agent without an address.
            serve_ms: For how long the board rings whoever dispatches.
            busy: How many of them that is for an agent that this node pushes to already.
        """
        rows = [value for row in busy.items() for value in row]
        reply = await self._functions.call(
            *("task_dispatch", self.board, self._by, strategy, most, each_most),
            *(reserve_most, push_ms, take_up_ms, serve_ms, len(busy), *rows),
        )
        status = checked(reply, "ok", "paused", "board_not_found", board=self.board)
        if status != "ok":
            return Dispatched(status)
        pushes = tuple(
            Push(row[0].decode(), row[1].decode(), row[2] == 1, self._claimed(row[3:]))
            for row in reply[4]
        )
        return Dispatched("ok", reply[2] == 1, int(reply[3]), pushes)

    async def heard(self, agents: Iterable[str]) -> None:
        """Note that these agents live: a heartbeat of each; of one that is gone it is none."""
        names = list(agents)
        for start in range(0, len(names), BATCH_MAX):
            batch = names[start : start + BATCH_MAX]
            reply = await self._functions.call(
                "task_deliver", self.board, self._by, 0, ",".join(batch), 0
            )
            checked(reply, "ok", board=self.board)

    async def delivered(self, claims: Sequence[Claim], *, lease_ms: int) -> list[Answer]:
        """Note that agents took these over: they began, under this lease."""
        answers: list[Answer] = []
        for start in range(0, len(claims), BATCH_MAX):
            batch = claims[start : start + BATCH_MAX]
            flat = [part for claim in batch for part in claim]
            reply = await self._functions.call(
                "task_deliver", self.board, self._by, lease_ms, "", len(batch), *flat
            )
            checked(reply, "ok", board=self.board)
            answers += answers_of([task for task, _ in batch], reply[1])
        return answers

    async def undelivered(self, items: Iterable[Undelivered], rests: Rests) -> list[Answer]:
        """Take back what could not be pushed, unharmed or as a failed attempt."""
        answers: list[Answer] = []
        rules = self._namespace.error_rules
        rows = [_row(item, rules) for item in items]
        for batch in codec.in_batches(rows, lambda row: len(row[2]) + 2 * len(row[6]) + 400):
            values = [value for row in batch for value in row]
            reply = await self._functions.call(
                *("task_undeliver", self.board, self._by, rests.deliveries, rests.delay_ms),
                *(rests.delay_most_ms, rests.rest_after, rests.rest_ms, rests.rest_most_ms),
                *(len(batch), *values),
            )
            checked(reply, "ok", board=self.board)
            if reply[1]:
                await finish_cascade(self._functions)
            answers += answers_of([row[0] for row in batch], reply[2])
        return answers

    async def released(self, claims: Sequence[Claim]) -> list[Answer]:
        """Give back what was not pushed to its end, at once; its agents turned nothing down."""
        answers: list[Answer] = []
        for start in range(0, len(claims), BATCH_MAX):
            batch = claims[start : start + BATCH_MAX]
            flat = [value for task, fence in batch for value in (task, fence, -1)]
            reply = await self._functions.call("task_release", self.board, "", len(batch), *flat)
            checked(reply, "ok", board=self.board)
            if reply[1]:
                await finish_cascade(self._functions)
            answers += answers_of([task for task, _ in batch], reply[2])
        return answers

    def _claimed(self, values: Sequence[Any]) -> tuple[Claimed, ...]:
        return tuple(codec.claimed_of(self.board, values))


def _row(item: Undelivered, rules: Sequence[errors.ErrorRule]) -> tuple[Any, ...]:
    mark = errors.mark_failure(item.failure, rules)
    jitter = f"{random.random():.6f}"
    asked = item.failure.delay
    asked_ms = 0 if asked is None else max(1, round(asked * 1_000))  # 0: nothing was said
    return (item.id, item.fence, item.failure.encode(), jitter, asked_ms, mark.text, mark.message)
