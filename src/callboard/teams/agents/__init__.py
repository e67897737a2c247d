"""Agents of a team: whoever is asked to plan, to work or to write the answer.

Four kinds are built in: a Python function, a command, an HTTP endpoint, and any worker of
another board. A package adds its own through an entry point of the group
``callboard.agents``, whose name is the kind's and whose value is a ``Kind``, or a factory
of a kind without options.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from callboard.domain.team import BUILT_IN_KINDS
from callboard.engine.offered import CannotLoad, load, offered
from callboard.exceptions import AgentUnusable

if TYPE_CHECKING:
    from callboard.app import BoardTasks
    from callboard.domain.team import AgentDefinition
    from callboard.sdk.context import TaskContext
    from callboard.teams.requests import Request

ENTRY_POINTS: Final = "callboard.agents"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What an agent is asked, and the task that asks it.

    Attributes:
        request: What to do; what agents outside of Python receive as JSON.
        context: The task in this process: cancellation, progress, notes, its fence.
        tasks_of: Gives the tasks of another board of the same namespace, by its name; None
            where there is no other board to reach.
    """

    request: Request
    context: TaskContext
    tasks_of: Callable[[str], BoardTasks] | None = None


@runtime_checkable
class Agent(Protocol):
    """Answers one request at a time; several may be under way at once.

    An agent that holds connections or the like has an ``aclose`` besides: see ``close_agent``.
    """

    async def run(self, invocation: Invocation) -> Any:
        """Answer with any JSON value.

        Whatever is raised is a failed attempt: ``Fatal`` where no retry can help, ``Retry``
        to say how long to wait. A cancellation is let through once nothing runs any more.
        """
        ...


Factory = Callable[["AgentDefinition", Path], Agent]
"""Makes an agent; modules, programs and relative paths are looked for in the given folder.

It raises ``AgentUnusable``, with the cure, where the definition can never work.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of agent.

    Attributes:
        factory: Makes an agent of a definition.
        options: Keys that a definition of this kind may have besides those of all kinds.
    """

    factory: Factory
    options: frozenset[str] = frozenset()


def _built_in(module: str, factory: str) -> Factory:
    def make(definition: AgentDefinition, folder: Path) -> Agent:
        # Each kind's module is loaded with its first agent: an HTTP client takes a while.
        found: Factory = getattr(import_module(f"{__name__}.{module}"), factory)
        return found(definition, folder)

    return make


BUILT_IN: Final = {
    name: Kind(_built_in(name, factory), BUILT_IN_KINDS[name])
    for name, factory in (
        ("callable", "CallableAgent"),
        ("command", "CommandAgent"),
        ("endpoint", "EndpointAgent"),
        ("elsewhere", "ElsewhereAgent"),
    )
}


def kinds() -> dict[str, Kind]:
    """All kinds by name: the built-in ones, and those that installed packages add.

    A package that cannot be loaded takes no other kind away: agents of its kind are refused.
    """
    offers = offered(ENTRY_POINTS, BUILT_IN)
    return {**BUILT_IN, **{name: _kind_of(point) for name, point in offers.items()}}


def make_agent(definition: AgentDefinition, folder: Path) -> Agent:
    """Make the agent that a definition describes.

    Raises:
        AgentUnusable: There is no such kind, or no such function, program or address.
    """
    kind = BUILT_IN.get(definition.kind)
    if kind is None:
        known = kinds()
        kind = known.get(definition.kind)
        if kind is None:
            raise unusable(
                definition,
                f"there is no kind {definition.kind!r}{nearest(definition.kind, known) or '.'} "
                f"Use one of {', '.join(sorted(known))}, or install the package that has it.",
            )
    try:
        agent = kind.factory(definition, folder)
    except AgentUnusable:
        raise
    except Exception as error:  # A package's own factory may raise anything.
        raise unusable(
            definition, f"making it failed with {type(error).__name__}: {error}"
        ) from error
    if not _can_be_called(getattr(agent, "run", None)):
        raise unusable(
            definition,
            f"the kind {definition.kind!r} gave a {type(agent).__name__} without the method run; "
            "tell the package's author.",
        )
    return agent


async def close_agent(agent: Agent) -> None:
    """Give back what an agent holds, if it holds anything."""
    close = getattr(agent, "aclose", None)
    if close is not None:
        await close()


def unusable(definition: AgentDefinition, reason: str) -> AgentUnusable:
    """The refusal of a definition, for factories to raise."""
    return AgentUnusable(f"Agent {definition.name!r}: {reason}", agent=definition.name)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` for a word that is close to a known one, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _kind_of(point: EntryPoint) -> Kind:
    """What an entry point stands for; a broken one is a kind that refuses each agent."""
    try:
        return load(point, _checked_kind)
    except CannotLoad as error:
        return Kind(_refusing(f"its kind {error}. Mend or remove it."))


def _checked_kind(_: str, found: Any) -> Kind:
    if isinstance(found, Kind):
        return found
    if _can_be_called(found):
        return Kind(found)
    raise TypeError(
        f"it is a {type(found).__name__}; it must be a Kind or a function that makes an agent"
    )


def _can_be_called(value: object) -> bool:
    # Once loaded, the module `callable` of this package hides the function of that name here.
    return isinstance(value, Callable)  # type: ignore[arg-type]


def _refusing(reason: str) -> Factory:
    def refuse(definition: AgentDefinition, folder: Path) -> Agent:
        raise unusable(definition, reason)

    return refuse
