"""Running one handler on one payload, with no board and no engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from callboard.app import BoardTasks
from callboard.domain.record import Claimed
from callboard.domain.task import DependencyPolicy, Task, TaskSpec
from callboard.engine import codec
from callboard.exceptions import ConfigError, InvalidArgument
from callboard.sdk.context import EndOfClaim, TaskContext
from callboard.sdk.testing.drain import result_of
from callboard.sdk.worker import Worker
from callboard.services.tasks import TaskHandle


class HandlerRun(msgspec.Struct, kw_only=True):
    """What a handler did.

    Attributes:
        result: What it returned, as it reads once it was JSON.
        ended_by: ``return``, or what ended the claim: ``split``, ``input``, ``handoff``,
            ``release``.
        progress: Each value it said, in order.
        partials: Each partial result it kept.
        notes: Each note it wrote.
        said: Each piece of its answer that it told.
        tools: Each tool that it said it used.
        children: What it split into.
        question: What it asked.
        to: Whom it handed the task to.
        delay: Seconds after which it wanted the task released.
    """

    result: Any = None
    ended_by: str = "return"
    progress: list[Any] = []
    partials: list[Any] = []
    notes: list[str] = []
    said: list[str] = []
    tools: list[str] = []
    children: list[TaskSpec] = []
    question: Any = None
    to: str | None = None
    delay: float | None = None


async def run_handler(
    worker: Worker | Callable[..., Any],
    kind: str,
    payload: Any = None,
    *,
    attempt: int = 1,
    task_id: str = "t-1",
    answers: Sequence[Any] = (),
    children: Sequence[Sequence[Task]] = (),
    results: Mapping[str, Any] | None = None,
    earlier_partial: Any = None,
) -> HandlerRun:
    """Run the handler of *kind* on *payload*, with no board behind it.

    The payload is written as JSON and decoded to the annotated type, as in a worker; what
    the handler raises is raised here. Its context answers from the arguments.

    Args:
        worker: A worker with the handler, or the function alone.
        answers: Of its ``ctx.input`` calls, in order; one more ends the run.
        children: Of its ``ctx.split`` calls, in order; one more ends the run.
        results: By task id, for ``ctx.wait`` and ``ctx.dependency_results``.
        earlier_partial: What an earlier attempt kept.

    Raises:
        ConfigError: The worker has no handler of this kind.
        Fatal: The payload does not fit the annotated type.
        InvalidArgument: The result has no JSON form, or the handler used ``ctx.tasks``.
    """
    if not isinstance(worker, Worker):
        function, worker = worker, Worker(agent="testing")
        worker.handles(kind)(function)
    handler = worker.handlers.get(kind)
    if handler is None:
        raise ConfigError(f"{worker!r} has no handler for kind {kind!r}.")
    body = b'{"kind":"%b","payload":%b}' % (kind.encode(), codec.encode_json("payload", payload))
    record = f"c|{attempt}|1|{worker.agent}/testing||0|||{kind};;;;|0|{attempt - 1}|0||||0"
    claimed = Claimed(worker.board, task_id.encode(), 0, record.encode(), body, b"")
    run = HandlerRun()
    context = _Loose(claimed, run, answers, children, results or {}, earlier_partial)
    try:
        run.result = await result_of(handler, claimed, context)
    except EndOfClaim:
        return run
    run.result = msgspec.json.decode(codec.encode_json("result", run.result))
    return run


class _NoBoard:
    """Stands where a context has its board's tasks."""

    def __getattr__(self, name: str) -> Any:
        raise InvalidArgument(
            f"run_handler has no board, so ctx.tasks.{name} cannot be used. Drain a throw-away "
            "board instead: async with testing.board() as board."
        )


class _Loose(TaskContext):
    """A context with nothing behind it: it notes what it is told, and answers what it was given."""

    def __init__(
        self,
        task: Claimed,
        run: HandlerRun,
        answers: Sequence[Any],
        children: Sequence[Sequence[Task]],
        results: Mapping[str, Any],
        partial: Any,
    ) -> None:
        self.tasks: Any = _NoBoard()
        self.task = task
        self.is_cancelled = False
        self.cancel_reason = None
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._given_answers = list(answers)
        self._given_children = [list(batch) for batch in children]
        self._results = results
        self._partial = partial

    async def heartbeat(self) -> None:
        return None

    async def progress(self, value: Any) -> None:
        self._run.progress.append(_plain("progress", value))

    async def partial(self, value: Any) -> None:
        self._run.partials.append(_plain("partial result", value))

    async def earlier_partial(self) -> Any:
        return self._partial

    async def note(self, content: str) -> None:
        self._run.notes.append(content)

    async def say(self, text: str) -> None:
        self._run.said.append(text)

    async def used_tool(self, name: str) -> None:
        self._run.tools.append(name)

    async def dependency_results(self) -> dict[str, Any]:
        return dict(self._results)

    async def split(
        self, children: Iterable[TaskSpec], *, on_failure: DependencyPolicy = "run"
    ) -> list[Task]:
        if self._given_children:
            return self._given_children.pop(0)
        self._run.children = list(children)
        self._end("split")

    async def input(self, question: Any) -> Any:
        if self._given_answers:
            return self._given_answers.pop(0)
        self._run.question = _plain("question", question)
        self._end("input")

    async def wait(
        self,
        task: TaskHandle | str,
        timeout: float | None = None,
        *,
        tasks: BoardTasks | None = None,
    ) -> Any:
        task_id = task if isinstance(task, str) else task.id
        if task_id not in self._results:
            raise InvalidArgument(f"run_handler was given no result of task {task_id!r}.")
        return self._results[task_id]

    async def handoff(self, to: str) -> None:
        self._run.to = to
        self._end("handoff")

    async def release(self, delay: float = 0.0) -> None:
        self._run.delay = delay
        self._end("release")

    def run(self, awaitable: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result(timeout)

    def _end(self, how: str) -> NoReturn:
        self._run.ended_by = how
        raise EndOfClaim


def _plain(what: str, value: Any) -> Any:
    return msgspec.json.decode(codec.encode_json(what, value))
