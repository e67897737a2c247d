"""The locks of a namespace: each operation of their functions, and what can be read of them."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from callboard.domain import lock as rules
from callboard.domain import lock_reasons
from callboard.domain.bounds import check_text, check_whole
from callboard.domain.lock import (
    Incident,
    Lock,
    LockMode,
    LockReasons,
    LockWait,
    Resource,
    WaitEdge,
    WaitGraph,
)
from callboard.domain.names import check_name
from callboard.domain.repeats import operation_id
from callboard.domain.task import at_ms, check_priority
from callboard.domain.task import check_seconds as check_ms
from callboard.engine import lock_codec
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import DeadlockVictim, InvalidArgument, NotPermitted

LIST_MAX: Final = 1_000
GRAPH_MAX: Final = 5_000
SWEEP_LIMIT: Final = 200
INCIDENT_DIGITS: Final = 18
"""An incident is named by the moment when it was found, in microseconds: 16 digits."""

SUGGESTION: Final = (
    "Release what you hold and try again. It cannot happen among owners that acquire all they "
    "need in one call, or plain names in the same order, and that meanwhile upgrade nothing and "
    "wait for no task or reply."
)

Incidents = list[Incident]
Resources = list[Resource]
LockWaits = list[LockWait]


class LockRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request for resources; *operation* makes each of its calls repeatable."""

    owner: str
    resources: tuple[str, ...]
    mode: LockMode
    limit: int | None
    lease: float
    priority: int
    agent: str
    operation: str

    @property
    def context(self) -> dict[str, Any]:
        """What its errors carry."""
        return {"owner": self.owner, "resources": list(self.resources)}


class Await(msgspec.Struct, frozen=True):
    """What became of a wait: ``waiting``, ``ok`` with the lock, ``gone``, ``deadlock_victim``."""

    status: str
    deadline_ms: int = 0
    fences: tuple[int, ...] = ()
    incident: str = ""


