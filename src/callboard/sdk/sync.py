"""The same API without ``async``: a portal to one event loop in a thread of its own.

Nothing is implemented twice. Each method here is the asynchronous one of the same name,
run on the portal's loop while the caller waits; its signature, types and docstring are
taken over, so that editors and type checkers know them. A method is one line below, and a
test compares the two sides.

Calls may come from any thread. Ctrl-C ends the wait and cancels the call on the loop; as
with every lost reply, a change may have been made by then. Closing a loop over ``follow``,
by ``break`` too, ends the subscription.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import update_wrapper, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from callboard import app, locking, messaging, runs
from callboard.config import EngineChoice
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.breaker import BreakerPolicy, Counts, Permit
from callboard.domain.conflict import ConflictStrategy
from callboard.domain.error import Classification, ErrorRule
from callboard.domain.lock import LEASE_DEFAULT, WAIT_DEFAULT, Lock, LockMode
from callboard.domain.strategy import Strategy
from callboard.engine.probe import EngineFacts
from callboard.exceptions import CircuitOpen, EngineError
from callboard.observer import Observers
from callboard.sdk import connect as asynchronous
from callboard.services import (
    access,
    agents,
    boards,
    breakers,
    conflicts,
    context,
    dead_letters,
    errors,
    events,
    flow,
    metrics,
    recurring,
    scheduler,
    tasks,
    teams,
)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S_co = TypeVar("S_co", covariant=True)


class Portal:
    """An event loop in a thread, and the way to run coroutines on it from others."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._is_closed = False
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._turn, name="callboard-portal", daemon=True)
        self._thread.start()

    @property
    def is_foreign(self) -> bool:
        """It was made before a fork: this process has no thread that would turn its loop."""
        return self._owner != os.getpid()

    @property
    def is_closed(self) -> bool:
        """Nothing more can be run."""
        return self._is_closed

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run *work* on the loop and return what it returns, or raise what it raises.

        Raises:
            EngineError: The portal is closed, belongs to the process before a fork, or is
                asked from its own thread, where waiting would never end.
        """
        fault = self._fault()
        if fault:
            work.close()
            raise EngineError(fault)
        # Made before anything is under way: Ctrl-C may come between any two lines from here.
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        try:
            self._loop.call_soon_threadsafe(self._begin, work, future)
            return future.result()
        except concurrent.futures.CancelledError:
            raise EngineError("The connection was closed while this call was under way.") from None
        except BaseException:
            # Of the waiting thread, as Ctrl-C is; where the call itself raised, it is over.
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, end the thread; again, or after a fork, it does nothing."""
        with self._mutex:
            if self._is_closed or self.is_foreign:
                return
            self._is_closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _fault(self) -> str:
        if self.is_foreign:
            return "This connection was opened before a fork. Open one in the child."
        if self._is_closed:
            return "This connection is closed. Open a new one: callboard.sync.connect()."
        if threading.get_ident() == self._thread.ident:
            return "A call of callboard.sync from its own event loop would wait for itself."
        return ""

    def _begin(self, work: Coroutine[Any, Any, R], future: concurrent.futures.Future[R]) -> None:
        """On the loop: run *work* as a task, which ends with *future*, and the other way round."""
        if self._is_closed:
            work.close()
            future.cancel()
            return
        task = self._loop.create_task(work)

        def ended(task: asyncio.Task[R]) -> None:
            with suppress(concurrent.futures.InvalidStateError):  # Cancelled meanwhile.
                if task.cancelled():
                    future.cancel()
                elif (error := task.exception()) is not None:
                    future.set_exception(error)
                else:
                    future.set_result(task.result())

        def given_up(future: concurrent.futures.Future[R]) -> None:
            if future.cancelled() and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(ended)
        future.add_done_callback(given_up)

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()


class Facade(Generic[S_co]):
    """An asynchronous object, and the portal through which it is used."""

    def __init__(self, portal: Portal, inner: S_co) -> None:
        self._portal = portal
        self._inner = inner

    def __repr__(self) -> str:
        return f"<sync {self._inner!r}>"


