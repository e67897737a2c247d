"""Live: streams of server-sent events, and sockets for agents."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.http.live import feeds, websocket, work
from callboard.http.route import Route

SSE: Final = "text/event-stream"

_stream = partial(
    Route,
    verb="GET",
    tag="live",
    answers={200: None},
    content_type=SSE,
    is_streaming=True,
)


def routes() -> list[Route]:
    """All streams and sockets."""
    return [
        _stream(
            path="/events",
            handle=feeds.events,
            role="read",
            summary="Stream events as they come, resumable by their ids.",
            description="Server-sent events. Each has the cursor behind it as its id, so that a "
            "reader that comes back with `Last-Event-ID` misses nothing that is kept; what is "
            "missing is told by an event `gap`.",
            query=feeds.EventsQuery,
        ),
        _stream(
            path="/runs/{run}/stream",
            handle=feeds.run,
            role="read",
            summary="Stream what happens in a run until it has ended.",
            description="Server-sent events, from the start of the run or behind a cursor. The "
            "last one is `end`. 204 where nothing more will come.",
            query=feeds.ResumeQuery,
            answers={200: None, 204: None},
        ),
        *[
            _stream(
                path=f"{board}/tasks/{{task_id}}/stream",
                handle=feeds.task,
                role="read",
                summary="Stream a task: how it stands, and what happens to it until it has ended.",
                description="Server-sent events. The first is `task`, with the task as it "
                "stands; so is the last but `end`. 204 where nothing more will come.",
                query=feeds.ResumeQuery,
                answers={200: None, 204: None},
            )
            for board in ("", "/boards/{board}")
        ],
        _stream(
            path="/agents/{agent}/bell",
            handle=feeds.bell,
            role="work",
            summary="Stream the bell of an agent's process: hints that there is something to do.",
            description="Server-sent events `bell`. The data is `board|id,id` of tasks that are "
            "reserved for it, or `cancel`, or a board; empty where bells may have been missed.",
            query=feeds.BellQuery,
        ),
        _stream(
            path="/agents/{agent}/tasks/stream",
            handle=work.work,
            role="work",
            summary="Stream work to an agent, never more unfinished tasks than it has asked for.",
            description="Server-sent events `task`: complete each by `POST "
            "/tasks/{task_id}/complete` with its fence, which makes room for the next; and "
            "`cancel`, where somebody asks that a task be cancelled. If the stream breaks, what "
            "the agent did not begin goes to others, unless it comes back within seconds.",
            query=work.WorkQuery,
        ),
        Route(
            verb="WEBSOCKET",
            path="/ws",
            handle=websocket.socket,
            role="read",
            summary="One socket for an agent: registration, work, messages, events.",
            tag="live",
            is_streaming=True,
        ),
    ]
