"""The examples, run as their READMEs say: by a program of its own, with an engine of its own."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
CALLBOARD = [sys.executable, "-m", "callboard.cli"]
DEADLINE_SECONDS = 60
ENDING_SECONDS = 20

LATITUDES = {
    "reykjavik": 64.15,
    "berlin": 52.52,
    "tokyo": 35.68,
    "singapore": 1.35,
    "quito": -0.18,
    "nairobi": -1.29,
    "sydney": -33.87,
    "cape-town": -33.92,
    "ushuaia": -54.80,
}
BROKEN_ROW = (
    '- Clean ushuaia.csv: The command "python3 clean.py" exited with 65: '
    "data/south/ushuaia.csv, line 8: 'n/a' is no number of hours of a day"
)


class Desk:
    """A terminal in a folder with a copy of the examples, and an engine below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name[:9] != "CALLBOARD"},
            "CALLBOARD_DATA": str(folder / "board"),
            "COLUMNS": "200",
        }
        shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder / "examples",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            **options,
        )

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command to its end, and answer what it wrote to standard output."""
        with self.start(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as started:
            try:
                out, err = started.communicate(timeout=DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                raise
        assert started.returncode == code, err
        return out

    def show(self) -> dict[str, Any]:
        """The newest run with all of its tasks."""
        shown = self.run(*CALLBOARD, "--json", "runs", "show", "last", "--limit", "1000")
        return dict(json.loads(shown))

    def processes(self) -> list[psutil.Process]:
        """What runs here: all that was started by these commands has their environment."""
        return [process for process in psutil.process_iter() if self._is_own(process)]

    def _is_own(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            is_there = process.status() != psutil.STATUS_ZOMBIE
            return is_there and process.environ().get("CALLBOARD_DATA") == str(
                self.folder / "board"
            )
        return False

    def left_running(self) -> list[str]:
        """What is still there, given time to end."""
        psutil.wait_procs(self.processes(), timeout=ENDING_SECONDS)
        return [" ".join(process.cmdline()) for process in self.processes()]


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    desk = Desk(folder)
    try:
        yield desk
    finally:
        for process in desk.processes():
            with suppress(psutil.Error):
                process.kill()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, str]]:
    """The desk at which the pipeline was run, and what was answered."""
    with desk_in(tmp_path_factory.mktemp("pipeline")) as desk:
        yield desk, desk.run(sys.executable, "pipeline/run.py", "How long are the days?", "-q")


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def statuses(shown: dict[str, Any]) -> dict[str, str]:
    return {task["id"]: task["status"] for task in shown["tasks"]}


def attempts(shown: dict[str, Any]) -> dict[str, int]:
    return {task["id"]: task["attempt"] for task in shown["tasks"]}


# The survey


LONG_FUNCTION = (
    "def much(x):\n"
    + "    if x:\n        for y in x:\n            x += y\n" * 50
    + "    return x\n"
)


def test_survey_reports_on_the_tree_that_the_request_names(desk: Desk):
    shop = desk.folder / "shop"
    shop.mkdir()
    (shop / "much.py").write_text(LONG_FUNCTION)
    (shop / "till.py").write_text('"""A till."""\n\n\nclass Till:\n    """It rings."""\n')
    (shop / "torn.py").write_text("def torn(\n")

    answer = desk.run(*CALLBOARD, "run", "survey/team.yaml", f"Look at {shop}", "--quiet")

    assert "# Survey of 2 Python modules\n\n157 lines, 155 of them code" in answer
    assert (
        "## Where to look first\n\n- `much` in `much.py:1`: 152 lines with 50 branches, 50 loops, "
        "1 returns and 0 functions inside; nested most deeply, 2 levels, in line 151.\n"
    ) in answer
    assert "## What is missing\n\n- torn.py: '(' was never closed" in answer
    shown = desk.show()
    assert statuses(shown) == dict.fromkeys(
        ["measure.top", "compare.top", "names.top", "compile.top", "summarise.top", "look.top"],
        "done",
    )
    workers = {task["id"]: task["agent"].partition(".")[0] for task in shown["tasks"]}
    assert workers["measure.top"] == "surveyor"
    assert workers["compile.top"] == "compiler"
    assert desk.left_running() == []


def test_survey_of_a_tree_without_python_says_so_at_once(desk: Desk):
    (desk.folder / "empty").mkdir()

    desk.run(*CALLBOARD, "run", "survey/team.yaml", "Look at ../empty", code=1)

    shown = desk.show()
    assert shown["run"]["phase"] == "failed"
    assert "There is no Python file in ../empty." in shown["run"]["reason"]
    assert [failure["attempts"] for failure in shown["failures"]] == [1]


def test_survey_gives_each_package_ids_of_its_own():
    planner = module_of(EXAMPLES / "survey" / "planner.py")

    names = planner.short_names([".", "a/b", "a.b", "é"])

    assert names == {".": "top", "a/b": "a.b", "a.b": "a.b.2", "é": "top.3"}


# The pipeline


def test_pipeline_ends_with_an_answer_that_names_its_dead_letter_and_the_cure(
    pipeline: tuple[Desk, str],
):
    desk, answer = pipeline

    shown = desk.show()

    run = shown["run"]["id"]
    assert answer == (
        "# How long are the days?\n\n"
        "- north (Berlin, Reykjavik, Tokyo): 12.32 hours in the mean; from 4.24 on 2025-12-15 in "
        "Reykjavik to 21.01 on 2025-06-15 in Reykjavik.\n"
        "- tropics (Nairobi, Quito, Singapore): 12.12 hours in the mean; from 12.04 on 2025-12-15 "
        "in Singapore to 12.20 on 2025-06-15 in Singapore.\n\n"
        "## What is missing\n\n"
        f"{BROKEN_ROW}\n"
        f"  Once that is put right: `callboard runs retry {run} clean.ushuaia`\n\n"
        "So these were not done: Describe Ushuaia, Summarise the region south.\n"
    )
    not_done = {name: status for name, status in statuses(shown).items() if status != "done"}
    assert not_done == dict.fromkeys(
        ["clean.ushuaia", "describe.ushuaia", "summarise.south"], "failed"
    )
    assert len(statuses(shown)) == 21


def test_a_broken_file_becomes_a_dead_letter_at_its_first_try(pipeline: tuple[Desk, str]):
    desk, _ = pipeline
    shown = desk.show()

    listed = desk.run(*CALLBOARD, "--json", "dlq", "list", "--board", shown["run"]["id"])

    letters = {each["id"]: each for each in json.loads(listed)["dead_letters"]}
    assert "line 8: 'n/a' is no number of hours" in json.dumps(letters["clean.ushuaia"])
    assert attempts(shown)["clean.ushuaia"] == 1


def test_a_busy_service_is_asked_again_after_the_time_that_it_named(pipeline: tuple[Desk, str]):
    desk, _ = pipeline

    tries = attempts(desk.show())
    told = desk.run(*CALLBOARD, "--json", "runs", "replay", "last").splitlines()

    described = {name: count for name, count in tries.items() if name.startswith("describe.")}
    assert described.pop("describe.ushuaia") == 0
    assert len(described) == 8
    assert set(described.values()) == {3}
    events = [json.loads(line) for line in told]
    for name in described:
        first, second, third = (
            datetime.fromisoformat(event["at"])
            for event in events
            if event["type"] == "task_claimed" and event["data"]["task_id"] == name
        )
        assert (second - first).total_seconds() >= 1.0
        assert (third - second).total_seconds() >= 1.0


def test_a_pipeline_that_has_ended_leaves_nothing_running(pipeline: tuple[Desk, str]):
    desk, _ = pipeline

    assert desk.left_running() == []


def test_a_mended_file_is_made_up_for_by_a_retry_of_that_file_alone(desk: Desk):
    desk.run(sys.executable, "pipeline/run.py", "How long are the days in the south?", "-q")
    broken = desk.show()
    assert sorted(statuses(broken)) == [
        *("clean.cape-town", "clean.sydney", "clean.ushuaia"),
        *("describe.cape-town", "describe.sydney", "describe.ushuaia", "summarise.south"),
    ]
    file = desk.folder / "examples/pipeline/data/south/ushuaia.csv"
    file.write_text(file.read_text().replace("n/a", "7.68"))
    port = broken["run"]["variables"]["SERVICE"].rpartition(":")[2]
    service = desk.start(sys.executable, "pipeline/service.py", port, stdout=subprocess.PIPE)
    with service:
        assert service.stdout is not None and service.stdout.readline()
        try:
            answer = desk.run(*CALLBOARD, "runs", "retry", "last", "clean.ushuaia", "--quiet")
        finally:
            service.terminate()

    assert answer == (
        "# How long are the days in the south?\n\n"
        "- south (Cape Town, Sydney, Ushuaia): 12.12 hours in the mean; from 7.25 on 2025-06-15 "
        "in Ushuaia to 17.27 on 2025-12-15 in Ushuaia.\n"
    )
    mended = desk.show()
    assert set(statuses(mended).values()) == {"done"}
    assert attempts(mended)["clean.sydney"] == attempts(broken)["clean.sydney"] == 1
    assert attempts(mended)["clean.ushuaia"] == 2
    assert desk.left_running() == []


def test_a_pipeline_that_is_told_to_end_takes_its_service_along(desk: Desk):
    started = desk.start(
        sys.executable,
        "pipeline/run.py",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with started:
        assert started.stderr is not None
        for line in started.stderr:
            if "phase: execution" in line:
                break

        started.terminate()
        started.communicate(timeout=DEADLINE_SECONDS)

    assert started.returncode == 143
    assert desk.left_running() == []


def test_service_ends_with_who_started_it_even_where_that_was_killed(desk: Desk):
    command = f"{sys.executable} pipeline/service.py & wait"
    with desk.start("sh", "-c", command, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        address = shell.stdout.readline().strip()
        with pytest.raises(HTTPError, match="501"):
            urllib.request.urlopen(address, timeout=DEADLINE_SECONDS)

        shell.kill()
        shell.communicate(timeout=DEADLINE_SECONDS)

    assert desk.left_running() == []


# The files of the pipeline


def day_length(latitude: float, day: date) -> float:
    """Hours from sunrise to sunset: the model of Forsythe and others, 1995."""
    number = day.timetuple().tm_yday
    revolution = 0.2163108 + 2 * math.atan(0.9671396 * math.tan(0.00860 * (number - 186)))
    declination = math.asin(0.39795 * math.cos(revolution))
    at = math.radians(latitude)
    high = math.sin(math.radians(0.8333)) + math.sin(at) * math.sin(declination)
    return 24 - 24 / math.pi * math.acos(high / (math.cos(at) * math.cos(declination)))


def test_files_hold_what_their_rule_says_in_every_notation(tmp_path: Path):
    clean = module_of(EXAMPLES / "pipeline" / "clean.py")
    files = sorted((EXAMPLES / "pipeline" / "data").glob("*/*.csv"))
    assert {file.stem for file in files} == set(LATITUDES)

    for file in files:
        whole = tmp_path / file.name
        whole.write_text(file.read_text().replace("n/a", "7.68"))
        days = clean.read(whole)

        assert [day["date"] for day in days] == [f"2025-{month:02}-15" for month in range(1, 13)]
        for day in days:
            expected = day_length(LATITUDES[file.stem], date.fromisoformat(day["date"]))
            # Hundredths of an hour, or minutes.
            assert math.isclose(day["hours"], expected, abs_tol=1 / 60), (file.name, day)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("date,hours\n", r"city.csv has no rows"),
        ("date,hours\n2025-01-15\n", r"city.csv, line 2: not enough values"),
        ("date,hours\n2025-02-30,8\n", r"city.csv, line 2: day is out of range"),
        ("date,hours\n2025-01-15,8\n2025-02-15,25\n", r"line 3: '25' is no number of hours"),
        ("date,hours\n2025-01-15,nan\n", r"line 2: 'nan' is no number of hours"),
    ],
)
def test_rows_that_cannot_be_read_are_named_by_file_and_line(
    tmp_path: Path, rows: str, message: str
):
    clean = module_of(EXAMPLES / "pipeline" / "clean.py")
    file = tmp_path / "city.csv"
    file.write_text(rows)

    with pytest.raises(ValueError, match=re.escape(message)):
        clean.read(file)
