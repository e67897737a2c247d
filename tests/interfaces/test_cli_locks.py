"""``callboard locks``: in scripts, around commands, and to see who waits for whom."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import callboard.sync
from callboard.cli import lock_run
from tests.interfaces.cli_support import PROGRAM, Cli, Program

DB = "db:users"
PYTHON = [sys.executable, "-u", "-c"]
BLOCKS = "print('begun'); import signal; signal.pause()"
OBEYS_LATE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))
print('begun', flush=True)
while True: signal.pause()
"""


def acquire(cli: Cli, *words: str, owner: str = "one") -> int:
    fence: int = cli.json("locks", "acquire", *words, "--owner", owner)["fence"]
    return fence


# Refusals


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            "list",
            "Nothing is locked or waited for.\n"
            "Lock something: callboard locks acquire db:users --lease 10m\n",
        ),
        ("waits", "Nobody waits for a lock.\nWhat is held: callboard locks list\n"),
        (
            "graph",
            "Nobody waits for anybody.\nDeadlocks that were found: callboard locks incidents\n",
        ),
        (
            "incidents",
            "No deadlock was found in the last seven days.\n"
            "Who waits for whom: callboard locks graph\n",
        ),
    ],
    ids=["list", "waits", "graph", "incidents"],
)
def test_where_there_is_nothing_it_says_where_to_look(cli: Cli, command: str, told: str) -> None:
    assert cli.ok("locks", command).out == told


def test_what_is_free_is_said_to_be_free(cli: Cli) -> None:
    assert cli.ok("locks", "show", DB).out.startswith("Nobody holds db:users")
    assert cli.json("locks", "show", DB)["holders"] == []
    assert cli.ok("locks", "list", "file:").out.startswith("Nothing of what begins with file: is")
    assert cli.ok("locks", "graph", "one").out.startswith("one waits for nobody.")


