"""The front door: ``connect``, and the services of one namespace behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from callboard.config import ACCESS_NAMESPACE, EngineChoice, check_namespace, resolve_engine
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.names import check_name
from callboard.engine.connection import Connection, LinkCall
from callboard.engine.embedded import EmbeddedEngine
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys
from callboard.engine.namespace import Namespace
from callboard.engine.outcomes import Unread
from callboard.engine.probe import EngineFacts, probe
from callboard.engine.reserved import ReservedNamespace
from callboard.exceptions import OutcomeUnknown
from callboard.janitor import Janitor
from callboard.locking import Locks
from callboard.messaging import Messages
from callboard.observer import Observers
from callboard.runs import Runs
from callboard.services.access import Access
from callboard.services.agents import Agents
from callboard.services.boards import Boards
from callboard.services.breakers import Breakers
from callboard.services.claims import Holding
from callboard.services.conflicts import Conflicts
from callboard.services.context import Contexts
from callboard.services.dead_letters import DeadLetters
from callboard.services.errors import Errors
from callboard.services.events import Events
from callboard.services.flow import Flow
from callboard.services.metrics import Metrics
from callboard.services.recurring import Recurrences
from callboard.services.runs import RunRecords
from callboard.services.scheduler import Scheduler
from callboard.services.tasks import Tasks
from callboard.services.teams import Teams
from callboard.waiting import EndWatch

P = ParamSpec("P")
S = TypeVar("S")

PROBES_MAX = 3


class Make(Protocol):
    """What makes the services of a connection, of their classes."""

    def __call__(self, service: Callable[P, S], /) -> Callable[P, S]:
        """Make such services by calling what this returns."""


def _itself(service: Callable[P, S], /) -> Callable[P, S]:
    return service


class BoardTasks(Tasks, Holding):
    """All operations on one board's tasks: those of its users and those of its agents."""

    def __init__(self, namespace: Namespace, board: str, ends: EndWatch) -> None:
        Tasks.__init__(self, namespace, board, ends.wait)


class BoardView:
    """One board: its tasks and dead letters, without naming it in each call."""

    def __init__(
        self, namespace: Namespace, name: str, ends: EndWatch, make: Make | None = None
    ) -> None:
        make = make or _itself
        self.name = check_name("board", name)
        self.tasks = make(BoardTasks)(namespace, name, ends)
        self.dead_letters = make(DeadLetters)(namespace, self.tasks)


