"""Who is chosen for a task: by the engine's own strategies, one in Python, or an oracle."""

from __future__ import annotations

import importlib
import importlib.resources
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from callboard.domain.reading import nearest
from callboard.domain.strategy import (
    BEST_IDLE,
    STRATEGIES,
    Assignment,
    Candidate,
    Strategy,
    ask,
    canonical,
    check_strategy,
)
from callboard.exceptions import ConfigError, InvalidArgument
from callboard.simulator.simulation import Agent, Chooser, Job

ORACLE: Final = "oracle"
"""Knows each agent's speed and each task's work, and gives a task, as it comes, to the agent
where it will be done first: what a scheduler could reach that guesses nothing. It gives at once
and takes nothing back, so waiting for a better moment can beat it."""


def is_custom(strategy: str) -> bool:
    """Whether the name is that of a strategy in Python, as ``module:attribute``."""
    return ":" in strategy


def check_strategies(strategies: Iterable[str]) -> tuple[str, ...]:
    """The strategies under their own names, aliases resolved, each once.

    Raises:
        InvalidArgument: One is known to nobody, or cannot be imported.
        ConfigError: lupa is not installed.
    """
    lua_runtime()
    found = dict[str, None]()
    for given in strategies:
        if is_custom(given):
            load_strategy(given)
            found[given] = None
            continue
        name = canonical(given)
        if name not in (*STRATEGIES, ORACLE):
            close = nearest(name, STRATEGIES)
            hint = f"did you mean {close}?" if close else f"known are {', '.join(STRATEGIES)};"
            raise InvalidArgument(
                f"No strategy {given!r}; {hint} One of your own is module:attribute.",
                field="strategy",
                value=given,
            )
        found[name] = None
    return tuple(found)


def load_strategy(place: str) -> Strategy:
    """Import a strategy, as ``module:attribute``; the current directory counts.

    Raises:
        InvalidArgument: There is no such module or attribute, or it has no ``choose``.
    """
    module_name, _, attribute = place.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgument(
            f"Cannot import the strategy {place!r}: {error}. Give it as module:attribute.",
            field="strategy",
            value=place,
        ) from error
    return check_strategy(place, found)


def lua_runtime() -> Any:
    """A Lua 5.1 of its own, in which the engine's code runs. Raises ConfigError without lupa."""
    try:
        from lupa.lua51 import LuaRuntime
    except ImportError as error:
        raise ConfigError(
            "The simulator runs the engine's own Lua, for which it needs lupa. "
            "Install Callboard with the extra simulate."
        ) from error
    return LuaRuntime(register_eval=False, register_builtins=False, unpack_returned_tuples=True)


@cache
def _source() -> str:
    strategy = importlib.resources.files("callboard.engine") / "lua" / "include" / "strategy.lua"
    views = importlib.resources.files("callboard.simulator") / "views.lua"
    return strategy.read_text("utf-8") + "\n" + views.read_text("utf-8")


class LuaChooser:
    """A strategy of the engine, by its name.

    Args:
        strategy: Its name, not an alias.
        stale: How old what it sees of agents may be, in seconds.
    """

    is_oracle = False

    def __init__(self, strategy: str, *, stale: float = 0.0) -> None:
        lua = lua_runtime()
        self._views = lua.execute(_source())
        self._views.stale_ms = stale * 1000
        self._table_from = lua.table_from
        self._strategy = strategy
        self._lanes: dict[frozenset[str], str] = {}
        self._agents: dict[str, Agent] = {}
        self.is_push = strategy != BEST_IDLE
        self.decisions = 0

    def join(self, agent: Agent) -> None:
        """Begin to keep what is known of the agent."""
        agent.view = self._views.add(agent.id, agent.slots, agent.limit)
        self._agents[agent.id] = agent
        self._lanes.clear()

    def leave(self, agent: Agent) -> None:
        """Choose it no more."""
        self._views.gone(agent.view)
        del self._agents[agent.id]
        self._lanes.clear()

    def moved(self, agent: Agent) -> None:
        """Keep what the agent holds."""
        self._views.moved(
            agent.view,
            agent.held,
            len(agent.reserved),
            agent.is_waiting,
            agent.waiting_since * 1000,
        )

    def ended(self, agent: Agent, kind: str, seconds: float, is_done: bool, now: float) -> None:
        """Keep how the attempt went."""
        self._views.ended(agent.view, kind, seconds * 1000, is_done, now * 1000)

    def choose(self, job: Job, now: float) -> Agent | None:
        """Whom the strategy takes of those that fit and have room."""
        is_push = self.is_push and not job.was_passed_up
        lane = self._lane(job.task.requires)
        agent_id, seen = (
            self._pick(job, lane, now) if is_push else self._ask(BEST_IDLE, job, lane, now)
        )
        self.decisions += seen > 0
        return None if agent_id is None else self._agents[agent_id]

    def _pick(self, job: Job, lane: str, now: float) -> tuple[str | None, int]:
        return self._ask(self._strategy, job, lane, now)

    def _ask(self, strategy: str, job: Job, lane: str, now: float) -> tuple[str | None, int]:
        """The chosen agent's id, and how many there were to choose from."""
        task = job.task
        agent_id, seen = self._views.choose(
            strategy,
            lane,
            job.id,
            task.kind,
            task.key or job.id,
            task.priority,
            len(task.requires),
            now * 1000,
            strategy != BEST_IDLE,
        )
        return agent_id, seen

    def _lane(self, requires: frozenset[str]) -> str:
        lane = self._lanes.get(requires)
        if lane is None:
            lane = self._lanes[requires] = ",".join(sorted(requires))
            fitting = [a.view for a in self._agents.values() if requires <= a.skills]
            self._views.lanes[lane] = self._table_from(fitting)
        return lane


