"""``callboard breakers``: what is open, opened and closed by hand, and asked for in scripts."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli

API = "external-api"


def configure(cli: Cli, *options: str) -> None:
    cli.ok("breakers", "configure", API, *options)


# Refusals


def test_where_there_is_no_breaker_it_says_how_to_make_one(cli: Cli) -> None:
    assert cli.ok("breakers", "list").out == (
        "No breakers: every call goes ahead.\n"
        "Give a component one: callboard breakers configure external-api\n"
    )
    assert cli.json("breakers", "list") == {"breakers": []}


@pytest.mark.parametrize(
    "words",
    [
        ("show", API),
        ("metrics", API),
        ("reset", API),
        ("force", API, "open"),
        ("remove", API),
    ],
    ids=" ".join,
)
def test_a_component_without_a_breaker_is_not_found(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli("--json", "breakers", *words)

    assert ran.code == 4
    assert ran.error["code"] == "breaker_not_found"
    assert ran.error["message"].endswith("callboard breakers configure external-api.")


@pytest.mark.parametrize(
    "words",
    [
        ("configure", "no name"),
        ("configure", API, "--gates"),
        ("configure", API, "--rate", "2"),
        ("configure", API, "--open-for", "soon"),
        ("configure", API, "--preset", "nosuch"),
        ("force", API, "ajar"),
        ("record", API, "1", "fine"),
        ("record", API, "-1"),
        ("reset",),
        ("reset", API, "--all"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_usage_error(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("breakers", *words).code == 2


def test_an_open_breaker_lets_a_script_know_by_its_exit_code(cli: Cli) -> None:
    configure(cli)
    cli.ok("breakers", "force", API, "open")

    ran = cli("breakers", "admit", API)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: The breaker of 'external-api' is open: its calls failed.")
    error = cli("--json", "breakers", "admit", API).error
    assert error["code"] == "breaker_open"
    assert error["details"]["state"] == "open"


# What they do


def test_a_script_admits_and_records_until_the_breaker_opens(cli: Cli) -> None:
    configure(cli, "--failures", "2")

    for _ in range(2):
        number = cli.ok("breakers", "admit", API).out.strip()
        assert cli.ok("breakers", "record", API, number, "failure").out == "Recorded.\n"

    shown = cli.json("breakers", "show", API)
    assert (shown["state"], shown["failures"]) == ("open", 2)
    assert cli.json("breakers", "list", "--state", "closed") == {"breakers": []}
    assert len(cli.json("breakers", "list", "--state", "open")["breakers"]) == 1
    stale = cli.ok("breakers", "record", API, number, "success")
    assert stale.out == "Not counted: the permit is from before the last change.\n"


def test_without_a_breaker_a_script_goes_ahead(cli: Cli) -> None:
    assert cli.ok("breakers", "admit", API).out == "0\n"
    assert cli.json("breakers", "record", API, "0") == {"component": API, "counted": False}


def test_a_probe_is_renewed_by_its_number(cli: Cli) -> None:
    configure(cli)
    cli.ok("breakers", "force", API, "half-open")
    permit = cli.json("breakers", "admit", API, "--lease", "5s")
    assert (permit["state"], permit["lease"]) == ("half-open", 5.0)

    assert cli.ok("breakers", "renew", API, str(permit["number"])).out == "Renewed.\n"

    lost = cli("--json", "breakers", "renew", API, "1")
    assert (lost.code, lost.error["code"]) == (1, "lease_lost")


def test_isolating_and_resetting(cli: Cli) -> None:
    told = cli.ok("breakers", "isolate", API, "--reason", "they move").out
    assert told == "Isolated external-api. Undo it: callboard breakers reset external-api\n"
    assert "isolated" in cli.ok("breakers", "list").out
    assert "they move" in cli.ok("breakers", "show", API).out

    cli.ok("breakers", "reset", API)

    assert cli.json("breakers", "list") == {"breakers": []}


def test_all_are_reset_at_once(cli: Cli) -> None:
    configure(cli)
    cli.ok("breakers", "force", API, "open")

    assert cli.ok("breakers", "reset", "--all").out == "Breakers reset: 1.\n"

    assert cli.json("breakers", "show", API)["state"] == "closed"


def test_a_preset_is_changed_by_options(cli: Cli) -> None:
    cli.ok("breakers", "configure", "kind:deploy", "--preset", "assign", "--gates")
    configure(cli, "--rate", "0.5", "--window", "2m", "--volume", "10", "--open-for", "5m")

    assign, rate = cli.json("breakers", "show", "kind:deploy"), cli.json("breakers", "show", API)

    assert (assign["policy"]["failure_threshold"], assign["gates"]) == (3, True)
    assert rate["policy"] == {
        "failure_threshold": None,
        "failure_rate": 0.5,
        "window": 120.0,
        "volume": 10,
        "open_for": 300.0,
        "half_open_limit": 2,
        "success_threshold": 3,
        "permit_lease": 30.0,
    }
    assert "50% of 10+ calls in 2m" in cli.ok("breakers", "show", API).out
    listed = cli.ok("breakers", "list").out
    assert "kind:deploy" in listed
    assert "claims" in listed


def test_the_figures_have_their_documented_names(cli: Cli) -> None:
    configure(cli)

    assert cli.json("breakers", "metrics", API) == {
        "state": "closed",
        "failures": 0,
        "successes": 0,
        "lastFailureTime": None,
        "lastSuccessTime": None,
        "totalRequests": 0,
        "rejectedRequests": 0,
        "halfOpenRequests": 0,
    }
    assert "totalRequests" in cli.ok("breakers", "metrics", API).out


def test_a_breaker_is_removed(cli: Cli) -> None:
    configure(cli)

    assert cli.ok("breakers", "remove", API).out == "Removed the breaker of external-api.\n"

    assert cli("breakers", "show", API).code == 4
