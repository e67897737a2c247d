"""The program as a whole: help, options anywhere, errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from callboard import __version__, exceptions
from callboard.cli import failures, main
from tests.interfaces.cli_reference import commands
from tests.interfaces.cli_support import Cli, run_alone


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.InvalidArgument, 2),
        (exceptions.TooLarge, 2),
        (exceptions.ConfigError, 2),
        (exceptions.EngineUnavailable, 3),
        (exceptions.OutcomeUnknown, 3),
        (exceptions.EngineStartFailed, 3),
        (exceptions.EngineUnsuitable, 3),
        (exceptions.ForeignDatabase, 3),
        (exceptions.NewerFormat, 3),
        (exceptions.EngineFull, 1),
        (exceptions.TaskNotFound, 4),
        (exceptions.AgentNotFound, 4),
        (exceptions.BoardNotFound, 4),
        (exceptions.LeaseLost, 1),
        (exceptions.IllegalState, 1),
        (exceptions.TaskFailed, 1),
        (exceptions.TaskCancelled, 1),
    ],
)
def test_an_error_has_the_documented_exit_code(
    error: type[exceptions.CallboardError], code: int
) -> None:
    assert failures.exit_code(error("It was so.")) == code


def test_without_arguments_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    code = main([])

    assert code == 2
    assert "callboard demo" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 100])
def test_help_fits_the_terminal_and_cuts_no_option(columns: int) -> None:
    ran = run_alone("tasks", "add", "--help", env={"COLUMNS": str(columns), "NO_COLOR": "1"})

    assert ran.code == 0
    assert max(len(line) for line in ran.out.splitlines()) <= columns
    for option in ("--require-capability", "--on-failure", "--retry-factor", "--namespace"):
        assert option in ran.out
    assert [line.strip() for line in ran.out.splitlines()].count(
        "callboard tasks add --from tasks.jsonl"
    ) == 1


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["taks", "list"], "tasks"),
        (["tasks", "lst"], "list"),
        (["tasks", "list", "--jsno"], "--json"),
    ],
)
def test_a_typo_suggests_the_nearest(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(arguments)

    error = capsys.readouterr().err
    assert code == 2
    assert nearest in error
    assert error.startswith("Error: ")
    assert error.count("\n") == 1


def test_a_usage_error_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["tasks", "show", "--json"])

    error = json.loads(capsys.readouterr().err)["error"]
    assert code == 2
    assert error["code"] == "usage"
    assert "TASK" in error["message"]


def test_json_after_two_hyphens_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    main(["tasks", "nosuch", "--", "--json"])

    assert capsys.readouterr().err.startswith("Error: ")


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["callboard"] == __version__


def test_starting_up_loads_neither_the_client_nor_the_tables() -> None:
    program = (
        "import sys, callboard.cli\n"
        "print(*{'redis', 'rich', 'asyncio', 'callboard.app'}.intersection(sys.modules))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == []


def test_options_of_all_commands_stand_before_or_after_the_command(cli: Cli) -> None:
    task = cli.add("greet")

    before = cli("--json", "tasks", "show", task)
    between = cli("tasks", "show", "--json", task)
    after = cli("tasks", "show", task, "--json")

    assert before.json["id"] == between.json["id"] == after.json["id"] == task


def test_what_is_given_after_the_command_goes_before(cli: Cli, namespace: str) -> None:
    cli.add("greet")

    elsewhere = cli("tasks", "list", "--namespace", f"{namespace}-2")

    assert "No tasks on board 'default'" in elsewhere.out


def test_not_found_is_exit_code_4_and_one_line(cli: Cli) -> None:
    ran = cli("tasks", "show", "nosuch")

    assert ran.code == 4
    assert ran.out == ""
    assert ran.err.startswith("Error: No task 'nosuch' on board 'default'.")
    assert ran.err.count("\n") == 1


def test_an_error_for_programs_has_code_message_and_details(cli: Cli) -> None:
    ran = cli("tasks", "show", "nosuch", "--json")

    assert ran.code == 4
    assert ran.out == ""
    assert ran.error["code"] == "task_not_found"
    assert ran.error["details"] == {"task": "nosuch", "board": "default"}


def test_no_engine_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["tasks", "list", "--url", f"unix://{tmp_path}/nosuch.sock"])

    error = capsys.readouterr().err
    assert code == 3
    assert error.startswith("Error: ")
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "localhost:6379"],
        ["--url", "redis://localhost:6379", "--data", "here"],
        ["--namespace", "not a name"],
    ],
)
def test_a_place_that_cannot_be_used_is_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["tasks", "list", *arguments])

    assert code == 2
    assert capsys.readouterr().err.startswith("Error: ")


def test_what_a_terminal_would_act_on_is_not_printed(cli: Cli) -> None:
    task = cli.add("greet", "--title", "red \x1b[31malert\x07")

    shown = cli.ok("tasks", "show", task).out

    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "alert" in shown


def test_the_shell_completes_commands_and_options() -> None:
    setting = {"_CALLBOARD_COMPLETE": "complete_bash"}

    commands = run_alone(env={**setting, "COMP_WORDS": "callboard ta", "COMP_CWORD": "1"})
    options = run_alone(env={**setting, "COMP_WORDS": "callboard tail --no", "COMP_CWORD": "2"})

    assert commands.out.split() == ["tail", "tasks"]
    assert "--no-follow" in options.out.split()


def _name(part: Any) -> str | None:
    return " ".join(part) if isinstance(part, tuple) else ""


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=_name)
def test_each_command_has_an_example_that_fits_sixty_columns(
    path: tuple[str, ...], command: Any
) -> None:
    _, _, example = command.help.partition("Example:\n")

    assert example.splitlines()
    for line in example.splitlines():
        assert line.startswith(f"  callboard {' '.join(path)}")
        assert len(line) <= 58


def test_the_root_says_what_commands_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    for name in ("tasks", "boards", "agents", "dlq", "worker", "tail", "doctor", "engine", "demo"):
        assert f" {name} " in shown


def test_run_as_a_module_it_exits_with_the_same_code() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "callboard.cli", "no-such-command"], capture_output=True, check=False
    )

    assert ran.returncode == 2
