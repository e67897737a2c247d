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

import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import update_wrapper, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

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
from callboard.sdk.portal import Facade, Portal, blocking, iterating, own_of
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


def _handles(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, tasks.TaskHandle]],
) -> Callable[Concatenate[Facade[T], P], TaskHandle]:
    """The method without ``async``, its handle too."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle:
        inner = self._portal.run(own_of(method, self._inner)(*args, **kwargs))
        return TaskHandle(self._portal, inner)

    return cast("Callable[Concatenate[Facade[T], P], TaskHandle]", update_wrapper(call, method))


def _handle_lists(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, list[tasks.TaskHandle]]],
) -> Callable[Concatenate[Facade[T], P], list[TaskHandle]]:
    """The method without ``async``, its handles too."""

    def call(self: Facade[T], /, *args: P.args, **kwargs: P.kwargs) -> list[TaskHandle]:
        inner = self._portal.run(own_of(method, self._inner)(*args, **kwargs))
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

    result = blocking(tasks.TaskHandle.result)
    task = blocking(tasks.TaskHandle.task)


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
    get = blocking(app.BoardTasks.get)
    get_many = blocking(app.BoardTasks.get_many)
    outcome = blocking(app.BoardTasks.outcome)
    list = blocking(app.BoardTasks.list)
    iterate = iterating(app.BoardTasks.iterate)
    result = blocking(app.BoardTasks.result)
    wait = blocking(app.BoardTasks.wait)
    cancel = blocking(app.BoardTasks.cancel)
    cancel_many = blocking(app.BoardTasks.cancel_many)
    retry = blocking(app.BoardTasks.retry)
    retry_many = blocking(app.BoardTasks.retry_many)
    reprioritise = blocking(app.BoardTasks.reprioritise)
    purge = blocking(app.BoardTasks.purge)
    note = blocking(app.BoardTasks.note)
    notes = blocking(app.BoardTasks.notes)
    attempts = blocking(app.BoardTasks.attempts)
    answer = blocking(app.BoardTasks.answer)
    why = blocking(app.BoardTasks.why)
    graph = blocking(app.BoardTasks.graph)
    lanes = blocking(app.BoardTasks.lanes)
    queues = blocking(app.BoardTasks.queues)
    clear = blocking(app.BoardTasks.clear)

    claim = blocking(app.BoardTasks.claim)
    take = blocking(app.BoardTasks.take)
    accept = blocking(app.BoardTasks.accept)
    complete = blocking(app.BoardTasks.complete)
    complete_many = blocking(app.BoardTasks.complete_many)
    fail = blocking(app.BoardTasks.fail)
    fail_many = blocking(app.BoardTasks.fail_many)
    complete_and_claim = blocking(app.BoardTasks.complete_and_claim)
    start = blocking(app.BoardTasks.start)
    start_many = blocking(app.BoardTasks.start_many)
    renew = blocking(app.BoardTasks.renew)
    renew_many = blocking(app.BoardTasks.renew_many)
    release = blocking(app.BoardTasks.release)
    release_many = blocking(app.BoardTasks.release_many)
    handoff = blocking(app.BoardTasks.handoff)
    progress = blocking(app.BoardTasks.progress)
    partial = blocking(app.BoardTasks.partial)
    tell = blocking(app.BoardTasks.tell)
    split = blocking(app.BoardTasks.split)
    ask = blocking(app.BoardTasks.ask)
    confirm_cancel = blocking(app.BoardTasks.confirm_cancel)
    park = blocking(app.BoardTasks.park)
    unpark = blocking(app.BoardTasks.unpark)


class DeadLetters(Facade[dead_letters.DeadLetters]):
    """The dead letters of one board."""

    @property
    def board(self) -> str:
        """The board's name."""
        return self._inner.board

    list = blocking(dead_letters.DeadLetters.list)
    count = blocking(dead_letters.DeadLetters.count)
    get = blocking(dead_letters.DeadLetters.get)
    requeue = blocking(dead_letters.DeadLetters.requeue)
    requeue_many = blocking(dead_letters.DeadLetters.requeue_many)
    purge = blocking(dead_letters.DeadLetters.purge)


