"""A station: a standing host, which takes the runs of its teams as they come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from callboard.app import Callboard
from callboard.domain.run import LEAD_BOARD, Run, lead_kind
from callboard.domain.task import LEASE_DEFAULT, Status
from callboard.exceptions import CallboardError, EngineError
from callboard.teams.host import Host, check_can_host

POLL_SECONDS: Final = 2.0
"""How often it looks by itself: what wakes it, an event, is only a hint."""

NEWS: Final = ("run:created", "run:reopened", "run:phase")

FREE: Final = (Status.PENDING, Status.ASSIGNED, Status.SCHEDULED)
"""Where the leading task of a run stands that nobody leads."""

log = logging.getLogger("callboard.teams")


class Station:
    """Hosts every live run of some teams that nobody leads, several at once, until stopped.

    Any number of stations may serve the same teams. Where two take a run at the same moment,
    one of them leads it and both do its tasks.

    Args:
        teams: Their names.
        folder: Where the modules, commands and relative paths of their agents are looked up.
        most: Runs at once.
        lease: Seconds without a sign of life after which others take a run over.
        environ: For placeholders in the teams' documents; this process's where not given.
    """

    def __init__(
        self,
        cb: Callboard,
        teams: Iterable[str],
        *,
        folder: Path | None = None,
        most: int = 4,
        lease: float = LEASE_DEFAULT,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._cb = cb
        self._teams = tuple(teams)
        self._folder = folder
        self._most = most
        self._lease = lease
        self._environ = environ
        self._hosts: dict[str, tuple[Host, asyncio.Task[None]]] = {}
        self._refused: set[tuple[str, int]] = set()
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs that it hosts now."""
        return tuple(self._hosts)

    async def serve(self) -> None:
        """Take runs until ``stop``, then leave those that have not ended to others.

        Raises:
            ConfigError: The connection is to a coordinator.
            EngineUnavailable: The connection was closed by whoever made it.
        """
        check_can_host(self._cb)
        # Nobody else may be there to act on the lost lease of a run's leader.
        janitor = self._cb.janitor()
        janitor.start()
        hearing = asyncio.create_task(self._hear(), name="callboard-station-news")
        try:
            while not self._stopping.is_set():
                self._news.clear()
                try:
                    await self._take()
                except EngineError as error:
                    if self._is_cut_off:
                        raise
                    log.info("The engine did not answer; looking for runs again: %s", error)
                await self._pause()
        finally:
            hearing.cancel()
            for host, _ in self._hosts.values():
                host.leave()
            tasks = [task for _, task in self._hosts.values()]
            await asyncio.gather(hearing, *tasks, return_exceptions=True)
            await janitor.stop()

    def stop(self) -> None:
        """Take nothing more, and give back at once what is not finished here."""
        self._stopping.set()
        self._news.set()

    @property
    def _is_cut_off(self) -> bool:
        """The connection was closed here, so that nothing will ever be answered again."""
        return self._cb.namespace.bells.is_closed

    async def _pause(self) -> None:
        """Wait for news, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._news.wait()

    async def _wait_a_while(self) -> None:
        """Keep a run that met an engine in trouble from being taken again at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._stopping.wait()

    async def _hear(self) -> None:
        while True:
            try:
                async for _ in self._cb.events.follow(types=NEWS):
                    self._news.set()
            except CallboardError as error:
                if self._is_cut_off:
                    self._news.set()  # Whoever looks for runs finds it out, and says so.
                    return
                log.info("No news of runs for now: %s", error)
                await asyncio.sleep(POLL_SECONDS)

    async def _take(self) -> None:
        """Host what nobody leads, as far as there is room."""
        if len(self._hosts) >= self._most:
            return
        for run in await self._free():
            if len(self._hosts) >= self._most or self._stopping.is_set():
                return
            self._host(run)

    async def _free(self) -> list[Run]:
        """The runs of these teams whose leading task nobody holds, the oldest first."""
        leads = self._cb.board(LEAD_BOARD).tasks
        found = [
            lead
            for team in self._teams
            async for lead in leads.iterate(status=FREE, kind=lead_kind(team))
        ]
        found.sort(key=lambda lead: lead.created_at)
        runs: list[Run] = []
        # The summary says only the id; which run that leads stands in the payload.
        for task in await leads.get_many([lead.id for lead in found]) if found else ():
            said: dict[str, Any] = task.payload_as(dict) if task is not None else {}
            key = (str(said.get("run", "")), int(said.get("generation", 0)))
            if not key[0] or key[0] in self._hosts or key in self._refused:
                continue
            with contextlib.suppress(LookupError):
                run = await self._cb.runs.get(key[0])
                if not run.phase.is_ended:
                    runs.append(run)
        return runs

    def _host(self, run: Run) -> None:
        host = Host(self._cb, run, folder=self._folder, lease=self._lease, environ=self._environ)
        log.info("Hosting run %s of team %s.", run.id, run.team)
        task = asyncio.create_task(self._serve(run, host), name=f"callboard-host-{run.id}")
        self._hosts[run.id] = (host, task)

    async def _serve(self, run: Run, host: Host) -> None:
        try:
            ended = await host.serve()
            log.info("Run %s: %s.", run.id, ended.phase.value)
        except EngineError as error:
            log.warning("Run %s is let go of for now: %s", run.id, error)
            await self._wait_a_while()
        except CallboardError as error:
            # It cannot be done here, and would be no different the next time.
            self._refused.add((run.id, run.generation))
            log.error("Run %s cannot be hosted here: %s", run.id, error)
        except Exception:
            self._refused.add((run.id, run.generation))
            log.exception("Run %s is let go of.", run.id)
        finally:
            self._hosts.pop(run.id, None)
            self._news.set()
