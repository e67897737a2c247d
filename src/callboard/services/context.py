"""Contexts that agents share: read and written whole, watched, compared and swapped."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final

import msgspec

from callboard.domain import context as contexts
from callboard.domain.bounds import check_text, check_whole
from callboard.domain.context import Activity, Change, Context, ContextSummary, Doing, Written
from callboard.domain.event import Event, Gap
from callboard.domain.lock import Lock
from callboard.domain.names import check_name
from callboard.domain.repeats import in_order, operation_id
from callboard.domain.task import BATCH_MAX, at_ms, check_seconds
from callboard.engine.answers import checked
from callboard.engine.context_codec import Row, context_of, rows_of, summary_of
from callboard.engine.namespace import Namespace
from callboard.engine.outage import Witness
from callboard.engine.replies import raise_refusal
from callboard.exceptions import EngineError, InvalidArgument, TooLarge

SWEEP_LIMIT: Final = 200
RETRY_SECONDS: Final = 0.2
"""Between two attempts of a watcher to reach an engine that is away."""

Follow = Callable[..., AsyncIterator[Event | Gap]]
Cursor = Callable[[], Awaitable[str]]
Summaries = list[ContextSummary]
Activities = list[Activity]
Found = list[Context | None]
Names = list[str]
Replies = list[Sequence[Any]]

_log = logging.getLogger("callboard")


class Contexts:
    """The contexts of a namespace, and what its agents say they are doing.

    Each write is one step: no reader ever sees half of it.
    """

    def __init__(self, namespace: Namespace, follow: Follow, cursor: Cursor) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._follow = follow
        self._cursor = cursor

    async def set(
        self,
        project: str,
        fields: Mapping[str, Any] | None = None,
        *,
        remove: Iterable[str] = (),
        increment: Mapping[str, int | float] | None = None,
        replace: bool = False,
        if_rev: int | None = None,
        ttl: float | None = ...,  # type: ignore[assignment]
        sliding: bool = False,
        lock: Lock | None = None,
        by: str = "",
        request_id: str | None = None,
    ) -> Written:
        """Write, remove and increment fields in one step: all of it, or nothing.

        Args:
            fields: Names to values of up to 256 KiB: text, numbers, truth values, None, or
                whatever has a JSON form. At most 1,000 fields and 4 MiB a context.
            remove: Names of fields; those that are not there are passed over.
            increment: Names to what is added; a field that is not there counts as 0.
            replace: Remove all fields that are not named.
            if_rev: Only if the context is at this revision; 0: only if it is not there.
            ttl: Seconds from now that the whole context is kept for, up to a year; None for
                ever. Left out, that stays as it is.
            sliding: Each later write begins the *ttl* anew; needs one.
            lock: Only while this lock is held, all of it: its fences are compared in the same
                step, so that who lost it writes nothing.
            request_id: Makes the call repeatable for ten minutes: the repeat writes nothing,
                and answers what the first one did.

        Raises:
            RevisionConflict: It is at another revision; nothing was changed.
            LockLost: The lock is held no more; nothing was changed.
            NotANumber: A field to increment holds none; nothing was changed.
            ContextNotFound: There is nothing to write, and no such context.
            InvalidArgument, TooLarge: Nothing was changed.
        """
        kept: Any = ttl
        if sliding and kept in (..., None):
            raise InvalidArgument("sliding needs a ttl: seconds that begin anew.", field="sliding")
        rows = sorted(rows_of({} if fields is None else fields, remove, increment or {}), key=_name)
        if not rows and not replace and kept is ...:
            raise InvalidArgument("Give fields to write, remove or increment.", field="fields")
        how = (_rev(if_rev), int(replace), _ttl(kept), int(sliding), _presented(lock))
        reply = await self._functions.call(
            "context_save",
            check_name("project", project),
            check_text("by", by),
            operation_id(request_id, "set", project, by, *how, _said(request_id, rows)),
            *how,
            len(rows),
            *(value for row in rows for value in row),
        )
        status = reply[0].decode()
        if status == "lock_lost" and lock is not None:
            name = reply[1].decode()
            raise_refusal(status, owner=lock.owner, resource=name, fence=lock.fences[name])
        checked(reply, "ok", "replayed", project=project)
        rev, at, sums = reply[1:4]
        texts = sums.decode().split(",") if sums else []
        return Written(
            project=project,
            rev=int(rev),
            at=at_ms(int(at)),
            sums={
                name: contexts.read_value("f" if "." in text or "e" in text else "i", text)
                for name, text in zip(sorted(increment or ()), texts, strict=True)
            },
        )

    async def increment(
        self,
        project: str,
        field: str,
        amount: float = 1,
        *,
        by: str = "",
        request_id: str | None = None,
    ) -> int | float:
        """Add to one field, 0 where it is not there yet, and return the sum.

        Args:
            request_id: Makes the call repeatable for ten minutes: the repeat adds nothing.

        Raises:
            NotANumber: It holds no number; nothing was changed.
        """
        written = await self.set(project, increment={field: amount}, by=by, request_id=request_id)
        return written.sums[field]

    async def get(self, project: str, fields: Sequence[str] = ()) -> Context:
        """A context with all its fields, or only those named, as it stands at one moment.

        Raises:
            ContextNotFound: There is none, or its time is over.
        """
        values = (await self._replies([check_name("project", project)], fields))[0]
        found = context_of(project, values)
        if found is None:
            raise_refusal("context_not_found", project=project)
        return found

    async def get_many(
        self,
        projects: Sequence[str],
        fields: Sequence[str] = (),
        *,
        bytes_max: int | None = None,
    ) -> Found:
        """Many contexts in the order asked for, None where there is none; each is read once.

        Those of one reply, 8 MiB of values, are as they stand at one moment.

        Args:
            bytes_max: What they may take together.

        Raises:
            TooLarge: They take more than *bytes_max*; what was read is let go.
        """
        if isinstance(projects, str | bytes) or not isinstance(projects, Iterable):
            raise InvalidArgument("projects must be a list of names.", field="projects")
        wanted = [check_name("project", name) for name in projects]
        times = Counter(wanted)
        left, found, size = list(times), dict[str, Context | None](), 0
        while left:
            part = await self._replies(left[:BATCH_MAX], fields)
            for name, values in zip(left, part, strict=False):
                size += times[name] * sum(map(len, values[4:]))
                if bytes_max is not None and size > bytes_max:
                    raise TooLarge(
                        f"These contexts take more than the {bytes_max:,} bytes that one answer "
                        "may have. Ask for fewer at once, or for some of their fields.",
                        field="projects",
                        limit=bytes_max,
                    )
                found[name] = context_of(name, values)
            left = left[len(part) :]
        return [found[name] for name in wanted]

    async def list(self, *, limit: int = 100, skip: int = 0) -> Summaries:
        """Contexts without their values, the last changed first.

        A hash that somebody else wrote is not among them until it is written here.
        """
        reply = await self._functions.call(
            "context_list",
            check_whole("skip", skip, 0, 1_000_000_000),
            check_whole("limit", limit, 1, 1_000),
        )
        checked(reply, "ok")
        return [summary_of(values) for values in reply[2:]]

    async def delete(self, project: str, *, if_rev: int | None = None, by: str = "") -> None:
        """Remove a context with all its fields.

        Raises:
            ContextNotFound: There is none.
            RevisionConflict: It is at another revision; nothing was changed.
        """
        reply = await self._functions.call(
            "context_remove", check_name("project", project), check_text("by", by), _rev(if_rev)
        )
        checked(reply, "ok", project=project)

    async def watch(
        self,
        project: str | None = None,
        *,
        since: int | None = None,
        cursor: str | None = None,
        values: bool = True,
    ) -> AsyncIterator[Change]:
        """Yield the changes of one context, or of all, in order and none left out, for ever.

        The loop survives restarts of the engine. Where changes are no longer kept, one of kind
        ``gap`` carries how the context stands behind them. What the body of the loop raises
        reaches nobody else.

        Args:
            since: The revision that the caller knows: if there is another by now, the first
                change is ``current``, and carries how the context stands. Needs *project*.
            cursor: Behind which change to begin; else with what comes from now on.
            values: Have each change carry how the context stands then, or later.
        """
        if project is not None:
            check_name("project", project)
        if since is not None and (project is None or cursor is not None):
            raise InvalidArgument("since goes with a project, and without a cursor.", field="since")
        _rev(since)
        at = cursor or await self._cursor()
        known: dict[str, Context | None] = {}
        seen = 0
        outage = Witness(f"A watcher of {project or 'contexts'}")
        if since is not None and project is not None:
            current = known[project] = (await self.get_many([project]))[0]
            seen = current.rev if current else 0
            if seen != since:
                yield Change(
                    project=project, kind="current", rev=seen, all_fields=True, context=current
                )
        while True:
            try:
                async for event in self._follow(at, types=["context:updated"]):
                    for change in _changes(event, project):
                        if change.rev > seen or change.kind == "gap":
                            yield await self._shown(change, known) if values else change
                    at = event.cursor
            except EngineError as error:
                if self._namespace.bells.is_closed:
                    raise
                outage.failed(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def set_state(
        self, agent: str, status: str, *, current_task: str | None = None
    ) -> Activity:
        """Say what an agent is doing, beside what others of its type say.

        An idle agent has no current task. The documented hash of its type shows ``idle`` where
        one of its agents is idle, else ``busy``, else ``failed``.

        Args:
            status: ``idle``, ``busy`` or ``failed``.

        Raises:
            AgentNotFound: It is not registered.
        """
        check_name("agent", agent)
        doing = _doing(status)
        if current_task is not None:
            check_name("current_task", current_task)
            if doing is Doing.IDLE:
                raise InvalidArgument(
                    f"Agent {agent!r} cannot be idle with a task. Leave current_task out, or say "
                    "busy.",
                    field="current_task",
                )
        reply = await self._functions.call("agent_declare", agent, doing.value, current_task or "")
        checked(reply, "ok", agent=agent)
        return Activity(
            agent=agent,
            agent_type=reply[1].decode(),
            status=doing,
            current_task=current_task,
            updated_at=at_ms(int(reply[2])),
        )

    async def states(
        self, agent_type: str, *, status: str | None = None, limit: int = 1_000
    ) -> Activities:
        """What the agents of a type say they are doing; those longest in it first."""
        reply = await self._functions.call(
            "agent_activity",
            check_name("agent_type", agent_type),
            "" if status is None else _doing(status).value,
            check_whole("limit", limit, 1, 1_000),
        )
        checked(reply, "ok")
        return [_activity(reply[i : i + 6]) for i in range(1, len(reply), 6)]

    async def available(self, agent_type: str, *, limit: int = 1_000) -> Names:
        """The idle agents of a type that are live, the longest idle first.

        A hint: by the time that it is read another may have given one of them work. To give
        work to one agent only, submit a task and let them claim it.
        """
        found = await self.states(agent_type, status=Doing.IDLE, limit=limit)
        return [one.agent for one in found if one.is_live]

    async def sweep(self) -> bool:
        """Remove up to 200 contexts whose time is over; whether there may be more."""
        reply = await self._functions.call("context_sweep", SWEEP_LIMIT)
        checked(reply, "ok")
        return bool(reply[1])

    async def _replies(self, projects: Sequence[str], fields: Sequence[str] = ()) -> Replies:
        """What is kept of the first of these projects, as many as one reply takes."""
        if isinstance(fields, str | bytes) or not isinstance(fields, Iterable):
            raise InvalidArgument("fields must be a list of names.", field="fields")
        asked = [check_name("field", name) for name in fields]
        if len(asked) > contexts.FIELDS_MAX:
            raise InvalidArgument(
                f"{len(asked):,} fields; a context has at most {contexts.FIELDS_MAX:,}. "
                "Leave fields out to read all.",
                field="fields",
            )
        wanted = ",".join(asked)
        reply = await self._functions.call("context_read", wanted, len(projects), *projects)
        checked(reply, "ok")
        return reply[1:]

    async def _shown(self, change: Change, known: dict[str, Context | None]) -> Change:
        """The change with how its context stands: read anew where that is not known yet."""
        context = known.get(change.project)
        is_behind = change.rev > (context.rev if context else 0) or change.kind == "gap"
        if change.project and (change.project not in known or is_behind):
            context = (await self.get_many([change.project]))[0]
            known.clear()  # One is enough: changes of one context come in bursts.
            known[change.project] = context
        return msgspec.structs.replace(change, context=context)


def _rev(if_rev: int | None) -> str:
    return "" if if_rev is None else str(check_whole("if_rev", if_rev, 0, contexts.WHOLE_MAX))


def _ttl(ttl: Any) -> str | int:
    """Milliseconds; empty to leave it as it is, 0 for no end."""
    if ttl is ...:
        return ""
    return 0 if ttl is None else check_seconds("ttl", ttl, 0.001, contexts.TTL_MAX)


def _presented(lock: Lock | None) -> str:
    """The lines of a lock: fence and resource."""
    if lock is None:
        return ""
    if not isinstance(lock, Lock):
        raise InvalidArgument(
            f"lock must be a Lock as locks.acquire() gives it, not {type(lock).__name__}.",
            field="lock",
        )
    return "\n".join(f"{fence} {name}" for name, fence in lock.fences.items())


def _doing(status: Any) -> Doing:
    try:
        return Doing(status)
    except ValueError as error:
        raise InvalidArgument(
            f"status is {status!r}; use idle, busy or failed.", field="status"
        ) from error


def _activity(values: Sequence[Any]) -> Activity:
    agent, agent_type, status, at, task, live = values
    return Activity(
        agent=agent.decode(),
        agent_type=agent_type.decode(),
        status=Doing(status.decode()),
        current_task=task.decode() or None,
        updated_at=at_ms(int(at)),
        is_live=bool(live),
    )


def _name(row: Row) -> str:
    return row[0]


def _said(request_id: str | None, rows: Iterable[Row]) -> builtins.list[Row]:
    """What a call with a request id says of its fields, in whatever order it says it."""
    if request_id is None:
        return []
    return [
        (name, kind, in_order(value) if kind == "j" and isinstance(value, bytes) else value)
        for name, kind, value in rows
    ]


def _changes(event: Event | Gap, project: str | None) -> Iterator[Change]:
    """What an event says of the context that is watched, or of all."""
    if isinstance(event, Gap):
        yield Change(project=project or "", kind="gap", rev=0, all_fields=True, cursor=event.cursor)
        return
    for fact in event.facts:
        if project in (None, fact.id):
            changed, removed, all_fields = contexts.told_names(fact.extra)
            yield Change(
                project=fact.id,
                kind=fact.state,
                rev=fact.fence,
                changed=changed,
                removed=removed,
                all_fields=all_fields,
                by=event.by,
                at=event.at,
                cursor=event.cursor,
            )
