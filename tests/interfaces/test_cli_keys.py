"""``callboard keys`` and ``callboard audit``."""

from __future__ import annotations

import uuid

import pytest

from callboard.domain.access import parse_token
from tests.interfaces.cli_support import Cli


@pytest.fixture
def name() -> str:
    """A name of the test's own: keys are of all namespaces of the engine."""
    return f"key-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "no name"],
        ["create", "ci", "--expires", "1s"],
        ["create", "ci", "--expires", "soon"],
        ["create", "ci", "--rate", "0"],
        ["create", "ci", "--burst", "3"],
        ["create", "ci", "--role", "root"],
        ["create", "ci", "--default-namespace"],
        ["create", "ci", "--also", "no name"],
    ],
)
def test_what_makes_no_key_is_refused(cli: Cli, arguments: list[str]) -> None:
    ran = cli("--json", "keys", *arguments)

    assert ran.code == 2
    assert ran.error["message"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["keys", "create", "ci", "--role", "nope"], "none of read, work, operate, admin."),
        (["keys", "create", "ci", "--role", "Operat"], "Did you mean 'operate'?"),
        (["tasks", "list", "--status", "pendin"], "Did you mean 'pending'?"),
        (["breakers", "force", "x", "ajar"], "none of closed, open, half-open."),
        (["tasks", "list", "--limit", "x"], "This takes a whole number."),
        (["keys", "create", "ci", "--rate", "x"], "This takes a number."),
    ],
)
def test_a_word_that_is_no_choice_is_refused_in_this_program_s_words(
    cli: Cli, given: list[str], said: str
) -> None:
    ran = cli("--json", *given)

    assert (ran.code, ran.error["code"]) == (2, "usage")
    assert said in ran.error["message"]
    assert "Value error" not in ran.error["message"]


@pytest.mark.parametrize("command", ["show", "revoke"])
def test_a_key_that_is_not_there_is_not_found(cli: Cli, command: str, name: str) -> None:
    cli.json("keys", "create", name)

    ran = cli("--json", "keys", command, f"{name}x")

    assert (ran.code, ran.error["code"]) == (4, "api_key_not_found")
    assert f"Did you mean {name}?" in ran.error["message"]


def test_a_name_that_two_keys_have_is_asked_about(cli: Cli, name: str) -> None:
    ids = [cli.json("keys", "create", name)["key"]["id"] for _ in range(2)]

    ran = cli("--json", "keys", "revoke", name)

    assert ran.code == 2
    assert all(key_id in ran.error["message"] for key_id in ids)
    cli.ok("keys", "revoke", ids[0])
    assert cli.json("keys", "revoke", name)["id"] == ids[1]


def test_a_key_is_shown_once_with_how_to_use_it(cli: Cli, name: str) -> None:
    made = cli.ok("keys", "create", name, "--role", "operate", "--expires", "90d")

    (secret,) = [line for line in made.out.splitlines() if line.startswith("cb_")]
    assert parse_token(secret) is not None
    for part in ("operate", "Authorization: Bearer", "CALLBOARD_API_KEY", "shown this once"):
        assert part in made.out
    for command in (["show", name], ["list"], ["revoke", name], ["list", "--all"]):
        assert secret.split("_", 2)[2] not in cli.ok("keys", *command).out


def test_a_key_holds_in_the_namespace_of_the_command(cli: Cli, namespace: str, name: str) -> None:
    key = cli.json("keys", "create", name, "--also", "other", "--agent", "mira", "--rate", "5")

    assert key["key"]["namespaces"] == [namespace, "other"]
    assert (key["key"]["role"], key["key"]["agent"], key["key"]["rate"]) == ("work", "mira", 5.0)
    assert namespace in cli.ok("keys", "show", name).out


@pytest.mark.parametrize("again", [["--namespace", "b"], ["--namespace=b"]], ids=len)
def test_a_second_namespace_is_not_forgotten_in_silence(
    cli: Cli, name: str, again: list[str]
) -> None:
    ran = cli("keys", "create", name, "--namespace", "a", *again)

    assert ran.code == 2
    assert "--also" in ran.err


def test_without_a_namespace_a_key_holds_in_all(cli: Cli, name: str) -> None:
    cli.where = [*cli.where[:2], "--adopt"]

    assert cli.json("keys", "create", name)["key"]["namespaces"] == ["*"]
    only = cli.json("keys", "create", f"{name}-2", "--default-namespace", "--also", "b")
    assert only["key"]["namespaces"] == ["", "b"]
    ran = cli("--json", "keys", "create", name, "--also", "b")
    assert (ran.code, ran.error["details"]["field"]) == (2, "namespaces")


def test_revoked_keys_are_listed_where_asked_for(cli: Cli, name: str) -> None:
    key = cli.json("keys", "create", name)["key"]["id"]
    assert key in cli.ok("keys", "list").out
    cli.ok("keys", "revoke", name)

    listed = cli.ok("keys", "list").out
    everything = {one["id"]: one["status"] for one in cli.json("keys", "list", "--all")["keys"]}

    assert key not in listed
    assert "keys list --all" in listed
    assert everything[key] == "revoked"


def test_what_was_done_with_keys_is_in_the_audit_log(cli: Cli, name: str) -> None:
    key = cli.json("keys", "create", name)["key"]["id"]
    cli.ok("keys", "revoke", name)

    entries = cli.json("audit", "--operation", "access.*", "--since", "1h", "-n", "1000")["entries"]
    mine = [entry for entry in entries if key in entry["target"]]

    assert [entry["operation"] for entry in mine] == ["access.revoke", "access.create"]
    assert key in cli.ok("audit", "-n", "1000").out


def test_the_audit_log_is_read_page_by_page(cli: Cli, name: str) -> None:
    cli.ok("keys", "create", name)
    cli.ok("keys", "create", name)
    first = cli.json("audit", "-n", "1")

    second = cli.json("audit", "-n", "1", "--cursor", first["cursor"])

    assert first["entries"][0]["cursor"] > second["entries"][0]["cursor"]
    assert "Older ones: callboard audit --cursor" in cli.ok("audit", "-n", "1").out


def test_an_audit_log_with_nothing_in_it_says_what_would_be(cli: Cli) -> None:
    assert "through a coordinator" in cli.ok("audit", "--by", "nobody-at-all").out
