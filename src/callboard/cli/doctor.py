"""``callboard doctor``: what could be wrong here, and what to do about each."""

import os
import platform
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import typer

from callboard.cli import failures
from callboard.cli.command import Options, command
from callboard.cli.output import Output
from callboard.exceptions import CallboardError

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.config import EngineChoice
    from callboard.domain.agent import Agent
    from callboard.domain.board import Board
    from callboard.engine.probe import EngineFacts

SKEW_SECONDS: Final = 1.0
"""Beyond it, deadlines that people give as times are off by more than they would notice."""

DISK_BYTES: Final = 256 << 20
MEMORY_SHARE: Final = 0.9
SAMPLES: Final = 5
"""Waiting tasks a board that are asked why they wait."""

Level = Literal["ok", "note", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        level: ``note``: worth knowing; ``problem``: something does not work until it is cured.
        cure: What to do; empty where there is nothing to do.
    """

    level: Level
    about: str
    text: str
    cure: str = ""


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``doctor`` a command of *app*."""
    command(app, "doctor", panel=panel, example=EXAMPLE)(doctor)


EXAMPLE: Final = """
callboard doctor --url redis://localhost:6379
callboard doctor --url http://localhost:9001
"""


def doctor(options: Options, out: Output) -> int:
    """Look at the engine, its settings, the agents and the boards; name a cure for each fault.

    With the URL of a coordinator: at that one, its engine, loops and streams, as seen from
    here, with the API key of CALLBOARD_API_KEY. The exit code is 0 if there is no problem, 1
    if there is one, 3 if the engine or the coordinator cannot be used, 2 if what was given
    cannot be.
    """
    import asyncio

    from callboard.cli import render_doctor

    url = options.url or ("" if options.data else os.environ.get("CALLBOARD_URL", ""))
    if url.startswith(("http://", "https://")):
        from callboard.cli.doctor_coordinator import examine

        findings, code = examine(url, options.namespace)
    else:
        findings, code = asyncio.run(_examine(options))
    value = {"ok": code == failures.OK, "findings": findings}
    out.emit(value, render_doctor.report, findings)
    return code


async def _examine(options: Options) -> tuple[list[Finding], int]:
    from callboard.version import __version__

    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    findings = [Finding("ok", "callboard", f"{__version__}, {python}, at {sys.prefix}")]
    try:
        cb = options.connect()
        findings += of_place(cb.choice)
        async with cb:
            findings += [finding async for finding in _connected(cb)]
    except CallboardError as error:
        findings.append(Finding("problem", "engine", error.message))
        return findings, failures.exit_code(error)
    has_problem = any(finding.level == "problem" for finding in findings)
    return findings, failures.REFUSED if has_problem else failures.OK


async def _connected(cb: "Callboard") -> AsyncIterator[Finding]:
    for finding in of_engine(cb.facts):
        yield finding
    before = time.time()
    seconds, micros = await cb.namespace.connection.call("TIME")
    yield of_clock(int(seconds) + int(micros) / 1e6, before, time.time())
    agents = await cb.agents.list()
    for finding in of_agents(agents):
        yield finding
    boards = await cb.boards.list()
    if not boards:
        yield Finding("ok", "boards", "none yet: a board comes with its first task")
    for board in boards:
        for finding in of_board(board):
            yield finding
        if board.counts.pending and not board.is_paused:
            yield await _waiting(cb, board)


async def _waiting(cb: "Callboard", board: "Board") -> Finding:
    """Why the tasks wait that might be claimed, told of the first that nobody can claim."""
    waiting = f"{failures.counted(board.counts.pending, 'task')} waiting"
    tasks = cb.board(board.name).tasks
    page = await tasks.list(status="pending", limit=SAMPLES)
    for summary in page.tasks[:SAMPLES]:
        why = await tasks.why(summary.id)
        if why.code in ("no_agents", "no_agent_fits", "agents_draining"):
            text = f"{waiting}, and nobody can claim {summary.id}."
            return Finding("problem", f"board {board.name}", f"{text} {why.text}")
    return Finding("ok", f"board {board.name}", f"{waiting} to be claimed")


def of_place(choice: "EngineChoice") -> Iterator[Finding]:
    """Which engine is used, and whether its data has room."""
    yield Finding("ok", "choice", str(choice))
    if choice.data_dir is None:
        return
    there = next(
        folder for folder in (choice.data_dir, *choice.data_dir.parents) if folder.exists()
    )
    free = shutil.disk_usage(there).free
    text = f"{choice.data_dir}, {free / (1 << 30):.1f} GiB free"
    if free < DISK_BYTES:
        cure = "Make room, or use another folder: --data DIR."
        yield Finding("problem", "data", f"{text}: a full disk stops the engine's writes", cure)
    else:
        yield Finding("ok", "data", text if choice.data_dir.exists() else f"{text}, to be made")


def of_engine(facts: "EngineFacts") -> Iterator[Finding]:
    """What the engine is, how durable its writes are, how full it is."""
    kind = f"{facts.software} {facts.version}{', cluster' if facts.is_cluster else ''}"
    yield Finding(
        "ok",
        "engine",
        f"{kind}, {failures.counted(facts.replicas, 'replica')}, format {facts.format}",
    )
    yield durability_of(facts.durability)
    used = facts.used_memory / (1 << 20)
    if not facts.maxmemory:
        yield Finding("ok", "memory", f"{used:.0f} MiB used, no limit set")
        return
    share = facts.used_memory / facts.maxmemory
    text = f"{used:.0f} MiB used, {share:.0%} of maxmemory"
    if share < MEMORY_SHARE:
        yield Finding("ok", "memory", text)
    else:
        cure = "Raise maxmemory, or purge finished tasks: callboard tasks purge --status done."
        yield Finding("problem", "memory", f"{text}: new work will be refused", cure)


def durability_of(word: str) -> Finding:
    """What an engine's settings promise of acknowledged work."""
    return _DURABILITY.get(word) or Finding(
        "note", "durability", f"appendfsync is {word}: the system decides when to write"
    )


_DURABILITY: Final = {
    "always": Finding("ok", "durability", "each write is on the disk before it is acknowledged"),
    "everysec": Finding(
        "ok",
        "durability",
        "a killed engine loses nothing acknowledged; a power cut may cost the last second "
        "(appendfsync everysec)",
    ),
    "snapshots": Finding(
        "note",
        "durability",
        "the engine writes snapshots only: a crash loses what was acknowledged since the last",
        "On the server: CONFIG SET appendonly yes.",
    ),
    "none": Finding(
        "note",
        "durability",
        "the engine keeps nothing on disk: a crash or restart loses everything",
        "On the server: CONFIG SET appendonly yes.",
    ),
    "unknown": Finding(
        "note",
        "durability",
        "the engine does not let us read its settings, so nothing can be said",
        "Ask whoever runs it for appendonly and appendfsync.",
    ),
}


def of_clock(
    server: float, before: float, after: float, whose: str = "the engine's, which decides"
) -> Finding:
    """How far this machine's clock is from the engine's, or another machine's.

    The other's time is of somewhere between the two, taken as in the middle of them: it may be
    off by half the round trip, so a slow one tells nothing that is not beyond its ends.
    """
    middle, half = (before + after) / 2, (after - before) / 2
    skew, name = server - middle, whose.partition(",")[0]
    if half * 2 > SKEW_SECONDS and abs(skew) <= half + SKEW_SECONDS:
        text = f"unknown: {name} came after {half * 2:.1f} s, too late to compare"
        return Finding("note", "clock", text, "Run it again; look why answers take that long.")
    if abs(skew) <= SKEW_SECONDS:
        return Finding("ok", "clock", f"within {max(abs(skew), half):.3f} s of {name}")
    word = "behind" if skew > 0 else "ahead of"
    return Finding(
        "note",
        "clock",
        f"this machine's clock is {abs(skew):.1f} s {word} {whose}",
        "Set the clocks by NTP; until then give spans, as --delay 10m, not times.",
    )


def of_agents(agents: "Sequence[Agent]") -> Iterator[Finding]:
    """Who does not do as it should."""
    able = sum(agent.takes_work for agent in agents)
    yield Finding("ok", "agents", f"{len(agents)} known, {able} of them may take work")
    now = datetime.now(UTC)
    for agent in agents:
        if agent.state == "lost" and agent.gone_at is not None:
            hours = (now - agent.gone_at).total_seconds() / 3600
            cure = f"Start it again, or forget it: callboard agents deregister {agent.id}"
            text = f"{agent.reason} That was {hours:.1f} h ago."
            yield Finding("note", f"agent {agent.id}", text, cure)
        elif agent.state in ("suspect", "not_consuming", "error"):
            cure = f"Look at its process and its log: callboard agents show {agent.id}"
            yield Finding("note", f"agent {agent.id}", agent.reason, cure)


def of_board(board: "Board") -> Iterator[Finding]:
    """What on a board waits for somebody."""
    about, counts, name = f"board {board.name}", board.counts, board.name
    if board.is_paused:
        cure = f"callboard boards resume {name}"
        waiting = counts.pending + counts.assigned
        yield Finding(
            "note", about, f"is paused, {failures.counted(waiting, 'task')} waiting", cure
        )
    if board.paused_kinds:
        cure = f"callboard boards resume {name}"
        yield Finding("note", about, f"kinds are paused: {', '.join(board.paused_kinds)}", cure)
    if counts.input_required:
        cure = f"callboard tasks list --status input_required --board {name}"
        yield Finding(
            "note",
            about,
            f"{failures.counted(counts.input_required, 'task')} waiting for an answer",
            cure,
        )
    if counts.unresolved:
        cure = f"callboard tasks graph --board {name}"
        text = f"{counts.unresolved:,} dependencies were never submitted"
        yield Finding("note", about, text, cure)
    if counts.dead_letters:
        cure = f"callboard dlq list --board {name}"
        yield Finding(
            "note", about, f"{failures.counted(counts.dead_letters, 'dead letter')}", cure
        )
