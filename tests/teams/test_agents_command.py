"""Agents that are commands: real processes, most of them ill-behaved."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from callboard.domain.retry import Failure
from callboard.exceptions import AgentUnusable, Fatal, Retry
from callboard.teams.agents.command import CommandAgent
from tests.teams.agents_support import AskingContext, asked, definition, nothing_left, processes_of
from tests.waiting import until

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


@pytest.fixture(autouse=True)
async def context() -> AsyncIterator[AskingContext]:
    """A task; when the test is over, neither a process nor a descriptor of it is left."""
    context = AskingContext(id=f"t-{uuid.uuid4().hex}")
    async with nothing_left():
        yield context
        assert processes_of(context.id) == []


def python(code: str, folder: Path, **options: Any) -> CommandAgent:
    """An agent that runs Python code; `-S -E` makes it start sooner."""
    return CommandAgent(
        definition("command", [sys.executable, "-S", "-E", "-c", code], **options), folder
    )


async def failure_of(agent: CommandAgent, context: AskingContext, payload: Any = None) -> Failure:
    with pytest.raises((Retry, Fatal)) as raised:
        await agent.run(asked(payload, context))
    return Failure.from_exception(raised.value)


async def test_the_request_is_one_line_of_json_and_the_answer_is_read_as_json(tmp_path, context):
    agent = python(
        "import json, sys; lines = sys.stdin.readlines(); asked = json.loads(lines[0]);"
        "print(json.dumps([len(lines), asked['role'], asked['run'], asked['task']]))",
        tmp_path,
    )

    answer = await agent.run(asked({"rows": [1, 2]}, context))

    assert answer == [
        1,
        "worker",
        "run-1",
        {"id": "t-1", "title": "Read one", "description": "", "payload": {"rows": [1, 2]}},
    ]


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("", None),
        ("\n", None),
        ("42\n", 42),
        ('{"a": [1.5]}', {"a": [1.5]}),
        ("{not json}\n\n", "{not json}"),
        ("Grüße ×\r\n", "Grüße ×"),
        ("﻿[1]", [1]),
        ("NaN", "NaN"),
    ],
)
async def test_what_is_no_json_is_text(tmp_path, context, written, answer):
    (tmp_path / "written").write_text(written, "utf-8", newline="")
    agent = CommandAgent(definition("command", "cat written"), tmp_path)

    found = await agent.run(asked(None, context))

    assert found == answer


async def test_json_nested_too_deeply_is_text_and_no_crash(tmp_path, context):
    agent = python("print('[' * 100_000)", tmp_path)

    answer = await agent.run(asked(None, context))

    assert answer == "[" * 100_000


async def test_a_failure_says_the_command_its_exit_code_and_the_last_lines_of_stderr(
    tmp_path, context
):
    (tmp_path / "reader.py").write_text(
        "import sys\n"
        "for n in range(9): print('line', n, file=sys.stderr)\n"
        "print('\\x1b[31mno such file: a.csv\\x1b[0m', file=sys.stderr)\n"
        "sys.exit(3)\n"
    )
    agent = CommandAgent(definition("command", ["python", "reader.py"]), tmp_path)

    failure = await failure_of(agent, context)

    assert failure.message == (
        'The command "python reader.py" exited with 3: '
        "line 5\nline 6\nline 7\nline 8\nno such file: a.csv"
    )
    assert failure.retryable and failure.details == {"exit_code": 3}


async def test_exit_code_65_is_a_failure_that_no_retry_cures(tmp_path, context):
    agent = CommandAgent(definition("command", "sh bad-row.sh"), tmp_path)
    (tmp_path / "bad-row.sh").write_text("echo 'row 7 has no date' >&2; exit 65")

    failure = await failure_of(agent, context)

    assert failure.message == 'The command "sh bad-row.sh" exited with 65: row 7 has no date'
    assert not failure.retryable


async def test_a_command_ended_by_a_signal_says_which(tmp_path, context):
    (tmp_path / "crash.sh").write_text("kill -SEGV $$")
    agent = CommandAgent(definition("command", "sh crash.sh"), tmp_path)

    failure = await failure_of(agent, context)

    assert failure.message == (
        'The command "sh crash.sh" was ended by signal SIGSEGV: it wrote nothing to standard error'
    )
    assert failure.retryable


@pytest.mark.parametrize("code", ["b'\\x89PNG\\r\\n\\x1a\\n'", "b'\\x00\\x01\\x02'"])
async def test_binary_output_is_a_failure_that_shows_how_it_begins(tmp_path, context, code):
    agent = python(f"import sys; sys.stdout.buffer.write({code})", tmp_path)

    failure = await failure_of(agent, context)

    assert re.search(
        r"wrote [38] bytes that are neither JSON nor text in UTF-8; they begin with "
        r"(89 50 4e 47 0d 0a 1a 0a|00 01 02)\.",
        failure.message,
    )


async def test_endless_output_ends_the_command_at_once(tmp_path, context):
    agent = CommandAgent(
        definition("command", "sh -c 'trap : TERM; yes & yes & wait; yes'", kill_after=300),
        tmp_path,
    )
    started_at = time.monotonic()

    failure = await failure_of(agent, context)

    assert failure.message == (
        'The command "sh …" was stopped: it wrote more than 1,048,576 bytes. Let it write less, '
        "or raise output_bytes."
    )
    assert time.monotonic() - started_at < 20


async def test_an_answer_of_exactly_the_bound_is_taken_and_one_byte_more_is_not(tmp_path, context):
    fits = python("print('x' * 1000, end='')", tmp_path, output_bytes=1000)
    exceeds = python("print('x' * 1001, end='')", tmp_path, output_bytes=1000)

    assert await fits.run(asked(None, context)) == "x" * 1000
    assert "more than 1,000 bytes" in (await failure_of(exceeds, context)).message


async def test_endless_errors_cost_no_memory_and_only_their_end_is_shown(tmp_path, context):
    agent = python(
        "import sys\n"
        "for n in range(200): sys.stderr.write('x' * 50_000)\n"
        "sys.stderr.write('\\nthe end\\n'); sys.exit(1)",
        tmp_path,
    )

    tracemalloc.start()
    try:
        failure = await failure_of(agent, context)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most < 5_000_000  # Of the 10 MB that it wrote.
    assert failure.message.endswith("xxx\nthe end")
    assert len(failure.message) < 1_200


async def test_a_command_that_reads_nothing_of_a_large_request_is_fine(tmp_path, context):
    agent = CommandAgent(definition("command", "echo done"), tmp_path)

    assert await agent.run(asked("x" * 1_000_000, context)) == "done"


async def test_a_command_that_writes_while_it_reads_is_not_waited_for_in_vain(tmp_path, context):
    agent = CommandAgent(definition("command", "cat"), tmp_path)

    answer = await agent.run(asked("x" * 900_000, context))

    assert answer["task"]["payload"] == "x" * 900_000


async def test_a_command_that_closes_its_output_is_waited_for_until_it_exits(tmp_path, context):
    agent = CommandAgent(
        definition("command", ["sh", "-c", "exec >&- 2>&-; cat >/dev/null; touch ended"]), tmp_path
    )

    assert await agent.run(asked(None, context)) is None
    assert (tmp_path / "ended").exists()


async def test_the_answer_of_a_command_whose_children_hold_its_output_open_is_taken(
    tmp_path, context
):
    agent = python(
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    open('forked', 'w').close(); time.sleep(600)\n"
        "while not os.path.exists('forked'): time.sleep(0.01)\n"
        "print('[1]')",
        tmp_path,
        kill_after=0.2,
    )

    assert await agent.run(asked(None, context)) == [1]
    assert processes_of(context.id) == []


IGNORES_TERM = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for child in ("a", "b"):
    if os.fork() == 0:
        open(child, "w").close()
        while True: time.sleep(600)
while not (os.path.exists("a") and os.path.exists("b")): time.sleep(0.01)
open("under way", "w").close()
while True: time.sleep(600)
"""


