"""Why a task stands where it stands, in words and as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from callboard.domain.record import Record, parse_record
from callboard.domain.strategy import Decision, recorded
from callboard.domain.task import Status, at_ms

NAMES_SHOWN: Final = 5


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """The explanation of one task's state.

    Attributes:
        status: Where it stands.
        code: The reason as one word. Of one that is not ready: ``unmet_dependencies``,
            ``unknown_dependency``, ``not_before``, ``backing_off``, ``undelivered``,
            ``turned_down``. Of one that is ready, the first that applies: ``board_closed``,
            ``paused``, ``breaker_open``, ``kind_paused``, ``at_limit``, ``key_paused``,
            ``rate_limited``, ``concurrency_limited``, ``no_agents``, ``claimable``,
            ``agents_resting``, ``agents_full``, ``breaker_open`` (of all agents that fit),
            ``agents_draining``, ``no_agent_fits``. Else ``reserved``, ``held``,
            ``cancel_requested``, ``input_required``, ``done``, ``failed``, ``cancelled``.
        text: One or two sentences for people, with the cure where there is one.
        waits_for: Ids it waits for, at most 100; of a failed one what it failed with.
        until: When the state ends by itself: the lease, the reservation, the wait.
        agent: The agent concerned; empty where it is none, or more than one.
        ahead: Tasks before it in its lane, where it is ready.
        agents: Where it is ready, by verdict the names of the 500 oldest agents, and of up to
            500 later ones that fit. ``could_claim``: now. ``resting``: deliveries to it failed
            of late. ``full``: it holds as many as it may. ``breaker_open``: its own.
            ``draining``: it takes no new work, being drained, in maintenance or in error.
            ``inactive``: it left, was lost or is inactive. ``unhealthy``: below the health
            that the task asks for. ``does_not_fit``: it lacks what is asked for. ``unknown``:
            it is gone by now.
        missing: What those that do not fit lack, with how many lack it.
        decision: The last one that gave the task to an agent, where it is kept still.
    """

    task: str
    board: str
    status: Status
    code: str
    text: str
    waits_for: tuple[str, ...] = ()
    until: datetime | None = None
    agent: str = ""
    ahead: int = 0
    agents: dict[str, tuple[str, ...]] = {}
    missing: dict[str, int] = {}
    decision: Decision | None = None


def explain(board: str, task: str, reply: Sequence[Any]) -> Why:
    """Turn the facts of ``task_why`` into an explanation."""
    now_ms, raw, due, unmet, needs, extra_values, paused, kind_paused, ahead, agents = reply[1:11]
    waiting, closed, limit, most, flow, breaker, decision, looked_at, registered = reply[11:20]
    record = parse_record(raw)
    extra = {extra_values[i].decode(): extra_values[i + 1] for i in range(0, len(extra_values), 2)}
    until = at_ms(float(due)) if due else None
    facts = _Facts(
        board=board,
        task=task,
        record=record,
        now=at_ms(float(now_ms)),
        until=until,
        unmet=int(unmet),
        needs=tuple(tuple(need.decode().split("|", 1)) for need in needs),
        extra=extra,
        is_paused=bool(paused),
        is_kind_paused=bool(kind_paused),
        ahead=int(ahead),
        agents=tuple(tuple(line.decode().split("|", 2)) for line in agents),
        waiters=int(waiting),
        is_closed=bool(closed),
        limit=limit.decode(),
        most=int(most),
        flow=_flow_of(flow),
        breaker=_breaker_of(breaker),
        decision=recorded(decision) if decision else None,
        looked_at=int(looked_at),
        registered=int(registered),
    )
    return _EXPLAIN[record.status](facts)


class _Flow(msgspec.Struct, frozen=True):
    """The key that holds a task back."""

    what: str
    key: str
    limit: int
    used: int
    until: datetime | None
    holders: tuple[str, ...]


def _flow_of(values: Sequence[Any]) -> _Flow | None:
    if not values or not values[0]:
        return None
    what, key, limit, used, until_ms, holders = values
    return _Flow(
        what.decode(),
        key.decode(),
        int(limit),
        int(used),
        at_ms(int(until_ms)) if until_ms else None,
        tuple(holder.decode().replace(":", "/", 1) for holder in holders),
    )


class _Breaker(msgspec.Struct, frozen=True):
    """The breaker of the task's kind, which lets nothing through."""

    component: str
    state: str
    retry_ms: int
    probes: int


