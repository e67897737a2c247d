"""A team's file: what is read of it, which line is blamed for what, and which engine it means."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.exceptions import ConfigError, InvalidTeam
from callboard.teams.document import (
    TEMPORARY,
    EngineWish,
    TeamDocument,
    choose_url,
    expand,
    read_document,
    team_of,
    variables_of,
)

REDIS_EXAMPLE = """\
providers:
  tasks:
    default: "redis"
    backends:
      redis:
        backend: "some_gateway.primitives.tasks.redis.RedisTasksProvider"
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

AGENTS = """\
agents:
  planner: {callable: "handlers:planner"}
  synthesizer: {callable: "handlers:synthesizer"}
  researcher: {callable: "handlers:researcher"}
  coder: {callable: "handlers:coder"}
"""

SURVEY = """\
agents:
  planner: {callable: "handlers:plan"}
  writer: {callable: "handlers:write"}
  reader: {command: ["python", "reader.py"]}
teams:
  specs:
    survey:
      planner: planner
      synthesizer: writer
      workers: [reader]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "team.yaml"


def read(file: Path, text: str | bytes, **options: Any) -> TeamDocument:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_document(file, **{"environ": {}, **options})


def refusal(file: Path, text: str | bytes, **options: Any) -> str:
    """What is said of the text, from the line on: ``12: teams.specs: …``."""
    with pytest.raises(InvalidTeam) as caught:
        read(file, text, **options)
    said = str(caught.value)
    assert said.startswith(f"{file}:")
    return said.removeprefix(f"{file}:").strip()


def expanded(text: str, /, **variables: str) -> Any:
    return expand(text, variables.get, ("teams",))


def expansion_refusal(text: str, /, **variables: str) -> str:
    with pytest.raises(InvalidTeam) as caught:
        expanded(text, **variables)
    return str(caught.value)


# Placeholders: the eight cases


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${A:=x}", "x"),
        ("${A:-x}", "x"),
        ("${A:=}", ""),
        ("${A:= b c }", " b c "),
        ("${A:=redis://localhost:6379/0}", "redis://localhost:6379/0"),
        ("${_a1:-a:-b:=c}", "a:-b:=c"),
        ("<${A:=x}|${B:-y}>", "<x|y>"),
    ],
)
def test_case_1_both_forms_give_the_default_which_may_be_any_text(text: str, result: str) -> None:
    assert expanded(text) == result


@pytest.mark.parametrize("text", ["${A:=x}", "${A:-x}"])
def test_case_2_an_empty_variable_gives_the_default_as_in_a_shell(text: str) -> None:
    assert expanded(text, A="") == "x"
    assert expanded(text, A="set") == "set"


def test_case_3_a_variable_without_a_value_is_refused_rather_than_left_standing() -> None:
    unset = expansion_refusal("${NAME}")
    empty = expansion_refusal("${NAME}", NAME="")
    bare = expansion_refusal("at $NAME", NAME="x")

    assert unset == (
        "teams: the variable NAME is not set; set it in the environment, give --var NAME=…, "
        "or write ${NAME:=default}"
    )
    assert empty.startswith("teams: the variable NAME is set to an empty text; ")
    assert bare == (
        "teams: $NAME is not replaced here; write ${NAME} for the variable's value, "
        "$$NAME for the text itself"
    )


def test_case_4_what_was_put_in_is_not_expanded_again() -> None:
    assert expanded("${A}", A="$B ${B} $$", B="no") == "$B ${B} $$"
    assert expanded("${U:=a}b}") == "ab}"


@pytest.mark.parametrize("text", ["${A:=${B:=x}}", "${A:=${B}}", "${A:=$B}", "${A:-${}"])
def test_case_4_a_placeholder_in_a_default_is_refused(text: str) -> None:
    assert expansion_refusal(text, A="set") == (
        "teams: the default of A has a placeholder in it, and it would not be replaced; "
        "write a plain default; $$ is a dollar sign"
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$$X", "$X"),
        ("$${X}", "${X}"),
        ("$$$${X:=d}", "$${X:=d}"),
        ("$$${X:=d}", "$d"),
        ("${X:=pa$$word}", "pa$word"),
        ("costs $5, 5$, $ and $)", "costs $5, 5$, $ and $)"),
    ],
)
def test_case_5_two_dollar_signs_are_one(text: str, result: str) -> None:
    assert expanded(text) == result


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("${X-d}", "write ${X:-d}; an empty variable gives the default"),
        ("${X=d}", "write ${X:=d}; an empty variable gives the default"),
        ("${X:?e}", "write ${X}; where it is not set, that is an error already"),
        ("${X?e}", "write ${X}; where it is not set, that is an error already"),
        ("${X:+a}", "write ${X:=default}; nothing else can be made of a variable"),
        ("${ X}", "write ${X}, without spaces around the name"),
        ("${ X:=d}", "write ${X:=d}, without spaces around the name"),
        ("${}", "write ${NAME}, ${NAME:=default}, or $${ for the text itself"),
        ("${1X}", "write ${NAME}, ${NAME:=default}, or $${ for the text itself"),
    ],
)
def test_case_5_other_forms_of_shells_are_refused_with_ours(text: str, cure: str) -> None:
    assert expansion_refusal(text, X="set").endswith(f" is no placeholder; {cure}")


def test_case_5_a_placeholder_that_is_not_closed_is_refused() -> None:
    assert expansion_refusal("${X:=d", X="set") == (
        "teams: a placeholder is not closed; add its }, and put the whole value in quotes"
    )


def test_case_6_a_number_may_come_from_a_variable(file: Path) -> None:
    text = SURVEY + '      max_tasks: ${TASKS:=50}\n      global_timeout_seconds: "${TIME:=2.5}"\n'

    document = read(file, text)
    default = team_of("survey", document.teams["survey"], environ={})
    given = team_of("survey", document.teams["survey"], environ={"TASKS": "7"})

    assert (default.max_tasks, default.global_timeout_seconds) == (50, 2.5)
    assert given.max_tasks == 7
    assert "max_tasks: is 'many'; give a whole number from 1 to 1,000,000" in refusal(
        file, text, environ={"TASKS": "many"}
    )


def test_case_7_a_value_with_line_breaks_adds_no_keys(file: Path) -> None:
    text = SURVEY + "      description: ${TEXT:=none}\n"
    value = "x\n      max_tasks: 1\nagents: {}"

    document = read(file, text, environ={"TEXT": value})
    team = team_of("survey", document.teams["survey"], environ={"TEXT": value})

    assert team.description == value
    assert team.max_tasks == 1_000


def test_case_7_keys_and_comments_are_not_expanded(file: Path) -> None:
    text = SURVEY.replace("planner:", "${P}:", 1) + "# ${NOWHERE} $HOME\n"

    assert "agents.${P}: '${P}' is not a name" in refusal(file, text, environ={"P": "planner"})
    assert read(file, SURVEY + "# ${NOWHERE} $HOME\n").teams.keys() == {"survey"}


def test_case_8_a_url_of_the_environment_beats_the_file(file: Path) -> None:
    document = read(file, REDIS_EXAMPLE + AGENTS)

    assert choose_url(document, None, {"CALLBOARD_URL": "redis://env:1/0"}) == "redis://env:1/0"


def test_var_goes_before_the_environment(file: Path) -> None:
    document = read(file, SURVEY + "      description: ${TEXT:=none}\n")

    def description(**options: Any) -> str:
        return team_of("survey", document.teams["survey"], **options).description

    assert description(environ={"TEXT": "env"}) == "env"
    assert description(environ={"TEXT": "env"}, variables={"TEXT": "var"}) == "var"
    assert description(environ={"TEXT": "env"}, variables={"TEXT": ""}) == "none"


def test_expansion_reaches_texts_in_lists_and_mappings_and_leaves_the_original() -> None:
    original = {"${A}": ["${A}", {"b": "${A}"}, 1, None, True]}

    result = expand(original, {"A": "x"}.get)

    assert result == {"${A}": ["x", {"b": "x"}, 1, None, True]}
    assert original == {"${A}": ["${A}", {"b": "${A}"}, 1, None, True]}


def test_a_value_that_is_not_utf_8_is_refused_without_being_shown() -> None:
    assert expansion_refusal("${A}", A="secret\udcff") == (
        "teams: the value of A is not valid UTF-8; set it to valid text"
    )


def test_the_variables_of_a_document_are_known(file: Path) -> None:
    document = read(file, SURVEY + "      description: ${TEXT:=none} $${NOT}\n")

    assert variables_of(document.teams) == {"TEXT"}


# The documented example


def test_the_documented_file_lacks_only_its_agents_and_says_what_to_paste(file: Path) -> None:
    said = refusal(file, REDIS_EXAMPLE)

    assert said == (
        "16: teams.specs.research-team: the agents planner, synthesizer, researcher and coder "
        f"are defined nowhere; add to the file:\n\n{AGENTS}"
    ).rstrip("\n")


def test_the_documented_file_works_once_the_block_is_pasted(file: Path) -> None:
    block = refusal(file, REDIS_EXAMPLE).partition("\n\n")[2]

    document = read(file, f"{REDIS_EXAMPLE}\n{block}\n")
    team = team_of("research-team", document.teams["research-team"], environ={})

    assert document.engine.kind == "url"
    assert document.engine.url == "redis://localhost:6379/0"
    assert document.folder == file.parent
    assert (team.planner, team.synthesizer) == ("planner", "synthesizer")
    assert team.workers == ("researcher", "coder")
    assert team.agents["coder"].settings == "handlers:coder"


# What a document holds


def test_a_document_holds_only_the_agents_of_its_team(file: Path) -> None:
    text = (
        SURVEY.replace("teams:", '  other: {callable: "handlers:other"}\nteams:')
        + "    second: {planner: other, synthesizer: other, workers: [other]}\n"
    )

    document = read(file, text)

    assert document.teams["survey"]["agents"].keys() == {"planner", "reader", "writer"}
    assert document.teams["second"] == {
        "team": {"planner": "other", "synthesizer": "other", "workers": ["other"]},
        "agents": {"other": {"callable": "handlers:other"}},
    }


def test_a_document_is_the_same_json_whatever_the_order_of_the_file(file: Path) -> None:
    one = read(file, SURVEY).teams["survey"]
    other = read(
        file,
        """\