async def test_a_cancelled_command_that_forks_and_ignores_sigterm_is_killed_as_a_group(
    tmp_path, context
):
    agent = python(IGNORES_TERM, tmp_path, kill_after=0.3)
    running = asyncio.ensure_future(agent.run(asked(None, context)))
    await until((tmp_path / "under way").exists)
    assert len(processes_of(context.id)) == 3

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert running.cancelled()
    assert processes_of(context.id) == []


async def test_cancelling_again_meanwhile_does_not_leave_the_command_behind(tmp_path, context):
    agent = python(IGNORES_TERM, tmp_path, kill_after=0.3)
    running = asyncio.ensure_future(agent.run(asked(None, context)))
    await until((tmp_path / "under way").exists)

    for _ in range(5):
        running.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([running])

    assert running.cancelled()
    assert processes_of(context.id) == []


async def test_a_command_is_asked_to_end_before_it_is_killed(tmp_path, context):
    agent = python(
        "import signal, sys, time\n"
        "def end(*_): open('ended well', 'w').write('yes'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); open('under way', 'w').close()\n"
        "while True: time.sleep(600)",
        tmp_path,
        kill_after=60,
    )
    running = asyncio.ensure_future(agent.run(asked(None, context)))
    await until((tmp_path / "under way").exists)

    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert (tmp_path / "ended well").read_text() == "yes"


