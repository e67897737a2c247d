"""The rules of the house, held against the tree; and each rule held against a made-up breach."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.house import checks
from tests.house.checks import INCLUDES, LUA, LUA_KEYS, PACKAGE, Check, House, LuaFile

ROOT = Path(__file__).resolve().parents[2]

RULES: list[Check] = [
    checks.state_changed_outside_lua,
    checks.lua_in_python,
    checks.headers_incomplete,
    checks.includes_astray,
    checks.functions_astray,
    checks.calls_unlike_headers,
    checks.statuses_untested,
    checks.key_names_astray,
    checks.refusals_after_writes,
    checks.loops_unbounded,
    checks.services_undocumented,
    checks.lists_unpinned,
]


@pytest.fixture(scope="module")
def house() -> House:
    return House.read(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(house: House, rule: Check) -> None:
    faults = rule(house)

    assert not faults, "\n".join([str(rule.__doc__), *faults])


def test_sizes_are_reported_without_failing(house: House) -> None:
    if large := checks.oversized(house):
        warnings.warn("\n  ".join(["larger than STYLE.md likes:", *large]), stacklevel=1)


def test_the_lists_ask_for_what_the_package_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]

    assert asked("runtime.in") == named([*project["dependencies"], *extras["fast"]])
    assert asked("dev.in") == named(extras["dev"])


def asked(list_name: str) -> set[str]:
    lines = (ROOT / "requirements" / list_name).read_text("utf-8").splitlines()
    return named(line for line in lines if line and line[0] not in "#-")


def named(requirements: Iterable[str]) -> set[str]:
    return {line.replace("'", '"') for line in requirements}


def test_the_tree_was_read(house: House) -> None:
    """An empty tree keeps every rule."""
    assert house.python
    assert house.includes
    assert any(path.startswith("requirements/") for path in house.files)


# Each rule can fail

TASK_RENEW = """\
-- Push a claim's deadline forward, if the caller still owns it.
--
-- KEYS    format
-- ARGV    task_id:str, lease_ms:int
-- RETURNS ok expires_at | lease_lost
--         | not_found
-- EVENTS  none: a renewal is not news
-- FLAGS   allow-oom
-- include open

local t, refusal = open(format_key, '')
if not t then return refusal end
if task_id == '' then return { 'not_found' } end
if lease_ms < 1 then return { 'lease_lost' } end
-- writes
close(t)
return { 'ok', t.ms + lease_ms }
"""

OPEN = """\
-- What every function begins and ends with.
-- include keys

local function write_sets(t)
  call('ZADD', t.key, 1, 'a')
end

local function look(t) return call('ZRANGE', t.key, 0, -1) end

local function close(t)
  write_sets(t)
end
"""

KEYS = """\
-- The names of all keys.

