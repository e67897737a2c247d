"""What a coordinator says when it begins to serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from rich.text import Text

from callboard.cli.render import fields

if TYPE_CHECKING:
    from callboard.cli.output import Output
    from callboard.http.listening import ListenSettings
    from callboard.http.serve import Started


def tell(out: Output, started: Started, listen: ListenSettings) -> None:
    """Say where it listens and on what it stands: a line of JSON, or fields for people."""
    if out.as_json:
        out.item({"event": "started", **msgspec.to_builtins(started)})
        return
    out.say(*lines(started, listen))
    out.flush()


def lines(started: Started, listen: ListenSettings) -> Iterator[str | Text]:
    """The same for people."""
    yield Text(f"Callboard {started.version} serves {started.url}", style="bold")
    page = "" if listen.uds is not None else f"{started.url}/docs"
    yield from fields(
        [
            ("engine", f"{started.software}, {started.engine}"),
            ("namespace", started.namespace or "the default one"),
            ("tasks", _dispatch(started)),
            ("keys", started.keys),
            ("processes", started.workers if started.workers > 1 else None),
            ("docs", page),
        ]
    )
    yield f"Ctrl-C stops it; from elsewhere: kill {started.pid}"


def _dispatch(started: Started) -> str:
    if not started.dispatches:
        return "not handed out by this coordinator"
    by = f", by {started.strategy}" if started.strategy else ""
    return f"handed out to agents without a process of their own{by}"