async def test_a_call_cancelled_before_the_command_started_leaves_none(tmp_path, context):
    agent = CommandAgent(definition("command", "sleep 600", kill_after=0), tmp_path)
    running = asyncio.ensure_future(agent.run(asked(None, context)))
    await asyncio.sleep(0)

    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert processes_of(context.id) == []


async def test_a_time_limit_of_the_caller_ends_the_command(tmp_path, context):
    agent = CommandAgent(definition("command", "sleep 600"), tmp_path)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await agent.run(asked(None, context))

    assert processes_of(context.id) == []


async def test_twenty_commands_at_once_each_get_their_own_answer(tmp_path, context):
    agent = CommandAgent(definition("command", "cat", max_concurrent=20), tmp_path)

    answers = await asyncio.gather(*(agent.run(asked(n, context)) for n in range(20)))

    assert [answer["task"]["payload"] for answer in answers] == list(range(20))


async def test_the_command_sees_only_the_environment_that_it_was_given(
    tmp_path, context, monkeypatch
):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("REGION", "north")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    agent = CommandAgent(
        definition("command", "env", env={"MODE": "fast", "LEVEL": 3}, env_from=["REGION", "NONE"]),
        tmp_path,
    )

    lines = (await agent.run(asked(None, context))).splitlines()

    found = dict(line.split("=", 1) for line in lines if not line.startswith("_="))
    assert found["LANG"] == "C.UTF-8"
    assert found["REGION"] == "north"
    assert (found["MODE"], found["LEVEL"]) == ("fast", "3")
    assert found["CALLBOARD_RUN"] == "run-1"
    assert (found["CALLBOARD_TASK"], found["CALLBOARD_FENCE"]) == (context.id, "41")
    assert not {"DATABASE_PASSWORD", "PYTHONPATH", "NONE"} & found.keys()


async def test_neither_the_payload_nor_the_environment_nor_later_words_are_in_a_failure(
    tmp_path, context, caplog
):
    caplog.set_level("DEBUG")
    (tmp_path / "fail.sh").write_text("cat >/dev/null; exit 1")
    agent = CommandAgent(
        definition("command", "sh fail.sh --token s3cret-1", env={"TOKEN": "s3cret-2"}), tmp_path
    )

    failure = await failure_of(agent, context, "s3cret-3")

    assert "s3cret" not in failure.encode().decode() + caplog.text
    assert failure.message.startswith('The command "sh fail.sh …" exited with 1')


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["s3cret-1"], "false …"),
        (["s3cret-1", "s3cret-2", "s3cret-3"], "false …"),
        (["../s3cret-outside"], "false …"),
        (["{folder}/../s3cret-outside"], "false …"),
        (["s3cret-link"], "false …"),
        (["s3cret-folder"], "false …"),
        (["s3cret" * 1_000], "false …"),
        (["", "read.py"], "false …"),
        (["-m", "read.py"], "false …"),
        (["read.py", "read.py", "s3cret-2"], "false read.py …"),
        (["below/read.py"], "false below/read.py"),
        ([], "false"),
    ],
)
async def test_of_a_command_only_its_program_and_its_script_are_told(
    tmp_path, context, caplog, words, shown
):
    """Any other word may have come from a variable that is secret."""
    caplog.set_level("DEBUG")
    folder = tmp_path / "team"
    (folder / "below").mkdir(parents=True)
    (folder / "s3cret-folder").mkdir()
    for script in ("read.py", "below/read.py", "../s3cret-outside"):
        (folder / script).touch()
    (folder / "s3cret-link").symlink_to(tmp_path / "s3cret-outside")
    given = ["false", *(word.format(folder=folder) for word in words)]
    agent = CommandAgent(definition("command", given), folder)

    failure = await failure_of(agent, context)

    assert failure.message == (
        f'The command "{shown}" exited with 1: it wrote nothing to standard error'
    )
    assert "s3cret" not in failure.encode().decode() + caplog.text


