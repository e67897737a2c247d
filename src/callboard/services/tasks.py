"""The tasks of one board: submitted, read, explained, steered."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from callboard.domain import task as tasks
from callboard.domain.bounds import check_ids, check_text, check_whole
from callboard.domain.graph import GraphNode, TaskGraph
from callboard.domain.names import check_name
from callboard.domain.repeats import operation_id
from callboard.domain.task import Note, Status, Task, TaskSpec, TaskSummary
from callboard.domain.why import Why, explain
from callboard.engine import codec
from callboard.engine.answers import Answer, Answers, answers_of, checked, finish_cascade
from callboard.engine.gathering import Gathering
from callboard.engine.namespace import Namespace
from callboard.exceptions import (
    CallboardError,
    InvalidArgument,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TooLarge,
)

ANSWER_SECONDS: Final = 10.0
"""How long the last holder of a task that asked is preferred once it is answered."""

IN_FLIGHT: Final = 2
"""Submits under way at once: the next is on its way while the engine works on the last."""

BOUNDED_AT_ONCE: Final = 50
"""Tasks in one reply where their bytes are bounded: some 100 MiB of the largest."""

_EXISTED: Final = ord("e")

GRAPH_MAX: Final = 100_000
QUEUED_COUNTED: Final = 2_000
"""Waiting tasks that are counted one by one: some ms of the engine."""
CLEAR_PAGES_MAX: Final = 400_000
"""Enough for two of the largest boards."""
_CURSOR: Final = re.compile(r"[0-9]{1,20}(:[0-9]{1,9}:[A-Za-z0-9._-]{1,128})?")
_LETTERS_OF: Final = {
    status: "".join(letter for letter, other in tasks.LETTERS.items() if other is status)
    for status in Status
}


Notes = list[Note]
Attempts = list[tasks.Attempt]
Nodes = list[GraphNode]


class Page(msgspec.Struct, frozen=True):
    """Some tasks of a listing, and the cursor of the next page; None at the end."""

    tasks: tuple[TaskSummary, ...]
    cursor: str | None


class Lane(msgspec.Struct, frozen=True):
    """Tasks that any agent serves alike, waiting in one line.

    Attributes:
        name: ``kind;agent_type;capabilities;services;labels``.
        waiting: How many.
        next: The ids that will be claimed first.
    """

    name: str
    kind: str
    waiting: int
    next: tuple[str, ...]


Lanes = list[Lane]


class TaskHandle:
    """A submitted task, to wait for or look at.

    Attributes:
        id: The task's id.
        existed: It had been submitted before, with the same body.
    """

    __slots__ = ("_tasks", "existed", "id")

    def __init__(self, service: Tasks, task_id: str, existed: bool) -> None:
        self._tasks = service
        self.id = task_id
        self.existed = existed

    async def result(self, timeout: float | None = None) -> Any:
        """Wait until the task has ended, and return its result.

        Raises:
            TaskFailed, TaskCancelled: It ended otherwise.
            TimeoutError: It has not ended within *timeout* seconds; it goes on.
        """
        return await self._tasks.result(self.id, timeout=timeout)

    async def task(self) -> Task:
        """Read the task as it is now."""
        return await self._tasks.get(self.id)

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id} on {self._tasks.board!r}>"


class Tasks:
    """The tasks of one board, as those who submit, read and steer them see it."""

    def __init__(
        self,
        namespace: Namespace,
        board: str,
        wait_finished: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self.board = check_name("board", board)
        self._wait_finished = wait_finished
        self._single = Gathering(self._submit_single, codec.row_bytes)

    async def submit(self, kind: str, payload: Any = None, **fields: Any) -> TaskHandle:
        """Add one task; *fields* are those of ``TaskSpec``. Idempotent where it has an id.

        Raises:
            IdConflict, UniqueConflict, BoardFull, TooManyLanes, DependencyCycle,
            GraphTooLarge, InvalidArgument, TooLarge: Nothing was added.
            EngineFull: The engine is at its memory limit.
        """
        spec = tasks.spec_of(kind=kind, payload=payload, **fields)
        if spec.depends_on:
            return (await self.submit_many([spec]))[0]
        row = codec.row_of(spec)
        return TaskHandle(self, row[0], await self._single.add(row))

    async def submit_many(
        self, specs: Iterable[TaskSpec], *, created_by: str = ""
    ) -> list[TaskHandle]:
        """Add tasks, in order of dependency; answers a handle each, in the order given.

        All are checked before the first is sent. All or nothing up to 1,000 tasks and 8 MiB;
        more are sent in several calls of that size, and where one is refused, the error's
        ``details["submitted"]`` says how many tasks the others added.
        """
        check_text("created_by", created_by)
        given = list(specs)
        rows: list[codec.Row] = []
        for start in range(0, len(given), tasks.BATCH_MAX):
            rows += [codec.row_of(spec) for spec in given[start : start + tasks.BATCH_MAX]]
            await asyncio.sleep(0)
        if any(spec.depends_on for spec in given):
            # A batch must be there before one that depends on it.
            existed = await self._send(codec.in_order(given, rows), created_by, 1)
        else:
            existed = await self._send(rows, created_by, IN_FLIGHT)
        return [TaskHandle(self, row[0], existed[row[0]]) for row in rows]

    async def _send(
        self, rows: Sequence[codec.Row], created_by: str, in_flight: int
    ) -> dict[str, bool]:
        """Send the rows in order; by id, whether a task was there before."""
        existed: dict[str, bool] = {}
        under_way: list[tuple[list[str], asyncio.Task[list[Any]]]] = []
        try:
            for batch in codec.in_batches(rows, codec.row_bytes):
                call = asyncio.create_task(self._submit(batch, created_by))
                under_way.append(([row[0] for row in batch], call))
                await asyncio.sleep(0)
                if len(under_way) == in_flight:
                    await self._submitted(*under_way.pop(0), existed)
            while under_way:
                await self._submitted(*under_way.pop(0), existed)
        except Exception as error:
            calls = [call for _, call in under_way]
            replies = await asyncio.gather(*calls, return_exceptions=True)
            added = sum(reply[1].count(b"c") for reply in replies if isinstance(reply, list))
            added += sum(not there for there in existed.values())
            if added and isinstance(error, CallboardError):
                error.details = {**error.details, "submitted": added}
            raise
        return existed

    async def _submit(self, batch: Sequence[codec.Row], created_by: str) -> list[Any]:
        spec, values = codec.values_of_rows(batch)
        reply = await self._functions.call(
            "task_submit", self.board, len(batch), created_by, spec, *values
        )
        checked(reply, "ok", board=self.board)
        return reply

    async def _submit_single(self, batch: Sequence[codec.Row]) -> list[bool]:
        """Add tasks that were submitted one by one; of each, whether it was there before."""
        reply = await self._submit(batch, "")
        if reply[2]:
            await finish_cascade(self._functions)
        return [outcome == _EXISTED for outcome in reply[1]]

    async def _submitted(
        self, ids: Sequence[str], call: Awaitable[list[Any]], existed: dict[str, bool]
    ) -> None:
        reply = await call
        for task_id, outcome in zip(ids, reply[1].decode(), strict=True):
            existed[task_id] = outcome == "e"
        if reply[2]:
            await finish_cascade(self._functions)

    def handle(self, task_id: str) -> TaskHandle:
        """A handle on a task submitted elsewhere; whether it exists is not checked."""
        return TaskHandle(self, check_name("task id", task_id), True)

    async def get(self, task_id: str) -> Task:
        """Read one task. Raises TaskNotFound."""
        found = (await self.get_many([task_id]))[0]
        if found is None:
            raise TaskNotFound(
                f"No task {task_id!r} on board {self.board!r}. List them: callboard tasks list "
                f"--board {self.board}",
                task=task_id,
                board=self.board,
            )
        return found

    async def get_many(
        self, task_ids: Sequence[str], *, bytes_max: int | None = None
    ) -> list[Task | None]:
        """Read many tasks, None where there is none, in order; each is read once.

        Args:
            bytes_max: What their payloads, results and the rest of them may take together.

        Raises:
            TooLarge: They take more than *bytes_max*; what was read is let go.
        """
        wanted = check_ids(task_ids)
        times = Counter(wanted)
        ids, found, size = list(times), dict[str, Task | None](), 0
        at_once = tasks.BATCH_MAX if bytes_max is None else BOUNDED_AT_ONCE
        for start in range(0, len(ids), at_once):
            part = ids[start : start + at_once]
            reply = await self._functions.call("task_read", self.board, 1, len(part), *part)
            checked(reply, "ok", board=self.board)
            for i, task_id in enumerate(part):
                values = reply[2 + i * 6 : 8 + i * 6]
                if bytes_max is not None:
                    size += times[task_id] * _size_of(values)
                    if size > bytes_max:
                        raise _too_much(bytes_max)
                found[task_id] = codec.task_of(self.board, task_id, values)
        return [found[task_id] for task_id in wanted]

    async def outcome(self, task_id: str) -> Status:
        """The task's status, also where only id and outcome are kept. Raises TaskNotFound."""
        reply = await self._functions.call(
            "task_read", self.board, 0, 1, check_name("task id", task_id)
        )
        checked(reply, "ok", board=self.board)
        raw: bytes = reply[2]
        if not raw:
            raise TaskNotFound(
                f"No task {task_id!r} on board {self.board!r}.", task=task_id, board=self.board
            )
        return tasks.LETTERS[chr(raw[0])]

    async def list(
        self,
        *,
        status: Status | str | Iterable[Status | str] | None = None,
        kind: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of at most *limit* tasks (1 to 1,000) with this status and kind.

        One of blocked, assigned, input_required, done, failed and cancelled alone is listed
        in the order of time; else in no order, where a task that stays is listed at least once.
        """
        check_whole("limit", limit, 1, tasks.BATCH_MAX)
        letters = _letters(status)
        _check_cursor(cursor)
        kind = kind and check_name("kind", kind)
        found: dict[str, TaskSummary] = {}
        at = cursor or "0"
        while len(found) < limit:
            reply = await self._functions.call(
                "task_list", self.board, letters, kind or "", at, limit - len(found)
            )
            checked(reply, "ok", board=self.board)
            at = reply[1].decode()
            for i in range(2, len(reply), 2):
                summary = codec.summary_of(reply[i], reply[i + 1])
                found[summary.id] = summary
            if at == "0":
                break
        return Page(tuple(found.values()), None if at == "0" else at)

    async def iterate(
        self,
        *,
        status: Status | str | Iterable[Status | str] | None = None,
        kind: str | None = None,
    ) -> AsyncIterator[TaskSummary]:
        """All tasks with this status and kind, page by page; each at most once."""
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            page = await self.list(status=status, kind=kind, limit=tasks.BATCH_MAX, cursor=cursor)
            for summary in page.tasks:
                if summary.id not in seen:
                    seen.add(summary.id)
                    yield summary
            cursor = page.cursor
            if cursor is None:
                return

    async def lanes(self, *, limit: int = 50, per_lane: int = 3) -> Lanes:
        """What waits to be claimed, by kind and requirements: the best lanes first.

        Args:
            limit: 1 to 1,000 lanes.
            per_lane: 0 to 100 ids of each.
        """
        reply = await self._functions.call(
            "task_next",
            self.board,
            check_whole("limit", limit, 1, 1_000),
            check_whole("per_lane", per_lane, 0, 100),
        )
        checked(reply, "ok", board=self.board)
        return [
            Lane(
                name=name.decode(),
                kind=name.decode().partition(";")[0],
                waiting=waiting,
                next=tuple(task_id.decode() for task_id in ids[::2]),
            )
            for name, waiting, ids in reply[1:]
        ]

    async def queues(self) -> tasks.QueueSizes:
        """How many tasks wait to be claimed, by the names of priorities.

        Up to 2,000 are counted one by one; of more, a sample of 2,000 from all lanes is,
        and ``is_estimate`` says so.
        """
        reply = await self._functions.call("task_queues", self.board, QUEUED_COUNTED)
        checked(reply, "ok", board=self.board)
        is_estimate, *sizes = (int(value) for value in reply[1:7])
        urgent, critical, high, normal, low = sizes
        return tasks.QueueSizes(
            urgent=urgent,
            critical=critical,
            high=high,
            normal=normal,
            low=low,
            is_estimate=bool(is_estimate),
        )

    async def clear(self, priority: str, *, reason: str = "cleared", by: str = "") -> int:
        """Cancel the tasks that wait to be claimed with a priority of this name.

        Those that agents have, or that were reserved for one, stay; so do those that wait
        for others, for their time or for a retry. Tasks that are added meanwhile may stay.

        Returns:
            How many were cancelled; they stand under ``cancelled`` and can be put back.

        Raises:
            InvalidArgument: There is no priority of this name.
        """
        low, high = tasks.priorities_of(priority)
        check_text("by", by)
        reason = check_text("reason", reason)[:1_000]
        cleared, cursor = 0, None
        for _ in range(CLEAR_PAGES_MAX):
            page = await self.list(status=Status.PENDING, limit=tasks.BATCH_MAX, cursor=cursor)
            ids = [one.id for one in page.tasks if low <= one.priority <= high]
            if ids:
                reply = await self._functions.call(
                    "task_clear", self.board, by, reason, low, high, len(ids), *ids
                )
                checked(reply, "ok", board=self.board)
                if reply[1]:
                    await finish_cascade(self._functions)
                cleared += sum(one.status == "cancelled" for one in answers_of(ids, reply[2]))
            cursor = page.cursor
            if cursor is None:
                break
        return cleared

    async def result(self, task_id: str, *, timeout: float | None = None) -> Any:
        """Wait until the task has ended, and return its result.

        Raises:
            TaskFailed, TaskCancelled: It ended otherwise.
            TaskNotFound: No such task.
            TimeoutError: It has not ended within *timeout* seconds; it goes on.
        """
        task = await self.wait(task_id, timeout=timeout)
        if task.status is Status.DONE:
            return task.result
        if task.status is Status.FAILED:
            message = (task.error or {}).get("message", "no message was kept")
            raise TaskFailed(f"Task {task_id} failed: {message}", task=task_id, error=task.error)
        raise TaskCancelled(
            f"Task {task_id} was cancelled: {task.reason or 'no reason given'}.", task=task_id
        )

    async def wait(self, task_id: str, *, timeout: float | None = None) -> Task:
        """Wait until the task has ended, however it ended, and read it."""
        check_name("task id", task_id)
        async with asyncio.timeout(timeout):
            await self._wait_finished(self.board, task_id)
        return await self.get(task_id)

    async def cancel(self, task_id: str, *, reason: str = "requested", by: str = "") -> Answer:
        """Cancel a task: ``cancelled`` at once, or ``requested`` of its holder.

        Raises:
            IllegalState: It has ended already.
            TaskNotFound: No such task.
        """
        return (await self.cancel_many([task_id], reason=reason, by=by))[0].check(board=self.board)

    async def cancel_many(
        self, task_ids: Sequence[str], *, reason: str = "requested", by: str = ""
    ) -> Answers:
        """Cancel many tasks; each answers for itself."""
        ids = check_ids(task_ids)
        rows = [value for task_id in ids for value in (task_id, "")]
        reason = check_text("reason", reason)[:1_000]
        return await self._steer("task_cancel", ids, rows, 2, by, reason)

    async def retry(self, task_id: str, *, payload: Any = ..., by: str = "") -> Answer:
        """Put a failed or cancelled task back with fresh budgets, and what ended for its sake.

        Args:
            payload: Replaces the payload, where given.

        Raises:
            IllegalState: It is neither failed nor cancelled.
            TaskNotFound: No such task.
            UniqueConflict: Another unfinished task has its unique key by now.
        """
        body, large = b"", b""
        if payload is not ...:
            body, large = await self._edited(task_id, payload)
        rows = [check_name("task id", task_id), body, large]
        return (await self._steer("task_retry", [task_id], rows, 3, by))[0].check(board=self.board)

    async def retry_many(self, task_ids: Sequence[str], *, by: str = "") -> Answers:
        """Put many back; each answers for itself."""
        ids = check_ids(task_ids)
        rows: list[Any] = [value for task_id in ids for value in (task_id, b"", b"")]
        return await self._steer("task_retry", ids, rows, 3, by)

    async def reprioritise(self, task_id: str, priority: int | str, *, by: str = "") -> Answer:
        """Move an unfinished task to another priority. Raises IllegalState, TaskNotFound."""
        rows = [check_name("task id", task_id), tasks.check_priority(priority)]
        reply = await self._functions.call("task_reprioritise", self.board, by, 1, *rows)
        checked(reply, "ok", board=self.board)
        return answers_of([task_id], reply[1])[0].check(board=self.board)

    async def purge(self, task_ids: Sequence[str], *, by: str = "") -> Answers:
        """Remove finished tasks; their ids and outcomes are kept for a week."""
        answers: Answers = []
        wanted = check_ids(task_ids)
        for start in range(0, len(wanted), tasks.BATCH_MAX):
            ids = wanted[start : start + tasks.BATCH_MAX]
            reply = await self._functions.call("task_purge", self.board, by, len(ids), *ids)
            checked(reply, "ok", board=self.board)
            answers += answers_of(ids, reply[1])
        return answers

    async def note(
        self, task_id: str, content: str, *, author: str = "", request_id: str | None = None
    ) -> None:
        """Append a note of at most 64 KiB. Raises TaskNotFound, TooLarge.

        Args:
            request_id: Makes the call repeatable for ten minutes: the repeat adds nothing.
        """
        if not isinstance(content, str):
            raise InvalidArgument("A note is text.", field="content")
        encoded = codec.encode_json("note", {"author": author, "content": content}, 65_536)
        operation = operation_id(request_id, "note", self.board, task_id, encoded)
        reply = await self._functions.call(
            "task_note", self.board, author, check_name("task id", task_id), operation, encoded
        )
        checked(reply, "ok", "replayed", task=task_id, board=self.board)

    async def notes(self, task_id: str) -> Notes:
        """The task's notes, oldest first."""
        raws = await self._namespace.connection.call(
            "LRANGE", self._namespace.keys.notes(self.board, check_name("task id", task_id)), 0, -1
        )
        return [_note(json.loads(raw)) for raw in raws]

    async def attempts(self, task_id: str) -> Attempts:
        """The attempts that did not succeed, oldest first; the last 100 are kept."""
        raws = await self._namespace.connection.call(
            "LRANGE",
            self._namespace.keys.attempts(self.board, check_name("task id", task_id)),
            0,
            -1,
        )
        return [_attempt(json.loads(raw)) for raw in raws]

    async def answer(self, task_id: str, value: Any, *, by: str = "") -> Answer:
        """Answer a task's question: it may be claimed again, first by its last holder.

        Raises:
            IllegalState: It is not waiting for input.
            TaskNotFound: No such task.
        """
        encoded = codec.encode_json("answer", value, 65_536)
        reply = await self._functions.call(
            "task_answer",
            self.board,
            by,
            check_name("task id", task_id),
            encoded,
            round(ANSWER_SECONDS * 1000),
        )
        return Answer(task_id, checked(reply, "ok", task=task_id, board=self.board))

    async def why(self, task_id: str) -> Why:
        """Say in words and data where the task stands and what for. Raises TaskNotFound."""
        reply = await self._functions.call("task_why", self.board, check_name("task id", task_id))
        checked(reply, "ok", task=task_id, board=self.board)
        return explain(self.board, task_id, reply)

    async def graph(self) -> TaskGraph:
        """The board's graph, read page by page: at most 100,000 tasks.

        Raises:
            InvalidArgument: The board holds more.
        """
        nodes: Nodes = []
        ids = [summary.id async for summary in self.iterate()]
        if len(ids) > GRAPH_MAX:
            raise InvalidArgument(
                f"Board {self.board!r} has {len(ids):,} tasks; a graph has at most {GRAPH_MAX:,}."
            )
        for start in range(0, len(ids), tasks.BATCH_MAX):
            found = await self.get_many(ids[start : start + tasks.BATCH_MAX])
            nodes += (_node(task) for task in found if task is not None)
        return TaskGraph(nodes)

    async def _steer(
        self,
        name: str,
        task_ids: Sequence[str],
        rows: Sequence[Any],
        width: int,
        by: str,
        *before: Any,
    ) -> Answers:
        check_text("by", by)
        answers: Answers = []
        for start in range(0, len(task_ids), tasks.BATCH_MAX):
            ids = task_ids[start : start + tasks.BATCH_MAX]
            values = rows[start * width : (start + len(ids)) * width]
            reply = await self._functions.call(name, self.board, by, *before, len(ids), *values)
            checked(reply, "ok", board=self.board)
            if reply[1]:
                await finish_cascade(self._functions)
            answers += answers_of(ids, reply[2])
        return answers

    async def _edited(self, task_id: str, payload: Any) -> tuple[bytes, bytes]:
        raw = await self._namespace.connection.call(
            "HGET", self._namespace.keys.tasks(self.board), check_name("task id", task_id)
        )
        if raw is None:
            await self.get(task_id)
        encoded = codec.encode_json("payload", payload)
        body = codec.body_of(raw)
        if len(encoded) > tasks.PAYLOAD_INLINE_MAX:
            body.payload = tasks.NULL
            return msgspec.json.encode(body), encoded
        body.payload = tasks.NULL if encoded == b"null" else msgspec.Raw(encoded)
        return msgspec.json.encode(body), b""


def _size_of(values: Sequence[Any]) -> int:
    """The bytes of a task's six values, of which the last is a list."""
    return sum(map(len, values[:5])) + sum(map(len, values[5]))


def _too_much(bytes_max: int) -> TooLarge:
    return TooLarge(
        f"These tasks take more than the {bytes_max:,} bytes that one answer may have. Ask for "
        "fewer at once.",
        field="task_ids",
        limit=bytes_max,
    )


def _check_cursor(cursor: Any) -> None:
    if cursor is not None and not (isinstance(cursor, str) and _CURSOR.fullmatch(cursor)):
        raise InvalidArgument(
            f"{cursor!r} is no cursor of a list. Give the cursor of the page before, or None.",
            field="cursor",
        )


def _letters(status: Status | str | Iterable[Status | str] | None) -> str:
    if status is None:
        return ""
    if not isinstance(status, Iterable):
        raise InvalidArgument(
            f"status must be a status or a list of them, not {type(status).__name__}.",
            field="status",
        )
    wanted = [status] if isinstance(status, str) else list(status)
    letters = ""
    for word in wanted:
        try:
            letters += _LETTERS_OF[Status(word)]
        except ValueError:
            raise InvalidArgument(
                f"Status {word!r} is none of {', '.join(Status)}.", field="status"
            ) from None
    return letters


def _note(data: dict[str, Any]) -> Note:
    return Note(data["author"], data["content"], tasks.at_ms(data["at"]))


def _attempt(data: dict[str, Any]) -> tasks.Attempt:
    for name in ("claimed_at", "ended_at"):
        data[name] = tasks.at_ms(data[name])
    return tasks.Attempt(**data)


def _node(task: Task) -> GraphNode:
    return GraphNode(
        id=task.id,
        status=task.status.value,
        depends_on=task.depends_on,
        duration=task.duration,
        kind=task.kind,
        title=task.title,
        on_dependency_failure=task.on_dependency_failure,
    )