class Boards(Facade[boards.Boards]):
    """A board comes into being with its first task, or its first setting."""

    list = blocking(boards.Boards.list)
    get = blocking(boards.Boards.get)
    configure = blocking(boards.Boards.configure)
    remove = blocking(boards.Boards.remove)
    pause = blocking(boards.Boards.pause)
    resume = blocking(boards.Boards.resume)
    pause_all = blocking(boards.Boards.pause_all)
    resume_all = blocking(boards.Boards.resume_all)
    configure_namespace = blocking(boards.Boards.configure_namespace)


class Flow(Facade[flow.Flow]):
    """What is set for the keys that tasks are submitted with, over all boards."""

    limit = blocking(flow.Flow.limit)
    weight = blocking(flow.Flow.weight)
    pause = blocking(flow.Flow.pause)
    resume = blocking(flow.Flow.resume)
    remove = blocking(flow.Flow.remove)
    get = blocking(flow.Flow.get)
    get_many = blocking(flow.Flow.get_many)
    list = blocking(flow.Flow.list)
    sweep = blocking(flow.Flow.sweep)


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

    configure = blocking(breakers.Breakers.configure)
    remove = blocking(breakers.Breakers.remove)
    isolate = blocking(breakers.Breakers.isolate)
    force = blocking(breakers.Breakers.force)
    reset = blocking(breakers.Breakers.reset)
    reset_all = blocking(breakers.Breakers.reset_all)
    get = blocking(breakers.Breakers.get)
    metrics = blocking(breakers.Breakers.metrics)
    list = blocking(breakers.Breakers.list)
    admit = blocking(breakers.Breakers.admit)
    record = blocking(breakers.Breakers.record)
    renew = blocking(breakers.Breakers.renew)
    sweep = blocking(breakers.Breakers.sweep)

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

    create = blocking(recurring.Recurrences.create)
    get = blocking(recurring.Recurrences.get)
    list = blocking(recurring.Recurrences.list)
    next = blocking(recurring.Recurrences.next)
    pause = blocking(recurring.Recurrences.pause)
    resume = blocking(recurring.Recurrences.resume)
    delete = blocking(recurring.Recurrences.delete)
    trigger = blocking(recurring.Recurrences.trigger)
    sweep = blocking(recurring.Recurrences.sweep)


class Teams(Facade[teams.Teams]):
    """Keeps the 50 newest versions of each team; who starts a run names one of them."""

    add = blocking(teams.Teams.add)
    get = blocking(teams.Teams.get)
    list = blocking(teams.Teams.list)
    versions = blocking(teams.Teams.versions)
    remove = blocking(teams.Teams.remove)


class Contexts(Facade[context.Contexts]):
    """The contexts of a namespace, and what its agents say they are doing."""

    set = blocking(context.Contexts.set)
    increment = blocking(context.Contexts.increment)
    get = blocking(context.Contexts.get)
    get_many = blocking(context.Contexts.get_many)
    list = blocking(context.Contexts.list)
    delete = blocking(context.Contexts.delete)
    watch = iterating(context.Contexts.watch)
    set_state = blocking(context.Contexts.set_state)
    states = blocking(context.Contexts.states)
    available = blocking(context.Contexts.available)
    sweep = blocking(context.Contexts.sweep)


class Errors(Facade[errors.Errors]):
    """The errors of a namespace: recorded, classified, grouped by what they have in common."""

    record = blocking(errors.Errors.record)
    record_many = blocking(errors.Errors.record_many)
    list = blocking(errors.Errors.list)
    groups = blocking(errors.Errors.groups)
    group = blocking(errors.Errors.group)
    counters = blocking(errors.Errors.counters)
    correlations = blocking(errors.Errors.correlations)
    details = blocking(errors.Errors.details)
    resolve = blocking(errors.Errors.resolve)
    ignore = blocking(errors.Errors.ignore)
    reopen = blocking(errors.Errors.reopen)
    clear = blocking(errors.Errors.clear)
    configure = blocking(errors.Errors.configure)

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

    strategy = blocking(scheduler.Scheduler.strategy)
    set_strategy = blocking(scheduler.Scheduler.set_strategy)
    assign = blocking(scheduler.Scheduler.assign)
    decisions = blocking(scheduler.Scheduler.decisions)
    why_this_agent = blocking(scheduler.Scheduler.why_this_agent)
    load = blocking(scheduler.Scheduler.load)
    distribution = blocking(scheduler.Scheduler.distribution)

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

    report = blocking(conflicts.Conflicts.report)
    get = blocking(conflicts.Conflicts.get)
    active = blocking(conflicts.Conflicts.active)
    history = blocking(conflicts.Conflicts.history)
    pending = blocking(conflicts.Conflicts.pending)
    resolve = blocking(conflicts.Conflicts.resolve)
    decide = blocking(conflicts.Conflicts.decide)
    refer = blocking(conflicts.Conflicts.refer)
    open_vote = blocking(conflicts.Conflicts.open_vote)
    vote = blocking(conflicts.Conflicts.vote)
    cleanup = blocking(conflicts.Conflicts.cleanup)
    stats = blocking(conflicts.Conflicts.stats)
    sweep = blocking(conflicts.Conflicts.sweep)