local BOARD_KEYS = { leases = ':leases' }
local function held_key(prefix, agent) return prefix .. 'held:' .. agent end
local function agent_key(prefix, agent) return prefix .. 'agent:' .. agent end
"""

SERVICE = '''\
"""Tasks."""


class LeaseLost(Exception):
    code = "lease_lost"


class Tasks:
    """What can be done with tasks."""

    async def renew(self, task_id):
        """Push the deadline forward."""
        return await self._functions.call("task_renew", task_id, 1)

    def _private(self):
        return None
'''

TESTS = "def test_renewal():\n    assert ('ok', 'not_found')\n    raises(LeaseLost)\n"

SOUND = {
    LUA + "task_renew.lua": TASK_RENEW,
    INCLUDES + "open.lua": OPEN,
    LUA_KEYS: KEYS,
    PACKAGE + "services/tasks.py": SERVICE,
    "tests/functions/test_tasks.py": TESTS,
    "docs/reference/tasks.md": "## `cb.tasks.renew`\n",
    "requirements/runtime.txt": "redis==8.1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    "    # via -r runtime.in\n",
}


def altered(path: str, old: str, new: str) -> House:
    """The sound tree with one change."""
    assert old in SOUND[path]
    return House({**SOUND, path: SOUND[path].replace(old, new)})


def added(path: str, text: str) -> House:
    """The sound tree with one more file."""
    return House({**SOUND, path: text})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_has_no_faults(rule: Check) -> None:
    assert rule(House(SOUND)) == []


@pytest.mark.parametrize(
    "line",
    [
        'await self._connection.call("HSET", key, "a", 1)',
        'await connection.call(b"zadd", key, 1, "a")',
        "await client.xadd(stream, fields)",
        "await client.hset(key, mapping=fields)",
    ],
)
def test_a_write_command_in_python_is_a_fault(line: str) -> None:
    house = added(PACKAGE + "services/agents.py", f"async def f(self):\n    {line}\n")

    assert len(checks.state_changed_outside_lua(house)) == 1


@pytest.mark.parametrize(
    "line",
    ['await connection.call("HGET", key, "a")', "event.set()", "path.unlink()", "names.sort()"],
)
def test_reads_and_everyday_methods_are_no_fault(line: str) -> None:
    house = added(PACKAGE + "services/agents.py", f"async def f(self):\n    {line}\n")

    assert checks.state_changed_outside_lua(house) == []


def test_the_embedded_engine_may_speak_to_its_server() -> None:
    house = added(PACKAGE + "engine/embedded.py", 'connection.call("FLUSHALL")\n')

    assert checks.state_changed_outside_lua(house) == []


@pytest.mark.parametrize(
    "text", ["X = \"return redis.call('GET', KEYS[1])\"\n", "X = f\"redis.pcall ('GET', {key})\"\n"]
)
def test_lua_in_a_python_string_is_a_fault(text: str) -> None:
    assert len(checks.lua_in_python(added(PACKAGE + "services/agents.py", text))) == 1


def test_lua_in_a_docstring_is_no_fault() -> None:
    house = added(PACKAGE + "services/agents.py", '"""Aliases ``redis.call(`` once."""\n')

    assert checks.lua_in_python(house) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-- KEYS    format\n", "", "no KEYS"),
        ("-- EVENTS  none: a renewal is not news\n", "", "no EVENTS"),
        ("owns it.", "owns it", "one sentence"),
        ("lease_ms:int", "lease_ms:int, task_id:str", "names task_id twice"),
        ("lease_ms:int", "lease_ms:int, spare:str", "spare is never used"),
        ("lease_ms:int", "lease_ms", "has no type"),
        ("allow-oom", "quick", "quick is no flag"),
    ],
)
def test_a_faulty_header_is_a_fault(old: str, new: str, said: str) -> None:
    faults = checks.headers_incomplete(altered(LUA + "task_renew.lua", old, new))

    assert [said in fault for fault in faults] == [True]


def test_an_argument_named_only_in_a_comment_or_string_is_unused() -> None:
    house = altered(
        LUA + "task_renew.lua",
        "if task_id == '' then",
        "-- task_id\nif 'task_id' == '' then",
    )

    assert checks.headers_incomplete(house) == [
        f"{LUA}task_renew.lua: the argument task_id is never used"
    ]


def test_an_argument_of_rows_is_used_through_its_position() -> None:
    rows = altered(LUA + "task_renew.lua", "lease_ms:int", "lease_ms:int, claims:rows").files
    path = LUA + "task_renew.lua"
    house = House(
        {**rows, path: rows[path].replace("-- writes", "use(ARGV, claims_at)\n-- writes")}
    )

    assert checks.headers_incomplete(house) == []


def test_a_status_of_an_item_needs_a_test_too() -> None:
    house = altered(LUA + "task_renew.lua", "-- EVENTS", "-- ITEMS   ok | held\n-- EVENTS")

    assert checks.statuses_untested(house) == [
        f"{LUA}task_renew.lua: no test mentions its status held"
    ]


def test_a_status_may_stand_on_a_second_line_of_the_header() -> None:
    file = LuaFile("task_renew.lua", TASK_RENEW)

    assert file.header.statuses == ["ok", "lease_lost", "not_found"]
    assert file.header.arguments == ["task_id", "lease_ms"]
    assert file.header.includes == ("open",)
    assert file.header.sentence == "Push a claim's deadline forward, if the caller still owns it."


def test_a_missing_include_is_a_fault() -> None:
    house = altered(LUA + "task_renew.lua", "-- include open", "-- include open, clock")

    assert "includes clock" in checks.includes_astray(house)[0]


def test_an_include_that_nobody_includes_is_a_fault() -> None:
    house = added(INCLUDES + "clock.lua", "-- The time.\n")

    assert checks.includes_astray(house) == [f"{INCLUDES}clock.lua: nothing includes it"]


def test_a_function_that_python_never_calls_is_a_fault() -> None:
    house = added(LUA + "task_drop.lua", TASK_RENEW)

    assert checks.functions_astray(house) == [f"{LUA}task_drop.lua: no Python file calls it"]


def test_a_call_of_no_function_is_a_fault() -> None:
    house = altered(PACKAGE + "services/tasks.py", '"task_renew"', '"task_renewed"')

    assert any("there is no" in fault for fault in checks.functions_astray(house))


def test_a_function_named_without_a_verb_is_a_fault() -> None:
    house = added(LUA + "renew.lua", TASK_RENEW)

    assert f"{LUA}renew.lua: the name is not <noun>_<verb>.lua" in checks.functions_astray(house)


@pytest.mark.parametrize(
    "given", ["task_id", "task_id, 1, 2", "*rows, task_id, 1, 2", "a=1, *rows"]
)
def test_a_call_unlike_the_header_is_a_fault(given: str) -> None:
    house = altered(PACKAGE + "services/tasks.py", "task_id, 1)", f"{given})")

    assert len(checks.calls_unlike_headers(house)) == 1


@pytest.mark.parametrize("given", ["task_id, 1, timeout=2", "*rows", "task_id, *rows"])
def test_a_call_like_the_header_is_no_fault(given: str) -> None:
    house = altered(PACKAGE + "services/tasks.py", "task_id, 1)", f"{given})")

    assert checks.calls_unlike_headers(house) == []


def test_a_call_may_give_any_number_of_rows() -> None:
    house = altered(LUA + "task_renew.lua", "lease_ms:int", "claims:rows")

    assert checks.calls_unlike_headers(house) == []


def test_a_status_without_a_test_is_a_fault() -> None:
    house = altered("tests/functions/test_tasks.py", "'not_found'", "'found'")

    assert checks.statuses_untested(house) == [
        f"{LUA}task_renew.lua: no test mentions its status not_found"
    ]


def test_a_status_is_not_tested_by_the_house() -> None:
    moved = {k: v for k, v in SOUND.items() if not k.startswith("tests/")}

    assert len(checks.statuses_untested(House({**moved, "tests/house/test_x.py": TESTS}))) == 3


@pytest.mark.parametrize("text", ['f"held:{agent}"', '"held:mira"', 'b"agent:"', '":leases"'])
def test_a_key_name_in_python_is_a_fault(text: str) -> None:
    house = added(PACKAGE + "services/agents.py", f"def f(agent):\n    return {text}\n")

    assert len(checks.key_names_astray(house)) == 1


def test_a_key_name_in_another_lua_file_is_a_fault() -> None:
    house = altered(
        LUA + "task_renew.lua", "-- writes", "local held = 'held:' .. task_id\n-- writes"
    )

    assert len(checks.key_names_astray(house)) == 1


def test_the_name_of_an_event_is_no_key_name() -> None:
    house = added(PACKAGE + "domain/event.py", 'KINDS = ("agent:registered", "withheld: 3")\n')

    assert checks.key_names_astray(house) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-- writes\n", "", "has it 0×"),
        ("-- writes\nclose(t)\n", "close(t)\n-- writes\n", "writes before"),
        ("-- writes\n", "call('DEL', task_id)\n-- writes\n", "writes before"),
        ("close(t)\n", "close(t)\nif t.news then return { 'lease_lost' } end\n", "refuses after"),
        ("close(t)\n", "close(t)\nif t.news then return refuse(t) end\n", "refuses after"),
        ("allow-oom", "no-writes", "flagged no-writes"),
    ],
)
def test_a_write_before_the_last_refusal_is_a_fault(old: str, new: str, said: str) -> None:
    faults = checks.refusals_after_writes(altered(LUA + "task_renew.lua", old, new))

    assert [said in fault for fault in faults] == [True]


def test_a_second_outcome_that_says_so_is_no_refusal() -> None:
    line = "if t.news then return { 'not_found' } end -- an outcome\n"
    house = altered(LUA + "task_renew.lua", "close(t)\n", "close(t)\n" + line)

    assert checks.refusals_after_writes(house) == []


def test_a_read_through_an_include_is_no_write() -> None:
    house = altered(LUA + "task_renew.lua", "-- writes\n", "local seen = look(t)\n-- writes\n")

    assert checks.refusals_after_writes(house) == []


@pytest.mark.parametrize(
    "loop", ["while true do x() end", "while #list > 0 do x() end", "repeat x() until done"]
)
def test_a_loop_without_its_bound_is_a_fault(loop: str) -> None:
    house = added(INCLUDES + "clock.lua", f"-- The time.\n\n{loop}\n")

    assert len(checks.loops_unbounded(house)) == 1


@pytest.mark.parametrize(
    "loop",
    [
        "while true do -- bounded by count\n  x()\nend",
        "-- Bounded by the batch.\nrepeat x() until done",
        "for i = 1, n do x() end",
        "local said = 'while true'",
    ],
)
def test_a_loop_with_its_bound_is_no_fault(loop: str) -> None:
    house = added(INCLUDES + "clock.lua", f"-- The time.\n\n{loop}\n")

    assert checks.loops_unbounded(house) == []


def test_a_public_method_without_documentation_is_a_fault() -> None:
    house = altered(PACKAGE + "services/tasks.py", "def _private", "def purge")

    assert checks.services_undocumented(house) == [
        f"{PACKAGE}services/tasks.py:15: Tasks.purge is in no page of docs/reference"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "redis>=8 --hash=sha256:aa",
        "redis==8.1.0",
        "--index-url https://example.org/simple",
        "--extra-index-url somewhere",
    ],
)
def test_a_loose_line_in_a_pinned_list_is_a_fault(line: str) -> None:
    assert checks.lists_unpinned(added("requirements/dev.txt", line + "\n"))


def test_what_is_too_large_is_reported() -> None:
    long = "def f():\n" + "    x()\n" * 60
    house = House(
        {
            PACKAGE + "services/tasks.py": long * 6,
            LUA + "task_renew.lua": "-- x\n" * 81,
        }
    )

    assert len(checks.oversized(house)) == 1 + 1 + 6
