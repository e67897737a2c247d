"""One of several processes that save teams and begin runs of them at the same moment."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import callboard
from callboard.domain.task import TaskSpec
from callboard.services.runs import RunRecords
from callboard.services.teams import Teams


async def save(cb: callboard.Callboard, names: list[str], document: dict[str, Any]) -> list[Any]:
    """Save the document under each name, all at once; the versions, and who made them."""
    teams = Teams(cb.namespace)
    added = await asyncio.gather(*(teams.add(name, document) for name in names))
    return [[team.name, team.version, team.is_new] for team in added]


async def begin(cb: callboard.Callboard, runs: list[str]) -> list[Any]:
    """Begin a run under each id, all at once; the ids that this process began."""
    records = RunRecords(cb.namespace)
    begun = await asyncio.gather(
        *(
            records.create(
                run,
                team="t",
                version=1,
                request="go",
                variables={},
                document={},
                timeout_seconds=60,
                keep_seconds=60,
                concurrency=None,
                claims_most=None,
                lead_spec=TaskSpec(kind="run.t", id=run),
            )
            for run in runs
        )
    )
    return [run.id for run, existed in begun if not existed]


ACTS: dict[str, Callable[..., Awaitable[list[Any]]]] = {"save": save, "begin": begin}


async def main() -> None:
    arguments = json.loads(sys.argv[1])
    async with callboard.connect(arguments["url"], namespace=arguments["namespace"]) as cb:
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            message = json.loads(line)
            answer = await ACTS[message.pop("do")](cb, **message)
            print(json.dumps(answer), flush=True)


asyncio.run(main())
