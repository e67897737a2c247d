"""The view of a run: what it says of its events, and how it fits a narrow terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from callboard.cli import run_view
from callboard.cli.render_run_events import line_of
from callboard.cli.run_view import Scene, Screen, look
from callboard.domain.event import Gap
from callboard.domain.run import Phase, Run
from callboard.domain.story import RunEvent
from tests.interfaces.cli_support import PROGRAM, Cli
from tests.interfaces.teams_support import forget_handlers, write_team

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Run(
    id="1a1fe6d6784c22f204b43099",
    team="survey",
    version=1,
    request="What is in this folder, and in all the folders below it, and what is it for?",
    phase=Phase.PLANNING,
    created_at=BEGAN,
    deadline_at=BEGAN + timedelta(hours=1),
)


class _Then(datetime):
    """A clock that stands a hundred seconds after the beginning."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return BEGAN + timedelta(seconds=100)


@pytest.fixture(autouse=True)
def _a_clock_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_view, "datetime", _Then)


def event(type: str, at: float = 0.0, **data: Any) -> RunEvent:
    return RunEvent(type, "1.1", BEGAN + timedelta(seconds=at), data)


def scene_of(*events: RunEvent) -> Scene:
    scene = Scene(RUN)
    for each in events:
        scene.heed(each)
    return scene


def drawn(scene: Scene, width: int = 60, height: int = 24) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height, force_terminal=True, color_system=None).print(
        scene
    )
    return [line.rstrip() for line in out.getvalue().splitlines()]


def task(name: str, title: str = "") -> RunEvent:
    return event("task_created", task={"id": name, "title": title, "depends_on": []})


# What an event says


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (event("team_start", team_name="s", team_run_id="r1"), "team s begins run r1"),
        (event("phase_change", phase="execution"), "phase: execution"),
        (event("invocation_start", agent="p", invocation_id="plan-2.1"), "p is asked for plan-2"),
        (
            event("invocation_start", agent="w", invocation_id="answer-1.1"),
            "w is asked for the answer",
        ),
        (task("a", "Count a.py"), "added a: Count a.py"),
        (
            event("task_created", task={"id": "b", "title": "b", "depends_on": ["a", "c"]}),
            "added b, after a, c",
        ),
        (
            event("task_claimed", agent="w", task_id="a", title="Count", attempt=2),
            "w begins a: Count, try 2",
        ),
        (event("agent_token", agent="w", task_id="a", content="so\nfar"), "w says of a: so far"),
        (event("agent_tool", agent="w", task_id="a", name="grep"), "w uses grep for a"),
        (event("task_completed", agent="w", task_id="a", result=1), "w did a"),
        (event("task_failed", agent="w", task_id="a", error="no"), "a failed with w: no"),
        (event("task_failed", agent="", task_id="a", error="no"), "a failed: no"),
        (
            event("task_retry_scheduled", agent="p", invocation_id="plan-1.1", error="no"),
            "plan-1 is tried again: no",
        ),
        (event("task_cancelled", task_id="a", reason=""), "a cancelled"),
        (
            event("task_lost", agent="w", task_id="a"),
            "a was lost by w, and goes to whoever is free",
        ),
        (event("task_retry", task_id="a", title="Count"), "a: Count is put back"),
        (event("run_resumed", phase="execution"), "another host leads the run on, in execution"),
        (event("cancelled", reason="outdated"), "cancelled: outdated"),
        (event("error", detail="planning failed"), "failed: planning failed"),
        (event("done", tasks_completed=2, tasks_created=3), "done: 2 of 3 tasks"),
        (event("something_new"), "something new"),
    ],
)
def test_each_event_is_told_in_words(told: RunEvent, said: str) -> None:
    line = line_of(told, BEGAN)

    assert line is not None
    assert line.text.plain == f"    0.0 s  {said}"


def test_an_event_without_news_is_not_told() -> None:
    assert line_of(event("worker_start", agent="w"), BEGAN) is None


def test_missing_events_are_told() -> None:
    line = line_of(Gap(3, 7, "x:7", "retention"), BEGAN)

    assert line is not None
    assert "events 3 to 7 are no longer kept" in line.text.plain


def test_what_others_wrote_cannot_steer_the_terminal() -> None:
    line = line_of(event("task_failed", agent="w", task_id="a", error="\x1b[2J\r\nx" * 99), BEGAN)

    assert line is not None
    assert line.text.plain.isprintable()
    assert len(line.text.plain) < 300


# What the view shows


def test_the_view_fits_sixty_columns() -> None:
    scene = scene_of(
        event("phase_change", phase="execution"),
        *(
            task(f"count-{n}", "Count a file with a name that is very long indeed")
            for n in range(9)
        ),
        *(
            event(
                "task_claimed", 95, agent=f"worker-{n}", task_id=f"count-{n}", title="Count " * 20
            )
            for n in range(4)
        ),
        event("task_completed", 98, agent="worker-0", task_id="count-0", result=None),
        event("task_failed", 99, agent="worker-1", task_id="count-1", error="no such page " * 20),
    )
    scene.waiting = "5 ready"
    scene.waits = [("count-5", "The run has as many tasks at work as it may have. " * 3)]

    lines = drawn(scene)

    assert max(cell_len(line) for line in lines) <= 60
    assert lines[0].startswith("survey  What is in this folder")
    assert lines[1] == "run 1a1fe6d6784c22f204b43099  execution"
    assert "2 of 9 tasks, 1 failed  1m40s, work 7.0s" in lines[2]
    assert re.fullmatch(r"worker-0 +idle +1 done", lines[4])
    assert re.fullmatch(r"worker-1 +idle +1 failed", lines[5])
    assert re.fullmatch(r"worker-2 +Count Count.*… +\d\.\ds", lines[6])
    assert "waiting  5 ready" in lines
    assert any(line.startswith("count-5  The run has as many") for line in lines)


