"""What makes a team, and what is said of a description that makes none."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.retry import RetryPolicy
from callboard.domain.team import AgentDefinition, TeamSpec, parse_agent, parse_team
from callboard.exceptions import InvalidTeam

AGENTS = {
    "planner": {"callable": "handlers:plan"},
    "writer": {"callable": "handlers:write"},
    "reader": {"command": ["python", "reader.py"]},
    "judge": {"endpoint": "http://127.0.0.1:8800/judge"},
}


def a_team(**changes: Any) -> dict[str, Any]:
    team = {"planner": "planner", "synthesizer": "writer", "workers": ["reader", "judge"]}
    return {"team": {**team, **changes}, "agents": AGENTS}


def refusal(document: dict[str, Any], name: str = "survey") -> str:
    with pytest.raises(InvalidTeam) as caught:
        parse_team(name, document)
    assert caught.value.code == "invalid_team"
    return str(caught.value)


def agent_refusal(definition: Any, name: str = "reader", **options: Any) -> str:
    with pytest.raises(InvalidTeam) as caught:
        parse_agent(name, definition, **options)
    return str(caught.value)


# Teams that are refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"workres": ["reader"]},
            "teams.specs.survey.workres: is not a known key; did you mean workers?",
        ),
        (
            {"timeout": 5},
            "teams.specs.survey.timeout: is not a known key; did you mean global_timeout_seconds?",
        ),
        (
            {"planner": None},
            "teams.specs.survey: has no planner; name the agent that turns a request into tasks: "
            "planner: planner",
        ),
        (
            {"synthesizer": None},
            "teams.specs.survey: has no synthesizer; name the agent that writes the answer: "
            "synthesizer: writer",
        ),
        (
            {"workers": None},
            "teams.specs.survey: has no workers; name the agents that do the tasks: "
            "workers: [researcher, coder]",
        ),
        ({"workers": []}, "teams.specs.survey.workers: has 0 names; give 1 to 1,000"),
        (
            {"workers": "reader"},
            "teams.specs.survey.workers: is a text, where a list is expected; "
            "write [researcher, coder]",
        ),
        (
            {"workers": ["reader", "judge", "reader"]},
            "teams.specs.survey.workers[2]: names reader a second time; remove it, and raise "
            "max_concurrent of agents.reader for more at once",
        ),
        (
            {"workers": ["reeder"]},
            "teams.specs.survey.workers[0]: the agent reeder is defined nowhere; "
            "did you mean reader?",
        ),
        (
            {"planner": True},
            "teams.specs.survey.planner: is read as the truth value true, where a text is "
            "expected; put it in quotes",
        ),
        (
            {"planner": "the planner"},
            "teams.specs.survey.planner: 'the planner' is not a name; "
            "use 1 to 64 letters, digits, '.', '_' or '-'",
        ),
        (
            {"checkpointing_enabled": False},
            "teams.specs.survey.checkpointing_enabled: cannot be switched off; "
            "remove it; every run can be resumed",
        ),
        (
            {"shared_memory_namespace": "{team_name}"},
            "teams.specs.survey.shared_memory_namespace: is not offered; remove it; members pass "
            "results along the dependencies of their tasks",
        ),
        (
            {"max_concurrent": 0},
            "teams.specs.survey.max_concurrent: is 0; give a whole number from 1 to 100,000",
        ),
        (
            {"max_tasks": 2.5},
            "teams.specs.survey.max_tasks: is 2.5; give a whole number from 1 to 1,000,000",
        ),
        (
            {"max_rounds": True},
            "teams.specs.survey.max_rounds: is read as the truth value true; "
            "give a whole number from 1 to 10,000",
        ),
        (
            {"global_max_turns": "many"},
            "teams.specs.survey.global_max_turns: is 'many'; "
            "give a whole number from 1 to 100,000,000",
        ),
        (
            {"global_timeout_seconds": 0},
            "teams.specs.survey.global_timeout_seconds: is 0; "
            "give a number of seconds from 0.1 to 31,536,000",
        ),
        (
            {"keep": 59},
            "teams.specs.survey.keep: is 59; give a number of seconds from 60 to 31,536,000",
        ),
        (
            {"keep": "nan"},
            "teams.specs.survey.keep: is 'nan'; give a number of seconds from 60 to 31,536,000",
        ),
        (
            {"replan": "result"},
            "teams.specs.survey.replan: is 'result'; did you mean results?",
        ),
        (
            {"on_failure": False},
            "teams.specs.survey.on_failure: is read as the truth value false; "
            "known: continue and stop",
        ),
        (
            {"result_bytes": 2_000_000},
            "teams.specs.survey.result_bytes: is 2,000,000; "
            "give a whole number from 256 to 1,048,576",
        ),
        (
            {"description": "a\0b"},
            "teams.specs.survey.description: has a NUL character in it; remove it",
        ),
    ],
)
def test_a_team_is_refused_with_the_key_and_the_cure(changes: dict[str, Any], said: str) -> None:
    assert refusal(a_team(**changes)) == said


@pytest.mark.parametrize("team", [None, [], "planner", 7])
def test_a_team_that_is_no_mapping_is_refused(team: Any) -> None:
    said = refusal({"team": team, "agents": AGENTS})

    assert said.startswith("teams.specs.survey: is ")


@pytest.mark.parametrize("name", ["", "two words", "x" * 65])
def test_a_team_needs_a_name_that_fits_into_longer_names(name: str) -> None:
    assert "use 1 to 64 letters" in refusal(a_team(), name)


def test_agents_defined_nowhere_are_all_named_with_a_block_to_paste() -> None:
    document = {"team": {"planner": "on", "synthesizer": "2nd", "workers": ["re-ader"]}}

    said = refusal(document)

    assert said == (
        "teams.specs.survey: the agents on, 2nd and re-ader are defined nowhere; "
        "add to the file:\n"
        "\n"
        "agents:\n"
        '  "on": {callable: "handlers:on"}\n'
        '  "2nd": {callable: "handlers:_2nd"}\n'
        '  re-ader: {callable: "handlers:re_ader"}'
    )


def test_a_file_with_agents_is_told_only_the_lines_to_add() -> None:
    said = refusal(a_team(workers=["alpha", "beta"]))

    assert said.endswith(
        "add below agents:\n\n"
        '  alpha: {callable: "handlers:alpha"}\n'
        '  beta: {callable: "handlers:beta"}'
    )


def test_the_error_says_for_programs_which_key_it_is() -> None:
    with pytest.raises(InvalidTeam) as caught:
        parse_team("survey", a_team(workers=["reader", 7]))

    assert caught.value.details["path"] == "teams.specs.survey.workers[1]"
    assert caught.value.details["key"] == ["teams", "specs", "survey", "workers", 1]
    assert caught.value.details["cure"] == "put it in quotes"


# Agents that are refused


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (
            "handlers:read",
            "agents.reader: is a text, and an agent is a mapping with its kind; "
            'write {callable: "handlers:read"} if it is a function',
        ),
        (
            {"description": "reads"},
            "agents.reader: has no kind; add one of callable, command, elsewhere, endpoint, "
            'as in callable: "handlers:plan"',
        ),
        (
            {"calable": "handlers:read"},
            "agents.reader.calable: is not a known key; did you mean callable?",
        ),
        (
            {"callable": "handlers:read", "command": ["x"]},
            "agents.reader.command: is a second kind beside callable; keep one of them",
        ),
        (
            {"callable": "handlers:read", "env": {"A": "b"}},
            "agents.reader.env: belongs to the kind command, and this is a callable; remove it",
        ),
        (
            {"callable": "handlers:read", "timout": 5},
            "agents.reader.timout: is not a known key; did you mean timeout?",
        ),
        ({"callable": None}, 'agents.reader.callable: is empty; callable: "handlers:plan"'),
        (
            {"callable": "handlers.read"},
            "agents.reader.callable: 'handlers.read' names no function; "
            'write module:function, as "handlers:plan"',
        ),
        (
            {"command": []},
            'agents.reader.command: names no program; write command: ["python", "reader.py"]',
        ),
        (
            {"command": "  "},
            'agents.reader.command: is empty; write command: ["python", "reader.py"]',
        ),
        (
            {"command": ["sleep", 1.10]},
            "agents.reader.command[1]: is read as the number 1.1, where a text is expected; "
            "put it in quotes",
        ),
        (
            {"endpoint": "ftp://x/y"},
            "agents.reader.endpoint: is not an http or https URL; "
            'write endpoint: "http://127.0.0.1:8800/judge"',
        ),
        (
            {"endpoint": "http://x:99999/"},
            "agents.reader.endpoint: is not an http or https URL; "
            'write endpoint: "http://127.0.0.1:8800/judge"',
        ),
        (
            {"endpoint": "http://x/", "headers": {"X-A": "b\r\nX-B: c"}},
            "agents.reader.headers.X-A: has a line break in its value; remove it",
        ),
        (
            {"endpoint": "http://x/", "headers": {"X A": "b"}},
            'agents.reader.headers.X A: is not the name of a header; write it as in "X-Team"',
        ),
        (
            {"elsewhere": {"board": "default"}},
            "agents.reader.elsewhere: has no kind; "
            "write elsewhere: {board: default, kind: research}",
        ),
        (
            {"command": "x", "env": {"DEBUG": 1}},
            "agents.reader.env.DEBUG: is read as the number 1, where a text is expected; "
            "put it in quotes",
        ),
        (
            {"command": "x", "env_from": ["A=B"]},
            "agents.reader.env_from[0]: 'A=B' names no variable; write it as in PATH",
        ),
        (
            {"callable": "a:b", "max_concurrent": 0},
            "agents.reader.max_concurrent: is 0; give a whole number from 1 to 1,000",
        ),
        (
            {"callable": "a:b", "timeout": "60s"},
            "agents.reader.timeout: is '60s'; give a number of seconds from 0.01 to 31,536,000",
        ),
        (
            {"callable": "a:b", "capabilities": ["c s v"]},
            "agents.reader.capabilities[0]: 'c s v' is not a name; "
            "use 1 to 128 letters, digits, '.', '_' or '-'",
        ),
        (
            {"callable": "a:b", "labels": {"zone": "a b"}},
            "agents.reader.labels.zone: is 'a b'; "
            "use 1 to 128 letters, digits or any of . _ : / @ + -",
        ),
        (
            {"callable": "a:b", "retry": {"retries": 3}},
            "agents.reader.retry.retries: is not a known key; did you mean max_retries?",
        ),
        (
            {"callable": "a:b", "retry": {"max_retries": 1_001}},
            "agents.reader.retry.max_retries: is 1,001; give a whole number from 0 to 1,000",
        ),
        (
            {"model": "large", "system_prompt": "…"},
            "agents.reader.model: belongs to an agent that is a language model, and none is built "
            'in; call one from a function of yours: {callable: "handlers:ask"}',
        ),
    ],
)
def test_an_agent_is_refused_with_the_key_and_the_cure(definition: Any, said: str) -> None:
    assert agent_refusal(definition) == said


def test_agents_nested_below_specs_are_told_to_move_up() -> None:
    said = agent_refusal({"planner": {}}, "specs")

    assert said.startswith("agents.specs: is not the name of an agent; write the agents right")


def test_a_value_that_may_be_secret_is_in_no_message() -> None:
    said = agent_refusal({"endpoint": "http//user:secret@host"})
    header = agent_refusal({"endpoint": "http://x", "headers": {"X": "secret\n"}})

    assert "secret" not in said
    assert "secret" not in header


# Teams that are read


def test_a_team_of_three_lines_has_the_documented_defaults() -> None:
    team = parse_team("survey", a_team(workers=["reader"]))

    assert team == TeamSpec(
        name="survey",
        planner="planner",
        synthesizer="writer",
        workers=("reader",),
        agents={
            "planner": AgentDefinition("planner", "callable", "handlers:plan"),
            "reader": AgentDefinition("reader", "command", ("python", "reader.py")),
            "writer": AgentDefinition("writer", "callable", "handlers:write"),
        },
        description="",
        max_concurrent=None,
        max_tasks=1_000,
        max_rounds=10,
        global_max_turns=5_000,
        global_timeout_seconds=3_600.0,
        replan="results",
        on_failure="continue",
        result_bytes=262_144,
        keep=2_592_000.0,
    )


def test_every_setting_of_a_team_is_read() -> None:
    team = parse_team(
        "survey",
        a_team(
            description="reads reports",
            max_concurrent=8,
            max_tasks=50,
            max_rounds=3,
            global_max_turns=100,
            global_timeout_seconds=300,
            replan="never",
            on_failure="stop",
            result_bytes=1_000,
            keep=60,
            checkpointing_enabled=True,
        ),
    )

    assert team.description == "reads reports"
    assert (team.max_concurrent, team.max_tasks, team.max_rounds) == (8, 50, 3)
    assert (team.global_max_turns, team.global_timeout_seconds) == (100, 300.0)
    assert (team.replan, team.on_failure) == ("never", "stop")
    assert (team.result_bytes, team.keep) == (1_000, 60.0)


def test_numbers_that_came_as_text_are_numbers() -> None:
    team = parse_team(
        "survey", a_team(max_tasks="50", max_concurrent="1e3", global_timeout_seconds="2.5")
    )

    assert (team.max_tasks, team.max_concurrent) == (50, 1_000)
    assert team.global_timeout_seconds == 2.5


def test_a_key_without_a_value_is_not_there() -> None:
    team = parse_team("survey", a_team(description=None, max_concurrent=None))

    assert (team.description, team.max_concurrent) == ("", None)


def test_one_agent_may_plan_work_and_answer() -> None:
    team = parse_team(
        "solo",
        {
            "team": {"planner": "one", "synthesizer": "one", "workers": ["one"]},
            "agents": {"one": {"callable": "handlers:one"}},
        },
    )

    assert list(team.agents) == ["one"]


def test_every_setting_of_an_agent_is_read() -> None:
    agent = parse_agent(
        "reader",
        {
            "command": ["python", "reader.py"],
            "env": {"MODE": "fast"},
            "env_from": ["API_KEY"],
            "cwd": "work",
            "output_bytes": "4096",
            "kill_after": 0.5,
            "description": "reads",
            "capabilities": ["csv", "text"],
            "labels": {"zone": "eu/1"},
            "max_concurrent": "4",
            "timeout": 60,
            "retry": {"max_retries": "2", "base": 0},
        },
    )

    assert agent == AgentDefinition(
        name="reader",
        kind="command",
        settings=("python", "reader.py"),
        options={
            "env": {"MODE": "fast"},
            "env_from": ("API_KEY",),
            "cwd": "work",
            "output_bytes": 4_096,
            "kill_after": 0.5,
        },
        description="reads",
        capabilities=("csv", "text"),
        labels={"zone": "eu/1"},
        max_concurrent=4,
        timeout=60.0,
        retry=RetryPolicy(max_retries=2, base=0.0),
    )


def test_elsewhere_is_the_default_board_unless_it_says_which() -> None:
    agent = parse_agent("far", {"elsewhere": {"kind": "research"}})

    assert agent.settings == {"board": "default", "kind": "research"}


def test_a_kind_of_ones_own_keeps_its_settings_and_options_as_they_are() -> None:
    kinds = {"callable": frozenset[str](), "model": frozenset({"temperature"})}

    agent = parse_agent(
        "reader", {"model": {"name": ["x", 1]}, "temperature": 0.5, "timeout": 5}, kinds
    )

    assert agent.kind == "model"
    assert agent.settings == {"name": ["x", 1]}
    assert agent.options == {"temperature": 0.5}
    assert agent.timeout == 5.0
