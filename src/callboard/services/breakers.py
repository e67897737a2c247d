"""Circuit breakers: shared by all processes of a namespace, asked before a call is made."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, cast

from callboard.domain.bounds import check_text, check_whole
from callboard.domain.breaker import (
    DOCUMENTED,
    OUTCOMES,
    SECONDS_MAX,
    STATES,
    Breaker,
    BreakerMetrics,
    BreakerPolicy,
    Counts,
    Outcome,
    Permit,
    State,
    breaker_of,
    check_component,
    check_gate,
    outcome_of,
    policy_of,
)
from callboard.domain.task import check_seconds
from callboard.engine import codec
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.exceptions import (
    BreakerNotFound,
    CallboardError,
    CircuitOpen,
    InvalidArgument,
    LeaseLost,
)
from callboard.observer import Observers

P = ParamSpec("P")
R = TypeVar("R")

LIST_MAX: Final = 1_000
REASON_MAX: Final = 1_000
FENCE_MAX: Final = 2**53

log = logging.getLogger("callboard")


class Breakers:
    """The breakers of a namespace's components; one that has none lets every call through."""

    def __init__(self, namespace: Namespace, observers: Observers | None = None) -> None:
        self._functions = namespace.functions
        self._observers = observers or Observers()

    # Settings

    async def configure(
        self,
        component: str,
        policy: BreakerPolicy | str = DOCUMENTED,
        *,
        gates: bool = False,
        by: str = "",
    ) -> bool:
        """Give a component a breaker, or its breaker another policy; True where it is new.

        Its state and counts stay. It is kept until it is removed.

        Args:
            component: 1 to 160 letters, digits or ``._:/@+-``.
            policy: A policy, or a preset: ``documented``, ``assign``, ``pattern``.
            gates: Of ``agent:{id}`` or ``kind:{name}``: nothing is claimed by the agent, or of
                the kind, while it is open, and the outcomes of its claims are recorded.

        Raises:
            InvalidArgument: A name or the policy cannot be used.
        """
        check_component(component)
        text = policy_of(policy).encode()
        if gates:
            check_gate(component)
        reply = await self._functions.call(
            "breaker_configure", component, check_text("by", by), text, int(bool(gates))
        )
        checked(reply, "ok", component=component)
        return bool(int(reply[1]))

    async def remove(self, component: str, *, by: str = "") -> None:
        """Remove a component's breaker: all its calls go ahead. Raises BreakerNotFound."""
        reply = await self._functions.call(
            "breaker_remove", check_component(component), check_text("by", by)
        )
        checked(reply, "ok", component=component)

    # By hand

    async def isolate(self, component: str, *, reason: str = "", by: str = "") -> None:
        """Let no call through until somebody resets or forces it; also where it had no breaker.

        Args:
            reason: Why, in up to 1,000 characters, for whoever looks.
        """
        check_text("reason", reason)
        if len(reason) > REASON_MAX:
            raise InvalidArgument("reason must be at most 1,000 characters.", field="reason")
        await self._set(component, "isolated", reason or "isolated", by)

    async def force(self, component: str, state: State, *, by: str = "") -> None:
        """Put a breaker into a state, from which it goes on as ever.

        Raises:
            BreakerNotFound: It has no breaker.
            InvalidArgument: No such state.
        """
        if state not in STATES:
            raise InvalidArgument(
                f"{state!r} is no state of a breaker: {', '.join(STATES)}.", field="state"
            )
        await self._set(component, state, "forced", by)

    async def reset(self, component: str, *, by: str = "") -> None:
        """Close a breaker and set its counts to zero. Raises BreakerNotFound."""
        await self._set(component, "reset", "reset", by)

    async def reset_all(self, *, by: str = "") -> int:
        """Reset the first 1,000 breakers, each for itself; answers how many."""

        async def reset(component: str) -> bool:
            try:
                await self.reset(component, by=by)
            except BreakerNotFound:  # removed since it was listed
                return False
            return True

        found = await self.list()
        return sum(await asyncio.gather(*(reset(breaker.component) for breaker in found)))

    async def _set(self, component: str, to: str, reason: str, by: str) -> None:
        reply = await self._functions.call(
            "breaker_set",
            check_component(component),
            check_text("by", by),
            to,
            reason,
            codec.encode_json("reason", reason),
        )
        checked(reply, "ok", component=component)

    # What is known

    async def get(self, component: str) -> Breaker:
        """A component's breaker as it stands. Raises BreakerNotFound."""
        reply = await self._functions.call("breaker_read", check_component(component))
        checked(reply, "ok", component=component)
        return breaker_of(component, _fields(reply[2]), int(reply[1]))

    async def metrics(self, component: str) -> BreakerMetrics:
        """The figures that the documents name. Raises BreakerNotFound."""
        return (await self.get(component)).metrics

    async def list(self, *, start: int = 0, limit: int = LIST_MAX) -> list[Breaker]:
        """Breakers as of one moment: *limit*, 1 to 1,000, from the *start*-th on.

        Those first that were made, configured or looked at by the sweep longest ago; what is
        answered of them is in order of the component.
        """
        reply = await self._functions.call(
            "breaker_list",
            check_whole("start", start, 0, 10**9),
            check_whole("limit", limit, 1, LIST_MAX),
        )
        checked(reply, "ok")
        found = [
            breaker_of(component.decode(), _fields(raw), int(reply[1]))
            for component, raw in zip(reply[2], reply[3], strict=True)
            if raw
        ]
        return sorted(found, key=lambda breaker: breaker.component)

    # Calls

    async def admit(
        self,
        component: str,
        *,
        policy: BreakerPolicy | str | None = None,
        lease: float | None = None,
        by: str = "",
    ) -> Permit:
        """Give a permit for one call, whose outcome is then to be recorded.

        Args:
            policy: Makes a breaker where the component has none, which is forgotten after
                seven days without use; an existing one keeps its own policy.
            lease: Seconds after which a probe's place is given on; as the policy says.

        Raises:
            CircuitOpen: No call goes through now; ``details["retry_after"]`` says when to try.
        """
        reply = await self._functions.call(
            "breaker_admit",
            check_component(component),
            check_text("by", by),
            _lease(lease),
            "" if policy is None else policy_of(policy).encode(),
        )
        if checked(reply, "ok", "off", component=component) == "off":
            return Permit(component=component)
        return Permit(
            component=component,
            number=int(reply[1]),
            state=reply[2].decode(),
            lease=int(reply[3]) / 1000 or None,
        )

    async def record(self, permit: Permit, outcome: Outcome = "success", *, by: str = "") -> bool:
        """Record once how a permitted call ended; False where that counts no more.

        Stale are outcomes of permits from before the breaker last opened, or was set by hand,
        of probes whose lease was over and whose place was given on, of permits that were never
        given, and all but the first of a permit; a component's last 100 are known again.
        ``ignored`` only frees a probe's place.

        Raises:
            InvalidArgument: It is no permit, or no such outcome.
        """
        _check_permit(permit)
        if outcome not in OUTCOMES:
            raise InvalidArgument(
                f"{outcome!r} is no outcome: {', '.join(OUTCOMES)}.", field="outcome"
            )
        if permit.number == 0:
            return False
        reply = await self._functions.call(
            "breaker_record", *_claim_of(permit, check_text("by", by)), outcome
        )
        return checked(reply, "ok", "stale", "off", component=permit.component) == "ok"

    async def renew(self, permit: Permit, *, lease: float | None = None) -> None:
        """Push a probe's deadline forward; a permit of a closed breaker has none.

        Raises:
            LeaseLost: Its place was given on, or the breaker opened: its outcome won't count.
        """
        _check_permit(permit)
        if permit.number == 0:
            return
        component, _, number = _claim_of(permit, "")
        reply = await self._functions.call("breaker_renew", component, number, _lease(lease))
        checked(reply, "ok", "off", component=permit.component)

    def guard(
        self,
        component: str,
        *,
        timeout: float | None = None,
        counts: Counts | None = None,
        policy: BreakerPolicy | str | None = None,
    ) -> Guard:
        """One call, as ``async with cb.breakers.guard("external-api"):``, admitted and recorded.

        A probe's lease is renewed while the call lasts. An outcome that cannot be recorded
        is logged, and changes nothing for the caller.

        Args:
            timeout: Seconds after which the call is cancelled, which counts as a failure and
                raises TimeoutError; None: never. Without async nothing can be cancelled: a
                call that took longer counts as a failure, and its result is kept.
            counts: Which exceptions are failures of the component: classes, or a predicate.
                By itself all but those that no retry can cure.
            policy: As of ``admit``.

        Raises:
            CircuitOpen: On entering; the body is not run.
        """
        return Guard(self, component, timeout, counts, policy)

    def guarded(
        self,
        component: str,
        *,
        fallback: Callable[..., Any] | None = None,
        timeout: float | None = None,
        counts: Counts | None = None,
        policy: BreakerPolicy | str | None = None,
    ) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """Guard each call of a function: ``@cb.breakers.guarded("external-api")``.

        Args:
            fallback: Called with the function's arguments, and its result awaited where it
                is awaitable, when the breaker lets no call through. What it raises goes to
                the caller and counts for nothing.
        """

        def decorate(
            function: Callable[P, Awaitable[R]],
        ) -> Callable[P, Coroutine[Any, Any, R]]:
            @functools.wraps(function)
            async def call(*args: P.args, **kwargs: P.kwargs) -> R:
                async with AsyncExitStack() as stack:
                    guard = self.guard(component, timeout=timeout, counts=counts, policy=policy)
                    try:
                        await stack.enter_async_context(guard)
                    except CircuitOpen:
                        if fallback is None:
                            raise
                    else:
                        return await function(*args, **kwargs)
                assert fallback is not None
                result = fallback(*args, **kwargs)
                return cast("R", await result if inspect.isawaitable(result) else result)

            return call

        return decorate

    async def sweep(self, *, limit: int = 100) -> bool:
        """Forget breakers that nobody configured or used for seven days; True where more are."""
        reply = await self._functions.call(
            "breaker_sweep", check_whole("limit", limit, 1, LIST_MAX)
        )
        checked(reply, "ok")
        return bool(int(reply[1]))


