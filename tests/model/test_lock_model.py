"""Random operations on locks against the plain model, on a real engine.

Each step is one call, by a clock that only the test moves; now and then its reply is dropped
and it is sent again. After each step all that the engine keeps of locks is compared with the
model. Whether there is a deadlock is decided by the model alone: the engine must have ended
it in that very step, by a victim from a cycle of those who were stuck, and no other wait.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from callboard.domain.lock import claim_owner
from callboard.domain.record import parse_record
from callboard.domain.task import TaskSpec
from callboard.engine import codec
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys
from callboard.engine.lock_codec import incident_of, pairs_of
from tests.model.bench import CALL_US, PHASES, START_US, Bench, examples
from tests.model.plain_locks import Plain, Wait

EXAMPLES = examples(60)
STEPS = 40
SEQUENCES = 60
SEQUENCE_STEPS = 60
NAMES = ("a", "b", "c/x", "c/y", "c/**", "s")
OWNERS = ("ann", "bob", "cat", "t1", "t2", "t3")
"""Three tokens, and three that stand for the claims of tasks."""

TASKS = OWNERS[3:]
OWNER = st.sampled_from(OWNERS)
NAME = st.sampled_from(NAMES)
SETS = st.lists(NAME, min_size=1, max_size=3, unique=True).map(lambda names: tuple(sorted(names)))
MODE = st.sampled_from(["x", "x", "s", "p2", "p2", "p3"])
PRIORITY = st.sampled_from([0, 0, 0, -3, 2])
WAITS = st.sampled_from([0, 4_000, 60_000, 60_000, 60_000])
LEASES = st.sampled_from([3_000, 600_000, 600_000])
LOST = st.sampled_from([False, False, False, True])


class Engine:
    """The functions of locks in a namespace of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.now = START_US
        self.claims: dict[str, str] = {}
        self.keys = Keys(f"locks-{uuid.uuid4().hex[:12]}")
        self.functions = Functions(bench.connection, self.keys.format, lambda: self.now)
        opened = self.functions.call_on(bench.connection.call, "namespace_open", "none", "model")
        bench.run(opened)
        self.tick()
        self.claim_tasks()

    def claim_tasks(self) -> None:
        profile = "worker;;;;"
        self.call("agent_register", "mira", profile, "", 9, 86_400_000, "", 9, 0, "", "")
        rows = [value for task in TASKS for value in codec.row_of(TaskSpec(kind="work", id=task))]
        self.call("task_submit", "b", len(TASKS), "model", "", *rows)
        reply = self.bench.run(
            self.functions.call("task_claim", "b", "mira", "", "", 3, 3, 0, 3_600_000)
        )
        for at in range(2, len(reply), 5):
            task, fence = reply[at].decode(), parse_record(reply[at + 2]).fence
            self.claims[task] = claim_owner("b", task, fence)

    def tick(self) -> None:
        self.call("namespace_tick", 1_000, 1)

    def call(self, name: str, *arguments: Any) -> list[Any]:
        reply: list[Any] = self.bench.run(self.functions.call(name, *arguments))
        return [part.decode() if isinstance(part, bytes) else part for part in reply]

    def read(self, *commands: tuple[Any, ...]) -> list[Any]:
        async def together() -> list[Any]:
            return await asyncio.gather(*(self.bench.connection.call(*one) for one in commands))

        found: list[Any] = self.bench.run(together())
        return found

    def names(self) -> set[str]:
        """The keys of the namespace, without its prefix."""
        prefix = self.keys.prefix
        cursor: bytes | int = 0
        found: set[str] = set()
        while True:
            pattern = prefix.replace("{", "\\{") + "*"
            [(cursor, page)] = self.read(("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000))
            found |= {key.decode().removeprefix(prefix) for key in page}
            if cursor == b"0":
                return found

    def forget(self) -> None:
        prefix = self.keys.prefix
        self.read(*(("UNLINK", prefix + name) for name in self.names()))


class LockMachine(RuleBasedStateMachine):
    """The rules: what owners do, and what must hold after each step."""

    bench: Bench

    @initialize()
    def begin(self) -> None:
        self.engine = Engine(self.bench)
        self.model = Plain(START_US)
        self.operations = 0
        self.asked: dict[str, str] = {}
        self.incident = 0
        self.fences: dict[int, int] = {}

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        try:
            self.leave_nothing()
        finally:
            self.engine.forget()

    def named(self, owner: str) -> str:
        """The owner's token, for the engine and the model alike."""
        return self.engine.claims.get(owner, owner)

    def operation(self) -> str:
        self.operations += 1
        return f"op{self.operations}"

    def call(self, name: str, *arguments: Any) -> list[Any]:
        self.engine.now += CALL_US
        self.model.now = self.engine.now
        return self.engine.call(name, *arguments)

    # What owners do

    @rule(
        owner=OWNER,
        names=SETS,
        mode=MODE,
        priority=PRIORITY,
        wait=WAITS,
        lease=LEASES,
        lost=LOST,
    )
    def acquire(
        self,
        owner: str,
        names: tuple[str, ...],
        mode: str,
        priority: int,
        wait: int,
        lease: int,
        lost: bool,
    ) -> None:
        owner = self.named(owner)
        letter, limit = mode[0], int(mode[1:]) if mode[1:] else None
        if letter == "p":
            # A semaphore needs plain names.
            names = tuple(name for name in names if "*" not in name) or ("s",)
        operation = self.operation()
        arguments = (
            owner,
            "",
            letter,
            "" if limit is None else limit,
            wait,
            lease,
            priority,
            "",
            operation,
            len(names),
            *names,
        )

        reply = self.call("lock_acquire", *arguments)

        model = self.model
        asked = Wait(
            owner, names, letter, limit, priority, model.now, model.ms + wait, lease, operation
        )
        expected = model.acquire(asked)
        if expected == "waiting":
            self.asked[owner] = operation
            self.end_deadlocks()
            model.serve()
            if owner in model.verdicts:
                model.verdicts.discard(owner)
                expected = "deadlock_victim"
            elif asked.state == "g":
                assert model.take_up(asked)
                expected = "ok"
        elif expected == "ok":
            # On the side, while it waits for something else.
            self.end_deadlocks()
            model.serve()
        assert reply[0] == expected, f"{reply}; {expected} was expected"
        self.compare()
        if lost and expected in ("ok", "waiting"):
            assert self.call("lock_acquire", *arguments)[0] == expected
            self.compare()

    @rule(owner=OWNER)
    def hear(self, owner: str) -> None:
        self.hear_all([owner])

    @rule()
    def hear_everyone(self) -> None:
        self.hear_all(list(OWNERS))

    def hear_all(self, owners: list[str]) -> None:
        """As clients do: a call for each, so that each stands for one step."""
        for owner in map(self.named, owners):
            operation = self.asked.get(owner, "op0")
            reply = self.call("lock_await", 1, owner, operation)
            expected = self.model.hear(owner, operation)
            self.end_deadlocks()
            self.model.serve()
            if expected == "waiting" and owner in self.model.verdicts:
                self.model.verdicts.discard(owner)
                expected = "deadlock_victim"
            assert reply[3].split(" ")[0] == expected, f"{owner}: {reply}; expected {expected}"
            self.compare()

    @rule(owner=OWNER, names=SETS, is_stale=st.sampled_from([False, False, True]), lost=LOST)
    def release(self, owner: str, names: tuple[str, ...], is_stale: bool, lost: bool) -> None:
        owner = self.named(owner)
        held = self.model.held_by(owner)
        names = tuple(name for name in names if name in held) or names
        fences = [self.fence_of(name, owner, is_stale) for name in names]
        operation = self.operation()
        rows = [
            part for name, (_, fence) in zip(names, fences, strict=True) for part in (name, fence)
        ]

        reply = self.call("lock_release", owner, operation, len(names), *rows)

        expected = [
            self.model.release(owner, name, known, operation)
            for name, (known, _) in zip(names, fences, strict=True)
        ]
        self.model.serve()
        assert reply[2].split(",") == expected
        self.compare()
        if lost:
            reply = self.call("lock_release", owner, operation, len(names), *rows)
            assert reply[2].split(",") == expected
            self.compare()

    @rule(owner=OWNER, names=SETS, lease=LEASES, is_stale=st.booleans())
    def renew(self, owner: str, names: tuple[str, ...], lease: int, is_stale: bool) -> None:
        owner = self.named(owner)
        fences = [self.fence_of(name, owner, is_stale) for name in names]
        rows = [
            part for name, (_, fence) in zip(names, fences, strict=True) for part in (name, fence)
        ]

        reply = self.call("lock_renew", owner, lease, len(names), *rows)

        assert reply[3].split(",") == [
            self.model.renew(owner, name, known, lease)
            for name, (known, _) in zip(names, fences, strict=True)
        ]
        self.compare()

    def fence_of(self, name: str, owner: str, is_stale: bool) -> tuple[int | None, int]:
        """A fence to present, as the model and as the engine know it."""
        own = self.model.of(name).get(owner)
        if is_stale:
            return 0, 7
        return (own.fence, self.fences[own.fence]) if own else (None, 0)

    @rule(owner=OWNER)
    def leave(self, owner: str) -> None:
        owner = self.named(owner)
        reply = self.call("lock_leave", owner)

        expected = self.model.leave(owner)
        self.model.serve()
        assert reply[2] == expected
        self.compare()

    @rule(owner=OWNER, keep=st.booleans())
    def withdraw(self, owner: str, keep: bool) -> None:
        owner = self.named(owner)
        wait = self.model.waits.get(owner)
        if wait is None:
            return
        rows = (owner, wait.operation, int(keep), len(wait.names), *wait.names)

        reply = self.call("lock_withdraw", *rows)

        expected = "ok"
        if keep and wait.state == "g" and self.model.take_up(wait):
            expected = "taken"
        else:
            self.model.end_wait(owner)
        self.model.serve()
        assert reply[0] == expected
        self.compare()

    @rule(task=st.sampled_from(TASKS), other=st.sampled_from(TASKS), wants=st.booleans())
    def park(self, task: str, other: str, wants: bool) -> None:
        """A claim waits for the task of another, or not any more."""
        owner, following = self.named(task), self.named(other)
        fence = owner.rpartition(":")[2]
        if not wants or owner == following:
            reply = self.call("task_park", "b", "", task, fence, 0, "", "", "")
            self.model.unpark(owner)
            assert reply[0] == "ok"
        else:
            reply = self.call("task_park", "b", "", task, fence, 1, "b", other, "")
            self.model.park(owner, following)
            self.end_deadlocks()
            is_victim = owner in self.model.verdicts
            self.model.verdicts.discard(owner)
            self.model.serve()
            assert reply[0] == ("deadlock_victim" if is_victim else "ok")
        self.compare()

    @rule(name=NAME, owner=st.sampled_from(["", *OWNERS]))
    def force(self, name: str, owner: str) -> None:
        owner = self.named(owner)
        reply = self.call("lock_force", name, owner, "operator", "why not")

        expected = self.model.force(name, owner)
        self.model.serve()
        assert (reply[0] == "ok") == expected
        self.compare()

    @rule(ms=st.sampled_from([1, 400, 1_000, 1_900, 2_100, 5_100, 70_000]))
    def let_time_pass(self, ms: int) -> None:
        self.engine.now += ms * 1_000
        self.model.now = self.engine.now
        self.engine.tick()

    @rule()
    def sweep(self) -> None:
        self.sweep_once()
        self.compare()

    def sweep_once(self) -> None:
        reply = self.call("lock_sweep", 200)

        assert reply[0] == "ok"
        self.model.sweep()
        self.model.serve()
        self.heed_incidents()

    # Deadlocks

    def new_incidents(self) -> Iterator[Any]:
        after = f"({self.incident}-0" if self.incident else "-"
        (rows,) = self.engine.read(("XRANGE", self.engine.keys.locks_incidents, after, "+"))
        for row in rows:
            incident = incident_of(row)
            assert int(incident.id) > self.incident
            self.incident = int(incident.id)
            yield incident

    def end_deadlocks(self) -> None:
        """All deadlocks must have been ended by the call."""
        self.heed_incidents()
        stuck = self.model.stuck()
        assert not stuck, f"a deadlock was not found: {stuck}"

    def heed_incidents(self) -> None:
        """Each must be of a deadlock that there was, and its victim the right one of a cycle."""
        self.heed_yields()
        for incident in self.new_incidents():
            stuck = self.model.stuck()
            cycle, victim = incident.cycle, incident.victim
            assert set(cycle) <= set(stuck), f"{cycle} are not stuck, but {sorted(stuck)}"
            lost: set[str] = set()
            for owner, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
                edges = self.model.edges(owner)
                assert following in edges, f"{owner} does not wait for {following}, but {edges}"
                lost |= edges[following] if following == victim else set()
            if incident.reason == "deadlock":
                assert victim == self.model.choose(cycle)
            assert victim in cycle
            self.model.sacrifice(victim, lost)
            self.model.serve()
            self.heed_yields()

    def heed_yields(self) -> None:
        """A reservation is given up only by one that is stuck, and that others queue behind."""
        [raw] = self.engine.read(("HGETALL", self.engine.keys.prefix + "locks:waits"))
        states = {owner.decode(): line[:1].decode() for owner, line in pairs_of(raw)}
        stuck = self.model.stuck()
        for wait in self.model.waits.values():
            if wait.state == "r" and states.get(wait.owner) == "w":
                behind = [o for o in stuck if wait.owner in self.model.edges(o)]
                assert wait.owner in stuck and behind, f"{wait.owner} gave way for nothing"
                wait.state = "w"
        self.model.serve()

    # What must hold

    def finish(self) -> None:
        """What a call left to the sweep is done at once, as the library does it."""
        while self.engine.read(("ZCARD", self.engine.keys.prefix + "locks:unchecked")) != [0]:
            self.sweep_once()

    def compare(self) -> None:
        self.finish()
        assert not list(self.new_incidents()), "a victim where there was no deadlock"
        assert not self.model.stuck(), f"a deadlock came unseen: {self.model.stuck()}"
        self.model.settle()
        prefix = self.engine.keys.prefix
        waits, active, *rest = self.engine.read(
            ("HGETALL", prefix + "locks:waits"),
            ("ZRANGE", prefix + "locks", 0, -1),
            *(("HGETALL", f"{prefix}lock:{name}") for name in NAMES),
            *(("ZRANGE", f"{prefix}lockqueue:{name}", 0, -1) for name in NAMES),
        )
        self.compare_waits(dict(pairs_of(waits)))
        assert {name.decode() for name in active} == self.model.active()
        for i, name in enumerate(NAMES):
            self.compare_holders(name, dict(pairs_of(rest[i])))
            line = [owner.decode() for owner in rest[len(NAMES) + i]]
            assert line == [w.owner for w in self.model.line() if name in w.names], name
        self.fences_rise()

    def compare_waits(self, found: dict[bytes, bytes]) -> None:
        kept = {}
        verdicts, parked = set(), set()
        for field, raw in found.items():
            owner, _, letter = field.decode().partition("\n")
            if letter == "v":
                verdicts.add(owner)
            elif letter == "t":
                parked.add(owner)
            else:
                state, mode, _, priority, *_, names = raw.decode().split("|")
                kept[owner] = (state, mode, int(priority), tuple(names.split(",")))
        assert kept == {
            owner: (w.state, w.mode, w.priority, w.names) for owner, w in self.model.waits.items()
        }
        assert (verdicts, parked) == (self.model.verdicts, set(self.model.parked))

    def compare_holders(self, name: str, found: dict[bytes, bytes]) -> None:
        own = self.model.of(name)
        kept = {}
        for field, raw in found.items():
            if field == b"~":
                continue
            mode, mark, count, first, fence, deadline, *_ = raw.decode().split("|")
            owner = field.decode()
            kept[owner] = (mode, mark, int(count), int(deadline))
            if owner in own:
                self.know(own[owner].first, int(first))
                self.know(own[owner].fence, int(fence))
        assert kept == {o: (h.mode, h.mark, h.count, h.deadline) for o, h in own.items()}, name
        self.exclude(name)

    def know(self, number: int, fence: int) -> None:
        assert self.fences.setdefault(number, fence) == fence

    def fences_rise(self) -> None:
        known = [self.fences[number] for number in sorted(self.fences)]
        assert known == sorted(set(known)), "a later grant has a lower fence"

    def exclude(self, name: str) -> None:
        """Nobody else has what is held alone, and no more have a permit than there are."""
        for spot in self.model.meeting(name):
            for owner, own in self.model.of(name).items():
                others = [h for o, h in self.model.of(spot).items() if o != owner]
                if own.mode == "x":
                    assert not others
        permits = sum(own.mode == "p" for own in self.model.of(name).values())
        assert permits <= self.model.limits.get(name, 0)

    def leave_nothing(self) -> None:
        """When all is given back and told, no key is left but incidents and their count."""
        for owner in OWNERS:
            self.leave(owner)
        self.let_time_pass(70_000)
        self.sweep()
        left = {name for name in self.engine.names() if name.startswith("lock")}
        brief = ("lockvictim:", "lockreleased:")
        assert {n for n in left if not n.startswith(brief)} <= {"locks:incidents"}


def _rows(names: tuple[str, ...], fences: list[tuple[int | None, int]]) -> list[str | int]:
    return [part for name, (_, fence) in zip(names, fences, strict=True) for part in (name, fence)]


def _step(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """A rule and its arguments, likelier those that make waits and cycles."""
    owner = chance.choice(OWNERS)
    count = chance.choice((1, 1, 2, 2, 3))
    names = tuple(sorted(chance.sample(NAMES, count)))
    steps: dict[str, tuple[int, dict[str, Any]]] = {
        "acquire": (
            50,
            {
                "owner": owner,
                "names": names,
                "mode": chance.choice(("x", "x", "x", "s", "s", "p2", "p2", "p3")),
                "priority": chance.choice((0, 0, 0, -3, 2)),
                "wait": chance.choice((0, 4_000, 60_000, 60_000, 60_000)),
                "lease": chance.choice((3_000, 600_000, 600_000)),
                "lost": chance.random() < 0.2,
            },
        ),
        "hear_everyone": (10, {}),
        "hear": (8, {"owner": owner}),
        "release": (
            12,
            {
                "owner": owner,
                "names": names,
                "is_stale": chance.random() < 0.1,
                "lost": chance.random() < 0.3,
            },
        ),
        "park": (
            6,
            {
                "task": chance.choice(TASKS),
                "other": chance.choice(TASKS),
                "wants": chance.random() < 0.8,
            },
        ),
        "leave": (3, {"owner": owner}),
        "withdraw": (3, {"owner": owner, "keep": chance.random() < 0.5}),
        "force": (2, {"name": names[0], "owner": chance.choice(("", owner))}),
        "renew": (
            2,
            {
                "owner": owner,
                "names": names,
                "lease": chance.choice((3_000, 600_000)),
                "is_stale": chance.random() < 0.2,
            },
        ),
        "let_time_pass": (5, {"ms": chance.choice((1, 400, 1_000, 1_900, 2_100, 2_100, 5_100))}),
        "sweep": (5, {}),
    }
    (name,) = chance.choices(list(steps), [weight for weight, _ in steps.values()])
    return name, steps[name][1]


@pytest.fixture(scope="module")
def bench(engine_url: str) -> Iterator[Bench]:
    opened = Bench(engine_url, "lock-model")
    yield opened
    opened.close()


@pytest.mark.timeout(1_800)
def test_long_sequences_that_make_many_cycles_go_as_the_model_says(bench: Bench) -> None:
    """Hypothesis finds short ones, and shrinks; these reach what takes many steps to come by."""
    victims = 0
    for seed in range(SEQUENCES):
        chance = random.Random(seed)
        machine = LockMachine()
        machine.bench = bench
        LockMachine.begin(machine)
        said: list[tuple[str, dict[str, Any]]] = []
        try:
            for _ in range(SEQUENCE_STEPS):
                name, arguments = _step(chance)
                said.append((name, arguments))
                getattr(machine, name)(**arguments)
            victims += sum(machine.model.karma.values())
            machine.leave_nothing()
        except AssertionError as error:
            error.add_note(f"sequence {seed}, step {len(said)}: {said[-1]}")
            raise
        finally:
            machine.engine.forget()

    assert victims > SEQUENCES / 2


@pytest.mark.timeout(1_800)
def test_the_engine_and_the_plain_model_agree_on_locks(bench: Bench) -> None:
    machine = type("Machine", (LockMachine,), {"bench": bench})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            report_multiple_bugs=False,
        ),
    )
