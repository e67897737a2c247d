"""Whether the agents of a team can be made here: asked before anything is begun."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from callboard.domain.team import AgentDefinition
from callboard.exceptions import AgentUnusable
from callboard.teams.agents import close_agent, make_agent


async def unusable_agents(
    definitions: Iterable[AgentDefinition], folder: Path
) -> list[AgentUnusable]:
    """Make each agent and give it back; answers what is wrong with those that cannot be made.

    Args:
        folder: Where modules, programs and relative paths are looked for.
    """
    problems: list[AgentUnusable] = []
    for definition in definitions:
        try:
            agent = make_agent(definition, folder)
        except AgentUnusable as error:
            problems.append(error)
        else:
            await close_agent(agent)
    return problems


async def check_agents(definitions: Iterable[AgentDefinition], folder: Path) -> None:
    """Raise AgentUnusable, with all that is wrong, unless every agent can be made here."""
    problems = await unusable_agents(definitions, folder)
    if problems:
        message = " ".join(problem.message for problem in problems)
        raise AgentUnusable(message, agents=[p.details.get("agent") for p in problems])


def lines_of_agents(path: Path) -> dict[str, int]:
    """The line of each definition in a team's file, which was read without a fault before."""
    import yaml  # Takes some 20 ms.

    root = yaml.compose(path.read_text("utf-8-sig"), Loader=yaml.SafeLoader)
    for key, value in root.value if root is not None else ():
        if key.value == "agents":
            return {str(name.value): name.start_mark.line + 1 for name, _ in value.value}
    return {}