def _breaker_of(values: Sequence[Any]) -> _Breaker | None:
    if not values:
        return None
    _, component, state, retry_ms, probes = values
    return _Breaker(component.decode(), state.decode(), int(retry_ms), int(probes))


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    board: str
    task: str
    record: Record
    now: datetime
    until: datetime | None
    unmet: int
    needs: tuple[tuple[str, ...], ...]
    extra: dict[str, bytes]
    is_paused: bool
    is_kind_paused: bool
    ahead: int
    agents: tuple[tuple[str, ...], ...]
    waiters: int
    is_closed: bool
    limit: str
    most: int
    flow: _Flow | None
    breaker: _Breaker | None
    decision: Decision | None
    looked_at: int
    registered: int

    def why(self, code: str, text: str, **more: Any) -> Why:
        return Why(
            task=self.task,
            board=self.board,
            status=self.record.status,
            code=code,
            text=text if self.decision is None else f"{text} {self.chosen()}",
            decision=self.decision,
            **more,
        )

    def chosen(self) -> str:
        """How it came to the agent that it was last given to."""
        assert self.decision is not None
        who, now = self.decision.agent, self.record.agent
        return self.decision.text if who == now else f"It was given to {who!r} first."

    def in_seconds(self) -> str:
        if self.until is None:
            return "soon"
        seconds = (self.until - self.now).total_seconds()
        return f"in {seconds:.1f} s" if seconds > 0 else "now overdue: the next sweep acts on it"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def _blocked(facts: _Facts) -> Why:
    ids = tuple(need[0] for need in facts.needs)
    unknown = [need[0] for need in facts.needs if need[1] == "unknown"]
    states = Counter(need[1] for need in facts.needs)
    counted = ", ".join(f"{count} {word}" for word, count in states.most_common())
    if unknown and len(unknown) == len(ids):
        return facts.why(
            "unknown_dependency",
            f"It depends on {_listed(unknown)}, which was never submitted to board "
            f"{facts.board!r}. "
            "Submit it, or cancel this task.",
            waits_for=ids,
        )
    noun = "dependency" if facts.unmet == 1 else "dependencies"
    text = f"It waits for {facts.unmet} {noun} ({counted}): {_listed(ids)}."
    ended = [need[0] for need in facts.needs if need[1] in ("failed", "cancelled")]
    if ended:
        text += f" Put back what failed: callboard tasks retry {ended[0]}."
    if unknown:
        text += f" Never submitted: {_listed(unknown)}."
    return facts.why("unmet_dependencies", text, waits_for=ids)


def _scheduled(facts: _Facts) -> Why:
    turned_down = _turned_down(facts)
    if turned_down is not None and turned_down.at_ms == facts.record.since_ms:
        return facts.why(
            "turned_down",
            f"It was pushed to {turned_down.agents[0]!r}, which gave it back or asked for time; "
            f"it is given out again {facts.in_seconds()}.{_turned_down_text(facts)}",
            until=facts.until,
            agent=turned_down.agents[0],
        )
    failures = facts.record.failures
    if failures and "error" in facts.extra:
        error = msgspec.json.decode(facts.extra["error"])
        return facts.why(
            "backing_off",
            f"Attempt {facts.record.attempt} failed ({error.get('type')}: {error.get('message')}); "
            f"it is tried again {facts.in_seconds()}. Failures so far: {failures}.",
            until=facts.until,
        )
    if "undelivered" in facts.extra:
        count = int(facts.extra["undelivered"])
        return facts.why(
            "undelivered",
            "It could not be delivered to the agent that it was pushed to; it is given out again "
            f"{facts.in_seconds()}. Deliveries that failed since its last attempt: {count}.",
            until=facts.until,
        )
    return facts.why(
        "not_before",
        f"It may not be claimed before its time, {facts.in_seconds()}.",
        until=facts.until,
    )


class _TurnedDown(msgspec.Struct, frozen=True):
    """Agents gave back what was pushed to them, or asked for time; the latest comes first."""

    at_ms: int
    count: int
    agents: tuple[str, ...]


def _turned_down(facts: _Facts) -> _TurnedDown | None:
    value = facts.extra.get("turned_down", b"").decode()
    if not value:
        return None
    at, count, agents = value.split("|", 2)
    return _TurnedDown(int(at), int(count), tuple(agents.split(",")))


def _turned_down_text(facts: _Facts) -> str:
    found = _turned_down(facts)
    if found is None:
        return ""
    times = "once" if found.count == 1 else f"{found.count:,} times"
    return f" It was turned down {times} ({_listed(found.agents)}); others go before."


