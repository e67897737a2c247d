"""The library's services with requests in place of what needs an engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Final, NoReturn, ParamSpec, TypeVar, cast

from callboard.app import BoardTasks
from callboard.exceptions import EngineError, InvalidArgument, LeaseLost, OutcomeUnknown
from callboard.operations import LOCAL, OPERATIONS, Operation
from callboard.sdk.remote.asking import asking
from callboard.sdk.remote.looking import ENDINGS, LOOK
from callboard.sdk.remote.own import OwnEvents, OwnTasks
from callboard.sdk.remote.preparing import PREPARE
from callboard.sdk.remote.restoring import RESTORE
from callboard.sdk.remote.transport import DONE_BEFORE, Transport
from callboard.services.events import Events

P = ParamSpec("P")
S = TypeVar("S")

MADE_OF_OTHERS: Final = frozenset(
    {
        "locks.acquire",
        "messages.request",
        "messages.wait_reply",
        "runs.wait",
        "tasks.submit_many",
        "tasks.wait",
    }
)
"""Operations that a client makes of others: those who wait do it here, and keep their place."""

NEEDS_ENGINE: Final = frozenset(
    {
        "access.credential",
        "access.note",
        "access.redeem",
        "access.take",
        "access.ticket",
        "access.use",
        "runs.ensure_lead",
        "runs.fail",
        "runs.wind_up",
    }
)
"""Methods for coordinators and hosts of runs, who have the engine."""

STAYS: Final = {
    "scheduler.register": "a strategy of one's own is asked in the process that assigns",
    "conflicts.register": "a strategy of one's own is asked in the process that decides",
    "errors.add_rules": "errors are classified where they are recorded",
}
"""What takes objects of this process, and why it would have no effect at a coordinator."""

OWN: Final[dict[type[Any], type[Any]]] = {BoardTasks: OwnTasks, Events: OwnEvents}
"""What is made here of several requests, by service."""


class Remote:
    """Makes services that ask a coordinator."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __call__(self, service: Callable[P, S], /) -> Callable[P, S]:
        """Make such services by calling what this returns."""
        kind: Any = remote_class(cast("Any", service))

        def make(*args: P.args, **kwargs: P.kwargs) -> S:
            made = kind.__new__(kind)
            made._transport = self._transport
            made.__init__(*args, **kwargs)
            return cast("S", made)

        return make


@cache
def remote_class(service: type[Any]) -> type[Any]:
    """The service with a request in place of each operation that it has."""
    methods: dict[str, Any] = {}
    names: set[str] = set()
    for operation in OPERATIONS.values():
        if getattr(service, operation.method, None) is operation.function:
            names.add(operation.service)
            if operation.name not in MADE_OF_OTHERS:
                methods[operation.method] = _asked(operation)
    for name in names:
        methods |= _without_effect(name, service)
    bases = tuple(own for base, own in OWN.items() if issubclass(service, base))
    return type(f"Remote{service.__name__}", (*bases, service), methods)


def _asked(operation: Operation) -> Any:
    """The method that asks for an operation; its table is read with the first call."""
    prepare = PREPARE.get(operation.name)
    restore = RESTORE.get(operation.name)
    look = LOOK.get(operation.name)
    done_before = (*DONE_BEFORE, LeaseLost) if operation.name in ENDINGS else DONE_BEFORE

    @wraps(operation.function)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        ask = asking(operation.name)
        values = ask.bound(self, *args, **kwargs)
        if prepare is not None:
            values = prepare(values)
        board = self.board if operation.is_on_board else ""
        try:
            answer = await ask(
                self._transport,
                values,
                board=board,
                is_repeatable=prepare is not None,
                done_before=done_before,
            )
        except OutcomeUnknown as unknown:
            if look is None:
                raise
            answer = await look(self, values, unknown)
        return answer if restore is None else restore(self, answer)

    return method


def _without_effect(name: str, service: type[Any]) -> dict[str, Any]:
    """Methods that do nothing here, or say why they cannot do anything."""
    found: dict[str, Any] = {}
    if f"{name}.sweep" in LOCAL:
        found["sweep"] = _swept(service.sweep)
    for one in NEEDS_ENGINE:
        of, _, method = one.partition(".")
        if of == name:
            found[method] = _needs_engine(one, getattr(service, method))
    for one, why in STAYS.items():
        of, _, method = one.partition(".")
        if of == name:
            found[method] = _stays(one, why, getattr(service, method))
    return found


def _swept(method: Any) -> Any:
    @wraps(method)
    async def sweep(self: Any, *_: Any, **__: Any) -> bool:
        return False  # Each coordinator has a janitor.

    return sweep


def _needs_engine(name: str, method: Any) -> Any:
    @wraps(method)
    async def refused(self: Any, *_: Any, **__: Any) -> NoReturn:
        raise EngineError(
            f"{name} is not asked of a coordinator: {LOCAL[name]}. Connect to the engine itself."
        )

    return refused


def _stays(name: str, why: str, method: Any) -> Any:
    @wraps(method)
    def refused(self: Any, *_: Any, **__: Any) -> NoReturn:
        raise InvalidArgument(
            f"{name} does not travel: {why}. Do it in a process that is connected to the engine "
            "itself."
        )

    return refused
