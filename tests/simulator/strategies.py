"""Strategies of one's own, as a user would write them."""

from __future__ import annotations

from callboard.domain.strategy import Assignment, Candidate


class FewestTasks:
    """What ``least_connections`` does, with its order among equals."""

    def choose(self, assignment: Assignment) -> str:
        def rank(c: Candidate) -> tuple[float, ...]:
            return (c.load, c.load / c.limit, -c.priority, -c.waited)

        return min(assignment.candidates, key=rank).id


class Throws:
    """One with a fault."""

    def choose(self, assignment: Assignment) -> str:
        raise ZeroDivisionError("no agents to divide by")


NO_STRATEGY = object()
