"""Questions about tasks and what they wait for, answered on a snapshot.

A dependency is written on the task that waits: ``b.depends_on == ("a",)`` means
that *a* comes before *b*. Nothing here recurses, so a chain of 10,000 is as safe
as a fan of 10,000. Nothing here does I/O: the caller reads a board and builds a
:class:`TaskGraph` from it.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from callboard.domain.drawing import dot_of
from callboard.domain.ordering import cycle_error, cycle_of, topological
from callboard.exceptions import InvalidArgument, TaskNotFound

FINISHED: Final = frozenset({"done", "failed", "cancelled"})
"""States that a task never leaves by itself."""

DURATION_SECONDS_MAX: Final = 1e9
"""About 31 years: longer is a mistake of units, and sums stay far from overflow."""

UNBLOCKS_TASKS_MAX: Final = 20_000
UNBLOCKS_WORK_MAX: Final = 40_000_000_000
"""Bounds of the exact count of what a task unblocks: tasks (their bitsets then take
at most 50 MB) and tasks × dependencies, in bits read (about a second or two)."""

_STARTED: Final = frozenset({"claimed", "in_progress", "input_required"})
_LOST: Final = frozenset({"failed", "cancelled"})


class GraphNode(msgspec.Struct, frozen=True):
    """One task as the graph sees it.

    Attributes:
        id: The task's id, unique in the graph.
        status: The task's state; a word unknown here counts as unfinished.
        depends_on: Ids of the tasks before this one; they need not exist yet.
        duration: Measured run time in seconds, 0 to 1e9; None if not measured.
        kind: The task's kind: its mean duration stands in where none was measured.
        title: For people; shown in drawings.
        on_dependency_failure: ``run`` lets the task start after a dependency failed
            or was cancelled; ``fail`` and ``skip`` mean that it never will.
    """

    id: str
    status: str = "pending"
    depends_on: tuple[str, ...] = ()
    duration: float | None = None
    kind: str = ""
    title: str = ""
    on_dependency_failure: str = "fail"


class CriticalPath(msgspec.Struct, frozen=True):
    """The chain of tasks that takes longest, first to last.

    Attributes:
        ids: The tasks, each depending on the one before it.
        seconds: Sum of their durations.
        measured: How many of them had a duration of their own; the rest are estimates.
    """

    ids: tuple[str, ...] = ()
    seconds: float = 0.0
    measured: int = 0


class Unblocks(msgspec.Struct, frozen=True):
    """How many unfinished tasks stand behind one task, however far.

    Attributes:
        id: The task in front.
        tasks: Unfinished tasks that wait for it, directly or through others. They may
            wait for more than this one.
        exact: False if the graph was over the bound: then there are at least this many.
    """

    id: str
    tasks: int
    exact: bool = True


class TaskGraph:
    """An immutable snapshot of tasks and their dependencies, to be asked questions.

    A graph with a cycle can be built, so that it can be looked at: :meth:`find_cycle`,
    :meth:`to_dot` and :meth:`to_data` work on it, and whatever needs an order raises
    ``DependencyCycle``.

    Raises:
        InvalidArgument: Two nodes share an id, an id is empty, or a duration is not
            between 0 and 1e9 seconds.
    """

    def __init__(self, nodes: Iterable[GraphNode]) -> None:
        self._nodes: tuple[GraphNode, ...] = tuple(nodes)
        self._position: dict[str, int] = {}
        for index, node in enumerate(self._nodes):
            _check_node(node)
            if self._position.setdefault(node.id, index) != index:
                raise InvalidArgument(
                    f'Task "{node.id}" is in the graph twice. Give each task once.', id=node.id
                )
        self._needs: list[tuple[int, ...]] = []
        self._behind: list[list[int]] = [[] for _ in self._nodes]
        self._missing: dict[int, tuple[str, ...]] = {}
        self._link()

    def __len__(self) -> int:
        """Return the number of tasks, unknown references not counted."""
        return len(self._nodes)

    def __iter__(self) -> Iterator[GraphNode]:
        """Go through the tasks in the order they were given."""
        return iter(self._nodes)

    def __contains__(self, task_id: object) -> bool:
        """Tell whether the task itself is here; a mere reference to it is not enough."""
        return task_id in self._position

    # Order

    def topological_order(self) -> tuple[str, ...]:
        """List every task after all that it depends on.

        Kahn's algorithm (A. B. Kahn, "Topological sorting of large networks", CACM
        5(11), 1962), always taking the earliest given task that is free: an order that
        is already right is kept.

        Raises:
            DependencyCycle: There is no such order.
        """
        return tuple(self._nodes[index].id for index in self._order)

    def find_cycle(self) -> list[str] | None:
        """Name one cycle, each task depending on the next and the last on the first.

        None if there is none. A task that depends on itself is a cycle of one.
        """
        if len(self._placed) == len(self._nodes):
            return None
        return [self._nodes[index].id for index in cycle_of(self._needs, self._placed)]

    # Neighbours

    def dependents(self, task_id: str) -> tuple[str, ...]:
        """List the tasks that name this one in ``depends_on``, in the order given.

        Works for an id that is only referred to as well: who waits for the unknown?

        Raises:
            TaskNotFound: The id is neither a task nor a reference here.
        """
        return tuple(self._nodes[index].id for index in self._direct(task_id))

    def transitive_dependents(self, task_id: str) -> tuple[str, ...]:
        """List all tasks behind this one, nearest first, without the task itself.

        Raises:
            TaskNotFound: The id is neither a task nor a reference here.
        """
        start = self._position.get(task_id)
        seen = dict.fromkeys(self._direct(task_id))
        queue = deque(seen)
        while queue:
            for index in self._behind[queue.popleft()]:
                if index not in seen:
                    seen[index] = None
                    queue.append(index)
        return tuple(self._nodes[index].id for index in seen if index != start)

    def unresolved(self) -> dict[str, tuple[str, ...]]:
        """Map each unfinished task to the ids it depends on that are not in the graph.

        Finished tasks are left out: what they waited for may have been purged since.
        """
        return {
            self._nodes[index].id: missing
            for index, missing in self._missing.items()
            if self._unfinished[index]
        }

    # What can happen next

    def ready(self) -> tuple[str, ...]:
        """List the tasks that may be claimed now: ``pending``, and nothing left to wait for."""
        return tuple(
            node.id
            for index, node in enumerate(self._nodes)
            if node.status == "pending" and self._is_satisfied(index)
        )

    def unreachable(self) -> dict[str, str]:
        """Map each task that can never start to the failed or cancelled task that is why.

        A task that has started is not listed, nor what comes after a task with the
        policy ``run``. Where several causes apply the nearest one is named. Works on a
        graph with a cycle; the tasks on a cycle are not listed for that.
        """
        return {
            self._nodes[index].id: self._nodes[cause].id for index, cause in self._doomed.items()
        }

    def unblocks(self) -> tuple[Unblocks, ...]:
        """Count, for each unfinished task, the unfinished tasks behind it, in the order given.

        Unreachable tasks are neither counted nor listed: finishing something does not
        help them. Exact up to 20,000 tasks and 4e10 tasks × dependencies, as the
        transitive closure by bitsets in reverse topological order; beyond, a lower
        bound with ``exact`` false.

        Raises:
            DependencyCycle: The graph has no order.
        """
        counts, exact = self._unblock_counts
        return tuple(
            Unblocks(self._nodes[index].id, counts[index], exact)
            for index in range(len(self._nodes))
            if self._remaining[index]
        )

    def unblocks_most(self, limit: int = 10) -> tuple[Unblocks, ...]:
        """Rank the tasks that somebody could move now by how much waits for them.

        These are the unfinished tasks with nothing left to wait for, whatever else
        delays them: running, pending, scheduled, waiting for input. Most first, equals
        in the order given; tasks that nothing waits for are left out.

        Raises:
            DependencyCycle: The graph has no order.
            InvalidArgument: *limit* is below 1.
        """
        if limit < 1:
            raise InvalidArgument(f"limit is {limit}; it must be at least 1.", limit=limit)
        counts, exact = self._unblock_counts
        movable = (
            index
            for index, node in enumerate(self._nodes)
            if self._remaining[index]
            and counts[index]
            and node.status != "blocked"
            and self._is_satisfied(index)
        )
        first = heapq.nsmallest(limit, movable, key=lambda index: (-counts[index], index))
        return tuple(Unblocks(self._nodes[index].id, counts[index], exact) for index in first)

    # Time

    def weight(self, task_id: str) -> float:
        """Return the seconds a task counts for: measured, else the best estimate.

        The estimate is the mean of its kind's measured durations, else the mean of all
        measured ones, else 1.

        Raises:
            TaskNotFound: No such task here.
        """
        return self._weights[self._find(task_id)]

    def critical_path(self, *, remaining: bool = False) -> CriticalPath:
        """Find the true longest path, weighted by :meth:`weight`.

        The longest path in a directed acyclic graph by relaxing the tasks in
        topological order (Cormen et al., "Introduction to Algorithms", 24.2), in time
        proportional to tasks + dependencies. Of equally long paths the one with more
        tasks is taken, then the one that ends first in :meth:`topological_order`.

        Args:
            remaining: Only what is still to run: tasks neither finished nor unreachable.

        Raises:
            DependencyCycle: The graph has no order.
        """
        chosen = self._remaining if remaining else [True] * len(self._nodes)
        finish, before = self._earliest(chosen)
        path: list[int] = []
        index = max(
            (index for index in self._order if chosen[index]),
            key=finish.__getitem__,
            default=-1,
        )
        while index >= 0:
            path.append(index)
            index = before[index]
        path.reverse()
        return CriticalPath(
            ids=tuple(self._nodes[index].id for index in path),
            seconds=math.fsum(self._weights[index] for index in path),
            measured=sum(self._nodes[index].duration is not None for index in path),
        )

    def slack(self, *, remaining: bool = False) -> dict[str, float]:
        """Map each task to the seconds it may be late without making the whole later.

        The total float of the critical path method (Kelley and Walker, 1959): the
        longest path of all minus the longest one through the task; 0 on the critical
        path. It supposes that there are workers enough.

        Args:
            remaining: Only what is still to run: tasks neither finished nor unreachable.

        Raises:
            DependencyCycle: The graph has no order.
        """
        chosen = self._remaining if remaining else [True] * len(self._nodes)
        finish, _ = self._earliest(chosen)
        after = [0.0] * len(self._nodes)
        for index in reversed(self._order):
            if chosen[index]:
                through = after[index] + self._weights[index]
                for need in self._needs[index]:
                    after[need] = max(after[need], through)
        members = [index for index in range(len(self._nodes)) if chosen[index]]
        total = max((finish[index][0] for index in members), default=0.0)
        # Sums taken from two ends differ in the last bits: a slack is never negative.
        return {
            self._nodes[index].id: max(0.0, total - finish[index][0] - after[index])
            for index in members
        }

    # Out

    def to_dot(self, *, name: str = "tasks") -> str:
        """Draw the graph in Graphviz's DOT language, dependencies on the left.

        Ready tasks are light green, running ones yellow, done green, failed red,
        cancelled and unreachable grey, the rest white; unknown references are dashed.
        The critical path is bold.
        """
        return dot_of(
            name,
            self._nodes,
            critical=self._critical_ids(),
            ready=frozenset(self.ready()),
            lost=frozenset(self._nodes[index].id for index in self._doomed),
            unknown=self._waiting_for_unknown,
        )

    def to_data(self) -> dict[str, Any]:
        """Return the graph and what is known about it as plain JSON values.

        ``order`` is None and the paths are empty if there is a ``cycle``.
        """
        cycle = self.find_cycle()
        path, rest = [
            CriticalPath() if cycle else self.critical_path(remaining=remaining)
            for remaining in (False, True)
        ]
        return {
            "nodes": [
                {
                    "id": node.id,
                    "title": node.title,
                    "kind": node.kind,
                    "status": node.status,
                    "depends_on": list(node.depends_on),
                    "duration": node.duration,
                    "weight": weight,
                }
                for node, weight in zip(self._nodes, self._weights, strict=True)
            ],
            "edges": [
                {"from": need, "to": node.id, "known": need in self}
                for node in self._nodes
                for need in dict.fromkeys(node.depends_on)
            ],
            "order": None if cycle else list(self.topological_order()),
            "cycle": cycle,
            "ready": list(self.ready()),
            "critical_path": _path_data(path),
            "remaining_path": _path_data(rest),
            "unblocks": []
            if cycle
            else [msgspec.to_builtins(item) for item in self.unblocks_most()],
            "unresolved": {task_id: list(ids) for task_id, ids in self.unresolved().items()},
            "unreachable": self.unreachable(),
        }

    # Inside

    def _link(self) -> None:
        for index, node in enumerate(self._nodes):
            needs: list[int] = []
            missing: list[str] = []
            for need in dict.fromkeys(node.depends_on):
                position = self._position.get(need)
                if position is None:
                    missing.append(need)
                else:
                    needs.append(position)
                    self._behind[position].append(index)
            self._needs.append(tuple(needs))
            if missing:
                self._missing[index] = tuple(missing)

    def _find(self, task_id: str) -> int:
        index = self._position.get(task_id)
        if index is None:
            raise TaskNotFound(
                f'Task "{task_id}" is not in this graph. Check the id and the board.', id=task_id
            )
        return index

    def _direct(self, task_id: str) -> list[int]:
        waiting = self._waiting_for_unknown.get(task_id)
        return self._behind[self._find(task_id)] if waiting is None else waiting

    def _is_satisfied(self, index: int) -> bool:
        if index in self._missing:
            return False
        runs_anyway = self._nodes[index].on_dependency_failure == "run"
        return all(
            self._nodes[need].status == "done"
            or (runs_anyway and self._nodes[need].status in _LOST)
            for need in self._needs[index]
        )

    def _earliest(self, chosen: Sequence[bool]) -> tuple[list[tuple[float, int]], list[int]]:
        """Return, by position, the longest path that ends there and the step before it.

        A path's length is (seconds, tasks), so that tasks of no duration still count.
        """
        finish = [(0.0, 0)] * len(self._nodes)
        before = [-1] * len(self._nodes)
        for index in self._order:
            if not chosen[index]:
                continue
            longest = (0.0, 0)
            for need in self._needs[index]:
                # A task outside the choice stays at (0, 0), which is never longer.
                if finish[need] > longest:
                    longest = finish[need]
                    before[index] = need
            finish[index] = (longest[0] + self._weights[index], longest[1] + 1)
        return finish, before

    def _critical_ids(self) -> tuple[str, ...]:
        return () if self.find_cycle() else self.critical_path().ids

    @cached_property
    def _placed(self) -> list[int]:
        return topological(self._needs)

    @cached_property
    def _order(self) -> list[int]:
        cycle = self.find_cycle()
        if cycle is not None:
            raise cycle_error(cycle)
        return self._placed

    @cached_property
    def _waiting_for_unknown(self) -> dict[str, list[int]]:
        waiting: dict[str, list[int]] = defaultdict(list)
        for index, missing in self._missing.items():
            for need in missing:
                waiting[need].append(index)
        return dict(waiting)

    @cached_property
    def _unfinished(self) -> list[bool]:
        return [node.status not in FINISHED for node in self._nodes]

    @cached_property
    def _remaining(self) -> list[bool]:
        return [
            unfinished and index not in self._doomed
            for index, unfinished in enumerate(self._unfinished)
        ]

    @cached_property
    def _doomed(self) -> dict[int, int]:
        """Positions of the tasks that can never start, and of the task that is why."""
        doomed: dict[int, int] = {}
        queue = deque(
            (index, index) for index, node in enumerate(self._nodes) if node.status in _LOST
        )
        while queue:
            lost, cause = queue.popleft()
            for index in self._behind[lost]:
                node = self._nodes[index]
                waits = node.status not in FINISHED and node.status not in _STARTED
                if waits and node.on_dependency_failure != "run" and index not in doomed:
                    doomed[index] = cause
                    queue.append((index, cause))
        return doomed

    @cached_property
    def _weights(self) -> list[float]:
        by_kind: dict[str, list[float]] = defaultdict(list)
        for node in self._nodes:
            if node.duration is not None:
                by_kind[node.kind].append(node.duration)
        every = [duration for durations in by_kind.values() for duration in durations]
        overall = _mean(every) if every else 1.0
        means = {kind: _mean(durations) for kind, durations in by_kind.items()}
        return [
            means.get(node.kind, overall) if node.duration is None else node.duration
            for node in self._nodes
        ]

    @cached_property
    def _unblock_counts(self) -> tuple[list[int], bool]:
        """Counts by position, and whether they are exact."""
        tasks = [index for index in self._order if self._remaining[index]]
        behind = {
            index: tuple(after for after in self._behind[index] if self._remaining[after])
            for index in tasks
        }
        dependencies = sum(map(len, behind.values()))
        counts = [0] * len(self._nodes)
        exact = len(tasks) <= UNBLOCKS_TASKS_MAX and len(tasks) * dependencies <= UNBLOCKS_WORK_MAX
        fill = _count_behind if exact else _bound_behind
        fill(tasks, behind, counts)
        return counts, exact


def _count_behind(
    tasks: Sequence[int], behind: dict[int, tuple[int, ...]], counts: list[int]
) -> None:
    """Fill in the exact counts: one bit a task, last task lowest, so that sets stay short."""
    closed: dict[int, int] = {}
    # Tasks of one layer often have the very same dependents: their union is made once.
    unions: dict[tuple[int, ...], int] = {}
    for bit, index in enumerate(reversed(tasks)):
        after = behind[index]
        union = unions.get(after)
        if union is None:
            union = 0
            for dependent in after:
                union |= closed[dependent]
            if len(after) > 1:
                unions[after] = union
        counts[index] = union.bit_count()
        closed[index] = union | 1 << bit


def _bound_behind(
    tasks: Sequence[int], behind: dict[int, tuple[int, ...]], counts: list[int]
) -> None:
    """Fill in lower bounds: the direct dependents, or the longest known way if that is more."""
    for index in reversed(tasks):
        after = behind[index]
        deepest = max((counts[dependent] + 1 for dependent in after), default=0)
        counts[index] = max(len(after), deepest)


def _path_data(path: CriticalPath) -> dict[str, Any]:
    return {"ids": list(path.ids), "seconds": path.seconds, "measured": path.measured}


def _mean(durations: Sequence[float]) -> float:
    return math.fsum(durations) / len(durations)


def _check_node(node: GraphNode) -> None:
    if not node.id:
        raise InvalidArgument("A task in the graph has an empty id. Give each task an id.")
    # Written so that NaN is refused too.
    if node.duration is not None and not 0 <= node.duration <= DURATION_SECONDS_MAX:
        raise InvalidArgument(
            f'duration of task "{node.id}" is {node.duration}; it must be between 0 and'
            f" {DURATION_SECONDS_MAX:.0f} seconds, or None if not measured.",
            id=node.id,
            duration=str(node.duration),
        )
