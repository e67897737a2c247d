"""The demo: what it plans, what its handlers find, whether its check sees what it must see."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from rich.console import Console

from callboard.demo import alike, measure
from callboard.demo.ledger import Check, Ledger, check
from callboard.demo.plan import (
    CommandWork,
    Module,
    PackageWork,
    plan,
    plant,
    read_tree,
    with_planted,
)
from callboard.demo.report import PackageFacts, markdown, summarise
from callboard.demo.show import Line, Scene, WorkerRow
from callboard.demo.survey import compile_module, measure_module
from callboard.domain.event import Event, Fact, Gap
from callboard.domain.task import Status, Task, TaskSpec
from callboard.exceptions import ConfigError, Fatal

SOURCE = '''\
"""A module."""

import os
from collections.abc import Iterable


class Shape:
    """A shape."""

    def area(self, sides):
        total = 0
        for side in sides:
            if side > 0 and side < 10:
                total += side
        return total


def _hidden():  # no docstring asked for
    return [x for x in range(3) if x]
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree: two packages, a folder that is none, and what has to be passed over."""
    root = tmp_path / "tree"
    for package in ("shapes", "shapes/round", ".hidden", "__pycache__", "env"):
        (root / package).mkdir(parents=True)
    (root / "env" / "pyvenv.cfg").touch()
    for number in range(6):
        (root / "shapes" / f"shape{number}.py").write_text(
            SOURCE.replace("Shape", f"Shape{number}")
        )
        (root / "shapes" / "round" / f"disc{number}.py").write_text(SOURCE)
    for passed_over in (".hidden/a.py", "__pycache__/b.py", "env/c.py", "shapes/readme.txt"):
        (root / passed_over).write_text(SOURCE)
    return root


# What is planned


def planned(root: Path) -> dict[str, TaskSpec]:
    specs = plan(read_tree(root), out=Path("report.md"), scratch=Path("/scratch"))
    return {spec.id or "": spec for spec in specs}


def test_each_module_is_measured_and_compiled_and_each_package_summed_up(tree: Path):
    specs = planned(tree)

    kinds = [spec.kind for spec in specs.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "measure": 12,
        "compile": 12,
        "compare": 2,
        "names": 2,
        "summarise": 2,
        "report": 1,
    }
    assert specs["report"].depends_on == ["summarise.shapes", "summarise.shapes.round"]
    assert set(specs["summarise.shapes.round"].depends_on) == {
        *(f"measure.shapes.round.disc{n}" for n in range(6)),
        *(f"compile.shapes.round.disc{n}" for n in range(6)),
        "compare.shapes.round",
        "names.shapes.round",
    }


def test_what_is_summed_up_is_summed_up_though_some_of_it_failed(tree: Path):
    specs = planned(tree)

    assert specs["report"].on_dependency_failure == "run"
    assert specs["summarise.shapes"].on_dependency_failure == "run"


def test_names_that_no_id_may_have_still_give_different_ids(tmp_path: Path):
    (tmp_path / "ä b").mkdir()
    for name in ("ä b/x y.py", "ä b/x-y.py", "ä b/" + "long" * 40 + ".py"):
        (tmp_path / name).write_text("")

    specs = planned(tmp_path)

    assert len(specs) == 3 + 3 + 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", task) for task in specs)


def test_the_planted_module_is_a_package_of_its_own_and_no_python(tree: Path, tmp_path: Path):
    module = plant(tmp_path / "out" / "planted")

    grown = with_planted(read_tree(tree), module)

    assert list(grown.packages) == ["shapes", "planted", "shapes/round"]
    with pytest.raises(measure.NotPython):
        measure.measure_file(Path(module.path), module.name)


