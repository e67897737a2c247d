"""What the pages say is so: states, errors, events, keys, commands, links, and the examples."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer

import callboard
from callboard import exceptions
from callboard.cli.program import app
from callboard.domain.agent import AGENT_TYPES
from callboard.domain.event import EVENT_TYPES
from callboard.domain.graph import TaskGraph
from callboard.domain.run import Phase
from callboard.domain.strategy import Strategy
from callboard.domain.task import MOVES, PRIORITIES, Status
from callboard.domain.why import explain
from callboard.engine.library import LUA, library
from callboard.sdk.worker import Worker
from tests.docs.event_kinds import EVENT_KINDS
from tests.docs.pages import ROOT, Block, Example, blocks, examples, pages, prose, rows
from tests.docs.reference_pages import MADE, MARK, METHODS, VALUES

REFERENCE: Final = ROOT / "docs" / "reference"
EXAMPLE_SECONDS: Final = 60
PAGES: Final = pages()
EXAMPLES: Final = [example for page in PAGES for example in examples(page)]


# States


def test_the_moves_on_the_page_are_those_of_the_table() -> None:
    text = next(one.text for one in blocks(REFERENCE / "tasks.md") if " --> " in one.text)

    moves: dict[Status | None, frozenset[Status]] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" --> ")
        status = None if before.strip() == "(new)" else Status(before.strip())
        names = [] if after == "nothing" else after.split(", ")
        moves[status] = frozenset(Status(name) for name in names)

    assert moves == MOVES


def test_every_status_has_its_meaning() -> None:
    said = rows(REFERENCE / "tasks.md")

    assert [status for status in Status if not said.get(status, [""])[0]] == []


def test_every_reason_that_why_gives_is_on_the_page() -> None:
    source = inspect.getsource(sys.modules[explain.__module__])
    codes = set(re.findall(r'(?:facts\.why\(|return facts\.why\()\s*"(\w+)"', source))

    assert len(codes) > 15
    assert codes - rows(REFERENCE / "tasks.md").keys() == set()


# Errors, events, keys


ERRORS: Final = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(kind, exceptions.CallboardError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_on_the_page_with_its_code(kind: type[exceptions.CallboardError]) -> None:
    said = rows(REFERENCE / "errors.md")

    assert said[kind.__name__][0] == f"`{kind.code}`"
    assert said[kind.__name__][1]


def test_the_page_has_no_error_that_is_not_there() -> None:
    named = {name for name in rows(REFERENCE / "errors.md") if name[:1].isupper()}

    assert named == {kind.__name__ for kind in ERRORS}


def test_every_word_that_a_function_answers_is_on_the_page() -> None:
    page = rows(REFERENCE / "errors.md")
    codes = {kind.code for kind in ERRORS}
    words = {word for one in library().headers.values() for word in (*one.statuses, *one.items)}

    assert len(words) > 30
    assert words - codes - page.keys() == set()


def test_every_kind_of_event_is_on_the_page_in_order() -> None:
    said = [name for name in rows(REFERENCE / "events.md") if name in EVENT_KINDS]

    assert said == list(EVENT_KINDS)


def test_the_types_that_readers_may_name_are_those_that_are_told() -> None:
    assert list(EVENT_KINDS) == EVENT_TYPES


KEY_LITERALS: Final = [
    literal
    for literal in re.findall(
        r"'([a-z_:]+)'",
        re.sub(r"--.*", "", (LUA / "include" / "keys.lua").read_text("utf-8")),
    )
    if literal not in (":", "default")
]


@pytest.mark.parametrize("literal", KEY_LITERALS)
def test_every_key_is_on_the_page_with_type_lifetime_and_meaning(literal: str) -> None:
    name = f"tasks:{{board}}{literal}" if literal.startswith(":") else literal
    said = rows(REFERENCE / "keys.md")

    matching = [
        cells
        for key, cells in said.items()
        if key == name
        or (literal.startswith(":") and key.endswith(literal))
        or (name.endswith(":") and key.startswith(name + "{"))
    ]

    assert matching, f"docs/reference/keys.md has no row for `{name}…`"
    for cells in matching:
        assert all(cells[: 2 if name.startswith(("bell:", "events:")) else 3])


def test_the_keys_were_read() -> None:
    assert {":state", ":lane:", "agents:active", "bell:events", "retry:queue"} <= {*KEY_LITERALS}


# The pages made from the code, and what is said of compatibility


@pytest.mark.parametrize("name", MADE)
def test_a_page_made_from_the_code_is_as_the_code_is(name: str) -> None:
    _, mark, listed = (REFERENCE / name).read_text("utf-8").partition(MARK)

    assert mark
    assert listed == "\n" + MADE[name](), "run: python -m tests.docs.reference_pages"


COMPATIBLE: Final = [
    line
    for line in (REFERENCE / "compatibility.md").read_text("utf-8").splitlines()
    if line.startswith("|") and not re.match(r"\| name \||\|---", line)
]


@pytest.mark.parametrize("row", COMPATIBLE)
def test_a_compatible_name_has_a_test_that_exists_or_why_it_is_not_there(row: str) -> None:
    checked = row.rstrip("| ").rpartition("| ")[2]
    if checked == "not yet" or re.fullmatch(r"left out: .{10,}", checked):
        return
    named = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", checked)

    assert named, f"no test in: {row}"
    assert named[2] in _functions_of(ROOT / named[1])


def test_a_compatible_name_has_one_row_in_its_table_and_each_row_four_cells() -> None:
    said = (REFERENCE / "compatibility.md").read_text("utf-8")
    for table in re.split(r"^#+ ", said, flags=re.MULTILINE)[1:]:
        cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in table.splitlines() if row[:1] == "|"]
        names = [row[0].strip() for row in cells]
        assert all(len(row) == 4 for row in cells), table[:60]
        assert len(set(names)) == len(names), table[:60]


LIVES_IN: Final = sorted({
    word
    for row in COMPATIBLE
    if "`tests/" in row
    for word in re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[3])
    if not word.startswith("callboard ") and word not in ("config", "providers.tasks")
})  # fmt: skip

WORDS_OF_VALUES: Final[dict[str, Any]] = {
    **{kind.__name__: kind for kind in (*VALUES, Worker, TaskGraph, Strategy, Status, Phase)},
    "PRIORITIES": PRIORITIES,
    "AGENT_TYPES": AGENT_TYPES,
}


@pytest.mark.parametrize("word", LIVES_IN)
def test_where_a_compatible_name_lives_there_is_something(word: str) -> None:
    classes = {prefix: kinds for _, prefix, kinds in METHODS}
    home, _, name = word.rpartition(".")

    if re.fullmatch(r"include/\w+\.lua|[a-z]+_[a-z_]+", word):
        assert (LUA / f"{word.removesuffix('.lua')}.lua").is_file()
    elif home == "cb":
        assert word in classes or name in classes or hasattr(callboard.Callboard, name)
    elif home in classes:
        assert any(hasattr(kind, name) for kind in classes[home])
    elif home == "callboard":
        assert hasattr(callboard, name)
    else:
        kind = WORDS_OF_VALUES.get(home or word)
        assert kind is not None
        assert not home or name in kind.__struct_fields__


# As the sections of the design name them.
COORDINATION: Final = (
    "Fields",
    "Configuration",
    "Events of the system",
    "EventBus",
    "Error codes",
    "CoordinationManager",
    "TaskScheduler",
    "AdvancedTaskScheduler and its strategies",
    "ResourceManager",
    "MessageRouter",
    "WorkStealingCoordinator",
    "LoadBalancer",
    "DependencyGraph",
    "CircuitBreaker and CircuitBreakerManager",
    "ConflictResolver and OptimisticLockManager",
    "CoordinationMetricsCollector",
    "BackgroundExecutor and AdvancedTaskExecutor",
    "Hive",
    "Swarm",
    "Orchestrator",
    "Other words",
)


def test_each_component_of_the_coordination_module_has_its_table() -> None:
    said = (REFERENCE / "compatibility.md").read_text("utf-8")
    section = said.partition("## The coordination module")[2].partition("\n## ")[0]

    assert tuple(re.findall(r"^### (.+)$", section, re.MULTILINE)) == COORDINATION
    assert "not yet" not in section


def test_most_names_are_there() -> None:
    assert sum("::test_" in row for row in COMPATIBLE) > 300


def _functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


# Commands


def _commands_of(page: Path) -> Iterator[str]:
    shells = [block.text for block in blocks(page) if block.language in ("sh", "bash", "console")]
    indented = re.findall(r"^ {4}(\S[^\n]*)$", prose(page), re.MULTILINE)
    for line in "\n".join([*shells, *indented]).replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:&&|\|\||[|;&>#])(?:\s|$)", line):
            words = part.strip().removeprefix("$ ")
            if words.startswith("callboard "):
                yield words
    yield from re.findall(r"`(callboard [^`\n]+)`", prose(page))


COMMANDS: Final = [(page, words) for page in PAGES for words in _commands_of(page)]


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page.name}-{words}" for page, words in COMMANDS]
)
def test_a_command_on_a_page_exists(page: Path, words: str) -> None:
    command = _root()
    named: list[str] = []
    options: list[str] = []
    for word in shlex.split(words)[1:]:
        if word == "--":
            break
        if re.match(r"--?[A-Za-z]", word):
            options.append(word.partition("=")[0])
        elif hasattr(command, "commands") and not word.isupper():
            assert word in command.commands, f"{page.name}: no command {' '.join([*named, word])}"
            command = command.commands[word]
            named.append(word)
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    generic = {"--help", "-h", "--install-completion", "--show-completion"}
    if not any(word.isupper() for word in shlex.split(words)[1:2]):
        assert set(options) - known - generic == set(), f"{page.name}: {words}"


@cache
def _root() -> Any:
    return typer.main.get_command(app)


def test_the_commands_were_found() -> None:
    assert len(COMMANDS) > 60
    assert {"README.md", "handle-dead-letters.md", "first-worker.md"} <= {
        page.name for page, _ in COMMANDS
    }


# Links of the pages outside docs/, which the documentation's own build does not see


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=str)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "page",
    sorted((ROOT / "docs").glob("*/*.md")),
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_a_page_is_on_the_index(page: Path) -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")

    assert f"({page.relative_to(ROOT / 'docs').as_posix()})" in index


def test_the_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    package = ROOT / "src" / "callboard"
    homes = (ROOT, package, package / "engine", package / "engine" / "lua")
    named = re.findall(r"`([\w/.]+\.(?:py|lua|toml|md))`", text)

    assert len(named) > 25
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []


# Examples


PYTHON: Final = [block for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_on_a_page_can_be_read(block: Block) -> None:
    compile(block.text, block.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.timeout(EXAMPLE_SECONDS + 30)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.block.name)
def test_an_example_runs_as_it_is_written(example: Example, tmp_path: Path) -> None:
    environment = _environment(tmp_path)
    for file in example.files:
        assert file.file
        (tmp_path / file.file).write_text(file.text, "utf-8")
    if example.block.language == "python":
        (tmp_path / "example.py").write_text(example.block.text, "utf-8")
        command = [sys.executable, "example.py"]
    else:
        command = ["bash", "-euo", "pipefail", "-c", example.block.text]

    try:
        code, printed, logged = _run(command, tmp_path, environment)
    finally:
        _stop_engine(tmp_path, environment)

    assert code == 0, f"{printed}\n{logged}"
    if example.output is not None:
        assert printed == example.output, logged


def test_the_pages_that_begin_have_examples_that_run() -> None:
    having = {example.block.page.name for example in EXAMPLES}

    assert {"README.md", "first-worker.md", "write-handlers.md", "test-handlers.md"} <= having
    assert len(EXAMPLES) > 8


def _environment(folder: Path) -> dict[str, str]:
    """A reader's shell in *folder*: the programs there are ours, the engine is a new one."""
    programs = folder / "bin"
    programs.mkdir()
    run = f"exec {shlex.quote(sys.executable)}"
    main = shlex.quote("import sys; from callboard.cli import main; sys.exit(main())")
    for name, line in {"callboard": f'{run} -c {main} "$@"', "python": f'{run} "$@"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CALLBOARD_", "REDIS_", "PYTEST_"))
    }
    package = Path(inspect.getfile(callboard)).parents[1]
    return {
        **kept,
        "PATH": f"{programs}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "PYTHONPATH": str(package),
        "CALLBOARD_DATA": str(folder / ".callboard"),
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run in a session of its own, so that what the example left running can be ended."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, logged = process.communicate(timeout=EXAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, logged = process.communicate()
            pytest.fail(f"not done after {EXAMPLE_SECONDS} s:\n{printed}\n{logged}")
        return process.returncode, printed, logged


def _stop_engine(folder: Path, environment: dict[str, str]) -> None:
    if (folder / ".callboard" / "engine.pid").exists():
        stop = [str(folder / "bin" / "callboard"), "engine", "stop", "--force"]
        subprocess.run(stop, env=environment, cwd=folder, capture_output=True, timeout=30)
