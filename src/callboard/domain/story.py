"""The story of a run: what its board's journal says, told as events of the run.

Pure: the entries and the tasks that they mention come in as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from callboard.domain.event import Event, Fact
from callboard.domain.run import ENDED, WORK, Phase, answer_id, member_of
from callboard.domain.task import Task, at_ms

Told = Iterator[tuple[str, dict[str, Any]]]

# Plans may not use these ids for tasks, so the id alone says what a task is for.
_INVOCATION: Final = re.compile(r"(plan|answer)-[0-9]+")

_FAILED_BECAUSE: Final[Mapping[str, str]] = {
    "not_retryable": "It failed, and trying again was ruled out.",
    "exhausted": "It failed, and no tries were left.",
    "poison": "It lost its holders too often.",
    "deadline_exceeded": "Its deadline passed while it waited.",
    "dependency_failed": "A task that it depends on ended without success.",
}

# The entries that are told with more of a task than they say, of work or of every task.
_OF_WORK: Final = frozenset({"task:created", "task:completed", "task:cancelled", "task:revived"})
_OF_ALL: Final = frozenset({"task:failed", "task:retry_scheduled"})


class RunEvent(msgspec.Struct, frozen=True):
    """Something that happened in a run.

    Attributes:
        type: As ``task_completed``.
        cursor: ``n.k``: the number of the journal's entry, and the place within it from 1.
        at: The engine's time, UTC.
        data: What belongs to the type: JSON values, and moments as datetimes.
    """

    type: str
    cursor: str
    at: datetime
    data: dict[str, Any]


class Story:
    """Tells the events of one run from its journal, entry by entry.

    Which events there are, in which order and under which cursors depends on the entries
    alone, so a story that is told again from the first entry repeats every event. One that
    begins later does too, but for what the entries before would have told it: who has
    started already, who held a task that failed, the counts of ``done``.

    The entries carry no texts: titles, results and errors are the tasks', as they are when
    they are read. So these fields of an event may differ when it is told again:

    - ``error`` of ``task_failed`` and ``task_retry_scheduled`` is the task's last one. After
      another attempt failed it is that one's; after the task was put back on the board it is
      a general word on why it had ended.
    - ``reason`` of ``task_cancelled`` is empty once the task was put back on the board.
    - What is read of a task is empty once the task was purged.

    The result of a task never changes, nor do title, priority and dependencies of a
    planned one.
    """

    def __init__(self, run: str, team: str) -> None:
        self._run = run
        self._team = team
        self._phase = ""
        self._generation = 1
        self._titles: dict[str, str] = {}
        self._claims: dict[str, tuple[str, str]] = {}  # The last claim: member and attempt.
        self._revived: set[str] = set()
        self._started: dict[str, bool] = {}  # In this generation: member, and whether it is done.
        self._workers: dict[str, None] = {}  # Of all generations, in order of their first claim.
        self._created = 0
        self._completed = 0
        self._tellers: Final[Mapping[str, Callable[[Fact, Task | None], Told]]] = {
            "task:created": self._task_created,
            "task:claimed": self._task_claimed,
            "task:output": self._task_output,
            "task:completed": self._task_completed,
            "task:failed": self._task_failed,
            "task:retry_scheduled": self._task_retry_scheduled,
            "task:cancelled": self._task_cancelled,
            "task:lease_lost": self._task_lost,
            "task:revived": self._task_revived,
            "run:created": self._run_created,
            "run:phase": self._run_phase,
            "run:paused": self._run_paused,
            "run:unpaused": self._run_unpaused,
            "run:reopened": self._run_reopened,
            "run:told": self._run_told,
        }

    @property
    def has_ended(self) -> bool:
        """Whether the run stood at an end after the last entry; a retry takes it on from there."""
        return self._phase in ENDED

    def needs(self, event: Event) -> list[str]:
        """Ids of the tasks to read before this entry is told; most entries need none."""
        if event.type == "run:phase":
            ends = (fact for fact in event.facts if fact.state == Phase.DONE)
            return [answer_id(_moved(fact)[0] or self._generation) for fact in ends]
        ids = [fact.id for fact in event.facts]
        if event.type in _OF_ALL:
            return ids
        if event.type in _OF_WORK:
            return [task for task in ids if _is_work(task)]
        if event.type == "task:claimed":
            return [task for task in ids if _is_work(task) and task not in self._titles]
        return []

    def tell(self, event: Event, tasks: Mapping[str, Task]) -> list[RunEvent]:
        """What this entry says: none, one or several events of the run.

        Entries are told once each, in the journal's order. Of *tasks* those are used that
        :meth:`needs` names; one that is missing leaves its texts empty and changes nothing else.
        """
        teller = self._tellers.get(event.type)
        if teller is None:
            return []
        found: list[tuple[str, dict[str, Any]]] = []
        for fact in event.facts:
            key = fact.id
            if event.type == "run:phase":
                key = answer_id(_moved(fact)[0] or self._generation)
            found += teller(fact, tasks.get(key))
        return [
            RunEvent(name, f"{event.n}.{k}", event.at, data)
            for k, (name, data) in enumerate(found, 1)
        ]

    # What happened to tasks

    def _task_created(self, fact: Fact, task: Task | None) -> Told:
        if not _is_work(fact.id):
            return
        self._created += 1
        kind, suggested = (task.kind, task.suggested_worker) if task else ("", None)
        yield (
            "task_created",
            {
                "task": {
                    "id": fact.id,
                    "title": self._title(fact.id, task),
                    "priority": task.priority if task else 0,
                    "suggested_worker": member_of(suggested, self._run) if suggested else None,
                    "worker": kind.removeprefix(f"{WORK}.") if "." in kind else None,
                    "depends_on": list(task.depends_on) if task else [],
                }
            },
        )

    def _task_claimed(self, fact: Fact, task: Task | None) -> Told:
        member = self._member(fact)
        self._claims[fact.id] = member, fact.extra
        if not _is_work(fact.id):
            yield "invocation_start", {"agent": member, **self._which(fact.id)}
            return
        if member not in self._started:
            self._started[member] = False
            self._workers[member] = None
            yield "worker_start", {"agent": member}
        attempt = int(fact.extra) if fact.extra.isdecimal() else 0
        title = self._title(fact.id, task)
        yield (
            "task_claimed",
            {"agent": member, "task_id": fact.id, "title": title, "attempt": attempt},
        )

    def _task_output(self, fact: Fact, _: Task | None) -> Told:
        what, value = _kind_and_value(fact.extra)
        named = {"token": "content", "tool": "name", "log": "content"}.get(what)
        if named:
            about = {"agent": self._member(fact), **self._which(fact.id)}
            yield f"agent_{what}", {**about, named: value}

    def _task_completed(self, fact: Fact, task: Task | None) -> Told:
        if not _is_work(fact.id):
            return
        self._completed += 1
        result = task.result if task else None
        yield (
            "task_completed",
            {"agent": self._member(fact), "task_id": fact.id, "result": result},
        )
        yield from self._ended(fact.id)

    def _task_failed(self, fact: Fact, task: Task | None) -> Told:
        error = _error_of(task) or _FAILED_BECAUSE.get(fact.extra, fact.extra)
        about = {"agent": self._member(fact), **self._which(fact.id)}
        yield "task_failed", {**about, "error": error}
        yield from self._ended(fact.id)

    def _task_retry_scheduled(self, fact: Fact, task: Task | None) -> Told:
        # The task has no holder any more when this is told.
        member, _ = self._claims.get(fact.id, ("", ""))
        due = at_ms(int(fact.extra)) if fact.extra.isdecimal() else None
        about = {"agent": member, **self._which(fact.id)}
        yield "task_retry_scheduled", {**about, "error": _error_of(task), "due": due}

    def _task_cancelled(self, fact: Fact, task: Task | None) -> Told:
        if not _is_work(fact.id):
            return
        reason = (task.reason if task else None) or fact.extra
        yield "task_cancelled", {"task_id": fact.id, "reason": reason}
        yield from self._ended(fact.id)

    def _task_lost(self, fact: Fact, _: Task | None) -> Told:
        yield "task_lost", {"agent": self._member(fact), **self._which(fact.id)}

    def _task_revived(self, fact: Fact, task: Task | None) -> Told:
        if not _is_work(fact.id):
            return
        self._revived.add(fact.id)
        yield "task_retry", {"task_id": fact.id, "title": self._title(fact.id, task)}

    def _ended(self, task_id: str) -> Told:
        if task_id in self._revived:
            self._revived.remove(task_id)
            yield "retry_done", {"task_id": task_id}

    # What happened to the run

    def _run_created(self, _: Fact, __: Task | None) -> Told:
        yield "team_start", self._who()
        yield from self._enter(Phase.PLANNING)

    def _run_phase(self, fact: Fact, answer: Task | None) -> Told:
        generation, reason = _moved(fact)
        self._begin(generation or self._generation)
        if fact.state == Phase.SYNTHESIS or fact.state in ENDED:
            yield from self._workers_done()
        if fact.state not in ENDED:
            yield from self._enter(fact.state)
            return
        self._phase = fact.state
        if fact.state == Phase.CANCELLED:
            yield "cancelled", {"reason": reason}
        elif fact.state == Phase.FAILED:
            yield "error", {"detail": reason}
        else:
            yield (
                "done",
                {
                    "response": answer.result if answer else None,
                    **self._who(),
                    "phase": fact.state,
                    "tasks_created": self._created,
                    "tasks_completed": self._completed,
                    "workers_used": list(self._workers),
                },
            )

    def _run_paused(self, _: Fact, __: Task | None) -> Told:
        yield "paused", {}

    def _run_unpaused(self, _: Fact, __: Task | None) -> Told:
        yield "unpaused", {}

    def _run_reopened(self, fact: Fact, _: Task | None) -> Told:
        self._begin(_moved(fact)[0] or self._generation + 1)
        yield from self._enter(Phase.EXECUTION)

    def _run_told(self, fact: Fact, _: Task | None) -> Told:
        """What the run's lead had to say, under the name that it gave it."""
        kind, value = _kind_and_value(fact.extra)
        data = value if isinstance(value, dict) else {}
        if kind == "run_resumed":
            data = {**self._who(), "phase": self._phase, **data}
        yield kind, data

    def _begin(self, generation: int) -> None:
        """After a retry of the run its workers start anew."""
        if generation != self._generation:
            self._generation = generation
            self._started = {}

    def _enter(self, phase: str) -> Told:
        if phase != self._phase:
            self._phase = phase
            yield "phase_change", {"phase": str(phase)}

    def _workers_done(self) -> Told:
        for member, is_done in self._started.items():
            if not is_done:
                self._started[member] = True
                yield "worker_done", {"agent": member}

    # What is known of a task or a holder

    def _who(self) -> dict[str, Any]:
        return {"team_run_id": self._run, "team_name": self._team}

    def _member(self, fact: Fact) -> str:
        return member_of(fact.holder, self._run)

    def _title(self, task_id: str, task: Task | None) -> str:
        if task is not None:
            self._titles.setdefault(task_id, task.title)
        return self._titles.get(task_id, "")

    def _which(self, task_id: str) -> dict[str, Any]:
        """Names a task of a worker, or the invocation of a planner or synthesizer."""
        if _is_work(task_id):
            return {"task_id": task_id}
        _, attempt = self._claims.get(task_id, ("", "0"))
        return {"invocation_id": f"{task_id}.{attempt}"}


def _is_work(task_id: str) -> bool:
    return not _INVOCATION.fullmatch(task_id)


def _moved(fact: Fact) -> tuple[int, str]:
    """Generation (0 where it is not said) and reason of ``generation|round|reason``."""
    generation, _, rest = fact.extra.partition("|")
    return int(generation) if generation.isdecimal() else 0, rest.partition("|")[2]


def _kind_and_value(extra: str) -> tuple[str, Any]:
    """The parts of ``kind|json``."""
    kind, _, encoded = extra.partition("|")
    try:
        return kind, msgspec.json.decode(encoded)
    except msgspec.DecodeError:
        return kind, encoded


def _error_of(task: Task | None) -> str:
    error = (task.error if task else None) or {}
    return str(error.get("message") or error.get("type") or "")
