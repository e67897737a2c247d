"""Agents that are functions: coroutines on the loop, anything else in a thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard.exceptions import AgentUnusable, Fatal, Retry
from callboard.teams.agents import Invocation
from callboard.teams.agents import callable as callables
from callboard.teams.agents.callable import CallableAgent
from callboard.teams.requests import WorkRequest
from tests.teams.agents_support import AskingContext, asked, definition, nothing_left, plan_request
from tests.waiting import until


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    """What a test imports from its folder is forgotten after it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("handlers", "package", "broken"):
            del sys.modules[name]


def agent_of(folder: Path, code: str, name: str = "work") -> CallableAgent:
    (folder / "handlers.py").write_text(textwrap.dedent(code))
    return CallableAgent(definition("callable", f"handlers:{name}"), folder)


async def test_a_coroutine_runs_on_the_loop_with_request_and_context(tmp_path):
    agent = agent_of(
        tmp_path,
        """
        import threading
        async def work(request, context):
            return [request, context, threading.current_thread()]
        """,
    )
    invocation = asked({"n": 1})

    request, context, thread = await agent.run(invocation)

    assert request is invocation.request
    assert context is invocation.context
    assert thread is threading.current_thread()


async def test_a_plain_function_runs_in_a_thread_that_does_not_keep_the_process(tmp_path):
    agent = agent_of(
        tmp_path,
        """
        import threading
        def work(request):
            return threading.current_thread()
        """,
    )

    thread = await agent.run(asked())

    assert thread is not threading.current_thread()
    assert thread.daemon and thread.name == "reader:t-1"


SIGNATURES = """
import functools, msgspec
from typing import Any
from callboard.sdk.context import TaskContext
from callboard.teams import requests
from callboard.teams.requests import PlanRequest, Request, WorkRequest

def plain(request): return [type(request).__name__]
def struct(request: WorkRequest): return [type(request).__name__]
def text(request: "WorkRequest"): return [type(request).__name__]
def either(request: PlanRequest | WorkRequest): return [type(request).__name__]
def union(request: Request): return [type(request).__name__]
def as_dict(request: dict): return [type(request).__name__, request["role"]]
def as_typed_dict(request: dict[str, Any]): return [type(request).__name__, request["role"]]
def anything(request: Any): return [type(request).__name__]

class Own(msgspec.Struct):
    role: str
    run: str
def own(request: Own): return [type(request).__name__, request.run]

def second(request, whatever): return [type(request).__name__, whatever.id]
def named(request, *, ctx): return [type(request).__name__, ctx.id]
def annotated(request, limit=3, it: TaskContext = None): return [limit, it.id]
def optional(request, limit=3): return [limit]
def anyhow(*given): return [len(given)]
partial = functools.partial(named)

def keeps(function):
    @functools.wraps(function)
    def wrapper(*given, **named): return function(*given, **named)
    return wrapper
@keeps
def wrapped(request: dict, context): return [type(request).__name__, context.id]

class Model:
    def __call__(self, request, context): return ["called", context.id]
    def method(self, request): return ["method"]
    async def later(self, request): return ["later"]
class Later:
    async def __call__(self, request: dict): return [type(request).__name__]
model = Model()
def awaitable(request):
    async def answer(): return ["awaited"]
    return answer()
"""


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("plain", ["WorkRequest"]),
        ("struct", ["WorkRequest"]),
        ("text", ["WorkRequest"]),
        ("either", ["WorkRequest"]),
        ("union", ["WorkRequest"]),
        ("as_dict", ["dict", "worker"]),
        ("as_typed_dict", ["dict", "worker"]),
        ("anything", ["WorkRequest"]),
        ("own", ["Own", "run-1"]),
        ("second", ["WorkRequest", "t-1"]),
        ("named", ["WorkRequest", "t-1"]),
        ("annotated", [3, "t-1"]),
        ("optional", [3]),
        ("anyhow", [1]),
        ("partial", ["WorkRequest", "t-1"]),
        ("wrapped", ["dict", "t-1"]),
        ("model", ["called", "t-1"]),
        ("Model", ["called", "t-1"]),
        ("Later", ["dict"]),
        ("model.method", ["method"]),
        ("model.later", ["later"]),
        ("awaitable", ["awaited"]),
    ],
)
async def test_a_function_is_given_what_it_asks_for(tmp_path, name, answer):
    agent = agent_of(tmp_path, SIGNATURES, name)

    assert await agent.run(asked()) == answer


