"""Random operations on boards and agents, against the plain model, on a real engine.

Each step sends one operation; now and then its reply is dropped and the same request is
sent again, at once or much later. After each step everything that the engine keeps is
compared with the model, and the facts of the events are folded into states.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from callboard.domain.event import parse_facts
from callboard.domain.record import parse_record
from callboard.domain.task import Requirements, TaskSpec
from callboard.engine import codec
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys
from tests.model.bench import CALL_US, PHASES, START_US, Bench, examples
from tests.model.plain_board import HELD, Agent, Item, Plain, Submission

EXAMPLES = examples(300)
STEPS = 50
BOARDS = ("default", "side")
STATE_WORDS = {
    "b": "blocked",
    "s": "scheduled",
    "p": "pending",
    "a": "assigned",
    "c": "claimed",
    "k": "claimed",
    "i": "in_progress",
    "q": "input_required",
    "d": "done",
    "f": "failed",
    "x": "cancelled",
}
INDEX_OF = {
    "a": "reserved",
    "b": "blocked",
    "q": "input",
    "d": "done",
    "f": "failed",
    "x": "cancelled",
}
LEASES = st.sampled_from([1.0, 5.0, 30.0])
BOARD = st.sampled_from(BOARDS)
AGENT = st.sampled_from(["ann", "bob", "cat"])
INSTANCE = st.sampled_from(["", "1", "2", "3"])
# Which of the tasks at hand an operation is about, counted from the newest.
WHICH = st.integers(0, 30)
LOST = st.sampled_from([False, False, False, True])


class Request(NamedTuple):
    """An operation with its arguments, which can be sent again."""

    name: str
    arguments: tuple[Any, ...]


class Engine:
    """The operations on the engine, answering in the model's words."""

    def __init__(self, bench: Bench, agents: tuple[Agent, ...]) -> None:
        self.bench = bench
        self.now = START_US
        self.keys = Keys(f"model-{uuid.uuid4().hex[:12]}")
        self.functions = Functions(bench.connection, self.keys.format, lambda: self.now)
        bench.run(self._prepare(agents))

    async def _prepare(self, agents: tuple[Agent, ...]) -> None:
        await self.functions.call_on(self.bench.connection.call, "namespace_open", "none", "model")
        await self.functions.call("namespace_tick", 1_000, 1)
        for board in BOARDS:
            await self.functions.call("board_configure", board, "")
        for agent in agents:
            # A foreign value keeps their speeds unknown, which the model does not know either.
            runs = f"{self.keys.prefix}agents:runs:{agent.id}"
            await self.bench.connection.call("SET", runs, "unknown")
            profile = f"worker;{'gpu' if agent.gpu else ''};;;{','.join(agent.kinds)}"
            ahead = agent.limit - agent.ready
            await self.functions.call(
                "agent_register",
                agent.id,
                profile,
                "",
                agent.ready,
                86_400_000,
                "",
                agent.ready,
                ahead,
                "",
                "",
            )

    def send(self, request: Request) -> tuple:
        operation: Callable[..., Awaitable[tuple]] = getattr(self, request.name)
        return self.bench.run(operation(*request.arguments))

    async def _call(self, name: str, *arguments: Any) -> tuple[str, list[Any]]:
        reply = await self.functions.call(name, *arguments)
        return reply[0].decode(), reply[1:]

    async def _answered(self, name: str, *arguments: Any, at: int = 1) -> tuple:
        status, reply = await self._call(name, *arguments)
        assert status == "ok", status
        return ("ok", reply[at].decode().split(","))

    async def submit(self, board: str, specs: list[Submission]) -> tuple:
        rows = [value for spec in specs for value in codec.row_of(_spec(spec))]
        status, reply = await self._call("task_submit", board, len(specs), "model", "", *rows)
        return ("ok", reply[0].decode()) if status == "ok" else (status,)

    async def claim(
        self,
        board: str,
        agent: str,
        instance: str,
        request: str,
        limit: int,
        started: int,
        wait: float,
        lease: float,
    ) -> tuple:
        return _claims(
            await self.functions.call(
                "task_claim",
                board,
                agent,
                instance,
                request,
                limit,
                started,
                round(wait * 1000),
                round(lease * 1000),
            )
        )

    async def complete_and_claim(
        self,
        board: str,
        agent: str,
        instance: str,
        request: str,
        results: list[tuple[str, int]],
        begun: list[tuple[str, int]],
        limit: int,
        started: int,
        wait: float,
        lease: float,
    ) -> tuple:
        rows = [part for task_id, fence in results for part in (task_id, fence, '"r"')]
        rows += [part for claim in begun for part in claim]
        _, reply = await self._call(
            "task_complete_and_claim",
            board,
            agent,
            instance,
            request,
            limit,
            started,
            round(wait * 1000),
            round(lease * 1000),
            len(results),
            len(begun),
            *rows,
        )
        completed, started_words = (raw.decode().split(",") if raw else [] for raw in reply[1:3])
        return ("ok", completed, started_words, _claims(reply[3]))

    async def complete(self, board: str, rows: list[tuple[str, int]]) -> tuple:
        flat = [part for task_id, fence in rows for part in (task_id, fence, '"r"')]
        return await self._answered("task_complete", board, "", len(rows), *flat)

    async def fail(self, board: str, task: str, fence: int, retryable: bool, delay: float) -> tuple:
        row = (
            task,
            fence,
            '{"type":"E","message":"m"}',
            int(retryable),
            "0.5",
            round(delay * 1000),
            'ab12|medium|1|E||"m"',
            "m",
        )
        return await self._answered("task_fail", board, "", 1, *row)

    async def start(self, board: str, task: str, fence: int) -> tuple:
        return await self._answered("task_start", board, "", 1, task, fence, at=0)

    async def renew(self, board: str, task: str, fence: int, lease: float) -> tuple:
        return await self._answered(
            "task_renew", board, "", "", round(lease * 1000), 1, task, fence
        )

    async def park(self, board: str, task: str, fence: int, parked: bool) -> tuple:
        return (await self._call("task_park", board, "", task, fence, int(parked)))[:1]

    async def release(self, board: str, task: str, fence: int, delay: float) -> tuple:
        return await self._answered("task_release", board, "", 1, task, fence, round(delay * 1000))

    async def handoff(self, board: str, task: str, fence: int, to: str, take_up: float) -> tuple:
        take_up_ms = round(take_up * 1000)
        return (await self._call("task_handoff", board, "", task, fence, to, take_up_ms))[:1]

    async def ask(self, board: str, task: str, fence: int) -> tuple:
        return (await self._call("task_ask", board, "", task, fence, '"?"'))[:1]

    async def answer(self, board: str, task: str) -> tuple:
        return (await self._call("task_answer", board, "", task, '"!"', 10_000))[:1]

    async def split(
        self, board: str, task: str, fence: int, children: list[Submission], policy: str
    ) -> tuple:
        rows = [value for child in children for value in codec.row_of(_spec(child), parent=task)]
        flag = {"fail": "", "skip": "S", "run": "G"}[policy]
        return (await self._call("task_split", board, "", task, fence, flag, len(children), *rows))[
            :1
        ]

    async def cancel(self, board: str, task: str, fence: int | None) -> tuple:
        row = (task, "" if fence is None else fence)
        return await self._answered("task_cancel", board, "", "requested", 1, *row)

    async def retry(self, board: str, tasks: list[str]) -> tuple:
        rows = [part for task in tasks for part in (task, "", "")]
        return await self._answered("task_retry", board, "", len(tasks), *rows)

    async def purge(self, board: str, tasks: list[str]) -> tuple:
        return await self._answered("task_purge", board, "", len(tasks), *tasks, at=0)

    async def pause(self, board: str, is_paused: bool) -> tuple:
        return (await self._call("board_configure", board, "", "paused", "1" if is_paused else ""))[
            :1
        ]

    async def declare(self, agent: str, status: str) -> tuple:
        return (await self._call("agent_set_status", agent, status, "", ""))[:1]

    async def tick(self, before: int, is_continuous: bool) -> tuple:
        await self._call("namespace_tick", 1_000, int(is_continuous))
        return ("ok",)

    async def sweep(self, board: str) -> tuple:
        return (await self._call("board_sweep", board, 200))[:1]

    def read(self, *commands: tuple[Any, ...]) -> list[Any]:
        async def together() -> list[Any]:
            return await asyncio.gather(*(self.bench.connection.call(*one) for one in commands))

        return self.bench.run(together())

    def forget(self) -> None:
        """Remove the namespace's keys."""
        cursor: bytes | int = 0
        while True:
            pattern = self.keys.prefix.replace("{", "\\{") + "*"
            [(cursor, found)] = self.read(("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000))
            if found:
                self.read(("UNLINK", *found))
            if cursor == b"0":
                return


def _spec(one: Submission) -> TaskSpec:
    return TaskSpec(
        kind=one.kind,
        id=one.id,
        priority=one.priority,
        depends_on=one.deps,
        on_dependency_failure=one.policy,  # type: ignore[arg-type]
        unique=one.unique,
        delay=one.delay,
        suggested_worker=one.suggested,
        requirements=Requirements(capabilities=("gpu",) if one.gpu else ()),
    )


def _claims(reply: list[Any]) -> tuple:
    status = reply[0].decode()
    if status not in ("ok", "replayed", "empty", "agent_full"):
        return (status,)
    granted = []
    for at in range(2, len(reply), 5):
        record = parse_record(reply[at + 2])
        granted.append((reply[at].decode(), record.fence, record.attempt, record.letter))
    if status == "replayed":
        granted.sort(key=lambda one: one[1])
    lost = [int(fence) for fence in reply[1].split(b",") if fence] if len(reply) > 1 else []
    return (status, granted, sorted(lost))


class BoardMachine(RuleBasedStateMachine):
    """The rules: what clients do, and what must hold after each step."""

    bench: Bench

    @initialize()
    def begin(self) -> None:
        agents = (
            Agent("ann", gpu=False, kinds=(), limit=4, ready=3),
            Agent("bob", gpu=True, kinds=(), limit=3, ready=3),
            Agent("cat", gpu=True, kinds=("a",), limit=2, ready=1),
        )
        self.engine = Engine(self.bench, agents)
        self.model = Plain(START_US, BOARDS, agents)
        self.sent: list[Request] = []
        self.numbers = dict.fromkeys(BOARDS, 0)
        self.requests = 0
        self.seq = 0
        self.folded: dict[tuple[str, str], tuple[str, str, int]] = {}
        self.completions: set[tuple[str, str]] = set()
        self.fences: dict[tuple[str, str], int] = {}
        self.highest_fence = 0

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.forget()

    # Sending

    def do(self, name: str, *arguments: Any, lost: bool = False) -> tuple:
        """Send a request; a lost reply is not looked at, and the request is sent again."""
        request = Request(name, arguments)
        if name not in ("tick", "sweep"):
            self.sent.append(request)
        for _ in range(lost):
            self.both(request)
        expected, found = self.both(request)
        assert found == expected, f"{request}: the engine answered {found}, the model {expected}"
        return found

    def both(self, request: Request) -> tuple[tuple, tuple]:
        self.engine.now += CALL_US
        self.model.begin(self.engine.now)
        expected = getattr(self.model, request.name)(*request.arguments)
        return expected, self.engine.send(request)

    def tasks(self, board: str, statuses: str = "bspackiqdfx") -> list[Item]:
        return list(reversed(self.model.boards[board].where(statuses)))

    def pick(self, board: str, which: int, statuses: str = "cki") -> Item | None:
        """One of the tasks with these statuses, or of those that were claimed before."""
        items = self.tasks(board, statuses) or [one for one in self.tasks(board) if one.fence]
        return items[which % len(items)] if items else None

    # What clients do

    @rule(board=BOARD, data=st.data(), lost=LOST)
    def submit(self, board: str, data: st.DataObject, lost: bool) -> None:
        specs = self.draw_specs(board, data)
        answer = self.do("submit", board, specs, lost=lost)
        if answer[0] == "ok":
            self.numbers[board] += len(specs)

    def draw_specs(self, board: str, data: st.DataObject) -> list[Submission]:
        return data.draw(_submissions(self.numbers[board] + 1))

    @rule(board=BOARD, which=WHICH, other_body=st.booleans())
    def submit_again(self, board: str, which: int, other_body: bool) -> None:
        item = self.pick(board, which, "bspackiqdfx")
        if item is not None:
            spec = item.spec
            if other_body:
                changed = {**vars_of(spec), "priority": spec.priority + 5}
                spec = Submission(**changed)
            self.do("submit", board, [spec])

    @rule(
        board=BOARD,
        agent=AGENT,
        instance=INSTANCE,
        limit=st.integers(1, 5),
        ahead=st.integers(0, 3),
        wait=st.sampled_from([0.0, 0.0, 5.0, 60.0]),
        lease=LEASES,
        lost=LOST,
    )
    def claim(
        self,
        board: str,
        agent: str,
        instance: str,
        limit: int,
        ahead: int,
        wait: float,
        lease: float,
        lost: bool,
    ) -> None:
        self.requests += 1
        started = max(0, limit - ahead)
        request = f"r{self.requests}"
        self.do("claim", board, agent, instance, request, limit, started, wait, lease, lost=lost)

    @rule(
        board=BOARD,
        agent=AGENT,
        instance=INSTANCE,
        done=st.integers(0, 3),
        begun=st.integers(0, 2),
        limit=st.integers(0, 4),
        wait=st.sampled_from([0.0, 5.0]),
        lost=LOST,
    )
    def complete_and_claim(
        self,
        board: str,
        agent: str,
        instance: str,
        done: int,
        begun: int,
        limit: int,
        wait: float,
        lost: bool,
    ) -> None:
        self.requests += 1
        mine = [(item.id, item.fence) for item in self.tasks(board, "cki") if item.agent == agent]
        results, starts = mine[:done], mine[done : done + begun]
        request = f"r{self.requests}"
        self.do(
            "complete_and_claim",
            *(board, agent, instance, request, results, starts, limit, min(limit, 2), wait, 5.0),
            lost=lost,
        )

    @rule(
        board=BOARD,
        which=WHICH,
        count=st.integers(1, 4),
        stale=st.sampled_from([0, 0, 0, 1]),
        lost=LOST,
    )
    def complete(self, board: str, which: int, count: int, stale: int, lost: bool) -> None:
        items = self.tasks(board, "cki")
        rows = [
            (item.id, item.fence - stale) for item in (items[which % len(items) :] if items else ())
        ]
        self.do("complete", board, rows[:count] or [("nothing", 1)], lost=lost)

    @rule(
        board=BOARD,
        which=WHICH,
        retryable=st.sampled_from([True, True, True, False]),
        delay=st.sampled_from([0.0, 1.0, 5.0]),
        lost=LOST,
    )
    def fail(self, board: str, which: int, retryable: bool, delay: float, lost: bool) -> None:
        if item := self.pick(board, which):
            self.do("fail", board, item.id, item.fence, retryable, delay, lost=lost)

    @rule(board=BOARD, which=WHICH, lease=LEASES, lost=LOST)
    def renew(self, board: str, which: int, lease: float, lost: bool) -> None:
        if item := self.pick(board, which):
            self.do("renew", board, item.id, item.fence, lease, lost=lost)

    @rule(board=BOARD, which=WHICH, lost=LOST)
    def start(self, board: str, which: int, lost: bool) -> None:
        if item := self.pick(board, which):
            self.do("start", board, item.id, item.fence, lost=lost)

    @rule(board=BOARD, which=WHICH, parked=st.booleans(), lost=LOST)
    def park(self, board: str, which: int, parked: bool, lost: bool) -> None:
        if item := self.pick(board, which):
            self.do("park", board, item.id, item.fence, parked, lost=lost)

    @rule(board=BOARD, which=WHICH, delay=st.sampled_from([0.0, 0.0, 1.0]), lost=LOST)
    def release(self, board: str, which: int, delay: float, lost: bool) -> None:
        if item := self.pick(board, which):
            self.do("release", board, item.id, item.fence, delay, lost=lost)

    @rule(board=BOARD, which=WHICH, to=AGENT, take_up=LEASES, lost=LOST)
    def handoff(self, board: str, which: int, to: str, take_up: float, lost: bool) -> None:
        if item := self.pick(board, which):
            self.do("handoff", board, item.id, item.fence, to, take_up, lost=lost)

    @rule(board=BOARD, which=WHICH, lost=LOST)
    def ask(self, board: str, which: int, lost: bool) -> None:
        if item := self.pick(board, which):
            self.do("ask", board, item.id, item.fence, lost=lost)

    @rule(board=BOARD, which=WHICH, lost=LOST)
    def answer(self, board: str, which: int, lost: bool) -> None:
        if item := self.pick(board, which, "q"):
            self.do("answer", board, item.id, lost=lost)

    @rule(
        board=BOARD,
        which=WHICH,
        data=st.data(),
        known=st.sampled_from(["", "", "other", "itself"]),
        lost=LOST,
    )
    def split(self, board: str, which: int, data: st.DataObject, known: str, lost: bool) -> None:
        item = self.pick(board, which)
        if item is None:
            return
        fresh = self.draw_specs(board, data)
        children = list(fresh)
        if known:
            other = self.pick(board, data.draw(WHICH), "bspackiqdfx")
            children.append(other.spec if other and known == "other" else item.spec)
        policy = data.draw(st.sampled_from(["run", "fail", "skip"]))
        answer = self.do("split", board, item.id, item.fence, children, policy, lost=lost)
        if answer[0] == "ok" or fresh[0].id in self.model.boards[board].items:
            self.numbers[board] += len(fresh)

    @rule(board=BOARD, which=WHICH, statuses=st.sampled_from(["bspaq", "cki", "dfx"]), lost=LOST)
    def cancel(self, board: str, which: int, statuses: str, lost: bool) -> None:
        if item := self.pick(board, which, statuses):
            self.do("cancel", board, item.id, None, lost=lost)

    @rule(board=BOARD, which=WHICH, lost=LOST)
    def confirm_cancel(self, board: str, which: int, lost: bool) -> None:
        asked = [item for item in self.tasks(board, "cki") if item.is_cancel_asked]
        if asked:
            item = asked[which % len(asked)]
            self.do("cancel", board, item.id, item.fence, lost=lost)

    @rule(board=BOARD, which=WHICH, count=st.integers(1, 3), lost=LOST)
    def retry(self, board: str, which: int, count: int, lost: bool) -> None:
        ended = self.tasks(board, "fx")
        if ended:
            at = which % len(ended)
            self.do("retry", board, [item.id for item in ended[at : at + count]], lost=lost)

    @rule(board=BOARD, which=WHICH, count=st.integers(1, 3), lost=LOST)
    def purge(self, board: str, which: int, count: int, lost: bool) -> None:
        items = self.tasks(board, "dfx") or self.tasks(board)
        if items:
            at = which % len(items)
            self.do("purge", board, [item.id for item in items[at : at + count]], lost=lost)

    @rule(board=BOARD, is_paused=st.booleans(), lost=LOST)
    def pause(self, board: str, is_paused: bool, lost: bool) -> None:
        if is_paused or self.model.boards[board].is_paused:
            self.do("pause", board, is_paused, lost=lost)

    @rule(agent=AGENT, status=st.sampled_from(["active", "active", "busy", "draining"]), lost=LOST)
    def declare(self, agent: str, status: str, lost: bool) -> None:
        self.do("declare", agent, status, lost=lost)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 200))
    def a_request_arrives_once_more(self, which: int) -> None:
        request = self.sent[-1 - which % len(self.sent)]
        self.do(request.name, *request.arguments)

    @rule(which=st.integers(0, 3))
    def a_late_claim_arrives_once_more(self, which: int) -> None:
        claims = [request for request in self.sent if request.name == "claim"]
        if claims:
            request = claims[-1 - which % len(claims)]
            self.do(request.name, *request.arguments)

    # Time

    @rule(
        seconds=st.sampled_from([1, 3, 6, 12, 40]), with_sweep=st.sampled_from([True, True, False])
    )
    def time_passes(self, seconds: int, with_sweep: bool) -> None:
        self.move_clock(seconds, is_continuous=True)
        if with_sweep:
            self.sweep_all()

    @rule(seconds=st.sampled_from([5, 60]))
    def everybody_was_suspended(self, seconds: int) -> None:
        self.move_clock(seconds, is_continuous=False)
        self.sweep_all()

    def move_clock(self, seconds: int, is_continuous: bool) -> None:
        before = self.engine.now
        self.engine.now += seconds * 1_000_000
        self.do("tick", before, is_continuous)

    def sweep_all(self) -> None:
        for board in BOARDS:
            self.do("sweep", board)

    # What must hold after each step

    @invariant()
    def the_engine_stands_as_the_model_does(self) -> None:
        for board in BOARDS:
            self.check_board(board)
        for agent in self.model.agents:
            self.check_agent(agent)

    def check_board(self, name: str) -> None:
        board = self.model.boards[name]
        base = self.engine.keys.tasks(name)
        tail = "" if name == "default" else f":{name}"
        prefix = self.engine.keys.prefix
        lanes = sorted({item.spec.lane for item in board.items.values()})
        indexes = [
            "leases",
            "reserved",
            "scheduled",
            "blocked",
            "input",
            "done",
            "failed",
            "cancelled",
        ]
        raw_state, unique, unresolved, waiters, heads, retrying, dead, *sets = self.engine.read(
            ("HGETALL", f"{base}:state"),
            ("HGETALL", f"{base}:unique"),
            ("ZRANGE", f"{base}:unresolved", 0, -1),
            ("ZRANGE", f"{base}:waiters", 0, -1, "WITHSCORES"),
            ("ZRANGE", f"{base}:heads", 0, -1, "WITHSCORES"),
            ("ZRANGE", f"{prefix}retry:queue{tail}", 0, -1, "WITHSCORES"),
            ("ZRANGE", f"{prefix}retry:dead_letter_queue{tail}", 0, -1, "WITHSCORES"),
            *(("ZRANGE", f"{base}:{index}", 0, -1, "WITHSCORES") for index in indexes),
            *(("ZRANGE", f"{base}:lane:{lane}", 0, -1, "WITHSCORES") for lane in lanes),
        )
        raw = _pairs(raw_state)
        found = dict(zip([*indexes, *lanes], map(_scores, sets), strict=True))
        found["retry"] = _scores(retrying)
        self.check_places(raw, found)
        assert set(raw) == set(board.items)
        for task, item in board.items.items():
            self.check_record(item, parse_record(raw[task].encode()))
        items = list(board.items.values())
        expected = {
            "leases": {item.id: item.until for item in items if item.status in HELD},
            "reserved": {item.id: item.until for item in items if item.status == "a"},
            "retry": {
                item.id: item.until for item in items if item.status == "s" and item.is_retrying
            },
            "scheduled": {
                item.id: item.until for item in items if item.status == "s" and not item.is_retrying
            },
        }
        assert {key: found[key] for key in expected} == expected
        lowest = {}
        for lane in lanes:
            there = {
                item.id: item.score or 0 for item in board.where("p") if item.spec.lane == lane
            }
            assert found[lane] == there
            if there:
                lowest[lane] = min(there.values())
        assert _scores(heads) == lowest, "the heads are not the lanes' first scores"
        assert set(_scores(dead)) == {item.id for item in items if item.is_dead}
        assert _pairs(unique) == board.unique
        assert {one.decode() for one in unresolved} == board.unresolved
        assert _scores(waiters) == {member: until for member, (until, _) in board.waiters.items()}
        self.check_counts(name, lowest)
        self.check_needs(name)

    def check_places(self, raw: dict[str, str], found: dict[str, dict[str, int]]) -> None:
        """Each task stands in exactly one place, the one that its record says."""
        places: dict[str, list[str]] = {task: [] for task in raw}
        for index, members in found.items():
            for task in members:
                assert task in places, f"{task} stands in {index} and has no record"
                places[task].append(index)
        for task, record in raw.items():
            letter, lane = record[0], record.split("|")[8]
            expected = {"p": [lane], "c": ["leases"], "k": ["leases"], "i": ["leases"]}.get(letter)
            if letter == "s":
                assert places[task] in (["scheduled"], ["retry"]), (task, places[task])
            else:
                assert places[task] == (expected or [INDEX_OF[letter]]), (
                    task,
                    letter,
                    places[task],
                )

    def check_record(self, item: Item, record: Any) -> None:
        assert record.letter == item.status, (item.id, record.letter, item.status)
        assert (record.attempt, record.fence) == (item.attempt, item.fence), item.id
        assert (record.failures, record.crashes) == (item.failures, item.crashes), item.id
        assert {one for one in record.crashed.split(",") if one} == set(item.crashed), item.id
        assert ("C" in record.flags) == item.is_cancel_asked, (item.id, record.flags)
        assert ("W" in record.flags) == item.is_parked, (item.id, record.flags)
        if item.status in "ckia":
            assert record.holder == item.holder, item.id
        if item.status in "ckiaq":
            assert int(record.score) == item.score, item.id
        key = (item.board.name, item.id)
        assert record.fence >= self.fences.get(key, 0), "a fence went back"
        self.fences[key] = record.fence

    def check_counts(self, name: str, lowest: dict[str, int]) -> None:
        board = self.model.boards[name]
        [reply] = [self.engine.bench.run(self.engine.functions.call("board_read", name))]
        counts = {key: int(value) for key, value in _pairs(reply[2]).items()}

        def count(statuses: str) -> int:
            return len(board.where(statuses))

        retrying = sum(item.is_retrying for item in board.where("s"))
        expected = {
            "total": len(board.items),
            "blocked": count("b"),
            "pending": count("p"),
            "scheduled": count("s") - retrying,
            "retrying": retrying,
            "assigned": count("a"),
            "held": count("cki"),
            "input_required": count("q"),
            "done": count("d"),
            "failed": count("f"),
            "cancelled": count("x"),
            "dead_letters": sum(item.is_dead for item in board.items.values()),
            "lanes": len(lowest),
            "waiters": sum(until >= self.engine.now // 1000 for until, _ in board.waiters.values()),
            "unresolved": len(board.unresolved),
        }
        assert {key: counts[key] for key in expected} == expected

    def check_needs(self, name: str) -> None:
        board = self.model.boards[name]
        base = self.engine.keys.tasks(name)
        items = [item for item in board.items.values() if item.needs or item.spec.deps]
        vague = [item for item in items if len(item.causes) > 1]
        *needs, _ = self.engine.read(
            *(("SMEMBERS", f"{base}:needs:{item.id}") for item in items),
            ("ECHO", "end"),
        )
        for item, raw in zip(items, needs, strict=True):
            assert {one.decode() for one in raw} == item.needs, item.id
        for item in vague:
            [cause] = self.engine.read(("HGET", f"{base}:extra:{item.id}", "cause"))
            assert cause.decode() in item.causes
            item.causes = frozenset((cause.decode(),))

    def check_agent(self, agent: str) -> None:
        prefix = self.engine.keys.prefix
        held, parked, reserved = self.engine.read(
            *(
                ("ZRANGE", f"{prefix}{key}:{agent}", 0, -1, "WITHSCORES")
                for key in ("held", "parked", "reserved")
            )
        )
        everywhere = [item for board in self.model.boards.values() for item in board.items.values()]
        mine = [item for item in everywhere if item.agent == agent]
        names = {item: f"{item.board.name}:{item.id}" for item in mine}
        holding = [item for item in mine if item.status in HELD]
        assert _scores(held) == {names[i]: i.fence for i in holding if not i.is_parked}
        assert _scores(parked) == {names[i]: i.fence for i in holding if i.is_parked}
        assert _scores(reserved) == {names[i]: i.score for i in mine if i.status == "a"}

    @invariant()
    def the_events_tell_the_same_story(self) -> None:
        [rows] = self.engine.read(("XRANGE", self.engine.keys.events, f"{self.seq + 1}-0", "+"))
        for entry_id, values in rows:
            self.seq += 1
            assert entry_id == b"%d-0" % self.seq, "events are not numbered without a gap"
            fields = _pairs(values)
            if fields["type"].startswith("task:"):
                for fact in parse_facts(fields["facts"]):
                    self.fold(fields["type"], (fields["board"], fact.id), fact)
        for name, board in self.model.boards.items():
            told = {task: state for (where, task), state in self.folded.items() if where == name}
            assert told.keys() == board.items.keys()
            for task, item in board.items.items():
                state, holder, fence = told[task]
                assert state == STATE_WORDS[item.status], (task, state, item.status)
                if item.status in HELD:
                    assert (holder, fence) == (item.holder, item.fence), task

    def fold(self, kind: str, key: tuple[str, str], fact: Any) -> None:
        if kind == "task:purged":
            del self.folded[key]
            return
        if kind == "task:completed":
            assert key not in self.completions, f"{key} was accepted as complete twice"
            self.completions.add(key)
        if kind == "task:claimed":
            assert fact.fence > self.highest_fence, "a grant's fence is not above all earlier ones"
            self.highest_fence = fact.fence
        self.folded[key] = (fact.state, fact.holder, fact.fence)

    @invariant()
    def at_most_one_unfinished_task_has_a_unique_key(self) -> None:
        for board in self.model.boards.values():
            keys = [item.spec.unique for item in board.where("bspackiq") if item.spec.unique]
            assert len(keys) == len(set(keys)), keys


@st.composite
def _submissions(draw: Callable[..., Any], first: int) -> list[Submission]:
    """One to four tasks, numbered from *first*; some depend on others, also on later ones."""
    specs = []
    for number in range(first, first + draw(st.integers(1, 4))):
        deps: tuple[str, ...] = ()
        if draw(st.integers(0, 2)) == 2:
            low, high = max(1, number - 8), number + 3
            others = draw(st.lists(st.integers(low, high), min_size=1, max_size=3))
            deps = tuple(dict.fromkeys(f"t{other}" for other in others))
        specs.append(
            Submission(
                id=f"t{number}",
                kind=draw(st.sampled_from("aab")),
                gpu=draw(st.sampled_from([False, False, True])),
                priority=draw(st.sampled_from([0, 0, 0, 1, -2, 10])),
                deps=deps,
                policy=draw(st.sampled_from(["fail", "fail", "skip", "run"])),
                unique=draw(st.sampled_from([None, None, None, "u1"])),
                delay=draw(st.sampled_from([None] * 5 + [1.0, 5.0])),
                suggested=draw(st.sampled_from([None] * 5 + ["ann", "bob"])),
            )
        )
    return specs


def vars_of(spec: Submission) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in Submission.__dataclass_fields__}


def _pairs(raw: Any) -> dict[str, str]:
    """Names and values, from whichever of its shapes the reply has."""
    if isinstance(raw, dict):
        pairs = list(raw.items())
    elif raw and isinstance(raw[0], list):
        pairs = raw
    else:
        pairs = list(zip(raw[::2], raw[1::2], strict=True))
    return {_text(name): _text(value) for name, value in pairs}


def _text(part: Any) -> str:
    return part.decode() if isinstance(part, bytes) else str(part)


def _scores(raw: Any) -> dict[str, int]:
    return {member: int(float(score)) for member, score in _pairs(raw).items()}


@pytest.fixture
def bench(engine_url: str) -> Iterator[Bench]:
    bench = Bench(engine_url, "model")
    yield bench
    bench.close()


@pytest.mark.timeout(600)
def test_boards_and_agents_do_what_the_plain_model_does_whatever_is_sent_twice(
    bench: Bench,
) -> None:
    BoardMachine.bench = bench

    run_state_machine_as_test(
        BoardMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=bool(os.environ.get("CI")),
            suppress_health_check=list(HealthCheck),
            phases=PHASES,
        ),
    )
