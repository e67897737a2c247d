"""Load balancing over the documented routes: how work is spread, and by which strategy."""

from __future__ import annotations

import msgspec

from callboard.domain.strategy import ALIASES, BEST_IDLE, STRATEGIES, LoadStats
from callboard.http import errors
from callboard.http.documented.shapes import (
    BAD_NAME,
    Done,
    answer,
    asked,
    bad_request,
    caller_name,
    documented,
)
from callboard.http.route import Call, Reply, Route


class BalancerStats(msgspec.Struct, frozen=True, kw_only=True):
    """How work is spread over the agents.

    Attributes:
        success_rate: Of the assignments; 0 where there were none.
        active_agents: Agents that may be given tasks now.
        agent_weights: Agents that declared a weight.
        avg_agent_load: Mean of the tasks that they have.
    """

    strategy: str
    total_assignments: int
    successful_assignments: int
    failed_assignments: int
    success_rate: float
    active_agents: int
    agent_weights: int
    avg_agent_load: float


class Balancer(Done, frozen=True, kw_only=True):
    """How work is spread over the agents."""

    stats: BalancerStats
    timestamp: str


class ChooseStrategy(msgspec.Struct, kw_only=True):
    """A strategy by its name, in any case."""

    strategy: str


class Chosen(Done, frozen=True, kw_only=True):
    """The strategy of the default board, on all nodes."""

    message: str
    strategy: str
    updated_at: str


def balancer_of(found: LoadStats) -> BalancerStats:
    """How work is spread, with the documented names alone."""
    return BalancerStats(
        strategy=found.strategy,
        total_assignments=found.total_assignments,
        successful_assignments=found.successful_assignments,
        failed_assignments=found.failed_assignments,
        success_rate=found.success_rate if found.total_assignments else 0.0,
        active_agents=found.active_agents,
        agent_weights=found.agent_weights,
        avg_agent_load=found.avg_agent_load,
    )


async def stats(call: Call) -> Reply:
    """How work is spread over the agents."""
    cb = await call.board()
    found = await cb.scheduler.distribution(cb.tasks.board)
    return answer(Balancer(stats=balancer_of(found.load), timestamp=errors.now()))


async def choose(call: Call) -> Reply:
    """Set the strategy by which agents are chosen; every node goes by it from now on."""
    given = asked(call, ChooseStrategy).strategy
    plain = given.lower()
    # Under best_idle agents come for their work; here is said to whom it is brought.
    if plain not in (*STRATEGIES, *ALIASES) or plain == BEST_IDLE:
        raise bad_request(f"Invalid strategy: {given}")
    cb = await call.board()
    await cb.scheduler.set_strategy(plain, board=cb.tasks.board, by=caller_name(call))
    return answer(
        Chosen(
            message=f"Load balancing strategy set to {given}",
            strategy=given,
            updated_at=errors.now(),
        )
    )


def routes() -> list[Route]:
    """The documented routes of load balancing."""
    tag = "load balancer"
    return [
        documented(
            *("GET", "/load-balancer/stats", stats, Balancer),
            role="read",
            summary="How work is spread over the agents.",
            tag=tag,
        ),
        documented(
            *("PUT", "/load-balancer/strategy", choose, Chosen),
            role="operate",
            summary="Set the strategy by which agents are chosen, on all nodes.",
            tag=tag,
            query=ChooseStrategy,
            others=BAD_NAME,
        ),
    ]