class Access(Facade[access.Access]):
    """The API keys of an engine, and the audit log."""

    create = blocking(access.Access.create)
    list = blocking(access.Access.list)
    get = blocking(access.Access.get)
    revoke = blocking(access.Access.revoke)
    credential = blocking(access.Access.credential)
    use = blocking(access.Access.use)
    take = blocking(access.Access.take)
    ticket = blocking(access.Access.ticket)
    redeem = blocking(access.Access.redeem)
    note = blocking(access.Access.note)
    audit = blocking(access.Access.audit)


class Metrics(Facade[metrics.Metrics]):
    """Series of numbers, kept by count and by time, and what the board itself measures."""

    record = blocking(metrics.Metrics.record)
    record_many = blocking(metrics.Metrics.record_many)
    record_training = blocking(metrics.Metrics.record_training)
    record_training_many = blocking(metrics.Metrics.record_training_many)
    configure = blocking(metrics.Metrics.configure)
    clear = blocking(metrics.Metrics.clear)
    series = blocking(metrics.Metrics.series)
    recent = blocking(metrics.Metrics.recent)
    range = blocking(metrics.Metrics.range)
    moving_average = blocking(metrics.Metrics.moving_average)
    percentiles = blocking(metrics.Metrics.percentiles)
    downsample = blocking(metrics.Metrics.downsample)
    top = blocking(metrics.Metrics.top)
    training = blocking(metrics.Metrics.training)
    training_average = blocking(metrics.Metrics.training_average)
    history = blocking(metrics.Metrics.history)
    snapshot = blocking(metrics.Metrics.snapshot)
    sweep = blocking(metrics.Metrics.sweep)
    prometheus = blocking(metrics.Metrics.prometheus)