def test_a_folder_without_python_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ConfigError, match="no Python file"):
        read_tree(tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        read_tree(tmp_path / "missing")


def test_the_default_tree_has_some_hundred_modules_and_no_tests():
    found = read_tree(None)

    assert 60 <= found.modules <= 300
    assert "asyncio" in found.packages
    assert not [package for package in found.packages if "test" in package.split("/")]


# What the handlers find


def test_a_module_is_measured():
    facts = measure.measure(SOURCE.encode(), "shapes/a.py")

    assert (facts.lines, facts.code, facts.comments, facts.blank) == (19, 13, 0, 6)
    assert (facts.functions, facts.classes) == (2, 1)
    assert (facts.documentable, facts.documented) == (3, 2)
    assert facts.imports == ("collections", "os")
    # area: itself, for, if, and; _hidden: itself, the comprehension and its if.
    assert [(f.name, f.complexity) for f in facts.notable] == [("Shape.area", 4), ("_hidden", 3)]


def test_an_empty_module_is_a_module():
    facts = measure.measure(b"", "empty.py")

    assert (facts.lines, facts.functions, facts.documentable) == (0, 0, 0)


def test_the_encoding_cookie_is_heeded():
    facts = measure.measure("# coding: latin-1\nname = 'café'\n".encode("latin-1"), "latin.py")

    assert (facts.code, facts.comments) == (1, 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"def f(:\n", id="syntax error"),
        pytest.param(b"x = '\xe9'\n", id="undecodable"),
        pytest.param(b"x = 1\0\n", id="null byte"),
        pytest.param(b"# coding: no-such-encoding\n", id="unknown encoding"),
        pytest.param(b"if x:\n\ty\n        z\n", id="mixed indentation"),
        pytest.param(b"x = " + b"(" * 500 + b")" * 500, id="too deeply nested"),
        pytest.param(b"x = '''open", id="open string"),
    ],
)
def test_what_is_not_python_is_said_to_be_none(data: bytes):
    with pytest.raises(measure.NotPython, match=r"odd\.py is not Python"):
        measure.measure(data, "odd.py")


def test_a_huge_function_is_measured():
    body = "".join(f"    if x == {n}:\n        y = {n}\n" for n in range(3_000))

    facts = measure.measure(f"def f(x):\n{body}".encode(), "huge.py")

    assert facts.notable[0].complexity == 3_001
    assert facts.notable[0].lines == 6_001


def test_decisions_inside_an_inner_function_are_its_own():
    source = b"def f(x):\n    def g(y):\n        return 1 if y else 2\n    return g\n"

    facts = measure.measure(source, "inner.py")

    assert {f.name: f.complexity for f in facts.notable} == {"f": 1, "f.g": 2}


def test_a_module_that_cannot_be_measured_is_not_tried_again(tmp_path: Path):
    module = plant(tmp_path)

    with pytest.raises(Fatal, match=r"planted/not_python\.py is not Python"):
        measure_module(module)
    with pytest.raises(Fatal, match="No such file"):
        measure_module(Module(str(tmp_path / "gone.py"), "gone.py"))


async def test_a_module_is_compiled_by_a_command_and_nothing_is_left_in_its_tree(tmp_path: Path):
    path = tmp_path / "source" / "a.py"
    path.parent.mkdir()
    path.write_text('"""A docstring that is worth some bytes."""\nassert __debug__, "an assert"\n')

    facts = await compile_module(CommandWork(Module(str(path), "a.py"), str(tmp_path / "scratch")))

    assert facts.plain > facts.no_asserts > facts.no_docstrings > 0
    assert facts.error == ""
    assert [each.name for each in path.parent.iterdir()] == ["a.py"]


async def test_what_does_not_compile_is_a_finding_and_no_failure(tmp_path: Path):
    path = tmp_path / "a.py"
    path.write_text("return 1\n")

    facts = await compile_module(CommandWork(Module(str(path), "pkg/a.py"), str(tmp_path)))

    assert facts.plain == 0
    assert "'return' outside function" in facts.error
    assert str(tmp_path) not in facts.error


def test_functions_nearly_the_same_are_found_across_modules(tmp_path: Path):
    lines = [f"    x{n} = {n}" for n in range(10)]
    (tmp_path / "a.py").write_text("\n".join(["def first():", *lines]))
    (tmp_path / "b.py").write_text(
        "\n".join(["def second():", '    "Doc."', *lines[:9], "    y = 0"])
    )
    (tmp_path / "c.py").write_text(
        "\n".join(["def third():", *(f"    z{n} = 0" for n in range(10))])
    )
    (tmp_path / "d.py").write_text("not python")

    facts = alike.compare([(tmp_path / f"{name}.py", f"{name}.py") for name in "abcd"])

    assert [(pair.first, pair.second, pair.ratio) for pair in facts.kept] == [
        ("a.py:1 first", "b.py:1 second", 0.9)
    ]


def test_a_function_is_not_compared_with_the_one_it_stands_in(tmp_path: Path):
    lines = "".join(f"        x{n} = {n}\n" for n in range(20))
    (tmp_path / "a.py").write_text(f"def outer():\n    def inner():\n{lines}    return inner\n")

    assert alike.compare([(tmp_path / "a.py", "a.py")]).kept == ()


# The report


def task(kind: str, status: Status, **fields: Any) -> Task:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Task(
        id=f"{kind}.a", board="b", kind=kind, status=status, created_at=at, since=at, **fields
    )


