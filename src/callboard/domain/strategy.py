"""Choosing an agent: the strategies by name, what one of your own is asked, what was decided.

The strategies with a name here run in the engine, from ``lua/include/strategy.lua``; one of
your own runs in the process that calls it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from callboard.domain.names import check_name
from callboard.domain.task import at_ms
from callboard.exceptions import InvalidArgument, StrategyFailed

DISPATCH_STRATEGY: Final = "least_connections"
"""By which coordinators give out tasks of boards that have no strategy of their own."""

BEST_IDLE: Final = "best_idle"
"""The default: whoever waits for work is given it, the one that will be done first."""

STRATEGIES: Final = (
    "best_idle", "least_connections", "round_robin", "least_response_time",
    "weighted_round_robin", "resource_based", "capability_based", "predictive",
    "consistent_hash", "affinity", "hybrid", "work_stealing", "random",
)  # fmt: skip
"""The names that the engine knows, as the Lua table has them."""

ALIASES: Final[Mapping[str, str]] = {
    "capability": "capability_based",
    "round-robin": "round_robin",
    "least-loaded": "least_connections",
    "work-stealing": "work_stealing",
}

ENTRY_POINTS: Final = "callboard.strategies"
"""The group under which installed packages offer strategies by name."""

CANDIDATES_MAX: Final = 1_000
DECISIONS_KEPT: Final = 1_000


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that may be given the task: it fits, is healthy enough and has room.

    Attributes:
        held: Tasks it holds.
        reserved: Tasks reserved for it that it has not taken up.
        limit: Tasks it may hold, reserved ones included.
        ready: Tasks it runs at once.
        health: 0 to 1.
        waiting: It waits for work on this board.
        waited: Seconds that it waits longer than the one that came last.
        run_time: Seconds its runs of this kind take, a moving average; None if unknown.
        usual_time: The mean of that over the candidates; None if unknown of all.
        runs: How many runs of this kind it did.
        done: Tasks of all kinds it did.
        failed: Tasks of all kinds that failed with it, or that it was lost with.
        recent_done: Of its last ten outcomes, those done.
        recent_failed: The others of them.
        cpu: As it reported, 0 to 1.
        memory: Likewise.
        response_time: Seconds its runs of all kinds take; None if unknown.
        weight: As declared; 1 unless it was.
        priority: As declared; 0 unless it was.
        match: The share of the required capabilities that it has.
        was_last: Of the candidates, the last to do this kind.
    """

    id: str
    held: int = 0
    reserved: int = 0
    limit: int = 100
    ready: int = 100
    health: float = 1.0
    waiting: bool = False
    waited: float = 0.0
    run_time: float | None = None
    usual_time: float | None = None
    runs: int = 0
    done: int = 0
    failed: int = 0
    recent_done: int = 0
    recent_failed: int = 0
    cpu: float = 0.0
    memory: float = 0.0
    response_time: float | None = None
    weight: float = 1.0
    priority: int = 0
    match: float = 1.0
    was_last: bool = False

    @property
    def load(self) -> int:
        """Tasks that it holds or that are reserved for it."""
        return self.held + self.reserved


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A task for which an agent is to be chosen, and who may be.

    Attributes:
        task: The task's id.
        board: The board that it waits on.
        kind: Its kind.
        key: Its affinity key; its id where it has none.
        priority: Its priority.
        required: How many capabilities it requires.
        candidates: At most 1,000, in order of registration; never empty.
        at: By the engine's clock.
    """

    task: str
    board: str
    kind: str
    key: str
    priority: int
    required: int
    candidates: tuple[Candidate, ...]
    at: datetime


@runtime_checkable
class Strategy(Protocol):
    """Chooses an agent for a task, quickly and without waiting: the caller's loop stands still."""

    def choose(self, assignment: Assignment, /) -> str | None:
        """Answer the id of one of the candidates, or None to leave the task where it is."""
        ...


class Scored(msgspec.Struct, frozen=True):
    """An agent that was compared, and its score: a higher one is better."""

    agent: str
    score: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """An agent was chosen for a task, or none could be.

    Attributes:
        agent: Empty where none was chosen.
        status: ``ok``, ``no_agent`` (none that fits has room, or the strategy wants none),
            ``reserved`` (it was for *agent* already), ``not_ready``, ``kind_paused``,
            ``at_limit``, ``task_not_found``, or ``changed`` (whoever was chosen could not
            be given it any more, ten times over).
        strategy: Which one chose.
        reason: Its reason, which follows on "the agent"; or why there is none.
        considered: How many agents had room.
        candidates: Those with the scores that the strategy gave, the chosen one first; at
            most 32.
        at: By the engine's clock.
        by: Who made the call.
    """

    task: str
    board: str
    agent: str
    status: str = "ok"
    strategy: str
    reason: str
    considered: int = 0
    candidates: tuple[Scored, ...] = ()
    at: datetime
    by: str = ""

    @property
    def is_ok(self) -> bool:
        """The task is reserved for the agent."""
        return self.status in ("ok", "reserved")

    @property
    def text(self) -> str:
        """The decision as a sentence."""
        if not self.agent:
            return f"No agent was chosen for task {self.task}: {self.reason}."
        if self.status == "reserved":
            return f"Task {self.task} was reserved for agent {self.agent!r} already."
        others = f", of {self.considered} with room" if self.considered > 1 else ""
        return f"Agent {self.agent!r}{others}, by {self.strategy}: it {self.reason}."


