"""Kinds of agents: the built-in ones, those of packages, and whoever is elsewhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from callboard.domain.team import BUILT_IN_KINDS
from callboard.exceptions import (
    AgentUnusable,
    Fatal,
    IdConflict,
    IllegalState,
    Retry,
    TaskCancelled,
    TaskFailed,
)
from callboard.teams.agents import Agent, Kind, close_agent, kinds, make_agent
from callboard.teams.agents.elsewhere import ElsewhereAgent
from tests.teams.agents_support import AskingContext, AskingTask, asked, definition


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that adds kinds of agents."""
    information = tmp_path / "sites" / "acme-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[callboard.agents]\n"
        "acme = acme_agents:KIND\n"
        "plain = acme_agents:Shouter\n"
        "command = acme_agents:Shouter\n"
        "gone = acme_nowhere:KIND\n"
        "number = acme_agents:NUMBER\n"
        "fails = acme_agents:fails\n"
        "mute = acme_agents:mute\n"
    )
    (tmp_path / "sites" / "acme_agents.py").write_text(
        "from callboard.teams.agents import Kind\n"
        "class Shouter:\n"
        "    def __init__(self, definition, folder): self.settings = definition.settings\n"
        "    async def run(self, invocation): return self.settings.upper()\n"
        "KIND = Kind(Shouter, frozenset({'volume'}))\n"
        "NUMBER = 7\n"
        "def fails(definition, folder): raise OSError('no microphone')\n"
        "def mute(definition, folder): return object()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "sites"))
    yield
    sys.modules.pop("acme_agents", None)


def test_the_built_in_kinds_are_those_that_teams_are_read_with():
    found = kinds()

    assert {name: found[name].options for name in BUILT_IN_KINDS} == dict(BUILT_IN_KINDS)


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        ("callable", "json:dumps", "CallableAgent"),
        ("command", "sh", "CommandAgent"),
        ("endpoint", "http://127.0.0.1/", "EndpointAgent"),
        ("elsewhere", {"kind": "research"}, "ElsewhereAgent"),
    ],
)
def test_each_built_in_kind_makes_its_agent(tmp_path, kind, settings, name):
    if kind == "callable":
        settings = "reprlib:repr"

    agent = make_agent(definition(kind, settings), tmp_path)

    assert type(agent).__name__ == name
    assert isinstance(agent, Agent)


def test_an_http_client_is_loaded_by_no_kind_but_the_one_that_needs_it():
    program = (
        "import sys\nfrom callboard.teams.agents import kinds\nkinds()\n"
        "print([name for name in ('httpx2', 'asyncio.subprocess') if name in sys.modules])"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert "httpx2" not in ended.stdout, ended.stdout + ended.stderr
    assert ended.returncode == 0


async def test_a_package_adds_kinds_of_its_own(package, tmp_path):
    agent = make_agent(definition("acme", "hello"), tmp_path)

    assert await agent.run(asked()) == "HELLO"
    assert kinds()["acme"].options == {"volume"}
    assert kinds()["plain"].options == frozenset()
    await close_agent(agent)


def test_a_package_cannot_take_the_place_of_a_built_in_kind(package, caplog):
    found = kinds()

    assert "env" in found["command"].options
    assert caplog.messages == [
        "'command' of acme_agents:Shouter, offered as one of callboard.agents, is ignored: there "
        "is one of that name already."
    ]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            "gone",
            "its kind acme_nowhere:KIND cannot be loaded: ModuleNotFoundError: No module named",
        ),
        ("number", "its kind acme_agents:NUMBER cannot be loaded: TypeError: it is a int; it must"),
        ("fails", "making it failed with OSError: no microphone"),
        ("mute", "the kind 'mute' gave a object without the method run"),
        ("comand", "there is no kind 'comand'; did you mean 'command'? Use one of acme, callable"),
    ],
)
def test_a_kind_that_is_broken_or_unknown_is_refused_alone(package, tmp_path, kind, says):
    assert isinstance(kinds()["acme"], Kind)

    with pytest.raises(AgentUnusable) as raised:
        make_agent(definition(kind, "hello"), tmp_path)

    assert says in raised.value.message


# Elsewhere


@dataclass
class OtherTasks:
    """Stands in for another board, to see what it is asked."""

    submitted: list[tuple[Any, ...]] = field(default_factory=list)
    cancelled: list[tuple[Any, ...]] = field(default_factory=list)
    refusal: Exception | None = None

    async def submit(self, kind: str, payload: Any, **fields: Any) -> None:
        self.submitted.append((kind, payload, fields))
        if self.refusal is not None:
            raise self.refusal

    async def cancel(self, task_id: str, **fields: Any) -> None:
        self.cancelled.append((task_id, fields))
        if self.refusal is not None:
            raise self.refusal