def test_a_summary_lists_what_it_lacks():
    facts = msgspec.to_builtins(measure.measure(SOURCE.encode(), "a/a.py"))

    summary = summarise(
        "a",
        [
            task("measure", Status.DONE, result=facts),
            task("compile", Status.FAILED, title="a/a.py", error={"message": "killed | twice"}),
        ],
    )

    assert (summary.package, summary.modules, summary.lines) == ("a", 1, 19)
    assert [(m.task, m.what, m.why) for m in summary.missing] == [
        ("compile.a", "compile a/a.py", "killed | twice")
    ]


def test_the_report_names_hot_spots_and_what_is_missing():
    facts = msgspec.to_builtins(measure.measure(SOURCE.encode(), "a/a.py"))
    summary = summarise(
        "a",
        [
            task("measure", Status.DONE, result=facts),
            task("compile", Status.FAILED, title="a/a.py", error={"message": "killed | twice"}),
        ],
    )

    page = markdown("a tree", [summary, PackageFacts(package="empty")])

    assert page.startswith("# Survey of a tree\n\n1 module in 2 packages, 19 lines")
    assert "| `Shape.area` | `a/a.py:10` | 4 | 6 |" in page
    assert r"| compile a/a.py | `compile.a` | killed \| twice |" in page
    assert page.index("Where to look first") < page.index("## Packages")


# The check

START = datetime(2026, 1, 1, tzinfo=UTC)


def ledger_of(*facts: tuple[str, str, str, str, int]) -> Ledger:
    """An account of events, one a fact: type, task, state, holder, fence."""
    ledger = Ledger("b")
    for n, (kind, task_id, state, holder, fence) in enumerate(facts, 1):
        at = START + timedelta(seconds=n)
        ledger.apply(Event(n, f"x:{n}", kind, "b", at, "", (Fact(task_id, state, holder, fence),)))
    return ledger


CREATED = ("task:created", "t", "pending", "", 0)
CLAIMED = ("task:claimed", "t", "claimed", "w1/a", 5)
LOST = ("task:lease_lost", "t", "pending", "w1/a", 5)
CLAIMED_AGAIN = ("task:claimed", "t", "claimed", "w2/b", 9)
DONE_BY_SECOND = ("task:completed", "t", "done", "w2/b", 9)
DONE_BY_FIRST = ("task:completed", "t", "done", "w1/a", 5)
DONE = {"t": Status.DONE}


def broken(checks: list[Check]) -> list[str]:
    return [each.claim for each in checks if not each.holds]


def test_a_run_with_a_kill_in_it_balances():
    ledger = ledger_of(CREATED, CLAIMED, LOST, CLAIMED_AGAIN, DONE_BY_SECOND)

    assert broken(check(ledger, ["t"], DONE, ["t"])) == []


@pytest.mark.parametrize(
    ("facts", "on_board", "claims"),
    [
        pytest.param(
            [CREATED, CLAIMED, LOST, CLAIMED_AGAIN, DONE_BY_SECOND, DONE_BY_SECOND],
            DONE,
            ["nothing recorded twice"],
            id="completed twice",
        ),
        pytest.param(
            [CREATED, CLAIMED, LOST, CLAIMED_AGAIN, DONE_BY_FIRST],
            DONE,
            ["no stale result taken"],
            id="completed by the one that had lost it",
        ),
        pytest.param(
            [CREATED, CLAIMED, LOST, DONE_BY_FIRST],
            DONE,
            ["no stale result taken", "the killed worker's tasks came back"],
            id="completed after the loss, before the next claim",
        ),
        pytest.param(
            [CREATED, CLAIMED, CLAIMED_AGAIN, DONE_BY_FIRST],
            DONE,
            ["no stale result taken", "the killed worker's tasks came back"],
            id="given to two, completed by the first",
        ),
        pytest.param(
            [CREATED, CLAIMED, LOST, CLAIMED_AGAIN],
            {"t": Status.CLAIMED},
            ["nothing lost"],
            id="never ended",
        ),
        pytest.param(
            [CREATED, CLAIMED, LOST, CLAIMED_AGAIN, DONE_BY_SECOND],
            {},
            ["the board says the same"],
            id="gone from the board",
        ),
        pytest.param(
            [CREATED, CLAIMED, LOST, CLAIMED_AGAIN, DONE_BY_SECOND],
            {"t": Status.DONE, "u": Status.DONE},
            ["the board says the same"],
            id="on the board without an event",
        ),
    ],
)
def test_the_check_sees_what_went_wrong(
    facts: list[tuple[str, str, str, str, int]], on_board: dict[str, Status], claims: list[str]
):
    assert broken(check(ledger_of(*facts), ["t"], on_board, ["t"])) == claims