@pytest.mark.parametrize(
    "words",
    [
        ("acquire",),
        ("acquire", "a|b"),
        ("acquire", ""),
        ("acquire", DB, "--owner", "no owner"),
        ("acquire", DB, "--owner", "claim:b"),
        ("acquire", DB, "--mode", "mine"),
        ("acquire", DB, "--mode", "semaphore"),
        ("acquire", DB, "--limit", "2"),
        ("acquire", DB, "--wait", "soon"),
        ("acquire", DB, "--lease", "0"),
        ("acquire", DB, "--priority", "5000"),
        ("release", DB),
        ("release", "--owner", "one"),
        ("release", DB, "--all", "--owner", "one"),
        ("release", DB, "--owner", "one", "--fence", "0"),
        ("renew", DB, "--owner", "one", "--lease", "2h"),
        ("list", "--limit", "0"),
        ("waits", "--limit", "2000"),
        ("graph", "no owner"),
        ("incidents", "--limit", "0"),
        ("force-release", DB, "--reason", "two\nlines"),
        ("why", "a|b"),
        ("run",),
        ("run", DB),
        ("run", DB, "--"),
        ("run", "--", "true"),
        ("run", DB, "true"),
        ("run", DB, "--", "no-such-command-here"),
        ("run", DB, "--grace", "soon", "--", "true"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_usage_error(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli("locks", *words)

    assert ran.code == 2, ran
    assert ran.out == ""
    assert cli.json("locks", "list") == {"resources": []}


@pytest.mark.parametrize(
    "words", [("acquire", "api"), ("run", "api", "--", "true")], ids=["acquire", "run"]
)
def test_a_semaphore_without_permits_names_the_option(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli("locks", words[0], "--mode", "semaphore", *words[1:])

    assert ran.code == 2
    assert "--mode semaphore needs --limit N" in ran.err


def test_what_somebody_has_is_refused_and_told(cli: Cli) -> None:
    acquire(cli, DB)

    tried = cli("--json", "locks", "acquire", DB, "--wait", "0")
    waited = cli("--json", "locks", "acquire", DB, "--wait", "100ms")

    assert (tried.code, tried.error["code"]) == (1, "lock_held")
    assert tried.error["details"]["holder"] == "one"
    assert (waited.code, waited.error["code"]) == (1, "lock_timeout")


def test_a_wait_that_lasts_says_for_whom(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.cli.locks.TELL_AFTER_SECONDS", 0.0)
    acquire(cli, DB)

    ran = cli("locks", "acquire", DB, "--wait", "500ms")

    assert ran.err.startswith("Waiting for db:users: one holds it exclusive, since ")


def test_only_the_owner_gives_back_and_only_under_its_fence(cli: Cli) -> None:
    fence = acquire(cli, DB)

    for words in (
        ("release", DB, "--owner", "two"),
        ("release", DB, "--owner", "one", "--fence", str(fence - 1)),
        ("renew", DB, "--owner", "two"),
        ("renew", DB, "--owner", "one", "--fence", str(fence + 1)),
    ):
        ran = cli("--json", "locks", *words)
        assert (ran.code, ran.error["code"]) == (1, "lock_lost"), words

    assert cli.json("locks", "show", DB)["holders"][0]["fence"] == fence


def test_nobodys_lock_is_not_found(cli: Cli) -> None:
    ran = cli("--json", "locks", "force-release", DB)

    assert (ran.code, ran.error["code"]) == (4, "lock_not_found")


# In scripts


def test_a_script_acquires_renews_and_gives_back(cli: Cli) -> None:
    told = cli.ok("locks", "acquire", DB, "file:src/**", "--owner", "one").out
    assert told.startswith("Locked db:users, file:src/** until ")
    assert told.endswith("locks release db:users 'file:src/**' --owner one\n")
    fence = cli.json("locks", "show", DB)["holders"][0]["fence"]

    renewed = cli.json("locks", "renew", DB, "--owner", "one", "--lease", "1h")
    cli.ok("locks", "renew", DB, "--owner", "one", "--fence", str(fence))
    given_back = cli.ok("locks", "release", DB, "--owner", "one", "--fence", str(fence)).out

    assert renewed == {"owner": "one", "renewed": [DB], "lease": 3600.0}
    assert given_back == "Released db:users.\n"
    assert [one["name"] for one in cli.json("locks", "list")["resources"]] == ["file:src/**"]
    assert cli.json("locks", "release", "--all", "--owner", "one") == {"owner": "one", "count": 1}
    assert cli.json("locks", "list") == {"resources": []}


def test_without_an_owner_it_is_one_of_its_own(cli: Cli) -> None:
    first = cli.json("locks", "acquire", "a")
    second = cli("locks", "acquire", "a", "--wait", "0")

    assert first["owner"].startswith("cli-")
    assert second.code == 1
    cli.ok("locks", "release", "a", "--owner", first["owner"])


def test_a_claim_owns_a_lock_and_its_end_gives_it_back(cli: Cli) -> None:
    cli.add("work")
    task, fence = cli.claim()
    acquire(cli, DB, owner=f"claim:default:{task}:{fence}")
    assert cli.json("locks", "show", DB)["holders"][0]["agent"] == "mira"

    cli.ok("tasks", "complete", task, "--fence", fence)

    assert cli.json("locks", "list") == {"resources": []}


def test_a_listing_says_who_and_how_many(cli: Cli) -> None:
    acquire(cli, DB, "--agent", "mira")
    for owner in ("a", "b"):
        acquire(cli, "api", "--mode", "semaphore", "--limit", "3", owner=owner)

    lines = cli.ok("locks", "list").out.splitlines()
    shown = cli.ok("locks", "show", "api").out

    assert lines[0].split() == [
        "RESOURCE",
        "MODE",
        "HELD",
        "BY",
        "AGENT",
        "SINCE",
        "UNTIL",
        "WAITING",
    ]
    assert "2 of 3: a, …" in lines[1]
    assert lines[2].split()[:4] == [DB, "exclusive", "one", "mira"]
    assert "2 of 3 taken" in shown
    assert len(cli.json("locks", "list", "db:")["resources"]) == 1


def test_force_release_takes_it_and_says_the_fence_above(cli: Cli) -> None:
    fence = acquire(cli, DB)

    taken = cli.json("locks", "force-release", DB, "--reason", "its machine is gone")

    assert taken["fence"] > fence
    assert cli("locks", "release", DB, "--owner", "one").code == 1
    (event,) = [
        line
        for line in cli.ok("tail", "--since", "1m", "--no-follow", "--json").out.splitlines()
        if "resource:forced" in line
    ]
    assert "its machine is gone" in event


# Who waits for whom


@pytest.fixture
def waiting(cli: Cli) -> Callable[..., Program]:
    """Starts one that waits, and returns once it stands in line."""

    def start(name: str, owner: str, *words: str) -> Program:
        program = cli.started("locks", "acquire", name, "--owner", owner, "--wait", "30s", *words)
        with callboard.sync.connect(cli.where[1], namespace=cli.where[3], adopt=True) as cb:
            while owner not in {wait.owner for wait in cb.locks.waits()}:
                assert program.process.poll() is None, program.end()
        return program

    return start


def test_who_waits_is_shown_until_it_is_handed_over(
    cli: Cli, waiting: Callable[..., Program]
) -> None:
    acquire(cli, DB)
    program = waiting(DB, "two", "--priority", "5", "--agent", "noor")

    (wait,) = cli.json("locks", "waits")["waits"]
    (edge,) = cli.json("locks", "graph")["edges"]
    lines = cli.ok("locks", "show", DB).out
    reasons = cli.json("locks", "why", DB)

    assert (wait["owner"], wait["agent"], wait["priority"]) == ("two", "noor", 5)
    assert edge == {"waiter": "two", "owner": "one", "resource": DB, "is_any": False}
    assert "In line" in lines
    assert reasons["blockers"] == ["one"]
    assert cli.ok("locks", "why", "two").out == "two waits for db:users: one has it\n"
    assert cli.ok("locks", "waits").out.splitlines()[1].split()[:4] == [
        "two",
        "noor",
        "exclusive",
        DB,
    ]
    assert cli.ok("locks", "graph", "two").out.splitlines()[1].split() == ["two", "one", DB]
    assert '"two" -> "one" [label="db:users"];' in cli.ok("locks", "graph", "--dot").out
    cli.ok("locks", "release", DB, "--owner", "one")
    assert program.end().code == 0
    assert cli.json("locks", "show", DB)["holders"][0]["owner"] == "two"


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
    ids=["SIGTERM", "SIGINT", "SIGHUP"],
)
def test_one_who_is_interrupted_leaves_the_line(
    cli: Cli, waiting: Callable[..., Program], number: signal.Signals
) -> None:
    acquire(cli, DB)
    program = waiting(DB, "two")

    program.signal(number)

    assert program.end().code == 128 + number
    assert cli.json("locks", "waits") == {"waits": []}


def test_a_deadlock_has_a_victim_and_is_told_afterwards(
    cli: Cli, waiting: Callable[..., Program]
) -> None:
    acquire(cli, "a", "--agent", "mira")
    acquire(cli, "b", owner="two")
    survivor = waiting("b", "one", "--priority", "high")

    victim = cli("--json", "locks", "acquire", "a", "--owner", "two")
    cli.ok("locks", "release", "b", "--owner", "two")

    assert (victim.code, victim.error["code"]) == (1, "deadlock_victim")
    assert survivor.end().code == 0
    (incident,) = cli.json("locks", "incidents")["incidents"]
    assert incident["id"] == victim.error["details"]["incident"]
    assert (incident["victim"], sorted(incident["cycle"])) == ("two", ["one", "two"])
    lines = cli.ok("locks", "incidents").out
    assert "cycle   two -> one -> two" in lines
    assert "victim  two" in lines


# Around a command


def test_a_command_runs_under_the_lock_and_its_exit_code_is_passed_on(cli: Cli) -> None:
    script = (
        "import os, sys; print(os.environ['CALLBOARD_LOCK_FENCE'], "
        "os.environ['CALLBOARD_LOCK_OWNER'], *sys.argv[1:]); sys.exit(7)"
    )

    ran = cli.started(
        "locks", "run", DB, "x", "--owner", "one", "--", *PYTHON, script, "--", "--json"
    ).end()

    assert ran.code == 7, ran
    fence, *rest = ran.out.split()
    assert int(fence) > 10**15
    assert rest == ["one", "--", "--json"]
    assert cli.json("locks", "list") == {"resources": []}


def test_the_lock_is_held_and_renewed_while_the_command_runs(cli: Cli) -> None:
    ran = cli.started("locks", "run", DB, "--lease", "500ms", "--", *PYTHON, BLOCKS)
    ran.read_until("begun")
    first = cli.json("locks", "show", DB)["holders"][0]

    while cli.json("locks", "show", DB)["holders"][0]["deadline"] == first["deadline"]:
        assert ran.process.poll() is None
    assert cli("locks", "acquire", DB, "--wait", "0").code == 1

    ran.signal(signal.SIGTERM)
    assert ran.end().code == 128 + signal.SIGTERM
    assert cli.json("locks", "list") == {"resources": []}


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_a_signal_is_passed_on_and_the_lock_is_held_until_the_command_ends(
    cli: Cli, tmp_path: Path, number: signal.Signals
) -> None:
    held = tmp_path / "held"
    script = f"""
import os, signal, time
def end(*_):
    print('asked')
    while not os.path.exists({str(held)!r}): time.sleep(0.01)
    os._exit(9)
signal.signal({int(number)}, end)
print('begun')
while True: signal.pause()
"""
    ran = cli.started("locks", "run", DB, "--", *PYTHON, script)
    ran.read_until("begun")

    ran.signal(number)
    ran.read_until("asked")
    refused = cli("locks", "acquire", DB, "--wait", "0")
    held.touch()

    assert refused.code == 1
    assert ran.end().code == 9
    assert cli.json("locks", "list") == {"resources": []}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_that_comes_as_the_command_begins_ends_it_too(
    cli: Cli, number: signal.Signals
) -> None:
    # It sends the signal itself, before anything here can know that it runs.
    script = f"kill -{number.name[3:]} $PPID; exec sleep 60"

    ran = cli.started("locks", "run", DB, "--", "sh", "-c", script).end()

    assert ran.code == 128 + number, ran
    assert cli.json("locks", "list") == {"resources": []}


async def test_a_signal_to_a_command_that_has_ended_leaves_its_exit_code() -> None:
    program = [*PYTHON, "import sys; sys.stdin.readline()"]
    process = await asyncio.create_subprocess_exec(*program, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"end\n")
    # It has ended, and the loop was not told so yet.
    with suppress(ChildProcessError):  # The loop's thread was there first.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    lock_run._tell(process, signal.SIGINT)

    assert await process.wait() == 0


def test_a_hang_up_that_is_ignored_stays_ignored(cli: Cli) -> None:
    script = "import os, signal; os.kill(os.getppid(), signal.SIGHUP); print('goes on')"
    words = " ".join(shlex.quote(word) for word in [*PROGRAM, *cli.where, "locks", "run", DB])
    run = f"trap '' HUP; exec {words} -- {shlex.join([*PYTHON, script])}"

    ran = subprocess.run(["sh", "-c", run], capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stdout) == (0, "goes on\n"), ran


def test_a_command_whose_lock_is_lost_is_asked_to_end_and_the_loss_is_told(cli: Cli) -> None:
    ran = cli.started("--json", "locks", "run", DB, "--", *PYTHON, BLOCKS)
    ran.read_until("begun")

    cli.ok("locks", "force-release", DB)

    ended = ran.end()
    assert ended.code == 1
    assert ended.error["code"] == "lock_lost"


def test_a_command_that_does_not_end_when_its_lock_is_lost_is_killed(cli: Cli) -> None:
    ran = cli.started("locks", "run", DB, "--grace", "200ms", "--", *PYTHON, OBEYS_LATE)
    ran.read_until("begun")

    cli.ok("locks", "force-release", DB)

    ran.read_until("asked")
    assert ran.end().code == 1


def test_no_command_is_run_where_the_lock_was_not_to_be_had(cli: Cli, tmp_path: Path) -> None:
    acquire(cli, DB)
    made = tmp_path / "made"

    ran = cli("--json", "locks", "run", DB, "--wait", "0", "--", "touch", str(made))

    assert (ran.code, ran.error["code"]) == (1, "lock_held")
    assert not os.path.exists(made)


def test_commands_under_one_lock_run_one_after_the_other(cli: Cli, tmp_path: Path) -> None:
    # Fails where another is between the two lines.
    script = f"""
import os
os.close(os.open({str(tmp_path / "inside")!r}, os.O_CREAT | os.O_EXCL))
sum(range(3_000_000))
os.unlink({str(tmp_path / "inside")!r})
"""

    programs = [cli.started("locks", "run", DB, "--", *PYTHON, script) for _ in range(4)]

    assert [program.end().code for program in programs] == [0, 0, 0, 0]
