"""Work for an agent as a stream: it reads tasks, and completes them by requests."""

from __future__ import annotations

from typing import Final

import msgspec

from callboard.domain import task as tasks
from callboard.domain.bounds import check_whole
from callboard.domain.names import check_name
from callboard.http.live.dispenser import Dispenser
from callboard.http.live.feeds import check_agent, hub_of, query_of
from callboard.http.live.frames import block, encode
from callboard.http.live.stream import Stream
from callboard.http.route import Call, Reply
from callboard.operations.tasks import ClaimedTask

LEASE: Final = 60.0


class WorkQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much, and for how long.

    Attributes:
        board: Whose tasks.
        limit: Tasks that may be sent and unfinished, 1 to 1,000.
        lease: Seconds of each claim, 0.1 to 3,600.
        renew: Leases are renewed for as long as the stream is open.
        instance: The process of the agent that reads this; none for an agent that runs none.
        resume: Send first what the agent holds already. ``Last-Event-ID`` says so too.
    """

    board: str = "default"
    limit: int = 1
    lease: float = LEASE
    renew: bool = False
    instance: str = ""
    resume: bool = False


async def work(call: Call) -> Reply | None:
    """Stream tasks to an agent, never more unfinished ones than it has asked for."""
    agent = check_agent(call, call.path["agent"])
    query: WorkQuery = query_of(call, WorkQuery)
    check_name("board", query.board)
    tasks.check_seconds("lease", query.lease, tasks.LEASE_MIN, tasks.LEASE_MAX)
    if query.instance:
        check_name("instance", query.instance)
    cb, hub = await call.board(), await hub_of(call)
    check_whole("limit", query.limit, 1, hub.settings.outstanding_max)
    await cb.agents.get(agent)
    resumes = query.resume or call.header(b"last-event-id") is not None
    stream = Stream(hub.outlets, call.scope, call.receive, call.send)

    async def deliver(task: ClaimedTask) -> None:
        await stream.write(block("task", encode(task), str(task.fence)))

    async def cancel(task_id: str, fence: int) -> None:
        await stream.tell("cancel", {"id": task_id, "fence": fence})

    dispenser = Dispenser(
        cb,
        hub,
        board=query.board,
        agent=agent,
        instance=query.instance,
        limit=query.limit,
        lease=query.lease,
        keeps=query.renew,
        returns=True,
        deliver=deliver,
        cancel=cancel,
    )

    async def feed(_: Stream) -> None:
        await dispenser.run(resumes=resumes)

    return await stream.run(feed, retry=hub.settings.retry)