class Callboard:
    """A connection to one namespace, used as ``async with callboard.connect() as cb:``.

    Attributes:
        tasks: The tasks of the default board; ``board(name).tasks`` for others.
        dead_letters: Its dead letters.
        boards: All boards.
        agents: The registry.
        events: The event stream.
        locks: Locks on resources, with deadlocks found as they close.
        teams: Teams of agents, by name and version.
        runs: What they were asked to do.
        scheduler: Which agent is given which task, and why.
        recurring: Tasks that are submitted by the clock.
        flow: How many at once, how often and in which turns, by the keys of tasks.
        errors: What went wrong: logged, counted, grouped.
        metrics: Series of numbers, and what the boards themselves measure.
        context: What agents share: fields of projects, and what each agent is doing.
        breakers: Circuit breakers: which components may be called, and which not for now.
        messages: What agents write to each other: inboxes, topics, requests, broadcasts.
        conflicts: Who wants the same thing, and how it was decided.
        access: API keys and the audit log, of all namespaces of the engine.
        observers: Called on what this process does.
        choice: Which engine, and why that one.
    """

    boards: Boards
    agents: Agents
    events: Events
    locks: Locks
    teams: Teams
    runs: Runs
    scheduler: Scheduler
    flow: Flow
    recurring: Recurrences
    errors: Errors
    metrics: Metrics
    context: Contexts
    conflicts: Conflicts
    breakers: Breakers
    messages: Messages
    access: Access
    tasks: BoardTasks
    dead_letters: DeadLetters
    facts: EngineFacts

    def __init__(
        self,
        choice: EngineChoice,
        namespace: str,
        *,
        durable: bool,
        adopt: bool,
        call_timeout: float,
        clock: Callable[[], int | None] | None,
        creates: bool = True,
    ) -> None:
        self.choice = choice
        self.observers = Observers()
        self._name = namespace
        self._durable = durable
        self._adopt = adopt
        self._call_timeout = call_timeout
        self._clock = clock
        self._creates = creates
        self._engine: EmbeddedEngine | None = None
        self._connection: Connection | None = None
        self._reserved: ReservedNamespace | None = None
        self._boards: dict[str, BoardView] = {}

    async def open(self) -> Self:
        """Start or find the engine, check it, and connect. Raises as ``connect`` says."""
        if self._connection is not None:
            return self
        keys = Keys(self._name)
        url = self.choice.url
        before_connect = None
        if self.choice.data_dir is not None:
            self._engine = await EmbeddedEngine.acquire(self.choice.data_dir, self._durable)
            url, before_connect = self._engine.url, self._bring_engine_back
        assert url is not None
        try:
            self._connection = await Connection.open(
                url,
                name=f"callboard-{os.getpid()}",
                route=keys.format,
                call_timeout=self._call_timeout,
                before_connect=before_connect,
            )
            functions = Functions(self._connection, keys.format, self._clock)
            self.namespace = Namespace(self._name, self._connection, functions, keys)
            self.facts = await self._probe_at_first()
            self._creates = True  # it is there, so it comes back where an engine lost it
            functions.reopen = self._reopen
            self._connection.on_reconnect.append(self._probe_again)
        except BaseException:
            await self.close()
            raise
        self._reserved = ReservedNamespace(
            ACCESS_NAMESPACE, self._connection, self._clock, call_timeout=self._call_timeout
        )
        self._assemble(self._reserved, _itself)
        return self

    def _assemble(self, reserved: ReservedNamespace, make: Make) -> None:
        """Make the services, all that a connection has."""
        self._make = make
        self.events = make(Events)(self.namespace)
        self.boards = make(Boards)(self.namespace)
        self.agents = make(Agents)(self.namespace)
        self.locks = make(Locks)(self.namespace)
        self.breakers = make(Breakers)(self.namespace, self.observers)
        self._ends = EndWatch(self.events, self._has_ended)
        self.errors = make(Errors)(self.namespace)
        self.metrics = make(Metrics)(self.namespace)
        view = self.board(DEFAULT_BOARD)
        self.tasks, self.dead_letters = view.tasks, view.dead_letters
        self.teams = make(Teams)(self.namespace)
        self.messages = make(Messages)(self.namespace, self.locks._victim)
        self.scheduler = make(Scheduler)(self.namespace)
        self.flow = make(Flow)(self.namespace)
        self.recurring = make(Recurrences)(self.namespace)
        self.context = make(Contexts)(self.namespace, self.events.follow, self.events.cursor)
        self.conflicts = make(Conflicts)(self.namespace)
        self.access = make(Access)(reserved)
        self.runs = make(Runs)(
            make(RunRecords)(self.namespace),
            self.teams,
            self.boards,
            self.events,
            lambda board: self.board(board).tasks,
        )

    def board(self, name: str) -> BoardView:
        """The view of one board, which need not exist yet."""
        view = self._boards.get(name)
        if view is None:
            view = self._boards[name] = BoardView(self.namespace, name, self._ends, self._make)
        return view

    def janitor(self, *, interval: float = 1.0) -> Janitor:
        """A janitor of this namespace, not yet started."""
        return Janitor(
            self.namespace,
            self.agents,
            {
                "runs": self.runs.sweep,
                "locks": self.locks.sweep,
                "messages": self.messages.sweep,
                "flow": self.flow.sweep,
                "recurring": self.recurring.sweep,
                "context": self.context.sweep,
                "conflicts": self.conflicts.sweep,
                "breakers": self.breakers.sweep,
                "metrics": self.metrics.sweep,
            },
            interval=interval,
        )

    @property
    def is_connected(self) -> bool:
        """Whether calls flow just now; a lost connection comes back by itself."""
        return self._connection is not None and self._connection.is_connected

    async def close(self) -> None:
        """Close the connection; the last user of an embedded engine stops it."""
        connection, self._connection = self._connection, None
        engine, self._engine = self._engine, None
        reserved, self._reserved = self._reserved, None
        if hasattr(self, "_ends"):
            await self._ends.close()
            await self.locks.keeper.close()
        if reserved is not None:
            await reserved.close()
        if connection is not None:
            await connection.close()
        if engine is not None:
            await engine.release()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _bring_engine_back(self) -> None:
        if self._engine is not None:
            await self._engine.ensure_running()

    async def _probe(self, call: LinkCall) -> EngineFacts:
        async def functions_call(name: str, *arguments: Any) -> list[Any]:
            return await self.namespace.functions.call_on(call, name, *arguments)

        keys, creates = self.namespace.keys, self._creates
        return await probe(call, keys, functions_call, adopt=self._adopt, creates=creates)

    async def _probe_at_first(self) -> EngineFacts:
        """Probe, again where the engine went away meanwhile: looking twice does no harm."""
        assert self._connection is not None
        for _ in range(PROBES_MAX - 1):
            try:
                return await self._probe(self._connection.call)
            except (OutcomeUnknown, Unread):
                continue
        return await self._probe(self._connection.call)

    async def _reopen(self) -> None:
        if self._connection is not None:
            self.facts = await self._probe(self._connection.call)

    async def _probe_again(self, call: LinkCall) -> None:
        self.facts = await self._probe(call)

    async def _has_ended(self, board: str, task: str) -> bool:
        return (await self.board(board).tasks.outcome(task)).is_finished

    def __repr__(self) -> str:
        return f"<Callboard {self._name or 'default'} on {self.choice}>"


def connect(
    url: str | None = None,
    *,
    namespace: str | None = None,
    data: str | os.PathLike[str] | None = None,
    durable: bool = False,
    adopt: bool = False,
    call_timeout: float = 10.0,
    clock: Callable[[], int | None] | None = None,
) -> Callboard:
    """Choose the engine; ``async with`` connects and closes.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``,
            ``redis+cluster://``; else ``CALLBOARD_URL``; else the embedded engine.
        namespace: Keeps groups of agents apart; the default one has no name.
        data: Data directory of the embedded engine; else ``CALLBOARD_DATA``, else the nearest
            ``.callboard/`` from here upward, else one made here.
        durable: The embedded engine writes to disk before it answers.
        adopt: Use a database that holds other keys and none of ours.
        call_timeout: Seconds after which a call gives up.
        clock: Moves the engine's time in tests: returns µs, or None for the engine's own.

    Raises:
        ConfigError: The URL, name or directory cannot be used.

    On opening: EngineStartFailed, EngineUnavailable, EngineUnsuitable, ForeignDatabase,
    NewerFormat.
    """
    return Callboard(
        resolve_engine(url, data),
        check_namespace(namespace),
        durable=durable,
        adopt=adopt,
        call_timeout=call_timeout,
        clock=clock,
    )
