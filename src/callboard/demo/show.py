"""What the demo shows while it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from callboard.domain.board import Counts

EVENTS_SHOWN: Final = 6
ECHO_WIDTH: Final = 3
MINOR_SHOWN: Final = 1
FRAMES_PER_SECOND: Final = 8
PLAIN_STEP_PERCENT: Final = 10

_STATE_STYLES: Final = {
    "working": "green",
    "killed": "bold red",
    "starting": "yellow",
    "idle": "dim",
}


@dataclass(frozen=True)
class Line:
    """Something that happened: when, in seconds from the start, and in words.

    Attributes:
        is_minor: Of the moment only: it is left out of the ending, and of plain lines.
    """

    at: float
    text: str
    style: str = ""
    is_minor: bool = False


@dataclass(frozen=True)
class WorkerRow:
    """A worker process as it stands: the state's first word is its colour."""

    agent: str
    state: str
    holds: str


@dataclass
class Scene:
    """All that is shown; the story changes it, the screen draws it."""

    title: str
    board: str
    total: int = 0
    ended: int = 0
    counts: Counts = field(default_factory=Counts)
    workers: Sequence[WorkerRow] = ()
    waits: Sequence[tuple[str, str]] = ()
    lines: list[Line] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw all of it, in as many lines as there is room for."""
        # What the keyboard echoes, as ^C, has to fit behind the last line: a line more than
        # was drawn would be left over at the end.
        width = max(options.max_width - ECHO_WIDTH, 20)
        yield Constrain(Group(*self._parts(width, options.height or console.height)), width)

    def _parts(self, width: int, height: int) -> Iterator[RenderableType]:
        yield _heading("Callboard demo", f"a survey of {self.title}")
        yield _line(f"board {self.board}", "dim")
        yield ""
        yield self._bar()
        yield ""
        yield _heading("workers")
        yield self._worker_table()
        yield ""
        yield _heading("waiting", self._waiting())
        yield self._waits_table(width // 3)
        yield ""
        yield _heading("events")
        taken = 10 + len(self.workers) + max(len(self.waits), 1)
        room = max(2, min(EVENTS_SHOWN, height - taken - 1))
        recent = self._recent(room)
        table = _table()
        for line in recent:
            table.add_row(Text(f"{line.at:5.1f} s", style="dim"), _line(line.text, line.style))
        yield table

    def _recent(self, room: int) -> list[Line]:
        """The last lines in order, few of them minor: a kill is not to scroll away at once."""
        minor = deque((line for line in self.lines if line.is_minor), maxlen=MINOR_SHOWN)
        major = [line for line in self.lines if not line.is_minor][-(room - len(minor)) :]
        return sorted([*major, *minor], key=lambda line: line.at)

    def _bar(self) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=1)
        table.add_column(justify="right", no_wrap=True)
        share = f"{self.ended:,} of {self.total:,} tasks  {self.elapsed:4.1f} s"
        bar = ProgressBar(total=max(self.total, 1), completed=self.ended)
        table.add_row(bar, Text(share, no_wrap=True))
        return table

    def _worker_table(self) -> Table:
        table = _table()
        for row in self.workers:
            style = _STATE_STYLES.get(row.state.partition(" ")[0].rstrip(","), "")
            table.add_row(
                Text(row.agent, no_wrap=True),
                Text(row.state, style=style, no_wrap=True),
                _line(row.holds),
            )
        return table

    def _waiting(self) -> str:
        counts = self.counts
        parts = [
            (counts.pending + counts.assigned, "ready"),
            (counts.blocked, "for other tasks"),
            (counts.scheduled, "to be tried again"),
        ]
        return ", ".join(f"{count:,} {word}" for count, word in parts if count) or "nothing"

    def _waits_table(self, width: int) -> Table:
        table = _table()
        for task, why in self.waits or [("", "")]:
            table.add_row(Text(_middle_cut(task, width), style="cyan", no_wrap=True), _line(why))
        return table


class Screen:
    """Shows a scene: redrawn in place on a terminal, line by line elsewhere."""

    def __init__(self, console: Console, scene: Scene) -> None:
        self.console = console
        self.scene = scene
        self._live: Live | None = None
        self._drawn_at = 0.0
        self._said_percent = 0

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(
                self.scene,
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str, style: str = "", *, is_minor: bool = False) -> None:
        """Something happened."""
        line = Line(self.scene.elapsed, text, style, is_minor)
        self.scene.lines.append(line)
        if self._live is None and not is_minor:
            self._print(line)

    def draw(self) -> None:
        """Show how it stands; more calls than frames cost nothing."""
        now = time.monotonic()
        if self._live is not None:
            if now - self._drawn_at >= 1 / FRAMES_PER_SECOND:
                self._drawn_at = now
                self._live.refresh()
            return
        percent = 100 * self.scene.ended // max(self.scene.total, 1)
        if percent >= self._said_percent + PLAIN_STEP_PERCENT:
            self._said_percent = percent - percent % PLAIN_STEP_PERCENT
            words = f"{self.scene.ended:,} of {self.scene.total:,} tasks have ended"
            self._print(Line(self.scene.elapsed, words))

    def _print(self, line: Line) -> None:
        self.console.print(as_text(line), soft_wrap=True)


def as_text(line: Line) -> Text:
    """A line with its time, as the ending and plain output show it."""
    return Text.assemble((f"{line.at:6.1f} s  ", "dim"), (line.text, line.style))


def _table() -> Table:
    """A grid whose last column takes what is left; long cells end in an ellipsis."""
    return Table.grid(padding=(0, 2, 0, 0), expand=False)


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _heading(text: str, more: str = "") -> Padding | Text:
    return Text.assemble(
        (text, "bold"), (f"  {more}" if more else "", "dim"), no_wrap=True, overflow="ellipsis"
    )


def _middle_cut(text: str, width: int) -> str:
    """The beginning and the end of a name that is too long."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"