class Guard:
    """One guarded call; it can be entered once."""

    def __init__(
        self,
        breakers: Breakers,
        component: str,
        timeout: float | None = None,
        counts: Counts | None = None,
        policy: BreakerPolicy | str | None = None,
    ) -> None:
        check_component(component)
        if timeout is not None:
            check_seconds("timeout", timeout, 0.001, SECONDS_MAX)
        self.component = component
        self.permit: Permit | None = None
        self._breakers = breakers
        self._timeout = timeout
        self._counts = counts
        self._policy = policy
        self._timer: asyncio.Timeout | None = None
        self._renewer: asyncio.Task[None] | None = None

    async def begin(self) -> Permit:
        """Be admitted, and keep a probe's place. Raises CircuitOpen."""
        if self.permit is not None:
            raise InvalidArgument("A guard is for one call: make another.", field="guard")
        breakers, component = self._breakers, self.component
        try:
            self.permit = await breakers.admit(component, policy=self._policy)
        except CircuitOpen as error:
            breakers._observers.tell("breaker.rejected", **error.details)
            raise
        if self.permit.lease is not None:
            self._renewer = asyncio.create_task(self._renew(self.permit, self.permit.lease / 3))
        return self.permit

    async def end(self, error: BaseException | None, *, is_late: bool = False) -> None:
        """Record the outcome that the exception stands for; what goes wrong here is logged."""
        if self._renewer is not None:
            self._renewer.cancel()
        if self.permit is None:
            return
        outcome: Outcome = "failure" if is_late else self._judge(error)
        try:
            await self._breakers.record(self.permit, outcome)
        except CallboardError as fault:
            log.warning("The outcome of a call of %s was not recorded: %s", self.component, fault)
        self._breakers._observers.tell(
            "breaker.recorded", component=self.component, outcome=outcome
        )

    async def __aenter__(self) -> Permit:
        permit = await self.begin()
        self._timer = asyncio.timeout(self._timeout)
        await self._timer.__aenter__()
        return permit

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._timer is not None
        try:
            await self._timer.__aexit__(kind, error, trace)
        except TimeoutError as late:
            await self.end(late, is_late=True)
            raise
        await self.end(error)

    def _judge(self, error: BaseException | None) -> Outcome:
        try:
            return outcome_of(error, self._counts)
        except Exception:  # The caller's predicate may raise anything.
            log.exception("What counts for %s could not be told; it counts.", self.component)
            return "failure"

    async def _renew(self, permit: Permit, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await self._breakers.renew(permit)
            except LeaseLost:
                return
            except CallboardError as fault:
                log.warning("A permit for %s was not renewed: %s", self.component, fault)


def _lease(lease: float | None) -> int:
    return 0 if lease is None else check_seconds("lease", lease, 0.001, SECONDS_MAX)


def _check_permit(permit: object) -> None:
    if not isinstance(permit, Permit):
        raise InvalidArgument(
            f"{permit!r} is no permit: give what admit() answered.", field="permit"
        )


def _claim_of(permit: Permit, by: str) -> tuple[str, str, int]:
    number = check_whole("permit", permit.number, 1, FENCE_MAX)
    return check_component(permit.component), by, number


def _fields(raw: Any) -> dict[str, str]:
    """The fields of a hash, in either protocol's shape."""
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}