@dataclass
class WaitingContext(AskingContext):
    ending: Any = None
    waited: list[Any] = field(default_factory=list)

    async def wait(self, task_id: str, *, tasks: Any) -> Any:
        self.waited.append((task_id, tasks))
        if isinstance(self.ending, BaseException):
            raise self.ending
        return self.ending


async def ask_elsewhere(context: AskingContext, tasks: OtherTasks, **fields: Any) -> Any:
    agent = ElsewhereAgent(
        definition("elsewhere", {"board": "lab", "kind": "research"}, **fields), Path()
    )
    boards = {"lab": tasks}
    return await agent.run(asked({"q": 1}, context, tasks_of=boards.__getitem__))


async def test_a_request_elsewhere_is_a_task_for_whoever_fits_there():
    tasks, context = OtherTasks(), WaitingContext(ending={"found": 3})
    context.task = AskingTask(b'{"kind":"work","title":"Read one","trace_context":"00-a-b-01"}', 2)

    answer = await ask_elsewhere(context, tasks, capabilities=("csv",), labels={"eu": "yes"})

    [(kind, request, fields)] = tasks.submitted
    assert answer == {"found": 3}
    assert (kind, request.task.payload) == ("research", {"q": 1})
    assert fields["id"] == "run-1.t-1.2"
    assert fields["requirements"].capabilities == ("csv",)
    assert fields["requirements"].labels == {"eu": "yes"}
    assert (fields["title"], fields["trace_context"]) == ("Read one", "00-a-b-01")
    assert context.waited == [("run-1.t-1.2", tasks)]


async def test_an_attempt_made_again_after_a_crash_waits_for_the_task_that_is_there():
    tasks, context = OtherTasks(refusal=IdConflict("used")), WaitingContext(ending=5)

    assert await ask_elsewhere(context, tasks) == 5


async def test_ids_too_long_for_a_task_stay_the_same_and_apart():
    tasks = OtherTasks()
    for _ in range(2):
        await ask_elsewhere(WaitingContext(id="t" * 128), tasks)
    await ask_elsewhere(WaitingContext(id="t" * 127 + "u"), tasks)

    first, again, other = (fields["id"] for _, _, fields in tasks.submitted)
    assert first == again != other
    assert len(first) <= 128


async def test_a_failure_there_is_retried_here_and_a_cancellation_there_is_not():
    failed = TaskFailed("it failed", error={"message": "no such paper"})

    with pytest.raises(Retry, match=r"^Task run-1\.t-1\.0 on board lab failed: no such paper$"):
        await ask_elsewhere(WaitingContext(ending=failed), OtherTasks())
    with pytest.raises(Fatal, match=r"^Task run-1\.t-1\.0 on board lab was cancelled there\.$"):
        await ask_elsewhere(WaitingContext(ending=TaskCancelled("it was")), OtherTasks())


@pytest.mark.parametrize(
    ("reason", "cancelled"),
    [
        ("cancelled", ["run-1.t-1.0"]),
        ("timeout", ["run-1.t-1.0"]),
        (None, ["run-1.t-1.0"]),
        ("stopping", []),
        ("lease_lost", []),
    ],
)
async def test_a_task_elsewhere_ends_with_the_attempt_that_asked_for_it(reason, cancelled):
    tasks = OtherTasks()
    context = WaitingContext(ending=asyncio.CancelledError(), cancel_reason=reason)

    with pytest.raises(asyncio.CancelledError):
        await ask_elsewhere(context, tasks)

    assert [task_id for task_id, _ in tasks.cancelled] == cancelled


async def test_a_task_elsewhere_that_ended_meanwhile_does_not_hide_the_cancellation():
    tasks = OtherTasks()
    context = WaitingContext(ending=asyncio.CancelledError(), cancel_reason="cancelled")

    async def submit(*_: Any, **__: Any) -> None:
        tasks.refusal = IllegalState("it has ended")

    tasks.submit = submit  # type: ignore[method-assign]

    with pytest.raises(asyncio.CancelledError):
        await ask_elsewhere(context, tasks)


async def test_without_another_board_to_reach_it_is_a_failure_no_retry_cures():
    agent = ElsewhereAgent(definition("elsewhere", {"kind": "research"}), Path())

    with pytest.raises(Fatal, match="The board 'default' cannot be reached from here"):
        await agent.run(asked())


@pytest.mark.parametrize("settings", [None, "research", {}, {"kind": "a b"}, {"kind": "a", "x": 1}])
def test_an_agent_elsewhere_without_a_kind_is_refused(settings):
    with pytest.raises(AgentUnusable, match="elsewhere n"):
        ElsewhereAgent(definition("elsewhere", settings), Path())