def test_the_view_fits_a_low_terminal() -> None:
    events = [event("worker_start", agent=f"worker-{n}") for n in range(50)]
    scene = scene_of(*events, *(task(f"t{n}") for n in range(50)))

    lines = drawn(scene, height=16)

    assert len(lines) <= 16
    assert "and 44 members more" in lines


def test_a_member_with_several_tasks_says_how_many_more() -> None:
    scene = scene_of(
        event("task_claimed", 90, agent="w", task_id="a", title="First"),
        event("task_claimed", 95, agent="w", task_id="b", title="Second"),
    )

    assert re.match(r"w +First +\d+s \+1", drawn(scene)[4])


def test_the_planner_is_at_work_until_the_phase_moves_on() -> None:
    asked = event("invocation_start", 90, agent="planner", invocation_id="plan-2.1")

    assert re.match(r"planner +plans again, round 2 ", drawn(scene_of(asked))[4])
    moved = event("phase_change", 95, phase="execution")
    assert re.match(r"planner +idle", drawn(scene_of(asked, moved))[4])


def test_a_task_that_is_put_back_has_not_ended() -> None:
    failed = event("task_failed", 1, agent="w", task_id="a", error="no")
    scene = scene_of(task("a"), failed, event("done", 2))
    assert (len(scene.ended), scene.elapsed) == (1, 2.0)

    scene.heed(event("task_retry", 3, task_id="a", title="a"))
    scene.heed(event("phase_change", 3, phase="execution"))

    assert scene.ended == {}
    assert scene.elapsed > 90


def test_an_event_of_any_name_changes_nothing_but_the_lines() -> None:
    scene = scene_of(event("bar"), event("parts"), event("state"), event("end"))

    assert (scene.phase, scene.members, scene.ended) == ("planning", {}, {})


def test_where_nothing_can_be_drawn_over_it_prints_lines() -> None:
    out = io.StringIO()
    with Screen(Console(file=out, width=60), scene_of(), is_live=False) as screen:
        screen.heed(event("phase_change", phase="execution"))
        screen.heed(event("worker_start", agent="w"))
        screen.draw()

    assert out.getvalue() == "    0.0 s  phase: execution\n"


async def test_what_waits_is_told_with_the_reason(
    engine_url: str, namespace: str, tmp_path: Path
) -> None:
    from callboard.app import connect
    from callboard.teams.document import read_document

    team = write_team(tmp_path / "team")
    async with connect(engine_url, namespace=namespace) as cb:
        await cb.teams.add("gate", read_document(team).teams["gate"])
        run = await cb.runs.start("gate", "x")
        tasks = cb.board(run.id).tasks
        await tasks.submit("work", id="a")
        await tasks.submit("work", id="b", depends_on=("a",))
        scene = Scene(run)

        await look(cb, scene)

        assert scene.waiting == "1 ready, 1 for other tasks"
        assert [name for name, _ in scene.waits] == ["a", "b"]
        assert "a" in scene.waits[1][1]
        assert run.id not in " ".join(why for _, why in scene.waits)


# On a terminal


class Terminal:
    """A ``callboard`` on a terminal of sixty columns."""

    def __init__(self, arguments: list[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        env = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.raw = ""

    def read_until(self, part: str | None) -> str:
        """Read on to where *part* is drawn, or to the end."""
        while part is None or part not in self.raw:
            try:
                found = os.read(self._master, 65_536)
            except OSError:  # The other end is closed.
                found = b""
            if not found:
                assert part is None, self.raw
                break
            self.raw += found.decode("utf-8", "replace")
        return self.raw

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def end(self) -> int:
        self.read_until(None)
        os.close(self._master)
        return self.process.wait(30)


@pytest.fixture
def terminal(cli: Cli) -> Iterator[Any]:
    """Starts commands on a terminal; what outlives the test is killed."""
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal([*cli.where, *arguments]))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
    forget_handlers()


def test_on_a_terminal_the_run_is_drawn_in_place_and_left_with_ctrl_c(
    terminal: Any, cli: Cli, tmp_path: Path
) -> None:
    team = write_team(tmp_path / "team")
    shown = terminal("--no-color", "run", str(team), "first gate last", "--id", "r1")

    shown.read_until("1 of 3 tasks")
    shown.read_until("Do gate")
    shown.read_until("waiting  1 for other tasks")
    shown.type(b"\x03")

    assert shown.end() == 130
    assert "Left run r1; it stays where it was." in shown.raw
    assert "\x1b[?25h" in shown.raw.rpartition("\x1b[?25l")[2], "the cursor is hidden"
    assert re.findall(r"\x1b\[[0-9;]*m", shown.raw) == []
    (team.parent / "open").touch()
    assert cli.ok("runs", "join", "r1", "-q").out == "first: done\ngate: done\nlast: done\n"


def test_on_a_terminal_the_view_gives_way_to_the_answer(terminal: Any, tmp_path: Path) -> None:
    team = write_team(tmp_path / "team")
    shown = terminal("--no-color", "run", str(team), "first", "--id", "r1")

    assert shown.end() == 0
    end = shown.raw.rpartition("\x1b[2K")[2]
    assert "first: done\r\n" in end
    assert "Run r1 done. 1 task (1 done) in " in end
