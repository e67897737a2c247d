"""A run as it is watched: redrawn in place on a terminal, line by line elsewhere."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from callboard.cli.failures import counted
from callboard.cli.render import STYLES, one_line, span
from callboard.cli.render_run_events import Line, line_of
from callboard.domain.event import Gap
from callboard.domain.run import ENDED, Run
from callboard.domain.story import RunEvent
from callboard.domain.task import Status
from callboard.exceptions import CallboardError, EngineError

if TYPE_CHECKING:
    from callboard.app import Callboard

FRAMES_PER_SECOND: Final = 8
LOOK_SECONDS: Final = 1.0
"""How often it is asked what waits and why."""

WAITS_SHOWN: Final = 3
LINES_SHOWN: Final = 5
MEMBERS_SHOWN: Final = 12
AGAIN_SECONDS: Final = 1.0
ECHO_WIDTH: Final = 3
FIXED_LINES: Final = 10

_HEEDED: Final = frozenset(
    """
    agent_log agent_token agent_tool cancelled done error invocation_start paused phase_change
    task_cancelled task_claimed task_completed task_created task_failed task_lost task_retry
    task_retry_scheduled unpaused worker_start
    """.split()
)
_INVOCATION: Final = re.compile(r"(plan|answer)-[0-9]+\.[0-9]+")
_WAITING: Final = (Status.INPUT_REQUIRED, Status.SCHEDULED, Status.PENDING, Status.BLOCKED)


@dataclass
class Doing:
    """What a member is at: since when, and what it last said of it."""

    what: str
    since: datetime


@dataclass
class Member:
    """A member of the team, as the view knows it."""

    doing: dict[str, Doing] = field(default_factory=dict)
    done: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass
class Scene:
    """All that is shown of a run; its events change it, the screen draws it."""

    run: Run
    phase: str = "planning"
    round: int = 0
    is_paused: bool = False
    is_leaving: bool = False
    members: dict[str, Member] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    waiting: str = ""
    waits: list[tuple[str, str]] = field(default_factory=list)
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=50))
    ended_at: datetime | None = None

    def heed(self, event: RunEvent | Gap) -> Line | None:
        """Follow one event; answers the line that tells it, if it is worth one."""
        # A lead may tell events of any name: only these are looked up.
        if isinstance(event, RunEvent) and event.type in _HEEDED:
            getattr(self, f"_{event.type}")(event, event.data)
        line = line_of(event, self.run.created_at)
        if line is not None:
            self.lines.append(line)
        return line

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the end, or until now."""
        return max(((self.ended_at or datetime.now(UTC)) - self.run.created_at).total_seconds(), 0)

    @property
    def work_seconds(self) -> float:
        """What all attempts that have ended took together."""
        return sum(member.seconds for member in self.members.values())

    def count(self, status: str) -> int:
        """How many tasks ended so."""
        return sum(each == status for each in self.ended.values())

    # What happened to the run

    def _phase_change(self, event: RunEvent, data: dict[str, Any]) -> None:
        self.phase = str(data.get("phase", ""))
        self.ended_at = None
        # Nothing tells the end of an answer to planner or synthesizer but what follows it.
        for member in self.members.values():
            for name in [each for each in member.doing if _INVOCATION.fullmatch(each)]:
                self._free(member, name, event)

    def _done(self, event: RunEvent, data: dict[str, Any]) -> None:
        self._end("done", event)

    def _error(self, event: RunEvent, data: dict[str, Any]) -> None:
        self._end("failed", event)

    def _cancelled(self, event: RunEvent, data: dict[str, Any]) -> None:
        self._end("cancelled", event)

    def _end(self, phase: str, event: RunEvent) -> None:
        self._phase_change(event, {"phase": phase})
        self.ended_at = event.at

    def _paused(self, event: RunEvent, data: dict[str, Any]) -> None:
        self.is_paused = True

    def _unpaused(self, event: RunEvent, data: dict[str, Any]) -> None:
        self.is_paused = False

    # What happened to tasks

    def _task_created(self, event: RunEvent, data: dict[str, Any]) -> None:
        self.tasks.add(str(data["task"]["id"]))

    def _worker_start(self, event: RunEvent, data: dict[str, Any]) -> None:
        self._member(data)

    def _invocation_start(self, event: RunEvent, data: dict[str, Any]) -> None:
        name = str(data["invocation_id"])
        what = name.partition(".")[0]
        if what.startswith("plan-"):
            self.round = int(what.removeprefix("plan-"))
            what = "plans" if self.round == 1 else f"plans again, round {self.round}"
        else:
            what = "writes the answer"
        self._member(data).doing[name] = Doing(what, event.at)

    def _task_claimed(self, event: RunEvent, data: dict[str, Any]) -> None:
        what = str(data.get("title") or data["task_id"])
        self._member(data).doing[str(data["task_id"])] = Doing(what, event.at)

    def _agent_token(self, event: RunEvent, data: dict[str, Any]) -> None:
        self._said(event, data, str(data.get("content", "")))

    def _agent_log(self, event: RunEvent, data: dict[str, Any]) -> None:
        self._said(event, data, str(data.get("content", "")))

    def _agent_tool(self, event: RunEvent, data: dict[str, Any]) -> None:
        self._said(event, data, f"uses {data.get('name', '')}")

    def _said(self, event: RunEvent, data: dict[str, Any], text: str) -> None:
        doing = self._member(data).doing.get(_which(data))
        if doing is not None and text.strip():
            doing.what = text

    def _task_completed(self, event: RunEvent, data: dict[str, Any]) -> None:
        member = self._member(data)
        self._free(member, _which(data), event)
        member.done += 1
        self.ended[_which(data)] = "done"

    def _task_failed(self, event: RunEvent, data: dict[str, Any]) -> None:
        name = _which(data)
        if data.get("agent"):
            member = self._member(data)
            self._free(member, name, event)
            member.failed += 1
        if "task_id" in data:
            self.ended[name] = "failed"

    def _task_retry_scheduled(self, event: RunEvent, data: dict[str, Any]) -> None:
        if data.get("agent"):
            self._free(self._member(data), _which(data), event)

    _task_lost = _task_retry_scheduled

    def _task_cancelled(self, event: RunEvent, data: dict[str, Any]) -> None:
        name = _which(data)
        for member in self.members.values():
            self._free(member, name, event)
        self.ended[name] = "cancelled"

    def _task_retry(self, event: RunEvent, data: dict[str, Any]) -> None:
        self.ended.pop(_which(data), None)

    def _member(self, data: dict[str, Any]) -> Member:
        return self.members.setdefault(str(data.get("agent", "")), Member())

    def _free(self, member: Member, name: str, event: RunEvent) -> None:
        doing = member.doing.pop(name, None)
        if doing is not None:
            member.seconds += max((event.at - doing.since).total_seconds(), 0)

    # How it looks

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw all of it, in as many lines as there is room for."""
        # What the keyboard echoes, as ^C, has to fit behind the last line: a line more than
        # was drawn would be left over at the end.
        width = max(options.max_width - ECHO_WIDTH, 20)
        yield Constrain(Group(*self._parts(width, options.height or console.height)), width)

    def _parts(self, width: int, height: int) -> Iterator[RenderableType]:
        room = max(height - FIXED_LINES - len(self.waits), 4)
        members = self._members(min(MEMBERS_SHOWN, room))
        yield _cut(Text.assemble((self.run.team, "bold"), "  ", one_line(self.run.request)))
        yield _cut(self._state())
        yield self._bar(width)
        yield ""
        yield self._member_table(members)
        more = len(self.members) - len(members)
        if more > 0:
            yield Text(f"and {counted(more, 'member')} more", style="dim")
        if self.waiting:
            yield ""
            yield _cut(Text.assemble(("waiting  ", "bold"), (self.waiting, "dim")))
            for task, why in self.waits:
                yield _cut(Text.assemble((f"{_short(task, width // 3)}  ", "cyan"), why))
        yield ""
        for line in list(self.lines)[-max(1, min(LINES_SHOWN, room - len(members))) :]:
            yield _cut(line.text)

    def _state(self) -> Text:
        phase = "leaving" if self.is_leaving else self.phase
        if self.is_paused and phase not in ENDED:
            phase = "paused"
        text = Text.assemble((f"run {self.run.id}  ", "dim"), (phase, STYLES.get(phase, "cyan")))
        if self.round > 1:
            text.append(f", round {self.round}")
        return text

    def _bar(self, width: int) -> RenderableType:
        failed = self.count("failed")
        share = f"{len(self.ended):,} of {counted(len(self.tasks), 'task')}"
        share += f", {failed:,} failed" if failed else ""
        cost = f"{span(self.elapsed)}, work {span(self.work_seconds)}"
        bar = ProgressBar(total=max(len(self.tasks), 1), completed=len(self.ended))
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(ratio=1)
        table.add_column(justify="right", no_wrap=True)
        table.add_row(bar, Text(f"{share}  {cost}", no_wrap=True))
        return table if len(share) + len(cost) + 12 <= width else _cut(Text(f"{share}  {cost}"))

    def _members(self, most: int) -> list[tuple[str, Member]]:
        """Those at work first: where there are too many, the idle ones are left out."""
        found = sorted(self.members.items(), key=lambda item: (not item[1].doing, item[0]))
        return sorted(found[:most])

    def _member_table(self, members: list[tuple[str, Member]]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True, max_width=20, overflow="ellipsis")
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, justify="right")
        now = datetime.now(UTC)
        for name, member in members:
            count = f"{member.done:,} done" if member.done else ""
            failed = Text(f" {member.failed:,} failed" if member.failed else "", style="red")
            if not member.doing:
                idle = Text("idle", style="dim")
                table.add_row(name, idle, "", Text(count).append_text(failed))
                continue
            first = min(member.doing.values(), key=lambda doing: doing.since)
            more = len(member.doing) - 1
            what = _cut(Text(one_line(first.what), style="green"))
            since = span(max((now - first.since).total_seconds(), 0.1))
            since += f" +{more}" if more else ""
            table.add_row(name, what, since, Text(count).append_text(failed))
        return table


class Screen:
    """Shows a scene on a console."""

    def __init__(self, console: Console, scene: Scene, *, is_live: bool) -> None:
        self.console = console
        self.scene = scene
        self._live: Live | None = None
        if is_live:
            self._live = Live(scene, console=console, auto_refresh=False, transient=True)
        self._drawn_at = 0.0

    @property
    def is_live(self) -> bool:
        """Whether it is redrawn in place."""
        return self._live is not None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def heed(self, event: RunEvent | Gap) -> None:
        """Something happened."""
        line = self.scene.heed(event)
        if self._live is not None:
            self.draw()
        elif line is not None:
            self.console.print(line.text, soft_wrap=True)

    def draw(self) -> None:
        """Show how it stands; more calls than frames cost nothing."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn_at >= 1 / FRAMES_PER_SECOND:
            self._drawn_at = now
            self._live.refresh()