class Locks(Facade[locking.Locks]):
    """The locks of a namespace."""

    acquire = blocking(locking.Locks.acquire)
    renew = blocking(locking.Locks.renew)
    release = blocking(locking.Locks.release)
    release_all = blocking(locking.Locks.release_all)
    force_release = blocking(locking.Locks.force_release)
    get = blocking(locking.Locks.get)
    list = blocking(locking.Locks.list)
    waits = blocking(locking.Locks.waits)
    graph = blocking(locking.Locks.graph)
    incidents = blocking(locking.Locks.incidents)
    why = blocking(locking.Locks.why)
    check = blocking(locking.Locks.check)
    sweep = blocking(locking.Locks.sweep)

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
    request = blocking(messaging.Messages.request)  # type: ignore[arg-type]
    wait_reply = blocking(messaging.Messages.wait_reply)
    reply_of = blocking(messaging.Messages.reply_of)
    listen = iterating(messaging.Messages.listen)
    serve = blocking(messaging.Messages.serve)
    send = blocking(messaging.Messages.send)  # type: ignore[arg-type]
    send_many = blocking(messaging.Messages.send_many)
    publish = blocking(messaging.Messages.publish)  # type: ignore[arg-type]
    send_request = blocking(messaging.Messages.send_request)  # type: ignore[arg-type]
    broadcast = blocking(messaging.Messages.broadcast)  # type: ignore[arg-type]
    take = blocking(messaging.Messages.take)
    acknowledge = blocking(messaging.Messages.acknowledge)
    acknowledge_many = blocking(messaging.Messages.acknowledge_many)
    acknowledge_ids = blocking(messaging.Messages.acknowledge_ids)
    release_ids = blocking(messaging.Messages.release_ids)
    renew_ids = blocking(messaging.Messages.renew_ids)
    mark_read = blocking(messaging.Messages.mark_read)
    release = blocking(messaging.Messages.release)
    release_many = blocking(messaging.Messages.release_many)
    renew = blocking(messaging.Messages.renew)
    reply = blocking(messaging.Messages.reply)
    reply_to = blocking(messaging.Messages.reply_to)
    hear = blocking(messaging.Messages.hear)
    heard = blocking(messaging.Messages.heard)
    sweep = blocking(messaging.Messages.sweep)
    get = blocking(messaging.Messages.get)
    copies = blocking(messaging.Messages.copies)
    why = blocking(messaging.Messages.why)
    inbox = blocking(messaging.Messages.inbox)
    history = blocking(messaging.Messages.history)
    unread = blocking(messaging.Messages.unread)
    counts = blocking(messaging.Messages.counts)
    inboxes = blocking(messaging.Messages.inboxes)
    requeue = blocking(messaging.Messages.requeue)
    purge = blocking(messaging.Messages.purge)
    set_limit = blocking(messaging.Messages.set_limit)
    subscribe = blocking(messaging.Messages.subscribe)
    unsubscribe = blocking(messaging.Messages.unsubscribe)
    subscriptions = blocking(messaging.Messages.subscriptions)
    subscribers = blocking(messaging.Messages.subscribers)
    add_peer = blocking(messaging.Messages.add_peer)
    remove_peer = blocking(messaging.Messages.remove_peer)
    peers = blocking(messaging.Messages.peers)
    set_hierarchy = blocking(messaging.Messages.set_hierarchy)
    add_subordinate = blocking(messaging.Messages.add_subordinate)
    remove_subordinate = blocking(messaging.Messages.remove_subordinate)
    subordinates = blocking(messaging.Messages.subordinates)


class Runs(Facade[runs.Runs]):
    """The runs of a namespace's teams."""

    start = blocking(runs.Runs.start)
    get = blocking(runs.Runs.get)
    list = blocking(runs.Runs.list)
    report = blocking(runs.Runs.report)
    cancel = blocking(runs.Runs.cancel)
    wind_up = blocking(runs.Runs.wind_up)
    fail = blocking(runs.Runs.fail)
    pause = blocking(runs.Runs.pause)
    resume = blocking(runs.Runs.resume)
    retry = blocking(runs.Runs.retry)
    ensure_lead = blocking(runs.Runs.ensure_lead)
    delete = blocking(runs.Runs.delete)
    sweep = blocking(runs.Runs.sweep)
    events = iterating(runs.Runs.events)
    wait = blocking(runs.Runs.wait)
    result = blocking(runs.Runs.result)


class Agents(Facade[agents.Agents]):
    """The agents of a namespace: registered, heard, drained, found, swept."""

    # A field named `self` would be taken for the service; no agent has one.
    register = blocking(agents.Agents.register)  # type: ignore[arg-type]
    heartbeat = blocking(agents.Agents.heartbeat)
    heartbeat_many = blocking(agents.Agents.heartbeat_many)
    report_load = blocking(agents.Agents.report_load)
    drain = blocking(agents.Agents.drain)
    set_status = blocking(agents.Agents.set_status)
    leave = blocking(agents.Agents.leave)
    deregister = blocking(agents.Agents.deregister)
    census = blocking(agents.Agents.census)
    get = blocking(agents.Agents.get)
    discover = blocking(agents.Agents.discover)
    documents = blocking(agents.Agents.documents)
    list = blocking(agents.Agents.list)
    tasks = blocking(agents.Agents.tasks)
    counts = blocking(agents.Agents.counts)
    sweep = blocking(agents.Agents.sweep)


class Events(Facade[events.Events]):
    """Reads one namespace's stream. Entries are numbered without a gap."""

    cursor = blocking(events.Events.cursor)
    cursor_at = blocking(events.Events.cursor_at)
    read = blocking(events.Events.read)
    follow = iterating(events.Events.follow)


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