def _own(method: Callable[Concatenate[T, P], R], inner: T) -> Callable[P, R]:
    """The method of this name as *inner* has it: a connection over HTTP has others."""
    return cast("Callable[P, R]", getattr(inner, method.__name__))


def _blocking(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Facade[T], P], R]:
    """The method without ``async``."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.run(_own(method, self._inner)(*args, **kwargs))

    return cast("Callable[Concatenate[Facade[T], P], R]", update_wrapper(call, method))


def _iterating(
    method: Callable[Concatenate[T, P], AsyncIterator[R]],
) -> Callable[Concatenate[Facade[T], P], Generator[R, None, None]]:
    """The asynchronous generator as an ordinary one."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> Generator[R, None, None]:
        return _items(self._portal, _own(method, self._inner)(*args, **kwargs))

    return cast(
        "Callable[Concatenate[Facade[T], P], Generator[R, None, None]]",
        update_wrapper(call, method),
    )


def _items(portal: Portal, source: AsyncIterator[R]) -> Generator[R, None, None]:
    try:
        while True:
            try:
                item = portal.run(_next(source))
            except StopAsyncIteration:
                return
            yield item
    finally:
        with suppress(EngineError):
            portal.run(_close(source))


async def _next(source: AsyncIterator[R]) -> R:
    return await anext(source)


async def _close(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()


def _handles(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, tasks.TaskHandle]],
) -> Callable[Concatenate[Facade[T], P], TaskHandle]:
    """The method without ``async``, its handle too."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle:
        inner = self._portal.run(_own(method, self._inner)(*args, **kwargs))
        return TaskHandle(self._portal, inner)

    return cast("Callable[Concatenate[Facade[T], P], TaskHandle]", update_wrapper(call, method))


def _handle_lists(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, list[tasks.TaskHandle]]],
) -> Callable[Concatenate[Facade[T], P], list[TaskHandle]]:
    """The method without ``async``, its handles too."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> list[TaskHandle]:
        inner = self._portal.run(_own(method, self._inner)(*args, **kwargs))
        return [TaskHandle(self._portal, handle) for handle in inner]

    return cast(
        "Callable[Concatenate[Facade[T], P], list[TaskHandle]]", update_wrapper(call, method)
    )


class TaskHandle(Facade[tasks.TaskHandle]):
    """A submitted task, to wait for or look at."""

    @property
    def id(self) -> str:
        """The task's id."""
        return self._inner.id

    @property
    def existed(self) -> bool:
        """It had been submitted before, with the same body."""
        return self._inner.existed

    result = _blocking(tasks.TaskHandle.result)
    task = _blocking(tasks.TaskHandle.task)


