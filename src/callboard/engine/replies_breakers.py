"""What a circuit breaker's refusals say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_breakers(status: str, facts: Sequence[str], context: Mapping[str, Any]) -> Told | None:
    """What is said of breakers; None where the refusal is about something else."""
    component = str(context.get("component", ""))
    match status:
        case "breaker_open":
            return _circuit_open(*facts[:4])
        case "rejected" if component:
            return _circuit_open(*facts[:4])
        case "breaker_not_found":
            return (
                e.BreakerNotFound,
                f"{component!r} has no breaker, so all its calls go ahead. Give it one: "
                f"callboard breakers configure {component}.",
                {},
            )
        case "lease_lost" if component:
            return (
                e.LeaseLost,
                f"The permit for {component!r} is not out any more: its lease was over and its "
                "place given on, or the breaker opened. Stop the call; its outcome does not count.",
                {},
            )
    return None


def _circuit_open(component: str, state: str, retry_ms: str, probes: str) -> Told:
    retry_after = int(retry_ms) / 1000 if int(retry_ms) >= 0 else None
    if state == "half-open":
        noun = "probe" if probes == "1" else "probes"
        text = f"The breaker of {component!r} is half-open, with {probes} {noun} under way."
        cure = f"Try again in {retry_after or 0:.1f} s, or when one has ended."
    elif retry_after is None:
        text = f"{component!r} is isolated: its breaker is open until somebody resets it."
        cure = f"Do so when it is well: callboard breakers reset {component}."
    else:
        text = f"The breaker of {component!r} is open: its calls failed."
        cure = f"Try again in {retry_after:.1f} s."
    details = {
        "component": component,
        "state": state,
        "retry_after": retry_after,
        "probes": int(probes),
    }
    return e.CircuitOpen, f"{text} {cure}", details