teams:
  specs:
    survey: {workers: [reader], synthesizer: writer, planner: planner}
agents:
  reader: {command: ["python", "reader.py"]}
  unused: {callable: "handlers:unused"}
  writer: {callable: "handlers:write"}
  planner: {callable: "handlers:plan"}
""",
    ).teams["survey"]

    assert msgspec.json.encode(one) == msgspec.json.encode(other)


def test_a_document_keeps_placeholders_so_no_secret_is_stored(file: Path) -> None:
    text = SURVEY.replace('"reader.py"]}', '"reader.py"], env: {KEY: "${KEY}"}}')

    document = read(file, text, environ={"KEY": "secret"})

    assert document.teams["survey"]["agents"]["reader"]["env"] == {"KEY": "${KEY}"}
    assert "secret" not in repr(document)


def test_members_named_by_a_variable_keep_all_agents_in_the_document(file: Path) -> None:
    text = SURVEY.replace("planner: planner", 'planner: "${WHO:=planner}"')

    document = read(file, text)
    team = team_of("survey", document.teams["survey"], environ={"WHO": "reader"})

    assert document.teams["survey"]["agents"].keys() == {"planner", "reader", "writer"}
    assert team.planner == "reader"
    assert team.agents.keys() == {"reader", "writer"}


# Files that cannot be read


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidTeam, match="there is no such file; callboard init writes one"):
        read_document(tmp_path / "team.yaml")
    with pytest.raises(InvalidTeam, match="is a folder; give the file in it"):
        read_document(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; callboard init writes a file to start with"),
        ("# only this\n", "is empty; callboard init writes a file to start with"),
        ("- a\n", "is a list; give keys with values below it, indented"),
        ("hello", "is a text; give keys with values below it, indented"),
        (
            "a: 1\n---\nb: 2\n",
            "2: is not YAML: expected a single document in the stream but found another document; "
            "keep one document a file, without a second ---",
        ),
        (
            "teams:\n\tspecs: 1\n",
            "2: is not YAML: while scanning for the next token found character '\\t' that cannot "
            "start any token; indent with spaces",
        ),
        (
            "teams:\n  specs: {a: b\n",
            "3: is not YAML: while parsing a flow mapping expected ',' or '}', but got "
            "'<stream end>'; look at the indentation, and put values with : # { } [ ] or * in "
            "quotes",
        ),
        (
            "teams: *nobody\n",
            "1: is not YAML: found undefined alias 'nobody'; "
            "name an anchor that stands above it, or put the * in quotes",
        ),
        ("teams:\n  specs: a\0b\n", "2: has the character '\\x00'; remove it"),
        (
            "teams: !!python/name:os.system\n",
            "1: teams: has the tag !!python/name:os.system; remove the tag; plain values are all "
            "there is",
        ),
        (
            "teams: !include x.yaml\n",
            "1: teams: has the tag !include; remove the tag; plain values are all there is",
        ),
    ],
)
def test_text_that_is_no_team_is_refused_with_its_line(file: Path, text: str, said: str) -> None:
    assert refusal(file, text) == said


def test_another_encoding_is_refused_with_the_line(file: Path) -> None:
    latin = "# one\nteams: é\n".encode("latin-1")

    assert refusal(file, latin) == "2: is not UTF-8; save the file as UTF-8"
    assert refusal(file, SURVEY.encode("utf-16")).endswith("is not UTF-8; save the file as UTF-8")


def test_a_byte_order_mark_does_no_harm(file: Path) -> None:
    assert read(file, b"\xef\xbb\xbf" + SURVEY.encode()).teams.keys() == {"survey"}


def test_a_file_of_any_size_is_refused_after_256_kib(file: Path) -> None:
    assert refusal(file, "#" * 262_145).startswith("has more than 262,144 bytes")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 12),
            st.one_of(
                st.sampled_from(["*b", "&b ", "<<: ", "!!int ", "? ", "- ", "{", "]", '"', "|\n"]),
                st.sampled_from(["${", "$", ": ", "\n", "  ", "1:30", "~", "no", "\\ud800", "%"]),
                st.text(max_size=3),
            ),
        ),
        max_size=4,
    )
)
def test_any_text_is_read_or_refused_as_no_team(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[float, int, str]]
) -> None:
    text = f"{REDIS_EXAMPLE}\n{AGENTS}"
    for place, cut, new in edits:
        start = int(place * len(text))
        text = text[:start] + new + text[start + cut :]
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    try:
        document = read_document(file, environ={})
    except InvalidTeam as error:
        said = str(error)
    else:
        said = f"{file}: {msgspec.json.encode(document.teams)!r}"

    assert said.startswith(f"{file}:")


# What YAML allows and people do not mean


def test_a_key_that_stands_twice_is_refused_with_both_lines(file: Path) -> None:
    said = refusal(file, SURVEY + "      workers: [writer]\n")

    assert said == (
        "11: teams.specs.survey.workers: stands here a second time, after line 10; keep one of them"
    )


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "True"])
def test_a_word_that_yaml_takes_for_a_truth_value_is_to_be_quoted(file: Path, word: str) -> None:
    said = refusal(file, SURVEY.replace("workers: [reader]", f"workers: [{word}]"))

    assert said.startswith("10: teams.specs.survey.workers[0]: is read as the truth value ")
    assert said.endswith(f', where a text is expected; write "{word}", in quotes')


def test_a_key_that_yaml_takes_for_something_else_is_to_be_quoted(file: Path) -> None:
    said = refusal(file, SURVEY.replace("  reader:", "  on:", 1))
    number = refusal(file, SURVEY.replace("  reader:", "  7:", 1))

    assert said == (
        '4: agents.on: is a key that YAML does not read as a text; write "on", in quotes'
    )
    assert number.endswith('write "7", in quotes')


@pytest.mark.parametrize("number", ["1:30", "010", ".inf", "9999999999999999999"])
def test_a_number_that_is_read_in_different_ways_is_refused(file: Path, number: str) -> None:
    said = refusal(file, SURVEY + f"      max_tasks: {number}\n")

    assert said == (
        f"11: teams.specs.survey.max_tasks: {number} is a number that people read in different "
        "ways; write it in plain decimal digits, or in quotes if it is a text"
    )


def test_a_date_is_the_text_that_was_written(file: Path) -> None:
    document = read(file, SURVEY + "      description: 2026-01-31\n")

    assert document.teams["survey"]["team"]["description"] == "2026-01-31"


def test_numbers_may_have_underscores(file: Path) -> None:
    document = read(file, SURVEY + "      result_bytes: 10_000\n      keep: 1_000.5\n")

    assert document.teams["survey"]["team"]["result_bytes"] == 10_000
    assert document.teams["survey"]["team"]["keep"] == 1_000.5


def test_aliases_and_merges_are_followed(file: Path) -> None:
    text = """\
