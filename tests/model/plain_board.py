"""The plain model: boards and agents in ordinary Python, one operation after another.

It says for each operation what the engine has to answer, and for each moment where every
task has to stand. It knows nothing of keys, records or batches of writes: a task is an
object with a status, and an index is a comprehension over the tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STEP_US = 60_000_000
INTERVAL_MS = 1_000
GRACE_MS = 10_000
TAKE_UP_MS = 5_000
POISON_INSTANCES, CRASHES_MOST = 3, 5
RETRIES = 3
CLAIM_SWEEPS, CLAIM_PROMOTES, SWEEP_LIMIT = 10, 100, 200
HELD = frozenset("cki")
FINISHED = frozenset("dfx")


@dataclass(frozen=True)
class Submission:
    """A task as it is submitted."""

    id: str
    kind: str = "a"
    gpu: bool = False
    priority: int = 0
    deps: tuple[str, ...] = ()
    policy: str = "fail"
    unique: str | None = None
    delay: float | None = None
    suggested: str | None = None

    @property
    def lane(self) -> str:
        return f"{self.kind};;{'gpu' if self.gpu else ''};;"


@dataclass(eq=False)
class Item:
    """A task of the model."""

    spec: Submission
    board: Board
    status: str = "p"
    attempt: int = 0
    fence: int = 0
    agent: str = ""
    instance: str = ""
    score: int | None = None
    policy: str = "fail"
    failures: int = 0
    crashes: int = 0
    crashed: tuple[str, ...] = ()
    until: int = 0
    is_retrying: bool = False
    is_dead: bool = False
    is_parked: bool = False
    is_cancel_asked: bool = False
    was_lost: bool = False
    lost_fence: int = 0
    is_suggested: bool = False
    # How a reservation was made, and in which ms: for who waited, preferred, or handed over.
    reserved_by: str = ""
    reserved_at: int = 0
    not_before: int | None = None
    # The dependency it ended for; where the engine may name one of several, all of them.
    causes: frozenset[str] = frozenset()
    needs: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def holder(self) -> str:
        return f"{self.agent}/{self.instance}" if self.instance else self.agent


@dataclass(eq=False)
class Board:
    """A board of the model."""

    name: str
    items: dict[str, Item] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    dependents: dict[str, dict[str, int]] = field(default_factory=dict)
    unresolved: set[str] = field(default_factory=set)
    unique: dict[str, str] = field(default_factory=dict)
    waiters: dict[str, tuple[int, int]] = field(default_factory=dict)
    is_paused: bool = False

    def where(self, statuses: str) -> list[Item]:
        return [item for item in self.items.values() if item.status in statuses]


@dataclass(eq=False)
class Agent:
    """An agent of the model: what it can do, and how much at once."""

    id: str
    gpu: bool
    kinds: tuple[str, ...]
    limit: int
    ready: int
    status: str = "active"

    def fits(self, lane: str) -> bool:
        kind, _, capabilities, _, _ = lane.split(";")
        return (self.gpu or not capabilities) and (not self.kinds or kind in self.kinds)

    @property
    def takes_work(self) -> bool:
        return self.status in ("active", "busy")


class Plain:
    """All boards and agents of one namespace, and its clock in µs."""

    def __init__(self, now: int, boards: tuple[str, ...], agents: tuple[Agent, ...]) -> None:
        self.now = now
        self.fence = 0
        self.grace = (0, 0)
        self.boards = {name: Board(name) for name in boards}
        self.agents = {agent.id: agent for agent in agents}
        self.requests: dict[str, tuple[tuple[str, str, str], int, int]] = {}
        self.begin(now)

    # What an operation sees

    def begin(self, now: int) -> None:
        """A new call: who waits is read once a call."""
        self.now = now
        self._waiting: dict[str, list[list]] = {}

    @property
    def ms(self) -> int:
        return self.now // 1000

    def held_by(self, agent: str) -> list[Item]:
        return [
            item
            for board in self.boards.values()
            for item in board.where("cki")
            if item.agent == agent and not item.is_parked
        ]

    def reserved_for(self, agent: str) -> list[Item]:
        return [
            item
            for board in self.boards.values()
            for item in board.where("a")
            if item.agent == agent
        ]

    def _is_over(self, deadline: int) -> bool:
        return deadline <= self.ms and (deadline < self.grace[0] or self.ms >= self.grace[1])

    # Placing

    def _waiters(self, board: Board) -> list[list]:
        if board.name not in self._waiting:
            live = sorted((w[0], member) for member, w in board.waiters.items() if w[0] >= self.ms)
            self._waiting[board.name] = [
                [member, member.partition("/")[0], board.waiters[member][1]] for _, member in live
            ]
        return self._waiting[board.name]

    def _ring(self, board: Board, waiter: list) -> None:
        waiter[2] -= 1
        if waiter[2] <= 0:
            board.waiters.pop(waiter[0], None)
        else:
            board.waiters[waiter[0]] = (board.waiters[waiter[0]][0], waiter[2])

    def _reserve(self, item: Item, agent: str, until: int, by: str) -> None:
        item.reserved_by, item.reserved_at = by, self.ms
        item.status, item.agent, item.instance, item.until = "a", agent, "", until

    def _offer(self, item: Item) -> None:
        board = item.board
        best: list | None = None
        least = (0.0, 0.0)
        for waiter in self._waiters(board) if not board.is_paused else ():
            agent = self.agents[waiter[1]]
            if waiter[2] <= 0:
                continue
            if agent.status != "active" or not agent.fits(item.spec.lane):
                continue
            count = len(self.held_by(agent.id)) + len(self.reserved_for(agent.id))
            load = (count / agent.ready, count / agent.limit)
            if count < agent.limit and (best is None or load < least):
                best, least = waiter, load
        if best is None:
            item.status, item.agent, item.instance = "p", "", ""
        else:
            self._reserve(item, best[1], self.ms + TAKE_UP_MS, "offer")
            self._ring(board, best)

    def _offer_to(self, item: Item, agent_id: str, for_ms: int) -> None:
        agent = self.agents[agent_id]
        if agent.status != "active" or not agent.fits(item.spec.lane):
            self._offer(item)
            return
        self._reserve(item, agent_id, self.ms + for_ms, "preference")
        self._ring_all_of(item.board, agent_id)

    def _ring_all_of(self, board: Board, agent_id: str) -> None:
        for waiter in self._waiters(board):
            if waiter[1] == agent_id:
                self._ring(board, waiter)

    def _leave(self, item: Item) -> None:
        item.status = "-"
        item.is_parked = item.is_retrying = item.is_dead = False

    def _make_ready(self, item: Item, index: int = 0) -> None:
        if item.score is None:
            item.score = self.now + index - item.spec.priority * STEP_US
        due, item.not_before = item.not_before, None
        if due is not None and due > self.ms:
            item.status, item.until, item.agent, item.instance = "s", due, "", ""
        elif item.is_suggested and item.spec.suggested:
            self._offer_to(item, item.spec.suggested, 10_000)
        else:
            self._offer(item)

    # Ending

    def _end(self, item: Item, status: str) -> list[Item]:
        item.status, item.score = status, None
        if item.spec.unique and item.board.unique.get(item.spec.unique) == item.id:
            del item.board.unique[item.spec.unique]
        return [item] if item.board.dependents.get(item.id) else []

    def _bury(self, item: Item) -> list[Item]:
        item.is_dead = True
        return self._end(item, "f")

    def _cancel(self, item: Item) -> list[Item]:
        item.is_cancel_asked = False
        return self._end(item, "x")

    def _dependency_failed(self, cause: str, item: Item) -> list[Item]:
        if item.policy == "run":
            self._satisfy(cause, item)
            return []
        if item.status != "b":
            return []
        item.causes = frozenset((cause,))
        return self._cancel(item) if item.policy == "skip" else self._end(item, "f")

    def _satisfy(self, cause: str, item: Item) -> None:
        if cause in item.needs:
            item.needs.discard(cause)
            if item.status == "b" and not item.needs:
                self._make_ready(item)

    def _revive(self, cause: str, item: Item) -> list[Item]:
        board = item.board
        if item.status not in "fx" or cause not in item.causes:
            return []
        failed = {need for need in item.needs if self._status_of(board, need) in ("f", "x")}
        if failed - {cause}:
            item.causes = (item.causes | failed) - {cause}
            return []
        key = item.spec.unique
        if key and board.unique.get(key, item.id) != item.id:
            return []
        if key:
            board.unique[key] = item.id
        self._needs_again(item)
        self._leave(item)
        item.status, item.agent, item.instance, item.causes = "b", "", "", frozenset()
        return [item] if board.dependents.get(item.id) else []

    def _status_of(self, board: Board, task_id: str) -> str | None:
        item = board.items.get(task_id)
        return item.status if item else board.outcomes.get(task_id)

    def _needs_again(self, item: Item) -> None:
        """A task put back waits no more for what was purged, and again for what is unknown."""
        board = item.board
        for need in sorted(item.needs):
            if need in board.items:
                if item.policy == "run" and board.items[need].status in "fx":
                    item.needs.discard(need)
                continue
            if need in board.outcomes:
                item.needs.discard(need)
            else:
                board.dependents.setdefault(need, {}).setdefault(item.id, self.now)
                board.unresolved.add(need)

    def _cascade(self, queue: list[Item]) -> None:
        while queue:
            item = queue.pop(0)
            after = item.board.dependents.get(item.id, {})
            for name in sorted(after, key=lambda name: (after[name], name)):
                dependent = item.board.items.get(name)
                if dependent is None:
                    continue
                if item.status == "d":
                    queue += self._revive(item.id, dependent)
                    self._satisfy(item.id, dependent)
                elif item.status in "fx":
                    queue += self._dependency_failed(item.id, dependent)
                else:
                    queue += self._revive(item.id, dependent)

    # Submitting

    def submit(self, board_name: str, specs: list[Submission]) -> tuple:
        board = self.boards[board_name]
        refusal, fresh, outcomes = self._check(board, specs)
        if refusal:
            return (refusal,)
        self._cascade(self._write(board, fresh))
        return ("ok", outcomes)

    def _check(
        self, board: Board, specs: list[Submission], parent: Item | None = None
    ) -> tuple[str, list[Submission], str]:
        batch: dict[str, Submission] = {}
        fresh: list[Submission] = []
        outcomes = ""
        for spec in specs:
            earlier = batch.get(spec.id)
            if earlier is None and spec.id in board.items:
                earlier = board.items[spec.id].spec
            if earlier is not None and earlier != spec:
                return "id_conflict", [], ""
            is_there = earlier is not None or spec.id in board.outcomes
            outcomes += "e" if is_there else "c"
            batch.setdefault(spec.id, spec)
            if not is_there:
                fresh.append(spec)
        if any(spec.id in spec.deps for spec in fresh):
            return "dependency_cycle", [], ""
        if parent is not None and any(spec.id == parent.id for spec in specs):
            return "dependency_cycle", [], ""
        keys = dict(board.unique)
        for spec in fresh:
            if spec.unique and keys.setdefault(spec.unique, spec.id) != spec.id:
                return "unique_conflict", [], ""
        waits = {item.id: set(item.needs) for item in board.items.values()}
        waits.update({spec.id: set(spec.deps) for spec in fresh})
        if parent is not None:
            waits[parent.id] = waits[parent.id] | {spec.id for spec in specs}
        starts = [spec.id for spec in fresh] + ([parent.id] if parent else [])
        if any(_reaches(waits, start) for start in starts):
            return "dependency_cycle", [], ""
        return "", fresh, outcomes

    def _link(self, item: Item, deps: tuple[str, ...]) -> list[tuple[str, str]]:
        """Unmet dependencies are waited for; answers those that have failed already."""
        board, failed = item.board, []
        for index, dep in enumerate(dict.fromkeys(deps), start=1):
            record = board.items.get(dep)
            status = record.status if record else board.outcomes.get(dep)
            if record or status is None:
                board.dependents.setdefault(dep, {}).setdefault(item.id, self.now + index)
            if status == "d":
                continue
            item.needs.add(dep)
            if status in ("f", "x"):
                failed.append((dep, status))
            if status is None:
                board.unresolved.add(dep)
        return failed

    def _write(self, board: Board, fresh: list[Submission]) -> list[Item]:
        born_failed, queue = [], []
        for index, spec in enumerate(fresh, start=1):
            item = Item(spec, board, policy=spec.policy, is_suggested=bool(spec.suggested))
            board.items[spec.id] = item
            board.unresolved.discard(spec.id)
            if spec.unique:
                board.unique[spec.unique] = spec.id
            failed = self._link(item, spec.deps)
            if item.needs and failed:
                born_failed.append((item, failed))
            due = self.ms + round(spec.delay * 1000) if spec.delay else 0
            if due > self.ms:
                item.score = due * 1000 + index - spec.priority * STEP_US
            if item.needs:
                item.status = "b"
                item.not_before = due if due > self.ms else None
            elif due > self.ms:
                item.status, item.until = "s", due
            else:
                item.score = self.now + index - spec.priority * STEP_US
                if spec.suggested:
                    self._offer_to(item, spec.suggested, 10_000)
                else:
                    self._offer(item)
        for item, failed in born_failed:
            for dep, _ in failed:
                queue += self._dependency_failed(dep, item)
        return queue

    # Claiming

    def claim(
        self,
        board_name: str,
        agent_id: str,
        instance: str,
        request: str,
        limit: int,
        started: int,
        wait: float,
        lease: float,
    ) -> tuple:
        board = self.boards[board_name]
        again = self._claimed_before((board_name, agent_id, instance), request)
        if again:
            return again
        refusal = self._claim_refusal(board, agent_id)
        if refusal:
            return refusal
        return self._claim(board, agent_id, instance, request, limit, started, wait, lease)

    def _claim_refusal(self, board: Board, agent_id: str) -> tuple | None:
        if not self.agents[agent_id].takes_work:
            return ("agent_draining",)
        return ("paused",) if board.is_paused else None

    def _claimed_before(self, caller: tuple[str, str, str], request: str) -> tuple | None:
        if request not in self.requests:
            return None
        granted_to, first, count = self.requests[request]
        if granted_to != caller:
            return ("request_conflict",)
        name, agent_id, _ = caller
        there = sorted(
            (item.fence, item.id, item.attempt, item.status)
            for item in self.boards[name].where("cki")
            if item.agent == agent_id and first <= item.fence < first + count
        )
        lost = sorted(set(range(first, first + count)) - {one[0] for one in there})
        return ("replayed", [(i, f, a, s) for f, i, a, s in there], lost)

    def _claim(
        self,
        board: Board,
        agent_id: str,
        instance: str,
        request: str,
        limit: int,
        started: int,
        wait: float,
        lease: float,
    ) -> tuple:
        agent = self.agents[agent_id]
        self._sweep_for_claim(board)
        room = agent.limit - len(self.held_by(agent_id))
        most = min(limit, room)
        taken: list[Item] = []
        if most > 0:
            mine = [item for item in board.where("a") if item.agent == agent_id]
            taken = sorted(mine, key=_by_score)[:most]
            lanes = [item for item in board.where("p") if agent.fits(item.spec.lane)]
            taken += sorted(lanes, key=_by_score)[: most - len(taken)]
            if not taken:
                taken = self._steal(board, agent, most)
        status = "ok"
        if taken:
            first = max(self.fence + 1, self.now)
            self.fence = first + len(taken) - 1
            for index, item in enumerate(taken):
                self._leave(item)
                item.status = "c" if index < started else "k"
                item.attempt += 1
                item.fence, item.agent, item.instance = first + index, agent_id, instance
                item.until = self.ms + round(lease * 1000)
            if request:
                self.requests[request] = ((board.name, agent_id, instance), first, len(taken))
        elif limit > 0:
            status = "agent_full" if room <= 0 else "empty"
        member = f"{agent_id}/{instance}"
        wants = started - len(taken)
        if wants > 0 and wait > 0:
            board.waiters[member] = (self.ms + round(wait * 1000), wants)
        elif self._waiters(board):
            board.waiters.pop(member, None)
        return (status, [(item.id, item.fence, item.attempt, item.status) for item in taken], [])

    def _steal(self, board: Board, thief: Agent, most: int) -> list[Item]:
        victims: dict[str, list[Item]] = {}
        for item in sorted(board.where("a"), key=lambda item: (item.until, item.id)):
            may_be = item.reserved_by == "offer" or (
                item.reserved_by == "preference" and 2 * self.ms >= item.reserved_at + item.until
            )
            if may_be and item.agent != thief.id and thief.fits(item.spec.lane):
                victims.setdefault(item.agent, []).append(item)
        taken: list[Item] = []
        for _, items in sorted(victims.items(), key=lambda one: (-len(one[1]), one[0]))[:3]:
            for item in list(reversed(items))[: len(items) // 2]:
                if len(taken) < min(most, 100):
                    taken.append(item)
        return taken

    # The holder's operations

    def _stale(self, board: Board, task_id: str, fence: int) -> str | None:
        item = board.items.get(task_id)
        if item is None:
            return "task_not_found"
        return None if item.fence == fence and item.status in HELD else "lease_lost"

    def _was(self, board: Board, task_id: str, fence: int, statuses: str) -> bool:
        item = board.items.get(task_id)
        return item is not None and item.fence == fence and item.status in statuses

    def _has_given_up(self, board: Board, task_id: str, fence: int) -> bool:
        item = board.items.get(task_id)
        return bool(fence) and (
            item is not None
            and item.fence == fence != item.lost_fence
            and item.status not in HELD | {"d"}
        )

    def complete(self, board_name: str, rows: list[tuple[str, int]]) -> tuple:
        answers, queue = self._complete(self.boards[board_name], rows)
        self._cascade(queue)
        return ("ok", answers)

    def _complete(self, board: Board, rows: list[tuple[str, int]]) -> tuple[list[str], list[Item]]:
        answers, queue = [], []
        for task_id, fence in rows:
            no = self._stale(board, task_id, fence)
            if no == "lease_lost" and self._was(board, task_id, fence, "d"):
                answers.append("replayed")
            elif no:
                answers.append(no)
            else:
                item = board.items[task_id]
                self._leave(item)
                item.is_cancel_asked = False
                queue += self._end(item, "d")
                answers.append("ok")
        return answers, queue

    def complete_and_claim(
        self,
        board_name: str,
        agent_id: str,
        instance: str,
        request: str,
        results: list[tuple[str, int]],
        begun: list[tuple[str, int]],
        limit: int,
        started: int,
        wait: float,
        lease: float,
    ) -> tuple:
        board = self.boards[board_name]
        caller = (board_name, agent_id, instance)
        reply = self._claimed_before(caller, request) or self._claim_refusal(board, agent_id)
        completed, queue = self._complete(board, results)
        begun_answers = [self._start(board, task_id, fence) for task_id, fence in begun]
        self._cascade(queue)
        if reply is None:
            reply = ("empty", [], [])
            if limit:
                reply = self._claim(board, agent_id, instance, request, limit, started, wait, lease)
        return ("ok", completed, begun_answers, reply)

    def fail(
        self, board_name: str, task_id: str, fence: int, retryable: bool, delay: float
    ) -> tuple:
        board = self.boards[board_name]
        no = self._stale(board, task_id, fence)
        if self._has_given_up(board, task_id, fence):
            return ("ok", ["replayed"])
        if no:
            return ("ok", [no])
        item = board.items[task_id]
        self._leave(item)
        item.failures += 1
        if item.is_cancel_asked:
            self._cascade(self._cancel(item))
            return ("ok", ["cancelled"])
        if not retryable or item.failures > RETRIES:
            self._cascade(self._bury(item))
            return ("ok", ["failed"])
        item.until = self.ms + round(delay * 1000)
        item.status, item.agent, item.instance, item.is_retrying = "s", "", "", True
        item.score = item.until * 1000 - item.spec.priority * STEP_US
        return ("ok", ["retry_scheduled"])

    def start(self, board_name: str, task_id: str, fence: int) -> tuple:
        return ("ok", [self._start(self.boards[board_name], task_id, fence)])

    def _start(self, board: Board, task_id: str, fence: int) -> str:
        no = self._stale(board, task_id, fence)
        if no:
            return no
        board.items[task_id].status = "i"
        return "ok"

    def renew(self, board_name: str, task_id: str, fence: int, lease: float) -> tuple:
        board = self.boards[board_name]
        no = self._stale(board, task_id, fence)
        if no:
            return ("ok", [no])
        item = board.items[task_id]
        item.until = max(item.until, self.ms + round(lease * 1000))
        return ("ok", ["cancel" if item.is_cancel_asked else "ok"])

    def park(self, board_name: str, task_id: str, fence: int, parked: bool) -> tuple:
        board = self.boards[board_name]
        no = self._stale(board, task_id, fence)
        if no:
            return (no,)
        board.items[task_id].is_parked = parked
        return ("ok",)

    def release(self, board_name: str, task_id: str, fence: int, delay: float) -> tuple:
        board = self.boards[board_name]
        no = self._stale(board, task_id, fence)
        if self._has_given_up(board, task_id, fence):
            return ("ok", ["replayed"])
        if no:
            return ("ok", [no])
        item = board.items[task_id]
        self._leave(item)
        if item.is_cancel_asked:
            self._cascade(self._cancel(item))
            return ("ok", ["cancelled"])
        item.agent = item.instance = ""
        if delay:
            item.status, item.until = "s", self.ms + round(delay * 1000)
        else:
            self._offer(item)
        return ("ok", ["ok"])

    def handoff(self, board_name: str, task_id: str, fence: int, to: str, take_up: float) -> tuple:
        board = self.boards[board_name]
        no = self._stale(board, task_id, fence)
        if no == "lease_lost" and self._was(board, task_id, fence, "a"):
            item = board.items[task_id]
            if item.agent == to:
                return ("replayed",)
        if no:
            return (no,)
        if board.items[task_id].is_cancel_asked:
            return ("cancel_requested",)
        item, agent = board.items[task_id], self.agents[to]
        if not agent.takes_work:
            return ("agent_draining",)
        if not agent.fits(item.spec.lane):
            return ("does_not_fit",)
        self._leave(item)
        self._reserve(item, to, self.ms + round(take_up * 1000), "handoff")
        self._ring_all_of(board, to)
        return ("ok",)

    def ask(self, board_name: str, task_id: str, fence: int) -> tuple:
        board = self.boards[board_name]
        no = self._stale(board, task_id, fence)
        if self._has_given_up(board, task_id, fence):
            return ("replayed",)
        if no:
            return (no,)
        item = board.items[task_id]
        self._leave(item)
        if item.is_cancel_asked:
            self._cascade(self._cancel(item))
            return ("cancelled",)
        item.status = "q"
        return ("ok",)

    def answer(self, board_name: str, task_id: str) -> tuple:
        item = self.boards[board_name].items.get(task_id)
        if item is None:
            return ("task_not_found",)
        if item.status != "q":
            return ("illegal_state",)
        self._offer_to(item, item.agent, 10_000)
        return ("ok",)

    def split(
        self, board_name: str, task_id: str, fence: int, children: list[Submission], policy: str
    ) -> tuple:
        board = self.boards[board_name]
        no = self._stale(board, task_id, fence)
        if self._has_given_up(board, task_id, fence):
            return ("replayed",)
        if no:
            return (no,)
        if board.items[task_id].is_cancel_asked:
            return ("cancel_requested",)
        item = board.items[task_id]
        refusal, fresh, _ = self._check(board, children, item)
        if refusal:
            return (refusal,)
        queue = self._write(board, fresh)
        self._leave(item)
        item.policy = policy
        failed = self._link(item, tuple(child.id for child in children))
        if item.needs:
            item.status, item.agent, item.instance = "b", "", ""
            for dep, _ in failed:
                queue += self._dependency_failed(dep, item)
        else:
            self._make_ready(item)
        self._cascade(queue)
        return ("ok",)

    # Steering

    def cancel(self, board_name: str, task_id: str, fence: int | None) -> tuple:
        board = self.boards[board_name]
        item = board.items.get(task_id)
        if item is None:
            return ("ok", ["task_not_found"])
        if item.status == "x" and fence in (None, item.fence):
            return ("ok", ["cancelled"])
        if fence is not None and self._stale(board, task_id, fence):
            return ("ok", ["lease_lost"])
        if item.status in FINISHED:
            return ("ok", ["finished"])
        if item.status in HELD and fence is None:
            item.is_cancel_asked = True
            return ("ok", ["requested"])
        self._leave(item)
        self._cascade(self._cancel(item))
        return ("ok", ["cancelled"])

    def retry(self, board_name: str, task_ids: list[str]) -> tuple:
        board, answers, queue = self.boards[board_name], [], []
        for index, task_id in enumerate(task_ids, start=1):
            item = board.items.get(task_id)
            if item is None:
                answers.append("task_not_found")
            elif item.status not in "fx":
                answers.append("illegal_state")
            elif item.spec.unique and board.unique.get(item.spec.unique, task_id) != task_id:
                answers.append("unique_conflict")
            elif item.policy != "run" and any(
                self._status_of(board, need) in ("f", "x") for need in item.needs
            ):
                answers.append("dependency_failed")
            else:
                self._leave(item)
                if item.spec.unique:
                    board.unique[item.spec.unique] = task_id
                item.failures = item.crashes = 0
                item.crashed, item.agent, item.instance, item.score = (), "", "", None
                item.was_lost = item.is_cancel_asked = False
                item.causes = frozenset()
                self._needs_again(item)
                if item.needs:
                    item.status = "b"
                    answers.append("blocked")
                else:
                    self._make_ready(item, index)
                    answers.append("ok")
                if board.dependents.get(task_id):
                    queue.append(item)
        self._cascade(queue)
        return ("ok", answers)

    def purge(self, board_name: str, task_ids: list[str]) -> tuple:
        board, answers = self.boards[board_name], []
        for task_id in task_ids:
            item = board.items.get(task_id)
            if item is None:
                answers.append("task_not_found")
            elif item.status not in FINISHED:
                answers.append("illegal_state")
            else:
                del board.items[task_id]
                board.outcomes[task_id] = item.status
                board.dependents.pop(task_id, None)
                for need in item.needs - board.items.keys():
                    others = board.dependents.get(need, {})
                    others.pop(task_id, None)
                    if not others:
                        board.dependents.pop(need, None)
                        board.unresolved.discard(need)
                answers.append("ok")
        return ("ok", answers)

    def pause(self, board_name: str, is_paused: bool) -> tuple:
        self.boards[board_name].is_paused = is_paused
        return ("ok",)

    def declare(self, agent_id: str, status: str) -> tuple:
        agent = self.agents[agent_id]
        agent.status = status
        if not agent.takes_work:
            mine = self.reserved_for(agent_id)
            for item in sorted(mine, key=lambda i: (i.score, f"{i.board.name}:{i.id}")):
                self._leave(item)
                item.is_suggested = False
                self._make_ready(item)
        return ("ok",)

    # Time

    def tick(self, before: int, is_continuous: bool) -> tuple:
        """The clock was moved from *before*; a gap that nobody saw gives all leases a grace."""
        if not is_continuous and self.ms - before / 1000 > 2 * INTERVAL_MS:
            self.grace = (before // 1000, self.ms + GRACE_MS)
        return ("ok",)

    def sweep(self, board_name: str) -> tuple:
        board = self.boards[board_name]
        queue: list[Item] = []
        self._expire(board, SWEEP_LIMIT, queue)
        for item in self._due(board, "a")[:SWEEP_LIMIT]:
            if self._is_over(item.until):
                self._leave(item)
                item.is_suggested = False
                self._make_ready(item)
        self._promote(board, SWEEP_LIMIT)
        self._cascade(queue)
        board.waiters = {m: w for m, w in board.waiters.items() if w[0] > self.ms}
        return ("ok",)

    def _sweep_for_claim(self, board: Board) -> None:
        queue: list[Item] = []
        count = self._expire(board, CLAIM_SWEEPS, queue) + self._promote(board, CLAIM_PROMOTES)
        if count:
            self._cascade(queue)

    def _due(self, board: Board, statuses: str) -> list[Item]:
        due = [item for item in board.where(statuses) if item.until <= self.ms]
        return sorted(due, key=lambda item: (item.until, item.id))

    def _expire(self, board: Board, limit: int, queue: list[Item]) -> int:
        overdue = self._due(board, "cki")[:limit]
        for item in overdue:
            if self._is_over(item.until):
                queue += self._lose(item)
        return len(overdue)

    def _lose(self, item: Item) -> list[Item]:
        item.lost_fence = item.fence
        if item.status == "k":
            item.was_lost = True
        else:
            item.crashes += 1
            if item.instance and item.instance not in item.crashed:
                item.crashed = (*item.crashed, item.instance)
        self._leave(item)
        if item.is_cancel_asked:
            return self._cancel(item)
        if len(item.crashed) >= POISON_INSTANCES or item.crashes >= CRASHES_MOST:
            return self._bury(item)
        self._make_ready(item)
        return []

    def _promote(self, board: Board, limit: int) -> int:
        count = 0
        for is_retrying in (True, False):
            due = [item for item in self._due(board, "s") if item.is_retrying == is_retrying][
                :limit
            ]
            for index, item in enumerate(due, start=1):
                self._leave(item)
                self._make_ready(item, index)
            count += len(due)
        return count


def _by_score(item: Item) -> tuple[int, str]:
    assert item.score is not None
    return item.score, item.id


def _reaches(waits: dict[str, set[str]], start: str) -> bool:
    """Whether following what tasks wait for leads from *start* back to it."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        for name in waits.get(todo.pop(), ()):
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return False
