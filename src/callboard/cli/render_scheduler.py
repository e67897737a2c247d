"""How choices look to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.render import Column, age, fields, heading, table
from callboard.domain.strategy import Decision, Distribution, LoadStats

AGENTS_SHOWN: Final = 20

_ABOUT: Final[Mapping[str, str]] = {
    "best_idle": "of the agents that wait for work, the one expected to be done first",
    "least_connections": "the fewest tasks",
    "round_robin": "the next by name",
    "least_response_time": "the shortest mean time of a task",
    "weighted_round_robin": "in turn, each as often as its weight says",
    "resource_based": "the most free CPU and memory, by its performance",
    "capability_based": "who has what is required and performs best",
    "predictive": "performance, reliability and the last ten outcomes",
    "consistent_hash": "the same affinity key to the same agent, within its share",
    "affinity": "who did this kind last, unless it is four fifths full",
    "hybrid": "load, performance, capability and affinity together",
    "work_stealing": "one score of tasks, CPU, memory, priority and times",
    "random": "by lot",
}
_STRATEGIES: Final = (Column("STRATEGY"), Column("TAKES", shrinks=True))
_DECISIONS: Final = (
    Column("TASK"),
    Column("AGENT"),
    Column("STRATEGY", drop=2),
    Column("SINCE", drop=1, right=True),
    Column("IT", shrinks=True, drop=3),
)
_SCORES: Final = (Column("AGENT"), Column("SCORE", right=True))


def names(known: Sequence[str], current: str, board: str, width: int) -> Iterator[str | Text]:
    """The strategies, a line each, and the board's."""
    yield from table(
        _STRATEGIES, ((name, _ABOUT.get(name, "one of your own")) for name in known), width
    )
    yield ""
    yield f"Board {board!r} goes by {current}."


def assigned(decisions: Sequence[Decision], board: str) -> Iterator[str | Text]:
    """What was decided, a sentence each."""
    for decision in decisions:
        yield decision.text
    if not decisions:
        yield f"Nothing waits on board {board!r}. See: callboard boards show {board}"


def listing(decisions: Sequence[Decision], width: int, is_filtered: bool) -> Iterator[str | Text]:
    """Decisions, a line each."""
    if not decisions:
        yield (
            "No decision matches; the last thousand are kept."
            if is_filtered
            else "No decisions yet. Agents that claim by themselves need none; to choose for "
            "them: callboard scheduler assign --most 10"
        )
        return
    yield from table(_DECISIONS, (_row(one) for one in decisions), width)


def _row(decision: Decision) -> tuple[object, ...]:
    return (
        decision.task,
        decision.agent,
        decision.strategy,
        age(decision.at),
        decision.reason,
    )


def explained(task: str, board: str, decision: Decision | None, width: int) -> Iterator[str | Text]:
    """Why an agent was chosen, and the scores of those that were compared."""
    if decision is None:
        yield (
            f"None of the last thousand decisions is about task {task} of board {board!r}: an "
            "agent claimed it by itself, or nobody has it."
        )
        yield Text(f"Where it stands: callboard tasks why {task} --board {board}", style="dim")
        return
    yield decision.text
    if decision.candidates:
        yield heading("Compared", f"{len(decision.candidates)} of {decision.considered}")
        scores = ((one.agent, f"{one.score:g}") for one in decision.candidates)
        yield from table(_SCORES, scores, width)


def distributed(stats: Distribution, board: str, width: int) -> Iterator[str | Text]:
    """How many tasks went out and ended, and the balance of the agents."""
    if not stats.tasks_distributed:
        yield (
            f"No task of board {board!r} was given out by a coordinator yet. Start one: "
            "callboard serve"
        )
    yield from fields(
        [
            ("given out", f"{stats.tasks_distributed:,}"),
            ("done", f"{stats.tasks_completed:,}"),
            ("failed", f"{stats.tasks_failed:,}" if stats.tasks_failed else None),
            (
                "waited before",
                f"{stats.avg_distribution_time * 1_000:,.0f} ms"
                if stats.tasks_distributed
                else None,
            ),
        ]
    )
    yield from spread(stats.load, board, width)


def spread(stats: LoadStats, board: str, width: int) -> Iterator[str | Text]:
    """The balance of the agents, the busiest first."""
    yield from fields(
        [
            ("strategy", f"{stats.strategy}, of board {board!r}"),
            ("assignments", f"{stats.total_assignments:,}"),
            ("not taken up", f"{stats.failed_assignments:,}" if stats.failed_assignments else None),
            ("success rate", f"{stats.success_rate:.1%}" if stats.total_assignments else None),
            ("active agents", stats.active_agents),
            ("mean load", f"{stats.avg_agent_load:.1f} tasks" if stats.loads else None),
        ]
    )
    if not stats.loads:
        yield "No agent takes work. Start a worker: callboard worker module:app"
        return
    yield heading("Agents")
    busiest = sorted(stats.loads.items(), key=lambda one: (-one[1], one[0]))
    columns = (Column("AGENT"), Column("TASKS", right=True))
    yield from table(columns, busiest[:AGENTS_SHOWN], width)
    if len(busiest) > AGENTS_SHOWN:
        yield Text(f"and {len(busiest) - AGENTS_SHOWN} more", style="dim")