async def test_a_function_in_a_part_it_was_not_written_for_is_a_failure_no_retry_cures(tmp_path):
    agent = agent_of(tmp_path, SIGNATURES, "struct")
    invocation = Invocation(plan_request(), AskingContext())  # type: ignore[arg-type]

    with pytest.raises(Fatal) as raised:
        await agent.run(invocation)

    assert raised.value.message == (
        "The function handlers:struct of agent 'reader' cannot be given a PlanRequest: it takes "
        "a WorkRequest. Give the agent another part in the team, or annotate the parameter with "
        "what it is asked."
    )


@pytest.mark.parametrize("how", ["def", "async def"])
@pytest.mark.parametrize(
    ("raises", "kind"),
    [
        ("ValueError('no row 7')", ValueError),
        ("Retry('later', delay=3)", Retry),
        ("SystemExit(2)", SystemExit),
    ],
)
async def test_what_a_function_raises_reaches_the_caller(tmp_path, how, raises, kind):
    agent = agent_of(
        tmp_path,
        f"from callboard.exceptions import Retry\n{how} work(request):\n    raise {raises}",
    )

    with pytest.raises(kind):
        await agent.run(asked())


@pytest.mark.parametrize("kind", ["StopIteration", "KeyboardInterrupt", "GeneratorExit"])
async def test_what_would_end_more_than_the_call_becomes_a_plain_failure(tmp_path, kind):
    agent = agent_of(tmp_path, f"def work(request): raise {kind}")

    with pytest.raises(RuntimeError, match=f"It raised {kind}."):
        await agent.run(asked())


async def test_a_cancelled_coroutine_cleans_up_and_is_not_swallowed(tmp_path):
    agent = agent_of(
        tmp_path,
        """
        import asyncio
        async def work(request, context):
            try:
                context.id = "begun"
                await asyncio.sleep(600)
            finally:
                context.id = "cleaned up"
        """,
    )
    context = AskingContext()
    running = asyncio.ensure_future(agent.run(asked(None, context)))
    await until(lambda: context.id == "begun")

    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled() and context.id == "cleaned up"


HEEDS = """
import threading
begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
def work(request, context):
    begun.set()
    go_on.wait(60)
    while not context.is_cancelled: go_on.wait(0.01)
    ended.set()
    return "ignored"
def stuck(request):
    begun.set()
    go_on.wait(60)
    ended.set()
    raise ValueError("nobody listens any more")
"""


async def test_a_cancelled_thread_keeps_its_place_until_it_has_really_ended(tmp_path):
    agent = agent_of(tmp_path, HEEDS)
    module = sys.modules["handlers"]
    context = AskingContext()
    running = asyncio.ensure_future(agent.run(asked(None, context)))
    await until(module.begun.is_set)

    for _ in range(3):
        running.cancel()
        await asyncio.wait([running], timeout=0.02)
    assert not running.done() and context.is_cancelled
    module.go_on.set()
    await asyncio.wait([running])

    assert running.cancelled() and module.ended.is_set()