def test_a_task_that_was_planned_and_never_appeared_is_lost():
    ledger = ledger_of(CREATED, CLAIMED_AGAIN, DONE_BY_SECOND)

    found = check(ledger, ["t", "u"], DONE)

    assert broken(found) == ["nothing lost", "the board says the same"]


def test_missing_events_are_no_proof_of_anything():
    trimmed = Ledger("b")
    trimmed.apply(Gap(1, 3, "x:3", "retention"))
    jumped = Ledger("b")
    for n in (1, 3):
        jumped.apply(Event(n, f"x:{n}", "task:noted", "b", START, "", (Fact("t", "done", "", 0),)))

    assert "no event is missing" in broken(check(trimmed, [], {}))
    assert "no event is missing" in broken(check(jumped, [], {}))


# The view


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 24), (120, 40)])
def test_the_view_fits_the_terminal_and_keeps_the_kill_in_sight(width: int, height: int):
    scene = Scene("a tree with quite a long name " * 3, "survey-1", total=400, ended=100)
    scene.workers = [WorkerRow(f"worker-{n}", "working", "measure.a.b, " * 20) for n in range(3)]
    scene.waits = [("summarise." + "long" * 20, "It waits. " * 20)] * 3
    scene.lines = [Line(1.0, "worker-1 was killed " * 9)]
    scene.lines += [Line(n, f"summarise.p{n} done", is_minor=True) for n in range(2, 20)]
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)

    lines = ["".join(part.text for part in line) for line in console.render_lines(scene)]

    assert len(lines) < height
    assert max(len(line.rstrip()) for line in lines) <= width - 3
    assert any("worker-1 was killed" in line for line in lines)
    assert any("summarise.p19 done" in line for line in lines)


# The whole


def start_demo(folder: Path | None, cwd: Path) -> subprocess.Popen[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")
    }
    # A demo that is killed cannot clear its scratch folder away.
    environment["TMPDIR"] = str(cwd)
    return subprocess.Popen(
        [sys.executable, "-m", "callboard.demo", *([str(folder)] if folder else [])],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_behind(cwd: Path) -> list[str]:
    """Processes that still belong to a demo run in this folder: workers, commands, the engine."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(cwd) in words or str(process.info["cwd"] or "").startswith(str(cwd)):
            found.append(words)
    return found


def test_a_worker_is_killed_and_everything_is_done_once(tree: Path, tmp_path: Path):
    cwd = tmp_path / "run"
    cwd.mkdir()

    demo = start_demo(tree, cwd)
    output, _ = demo.communicate(timeout=100)

    assert demo.returncode == 0, output
    assert re.search(r"worker-\d was killed \(SIGKILL\) while it held \d+ tasks?: ", output), output
    assert re.search(r"back on the board after \d+\.\d s, done by worker-\d", output), output
    assert "measure.planted.not_python is a dead letter" in output
    assert "made to fail their first attempt" in output
    assert "✓ nothing lost: 36 tasks submitted: 35 done, 1 failed" in output
    assert "✓ nothing recorded twice: 35 results taken for 35 tasks" in output
    assert "✓ no stale result taken" in output
    assert "✗" not in output
    assert "dlq show measure.planted.not_python --board survey-" in output
    report = (cwd / "callboard-report" / "tree.md").read_text()
    assert report.startswith("# Survey of ")
    assert "measure planted/not_python.py" in report
    assert left_behind(cwd) == []


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path):
    demo = start_demo(None, tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "workers started" in line:
            break
    workers = [int(number) for number in re.findall(r"\d{2,}", line.partition("own: ")[2])]
    assert len(workers) == 3

    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, output
    assert "Stopped." in output
    assert "Traceback" not in output
    assert not any(psutil.pid_exists(number) for number in workers)
    assert left_behind(tmp_path) == []


def test_a_worker_stops_when_the_demo_is_gone(tmp_path: Path):
    demo = start_demo(None, tmp_path)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "tasks have ended" in line:
            break
    workers = [
        each for each in psutil.Process(demo.pid).children() if "hand" in str(each.cmdline())
    ]

    demo.kill()
    demo.communicate(timeout=30)

    _, alive = psutil.wait_procs(workers, timeout=30)
    assert len(workers) >= 2
    assert alive == []


def test_a_package_task_names_its_modules(tree: Path):
    specs = planned(tree)

    work = specs["compare.shapes"].payload

    assert isinstance(work, PackageWork)
    assert [module.name for module in work.modules] == [f"shapes/shape{n}.py" for n in range(6)]
