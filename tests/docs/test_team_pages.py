"""What the pages say of teams is so: files, keys, what agents are asked, events of a run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final

import msgspec
import pytest

from callboard.domain import plan, story, team
from callboard.domain.plan import PlannedTask
from callboard.domain.retry import RetryPolicy
from callboard.domain.run import Phase
from callboard.domain.team import BUILT_IN_KINDS, AgentDefinition, TeamSpec
from callboard.teams import read_document, team_of
from callboard.teams.requests import (
    Outcome,
    PlanRequest,
    SynthesisRequest,
    WorkRequest,
)
from tests.docs.pages import ROOT, Block, blocks, pages, rows

TEAMS: Final = ROOT / "docs" / "reference" / "teams.md"
EVENTS: Final = ROOT / "docs" / "reference" / "run-events.md"

SOURCE_FILE: Final = """\
providers:
  tasks:
    default: "redis"
    backends:
      redis:
        backend: "agentic_primitives_gateway.primitives.tasks.redis.RedisTasksProvider"
        config:
          redis_url: "${REDIS_URL:=redis://localhost:6379/0}"

teams:
  store:
    backend: redis
    config:
      redis_url: "${REDIS_URL:=redis://localhost:6379/0}"
  specs:
    research-team:
      planner: "planner"
      synthesizer: "synthesizer"
      workers: ["researcher", "coder"]
"""
"""The file that the earlier design documents, word for word."""

FILES: Final = [
    block
    for page in pages()
    for block in blocks(page)
    if block.language == "yaml" and re.search(r"^agents:$.*^teams:$", block.text, re.M | re.S)
]


NUMBERS_OF_A_TEAM: Final = {
    field.name: field.default
    for field in msgspec.structs.fields(TeamSpec)
    if isinstance(field.default, int | float)
}


def cells_below(heading: str) -> dict[str, list[str]]:
    """The first table below a heading of the page of teams, by the code word of its first cell."""
    section = TEAMS.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


# Team files


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.name)
def test_a_team_file_on_a_page_can_be_read(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "team.yaml"
    file.write_text(block.text, "utf-8")

    document = read_document(file, environ={"JUDGE_TOKEN": "x"})

    assert document.teams


def test_the_team_files_were_found() -> None:
    assert {"teams.md", "move-a-team-file.md", "write-agents.md"} <= {
        block.page.name for block in FILES
    }


def test_the_file_of_the_earlier_design_is_on_a_page_and_needs_only_its_agents(
    tmp_path: Path,
) -> None:
    page = ROOT / "docs" / "how-to" / "move-a-team-file.md"
    text = next(block.text for block in blocks(page) if block.file == "team.yaml")
    without_agents = re.sub(r"^agents:\n(?:  .*\n)+\n", "", text, flags=re.MULTILINE)
    file = tmp_path / "team.yaml"
    file.write_text(text, "utf-8")

    document = read_document(file, environ={})
    spec = team_of("research-team", document.teams["research-team"], environ={})

    assert without_agents == SOURCE_FILE
    assert document.engine.url == "redis://localhost:6379/0"
    assert (spec.planner, spec.synthesizer) == ("planner", "synthesizer")
    assert spec.workers == ("researcher", "coder")


# Keys and fields, each with a row


def names_of(kind: type[msgspec.Struct], *without: str) -> set[str]:
    return set(kind.__struct_fields__) - {*without}


@pytest.mark.parametrize(
    "names",
    [
        names_of(TeamSpec, "name", "agents"),
        names_of(AgentDefinition, "name", "kind", "settings", "options"),
        names_of(RetryPolicy),
        {*BUILT_IN_KINDS, *(key for keys in BUILT_IN_KINDS.values() for key in keys)},
        names_of(PlannedTask),
        {*plan._ALIASES, *plan._ANSWER_FIELDS},
        names_of(Outcome),
        names_of(PlanRequest),
    ],
    ids=["team", "agent", "retry", "kinds", "planned", "answer", "outcome", "request"],
)
def test_every_name_has_its_row(names: set[str]) -> None:
    assert names
    assert names - rows(TEAMS).keys() == set()


@pytest.mark.parametrize(
    ("role", "kind"),
    [("planner", PlanRequest), ("worker", WorkRequest), ("synthesizer", SynthesisRequest)],
)
def test_every_field_of_a_request_is_in_its_example(role: str, kind: type[msgspec.Struct]) -> None:
    examples = [block.text for block in blocks(TEAMS) if block.language == "json"]
    example = next(text for text in examples if f'"role": "{role}"' in text)

    assert msgspec.json.decode(example).keys() == names_of(kind)
    assert isinstance(msgspec.json.decode(example, type=kind), kind)


def test_every_default_of_a_team_is_shown() -> None:
    said = cells_below("`teams.specs`")

    shown = {name: said[name][2].partition(":")[0] for name in NUMBERS_OF_A_TEAM}

    assert shown == {
        "max_tasks": "1,000",
        "max_rounds": "10",
        "global_max_turns": "5,000",
        "global_timeout_seconds": "3,600",
        "result_bytes": "262,144",
        "keep": "2,592,000",
    }
    assert {name: float(text.replace(",", "")) for name, text in shown.items()} == NUMBERS_OF_A_TEAM


def test_every_phase_is_on_the_page() -> None:
    text = next(block.text for block in blocks(TEAMS) if " --> " in block.text)

    assert {line.split()[0] for line in text.splitlines()} == set(Phase)


# Events


def test_every_event_of_a_run_has_its_row_and_no_other_is_named() -> None:
    source = inspect.getsource(story)
    told = set(re.findall(r'yield \(?\s*"(\w+)"', source))
    told |= {f"agent_{what}" for what in re.findall(r'"(\w+)": "(?:content|name)"', source)}

    listed = [
        re.match(r"\| `(\w+)` \|", line)
        for line in EVENTS.read_text("utf-8")
        .partition("\n## Types")[2]
        .partition("\n## ")[0]
        .splitlines()
    ]

    assert len(told) > 20
    # Told by hosts and leaders, by name.
    assert {found[1] for found in listed if found} == {*told, "run_resumed", "worker_error"}


def test_what_the_words_of_retired_keys_say_is_on_the_page() -> None:
    text = TEAMS.read_text("utf-8")

    assert [key for key in team._TEAM_RETIRED if f"`{key}`" not in text] == []