async def test_a_thread_that_heeds_nothing_is_left_to_itself_with_a_warning(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(callables, "GRACE_SECONDS", 0.1)
    agent = agent_of(tmp_path, HEEDS, "stuck")
    module = sys.modules["handlers"]
    running = asyncio.ensure_future(agent.run(asked()))
    await until(module.begun.is_set)
    started_at = time.monotonic()

    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled() and not module.ended.is_set()
    assert time.monotonic() - started_at < 4
    assert [record.getMessage() for record in caplog.records] == [
        "The function handlers:stuck of agent 'reader' still runs 0.1 s after the end of task "
        "t-1; its thread is left to itself. Let it look at context.is_cancelled."
    ]
    module.go_on.set()
    await until(module.ended.is_set)


async def test_a_cancellation_that_a_thread_heard_of_first_is_a_cancellation(tmp_path):
    agent = agent_of(
        tmp_path,
        """
        import concurrent.futures
        def work(request, context):
            context.is_cancelled = True
            raise concurrent.futures.CancelledError
        """,
    )
    running = asyncio.ensure_future(agent.run(asked()))

    await asyncio.wait([running])

    assert running.cancelled()


def test_a_stuck_thread_does_not_keep_the_process_from_ending(tmp_path):
    (tmp_path / "handlers.py").write_text(HEEDS.replace("wait(60)", "wait(6000)"))
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from callboard.teams.agents import callable\n"
        "from tests.teams.agents_support import asked, definition\n"
        "callable.GRACE_SECONDS = 0.1\n"
        "async def main():\n"
        "    stuck = definition('callable', 'handlers:stuck')\n"
        f"    agent = callable.CallableAgent(stuck, Path({str(tmp_path)!r}))\n"
        "    async with asyncio.timeout(0.1):\n"
        "        await agent.run(asked())\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except TimeoutError:\n"
        "    print('left')\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], timeout=60, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stdout) == (0, "left\n"), ended.stderr
    assert "Exception" not in ended.stderr


async def test_many_calls_at_once_leave_no_thread_and_no_descriptor(tmp_path):
    agent = agent_of(tmp_path, "def work(request): return request.task.payload")

    async with nothing_left():
        answers = await asyncio.gather(*(agent.run(asked(n)) for n in range(100)))

    assert answers == list(range(100))
    await until(lambda: not any(t.name == "reader:t-1" for t in threading.enumerate()))


async def test_modules_of_the_teams_folder_may_import_each_other(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "prices.py").write_text("price = 7")
    agent = agent_of(
        tmp_path,
        """
        def work(request):
            from package import prices
            return prices.price
        """,
    )

    assert await agent.run(asked()) == 7


def test_a_module_of_the_same_name_in_another_folder_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "other").mkdir()
    agent_of(tmp_path, "def work(request): return 1")

    with pytest.raises(AgentUnusable, match="cannot be loaded beside the one of that name from "):
        agent_of(tmp_path / "other", "def work(request): return 2")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("handlers", "callable is 'handlers'; write it as \"module:function\""),
        ("handlers:", "callable is 'handlers:'"),
        ("hand lers:work", "callable is 'hand lers:work'"),
        (5, "callable is 5; write it as"),
        ("nowhere_at_all:work", "there is no module 'nowhere_at_all', neither in "),
        ("nowhere_at_all.below:work", "there is no module 'nowhere_at_all', neither in "),
        ("handlers:wrok", "; did you mean 'work'?"),
        ("handlers:zzz", ". Define it there, or correct the name."),
        ("handlers:VALUE", "handlers:VALUE is a int, not a function."),
        ("handlers:nothing", "takes (); an agent's function takes a request and"),
        ("handlers:three", "handlers:three takes (a, b, c); an agent's function takes"),
        ("handlers:only_context", "takes (context); an agent's function takes a request"),
        ("handlers:yields", "handlers:yields yields; let it return its answer instead."),
        ("handlers:Silent", "handlers:Silent is a class without __call__."),
        ("handlers:Needs", "the class handlers:Needs cannot be made without arguments: TypeError"),
        ("handlers:hidden", "the type of 'request' in handlers:hidden, 'Missing', cannot be found"),
        ("broken.syntax:work", "cannot be imported: SyntaxError: "),
        ("broken.exits:work", "cannot be imported: SystemExit: 3"),
        ("broken.lacks:work", "cannot be imported: No module named 'not_installed'. Install what"),
    ],
)
def test_a_function_that_could_never_be_called_is_refused_with_the_cure(tmp_path, settings, says):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "syntax.py").write_text("def work(:")
    (tmp_path / "broken" / "exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "broken" / "lacks.py").write_text("import not_installed")
    (tmp_path / "handlers.py").write_text(
        "VALUE = 1\n"
        "def work(request): pass\n"
        "def nothing(): pass\n"
        "def three(a, b, c): pass\n"
        "def only_context(context): pass\n"
        "def yields(request): yield 1\n"
        "def hidden(request: 'Missing'): pass\n"
        "class Silent: pass\n"
        "class Needs:\n"
        "    def __init__(self, model): pass\n"
        "    def __call__(self, request): pass\n"
    )

    with pytest.raises(AgentUnusable) as raised:
        CallableAgent(definition("callable", settings), tmp_path)

    assert raised.value.message.startswith("Agent 'reader': ")
    assert says in raised.value.message


def test_a_request_is_what_python_and_json_agents_see_alike() -> None:
    request: Any = asked({"n": 1}).request

    assert isinstance(request, WorkRequest) and request.task.payload == {"n": 1}