agents:
  planner: &base {callable: "handlers:plan", timeout: 5}
  writer: *base
  reader: {<<: *base, timeout: 9, description: reads}
  judge: {<<: [{description: first}, {description: second, max_concurrent: 3}], command: x}
teams:
  specs:
    survey: {planner: planner, synthesizer: writer, workers: [reader, judge]}
"""

    agents = read(file, text).teams["survey"]["agents"]

    assert agents["writer"] == {"callable": "handlers:plan", "timeout": 5}
    assert agents["reader"] == {"callable": "handlers:plan", "description": "reads", "timeout": 9}
    assert agents["judge"] == {"command": "x", "description": "first", "max_concurrent": 3}


def test_a_fault_in_what_was_merged_is_found_where_it_stands(file: Path) -> None:
    text = SURVEY.replace('{callable: "handlers:plan"}', "&b\n    callable: a:b\n    timout: 1")
    merged = text.replace('{callable: "handlers:write"}', "{<<: *b}")

    assert refusal(file, merged).startswith("4: agents.planner.timout: ")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [[],[],[],[],[],[],[],[],[],[]]\n"
        + "".join(
            f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a {}\n"
        + "".join(
            f"{new}: &{new} {{<<: [{','.join(['*' + old] * 10)}]}}\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        f"a: &a {'x' * 100_000}\nb: [{','.join(['*a'] * 100)}]\n",
    ],
    ids=["lists", "merges", "texts"],
)
def test_aliases_that_multiply_are_refused_at_once(file: Path, text: str) -> None:
    started = time.monotonic()

    said = refusal(file, text)

    assert "is too much once all aliases are replaced; use fewer aliases" in said
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n"])
def test_what_contains_itself_is_refused(file: Path, text: str) -> None:
    assert "is nested too deeply, or contains itself by an alias" in refusal(file, text)


@pytest.mark.parametrize("depth", [40, 20_000])
def test_deep_nesting_is_refused(file: Path, depth: int) -> None:
    assert "is nested too deeply" in refusal(file, "a: " + "[" * depth + "]" * depth)


def test_half_a_surrogate_pair_is_refused(file: Path) -> None:
    assert "has half of a surrogate pair" in refusal(
        file, SURVEY + '      description: "\\ud800"\n'
    )


# Keys of a file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("team: {}\n" + SURVEY, "1: team: is not a known key; did you mean teams?"),
        ("auth: {}\n" + SURVEY, "1: auth: is not a known key; known: agents, providers and teams"),
        (
            "workers: [a]\n" + SURVEY,
            "1: workers: belongs to a team; write it below teams:, specs: and the name of the team",
        ),
        (
            "agents: {}\n",
            "has no teams; write teams: and below it specs: with a team; "
            "callboard init writes an example",
        ),
        (
            "teams: {specs: {}}\n",
            "1: teams.specs: names no team; write a team below it: "
            "survey: {planner: planner, synthesizer: writer, workers: [reader]}",
        ),
        (
            "teams:\n  spec: {}\n",
            "2: teams.spec: is not a known key; did you mean specs?",
        ),
        (
            "teams:\n  max_versions_per_identity: 50\n",
            "2: teams.max_versions_per_identity: is not a setting; "
            "remove it; the 50 newest versions of a team are kept",
        ),
        (
            SURVEY + "      workres: [reader]\n",
            "11: teams.specs.survey.workres: is not a known key; did you mean workers?",
        ),
        (
            SURVEY + "      checkpointing_enabled: false\n",
            "11: teams.specs.survey.checkpointing_enabled: cannot be switched off; "
            "remove it; every run can be resumed",
        ),
        (
            SURVEY.replace("[reader]", "[reeder]"),
            "10: teams.specs.survey.workers[0]: the agent reeder is defined nowhere; "
            "did you mean reader?",
        ),
        (
            SURVEY.replace("teams:", "  spare: {calable: a:b}\nteams:"),
            "5: agents.spare.calable: is not a known key; did you mean callable?",
        ),
        (
            SURVEY + "    other:\n",
            "11: teams.specs.other: is empty; give its keys below it, indented",
        ),
        (
            "providers: {memory: {backend: x}}\n" + SURVEY,
            "1: providers.memory: is not a known key; known: tasks",
        ),
    ],
)
def test_a_key_is_refused_with_its_line_and_the_nearest(file: Path, text: str, said: str) -> None:
    assert refusal(file, text) == said


def test_the_error_has_file_and_line_for_programs(file: Path) -> None:
    with pytest.raises(InvalidTeam) as caught:
        read(file, SURVEY + "      workres: [reader]\n")

    assert caught.value.details["file"] == str(file)
    assert caught.value.details["line"] == 11
    assert caught.value.details["path"] == "teams.specs.survey.workres"


# The engine that a file asks for


def tasks(section: str, store: str = "") -> str:
    text = SURVEY.replace("teams:\n", f"teams:\n  store: {store}\n") if store else SURVEY
    return f"providers:\n  tasks: {section}\n{text}"


@pytest.mark.parametrize(
    ("section", "kind", "url"),
    [
        ("{backend: redis, config: {redis_url: 'redis://r:1/2'}}", "url", "redis://r:1/2"),
        ("{backend: redis}", "url", "redis://localhost:6379/0"),
        ("{backend: a.tasks.redis.RedisTasksProvider}", "url", "redis://localhost:6379/0"),
        ("{backend: redis, config: }", "url", "redis://localhost:6379/0"),
        ("{backend: in_memory}", "temporary", None),
        ("{backend: a.b.tasks.in_memory.InMemoryTasksProvider}", "temporary", None),
        ("{backend: in_memory, config: {}}", "temporary", None),
        ("{backend: callboard}", "default", None),
        ("{backend: embedded}", "embedded", None),
        ("{backends: {only: {backend: in_memory}}}", "temporary", None),
        (
            "{default: b, backends: {a: {backend: noop, config: {x: $Y}}, b: {backend: redis}}}",
            "url",
            "redis://localhost:6379/0",
        ),
        ("{default: '${W:=b}', backends: {b: {backend: '${K:=in_memory}'}}}", "temporary", None),
    ],
)
def test_a_backend_asks_for_this_engine(
    file: Path, section: str, kind: str, url: str | None
) -> None:
    engine = read(file, tasks(section)).engine

    assert (engine.kind, engine.url) == (kind, url)


def test_redis_without_a_url_is_where_the_environment_says(file: Path) -> None:
    text = tasks("{backend: redis}")

    assert read(file, text, environ={"REDIS_URL": "redis://e:1/0"}).engine.url == "redis://e:1/0"
    assert read(file, text, environ={"REDIS_HOST": "h"}).engine.url == "redis://h:6379/0"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "{backend: noop}",
            "2: providers.tasks.backend: names a board that keeps nothing, and no run could end "
            "on it; give one of redis, in_memory, callboard, embedded; "
            "in_memory is forgotten when the process ends",
        ),
        (
            "{backend: a.tasks.noop.NoopTasksProvider}",
            "2: providers.tasks.backend: names a board that keeps nothing, and no run could end "
            "on it; give one of redis, in_memory, callboard, embedded; "
            "in_memory is forgotten when the process ends",
        ),
        (
            "{backend: a.memory.redis.RedisProvider}",
            "2: providers.tasks.backend: 'a.memory.redis.RedisProvider' is not a backend that is "
            "known here; give one of redis, in_memory, callboard, embedded",
        ),
        (
            "{backend: reddis}",
            "2: providers.tasks.backend: 'reddis' is not a known backend; did you mean redis?",
        ),
        (
            "{backend: redis, config: {url: x}}",
            "2: providers.tasks.config.url: is not a known key; did you mean redis_url?",
        ),
        (
            "{backend: redis, config: {redis_url: 'http://x'}}",
            "2: providers.tasks.config.redis_url: Cannot use http://x (redis_url): it is the "
            "address of a coordinator, and this needs the engine itself. "
            "Example: redis://localhost:6379/0",
        ),
        (
            "{backend: redis, config: {redis_url: '${NOWHERE}'}}",
            "2: providers.tasks.config.redis_url: the variable NOWHERE is not set; set it in the "
            "environment, give --var NOWHERE=…, or write ${NOWHERE:=default}",
        ),
        (
            "{backend: in_memory, config: {redis_url: 'redis://x'}}",
            "2: providers.tasks.config.redis_url: is not a setting of in_memory; "
            "remove it; it takes none",
        ),
        (
            "{backend: redis, default: redis}",
            "2: providers.tasks.backend: stands beside default or backends; "
            "give either backend and config, or default and backends",
        ),
        (
            "{config: {}}",
            "2: providers.tasks: has no backend; "
            "add backend: and one of redis, in_memory, callboard, embedded",
        ),
        (
            "{default: reddis, backends: {redis: {backend: redis}}}",
            "2: providers.tasks.default: 'reddis' is none of the backends; did you mean redis?",
        ),
        (
            "{backends: {a: {backend: redis}, b: {backend: in_memory}}}",
            "2: providers.tasks: has no default; name one of a, b",
        ),
        (
            "{default: a, backends: {a: {backend: redis}, b: {bakend: redis}}}",
            "2: providers.tasks.backends.b.bakend: is not a known key; did you mean backend?",
        ),
    ],
)
def test_a_backend_that_cannot_be_used_is_refused(file: Path, section: str, said: str) -> None:
    assert refusal(file, tasks(section)) == said


@pytest.mark.parametrize(
    ("section", "store"),
    [
        ("{backend: redis}", "{backend: redis, config: {redis_url: 'redis://localhost'}}"),
        ("{backend: redis}", "{backend: a.redis_store.RedisTeamStore}"),
        ("{backend: in_memory}", "{backend: in_memory}"),
        ("{backend: embedded}", "{backend: file}"),
        ("{backend: callboard}", "{backend: a.file_store.FileTeamStore}"),
    ],
)
def test_a_store_may_be_the_same_engine(file: Path, section: str, store: str) -> None:
    without = read(file, tasks(section)).engine

    assert read(file, tasks(section, store)).engine == without


@pytest.mark.parametrize(
    ("section", "store", "said"),
    [
        (
            "{backend: redis}",
            "{backend: redis, config: {redis_url: 'redis://u:secret@other/0'}}",
            "7: teams.store: asks for redis://u:***@other/0, and providers.tasks for "
            "redis://localhost:6379/0; remove teams.store; teams are kept where their runs are",
        ),
        (
            "{backend: in_memory}",
            "{backend: file}",
            "7: teams.store: asks for the embedded engine, and providers.tasks for the temporary "
            "engine; remove teams.store; teams are kept where their runs are",
        ),
        (
            "{backend: redis}",
            "{backend: file, config: {path: x}}",
            "7: teams.store.config.path: is not a setting of file; remove it; it takes none",
        ),
    ],
)
def test_a_store_on_another_engine_is_refused(
    file: Path, section: str, store: str, said: str
) -> None:
    assert refusal(file, tasks(section, store)).replace("8:", "7:", 1) == said


def test_a_store_alone_says_where_runs_are_kept_too(file: Path) -> None:
    text = SURVEY.replace("teams:\n", "teams:\n  store: {backend: redis}\n")

    assert read(file, text).engine == EngineWish("url", "redis://localhost:6379/0", "teams.store")


def test_the_password_of_an_engine_is_not_shown(file: Path) -> None:
    engine = read(
        file, tasks("{backend: redis, config: {redis_url: 'redis://:secret@r:1/2'}}")
    ).engine

    assert engine.url == "redis://:secret@r:1/2"
    assert "secret" not in repr(engine) + str(engine)


def wanting(kind: Any, url: str | None = None) -> TeamDocument:
    return TeamDocument(Path("team.yaml"), Path(), EngineWish(kind, url), {})


def test_flags_then_our_variables_then_the_file_then_redis_variables_choose_the_engine() -> None:
    file = wanting("url", "redis://file:1/0")
    redis = {"REDIS_URL": "redis://env:1/0"}
    ours = {"CALLBOARD_URL": "redis://ours:1/0", **redis}

    assert choose_url(file, "redis://flag:1/0", ours) == "redis://flag:1/0"
    assert choose_url(file, None, ours, flag_data="board") is None
    assert choose_url(file, None, ours) == "redis://ours:1/0"
    assert choose_url(file, None, {"CALLBOARD_DATA": "board", **redis}) is None
    assert choose_url(file, None, redis) == "redis://file:1/0"
    assert choose_url(wanting("temporary"), None, redis) is TEMPORARY
    assert choose_url(wanting("embedded"), None, redis) is None
    assert choose_url(wanting("default"), None, redis) == "redis://env:1/0"
    assert choose_url(wanting("default"), None, {"REDIS_HOST": "h"}) == "redis://h:6379/0"
    assert choose_url(wanting("default"), None, {}) is None
    assert choose_url(None, None, redis) == "redis://env:1/0"


def test_a_redis_variable_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(ConfigError, match="REDIS_PORT"):
        choose_url(wanting("default"), None, {"REDIS_HOST": "h", "REDIS_PORT": "x"})


# What it costs those who have no team


def test_yaml_is_loaded_only_to_read_a_file() -> None:
    code = (
        "import sys, callboard.teams.document, callboard.domain.team;"
        "sys.exit('yaml' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
