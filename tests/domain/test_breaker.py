"""Breakers' policies as the engine reads them, and what is made of what it answers."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.breaker import (
    ASSIGN,
    DOCUMENTED,
    PATTERN,
    BreakerPolicy,
    breaker_of,
    deferral,
    policy_of,
)
from callboard.domain.task import at_ms
from callboard.exceptions import InvalidArgument

NOW = 1_800_000_000_000


@pytest.mark.parametrize("policy", ["nosuch", "", None, 5, ["documented"]], ids=repr)
def test_what_is_no_policy_is_refused_by_name(policy: Any) -> None:
    with pytest.raises(InvalidArgument, match="documented, assign, pattern"):
        policy_of(policy)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (DOCUMENTED, "5:0:60000:20:60000:2:3:30000"),
        (ASSIGN, "3:0:60000:20:30000:1:2:30000"),
        (PATTERN, "1:0:60000:20:300000:1:1:30000"),
        (
            BreakerPolicy(failure_threshold=None, failure_rate=0.25, window=10, volume=4),
            "0:250:10000:4:60000:2:3:30000",
        ),
        (BreakerPolicy(failure_rate=1, open_for=0.001), "5:1000:60000:20:1:2:3:30000"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_policy_is_eight_whole_numbers_and_comes_back(policy: BreakerPolicy, text: str) -> None:
    assert policy.encode() == text
    assert BreakerPolicy.decode(text) == policy


def test_of_a_hash_with_nothing_known_in_it_comes_a_closed_breaker() -> None:
    found = breaker_of("api", {"state": "ajar", "other": "x"}, NOW)

    assert (found.state, found.policy, found.probes, found.opened_at) == ("closed", None, 0, None)


def test_probes_whose_lease_is_over_count_no_more_and_claims_always() -> None:
    probes = f"1:0,2:{NOW},3:{NOW + 1}"

    found = breaker_of("api", {"state": "half-open", "probes": probes}, NOW)

    assert found.probes == 2
    assert found.metrics.half_open_requests == 2


def test_an_open_breaker_says_from_when_it_probes_and_an_isolated_one_does_not() -> None:
    fields = {"state": "open", "opened_at": str(NOW), "policy": DOCUMENTED.encode()}

    assert breaker_of("api", fields, NOW).retry_at == at_ms(NOW + 60_000)
    assert breaker_of("api", {**fields, "isolated": "1"}, NOW).retry_at is None


@pytest.mark.parametrize(
    ("retry_after", "random", "seconds"),
    [(60.0, 0.0, 60.0), (60.0, 1.0, 66.0), (0.0, 0.0, 0.5), (None, 0.0, 5.0), (None, 0.5, 5.25)],
)
def test_a_deferred_task_waits_as_long_as_the_breaker_asks_for_and_up_to_a_tenth_more(
    retry_after: float | None, random: float, seconds: float
) -> None:
    assert deferral(retry_after, random) == pytest.approx(seconds)
