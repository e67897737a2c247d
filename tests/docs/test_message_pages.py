"""The page of messages says what the code does: states, bounds, protocols, types."""

from __future__ import annotations

import re

from callboard.domain import message as messages
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/reference/messages.md").read_text("utf-8")


def words(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_the_moves_on_the_page_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \|([^|]*)\|$", PAGE.partition("## What")[0], re.M)

    assert {state: words(moves) for state, moves in rows} == {
        state.value: {move.value for move in moves} for state, moves in messages.MOVES.items()
    }


def test_the_protocols_and_types_on_the_page_are_those_that_are_known() -> None:
    section = PAGE.partition("## Protocols")[2].partition("## Requests")[0]
    protocols = re.findall(r"^\| `(\w+)` \|", section, re.M)
    types = words(section.partition("Documented types are")[2].partition(";")[0])

    assert set(protocols) == set(messages.PROTOCOLS)
    assert types == set(messages.TYPES)


def test_the_defaults_on_the_page_are_those_of_the_code() -> None:
    assert f"| unfinished messages in an inbox | {messages.INBOX_LIMIT:,} |" in PAGE
    assert f"| `lease` | {messages.LEASE_DEFAULT:g} s |" in PAGE
    assert f"| `max_deliveries` | {messages.DELIVERIES_DEFAULT} |" in PAGE
    assert f"| `timeout` of a request | {messages.REQUEST_TIMEOUT:g} s |" in PAGE
    assert f"| payload | {messages.PAYLOAD_MAX // 1024} KiB" in PAGE
