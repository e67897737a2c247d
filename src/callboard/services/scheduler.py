"""Choosing agents for tasks: by a board's strategy, by name, or by one of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.bounds import check_text, check_whole
from callboard.domain.names import check_name
from callboard.domain.reading import nearest
from callboard.domain.strategy import (
    ALIASES,
    BEST_IDLE,
    DECISIONS_KEPT,
    DISPATCH_STRATEGY,
    ENTRY_POINTS,
    STRATEGIES,
    Decision,
    Distribution,
    LoadStats,
    Strategy,
    ask,
    canonical,
    check_built_in,
    check_strategy,
)
from callboard.domain.task import BATCH_MAX, check_seconds
from callboard.engine.answers import checked
from callboard.engine.choices import assignment_of, decision_of, decisions_of
from callboard.engine.namespace import Namespace
from callboard.engine.own_strategies import OwnStrategies
from callboard.exceptions import InvalidArgument

TAKE_UP_SECONDS: Final = 5.0
ATTEMPTS_MAX: Final = 10
"""Times that a strategy of one's own is asked again, where its choice was overtaken."""
LANES_SEEN: Final = 256

Decisions = list[Decision]


class Scheduler:
    """Reserves tasks for agents; a task is an agent's only once it claims it."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._own = OwnStrategies(ENTRY_POINTS, check_strategy, canonical)

    def register(self, name: str, strategy: Strategy | type[Strategy]) -> Strategy:
        """Make a strategy known by name to this connection; the same name again replaces it.

        Raises:
            InvalidArgument: The name is one of Callboard's, or there is no method ``choose``.
        """
        plain = canonical(name)
        if plain in STRATEGIES:
            raise InvalidArgument(
                f"Strategy {name!r} is one of Callboard's own. Use another name.", field="name"
            )
        return self._own.register(name, strategy)

    def names(self) -> tuple[str, ...]:
        """All strategies that ``assign`` knows here: Callboard's, and one's own by name."""
        return (*STRATEGIES, *sorted(self._own.names()))

    async def strategy(self, board: str = DEFAULT_BOARD) -> str:
        """The strategy of a board; ``best_idle`` where none was set."""
        raw = await self._namespace.connection.call(
            "HGET", self._namespace.keys.settings(check_name("board", board)), "strategy"
        )
        return BEST_IDLE if raw is None else raw.decode()

    async def set_strategy(self, strategy: str, *, board: str = DEFAULT_BOARD, by: str = "") -> str:
        """Have each task that becomes ready on the board go where this strategy says.

        Under ``best_idle``, the default, only an agent that waits is given it, and others
        take from the lanes as they come. Under any other it is reserved at once for one of
        all agents that fit and have room, to be taken up in 5 s; where none has room it
        waits in its lane. Tasks that wait already stay where they are.

        Returns:
            The strategy's name, where an alias was given.

        Raises:
            InvalidArgument: Not a strategy that runs in the engine; one's own serve ``assign``.
        """
        plain = check_built_in(strategy)
        reply = await self._functions.call(
            "board_configure", check_name("board", board), check_text("by", by), "strategy", plain
        )
        checked(reply, "ok", board=board)
        return plain

    async def assign(
        self,
        *tasks: str,
        most: int | None = None,
        strategy: str | None = None,
        board: str = DEFAULT_BOARD,
        take_up: float = TAKE_UP_SECONDS,
        by: str = "",
    ) -> Decisions:
        """Choose an agent for waiting tasks and reserve each for it; a decision a task, in order.

        What cannot be given away stays where it is, and its decision says why. All is
        decided in the engine, 1,000 tasks a call, against its own counts, so no agent is
        given more than it has room for, however many do this at once. A strategy of one's
        own is asked here, task by task; what it chose is reserved if it may be still, and
        otherwise it is asked again, ten times at most.

        Args:
            tasks: Their ids.
            most: Instead of ids: so many of those that would be claimed next, 1 to 1,000.
            strategy: By name; the board's own where None.
            take_up: Seconds until a reservation lapses, 0.1 to 3,600. For half of them no
                other agent may take it over.

        Raises:
            InvalidArgument: Neither tasks nor *most*, or no such strategy.
            BoardPaused: Nothing is given out.
            StrategyFailed: Its own code threw or answered nonsense. That task stays where it
                was, ``details["task"]``; those before it are reserved, those after were
                not looked at.
        """
        check_name("board", board)
        check_text("by", by)
        ids = [check_name("task id", task) for task in tasks]
        if bool(ids) == (most is not None):
            raise InvalidArgument("Give task ids, or most=…, and not both.", field="tasks")
        take_up_ms = check_seconds("take_up", take_up, 0.1, 3_600)
        plain = "" if strategy is None else canonical(strategy)
        own = None if plain in ("", *STRATEGIES) else self._find(plain, strategy)
        if own is not None:
            if most is not None:
                ids = await self._next(board, check_whole("most", most, 1, BATCH_MAX))
            return [await self._ask(own, plain, board, task, take_up_ms, by) for task in ids]
        if most is not None:
            asked = (check_whole("most", most, 1, BATCH_MAX), 0)
            return await self._choose(board, by, plain, take_up_ms, *asked)
        decisions: Decisions = []
        for start in range(0, len(ids), BATCH_MAX):
            batch = ids[start : start + BATCH_MAX]
            decisions += await self._choose(board, by, plain, take_up_ms, 0, len(batch), *batch)
        return decisions

    async def decisions(
        self,
        limit: int = 100,
        *,
        task: str | None = None,
        agent: str | None = None,
        board: str | None = None,
    ) -> Decisions:
        """The last decisions of the namespace that gave a task to an agent, newest first.

        The last thousand are kept, of boards' strategies, ``best_idle`` among them, and of
        ``assign``. What agents claim by themselves is no decision.
        """
        check_whole("limit", limit, 1, DECISIONS_KEPT)
        raw = await self._namespace.connection.call(
            "XREVRANGE", self._namespace.keys.decisions, "+", "-", "COUNT", DECISIONS_KEPT
        )
        wanted = {"task": task, "agent": agent, "board": board}
        return decisions_of(raw, {k: v for k, v in wanted.items() if v is not None})[:limit]

    async def why_this_agent(self, task: str, *, board: str = DEFAULT_BOARD) -> Decision | None:
        """The last decision about a task; None where it is not among the last thousand."""
        found = await self.decisions(1, task=check_name("task id", task), board=board)
        return found[0] if found else None

    async def load(self, board: str = DEFAULT_BOARD) -> LoadStats:
        """How work is spread over the active agents, and how assignments went."""
        reply = await self._functions.call("agent_loads", check_name("board", board))
        checked(reply, "ok")
        strategy, made, failed, *rest = reply[1:7]
        return _load_stats(strategy.decode(), int(made), int(failed), *rest)

    async def distribution(self, board: str = DEFAULT_BOARD) -> Distribution:
        """How a board's tasks were given to agents, and what became of them."""
        reply = await self._functions.call("task_distribution", check_name("board", board))
        checked(reply, "ok")
        strategy, (given, timed, waited_ms, back, done, failed) = reply[1], map(int, reply[2:8])
        return Distribution(
            tasks_distributed=given,
            tasks_completed=done,
            tasks_failed=failed,
            avg_distribution_time=waited_ms / timed / 1_000 if timed else 0.0,
            load=_load_stats(strategy.decode() or DISPATCH_STRATEGY, given, back, *reply[8:11]),
        )

    def _find(self, plain: str, given: Any) -> Strategy:
        """A strategy of one's own: registered here, else offered by an installed package."""
        found = self._own.find(plain)
        if found is None:
            raise InvalidArgument(
                f"There is no strategy {given!r}. {self._unknown(plain)}", field="strategy"
            )
        return found

    def _unknown(self, name: str) -> str:
        close = nearest(name, [*self.names(), *ALIASES])
        hint = f"Did you mean {close}? " if close else ""
        return f"{hint}Known are: {', '.join(self.names())}."

    async def _choose(self, board: str, by: str, name: str, *rest: Any) -> Decisions:
        reply = await self._functions.call("task_assign", board, by, name, *rest)
        checked(reply, "ok", board=board)
        used, flat = reply[2].decode(), reply[3]
        return [
            decision_of(board, used, flat[i : i + 6], float(reply[1]), by)
            for i in range(0, len(flat), 6)
        ]

    async def _next(self, board: str, most: int) -> list[str]:
        """Ids of the tasks that would be claimed next, where there are many lanes about."""
        reply = await self._functions.call("task_next", board, LANES_SEEN, most)
        checked(reply, "ok")
        rows = [
            (float(ids[i + 1]), ids[i].decode())
            for _, _, ids in reply[1:]
            for i in range(0, len(ids), 2)
        ]
        return [task for _, task in sorted(rows)[:most]]

    async def _ask(
        self, own: Strategy, name: str, board: str, task: str, take_up_ms: int, by: str
    ) -> Decision:
        """Have a strategy of one's own choose, and reserve what it chose."""
        word, fact, now_ms, considered = b"", b"", 0.0, 0
        for _ in range(ATTEMPTS_MAX):
            reply = await self._functions.call("task_candidates", board, task)
            checked(reply, "ok", board=board)
            now_ms, word, fact = float(reply[1]), reply[2], reply[3]
            if word != b"ok":
                break
            assignment = assignment_of(board, task, reply)
            considered = len(assignment.candidates)
            chosen = ask(name, own, assignment)
            if chosen is None:
                word, fact = b"no_agent", b"the strategy wants none of those with room"
                break
            reason = "was chosen by a strategy of one's own"
            reply = await self._functions.call(
                *("task_reserve", board, by, name, task, chosen.id, take_up_ms),
                *(reason, considered, ""),
            )
            checked(reply, "ok", board=board)
            now_ms, word, fact = float(reply[1]), reply[2], reply[3]
            if word == b"ok":
                values = (task, word, chosen.id, reason, considered, "")
                return decision_of(board, name, values, now_ms, by)
            if word != b"changed":
                break
        return decision_of(board, name, (task, word, "", fact, considered, ""), now_ms, by)


def _load_stats(
    strategy: str, total: int, failed: int, active: Any, weighted: Any, flat: Sequence[Any]
) -> LoadStats:
    lapsed = min(failed, total)
    loads = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
    return LoadStats(
        strategy=strategy,
        total_assignments=total,
        successful_assignments=total - lapsed,
        failed_assignments=lapsed,
        success_rate=(total - lapsed) / total if total else 1.0,
        active_agents=int(active),
        agent_weights=int(weighted),
        avg_agent_load=sum(loads.values()) / len(loads) if loads else 0.0,
        loads=loads,
    )