class LockTable:
    """The operations on locks that are one call; ``Locks`` adds those that wait and hold."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._keys = namespace.keys

    async def renew(
        self,
        lock: Lock | Iterable[str] | str,
        owner: Any = None,
        *,
        lease: float | None = None,
    ) -> None:
        """Push the deadline of a lock forward, if its owner still holds all of it.

        Args:
            lock: What ``acquire`` returned; or resources, with their *owner*.
            lease: Seconds from now, 0.1 to 3,600; that of the lock where not given. A deadline
                never moves backwards.

        Raises:
            LockLost: Some of it is another's by now, or free; the rest was renewed.
        """
        token, rows = _rows(lock, owner)
        if lease is None:
            lease = lock.lease if isinstance(lock, Lock) else rules.LEASE_DEFAULT
        lease_ms = check_ms("lease", lease, rules.LEASE_MIN, rules.LEASE_MAX)
        reply = await self._functions.call("lock_renew", token, lease_ms, len(rows), *_flat(rows))
        checked(reply, "ok")
        self._check_held(token, rows, reply[3])

    async def release(
        self,
        lock: Lock | Iterable[str] | str,
        owner: Any = None,
        *,
        request_id: str | None = None,
    ) -> None:
        """Give resources back, once for each time they were acquired; the next in line gets them.

        Args:
            lock: What ``acquire`` returned; or resources, with their *owner*.
            request_id: Makes the call repeatable for a minute: the repeat gives nothing back.
                A lock, which has fences, and its resources' names do not say the same.

        Raises:
            LockLost: Some of it was lost before; the rest was released.
        """
        token, given = _rows(lock, owner)
        rows = sorted(given)  # In whatever order they are named: the repeat says the same.
        operation = operation_id(request_id, "release", token, rows)
        reply = await self._functions.call(
            "lock_release", token, operation, len(rows), *_flat(rows)
        )
        checked(reply, "ok")
        if reply[1]:
            await self._hand_on()
        self._check_held(token, rows, reply[2])

    async def release_all(self, owner: Any) -> int:
        """Give back all that an owner holds, whatever its counts, and end its waits."""
        reply = await self._functions.call("lock_leave", rules.check_owner(owner))
        checked(reply, "ok")
        if reply[1]:
            await self._hand_on()
        return int(reply[2])

    async def force_release(
        self, resource: str, *, by: str, reason: str = "", owner: Any = None
    ) -> int:
        """Take a resource from whoever holds it; the fence above theirs that it has from here.

        The holder is told, its renewals and releases are refused, and who is next in line gets
        the resource. An outside store that compares fences refuses its late writes once it has
        seen this fence or the next holder's.

        Args:
            by: Who does it; it stands in the event ``resource:forced`` with the *reason*.
            owner: Only from this one of several holders.

        Raises:
            LockNotFound: Nobody holds it, or this owner does not.
        """
        name = rules.check_resource(resource)
        why = check_text("reason", reason)
        if len(why) > 1_000 or not why.isprintable():
            raise InvalidArgument(
                "reason must be one line of at most 1,000 characters.", field="reason"
            )
        token = "" if owner is None else rules.check_owner(owner)
        reply = await self._functions.call("lock_force", name, token, check_name("by", by), why)
        checked(reply, "ok", resource=name, owner=token)
        return int(reply[1])

    async def get(self, resource: str) -> Resource:
        """Who holds a resource, and who is in line for it. A free one has neither."""
        return (await self._read([rules.check_resource(resource)]))[0]

    async def list(self, prefix: str = "", *, limit: int = LIST_MAX) -> Resources:
        """The resources that are held or waited for, by name, up to *limit* (1 to 1,000)."""
        check_whole("limit", limit, 1, LIST_MAX)
        prefix = check_text("prefix", prefix)
        low, high = (
            (b"[" + prefix.encode(), b"(" + prefix.encode() + b"\xff") if prefix else ("-", "+")
        )
        names = await self._namespace.read(
            "ZRANGEBYLEX", self._keys.locks, low, high, "LIMIT", 0, limit
        )
        return await self._read(names) if names else []

    async def waits(self, *, limit: int = LIST_MAX) -> LockWaits:
        """Who waits for locks, the longest waiting first, of about *limit* (1 to 1,000)."""
        check_whole("limit", limit, 1, LIST_MAX)
        found: dict[str, LockWait] = {}
        cursor = b"0"
        while len(found) < limit:
            cursor, raw = await self._namespace.read(
                "HSCAN", self._keys.locks_waits, cursor, "COUNT", LIST_MAX
            )
            for field, value in lock_codec.pairs_of(raw):
                wait = None if b"\n" in field else lock_codec.wait_of(field, value)
                if wait is not None:
                    found[wait.owner] = wait
            if cursor == b"0":
                break
        return sorted(found.values(), key=lambda wait: (wait.since, wait.owner))[:limit]

    async def graph(self, owner: Any = None, *, limit: int = GRAPH_MAX) -> WaitGraph:
        """Who waits for whom: of one owner and all it leads to, or of up to *limit* waits."""
        token = "" if owner is None else rules.check_owner(owner)
        check_whole("limit", limit, 1, GRAPH_MAX)
        reply = await self._functions.call("lock_graph", token, limit)
        checked(reply, "ok")
        edges = {
            WaitEdge(waiter.decode(), holder.decode(), what.decode(), bool(is_any))
            for waiter, what, holder, is_any in reply[2]
        }
        return WaitGraph(
            tuple(sorted(edges, key=msgspec.structs.astuple)), is_whole=not int(reply[1])
        )

    async def incidents(self, *, limit: int = 100) -> Incidents:
        """The deadlocks that were found, the newest first; 1,000 and seven days are kept."""
        check_whole("limit", limit, 1, LIST_MAX)
        rows = await self._namespace.read(
            "XREVRANGE", self._keys.locks_incidents, "+", "-", "COUNT", limit
        )
        return [lock_codec.incident_of(row) for row in rows]

    async def why(self, subject: Any) -> LockReasons:
        """Why a resource is not to be had, or why an owner waits, in words.

        Args:
            subject: A resource; else an owner: a token or a claim. Patterns that cover a
                resource are looked for among the first 1,000 names in use.
        """
        if not isinstance(subject, str):
            token = rules.check_owner(subject)
            return lock_reasons.of_owner(token, await self.graph(token))
        found = await self.get(subject)
        if found.holders or found.waiting:
            return lock_reasons.of_resource(found)
        if rules.is_owner(subject):
            graph = await self.graph(subject)
            if graph.edges:
                return lock_reasons.of_owner(subject, graph)
        others = [one for one in await self.list() if rules.overlap(one.name, subject)]
        return lock_reasons.of_covered(subject, others)

    async def check(self, resource: str, fence: int) -> bool:
        """Whether the fence is a current holder's: what to ask before a write outside.

        Past its deadline it is not, by the engine's clock, though nobody else has the resource
        yet; a renewal makes it so again. Between the answer and the write the lock may be lost;
        a store that compares fences itself is safe from that.
        """
        check_whole("fence", fence, 1, 2**53)
        reply = await self._functions.call("lock_read", 1, rules.check_resource(resource))
        checked(reply, "ok")
        return any(
            owner != b"~" and lock_codec.is_fence_of(holding, fence, int(reply[1]))
            for owner, holding in lock_codec.pairs_of(reply[2][0][1])
        )

    async def sweep(self) -> bool:
        """One bounded round of housekeeping; whether more is left. The janitor calls it."""
        reply = await self._functions.call("lock_sweep", SWEEP_LIMIT)
        checked(reply, "ok")
        return bool(reply[1])

    # For `Locks`, which waits

    @staticmethod
    def _request(
        resources: Sequence[str],
        owner: Any,
        mode: LockMode,
        limit: int | None,
        lease: float,
        priority: int | str,
        agent: str,
    ) -> LockRequest:
        if mode not in rules.MODES:
            raise InvalidArgument(
                f"mode is {mode!r}; it must be one of {', '.join(rules.MODES)}.", field="mode"
            )
        if mode == "semaphore":
            if limit is None:
                raise InvalidArgument(
                    'mode="semaphore" needs limit=, how many may hold it at once: 1 to '
                    f"{rules.PERMITS_MAX:,}.",
                    field="limit",
                )
            check_whole("limit", limit, 1, rules.PERMITS_MAX)
        elif limit is not None:
            raise InvalidArgument(
                'limit is for mode="semaphore": how many permits there are.', field="limit"
            )
        return LockRequest(
            owner=rules.check_owner(owner),
            resources=tuple(rules.check_resources(resources, mode)),
            mode=mode,
            limit=limit,
            lease=check_ms("lease", lease, rules.LEASE_MIN, rules.LEASE_MAX) / 1_000,
            priority=check_priority(priority),
            agent=check_name("agent", agent) if agent else "",
            operation=_new_operation(),
        )

    async def _ask(self, request: LockRequest, wait: float, bell: str) -> Lock | None:
        """Acquire, or get in line: None then. A victim raises at once."""
        reply = await self._functions.call(
            "lock_acquire",
            request.owner,
            request.agent,
            rules.LETTERS[request.mode],
            "" if request.limit is None else request.limit,
            round(wait * 1_000),
            round(request.lease * 1_000),
            request.priority,
            bell,
            request.operation,
            len(request.resources),
            *request.resources,
        )
        status = checked(reply, "ok", "waiting", "deadlock_victim", **request.context)
        if status == "deadlock_victim":
            raise await self._victim(request.owner, reply[1].decode())
        if status == "waiting":
            if reply[1]:  # The check for deadlocks met its bound: a sweep finishes it.
                await self._hand_on()
            return None
        fences = tuple(int(fence) for fence in reply[3].split(b","))
        return lock_of(request, int(reply[2]), fences)

    async def _await(self, rows: Sequence[tuple[str, str]]) -> tuple[builtins.list[Await], bool]:
        """Keep waits alive and hear what became of them; whether a sweep has work to do."""
        if not rows:
            return [], False
        flat = [part for row in rows for part in row]
        reply = await self._functions.call("lock_await", len(rows), *flat)
        checked(reply, "ok")
        return [_await_of(word) for word in reply[3].decode().split(",")], bool(reply[2])

    async def _withdraw(self, request: LockRequest, *, keep: bool) -> Lock | None:
        """Leave the line. With *keep* a lock that was handed over just then is taken.

        Raises:
            LockTimeout: With *keep*, and there was none.
        """
        reply = await self._functions.call(
            "lock_withdraw",
            request.owner,
            request.operation,
            int(keep),
            len(request.resources),
            *request.resources,
        )
        status = checked(reply, "ok", "taken", "gone")
        if status == "taken":
            fences = tuple(int(fence) for fence in reply[3].split(b","))
            return lock_of(request, int(reply[2]), fences)
        if keep:
            facts = reply if status == "ok" else [b"gone", b"", b"", b"", b""]
            raise_refusal("lock_timeout", facts, **request.context)
        return None

    async def _victim(self, owner: str, incident: str) -> DeadlockVictim:
        """The exception that tells a victim of its cycle."""
        found = await self._incident(incident)
        cycle = list(found.cycle) if found else [owner]
        resources = list(found.resources) if found else []
        return DeadlockVictim(
            f"{owner} waited in a circle, over {', '.join(resources) or 'tasks'}: "
            f"{' -> '.join([*cycle, cycle[0]])}. Its wait was ended so that the others can go on. "
            f"{SUGGESTION} What it holds of the circle is taken from it in 5 s.",
            owner=owner,
            incident=incident,
            cycle=cycle,
            agents=list(found.agents) if found else [],
            resources=resources,
            suggestion=SUGGESTION,
        )

    async def _check_owner(self, agent: str, owner: str) -> None:
        """Raise NotPermitted where another agent holds something, or waits, under this token.

        What is nobody's just now passes: whose it is shows with what it holds.
        """
        held = await self._namespace.read("HKEYS", self._keys.lock_owner(owner))
        found = {
            holder.agent
            for start in range(0, len(held), LIST_MAX)
            for one in await self._read(held[start : start + LIST_MAX])
            for holder in one.holders
            if holder.owner == owner
        }
        raw = await self._namespace.read("HGET", self._keys.locks_waits, owner)
        wait = None if raw is None else lock_codec.wait_of(owner.encode(), raw)
        if wait is not None:
            found.add(wait.agent)
        if found - {agent, ""}:
            raise NotPermitted(
                f"{owner} is no owner of agent {agent!r}, and the key that was shown is for that "
                "agent alone.",
                agent=agent,
                owner=owner,
            )

    async def _incident(self, incident: str) -> Incident | None:
        if not incident.isdecimal() or not incident.isascii() or len(incident) > INCIDENT_DIGITS:
            return None
        rows = await self._namespace.read(
            "XRANGE", self._keys.locks_incidents, f"{incident}-0", f"{incident}-0"
        )
        return lock_codec.incident_of(rows[0]) if rows else None

    async def _hand_on(self) -> None:
        """Continue what met the bound of its call; the janitor would do it too."""
        for _ in range(100):
            if not await self.sweep():
                return

    async def _read(self, names: Sequence[str | bytes]) -> Resources:
        reply = await self._functions.call("lock_read", len(names), *names)
        checked(reply, "ok")
        return [lock_codec.resource_of(row) for row in reply[2]]

    @staticmethod
    def _check_held(owner: str, rows: Sequence[tuple[str, int]], answers: bytes) -> None:
        words = answers.decode().split(",")
        for (resource, fence), word in zip(rows, words, strict=True):
            if word == "lock_lost":
                presented = {"fence": fence} if fence else {}
                raise_refusal("lock_lost", (), owner=owner, resource=resource, **presented)


def _rows(
    lock: Lock | Iterable[str] | str, owner: Any
) -> tuple[str, builtins.list[tuple[str, int]]]:
    """The owner, and each resource with its fence; 0 where the caller names none."""
    if isinstance(lock, Lock):
        return lock.owner, [(name, lock.fences[name]) for name in lock.resources]
    return rules.check_owner(owner), [(name, 0) for name in rules.check_resources(lock)]


def _flat(rows: Sequence[tuple[str, int]]) -> builtins.list[str | int]:
    return [part for row in rows for part in row]


def _new_operation() -> str:
    return secrets.token_hex(8)


def lock_of(request: LockRequest, deadline_ms: int, fences: tuple[int, ...]) -> Lock:
    """What a request was granted, with the fences in the order of its resources."""
    return Lock(
        owner=request.owner,
        resources=request.resources,
        mode=request.mode,
        fence=max(fences),
        fences=dict(zip(request.resources, fences, strict=True)),
        deadline=at_ms(deadline_ms),
        lease=request.lease,
        agent=request.agent,
    )


def _await_of(answer: str) -> Await:
    status, *facts = answer.split(" ")
    if status == "ok":
        return Await(status, int(facts[0]), tuple(int(fence) for fence in facts[1:]))
    return Await(status, incident=facts[0] if facts else "")
