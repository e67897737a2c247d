"""How circuit breakers look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from rich.text import Text

from callboard.cli.render import Column, age, fields, heading, one_line, span, table, when
from callboard.domain.breaker import Breaker, BreakerMetrics, BreakerPolicy

_STYLES: Final = {"closed": "green", "open": "red", "half-open": "yellow", "isolated": "red"}

_COLUMNS: Final = (
    Column("COMPONENT"),
    Column("STATE"),
    Column("SINCE", drop=2, right=True),
    Column("FAILURES", drop=4, right=True),
    Column("CALLS", drop=3, right=True),
    Column("REJECTED", drop=3, right=True),
    Column("OPENS AT", drop=5, shrinks=True),
    Column("GATES", drop=6),
)


def listing(breakers: Sequence[Breaker], width: int) -> Iterator[str | Text]:
    """Breakers, a line each."""
    if not breakers:
        yield "No breakers: every call goes ahead."
        yield Text("Give a component one: callboard breakers configure external-api", style="dim")
        return
    rows = (
        (
            breaker.component,
            _state(breaker),
            age(breaker.opened_at),
            breaker.failures,
            f"{breaker.total_requests:,}",
            f"{breaker.rejected_requests:,}",
            _rule(breaker.policy),
            "claims" if breaker.gates else "",
        )
        for breaker in breakers
    )
    yield from table(_COLUMNS, rows, width)


def whole(breaker: Breaker) -> Iterator[str | Text]:
    """All of one breaker."""
    policy = breaker.policy
    yield from fields(
        [
            ("component", breaker.component),
            ("state", _state(breaker)),
            ("reason", one_line(breaker.reason)),
            ("opened", when(breaker.opened_at)),
            ("probes from", when(breaker.retry_at)),
            ("gates", "the claims of its agent or kind" if breaker.gates else ""),
            ("kept", "" if breaker.is_configured else "7 days from its last use"),
        ]
    )
    yield heading("Counts")
    yield from figures(breaker.metrics)
    if policy is not None:
        yield heading("Policy")
        yield from fields(
            [
                ("  opens at", _rule(policy)),
                ("  stays open", span(policy.open_for)),
                ("  probes at a time", policy.half_open_limit),
                ("  closes after", f"{policy.success_threshold} good probes"),
                ("  a probe's lease", span(policy.permit_lease)),
            ]
        )


def figures(metrics: BreakerMetrics) -> Iterator[str | Text]:
    """The documented figures, under their documented names."""
    said = msgspec.structs.asdict(metrics)
    names = {field.name: field.encode_name for field in msgspec.structs.fields(metrics)}
    times = ("last_failure_time", "last_success_time")
    yield from fields(
        (f"  {names[name]}", when(value) if name in times else value)
        for name, value in said.items()
    )


def _state(breaker: Breaker) -> Text:
    word = "isolated" if breaker.is_isolated else breaker.state
    return Text(word, style=_STYLES[word])


def _rule(policy: BreakerPolicy | None) -> str:
    if policy is None:
        return ""
    rules = []
    if policy.failure_threshold is not None:
        count = policy.failure_threshold
        rules.append("1 failure" if count == 1 else f"{count} failures in a row")
    if policy.failure_rate is not None:
        rules.append(
            f"{policy.failure_rate:.0%} of {policy.volume}+ calls in {span(policy.window)}"
        )
    return ", or ".join(rules)
