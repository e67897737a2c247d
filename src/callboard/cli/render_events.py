"""How events look to people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from callboard.cli.render import STYLES, clock, one_line
from callboard.domain.event import Event, Fact, Gap

FACTS_SHOWN: Final = 20
"""A batch of a thousand is one event: more of it would bury the others."""

EXTRA_SHOWN: Final = 160
"""A sample of metrics, or what a task told, may be pages long."""


def lines(event: Event | Gap) -> Iterator[Text]:
    """A line for each fact; a gap says what is missing."""
    if isinstance(event, Gap):
        yield _gap(event)
        return
    for fact in event.facts[:FACTS_SHOWN]:
        yield _line(event, fact)
    if len(event.facts) > FACTS_SHOWN:
        yield Text(
            f"{'':8}  … and {len(event.facts) - FACTS_SHOWN:,} more of {event.type}", style="dim"
        )


def _gap(gap: Gap) -> Text:
    if gap.reason == "incarnation":
        text = (
            "Gap: the cursor is of another life of the engine's data; events between are not known."
        )
    else:
        text = f"Gap: events {gap.first:,} to {gap.last:,} are no longer kept."
    return Text(f"{text} Going on behind {gap.cursor}.", style="bold yellow")


def _line(event: Event, fact: Fact) -> Text:
    line = Text().append(clock(event.at), style="dim").append("  ")
    line.append(event.type, style=STYLES.get(fact.state, "bold"))
    for word in (fact.id or event.board, fact.state if fact.id else "", fact.holder):
        if word:
            line.append("  " + one_line(word))
    if fact.fence:
        line.append(f"  #{fact.fence}", style="dim")
    extra = one_line(fact.extra)
    if len(extra) > EXTRA_SHOWN:
        extra = f"{extra[:EXTRA_SHOWN]}… (all of it with --json)"
    return line.append(f"  {extra}" if extra else "", style="dim")