async def test_a_program_removed_since_is_a_failure_that_no_retry_cures(tmp_path, context):
    program = tmp_path / "reader"
    program.write_text("#!/bin/sh\necho 1\n")
    program.chmod(0o755)
    agent = CommandAgent(definition("command", "./reader"), tmp_path)
    assert await agent.run(asked(None, context)) == 1
    program.unlink()

    failure = await failure_of(agent, context)

    assert failure.message == 'The command "./reader" cannot be started: No such file or directory.'
    assert not failure.retryable


async def test_the_working_directory_is_meant_from_the_teams_folder(tmp_path, context):
    (tmp_path / "below").mkdir()
    agent = CommandAgent(definition("command", "pwd", cwd="below"), tmp_path)

    assert await agent.run(asked(None, context)) == str((tmp_path / "below").resolve())


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ("no-such-program", {}, "the program 'no-such-program' was not found on PATH. Install it"),
        ("plain.txt", {}, "To run the one in "),
        ("./plain.txt", {}, "may not be run: chmod +x "),
        ("./nothing", {}, "there is no program "),
        ("sh 'unclosed", {}, "command cannot be split into words: No closing quotation"),
        ("", {}, "command is no list of words"),
        ([], {}, "command is no list of words"),
        (["sleep", 1], {}, "word 2 of command is no text; put it into quotes"),
        (["", "x"], {}, "command has an empty first word"),
        (["sh", "a\0b"], {}, "word 2 of command is no text"),
        ("sh", {"cwd": "nowhere"}, "is no folder. Make it, or correct the path."),
        ("sh", {"env": ["A"]}, "env is a list; use a mapping of texts."),
        ("sh", {"env": {"A": None}}, "env.A: the value is no text"),
        ("sh", {"env": {"A=B": "c"}}, "the variable 'A=B' cannot be set"),
        ("sh", {"env_from": 5}, "env_from is 5; use a list of texts."),
        ("sh", {"kill_after": -1}, "kill_after is -1; use a number from 0 to 300."),
        ("sh", {"output_bytes": "many"}, "output_bytes is 'many'; use a number from 1 to 1"),
    ],
)
def test_a_command_that_could_never_run_is_refused_with_the_cure(tmp_path, settings, options, says):
    (tmp_path / "plain.txt").write_text("no program")

    with pytest.raises(AgentUnusable) as raised:
        CommandAgent(definition("command", settings, **options), tmp_path)

    assert raised.value.code == "agent_unusable"
    assert raised.value.message.startswith("Agent 'reader': ")
    assert says in raised.value.message


def test_a_process_that_ends_without_waiting_takes_its_commands_with_it(tmp_path, context):
    script = tmp_path / "stubborn.sh"
    script.write_text("trap : TERM; touch up; while :; do sleep 9; done")
    program = (
        "import asyncio, os, threading\n"
        "from pathlib import Path\n"
        "from callboard.teams.agents.command import CommandAgent\n"
        "from tests.teams.agents_support import AskingContext, asked, definition\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "agent = CommandAgent(definition('command', 'sh stubborn.sh'), folder)\n"
        f"asking = asked(None, AskingContext(id={context.id!r}))\n"
        "run = threading.Thread(target=lambda: asyncio.run(agent.run(asking)), daemon=True)\n"
        "run.start()\n"
        "while not (folder / 'up').exists(): pass\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=os.getcwd(), timeout=60, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    # Killed they are by now; until whoever inherits them has buried them may take a moment.
    asyncio.run(until(lambda: not processes_of(context.id)))
