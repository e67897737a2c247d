"""A plan: what a planner answers, checked before any of it reaches a board.

Pure. What has to be looked up, such as which earlier tasks exist, comes in as an argument.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import msgspec

from callboard.domain import task as tasks
from callboard.domain.names import NAME
from callboard.domain.retry import MAX_RETRIES_MAX
from callboard.exceptions import InvalidArgument, InvalidPlan

PLAN_BYTES_MAX: Final = tasks.PAYLOAD_BYTES_MAX
"""A plan is kept as one result: longer ones are given in several rounds."""

TEXT_MAX: Final = 65_536
TIMEOUT_MAX: Final = 31_536_000.0
_RESERVED: Final = re.compile(r"(plan|answer)-[0-9]+")
_FENCED: Final = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_SHOWN_MAX: Final = 200


class PlannedTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task as a planner gives it.

    Attributes:
        id: Names it for others to depend on; made where the planner gave none.
        worker: The member that must do it; any that fits, where empty.
        suggested_worker: A member that may have it first, for ten seconds.
        capabilities: What whoever does it must have.
        payload: Any JSON, handed to the worker.
        depends_on: Tasks that must be done first, of this plan or earlier rounds.
        on_dependency_failure: ``fail``, ``skip`` or ``run``, as for every task.
        timeout: Seconds that one attempt may take; the member's own where None.
        max_retries: Tries after the first; the member's own where None.
    """

    id: str
    title: str
    description: str = ""
    worker: str = ""
    suggested_worker: str = ""
    capabilities: tuple[str, ...] = ()
    payload: Any = None
    depends_on: tuple[str, ...] = ()
    priority: int = 0
    on_dependency_failure: tasks.DependencyPolicy = "fail"
    timeout: float | None = None
    max_retries: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of planning came to.

    Attributes:
        tasks: In the planner's order.
        is_last: The planner wants not to be asked again.
        remark: What the planner said besides.
        fingerprint: Equal for plans of the same tasks, whatever their ids.
    """

    tasks: tuple[PlannedTask, ...]
    is_last: bool = False
    remark: str = ""
    fingerprint: str = ""


_ALIASES: Final[Mapping[str, str]] = {"assigned_to": "worker", "input": "payload"}
_FIELDS: Final = frozenset(PlannedTask.__struct_fields__)
_ANSWER_FIELDS: Final = frozenset({"tasks", "done", "remark"})


def read_plan(
    answer: Any, *, round_number: int, members: Mapping[str, Collection[str]], tasks_left: int
) -> Plan:
    """Read a planner's answer.

    Args:
        answer: A list of tasks, or ``{"tasks": [...], "done": bool, "remark": str}``; or a
            text that is one of these in JSON, also where it stands in a fenced block.
        round_number: 1 at first; part of the ids that are made for tasks without one.
        members: The team's workers, and the capabilities of each.
        tasks_left: How many tasks the run may still get.

    Raises:
        InvalidPlan: The message says which task and what to do; nothing of it is used.
    """
    found = _answer_of(answer)
    rows = found.get("tasks", [])
    if not isinstance(rows, list | tuple):
        raise InvalidPlan(f"The plan's tasks are {_kind(rows)}; give a list of tasks.")
    is_last = found.get("done", False)
    if not isinstance(is_last, bool):
        raise InvalidPlan(f"The plan's done is {_kind(is_last)}; give true or false.")
    if not rows and round_number == 1 and not is_last:
        raise InvalidPlan(
            "The plan has no tasks. Give at least one, or done: true where the request needs none."
        )
    if len(rows) > tasks_left:
        raise InvalidPlan(
            f"The plan has {len(rows):,} tasks, and the run may get {tasks_left:,} more. Plan "
            "fewer, or raise max_tasks of the team."
        )
    planned = _with_ids(rows, round_number)
    for task in planned:
        _check_worker(task, members)
    _check_graph(planned)
    plan = Plan(
        tasks=tuple(planned),
        is_last=is_last,
        remark=str(found.get("remark") or "")[:TEXT_MAX],
        fingerprint=_fingerprint(planned),
    )
    size = len(msgspec.json.encode(plan))
    if size > PLAN_BYTES_MAX - 1_024:
        raise InvalidPlan(
            f"The plan is {size:,} bytes long; at most {PLAN_BYTES_MAX:,} are kept. Give its tasks "
            "in several rounds, or put large payloads into files."
        )
    return plan


def references(plan: Plan) -> list[str]:
    """Ids that the plan mentions and that can only be tasks of earlier rounds."""
    own = {task.id for task in plan.tasks}
    return sorted({need for task in plan.tasks for need in task.depends_on} - own)


def check_references(plan: Plan, existing: Collection[str], taken: Collection[str]) -> None:
    """Refuse dependencies on what is not there, and ids that earlier rounds have used.

    Args:
        existing: Which of :func:`references` are tasks of the run.
        taken: Which of the plan's own ids are.

    Raises:
        InvalidPlan: As the message says.
    """
    known = {task.id for task in plan.tasks}.union(existing)
    for task in plan.tasks:
        for need in task.depends_on:
            if need in known:
                continue
            near = _nearest(need, known)
            raise InvalidPlan(
                f"Task {task.id!r} of the plan depends on {need!r}, which is no task of this plan "
                f"or an earlier one.{near}"
            )
        if task.id in taken:
            raise InvalidPlan(
                f"The plan uses the id {task.id!r}, which an earlier round has given to a task. "
                "Use a new id, or leave it out and one is made."
            )


def _answer_of(answer: Any) -> Mapping[str, Any]:
    if isinstance(answer, str):
        answer = _decoded(answer)
    if isinstance(answer, msgspec.Struct):
        answer = msgspec.to_builtins(answer)
    if isinstance(answer, list | tuple):
        return {"tasks": list(answer)}
    if not isinstance(answer, Mapping):
        raise InvalidPlan(
            f"The planner answered {_kind(answer)}. It must answer a list of tasks, or "
            '{"tasks": [...], "done": true or false}.'
        )
    unknown = [str(key) for key in answer if key not in _ANSWER_FIELDS]
    if unknown:
        raise InvalidPlan(
            f"The plan has the key {unknown[0]!r}; known are tasks, done and remark."
            f"{_nearest(unknown[0], _ANSWER_FIELDS)}"
        )
    return answer


def _decoded(text: str) -> Any:
    fenced = _FENCED.search(text)
    try:
        return msgspec.json.decode(fenced[1] if fenced else text)
    except msgspec.DecodeError as error:
        shown = " ".join(text.split())[:_SHOWN_MAX]
        raise InvalidPlan(
            f"The planner answered a text that is no JSON ({error}): {shown!r}. It must answer a "
            'list of tasks, or {"tasks": [...], "done": true or false}.'
        ) from error


def _with_ids(rows: Sequence[Any], round_number: int) -> list[PlannedTask]:
    planned: list[PlannedTask] = []
    seen: set[str] = set()
    for n, row in enumerate(rows, 1):
        task = _task_of(row, n, f"t{round_number}-{n}")
        if task.id in seen:
            raise InvalidPlan(f"Two tasks of the plan have the id {task.id!r}.")
        seen.add(task.id)
        planned.append(task)
    return planned


def _task_of(row: Any, n: int, made_id: str) -> PlannedTask:
    """One task; a text alone is its title."""
    if isinstance(row, str):
        row = {"title": row}
    if isinstance(row, msgspec.Struct):
        row = msgspec.to_builtins(row)
    if not isinstance(row, Mapping):
        raise InvalidPlan(f"Task {n} of the plan is {_kind(row)}; give a mapping or a title.")
    values: dict[str, Any] = {}
    for given, value in row.items():
        key = _ALIASES.get(str(given), str(given))
        if key not in _FIELDS:
            raise InvalidPlan(
                f"Task {n} of the plan has the key {given!r}, which is none of "
                f"{', '.join(sorted(_FIELDS))}.{_nearest(str(given), _FIELDS)}"
            )
        if value is not None:
            values[key] = value
    for key in ("depends_on", "capabilities"):
        if isinstance(values.get(key), str):
            values[key] = [part.strip() for part in values[key].split(",") if part.strip()]
    values.setdefault("id", made_id)
    label = f"Task {n} ({values['id']!r}) of the plan"
    values.setdefault("title", values["id"] if values["id"] != made_id else "")
    try:
        values["priority"] = tasks.check_priority(values.get("priority", 0))
        task = msgspec.convert(values, PlannedTask)
    except InvalidArgument as error:
        raise InvalidPlan(f"{label}: {error}") from error
    except msgspec.ValidationError as error:
        raise InvalidPlan(f"{label}: {error}.") from error
    _check_fields(task, label)
    return task


def _check_fields(task: PlannedTask, label: str) -> None:
    if not task.title.strip():
        raise InvalidPlan(f"{label} has no title.")
    for name in ("title", "description"):
        if len(getattr(task, name)) > TEXT_MAX:
            raise InvalidPlan(f"{label}: its {name} is longer than {TEXT_MAX:,} characters.")
    for name in (task.id, *task.depends_on, *task.capabilities):
        if not NAME.fullmatch(name):
            raise InvalidPlan(
                f"{label}: {name[:80]!r} is not a valid name; use 1 to 128 letters, digits, "
                "'.', '_' or '-'."
            )
    if _RESERVED.fullmatch(task.id):
        raise InvalidPlan(f"{label}: ids like this are the run's own. Use another.")
    if len(task.depends_on) > tasks.DEPENDENCIES_MAX:
        raise InvalidPlan(f"{label} depends on more than {tasks.DEPENDENCIES_MAX:,} tasks.")
    if task.timeout is not None and not 0 < task.timeout <= TIMEOUT_MAX:
        raise InvalidPlan(f"{label}: timeout is {task.timeout}; give seconds above 0.")
    if task.max_retries is not None and not 0 <= task.max_retries <= MAX_RETRIES_MAX:
        raise InvalidPlan(f"{label}: max_retries must be from 0 to {MAX_RETRIES_MAX:,}.")


def _check_worker(task: PlannedTask, members: Mapping[str, Collection[str]]) -> None:
    for field in ("worker", "suggested_worker"):
        name = getattr(task, field)
        if name and name not in members:
            raise InvalidPlan(
                f"Task {task.id!r} of the plan names the worker {name!r}, who is not in the team: "
                f"{', '.join(members) or 'it has none'}.{_nearest(name, members)}"
            )
    wanted = set(task.capabilities)
    able = [name for name, offered in members.items() if wanted <= set(offered)]
    if task.worker and task.worker not in able:
        lacking = ", ".join(sorted(wanted - set(members[task.worker])))
        raise InvalidPlan(
            f"Task {task.id!r} of the plan is for {task.worker!r}, who lacks: {lacking}."
        )
    if not able:
        raise InvalidPlan(
            f"Task {task.id!r} of the plan needs {', '.join(sorted(wanted)) or 'a worker'}, and no "
            "worker of the team has that."
        )


def _check_graph(planned: Iterable[PlannedTask]) -> None:
    graph = {task.id: task.depends_on for task in planned}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib lists a cycle from what is needed to what needs it.
        path = " needs ".join(reversed(error.args[1][:20]))
        raise InvalidPlan(f"Tasks of the plan wait for each other: {path}.") from error


def _fingerprint(planned: Iterable[PlannedTask]) -> str:
    rows = sorted(
        msgspec.json.encode(
            [task.title, task.description, task.worker, task.payload], order="deterministic"
        )
        for task in planned
    )
    return hashlib.sha256(b"\n".join(rows)).hexdigest()[:32] if rows else ""


def _nearest(name: str, among: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(among), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    return {list: "a list", str: "a text", bool: "a boolean", dict: "a mapping"}.get(
        type(value), f"a value of type {type(value).__name__}"
    )