class PythonChooser(LuaChooser):
    """A strategy of one's own, asked as ``cb.scheduler.assign`` asks it."""

    def __init__(self, name: str, strategy: Strategy, *, stale: float = 0.0) -> None:
        super().__init__(name, stale=stale)
        self._custom = strategy

    def _pick(self, job: Job, lane: str, now: float) -> tuple[str | None, int]:
        task = job.task
        found = self._views.candidates(lane, task.kind, now * 1000, True)
        candidates = tuple(_candidate(view) for view in found.values())
        if not candidates:
            return None, 0
        assignment = Assignment(
            task=job.id,
            board="simulated",
            kind=task.kind,
            key=task.key or job.id,
            priority=task.priority,
            required=len(task.requires),
            candidates=candidates,
            at=datetime.fromtimestamp(now, UTC),
        )
        chosen = ask(self._strategy, self._custom, assignment)
        return (chosen.id if chosen else None), len(candidates)


def _candidate(view: Any) -> Candidate:
    """What the engine would tell a strategy of the agent."""

    def seconds(ms: float | None) -> float | None:
        return None if ms is None else ms / 1000

    return Candidate(
        id=view.id,
        held=view.held,
        reserved=view.reserved,
        limit=view.limit,
        ready=view.ready,
        health=view.health,
        waiting=view.waiting,
        waited=view.waited_ms / 1000,
        run_time=seconds(view.avg_ms),
        usual_time=seconds(view.mean_ms),
        runs=view.runs,
        done=view.done,
        failed=view.failed,
        recent_done=view.recent_done,
        recent_failed=view.recent_failed,
        cpu=view.cpu,
        memory=view.memory,
        response_time=seconds(view.response_ms),
        was_last=view.was_last,
    )


class Oracle:
    """Gives each task, as it comes, to where it will be done first; see ``ORACLE``."""

    is_push = True
    is_oracle = True

    def __init__(self) -> None:
        self._agents: dict[str, Agent] = {}
        self._free: dict[str, list[float]] = {}
        self.decisions = 0

    def join(self, agent: Agent) -> None:
        """All its slots are free."""
        self._agents[agent.id] = agent
        self._free[agent.id] = [0.0] * agent.slots

    def leave(self, agent: Agent) -> None:
        """It knows at once, however the agent went."""
        del self._agents[agent.id], self._free[agent.id]

    def moved(self, agent: Agent) -> None:
        """Its own account of what it gave is exact."""

    def ended(self, agent: Agent, kind: str, seconds: float, is_done: bool, now: float) -> None:
        """It has nothing to learn."""

    def choose(self, job: Job, now: float) -> Agent | None:
        """The agent that would be done first, by true speeds and work."""
        best, best_end, best_slot = None, 0.0, 0
        for agent in self._agents.values():
            if not job.task.requires <= agent.skills:
                continue
            free = self._free[agent.id]
            soonest = min(free)
            end = max(now, soonest) + agent.spec.seconds(job.task.kind, job.task.work)
            if best is None or end < best_end:
                best, best_end, best_slot = agent, end, free.index(soonest)
        if best is not None:
            self.decisions += 1
            self._free[best.id][best_slot] = best_end
        return best


def chooser_of(strategy: str, *, stale: float = 0.0) -> Chooser:
    """Who chooses under this name, which ``check_strategies`` has passed."""
    if strategy == ORACLE:
        return Oracle()
    if is_custom(strategy):
        return PythonChooser(strategy, load_strategy(strategy), stale=stale)
    return LuaChooser(strategy, stale=stale)
