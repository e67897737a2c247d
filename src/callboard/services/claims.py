"""What an agent does with tasks: claim, renew, finish, give back, split, ask."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from callboard.domain import task as tasks
from callboard.domain.bounds import check_claim, check_claims, check_ids, check_text, check_whole
from callboard.domain.names import check_name
from callboard.domain.record import Claimed
from callboard.domain.repeats import operation_id
from callboard.domain.retry import Failure
from callboard.engine import codec
from callboard.engine.answers import Answer, answers_of, checked, finish_cascade
from callboard.engine.handed_in import (
    Completion,
    FailedAttempt,
    checked_completion,
    completion_rows,
    failure_of,
    failure_row,
    fitting,
)
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import InvalidArgument, NotPermitted, OutcomeUnknown, TooLarge

T = TypeVar("T")

HANDOFF_SECONDS = 30.0
TOLD_BYTES_MAX: Final = 16_384

Told = Literal["token", "tool", "log"]


class Claims(msgspec.Struct, frozen=True):
    """What a claim brought.

    Attributes:
        tasks: Granted, best first.
        status: ``ok``, ``empty``, ``agent_full``, ``replayed`` (an earlier call with the
            same request id had run), or why nothing could be claimed: ``paused``,
            ``breaker_open``, ``agent_draining``, ``agent_not_found``.
        lost: Fences that the earlier call had granted and that are not held any more.
        again: Seconds until a rate that held tasks back lets one through: ask again then.
    """

    tasks: tuple[Claimed, ...]
    status: str
    lost: tuple[int, ...] = ()
    again: float | None = None


class Step(msgspec.Struct, frozen=True):
    """What ``complete_and_claim`` brought: an answer a result, one a start, and the claims."""

    completed: tuple[Answer, ...]
    begun: tuple[Answer, ...]
    claims: Claims


class Holding:
    """The operations of an agent on the tasks of one board. Each is one function call."""

    def __init__(self, namespace: Namespace, board: str) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self.board = board

    async def claim(
        self,
        agent: str,
        *,
        instance: str = "",
        limit: int = 1,
        started: int | None = None,
        lease: float = tasks.LEASE_DEFAULT,
        wait: float = 0.0,
        request_id: str | None = None,
    ) -> Claims:
        """Give the agent up to *limit* tasks that it can serve, best first.

        Its own reservations come first, then the lanes in order of score, then half of what
        the most loaded agents have not started. The reply stops at 4 MiB.

        Args:
            agent: A registered agent.
            instance: The process that will run them; "" for none.
            limit: 1 to 1,000.
            started: How many of them begin at once, 0 to 1,000; the others count as claimed
                ahead, whose loss before ``start`` is no crash. All of them where not given.
            lease: Seconds, 0.1 to 3,600; a task's own lease goes before.
            wait: Register as waiting for this many seconds where fewer than *limit* were
                there: work that becomes ready is reserved, and the instance's bell rung.
            request_id: Makes the call repeatable for ten minutes: the repeat answers the same
                tasks as far as they are still held, and lists the others as lost.

        Raises:
            AgentNotFound, AgentDraining, AgentFull, BoardPaused, CircuitOpen: Nothing can be
                claimed now.
            IdConflict: The request id was used by another agent, instance or board.
            InvalidArgument: An argument is out of its bounds.
        """
        reply = await self._functions.call(
            "task_claim",
            self.board,
            check_name("agent", agent),
            _name_or_none("instance", instance),
            _request(request_id),
            check_whole("limit", limit, 1, tasks.BATCH_MAX),
            limit if started is None else check_whole("started", started, 0, tasks.BATCH_MAX),
            tasks.check_seconds("wait", wait, 0, 3_600),
            tasks.check_seconds("lease", lease, tasks.LEASE_MIN, tasks.LEASE_MAX),
        )
        checked(reply, "ok", "empty", "replayed", agent=agent, board=self.board)
        return self._claims(reply)

    async def take(
        self,
        task_id: str,
        agent: str,
        *,
        instance: str = "",
        lease: float = tasks.LEASE_DEFAULT,
        request_id: str | None = None,
    ) -> Claimed:
        """Claim one named task.

        Args:
            request_id: Makes the call repeatable for ten minutes: the repeat answers the same
                claim.

        Raises:
            TaskNotFound, NotReady, Held, DoesNotFit, IllegalState, AgentFull, AgentNotFound,
            AgentDraining, BoardPaused, CircuitOpen, AtLimit: Exactly why it cannot be had.
            LeaseLost: A repeat, and what the first call claimed is not held any more.
            IdConflict: The request id was used by another agent, instance or board.
        """
        reply = await self._functions.call(
            "task_take",
            self.board,
            check_name("agent", agent),
            _name_or_none("instance", instance),
            operation_id(request_id, "take", task_id),
            check_name("task id", task_id),
            tasks.check_seconds("lease", lease, tasks.LEASE_MIN, tasks.LEASE_MAX),
        )
        checked(reply, "ok", "replayed", task=task_id, agent=agent, board=self.board)
        claims = self._claims(reply)
        if claims.lost:
            raise_refusal("lease_lost", task=task_id, fence=claims.lost[0], board=self.board)
        return claims.tasks[0]

    async def accept(
        self,
        task_ids: Sequence[str],
        agent: str,
        instance: str,
        *,
        lease: float = tasks.LEASE_DEFAULT,
        wants: int = 0,
        wait: float = 0.0,
    ) -> Claims:
        """Take up reservations that a bell named, at half the cost of a claim.

        What went elsewhere meanwhile is left out. *wants* more tasks are waited for, for
        *wait* seconds. Where the outcome is unknown it is asked for once more.

        Raises:
            BoardPaused: The reservations stand until the board is resumed, or they lapse.
            InvalidArgument: An argument is out of its bounds, which are those of ``claim``.
        """
        who = (
            self.board,
            check_name("agent", agent),
            _name_or_none("instance", instance),
            tasks.check_seconds("lease", lease, tasks.LEASE_MIN, tasks.LEASE_MAX),
            check_whole("wants", wants, 0, tasks.BATCH_MAX),
            tasks.check_seconds("wait", wait, 0, 3_600),
        )
        ids = check_ids(task_ids)
        check_whole("the number of task_ids", len(ids), 0, tasks.BATCH_MAX)
        try:
            reply = await self._functions.call("task_accept", *who, 0, len(ids), *ids)
        except OutcomeUnknown:
            reply = await self._functions.call("task_accept", *who, 1, len(ids), *ids)
        checked(reply, "ok", "empty", agent=agent, board=self.board)
        return self._claims(reply)

    async def complete(self, task_id: str, *, fence: int, result: Any = None) -> Answer:
        """Accept a result, once: the same fence again answers ``replayed``.

        Raises:
            LeaseLost: The fence is stale; the result was not taken.
            TaskNotFound: No such task.
            TooLarge: The result is over 1 MiB.
        """
        answers = await self.complete_many([Completion(task_id, fence, result)])
        return answers[0].check(board=self.board)

    async def complete_many(self, results: Iterable[Completion]) -> list[Answer]:
        """Hand in many results; each answers for itself, and a refused one stops nothing."""
        answers: list[Answer] = []
        encoded = [checked_completion(item) for item in results]
        while encoded:
            count = fitting(encoded)
            batch, encoded = encoded[:count], encoded[count:]
            rows = completion_rows(batch)
            reply = await self._functions.call("task_complete", self.board, "", len(batch), *rows)
            answers += await self._answered([item.id for item in batch], reply)
        return answers

    async def fail(
        self,
        task_id: str,
        *,
        fence: int,
        error: Failure | BaseException | str,
        retryable: bool | None = None,
        delay: float | None = None,
    ) -> Answer:
        """Record a failed attempt: ``retry_scheduled``, or ``failed`` as a dead letter.

        Args:
            error: The failure, an exception, or a message.
            retryable: Overrides what the error says of itself; true where it says nothing.
            delay: Seconds until the retry, instead of the task's policy.

        Raises:
            LeaseLost: The fence is stale; nothing was recorded.
            TaskNotFound: No such task.
        """
        failure = failure_of(error, retryable)
        item = FailedAttempt(task_id, fence, failure, failure.delay if delay is None else delay)
        return (await self.fail_many([item]))[0].check(board=self.board)

    async def fail_many(self, failures: Iterable[FailedAttempt]) -> list[Answer]:
        """Record many failed attempts; each answers for itself."""
        answers: list[Answer] = []
        rules = self._namespace.error_rules
        rows = [failure_row(item, rules) for item in failures]
        for batch in codec.in_batches(rows, lambda row: len(row[2]) + 2 * len(row[7]) + 400):
            values = [value for row in batch for value in row]
            reply = await self._functions.call("task_fail", self.board, "", len(batch), *values)
            answers += await self._answered([row[0] for row in batch], reply)
        return answers

    async def complete_and_claim(
        self,
        agent: str,
        instance: str,
        *,
        results: Sequence[Completion] = (),
        begun: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        started: int = 0,
        lease: float = tasks.LEASE_DEFAULT,
        wait: float = 0.0,
        request_id: str | None = None,
    ) -> Step:
        """A worker's one round trip: hand in results, say what began, claim the next.

        Both halves always run and answer separately. One request id covers both: results are
        known again by their fences, claims by the id. The arguments are those of ``claim``,
        but that a *limit* of 0 claims nothing.

        Raises:
            InvalidArgument: An argument is out of its bounds; nothing was handed in.
        """
        if len(results) + len(begun) > tasks.BATCH_MAX:
            raise TooLarge(
                f"At most {tasks.BATCH_MAX:,} results and starts in one call.", field="results"
            )
        rows = completion_rows([checked_completion(item) for item in results])
        for claim in check_claims(begun):
            rows += claim
        reply = await self._functions.call(
            "task_complete_and_claim",
            self.board,
            check_name("agent", agent),
            _name_or_none("instance", instance),
            _request(request_id),
            check_whole("limit", limit, 0, tasks.BATCH_MAX),
            check_whole("started", started, 0, tasks.BATCH_MAX),
            tasks.check_seconds("wait", wait, 0, 3_600),
            tasks.check_seconds("lease", lease, tasks.LEASE_MIN, tasks.LEASE_MAX),
            len(results),
            len(begun),
            *rows,
        )
        checked(reply, "ok", agent=agent, board=self.board)
        if reply[1]:
            await finish_cascade(self._functions)
        return Step(
            tuple(answers_of([item.id for item in results], reply[2])),
            tuple(answers_of([task_id for task_id, _ in begun], reply[3])),
            self._claims(reply[4]),
        )

    async def start(self, task_id: str, *, fence: int) -> Answer:
        """Say that the task began: ``in_progress``. Raises LeaseLost, TaskNotFound."""
        return (await self.start_many([(task_id, fence)]))[0].check(board=self.board)

    async def start_many(self, claims: Sequence[tuple[str, int]]) -> list[Answer]:
        """Say that these began; each answers for itself."""
        return await self._each("task_start", "", claims)

    async def renew(
        self,
        task_id: str,
        *,
        fence: int,
        lease: float = tasks.LEASE_DEFAULT,
        agent: str = "",
        instance: str = "",
    ) -> Answer:
        """Push a claim's deadline forward; ``cancel`` says that its cancellation was asked for.

        Raises:
            LeaseLost: The task was given to someone else, or back. Stop work.
            TaskNotFound: No such task.
        """
        answers = await self.renew_many(
            [(task_id, fence)], lease=lease, agent=agent, instance=instance
        )
        return answers[0].check(board=self.board)

    async def renew_many(
        self,
        claims: Sequence[tuple[str, int]],
        *,
        lease: float = tasks.LEASE_DEFAULT,
        agent: str = "",
        instance: str = "",
    ) -> list[Answer]:
        """Renew many: each answers ``ok``, ``cancel``, ``lease_lost`` or ``task_not_found``."""
        lease_ms = tasks.check_seconds("lease", lease, tasks.LEASE_MIN, tasks.LEASE_MAX)
        agent, instance = _name_or_none("agent", agent), _name_or_none("instance", instance)
        answers: list[Answer] = []
        for batch in _batches(check_claims(claims)):
            flat = [part for claim in batch for part in claim]
            reply = await self._functions.call(
                "task_renew", self.board, agent, instance, lease_ms, len(batch), *flat
            )
            checked(reply, "ok", board=self.board)
            answers += answers_of([task_id for task_id, _ in batch], reply[2])
        return answers

    async def release(self, task_id: str, *, fence: int, delay: float = 0.0) -> Answer:
        """Give a claim back unharmed, at once or after *delay* seconds. Raises LeaseLost."""
        answers = await self.release_many([(task_id, fence)], delay=delay)
        return answers[0].check(board=self.board)

    async def release_many(
        self, claims: Sequence[tuple[str, int]], *, delay: float = 0.0
    ) -> list[Answer]:
        """Give many claims back; no failure or crash is counted.

        What was pushed to its agent comes to others first, and waits where it is often given
        back: from the ninth time on a second, doubled each time up to 30.
        """
        delay_ms = tasks.check_seconds("delay", delay, 0, 31_536_000)
        answers: list[Answer] = []
        for batch in _batches(check_claims(claims)):
            flat = [part for task_id, fence in batch for part in (task_id, fence, delay_ms)]
            reply = await self._functions.call("task_release", self.board, "", len(batch), *flat)
            answers += await self._answered([task_id for task_id, _ in batch], reply)
        return answers

    async def handoff(
        self, task_id: str, *, fence: int, to: str, take_up: float = HANDOFF_SECONDS
    ) -> Answer:
        """Give a claim to agent *to*, which has *take_up* seconds to take it up.

        Raises:
            LeaseLost, TaskNotFound, AgentNotFound, AgentDraining, DoesNotFit: Nothing changed.
        """
        check_claim(task_id, fence)
        reply = await self._functions.call(
            "task_handoff",
            self.board,
            "",
            task_id,
            fence,
            check_name("agent", to),
            tasks.check_seconds("take_up", take_up, 0.1, 86_400),
        )
        return Answer(
            task_id, checked(reply, "ok", "replayed", task=task_id, agent=to, board=self.board)
        )

    async def progress(self, task_id: str, *, fence: int, value: Any) -> Answer:
        """Keep the holder's progress (any JSON up to 64 KiB); the last one wins."""
        return await self._keep(
            task_id, fence, "progress", codec.encode_json("progress", value, 65_536)
        )

    async def partial(self, task_id: str, *, fence: int, value: Any) -> Answer:
        """Keep a partial result (any JSON up to 1 MiB), which the next attempt can read."""
        return await self._keep(
            task_id, fence, "partial", codec.encode_json("partial result", value)
        )

    async def tell(self, task_id: str, *, fence: int, what: Told, value: Any) -> Answer:
        """Tell whoever follows the board what the holder says as it works, with an event.

        Args:
            what: ``token`` (a piece of its answer), ``tool`` (what it uses), or ``log``.
            value: Any JSON up to 16 KiB. It is kept as long as the event is.

        Raises:
            LeaseLost, TaskNotFound: Nothing was told.
            OutcomeUnknown: The reply was lost; telling it again may tell it twice.
        """
        check_claim(task_id, fence)
        if what not in get_args(Told):
            raise InvalidArgument(f"what is {what!r}; use token, tool or log.", field="what")
        # Verbatim JSON may be laid out in lines, which a fact is not.
        encoded = codec.encode_json("value", value, TOLD_BYTES_MAX).replace(b"\n", b" ")
        reply = await self._functions.call(
            "task_tell", self.board, "", task_id, fence, what, encoded
        )
        return Answer(task_id, checked(reply, "ok", "cancel", task=task_id, board=self.board))

    async def split(
        self,
        task_id: str,
        children: Iterable[tasks.TaskSpec],
        *,
        fence: int,
        on_failure: tasks.DependencyPolicy = "run",
    ) -> list[str]:
        """End the claim with children; the task may be claimed again when all have ended.

        Args:
            children: 1 to 1,000 tasks of at most 8 MiB in all, all or none.
            on_failure: What a failed child does to the task: ``run`` (it resumes and sees the
                outcomes), ``fail``, or ``skip``.

        Returns:
            The children's ids, in order.

        Raises:
            LeaseLost, IdConflict, UniqueConflict, BoardFull, DependencyCycle, InvalidArgument,
            TooLarge: Nothing changed.
        """
        check_claim(task_id, fence)
        policy = codec.check_policy("on_failure", on_failure)
        given = list(children)
        if not 1 <= len(given) <= tasks.BATCH_MAX:
            raise InvalidArgument(
                f"A task splits into 1 to {tasks.BATCH_MAX:,} children, not {len(given):,}.",
                field="children",
            )
        rows = [codec.row_of(child, parent=task_id) for child in given]
        if sum(map(codec.row_bytes, rows)) > tasks.BATCH_BYTES_MAX:
            raise TooLarge(
                f"The children of task {task_id} take more than {tasks.BATCH_BYTES_MAX:,} bytes. "
                "Split it into fewer, or pass references in their payloads.",
                field="children",
            )
        reply = await self._functions.call(
            "task_split",
            self.board,
            "",
            task_id,
            fence,
            tasks.POLICY_FLAGS[policy],
            len(rows),
            *(value for row in codec.in_order(given, rows) for value in row),
        )
        if checked(reply, "ok", "replayed", task=task_id, board=self.board) == "ok" and reply[2]:
            await finish_cascade(self._functions)
        return [row[0] for row in rows]

    async def ask(self, task_id: str, *, fence: int, question: Any) -> Answer:
        """End the claim with a question (any JSON up to 64 KiB): ``input_required``."""
        check_claim(task_id, fence)
        encoded = codec.encode_json("question", question, 65_536)
        reply = await self._functions.call("task_ask", self.board, "", task_id, fence, encoded)
        return Answer(
            task_id, checked(reply, "ok", "replayed", "cancelled", task=task_id, board=self.board)
        )

    async def confirm_cancel(
        self, task_id: str, *, fence: int, reason: str = "requested"
    ) -> Answer:
        """The holder stopped as it was asked to: the task ends cancelled.

        It keeps the reason of who asked for it; *reason* is kept where nobody had.

        Raises:
            LeaseLost: The task was given to someone else, or back.
        """
        check_claim(task_id, fence)
        reason = check_text("reason", reason)[:1_000]
        reply = await self._functions.call("task_cancel", self.board, "", reason, 1, task_id, fence)
        return (await self._answered([task_id], reply))[0].check(board=self.board)

    async def park(
        self,
        task_id: str,
        *,
        fence: int,
        waits_for: str = "",
        on_board: str = "",
        bell: str = "",
    ) -> Answer:
        """Free the claim's slot while its holder waits; lease and fence stay.

        Args:
            waits_for: The task that it waits for: the wait is then seen where locks look for
                deadlocks.
            on_board: That task's board, if it is another.
            bell: What wakes the caller should its wait be ended as a deadlock's victim.

        Raises:
            DeadlockVictim: Waiting would close a cycle; it is not parked.
        """
        if waits_for:
            check_name("task id", waits_for)
        board = check_name("board", on_board) if on_board else self.board
        return await self._park(task_id, fence, 1, board, waits_for, bell)

    async def unpark(self, task_id: str, *, fence: int) -> Answer:
        """Take the slot again; never refused while the fence is current."""
        return await self._park(task_id, fence, 0)

    async def _park(
        self,
        task_id: str,
        fence: int,
        parked: int,
        for_board: str = "",
        for_task: str = "",
        bell: str = "",
    ) -> Answer:
        check_claim(task_id, fence)
        reply = await self._functions.call(
            "task_park", self.board, "", task_id, fence, parked, for_board, for_task, bell
        )
        return Answer(task_id, checked(reply, "ok", task=task_id, board=self.board))

    async def _check_holder(self, agent: str, claims: Sequence[tuple[str, int]]) -> None:
        """Raise NotPermitted where one of these claims is another agent's, or not given yet.

        Whose a claim is never changes, as no fence is given twice: what is true of it here is
        true when it is used. Stale claims and unknown tasks pass; what they are used for says so.
        """
        for batch in _batches(check_claims(claims)):
            ids = [task_id for task_id, _ in batch]
            reply = await self._functions.call("task_read", self.board, 0, len(ids), *ids)
            checked(reply, "ok", board=self.board)
            for (task_id, fence), raw in zip(batch, reply[2::6], strict=True):
                record = codec.record_of(raw)
                if record is None or fence < record.fence:
                    continue
                is_held = record.status.is_held and record.agent != agent
                if is_held or fence > record.fence:
                    raise NotPermitted(
                        f"Fence {fence} of task {task_id} is of no claim of agent {agent!r}, "
                        "and the key that was shown is for that agent alone.",
                        agent=agent,
                        task=task_id,
                    )

    async def _keep(self, task_id: str, fence: int, field: str, encoded: bytes) -> Answer:
        check_claim(task_id, fence)
        reply = await self._functions.call(
            "task_progress", self.board, "", task_id, fence, field, encoded
        )
        return Answer(task_id, checked(reply, "ok", "cancel", task=task_id, board=self.board))

    async def _each(self, name: str, by: str, claims: Sequence[tuple[str, int]]) -> list[Answer]:
        answers: list[Answer] = []
        for batch in _batches(check_claims(claims)):
            flat = [part for claim in batch for part in claim]
            reply = await self._functions.call(name, self.board, by, len(batch), *flat)
            checked(reply, "ok", board=self.board)
            answers += answers_of([task_id for task_id, _ in batch], reply[1])
        return answers

    async def _answered(self, ids: Sequence[str], reply: list[Any]) -> list[Answer]:
        checked(reply, "ok", board=self.board)
        if reply[1]:
            await finish_cascade(self._functions)
        return answers_of(ids, reply[2])

    def _claims(self, reply: Sequence[Any]) -> Claims:
        status = reply[0].decode()
        if status not in ("ok", "empty", "agent_full", "replayed"):
            return Claims((), status)
        claimed = tuple(codec.claimed_of(self.board, reply[2:]))
        if status == "replayed":
            return Claims(claimed, status, tuple(int(f) for f in reply[1].split(b",") if f))
        return Claims(claimed, status, (), int(reply[1]) / 1_000 if reply[1] else None)


def _request(request_id: str | None) -> str:
    return secrets.token_hex(8) if request_id is None else check_name("request id", request_id)


def _name_or_none(what: str, name: str) -> str:
    return name if name == "" else check_name(what, name)


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(items), tasks.BATCH_MAX):
        yield items[start : start + tasks.BATCH_MAX]