class LoadStats(msgspec.Struct, frozen=True, kw_only=True):
    """How work is spread, with the names of the REST reference.

    Attributes:
        strategy: Of the board that was asked about.
        total_assignments: Decisions made in the namespace that gave a task to an agent.
        failed_assignments: Reservations, of any origin, that were not taken up in time.
        successful_assignments: The others.
        success_rate: Their share; 1.0 where there were none yet.
        active_agents: Agents that may claim now.
        agent_weights: Agents that declared a weight other than 1.
        avg_agent_load: Mean of held and reserved tasks over the active agents.
        loads: Held and reserved tasks by active agent, at most 1,000 of them.
    """

    strategy: str
    total_assignments: int
    successful_assignments: int
    failed_assignments: int
    success_rate: float
    active_agents: int
    agent_weights: int
    avg_agent_load: float
    loads: dict[str, int]


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a board's tasks, with the names of the REST reference.

    Attributes:
        tasks_distributed: Given to an agent, each time: reserved, pushed, or claimed. Counted
            while a coordinator dispatches the board.
        tasks_completed: Done, since there was the board.
        tasks_failed: Failed for good, likewise.
        avg_distribution_time: Seconds from when a task could be given out until it was, on
            average; 0 where none was.
        load: How work is spread: *total_assignments* are those distributed, and those failed
            are the ones that came back undelivered or not taken up.
    """

    tasks_distributed: int
    tasks_completed: int
    tasks_failed: int
    avg_distribution_time: float
    load: LoadStats


def canonical(name: Any) -> str:
    """The name under which a strategy is kept, whichever alias is given; Callboard's in any case.

    Raises:
        InvalidArgument: It is no name.
    """
    given = check_name("strategy", name)
    plain = ALIASES.get(given.lower(), given.lower())
    return plain if plain in STRATEGIES else given


def check_built_in(name: Any) -> str:
    """The name of a strategy that runs in the engine, as a board may have it.

    Raises:
        InvalidArgument: It is none of them.
    """
    plain = canonical(name)
    if plain not in STRATEGIES:
        raise InvalidArgument(
            f"Strategy {name!r} cannot be a board's, whose strategy the engine runs. Use one of "
            f"{', '.join(STRATEGIES)}. One of your own serves scheduler.assign(strategy=…).",
            field="strategy",
        )
    return plain


def check_strategy(name: str, strategy: Any) -> Strategy:
    """The strategy, made where a class was given.

    Raises:
        InvalidArgument: It has no method ``choose``, or an async one.
    """
    made = strategy() if isinstance(strategy, type) else strategy
    if not callable(getattr(made, "choose", None)):
        raise InvalidArgument(
            f"Strategy {name!r} is a {type(made).__name__} without a method choose(assignment).",
            field="strategy",
        )
    if inspect.iscoroutinefunction(made.choose):
        raise InvalidArgument(
            f"Strategy {name!r} has an async choose(); it must not be async, since it answers "
            "while nothing else happens. Write it as def choose(assignment).",
            field="strategy",
        )
    chooser: Strategy = made
    return chooser


def ask(name: str, strategy: Strategy, assignment: Assignment) -> Candidate | None:
    """What a strategy of one's own answers, checked.

    Raises:
        StrategyFailed: It threw, or answered neither a candidate's id nor None.
    """
    context = {"strategy": name, "task": assignment.task, "board": assignment.board}
    try:
        answer: Any = strategy.choose(assignment)
    except Exception as error:
        raise StrategyFailed(
            f"Strategy {name!r} failed on task {assignment.task}: {type(error).__name__}: {error}. "
            "The task stays where it was.",
            **context,
        ) from error
    if answer is None:
        return None
    for candidate in assignment.candidates:
        if candidate.id == answer:
            return candidate
    _close(answer)
    raise StrategyFailed(
        f"Strategy {name!r} answered {answer!r} for task {assignment.task}, which is none of its "
        f"{len(assignment.candidates)} candidates. Answer the id of one, or None. The task stays "
        "where it was.",
        **context,
    )


def _close(answer: Any) -> None:
    """End a coroutine that nobody will await, without its warning."""
    close: Callable[[], None] | None = getattr(answer, "close", None)
    if hasattr(answer, "send") and close is not None:
        close()


def scored(text: str) -> tuple[Scored, ...]:
    """The candidates of a decision's record, ``id=score,…``."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return tuple(Scored(agent, float(score)) for agent, _, score in pairs)


def recorded(fields: Sequence[bytes] | Mapping[bytes, bytes]) -> Decision:
    """A decision as the engine keeps it, in either protocol's shape."""
    pairs = (
        fields.items()
        if isinstance(fields, Mapping)
        else zip(fields[::2], fields[1::2], strict=True)
    )
    raw = {name.decode(): value.decode() for name, value in pairs}
    return Decision(
        task=raw["task"],
        board=raw["board"],
        agent=raw["agent"],
        strategy=raw["strategy"],
        reason=raw["reason"],
        considered=int(raw["considered"]),
        candidates=scored(raw["candidates"]),
        at=at_ms(float(raw["at"])),
        by=raw["by"],
    )