class Tasks(Facade[app.BoardTasks]):
    """The tasks of one board: submitted, read, explained, steered, claimed, finished."""

    @property
    def board(self) -> str:
        """The board's name."""
        return self._inner.board

    def handle(self, task_id: str) -> TaskHandle:
        """A handle on a task submitted elsewhere; whether it exists is not checked."""
        return TaskHandle(self._portal, self._inner.handle(task_id))

    # A field named `self` would be taken for the service; no task has one.
    submit = _handles(app.BoardTasks.submit)  # type: ignore[arg-type]
    submit_many = _handle_lists(app.BoardTasks.submit_many)
    get = _blocking(app.BoardTasks.get)
    get_many = _blocking(app.BoardTasks.get_many)
    outcome = _blocking(app.BoardTasks.outcome)
    list = _blocking(app.BoardTasks.list)
    iterate = _iterating(app.BoardTasks.iterate)
    result = _blocking(app.BoardTasks.result)
    wait = _blocking(app.BoardTasks.wait)
    cancel = _blocking(app.BoardTasks.cancel)
    cancel_many = _blocking(app.BoardTasks.cancel_many)
    retry = _blocking(app.BoardTasks.retry)
    retry_many = _blocking(app.BoardTasks.retry_many)
    reprioritise = _blocking(app.BoardTasks.reprioritise)
    purge = _blocking(app.BoardTasks.purge)
    note = _blocking(app.BoardTasks.note)
    notes = _blocking(app.BoardTasks.notes)
    attempts = _blocking(app.BoardTasks.attempts)
    answer = _blocking(app.BoardTasks.answer)
    why = _blocking(app.BoardTasks.why)
    graph = _blocking(app.BoardTasks.graph)
    lanes = _blocking(app.BoardTasks.lanes)
    queues = _blocking(app.BoardTasks.queues)
    clear = _blocking(app.BoardTasks.clear)

    claim = _blocking(app.BoardTasks.claim)
    take = _blocking(app.BoardTasks.take)
    accept = _blocking(app.BoardTasks.accept)
    complete = _blocking(app.BoardTasks.complete)
    complete_many = _blocking(app.BoardTasks.complete_many)
    fail = _blocking(app.BoardTasks.fail)
    fail_many = _blocking(app.BoardTasks.fail_many)
    complete_and_claim = _blocking(app.BoardTasks.complete_and_claim)
    start = _blocking(app.BoardTasks.start)
    start_many = _blocking(app.BoardTasks.start_many)
    renew = _blocking(app.BoardTasks.renew)
    renew_many = _blocking(app.BoardTasks.renew_many)
    release = _blocking(app.BoardTasks.release)
    release_many = _blocking(app.BoardTasks.release_many)
    handoff = _blocking(app.BoardTasks.handoff)
    progress = _blocking(app.BoardTasks.progress)
    partial = _blocking(app.BoardTasks.partial)
    tell = _blocking(app.BoardTasks.tell)
    split = _blocking(app.BoardTasks.split)
    ask = _blocking(app.BoardTasks.ask)
    confirm_cancel = _blocking(app.BoardTasks.confirm_cancel)
    park = _blocking(app.BoardTasks.park)
    unpark = _blocking(app.BoardTasks.unpark)


class DeadLetters(Facade[dead_letters.DeadLetters]):
    """The dead letters of one board."""

    @property
    def board(self) -> str:
        """The board's name."""
        return self._inner.board

    list = _blocking(dead_letters.DeadLetters.list)
    count = _blocking(dead_letters.DeadLetters.count)
    get = _blocking(dead_letters.DeadLetters.get)
    requeue = _blocking(dead_letters.DeadLetters.requeue)
    requeue_many = _blocking(dead_letters.DeadLetters.requeue_many)
    purge = _blocking(dead_letters.DeadLetters.purge)


class Boards(Facade[boards.Boards]):
    """A board comes into being with its first task, or its first setting."""

    list = _blocking(boards.Boards.list)
    get = _blocking(boards.Boards.get)
    configure = _blocking(boards.Boards.configure)
    remove = _blocking(boards.Boards.remove)
    pause = _blocking(boards.Boards.pause)
    resume = _blocking(boards.Boards.resume)
    pause_all = _blocking(boards.Boards.pause_all)
    resume_all = _blocking(boards.Boards.resume_all)
    configure_namespace = _blocking(boards.Boards.configure_namespace)


class Flow(Facade[flow.Flow]):
    """What is set for the keys that tasks are submitted with, over all boards."""

    limit = _blocking(flow.Flow.limit)
    weight = _blocking(flow.Flow.weight)
    pause = _blocking(flow.Flow.pause)
    resume = _blocking(flow.Flow.resume)
    remove = _blocking(flow.Flow.remove)
    get = _blocking(flow.Flow.get)
    get_many = _blocking(flow.Flow.get_many)
    list = _blocking(flow.Flow.list)
    sweep = _blocking(flow.Flow.sweep)


@contextmanager
def _guarding(
    portal: Portal, guard: breakers.Guard, timeout: float | None
) -> Generator[Permit, None, None]:
    permit = portal.run(guard.begin())
    began = time.monotonic()
    try:
        yield permit
    except BaseException as error:
        with suppress(EngineError):
            portal.run(guard.end(error))
        raise
    is_late = timeout is not None and time.monotonic() - began > timeout
    portal.run(guard.end(None, is_late=is_late))


