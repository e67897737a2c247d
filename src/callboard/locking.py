"""Waiting for locks and keeping them: one bell and one loop for all of a process.

Who waits is woken when a lock was handed to it. The loop says once a second, for all waits
together, that they are still meant, so that a lost bell costs a second and a dead process's
place in line goes to the next.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from callboard.domain.lock import LEASE_DEFAULT, WAIT_DEFAULT, WAIT_MAX, Lock, LockMode, check_owner
from callboard.domain.task import check_seconds as check_ms
from callboard.engine.namespace import Namespace
from callboard.engine.outage import Witness
from callboard.engine.pubsub import Subscription
from callboard.exceptions import (
    CallboardError,
    EngineError,
    EngineUnavailable,
    LockHeld,
    LockLost,
    LockTimeout,
)
from callboard.services.locks import Await, LockRequest, LockTable, lock_of

BEAT_SECONDS: Final = 1.0
"""How often waits are said to be still meant: less than a hand-over waits to be taken up."""

UNFINISHED_SECONDS: Final = 0.25
"""How soon a check for deadlocks that met its bound is continued, while somebody waits."""

CLOSE_SECONDS: Final = 5.0
"""How long places in line are left, at most, where the connection is closed."""

BATCH: Final = 500
_log = logging.getLogger("callboard.locks")

Key = tuple[str, str]


class Locks(LockTable):
    """Locks with an owner, a fence and a lease; a cycle of waits is found as it closes.

    The owner is a claim (a claimed task, the ``ctx`` of a handler) or a token, never the agent:
    two tasks of one agent never share an exclusive lock.

    Attributes:
        keeper: Of all that this process waits for or holds.
    """

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace)
        self.keeper = Keeper(self, namespace)

    async def acquire(
        self,
        *resources: str,
        owner: Any,
        mode: LockMode = "exclusive",
        limit: int | None = None,
        wait: float = WAIT_DEFAULT,
        lease: float = LEASE_DEFAULT,
        priority: int | str = 0,
        agent: str = "",
    ) -> Lock:
        """Get all of these resources or none, waiting in one line for the whole set.

        A resource that the owner holds already counts once more. ``shared`` goes with other
        shared holders, ``semaphore`` with up to *limit* owners. Renew before the lease is
        over, or use ``hold``, which does.

        Args:
            resources: 1 to 100 names, as ``file:src/a.py``, or patterns, as ``file:src/**``.
            owner: A claimed task, or a token of your own.
            limit: Permits that a semaphore has, 1 to 1,000; all its users say the same.
            wait: Seconds, up to a day; 0 to try.
            lease: Seconds, 0.1 to 3,600.
            priority: Waiters are served by it, then by arrival; a point is worth a second.
            agent: Shown beside the owner; a claim's is known.

        Raises:
            LockHeld: With ``wait=0``: somebody has it.
            LockTimeout: It was not to be had in time.
            DeadlockVictim: This wait was part of a cycle and was ended.
            LeaseLost: The owner is a claim that is over.
            LockMismatch, TooManyLocks, AlreadyWaiting: See there.
        """
        request = self._request(resources, owner, mode, limit, lease, priority, agent)
        return await self.keeper.acquire(request, check_ms("wait", wait, 0.0, WAIT_MAX) / 1_000)

    def hold(
        self,
        *resources: str,
        owner: Any = None,
        mode: LockMode = "exclusive",
        limit: int | None = None,
        wait: float = WAIT_DEFAULT,
        lease: float = LEASE_DEFAULT,
        priority: int | str = 0,
        agent: str = "",
    ) -> Hold:
        """``async with cb.locks.hold("file:a", "file:b") as lock:`` acquires, keeps, releases.

        The lease is renewed at a third of it, while the event loop turns. If the lock is
        lost, the body is cancelled and LockLost raised. A thread cannot be stopped so: with
        ``callboard.sync`` LockLost is raised at the end, and a long body asks ``check`` before
        it writes. Arguments and errors as ``acquire``; without an *owner* each scope is one of
        its own.
        """
        token = f"hold-{secrets.token_hex(8)}" if owner is None else check_owner(owner)
        request = self._request(resources, token, mode, limit, lease, priority, agent)
        return Hold(self.keeper, request, check_ms("wait", wait, 0.0, WAIT_MAX) / 1_000)


class Keeper:
    """The process's bell and loop: keeps its waits alive, and its holders informed."""

    def __init__(self, table: LockTable, namespace: Namespace) -> None:
        self.table = table
        self.bell = secrets.token_hex(6)
        self.holders: dict[str, set[Callable[[], None]]] = {}
        self._bells = namespace.bells
        self._waits: dict[Key, set[asyncio.Future[Await]]] = {}
        self._rung: set[str] = set()
        self._wake = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._errands: set[asyncio.Task[Any]] = set()
        self._subscription: Subscription | None = None
        self._joining = asyncio.Lock()
        self._outage = Witness("Waiting for locks")
        self._acquiring = 0
        self._is_idle = asyncio.Event()
        self._is_closed = False

    async def acquire(self, request: LockRequest, wait: float) -> Lock:
        """Acquire, waiting up to *wait* seconds; leaves nothing behind where it raises."""
        self._acquiring += 1
        try:
            return await self._acquire(request, wait)
        finally:
            self._acquiring -= 1
            if not self._acquiring:
                self._is_idle.set()

    async def _acquire(self, request: LockRequest, wait: float) -> Lock:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait
        key = request.owner, request.operation
        try:
            while True:
                left = max(give_up_at - loop.time(), 0.0)
                lock = await self.table._ask(request, left, self.bell)
                if lock is not None:
                    return lock
                heard = await self._hear(key, give_up_at)
                if heard is None:
                    lock = await self.table._withdraw(request, keep=True)
                    assert lock is not None
                    return lock
                if heard.status == "ok":
                    return lock_of(request, heard.deadline_ms, heard.fences)
                if heard.status == "deadlock_victim":
                    raise await self.table._victim(request.owner, heard.incident)
        except LockHeld as held:
            if wait == 0 or isinstance(held, LockTimeout):
                raise
            raise LockTimeout(held.message, **held.details) from None
        except EngineUnavailable:
            if self._is_closed:
                await self.run_errand(self.table._withdraw(request, keep=False))
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self.run_errand(self.table._withdraw(request, keep=False)))
            raise

    @property
    def is_listening(self) -> bool:
        """Bells are heard."""
        return self._subscription is not None

    async def listen(self) -> None:
        """Join the bell and start the loop, once."""
        async with self._joining:
            if self._subscription is None and not self._is_closed:
                self._subscription = await self._bells.listen(self._bells.locks(self.bell))
                self._loops = [
                    asyncio.create_task(self._answer_bells(), name="callboard-lock-bells"),
                    asyncio.create_task(self._beat(), name="callboard-lock-waits"),
                ]
                self._wake.set()

    def expect(self, key: Key) -> asyncio.Future[Await]:
        """What the loop will hear of a wait; ``forget`` it in any case."""
        if self._is_closed:
            raise _closed(key)
        future: asyncio.Future[Await] = asyncio.get_running_loop().create_future()
        self._waits.setdefault(key, set()).add(future)
        return future

    def forget(self, key: Key, future: asyncio.Future[Await]) -> None:
        """Nobody waits for this any more."""
        futures = self._waits.get(key, set())
        futures.discard(future)
        if not futures:
            self._waits.pop(key, None)

    def run_errand(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something to its end, though who asked for it is cancelled meanwhile."""
        task = asyncio.create_task(_quietly(work), name="callboard-lock-errand")
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    async def close(self) -> None:
        """End every wait, which leaves its place in line; finish the errands, and stop."""
        self._is_closed = True
        for key, futures in self._waits.items():
            for future in futures:
                if not future.done():
                    future.set_exception(_closed(key))
                    future.exception()  # Whoever waits sees it, but nobody has to.
        if self._acquiring:  # They leave their places in line.
            self._is_idle.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), CLOSE_SECONDS)
        if self._errands:
            await asyncio.wait(self._errands, timeout=CLOSE_SECONDS)
        loops, self._loops = self._loops, []
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    async def _hear(self, key: Key, give_up_at: float) -> Await | None:
        """Wait for what becomes of a wait; None where the time is over."""
        future = self.expect(key)
        try:
            async with asyncio.timeout_at(give_up_at):
                if self._subscription is None:
                    await self._join(future)
                    self.look_again(key[0])
                return await future
        except TimeoutError:
            return None
        finally:
            self.forget(key, future)

    async def _join(self, over: asyncio.Future[Await]) -> None:
        """Listen, unless the wait is over before."""
        joining = asyncio.create_task(self.listen(), name="callboard-lock-joining")
        try:
            await asyncio.wait((joining, over), return_when=asyncio.FIRST_COMPLETED)
            if joining.done():
                joining.result()
        finally:
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)

    def look_again(self, owner: str) -> None:
        """Ask about this owner's waits at once."""
        self._rung.add(owner)
        self._wake.set()

    async def _answer_bells(self) -> None:
        assert self._subscription is not None
        async for _, payload in self._subscription:
            owners = payload.decode().split(",") if payload else [key[0] for key in self._waits]
            for owner in owners:
                self.look_again(owner)
            for owner in owners if payload else list(self.holders):
                for tell in tuple(self.holders.get(owner, ())):
                    tell()

    async def _beat(self) -> None:
        """Ask for all waits once a second, and for those that were rung at once."""
        loop = asyncio.get_running_loop()
        beat_at, is_unfinished = loop.time(), False
        while True:
            pause = UNFINISHED_SECONDS if is_unfinished else BEAT_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout_at(beat_at + pause * (0.9 + random.random() / 5)):
                    await self._wake.wait()
            self._wake.clear()
            rung, self._rung = self._rung, set()
            if loop.time() >= beat_at + pause * 0.9:
                beat_at = loop.time()
                rows = list(self._waits)
            else:
                rows = [key for key in self._waits if key[0] in rung]
            try:
                is_unfinished = await self._ask(rows)
                if is_unfinished:
                    await self.table.sweep()
                self._outage.answered()
            except EngineError as error:
                self._outage.failed(error)
            except Exception:
                _log.exception("Asking about waits for locks failed; the next try goes on.")

    async def _ask(self, rows: list[Key]) -> bool:
        is_unfinished = False
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            answers, more = await self.table._await(batch)
            is_unfinished = is_unfinished or more
            for key, answer in zip(batch, answers, strict=True):
                # One that stopped waiting meanwhile withdraws, which undoes what it was given.
                for future in self._waits.get(key, ()):
                    if answer.status != "waiting" and not future.done():
                        future.set_result(answer)
        return is_unfinished


class Watch:
    """Hears, while it is open, whether a claim that is parked becomes a deadlock's victim."""

    def __init__(self, keeper: Keeper, owner: Any) -> None:
        self.owner = check_owner(owner)
        self.bell = keeper.bell
        self._keeper = keeper
        self._key = self.owner, ""

    async def __aenter__(self) -> Self:
        self._future = self._keeper.expect(self._key)
        await self._keeper.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeper.forget(self._key, self._future)

    async def race(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run *work*; DeadlockVictim where the owner becomes a victim before it is done."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._future}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise await self._keeper.table._victim(self.owner, self._future.result().incident)
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def victim(self, incident: str) -> CallboardError:
        """The exception for an incident that the engine named at once."""
        return await self._keeper.table._victim(self.owner, incident)


class Hold:
    """A lock for as long as a block runs; made by ``Locks.hold``.

    Attributes:
        lock: What is held; None before and behind the block.
        is_lost: It was lost within the block, which was cancelled for it.
    """

    def __init__(self, keeper: Keeper, request: LockRequest, wait: float) -> None:
        self.lock: Lock | None = None
        self.is_lost = False
        self._keeper = keeper
        self._request = request
        self._wait = wait
        self._loss: LockLost | None = None
        self._runner: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._renewals: asyncio.Task[None] | None = None
        self._renew_now = asyncio.Event()

    async def __aenter__(self) -> Lock:
        lock = await self.begin()
        self._runner = asyncio.current_task()
        self._cancelling = self._runner.cancelling() if self._runner else 0
        return lock

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        runner, self._runner = self._runner, None
        try:
            loss = await self.end()
        except asyncio.CancelledError as cancelled:
            # Ours, if it came between the last step of the body and here.
            if self.is_lost and runner is not None and runner.uncancel() <= self._cancelling:
                assert self._loss is not None
                raise self._loss from cancelled
            raise
        if loss is None:
            return None
        # Ours is taken back whatever the body made of it, as asyncio.timeout does.
        is_ours = self.is_lost and runner is not None and runner.uncancel() <= self._cancelling
        if kind is None or (is_ours and issubclass(kind, asyncio.CancelledError)):
            raise loss from error
        return None

    async def begin(self) -> Lock:
        """Acquire, and renew in the background until ``end``."""
        self._loss, self.is_lost = None, False
        self._renew_now.clear()
        lock = self.lock = await self._keeper.acquire(self._request, self._wait)
        self._keeper.holders.setdefault(lock.owner, set()).add(self._renew_now.set)
        self._renewals = asyncio.create_task(self._renew(lock), name="callboard-lock-renewals")
        return lock

    async def end(self) -> LockLost | None:
        """Stop renewing and release; the loss, where it was lost before. Never interrupted."""
        lock, self.lock = self.lock, None
        renewals, self._renewals = self._renewals, None
        if lock is None:
            return self._loss
        tellers = self._keeper.holders.get(lock.owner, set())
        tellers.discard(self._renew_now.set)
        if not tellers:
            self._keeper.holders.pop(lock.owner, None)
        if renewals is not None:
            renewals.cancel()
        release = self._keeper.run_errand(self._release(lock))
        await asyncio.shield(release)
        return self._loss

    async def _release(self, lock: Lock) -> None:
        try:
            await self._keeper.table.release(lock)
        except LockLost as loss:
            self._loss = self._loss or loss
        except EngineError as error:
            _log.warning(
                "%s was not released; it is free once its lease is over: %s",
                ", ".join(lock.resources),
                error,
            )

    async def _renew(self, lock: Lock) -> None:
        """Renew at a third of the lease, and at once when told to look."""
        loop = asyncio.get_running_loop()
        lost_at = loop.time() + lock.lease
        due_at = loop.time() + lock.lease / 3
        if not self._keeper.is_listening:
            await _quietly(self._keeper.listen())
            self._renew_now.set()  # What was rung before was not heard.
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._renew_now.wait()
            self._renew_now.clear()
            began_at = loop.time()
            try:
                await self._keeper.table.renew(lock)
            except LockLost as loss:
                self._lose(loss)
                return
            except EngineError as error:
                if loop.time() >= lost_at:
                    self._lose(
                        LockLost(
                            f"{', '.join(lock.resources)} could not be renewed within its lease: "
                            f"{error} Another may have it by now.",
                            owner=lock.owner,
                            resources=list(lock.resources),
                        )
                    )
                    return
                due_at = loop.time() + min(lock.lease / 12, 1.0)
            except Exception:
                _log.exception("A renewal failed; the next goes on.")
                due_at = loop.time() + lock.lease / 12
            else:
                lost_at = began_at + lock.lease
                due_at = began_at + lock.lease / 3

    def _lose(self, loss: LockLost) -> None:
        self._loss, self.is_lost = loss, True
        if self._runner is not None:
            self._runner.cancel()


def _closed(key: Key) -> EngineUnavailable:
    return EngineUnavailable(f"The connection was closed while {key[0]} waited for locks.")


async def _quietly(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except CallboardError as error:
        _log.info("Left to the lease: %s", error)
