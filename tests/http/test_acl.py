"""The rights on the engine that docs/how-to/deploy.md lists: enough, and no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.connection_support import Engine, free_port
from tests.http.nodes import Node

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "deploy.md"
LUA = ROOT / "src" / "callboard" / "engine" / "lua"

pytestmark = pytest.mark.timeout(600)

# What connections, looks at the engine and administration of the library take besides.
BESIDE = frozenset(
    """
    auth client|setinfo client|setname cluster|slots config|get dbsize fcall function|delete
    function|list function|load hello info ping psubscribe punsubscribe role scan select
    ssubscribe subscribe sunsubscribe unsubscribe
    """.split()
)


def listed() -> list[str]:
    """The rules of the page's user, behind its name and password."""
    block = re.search(r"ACL SETUSER callboard on (.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert block is not None, "the page has no ACL SETUSER"
    words = block[1].replace("\\\n", " ").split()
    assert words[0] == ">PASSWORD"
    return words[1:]


def commands() -> set[str]:
    return {word[1:] for word in listed() if word.startswith("+")}


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine on which the page's user may do what is listed, and nobody else anything."""
    with Engine(port=free_port()) as engine:
        acl(engine, "SETUSER", "callboard", "on", ">s3cret", *listed())
        yield engine


def acl(engine: Engine, *words: str) -> Any:
    return engine.admin.execute_command("ACL", *words)


def url_of(engine: Engine) -> str:
    return f"redis://callboard:s3cret@127.0.0.1:{engine.port}/0"


def refused_commands(engine: Engine) -> list[str]:
    """What the user was refused, as the engine noted it."""
    found = []
    for entry in acl(engine, "LOG"):
        fields = (
            entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
        )
        named = {_text(name): _text(value) for name, value in fields.items()}
        found.append(f"{named['reason']} {named['object']}")
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_the_list_has_the_commands_of_the_functions_and_no_other(engine: Engine) -> None:
    known = {name.decode().upper() for name in engine.admin.execute_command("COMMAND LIST")}
    used = set()
    for path in LUA.rglob("*.lua"):
        code = re.sub(r"--[^\n]*", "", path.read_text())
        used |= set(re.findall(r"'([A-Z_]+)'", code)) & known

    assert commands() - BESIDE == {name.lower() for name in used} - BESIDE
    assert commands() >= BESIDE


def test_the_services_own_tests_pass_with_these_rights(engine: Engine) -> None:
    env = {**os.environ, "CALLBOARD_TEST_ENGINE": url_of(engine)}
    suites = ["test_operations.py", "test_documented_agents.py", "test_events_stream.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "120"]
        + [f"tests/http/{name}" for name in suites],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert refused_commands(engine) == []
    assert ran.returncode == 0, ran.stdout[-4000:]


def test_a_coordinator_of_a_named_namespace_needs_its_keys_and_channels_alone(
    engine: Engine,
) -> None:
    places = [f"{sign}{{{name}}}:*" for name in ("shop", "callboard-access") for sign in "~&"]
    acl(engine, "SETUSER", "callboard", "resetkeys", "resetchannels", *places)

    with Node("--url", url_of(engine), "--namespace", "shop", "--adopt") as node:
        node.ok("PUT", "/agents/mira", {"capabilities": ["code"]})
        task = node.ok("POST", "/tasks", {"kind": "greet"})["task"]["id"]
        (one,) = node.ok("POST", "/tasks/claim", {"agent": "mira", "poll": 1})["claims"]["tasks"]
        node.ok("POST", f"/tasks/{task}/complete", {"fence": one["fence"], "result": 1})
        elsewhere = node.client.get("/tasks", headers={"x-callboard-namespace": "other"})
        log = node.log

    assert elsewhere.status_code == 503
    assert elsewhere.json()["code"] == "engine_unsuitable"
    assert "docs/how-to/deploy.md" in elsewhere.json()["detail"]
    assert "Traceback" not in log
    assert {entry.split()[-1] for entry in refused_commands(engine)} <= {"{other}:callboard:format"}
