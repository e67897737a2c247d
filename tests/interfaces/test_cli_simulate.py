"""``callboard simulate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from callboard.cli import main
from tests.interfaces.cli_support import Cli

SMALL = ["--tasks", "60", "--agents", "5", "--seeds", "2", "--processes", "1"]


def simulate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["simulate", *arguments])
    taken = capsys.readouterr()
    return code, taken.out, taken.err


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALLBOARD_URL", "CALLBOARD_DATA", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--load", "flake"], "did you mean flaky?"),
        (["run", "--strategy", "best_idel"], "did you mean best_idle?"),
        (["run", "--strategy", "nowhere:x"], "Cannot import the strategy 'nowhere:x'"),
        (["run", "--tasks", "0"], "tasks is 0; it must be 1 to 1000000."),
        (["run", "--url", "redis://localhost"], "leave out --url"),
    ],
)
def test_what_cannot_be_simulated_is_exit_code_2_and_says_why(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, out, err = simulate(capsys, *arguments)

    assert (code, out) == (2, "")
    assert says in err


def test_without_lupa_it_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lupa.lua51", None)

    code, _, err = simulate(capsys, "run", *SMALL)

    assert code == 2
    assert "with the extra simulate" in err


def test_strategies_stand_under_the_oracle_the_best_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = simulate(capsys, "run", "--load", "fresh", "--compare", *SMALL)

    lines = out.splitlines()
    assert code == 0
    assert lines[1] == "5 agents, 60 tasks, 2 seeds"
    assert lines[2].split()[:4] == ["STRATEGY", "×", "ORACLE", "RANGE"]
    assert lines[3].split()[:2] == ["oracle", "1.00"]
    ratios = [float(line.split()[1]) for line in lines[4:17]]
    assert ratios == sorted(ratios)
    assert {line.split()[0] for line in lines[4:17]} >= {"best_idle", "consistent_hash"}


def test_json_has_every_seed_and_is_the_same_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "-l", "fresh", "-l", "graphs", "-s", "predictive", "--json", *SMALL]

    _, first, err = simulate(capsys, *arguments)
    _, second, _ = simulate(capsys, *arguments)

    assert first == second
    assert err == ""
    document = json.loads(first)
    assert [load["load"] for load in document["loads"]] == ["fresh", "graphs"]
    assert [row["strategy"] for row in document["loads"][0]["rows"]] == ["oracle", "predictive"]
    assert [seed["done"] for seed in document["loads"][0]["rows"][1]["seeds"]] == [60, 60]
    assert document["settings"]["seeds"] == 2


@pytest.mark.parametrize("columns", ["30", "60", "90"])
def test_a_narrow_terminal_keeps_what_matters_most(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    _, out, _ = simulate(capsys, "run", *SMALL)

    table = [line for line in out.splitlines() if line.startswith(("STRATEGY", "oracle", "best"))]
    assert "× ORACLE" in table[0]
    assert all(len(line) <= int(columns) for line in table)


def test_without_stealing_nothing_is_stolen(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "-s", "round_robin", "--json", *SMALL]

    def stolen(*more: str) -> int:
        document = json.loads(simulate(capsys, *arguments, *more)[1])
        return sum(seed["stolen"] for seed in document["loads"][0]["rows"][1]["seeds"])

    assert stolen() > 0
    assert stolen("--no-stealing") == 0


def test_the_loads_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = simulate(capsys, "loads")
    _, as_json, _ = simulate(capsys, "loads", "--json")

    assert "heavy-tail" in out
    assert "callboard simulate run" in out
    listed = json.loads(as_json)["loads"]
    assert [load["load"] for load in listed if load["is_reference"]] == [
        "fresh",
        "stale",
        "flaky",
        "heavy-tail",
    ]


def test_a_board_without_done_tasks_says_what_to_look_at(cli: Cli) -> None:
    cli.add("greet")

    ran = cli("simulate", "record")

    assert ran.code == 4
    assert "no done task to record" in ran.err
    assert "callboard boards list" in ran.err


def test_what_a_board_did_is_recorded_and_replayed(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        cli.add("greet", '"secret"')
        task, fence = cli.claim()
        cli.ok("tasks", "complete", task, "--fence", fence)
    file = tmp_path / "load.jsonl"

    said = cli.ok("simulate", "record", str(file)).out
    printed = cli.ok("simulate", "record").out
    code, out, _ = simulate(capsys, "run", "--load", str(file), "--processes", "1")

    assert said.startswith(f"Wrote 3 tasks to {file}.")
    assert printed == file.read_text("utf-8")
    assert "secret" not in printed
    assert {"mira", "greet"} <= {*printed.replace('"', " ").split()}
    assert code == 0
    assert "1 agent, 3 tasks, 1 seed" in out
