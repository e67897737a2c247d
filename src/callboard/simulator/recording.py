"""Loads as they were: tasks of a board written to a file, and read as a scenario.

A file has one JSON object a line. A task::

    {"at": 12.5, "kind": "fetch", "seconds": 0.8, "requires": ["net"], "priority": 10,
     "id": "t1", "depends_on": ["t0"], "agent": "mira", "ended": 14.1}

of which ``at`` (when it was submitted) and ``seconds`` (how long it ran) must be there; and,
where they are known, the agents, else those that tasks name, else forty made-up ones::

    {"agent": "mira", "slots": 4, "skills": ["net"]}
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any, Final

import msgspec

from callboard.domain.agent import Agent
from callboard.domain.task import Requirements, Task
from callboard.exceptions import InvalidArgument
from callboard.simulator.loads import AGENTS, chances, team
from callboard.simulator.scenario import Scenario, SimulatedAgent, SimulatedTask

SUPPOSED: Final = 2
"""Tasks that what is supposed of an agent, speed 1, weighs as much as."""


class RecordedTask(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task as it went. Times are in seconds from the first task's submission.

    Attributes:
        at: When it was submitted.
        seconds: How long the attempt took that was accepted.
        requires: What it asked of an agent, each as a word.
        agent: Who did it.
        ended: When it was done.
    """

    at: float
    seconds: float
    kind: str = "work"
    requires: tuple[str, ...] = ()
    priority: int = 0
    id: str = ""
    depends_on: tuple[str, ...] = ()
    agent: str = ""
    ended: float | None = None


class RecordedAgent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An agent that was there.

    Attributes:
        slots: Tasks that it ran at once.
        skills: What it could serve, in the same words as tasks require.
    """

    agent: str
    slots: int = 1
    skills: tuple[str, ...] = ()


def record(tasks: Iterable[Task], agents: Iterable[Agent]) -> Iterator[bytes]:
    """The lines of a file: the agents, and of the tasks those that are done, by submission."""
    done = sorted((t for t in tasks if t.duration is not None), key=lambda t: (t.created_at, t.id))
    for agent in agents:
        yield msgspec.json.encode(
            RecordedAgent(agent=agent.id, slots=max(1, agent.slots), skills=_skills(agent))
        )
    for task in done:
        yield msgspec.json.encode(
            RecordedTask(
                at=round((task.created_at - done[0].created_at).total_seconds(), 6),
                seconds=task.duration or 0.0,
                kind=task.kind,
                requires=_words(task.requirements),
                priority=task.priority,
                id=task.id,
                depends_on=task.depends_on,
                agent=task.agent,
                ended=round((task.since - done[0].created_at).total_seconds(), 6),
            )
        )


def _words(needs: Requirements | Agent) -> tuple[str, ...]:
    return (
        *needs.capabilities,
        *(f"service:{service}" for service in needs.services),
        *(f"label:{name}={value}" for name, value in sorted(needs.labels.items())),
        *((f"type:{needs.agent_type}",) if needs.agent_type else ()),
    )


def _skills(agent: Agent) -> tuple[str, ...]:
    # One that names kinds serves no others.
    return (*_words(agent), *(f"kind:{kind}" for kind in agent.kinds))


def read_recording(path: Path) -> Scenario:
    """Read a recorded load. The agents' speeds follow from how long each took for which kind.

    Raises:
        InvalidArgument: A line is not as above; the message says which, and what is wrong.
    """
    tasks, agents = _rows(path)
    if not tasks:
        raise InvalidArgument(f"{path} holds no task. Record some: callboard simulate record")
    tasks.sort(key=lambda task: task.at)
    index = {task.id: i for i, task in enumerate(tasks) if task.id}
    crew = _crew(tasks, agents)
    speeds = {agent.id: agent.speed for agent in crew}
    chance = random.Random("recorded")
    kinds = _kinds(skill for agent in crew for skill in agent.skills)
    scenario = tuple(
        SimulatedTask(
            at=task.at,
            work=task.seconds * speeds.get(task.agent, 1.0),
            kind=task.kind,
            requires=frozenset(task.requires) | ({_kind(task)} & kinds),
            priority=task.priority,
            depends_on=tuple(index[need] for need in task.depends_on if need in index),
            chances=chances(chance),
        )
        for task in tasks
    )
    return Scenario(path.name, crew, scenario)


def _rows(path: Path) -> tuple[list[RecordedTask], list[RecordedAgent]]:
    tasks: list[RecordedTask] = []
    agents: list[RecordedAgent] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            if "at" in fields or "seconds" in fields:
                tasks.append(_checked(msgspec.convert(fields, RecordedTask)))
            else:
                agents.append(msgspec.convert(fields, RecordedAgent))
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidArgument(
                f"{path}:{number}: {error}. A task needs at and seconds, as "
                '{"at": 12.5, "kind": "fetch", "seconds": 0.8}.',
                field="load",
            ) from error
    return tasks, agents


def _checked(task: RecordedTask) -> RecordedTask:
    if task.at < 0 or task.seconds < 0:
        raise ValueError("at and seconds must not be negative")
    return task


def _kind(task: RecordedTask) -> str:
    return f"kind:{task.kind}"


def _kinds(skills: Iterable[str]) -> frozenset[str]:
    return frozenset(skill for skill in skills if skill.startswith("kind:"))


def _crew(
    tasks: Sequence[RecordedTask], agents: Sequence[RecordedAgent]
) -> tuple[SimulatedAgent, ...]:
    """The agents as the file has them, and those that only tasks name."""
    by_agent: dict[str, list[RecordedTask]] = {agent.agent: [] for agent in agents}
    for task in tasks:
        if task.agent:
            by_agent.setdefault(task.agent, []).append(task)
    if not by_agent:
        needs = frozenset[str]().union(*(task.requires for task in tasks))
        made_up = team(random.Random("recorded:team"), AGENTS)
        return tuple(replace(agent, skills=needs) for agent in made_up)
    known = {agent.agent: agent for agent in agents}
    every_kind = _kinds(skill for agent in agents for skill in agent.skills)
    speeds = _speeds(tasks)
    crew = []
    for name, did in by_agent.items():
        agent = known.get(name) or RecordedAgent(agent=name, slots=_most_at_once(did))
        # What it was given it could do; and one that names no kinds serves them all.
        skills = frozenset(agent.skills).union(*(task.requires for task in did))
        skills |= (frozenset(map(_kind, did)) & every_kind) if _kinds(skills) else every_kind
        crew.append(
            SimulatedAgent(name, speed=speeds.get(name, 1.0), slots=agent.slots, skills=skills)
        )
    return tuple(crew)


def _most_at_once(tasks: Iterable[RecordedTask]) -> int:
    """How many of these ran at the same time."""
    changes = []
    for task in tasks:
        if task.ended is not None:
            changes += [(task.ended - task.seconds, 1), (task.ended, -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return max(1, most)


def _speeds(tasks: Sequence[RecordedTask]) -> Mapping[str, float]:
    """For each agent, how much faster than the usual: the geometric mean over its tasks."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        if task.seconds > 0:
            by_kind[task.kind].append(log(task.seconds))
    usual = {kind: sum(logs) / len(logs) for kind, logs in by_kind.items()}
    ratios: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        if task.agent and task.seconds > 0:
            ratios[task.agent].append(usual[task.kind] - log(task.seconds))
    return {agent: exp(sum(found) / (len(found) + SUPPOSED)) for agent, found in ratios.items()}