def _ahead_text(count: int) -> str:
    if count == 0:
        return ""
    tasks = "1 task" if count == 1 else f"{count:,} tasks"
    return f" {tasks} of the same kind and requirements {'is' if count == 1 else 'are'} before it."


def _looked_at_text(facts: _Facts) -> str:
    if facts.looked_at < facts.registered:
        return f"the {facts.looked_at:,} oldest of {facts.registered:,} registered agents"
    return f"{facts.registered:,} registered agents"


def _pending(facts: _Facts) -> Why:
    by_verdict: dict[str, list[str]] = {}
    missing: Counter[str] = Counter()
    for verdict, agent, lacks in facts.agents:
        # Who takes no work is told with its status: one that left or was lost drains nothing.
        if verdict == "draining" and lacks in ("left", "lost", "inactive"):
            verdict = "inactive"
        by_verdict.setdefault(verdict, []).append(agent)
        if verdict == "does_not_fit":
            missing.update(lacks.split(", "))
    agents = {verdict: tuple(names) for verdict, names in by_verdict.items()}
    more: dict[str, Any] = {"ahead": facts.ahead, "agents": agents, "missing": dict(missing)}
    ahead = _ahead_text(facts.ahead) + _turned_down_text(facts)
    if facts.is_closed:
        return facts.why(
            "board_closed",
            f"The run of board {facts.board!r} has ended, so nothing is claimed from it. "
            f"Retry the run: callboard runs retry {facts.board}.",
            **more,
        )
    if facts.is_paused:
        return facts.why(
            "paused",
            f"Board {facts.board!r} is paused. Resume it: callboard boards resume {facts.board}.",
            **more,
        )
    if facts.breaker is not None:
        return _kept_back(facts, facts.breaker, ahead, more)
    kind = facts.record.kind
    if facts.is_kind_paused:
        return facts.why(
            "kind_paused", f"Tasks of kind {kind!r} are paused on board {facts.board!r}.", **more
        )
    if facts.limit:
        return facts.why("at_limit", _limit_text(facts) + ahead, **more)
    if facts.flow is not None:
        return _held_back(facts, facts.flow, ahead, more)
    if not facts.agents:
        return facts.why(
            "no_agents",
            "No agent is registered, so nobody can claim it. Start a worker: callboard worker "
            "module:app.",
            **more,
        )
    if "could_claim" in by_verdict:
        names = _listed(by_verdict["could_claim"])
        return facts.why("claimable", f"It may be claimed now, by {names}.{ahead}", **more)
    if "resting" in by_verdict:
        first = min(int(until) for verdict, _, until in facts.agents if verdict == "resting")
        seconds = max((at_ms(first) - facts.now).total_seconds(), 0.0)
        return facts.why(
            "agents_resting",
            f"Deliveries to the agents that fit failed of late: {_listed(by_verdict['resting'])}. "
            f"The next is tried in {seconds:.1f} s.{ahead}",
            until=at_ms(first),
            **more,
        )
    if "full" in by_verdict:
        return facts.why(
            "agents_full",
            f"All agents that fit are full: {_listed(by_verdict['full'])}.{ahead} It waits for "
            f"a free slot.",
            **more,
        )
    if "breaker_open" in by_verdict:
        shut = by_verdict["breaker_open"][0]
        return facts.why(
            "breaker_open",
            f"The breakers of all agents that fit are open: "
            f"{_listed(by_verdict['breaker_open'])}.{ahead} "
            f"See callboard breakers show agent:{shut}.",
            agent=shut,
            **more,
        )
    reasons = ("draining", "inactive", "unhealthy")
    if away := [verdict for verdict in reasons if verdict in by_verdict]:
        told = "; ".join(f"being {verdict}: {_listed(by_verdict[verdict])}" for verdict in away)
        return facts.why(
            "agents_draining",
            f"The agents that fit take no work now, {told}.",
            **more,
        )
    lacking = ", ".join(
        f"{what} ({count} agents lack it)" for what, count in missing.most_common(NAMES_SHOWN)
    )
    return facts.why(
        "no_agent_fits",
        f"None of {_looked_at_text(facts)} fits. Missing: {lacking}. "
        "Start a worker that has it, or submit the task without it.",
        **more,
    )


