"""The example of flow control: small customers do not wait, limits hold."""

from __future__ import annotations

import re

from tests.examples.primitives import story


def test_small_customers_come_early_and_no_limit_is_passed() -> None:
    calls, at_once, *others = story("flow")

    last = re.fullmatch(r"70 calls; the last of a small customer was number (\d+)\.", calls)
    assert last is not None
    assert int(last[1]) <= 30
    # On a busy machine the calls of one customer may never meet.
    assert at_once in {f"At most at once for one customer: {n}." for n in (1, 2)}
    assert others == [
        "Never over 40 calls a second: True.",
        "Slots still taken: 0.",
    ]
