"""How the doctor's findings look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from callboard.cli.failures import counted
from callboard.cli.render import one_line

if TYPE_CHECKING:
    from callboard.cli.doctor import Finding

_MARKS: Final = {"ok": ("✓", "green"), "note": ("!", "yellow"), "problem": ("✗", "bold red")}


def report(findings: Sequence[Finding]) -> Iterator[Text]:
    """A line a finding, and the sum."""
    for finding in findings:
        mark, style = _MARKS[finding.level]
        line = Text().append(f"{mark} ", style=style).append(f"{finding.about}: ", style="bold")
        line.append(one_line(finding.text).rstrip(".")).append(".")
        if finding.cure:
            line.append(f" Cure: {finding.cure.rstrip('.')}")
        yield line
    problems = sum(finding.level == "problem" for finding in findings)
    notes = sum(finding.level == "note" for finding in findings)
    if problems or notes:
        yield Text(f"{counted(problems, 'problem')}, {counted(notes, 'note')}.", style="bold")
    else:
        yield Text("All is well.", style="bold green")