class Breakers(Facade[breakers.Breakers]):
    """The breakers of a namespace's components; one that has none lets every call through."""

    configure = _blocking(breakers.Breakers.configure)
    remove = _blocking(breakers.Breakers.remove)
    isolate = _blocking(breakers.Breakers.isolate)
    force = _blocking(breakers.Breakers.force)
    reset = _blocking(breakers.Breakers.reset)
    reset_all = _blocking(breakers.Breakers.reset_all)
    get = _blocking(breakers.Breakers.get)
    metrics = _blocking(breakers.Breakers.metrics)
    list = _blocking(breakers.Breakers.list)
    admit = _blocking(breakers.Breakers.admit)
    record = _blocking(breakers.Breakers.record)
    renew = _blocking(breakers.Breakers.renew)
    sweep = _blocking(breakers.Breakers.sweep)

    def guard(  # noqa: D102, given below
        self,
        component: str,
        *,
        timeout: float | None = None,
        counts: Counts | None = None,
        policy: BreakerPolicy | str | None = None,
    ) -> AbstractContextManager[Permit]:
        guard = self._inner.guard(component, timeout=timeout, counts=counts, policy=policy)
        return _guarding(self._portal, guard, timeout)

    def guarded(  # noqa: D102, given below
        self,
        component: str,
        *,
        fallback: Callable[..., Any] | None = None,
        timeout: float | None = None,
        counts: Counts | None = None,
        policy: BreakerPolicy | str | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            @wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> R:
                with ExitStack() as stack:
                    guard = self.guard(component, timeout=timeout, counts=counts, policy=policy)
                    try:
                        stack.enter_context(guard)
                    except CircuitOpen:
                        if fallback is None:
                            raise
                    else:
                        return function(*args, **kwargs)
                assert fallback is not None
                return cast("R", fallback(*args, **kwargs))

            return call

        return decorate

    guard.__doc__ = breakers.Breakers.guard.__doc__
    guarded.__doc__ = breakers.Breakers.guarded.__doc__


class Recurrences(Facade[recurring.Recurrences]):
    """What is submitted by the clock."""

    create = _blocking(recurring.Recurrences.create)
    get = _blocking(recurring.Recurrences.get)
    list = _blocking(recurring.Recurrences.list)
    next = _blocking(recurring.Recurrences.next)
    pause = _blocking(recurring.Recurrences.pause)
    resume = _blocking(recurring.Recurrences.resume)
    delete = _blocking(recurring.Recurrences.delete)
    trigger = _blocking(recurring.Recurrences.trigger)
    sweep = _blocking(recurring.Recurrences.sweep)


class Teams(Facade[teams.Teams]):
    """Keeps the 50 newest versions of each team; who starts a run names one of them."""

    add = _blocking(teams.Teams.add)
    get = _blocking(teams.Teams.get)
    list = _blocking(teams.Teams.list)
    versions = _blocking(teams.Teams.versions)
    remove = _blocking(teams.Teams.remove)


class Contexts(Facade[context.Contexts]):
    """The contexts of a namespace, and what its agents say they are doing."""

    set = _blocking(context.Contexts.set)
    increment = _blocking(context.Contexts.increment)
    get = _blocking(context.Contexts.get)
    get_many = _blocking(context.Contexts.get_many)
    list = _blocking(context.Contexts.list)
    delete = _blocking(context.Contexts.delete)
    watch = _iterating(context.Contexts.watch)
    set_state = _blocking(context.Contexts.set_state)
    states = _blocking(context.Contexts.states)
    available = _blocking(context.Contexts.available)
    sweep = _blocking(context.Contexts.sweep)


class Errors(Facade[errors.Errors]):
    """The errors of a namespace: recorded, classified, grouped by what they have in common."""

    record = _blocking(errors.Errors.record)
    record_many = _blocking(errors.Errors.record_many)
    list = _blocking(errors.Errors.list)
    groups = _blocking(errors.Errors.groups)
    group = _blocking(errors.Errors.group)
    counters = _blocking(errors.Errors.counters)
    correlations = _blocking(errors.Errors.correlations)
    details = _blocking(errors.Errors.details)
    resolve = _blocking(errors.Errors.resolve)
    ignore = _blocking(errors.Errors.ignore)
    reopen = _blocking(errors.Errors.reopen)
    clear = _blocking(errors.Errors.clear)
    configure = _blocking(errors.Errors.configure)

    def classify(self, error: BaseException | str) -> Classification:
        """How bad an error is, and whether trying again may help, by this client's rules."""
        return self._inner.classify(error)

    def fingerprint(self, name: str, message: str) -> str:
        """What errors have in common that differ in ids, times, paths and numbers only."""
        return self._inner.fingerprint(name, message)

    def add_rules(self, *rules: ErrorRule) -> None:
        """Ask these before those that are built in; what is added last is asked first."""
        self._inner.add_rules(*rules)


class Scheduler(Facade[scheduler.Scheduler]):
    """Which agent is given which task, and why."""

    strategy = _blocking(scheduler.Scheduler.strategy)
    set_strategy = _blocking(scheduler.Scheduler.set_strategy)
    assign = _blocking(scheduler.Scheduler.assign)
    decisions = _blocking(scheduler.Scheduler.decisions)
    why_this_agent = _blocking(scheduler.Scheduler.why_this_agent)
    load = _blocking(scheduler.Scheduler.load)
    distribution = _blocking(scheduler.Scheduler.distribution)

    def register(self, name: str, strategy: Strategy | type[Strategy]) -> Strategy:
        """Make a strategy known by name to this connection; the same name again replaces it.

        Raises:
            InvalidArgument: The name is one of Callboard's, or there is no method ``choose``.
        """
        return self._inner.register(name, strategy)

    def names(self) -> tuple[str, ...]:
        """All strategies that ``assign`` knows here: Callboard's, and one's own by name."""
        return self._inner.names()


class Conflicts(Facade[conflicts.Conflicts]):
    """The conflicts of a namespace."""

    def register(self, name: str, strategy: ConflictStrategy) -> None:
        """Have ``resolve`` know a strategy of one's own by name, in this process.

        Installed packages offer theirs by entry points of group
        ``callboard.conflict_strategies``.

        Raises:
            InvalidArgument: The name is Callboard's own, or the strategy has no ``decide``, or
                an async one.
        """
        self._inner.register(name, strategy)

    def strategies(self) -> tuple[str, ...]:
        """All strategies that ``resolve`` knows here."""
        return self._inner.strategies()

    report = _blocking(conflicts.Conflicts.report)
    get = _blocking(conflicts.Conflicts.get)
    active = _blocking(conflicts.Conflicts.active)
    history = _blocking(conflicts.Conflicts.history)
    pending = _blocking(conflicts.Conflicts.pending)
    resolve = _blocking(conflicts.Conflicts.resolve)
    decide = _blocking(conflicts.Conflicts.decide)
    refer = _blocking(conflicts.Conflicts.refer)
    open_vote = _blocking(conflicts.Conflicts.open_vote)
    vote = _blocking(conflicts.Conflicts.vote)
    cleanup = _blocking(conflicts.Conflicts.cleanup)
    stats = _blocking(conflicts.Conflicts.stats)
    sweep = _blocking(conflicts.Conflicts.sweep)


class Access(Facade[access.Access]):
    """The API keys of an engine, and the audit log."""

    create = _blocking(access.Access.create)
    list = _blocking(access.Access.list)
    get = _blocking(access.Access.get)
    revoke = _blocking(access.Access.revoke)
    credential = _blocking(access.Access.credential)
    use = _blocking(access.Access.use)
    take = _blocking(access.Access.take)
    ticket = _blocking(access.Access.ticket)
    redeem = _blocking(access.Access.redeem)
    note = _blocking(access.Access.note)
    audit = _blocking(access.Access.audit)


class Metrics(Facade[metrics.Metrics]):
    """Series of numbers, kept by count and by time, and what the board itself measures."""

    record = _blocking(metrics.Metrics.record)
    record_many = _blocking(metrics.Metrics.record_many)
    record_training = _blocking(metrics.Metrics.record_training)
    record_training_many = _blocking(metrics.Metrics.record_training_many)
    configure = _blocking(metrics.Metrics.configure)
    clear = _blocking(metrics.Metrics.clear)
    series = _blocking(metrics.Metrics.series)
    recent = _blocking(metrics.Metrics.recent)
    range = _blocking(metrics.Metrics.range)
    moving_average = _blocking(metrics.Metrics.moving_average)
    percentiles = _blocking(metrics.Metrics.percentiles)
    downsample = _blocking(metrics.Metrics.downsample)
    top = _blocking(metrics.Metrics.top)
    training = _blocking(metrics.Metrics.training)
    training_average = _blocking(metrics.Metrics.training_average)
    history = _blocking(metrics.Metrics.history)
    snapshot = _blocking(metrics.Metrics.snapshot)
    sweep = _blocking(metrics.Metrics.sweep)
    prometheus = _blocking(metrics.Metrics.prometheus)


class Locks(Facade[locking.Locks]):
    """The locks of a namespace."""

    acquire = _blocking(locking.Locks.acquire)
    renew = _blocking(locking.Locks.renew)
    release = _blocking(locking.Locks.release)
    release_all = _blocking(locking.Locks.release_all)
    force_release = _blocking(locking.Locks.force_release)
    get = _blocking(locking.Locks.get)
    list = _blocking(locking.Locks.list)
    waits = _blocking(locking.Locks.waits)
    graph = _blocking(locking.Locks.graph)
    incidents = _blocking(locking.Locks.incidents)
    why = _blocking(locking.Locks.why)
    check = _blocking(locking.Locks.check)
    sweep = _blocking(locking.Locks.sweep)

    @contextmanager
    def hold(  # noqa: D102, given below
        self,
        *resources: str,
        owner: Any = None,
        mode: LockMode = "exclusive",
        limit: int | None = None,
        wait: float = WAIT_DEFAULT,
        lease: float = LEASE_DEFAULT,
        priority: int | str = 0,
        agent: str = "",
    ) -> Iterator[Lock]:
        hold = self._inner.hold(
            *resources,
            owner=owner,
            mode=mode,
            limit=limit,
            wait=wait,
            lease=lease,
            priority=priority,
            agent=agent,
        )
        lock = self._portal.run(hold.begin())
        is_whole = False
        try:
            yield lock
            is_whole = True
        finally:
            loss = self._portal.run(hold.end())
            if loss is not None and is_whole:
                raise loss

    hold.__doc__ = locking.Locks.hold.__doc__


class Messages(Facade[messaging.Messages]):
    """Messages between the agents of a namespace: durable, acknowledged, in order."""

    # A field named `self` would be taken for the service; no message has one.
    request = _blocking(messaging.Messages.request)  # type: ignore[arg-type]
    wait_reply = _blocking(messaging.Messages.wait_reply)
    reply_of = _blocking(messaging.Messages.reply_of)
    listen = _iterating(messaging.Messages.listen)
    serve = _blocking(messaging.Messages.serve)
    send = _blocking(messaging.Messages.send)  # type: ignore[arg-type]
    send_many = _blocking(messaging.Messages.send_many)
    publish = _blocking(messaging.Messages.publish)  # type: ignore[arg-type]
    send_request = _blocking(messaging.Messages.send_request)  # type: ignore[arg-type]
    broadcast = _blocking(messaging.Messages.broadcast)  # type: ignore[arg-type]
    take = _blocking(messaging.Messages.take)
    acknowledge = _blocking(messaging.Messages.acknowledge)
    acknowledge_many = _blocking(messaging.Messages.acknowledge_many)
    acknowledge_ids = _blocking(messaging.Messages.acknowledge_ids)
    release_ids = _blocking(messaging.Messages.release_ids)
    renew_ids = _blocking(messaging.Messages.renew_ids)
    mark_read = _blocking(messaging.Messages.mark_read)
    release = _blocking(messaging.Messages.release)
    release_many = _blocking(messaging.Messages.release_many)
    renew = _blocking(messaging.Messages.renew)
    reply = _blocking(messaging.Messages.reply)
    reply_to = _blocking(messaging.Messages.reply_to)
    hear = _blocking(messaging.Messages.hear)
    heard = _blocking(messaging.Messages.heard)
    sweep = _blocking(messaging.Messages.sweep)
    get = _blocking(messaging.Messages.get)
    copies = _blocking(messaging.Messages.copies)
    why = _blocking(messaging.Messages.why)
    inbox = _blocking(messaging.Messages.inbox)
    history = _blocking(messaging.Messages.history)
    unread = _blocking(messaging.Messages.unread)
    counts = _blocking(messaging.Messages.counts)
    inboxes = _blocking(messaging.Messages.inboxes)
    requeue = _blocking(messaging.Messages.requeue)
    purge = _blocking(messaging.Messages.purge)
    set_limit = _blocking(messaging.Messages.set_limit)
    subscribe = _blocking(messaging.Messages.subscribe)
    unsubscribe = _blocking(messaging.Messages.unsubscribe)
    subscriptions = _blocking(messaging.Messages.subscriptions)
    subscribers = _blocking(messaging.Messages.subscribers)
    add_peer = _blocking(messaging.Messages.add_peer)
    remove_peer = _blocking(messaging.Messages.remove_peer)
    peers = _blocking(messaging.Messages.peers)
    set_hierarchy = _blocking(messaging.Messages.set_hierarchy)
    add_subordinate = _blocking(messaging.Messages.add_subordinate)
    remove_subordinate = _blocking(messaging.Messages.remove_subordinate)
    subordinates = _blocking(messaging.Messages.subordinates)


class Runs(Facade[runs.Runs]):
    """The runs of a namespace's teams."""

    start = _blocking(runs.Runs.start)
    get = _blocking(runs.Runs.get)
    list = _blocking(runs.Runs.list)
    report = _blocking(runs.Runs.report)
    cancel = _blocking(runs.Runs.cancel)
    wind_up = _blocking(runs.Runs.wind_up)
    fail = _blocking(runs.Runs.fail)
    pause = _blocking(runs.Runs.pause)
    resume = _blocking(runs.Runs.resume)
    retry = _blocking(runs.Runs.retry)
    ensure_lead = _blocking(runs.Runs.ensure_lead)
    delete = _blocking(runs.Runs.delete)
    sweep = _blocking(runs.Runs.sweep)
    events = _iterating(runs.Runs.events)
    wait = _blocking(runs.Runs.wait)
    result = _blocking(runs.Runs.result)


class Agents(Facade[agents.Agents]):
    """The agents of a namespace: registered, heard, drained, found, swept."""

    # A field named `self` would be taken for the service; no agent has one.
    register = _blocking(agents.Agents.register)  # type: ignore[arg-type]
    heartbeat = _blocking(agents.Agents.heartbeat)
    heartbeat_many = _blocking(agents.Agents.heartbeat_many)
    report_load = _blocking(agents.Agents.report_load)
    drain = _blocking(agents.Agents.drain)
    set_status = _blocking(agents.Agents.set_status)
    leave = _blocking(agents.Agents.leave)
    deregister = _blocking(agents.Agents.deregister)
    census = _blocking(agents.Agents.census)
    get = _blocking(agents.Agents.get)
    discover = _blocking(agents.Agents.discover)
    documents = _blocking(agents.Agents.documents)
    list = _blocking(agents.Agents.list)
    tasks = _blocking(agents.Agents.tasks)
    counts = _blocking(agents.Agents.counts)
    sweep = _blocking(agents.Agents.sweep)


class Events(Facade[events.Events]):
    """Reads one namespace's stream. Entries are numbered without a gap."""

    cursor = _blocking(events.Events.cursor)
    cursor_at = _blocking(events.Events.cursor_at)
    read = _blocking(events.Events.read)
    follow = _iterating(events.Events.follow)


class BoardView(Facade[app.BoardView]):
    """One board: its tasks and dead letters, without naming it in each call."""

    def __init__(self, portal: Portal, inner: app.BoardView) -> None:
        super().__init__(portal, inner)
        self.name = inner.name
        self.tasks = Tasks(portal, inner.tasks)
        self.dead_letters = DeadLetters(portal, inner.dead_letters)


class Callboard:
    """A connection to one namespace, used as ``with callboard.sync.connect() as cb:``.

    Attributes:
        tasks: The tasks of the default board; ``board(name).tasks`` for others.
        dead_letters: Its dead letters.
        boards: All boards.
        agents: The registry.
        events: The event stream.
        locks: Locks on resources, with deadlocks found as they close.
        teams: Teams of agents, by name and version.
        recurring: Tasks that are submitted by the clock.
        flow: How many at once, how often and in which turns, by the keys of tasks.
        runs: What they were asked to do.
        scheduler: Which agent is given which task, and why.
        errors: What went wrong: logged, counted, grouped.
        metrics: Series of numbers, and what the boards themselves measure.
        context: What agents share: fields of projects, and what each agent is doing.
        conflicts: Who wants the same thing, and how it was decided.
        access: API keys and the audit log, of all namespaces of the engine.
        breakers: Circuit breakers: which components may be called, and which not for now.
        messages: What agents write to each other: inboxes, topics, requests, broadcasts.
        facts: What the engine is, and how far its promises go.
    """

    tasks: Tasks
    dead_letters: DeadLetters
    boards: Boards
    agents: Agents
    events: Events
    locks: Locks
    teams: Teams
    flow: Flow
    recurring: Recurrences
    runs: Runs
    scheduler: Scheduler
    errors: Errors
    metrics: Metrics
    context: Contexts
    conflicts: Conflicts
    access: Access
    breakers: Breakers
    messages: Messages
    facts: EngineFacts

    def __init__(self, inner: app.Callboard) -> None:
        self._inner = inner
        self._portal: Portal | None = None

    def open(self) -> Self:
        """Start or find the engine, check it, and connect. Raises as ``connect`` says."""
        if self._portal is not None:
            return self
        portal = self._portal = Portal()
        try:
            portal.run(self._inner.open())
        except BaseException:
            self.close()
            raise
        self.facts = self._inner.facts
        self.boards = Boards(portal, self._inner.boards)
        self.agents = Agents(portal, self._inner.agents)
        self.events = Events(portal, self._inner.events)
        self.locks = Locks(portal, self._inner.locks)
        self.teams = Teams(portal, self._inner.teams)
        self.flow = Flow(portal, self._inner.flow)
        self.recurring = Recurrences(portal, self._inner.recurring)
        self.runs = Runs(portal, self._inner.runs)
        self.messages = Messages(portal, self._inner.messages)
        self.scheduler = Scheduler(portal, self._inner.scheduler)
        self.errors = Errors(portal, self._inner.errors)
        self.metrics = Metrics(portal, self._inner.metrics)
        self.context = Contexts(portal, self._inner.context)
        self.conflicts = Conflicts(portal, self._inner.conflicts)
        self.access = Access(portal, self._inner.access)
        self.breakers = Breakers(portal, self._inner.breakers)
        view = self.board(DEFAULT_BOARD)
        self.tasks, self.dead_letters = view.tasks, view.dead_letters
        return self

    def board(self, name: str) -> BoardView:
        """The view of one board, which need not exist yet."""
        if self._portal is None:
            raise EngineError("This connection is not open: with callboard.sync.connect() as cb.")
        return BoardView(self._portal, self._inner.board(name))

    @property
    def is_connected(self) -> bool:
        """Whether calls flow just now; a lost connection comes back by itself."""
        return self._inner.is_connected

    @property
    def choice(self) -> EngineChoice:
        """Which engine, and why that one."""
        return self._inner.choice

    @property
    def observers(self) -> Observers:
        """Called on what this process does, on the portal's thread."""
        return self._inner.observers

    def close(self) -> None:
        """Close the connection; the last user of an embedded engine stops it.

        Closing again, or in a forked child, does nothing.
        """
        portal = self._portal
        if portal is None or portal.is_closed or portal.is_foreign:
            return
        try:
            portal.run(self._inner.close())
        finally:
            portal.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<sync {self._inner!r}>"


def _connecting(connect: Callable[P, app.Callboard]) -> Callable[P, Callboard]:
    def call(*args: P.args, **kwargs: P.kwargs) -> Callboard:
        return Callboard(connect(*args, **kwargs))

    update_wrapper(call, connect)
    call.__doc__ = (connect.__doc__ or "").replace("``async with``", "``with``", 1)
    return call


connect = _connecting(asynchronous.connect)
