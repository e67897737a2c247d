"""Arguments and options that several commands share."""

from typing import Annotated

import typer

Board = Annotated[str, typer.Option("--board", "-b", metavar="NAME", help="Which board.")]
AnyBoard = Annotated[
    str | None, typer.Option("--board", "-b", metavar="NAME", help="Only of this board.")
]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="Id of the task.", show_default=False)]
TaskIds = Annotated[
    list[str], typer.Argument(metavar="TASK", help="Ids of tasks.", show_default=False)
]
SomeTaskIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="TASK", help="Ids of tasks.", show_default=False),
]
AgentId = Annotated[
    str, typer.Argument(metavar="AGENT", help="Name of the agent.", show_default=False)
]
AgentName = Annotated[str, typer.Option("--agent", "-a", metavar="NAME", help="The agent.")]
Fence = Annotated[
    int,
    typer.Option("--fence", "-f", metavar="N", help="The claim's fence, as `tasks claim` gave it."),
]
Kind = Annotated[str | None, typer.Option("--kind", "-k", metavar="NAME", help="Only this kind.")]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many.")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever reads it later.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Lease = Annotated[
    str,
    typer.Option(
        "--lease",
        metavar="TIME",
        help="How long the claim is kept without a renewal, as 30s or 10m.",
    ),
]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Stop waiting after this.")
]
Capabilities = Annotated[
    list[str] | None,
    typer.Option(
        "--capability", "-c", metavar="NAME", help="What the agent can do. May be repeated."
    ),
]
Dot = Annotated[bool, typer.Option("--dot", help="In Graphviz's language.")]
NewPayload = Annotated[
    str | None, typer.Option("--payload", metavar="JSON", help="Another payload, for one task.")
]
Title = Annotated[str, typer.Option("--title", metavar="TEXT", help="For people.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log only what goes wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]
TreeLines = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", help="At most so many lines of the tree.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only since then: a time, or a span as 10m."),
]
From = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="From a time, or a span ago, as 10m.")
]
