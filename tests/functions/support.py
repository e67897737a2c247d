"""A small harness: one namespace on a real engine, and a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from callboard.domain.event import Event, Gap
from callboard.domain.record import Claimed, Record, parse_record
from callboard.domain.task import LETTERS, Status, Task, TaskSpec
from callboard.engine import codec
from callboard.engine.connection import Connection
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys
from callboard.engine.namespace import Namespace
from callboard.services.events import Events

START_US = 1_800_000_000_000_000
LEASE_MS = 30_000
PUSH_MS = 15_000
TAKE_UP_MS = 30_000
BOARD = "b"
MIRA, NOOR = "mira", "noor"
STALE = 7
"""A fence that no claim was ever given."""

Dump = dict[str, Any]
READ_ALL = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "set": ("SMEMBERS",),
    "list": ("LRANGE", 0, -1),
    "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    "stream": ("XRANGE", "-", "+"),
    "none": ("GET",),
}


@dataclass(frozen=True)
class Reply:
    """What a function answered."""

    raw: list[Any]

    @property
    def status(self) -> str:
        return self.raw[0].decode()

    @property
    def words(self) -> list[str]:
        """The answers an item, wherever the reply has them: its last string."""
        text = [part for part in self.raw if isinstance(part, bytes)][-1].decode()
        return text.split(",") if text else []

    @property
    def facts(self) -> list[str]:
        """What follows the status, as text."""
        return [part.decode() if isinstance(part, bytes) else str(part) for part in self.raw[1:]]


@dataclass(frozen=True)
class Grant:
    """What a claim answered."""

    status: str
    tasks: list[Claimed]
    lost: list[int]

    @property
    def ids(self) -> list[str]:
        return [task.id for task in self.tasks]

    @property
    def fences(self) -> list[int]:
        return [task.fence for task in self.tasks]


def granted(raw: Sequence[Any]) -> Grant:
    status = raw[0].decode()
    if status not in ("ok", "replayed"):
        return Grant(status, [], [])
    lost = [int(fence) for fence in raw[1].split(b",") if fence and status == "replayed"]
    return Grant(status, codec.claimed_of(BOARD, raw[2:]), lost)


def spec(task_id: str, *depends_on: str, kind: str = "work", **fields: Any) -> TaskSpec:
    return TaskSpec(id=task_id, kind=kind, depends_on=depends_on, **fields)


def values_of(specs: Iterable[TaskSpec], parent: str | None = None) -> list[Any]:
    return [value for one in specs for value in codec.row_of(one, parent)]


class Stage:
    """One namespace, called directly through its functions."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.now = START_US
        self.name = namespace
        self.keys = Keys(namespace)
        self.connection = connection
        self.functions = Functions(connection, self.keys.format, lambda: self.now)
        self.namespace = Namespace(namespace, connection, self.functions, self.keys)
        self.events = Events(self.namespace)

    @classmethod
    async def open(cls, url: str, namespace: str, *agents: str) -> Stage:
        connection = await Connection.open(url, route=Keys(namespace).format, call_timeout=60)
        stage = cls(connection, namespace)
        await stage.call("namespace_open", "replication", "incarnation1")
        for agent in agents:
            await stage.agent(agent)
        return stage

    async def close(self) -> None:
        keys = await self.connection.call("KEYS", self.keys.prefix + "*")
        for start in range(0, len(keys), 5_000):
            await self.connection.call("UNLINK", *keys[start : start + 5_000])
        await self.connection.close()

    async def call(self, name: str, *arguments: Any) -> Reply:
        return Reply(await self.functions.call(name, *arguments))

    # Time

    async def advance(self, seconds: float) -> None:
        """Move the clock as a running sweep sees it move: without a gap."""
        self.now += round(seconds * 1e6)
        await self.call("namespace_tick", 1_000, 1)

    async def sweep(self, board: str = BOARD, limit: int = 200) -> None:
        """Sweep a board until nothing more is due, and continue the cascades."""
        for _ in range(10_000):
            more = (await self.call("board_sweep", board, limit)).raw[1]
            more = await self.cascade() or more
            if not more:
                return
        raise AssertionError("the sweep found more for ever")

    async def cascade(self) -> int:
        """Continue the cascades to the end; how many calls that took."""
        for calls in range(10_000):
            if not (await self.call("task_cascade", 10)).raw[1]:
                return calls
        raise AssertionError("the cascade went on for ever")

    async def after(self, seconds: float, board: str = BOARD) -> None:
        await self.advance(seconds)
        await self.sweep(board)

    # Agents

    async def agent(
        self,
        name: str,
        *,
        limit: int = 100_000,
        agent_type: str = "",
        capabilities: Sequence[str] = (),
        services: Sequence[str] = (),
        labels: Sequence[str] = (),
        kinds: Sequence[str] = (),
        status: str = "",
        push: str = "",
    ) -> None:
        """Register an agent that runs without instances; *push* is its address for deliveries."""
        lists = (sorted(names) for names in (capabilities, services, labels, kinds))
        profile = ";".join([agent_type, *(",".join(names) for names in lists)])
        reply = await self.call(
            *("agent_register", name, profile, status, limit, 10_000, "", limit, 0, "1", "here"),
            *("push", push),
        )
        assert reply.status == "ok", reply

    # Tasks

    async def submit(self, *specs: TaskSpec | str, board: str = BOARD) -> Reply:
        tasks = [spec(one) if isinstance(one, str) else one for one in specs]
        common, values = codec.values_of_rows([codec.row_of(one) for one in tasks])
        return await self.call("task_submit", board, len(tasks), "tests", common, *values)

    async def submit_all(self, specs: Iterable[TaskSpec], board: str = BOARD) -> None:
        """Submit any number in batches of 1,000, in the order given."""
        tasks = list(specs)
        for start in range(0, len(tasks), 1_000):
            self.now += 1_000
            reply = await self.submit(*tasks[start : start + 1_000], board=board)
            assert reply.status == "ok", reply

    async def claim(
        self,
        agent: str = MIRA,
        limit: int = 1,
        *,
        instance: str = "i1",
        request: str = "",
        started: int | None = None,
        wait: float = 0,
        lease_ms: int = LEASE_MS,
        board: str = BOARD,
    ) -> Grant:
        return granted(
            await self.functions.call(
                "task_claim",
                board,
                agent,
                instance,
                request,
                limit,
                limit if started is None else started,
                round(wait * 1_000),
                lease_ms,
            )
        )

    async def wait_as(self, agent: str, *, wants: int = 1, instance: str = "i1") -> None:
        """Register an agent as waiting for work, for an hour."""
        assert (await self.claim(agent, wants, instance=instance, wait=3_600)).status == "empty"

    async def take(
        self,
        task_id: str,
        agent: str = MIRA,
        *,
        instance: str = "i1",
        board: str = BOARD,
        request: str = "",
    ) -> Reply:
        return await self.call("task_take", board, agent, instance, request, task_id, LEASE_MS)

    async def held(self, task_id: str, agent: str = MIRA, *, instance: str = "i1") -> int:
        """Take one task; answers its fence."""
        reply = await self.take(task_id, agent, instance=instance)
        assert reply.status == "ok", reply
        return codec.claimed_of(BOARD, reply.raw[2:])[0].fence

    async def started(self, task_id: str, agent: str = MIRA, *, instance: str = "i1") -> int:
        fence = await self.held(task_id, agent, instance=instance)
        assert await self.start(task_id, fence) == "ok"
        return fence

    async def step(
        self,
        agent: str = MIRA,
        *,
        done: Sequence[tuple[str, int, Any]] = (),
        begun: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        request: str = "",
        board: str = BOARD,
    ) -> tuple[list[str], list[str], Grant]:
        """``complete_and_claim``: the answers of both halves."""
        flat = [part for row in done for part in row] + [part for row in begun for part in row]
        options = (request, limit, limit, 0, LEASE_MS, len(done), len(begun))
        raw = await self.functions.call(
            "task_complete_and_claim", board, agent, "i1", *options, *flat
        )
        assert raw[0] == b"ok", raw
        words = [raw[i].decode().split(",") if raw[i] else [] for i in (2, 3)]
        return words[0], words[1], granted(raw[4])

    async def each(self, name: str, *rows: Sequence[Any], board: str = BOARD) -> list[str]:
        """Call an operation of rows behind ``board, by, count``; a word an item."""
        reply = await self.call(
            name, board, "i1", len(rows), *(value for row in rows for value in row)
        )
        assert reply.status == "ok", reply
        return reply.words

    async def start(self, task_id: str, fence: int) -> str:
        return (await self.each("task_start", (task_id, fence)))[0]

    async def complete(self, task_id: str, fence: int, result: str = "1") -> str:
        return (await self.each("task_complete", (task_id, fence, result)))[0]

    async def fail(
        self,
        task_id: str,
        fence: int,
        *,
        retryable: bool = True,
        unit: float = 1,
        delay_ms: int | str = "",
        error: str = '{"type":"E","message":"m","retryable":true}',
        mark: str = 'ab12|medium|1|E||"m"',
    ) -> str:
        row = (task_id, fence, error, int(retryable), unit, delay_ms, mark, "m")
        return (await self.each("task_fail", row))[0]

    async def renew(self, task_id: str, fence: int, *, lease_ms: int = LEASE_MS) -> str:
        reply = await self.call("task_renew", BOARD, MIRA, "i1", lease_ms, 1, task_id, fence)
        return reply.words[0]

    async def release(self, task_id: str, fence: int, *, delay_ms: int = 0) -> str:
        return (await self.each("task_release", (task_id, fence, delay_ms)))[0]

    async def handoff(self, task_id: str, fence: int, to: str = NOOR) -> str:
        reply = await self.call("task_handoff", BOARD, "i1", task_id, fence, to, 30_000)
        return reply.status

    async def progress(self, task_id: str, fence: int, field: str = "progress") -> str:
        reply = await self.call("task_progress", BOARD, "i1", task_id, fence, field, "50")
        return reply.status

    async def tell(self, task_id: str, fence: int, what: str = "token", value: str = '"a"') -> str:
        return (await self.call("task_tell", BOARD, "i1", task_id, fence, what, value)).status

    async def split(self, task_id: str, fence: int, *specs: TaskSpec, policy: str = "G") -> Reply:
        rows = values_of(specs, parent=task_id)
        return await self.call("task_split", BOARD, "i1", task_id, fence, policy, len(specs), *rows)

    async def ask(self, task_id: str, fence: int) -> str:
        return (await self.call("task_ask", BOARD, "i1", task_id, fence, '"?"')).status

    async def answer(self, task_id: str) -> str:
        return (await self.call("task_answer", BOARD, "ann", task_id, '"!"', 10_000)).status

    async def cancel(self, task_id: str, fence: int | str = "") -> str:
        reply = await self.call("task_cancel", BOARD, "ann", "requested", 1, task_id, fence)
        return reply.words[0]

    async def retry(self, *task_ids: str) -> list[str]:
        return await self.each("task_retry", *((task_id, "", "") for task_id in task_ids))

    async def reprioritise(self, task_id: str, priority: int) -> str:
        return (await self.each("task_reprioritise", (task_id, priority)))[0]

    async def purge(self, *task_ids: str) -> list[str]:
        return await self.each("task_purge", *((task_id,) for task_id in task_ids))

    async def note(self, task_id: str, operation: str = "") -> str:
        note = '{"author":"ann","content":"hello"}'
        return (await self.call("task_note", BOARD, "ann", task_id, operation, note)).status

    async def park(self, task_id: str, fence: int, parked: int = 1) -> str:
        return (await self.call("task_park", BOARD, "i1", task_id, fence, parked)).status

    async def dispatch(
        self,
        *,
        most: int = 100,
        each: int = 32,
        reserve: int = 100,
        strategy: str = "least_connections",
        busy: Sequence[tuple[str, int]] = (),
        board: str = BOARD,
    ) -> Reply:
        rows = [value for row in busy for value in row]
        numbers = (most, each, reserve, PUSH_MS, TAKE_UP_MS, 60_000, len(busy))
        return await self.call("task_dispatch", board, "node", strategy, *numbers, *rows)

    async def deliver(
        self, task_id: str, fence: int, *, lease_ms: int = 300_000, heard: str = ""
    ) -> str:
        reply = await self.call("task_deliver", BOARD, "node", lease_ms, heard, 1, task_id, fence)
        return reply.words[0]

    async def undeliver(
        self,
        task_id: str,
        fence: int,
        *,
        most: int = 3,
        rest_after: int = 3,
        unit: float = 1,
        asked_ms: int = 0,
    ) -> str:
        """Delays are from 1 s to 30 s, rests from 2 s to 60 s."""
        error = '{"type":"undelivered","message":"m","retryable":true}'
        numbers = (most, 1_000, 30_000, rest_after, 2_000, 60_000)
        row = (task_id, fence, error, unit, asked_ms, "", "m")
        return (await self.call("task_undeliver", BOARD, "node", *numbers, 1, *row)).words[0]

    async def configure(self, board: str = BOARD, /, **settings: Any) -> str:
        pairs = [part for pair in settings.items() for part in pair]
        return (await self.call("board_configure", board, "ann", *pairs)).status

    # What stands there

    async def records(self, *task_ids: str, board: str = BOARD) -> list[Record | None]:
        reply = await self.call("task_read", board, 0, len(task_ids), *task_ids)
        raws = reply.raw[2::6]
        return [parse_record(raw) if raw.count(b"|") >= 15 else None for raw in raws]

    async def record(self, task_id: str) -> Record:
        found = (await self.records(task_id))[0]
        assert found is not None, task_id
        return found

    async def status(self, task_id: str) -> str:
        """The status word; ``gone`` where the task is unknown or purged."""
        found = (await self.records(task_id))[0]
        return found.status.value if found else "gone"

    async def statuses(self, *task_ids: str) -> list[str]:
        found = await self.records(*task_ids)
        return [record.status.value if record else "gone" for record in found]

    async def all_states(self, board: str = BOARD) -> dict[str, Status]:
        """Every task's status, from the records."""
        raw = await self.connection.call("HGETALL", f"{self.keys.tasks(board)}:state")
        return {task_id.decode(): LETTERS[chr(record[0])] for task_id, record in raw.items()}

    async def task(self, task_id: str, board: str = BOARD) -> Task:
        reply = await self.call("task_read", board, 1, 1, task_id)
        found = codec.task_of(board, task_id, reply.raw[2:8])
        assert found is not None, task_id
        return found

    async def counts(self, board: str = BOARD) -> dict[str, int]:
        flat = (await self.call("board_read", board)).raw[2]
        return {flat[i].decode(): int(float(flat[i + 1])) for i in range(0, len(flat), 2)}

    async def key_names(self) -> set[str]:
        raw = await self.connection.call("KEYS", self.keys.prefix + "*")
        return {name.decode().removeprefix(self.keys.prefix) for name in raw}

    async def dump(self) -> Dump:
        """All that the namespace holds, but for the clock and the fence counter."""
        names = sorted(await self.key_names())
        values = await asyncio.gather(*(self._value_of(self.keys.prefix + name) for name in names))
        dump = dict(zip(names, values, strict=True))
        for field in (b"now", b"fence"):
            dump.get("callboard:format", {}).pop(field, None)
        return dump

    async def _value_of(self, key: str) -> Any:
        """A key's whole value, in an order of its own where the engine keeps none."""
        kind = (await self.connection.call("TYPE", key)).decode()
        command, *arguments = READ_ALL[kind]
        value = await self.connection.call(command, key, *arguments)
        return set(value) if kind == "set" else value

    async def news(self, since: str | None = None) -> list[Event]:
        """All events behind a cursor; there must be no gap."""
        found: list[Event] = []
        while True:
            page, since_then = await self.events.read(since)
            assert not any(isinstance(event, Gap) for event in page)
            found += [event for event in page if isinstance(event, Event)]
            if since_then == since or not page:
                return found
            since = since_then

    async def raw(self, command: str, name: str, *arguments: Any) -> Any:
        """A command on one of the namespace's keys, by its name without the prefix."""
        return await self.connection.call(command, self.keys.prefix + name, *arguments)


def types_of(events: Iterable[Event]) -> list[str]:
    return [event.type for event in events]


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Names of the keys that differ between two dumps."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
