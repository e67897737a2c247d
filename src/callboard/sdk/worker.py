"""A worker: one process of an agent, which claims tasks and runs their handlers.

What one run of it does stands in ``shift``, and each part of that in its own room:
``job`` runs a handler, ``slots`` says how many at once, ``exchange`` hands in outcomes and
claims, ``keeping`` renews and listens.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from callboard.app import Callboard
from callboard.domain import task as tasks
from callboard.domain.names import check_name
from callboard.exceptions import ConfigError, InvalidArgument
from callboard.observer import Observers
from callboard.sdk.handlers import Handler, make_handler
from callboard.sdk.shift import Shift, host_name

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("callboard.worker")


class Worker:
    """Claims tasks of one board for an agent and runs their handlers.

        worker = Worker(cb, agent="mira", concurrency=10)

        @worker.handles("greet")
        async def greet(payload: Greeting) -> str:
            return f"Hello {payload.name}"

        await worker.run()

    Args:
        cb: An open connection; may be given to ``run`` instead.
        agent: The logical agent; many processes may share it. The host's name where not given.
        capabilities, services, labels, agent_type: What it offers; tasks ask for these.
        concurrency: Handlers that run at once, 1 to 1,000.
        board: Whose tasks it does.
        lease: Seconds without a sign of life after which its tasks are given to others.
        prefetch: Tasks claimed ahead of a free slot; by measured duration where not given.
        drain: Seconds that running handlers get to finish when the worker stops.
        weight, priority: What strategies go by that choose among agents: see ``AgentSpec``.

    Attributes:
        was_drained: The last run ended because the agent was asked to drain.
    """

    def __init__(
        self,
        cb: Callboard | None = None,
        *,
        agent: str | None = None,
        capabilities: Iterable[str] = (),
        services: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        agent_type: str = "worker",
        concurrency: int = 10,
        board: str = "default",
        lease: float = tasks.LEASE_DEFAULT,
        prefetch: int | None = None,
        drain: float = 30.0,
        weight: float = 1.0,
        priority: int = 0,
    ) -> None:
        self.agent = check_name("agent", agent if agent is not None else host_name())
        self.instance = f"{os.getpid():x}-{secrets.token_hex(4)}"
        self.capabilities = tuple(capabilities)
        self.services = tuple(services)
        self.labels = dict(labels or {})
        self.agent_type = agent_type
        self.concurrency = _whole("concurrency", concurrency, 1, 1_000)
        self.board = check_name("board", board)
        self.lease = lease
        tasks.check_seconds("lease", lease, tasks.LEASE_MIN, tasks.LEASE_MAX)
        self.prefetch = (
            None if prefetch is None else _whole("prefetch", prefetch, 0, tasks.BATCH_MAX)
        )
        self.drain = drain
        self.weight = weight
        self.priority = priority
        self.observers = Observers()
        self.handlers: dict[str, Handler] = {}
        self.was_drained = False
        self._cb = cb
        self._is_running = False

    def handles(self, kind: str, *, timeout: float | None = None) -> Callable[[F], F]:
        """Run tasks of *kind* with the decorated function, async or not.

        It may take the payload, decoded to its annotated type (what msgspec knows, or a
        pydantic model), and a ``TaskContext`` named ``ctx``. What it returns, any JSON value,
        is the result. Raise ``Fatal`` where no retry can help.
        """

        def register(function: F) -> F:
            if kind in self.handlers:
                raise ConfigError(f"Two handlers for kind {kind!r}: a worker has one a kind.")
            self.handlers[kind] = make_handler(kind, function, timeout)
            return function

        return register

    async def run(self, cb: Callboard | None = None, *, handle_signals: bool = True) -> None:
        """Work until ``stop``, SIGTERM or SIGINT; then drain.

        Nothing more is claimed, running handlers finish, what was not started is given back.
        A second signal cancels the handlers, and so does cancelling this call.

        Raises:
            ConfigError: No handler is registered, or no connection was given.
        """
        cb = cb or self._cb
        if cb is None:
            raise ConfigError("The worker has no connection: Worker(cb, …) or worker.run(cb).")
        if not self.handlers:
            raise ConfigError(
                "The worker has no handlers: decorate some with @worker.handles(kind)."
            )
        if self._is_running:
            raise ConfigError("The worker runs already.")
        self._is_running = True
        self._shift = Shift(self, cb)
        restore = _catch_signals(self._shift) if handle_signals else (lambda: None)
        try:
            await self._shift.work()
        finally:
            restore()
            self._is_running = False

    def stop(self) -> None:
        """Begin to drain; ``run`` returns when it is done. Harmless where nothing runs."""
        if self._is_running:
            self._shift.stop()

    @property
    def is_idle(self) -> bool:
        """Nothing is running, claimed, or waiting to be handed in."""
        return not self._is_running or self._shift.is_idle

    def __repr__(self) -> str:
        return f"<Worker {self.agent}/{self.instance} for {', '.join(self.handlers) or 'no kinds'}>"


def load_worker(name: str) -> Worker:
    """Import ``module:attribute``; the current folder comes first on the path.

    Raises:
        ConfigError: No such module or attribute, or it is no Worker.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or module_name.startswith("."):
        raise ConfigError(f"{name!r} names no module. Give module:worker, as in handlers:worker.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".", 1)[0] and error.name != module_name:
            raise
        raise ConfigError(
            f"No module {module_name!r} here or on the path. Give module:worker, as in "
            f"handlers:worker."
        ) from error
    found = [value for value in vars(module).values() if isinstance(value, Worker)]
    if attribute:
        worker = getattr(module, attribute, None)
    else:
        worker = found[0] if len(found) == 1 else None
    if not isinstance(worker, Worker):
        names = [key for key, value in vars(module).items() if isinstance(value, Worker)]
        there = f"It has: {', '.join(names)}." if names else "It has no Worker."
        raise ConfigError(
            f"Module {module_name!r} has no Worker named {attribute or '(none given)'!r}. {there}"
        )
    return worker


def _catch_signals(shift: Shift) -> Callable[[], None]:
    """First SIGTERM or SIGINT drains, the second cancels; answers what undoes it."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()

    def caught() -> None:
        if shift.is_stopping:
            shift.cancel_all()
        else:
            log.info("Stopping: running tasks finish, nothing new is claimed.")
            shift.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, caught)

    def restore() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    return restore


def _whole(what: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidArgument(
            f"{what} is {value!r}; it must be a whole number from {low} to {high:,}."
        )
    return value