def _kept_back(facts: _Facts, breaker: _Breaker, ahead: str, more: dict[str, Any]) -> Why:
    name = breaker.component
    until = None
    if breaker.state == "half-open":
        noun = "probe" if breaker.probes == 1 else "probes"
        text = f"The breaker {name} is half-open, with {breaker.probes} {noun} under way."
    elif breaker.retry_ms < 0:
        text = f"{name} is isolated. Let it go on: callboard breakers reset {name}."
    else:
        until = facts.now + timedelta(milliseconds=breaker.retry_ms)
        text = f"The breaker {name} is open; it is tried again in {breaker.retry_ms / 1000:.1f} s."
    return facts.why("breaker_open", text + ahead, until=until, **more)


def _held_back(facts: _Facts, flow: _Flow, ahead: str, more: dict[str, Any]) -> Why:
    key = flow.key
    if flow.what == "paused":
        text = f"Tasks with key {key!r} are paused. Resume them: callboard flow resume {key}."
        return facts.why("key_paused", text, **more)
    if flow.what == "rate":
        seconds = (flow.until - facts.now).total_seconds() if flow.until else 0.0
        text = f"Rate key {key!r} lets the next task through in {max(seconds, 0.0):.1f} s.{ahead}"
        return facts.why("rate_limited", text, until=flow.until, **more)
    held = f", held by {', '.join(flow.holders)}" if flow.holders else ""
    others = flow.used - len(flow.holders)
    held += f" and {others} more" if flow.holders and others > 0 else ""
    text = (
        f"Concurrency key {key!r} has as many tasks claimed as it may at once ({flow.used} of "
        f"{flow.limit}{held}). It waits for one to end, or for a higher limit: "
        f"callboard flow limit {key}.{ahead}"
    )
    return facts.why("concurrency_limited", text, **more)


def _limit_text(facts: _Facts) -> str:
    if facts.limit == "claims_most":
        return (
            f"Board {facts.board!r} gave out as many claims as it may ({facts.most}). "
            "Raise its claims_most: callboard boards set."
        )
    return (
        f"Board {facts.board!r} has as many tasks at work or reserved as it may at once "
        f"({facts.most}). It waits for one to end, or for a higher concurrency."
    )


def _assigned(facts: _Facts) -> Why:
    agent = facts.record.agent
    return facts.why(
        "reserved",
        f"It is reserved for agent {agent!r}; if not taken up it goes back to the board "
        f"{facts.in_seconds()}.",
        until=facts.until,
        agent=agent,
    )


def _held(facts: _Facts) -> Why:
    record = facts.record
    started = "claimed it ahead of its start" if record.letter == "k" else "has it"
    text = (
        f"Agent {record.holder!r} {started} (attempt {record.attempt}); its lease ends "
        f"{facts.in_seconds()}."
    )
    if "C" in record.flags:
        return facts.why(
            "cancel_requested",
            f"{text} Its cancellation was asked for; the holder hears of it with its next renewal.",
            until=facts.until,
            agent=record.agent,
        )
    return facts.why("held", text, until=facts.until, agent=record.agent)


def _input_required(facts: _Facts) -> Why:
    question = facts.extra.get("question", b"").decode(errors="replace")[:200]
    return facts.why(
        "input_required",
        f"It waits for an answer to: {question}. Answer it: callboard tasks answer {facts.task} "
        f"ANSWER.",
        agent=facts.record.agent,
    )


def _done(facts: _Facts) -> Why:
    return facts.why(
        "done", f"It is done, by {facts.record.holder or 'nobody'}.", agent=facts.record.agent
    )


def _failed(facts: _Facts) -> Why:
    error = msgspec.json.decode(facts.extra["error"]) if "error" in facts.extra else {}
    cause = facts.extra.get("cause", b"").decode()
    told = f"It failed: {error.get('type', 'Error')}: {error.get('message', '')}"
    cure = (
        f"Requeue {cause}, and this task comes back with it."
        if cause
        else f"Put it back: callboard dlq requeue {facts.task}."
    )
    return facts.why("failed", f"{told.rstrip('.')}. {cure}", waits_for=(cause,) if cause else ())


def _cancelled(facts: _Facts) -> Why:
    reason = facts.extra.get("reason", b"").decode() or "no reason given"
    return facts.why("cancelled", f"It was cancelled: {reason}.")


_EXPLAIN: Final = {
    Status.BLOCKED: _blocked,
    Status.SCHEDULED: _scheduled,
    Status.PENDING: _pending,
    Status.ASSIGNED: _assigned,
    Status.CLAIMED: _held,
    Status.IN_PROGRESS: _held,
    Status.INPUT_REQUIRED: _input_required,
    Status.DONE: _done,
    Status.FAILED: _failed,
    Status.CANCELLED: _cancelled,
}