class Watch:
    """Follows a run and shows it, beside whatever else the process does."""

    def __init__(self, cb: Callboard, screen: Screen, cursor: str | None = None) -> None:
        self._cb = cb
        self._screen = screen
        self._cursor = cursor

    async def follow(self) -> None:
        """Show what happens, from the start or behind the cursor, until the run has ended."""
        beside = [asyncio.create_task(self._tick()), asyncio.create_task(self._look())]
        if not self._screen.is_live:
            beside.pop().cancel()
        try:
            await self._follow()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _follow(self) -> None:
        run = self._screen.scene.run.id
        while True:
            try:
                async for event in self._cb.runs.events(run, self._cursor, follow=True):
                    self._cursor = event.cursor if isinstance(event, RunEvent) else self._cursor
                    self._screen.heed(event)
                return
            except EngineError:
                # Whoever hosts the run waits for the engine too, and says so where it gives up.
                await asyncio.sleep(AGAIN_SECONDS)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1 / FRAMES_PER_SECOND)
            self._screen.draw()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await look(self._cb, self._screen.scene)
            except CallboardError:
                self._screen.scene.waits = []


async def look(cb: Callboard, scene: Scene) -> None:
    """Ask what waits, and why; of a few tasks only, as it is asked again and again."""
    if scene.phase in ENDED:
        scene.waiting, scene.waits = "", []
        return
    counts = (await cb.boards.get(scene.run.id)).counts
    parts = [
        (counts.input_required, "for an answer"),
        (counts.scheduled, "to be tried again"),
        (counts.pending + counts.assigned, "ready"),
        (counts.blocked, "for other tasks"),
    ]
    tasks = cb.board(scene.run.id).tasks
    ids: list[str] = []
    for (count, _), status in zip(parts, _WAITING, strict=True):
        if count and len(ids) < WAITS_SHOWN:
            page = await tasks.list(status=status, limit=WAITS_SHOWN - len(ids))
            ids += [task.id for task in page.tasks]
    waits = []
    for task_id in ids[:WAITS_SHOWN]:
        why = await tasks.why(task_id)
        if not (why.status.is_finished or why.status.is_held):
            # Which board it is need not be said: the run's own.
            text = why.text.replace(f"Board {scene.run.id!r}", "The run")
            text = text.replace(f".{scene.run.id}", "")  # Its agents are its members.
            waits.append((task_id, one_line(text.replace(f" on board {scene.run.id!r}", ""))))
    scene.waiting = ", ".join(f"{count:,} {word}" for count, word in parts if count)
    scene.waits = waits


def can_redraw(console: Console) -> bool:
    """Whether what was drawn can be drawn over."""
    return console.is_terminal and not console.is_dumb_terminal


def _which(data: dict[str, Any]) -> str:
    return str(data.get("task_id") or data.get("invocation_id") or "")


def _cut(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def _short(text: str, width: int) -> str:
    """The beginning and the end of a name that is too long."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[-tail:]}"
