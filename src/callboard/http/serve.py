"""One process that serves: its start, its signals, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn

from callboard.config import EngineChoice
from callboard.engine.probe import EngineFacts
from callboard.exceptions import ConfigError
from callboard.http import errors, systemd
from callboard.http.app import Application, Coordinator, send_reply
from callboard.http.listening import ListenSettings, bind, url_of
from callboard.http.observing import Observed
from callboard.http.route import Receive, Scope, Send
from callboard.http.security import AccessSettings, bound_to, secure
from callboard.http.security.guard import Guard
from callboard.http.security.server import check_proxies, check_tls, server_options
from callboard.http.settings import ServeSettings
from callboard.http.siblings import Siblings
from callboard.http.system import describe
from callboard.services.access import Access

AT_ONCE_SECONDS: Final = 1.0
"""After a second signal, what an orderly end may take before there is none."""

GARBAGE_THRESHOLD: Final = 20_000
"""New objects after which the youngest are looked through."""

_log = logging.getLogger("callboard.serve")


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What a coordinator says once it serves.

    Attributes:
        url: Where callers on this machine find it.
        engine: Its address without a password, and where that was decided.
        keys: Whether callers need an API key, in words.
        workers: Processes on the one port.
    """

    url: str
    pid: int
    version: str
    engine: str
    software: str
    namespace: str
    dispatches: bool
    strategy: str | None
    durability: str
    keys: str = ""
    workers: int = 1


def _spare_the_collector() -> None:
    """Leave what was made so far, which stays, out of every later look for garbage.

    Routes, documents and modules are some 300,000 objects, and requests make no cycles: the
    collector took an eighth of the time that a request costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)


class _Server(uvicorn.Server):
    """Leaves signals to the process that it is part of, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.is_listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Farewell:
    """Answers 503 to a request that is cut off at the end, where it has no answer yet."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        has_begun = False

        def sending(message: dict[str, Any]) -> Awaitable[None]:
            nonlocal has_begun
            has_begun = True
            return send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not has_begun:
                reply = errors.stopping()
                closing = (*reply.headers, (b"connection", b"close"))
                await send_reply(scope, send, msgspec.structs.replace(reply, headers=closing))


class Service:
    """A coordinator and the server before it, from the first socket to the last answer.

    Args:
        on_start: Told once, when requests are answered.
        access: Who may ask, and how much.
        insecure: Open to the network without keys, as the operator wished.
        proxies: Addresses whose ``X-Forwarded-For`` is believed.
        linger: Seconds between a signal and the end of listening, in which ``/ready`` says 503:
            so long a load balancer takes to notice.

    Attributes:
        lifeline: A pipe whose other end a parent holds: where it ends, so does the service.
        meets_in: The folder in which the processes on its port meet, and its name there.
        beats: How often it tells its parent that its loop turns, in seconds, and how.
    """

    def __init__(
        self,
        choice: EngineChoice,
        settings: ServeSettings,
        listen: ListenSettings,
        access: AccessSettings,
        *,
        insecure: bool = False,
        proxies: Iterable[str] = (),
        durable: bool = False,
        adopt: bool = False,
        logs_requests: bool = False,
        linger: float = 0.0,
        on_start: Callable[[Started], None] = lambda _: None,
    ) -> None:
        self.coordinator = Coordinator(choice, settings, durable=durable, adopt=adopt)
        self.lifeline: int | None = None
        self.meets_in: tuple[Path, str] | None = None
        self.beats: tuple[float, Callable[[], None]] | None = None
        self._settings = settings
        self._listen = listen
        self._access = access
        self._is_insecure = insecure
        self._proxies = check_proxies(proxies)
        self._linger = linger
        self._logs_requests = logs_requests
        self._on_start = on_start
        self._server: _Server | None = None
        self._guard: Guard | None = None
        self._main: asyncio.Task[Any] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._signals: list[int] = []

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then end in order.

        Raises:
            ConfigError: The address or the certificate cannot be used.
            CallboardError: As ``connect``: the engine cannot be used. Nothing was served.
        """
        self._main = asyncio.current_task()
        if self._listen.tls is not None:
            check_tls(self._listen.tls)
        taken = bind(self._listen)
        try:
            with self._heeding_signals():
                await self._serve(taken)
        except asyncio.CancelledError:
            if not self._signals:
                raise
        finally:
            taken.close()
            if self._listen.uds is not None:
                with suppress(OSError):
                    self._listen.uds.unlink()

    async def _serve(self, taken: socket.socket) -> None:
        feeding: asyncio.Task[None] | None = None
        try:
            await self.coordinator.start()
            await self._choose_access()
            await self._meet()
            url = url_of(taken, self._listen)
            server = self._server = _Server(self._config())
            _spare_the_collector()
            serving = asyncio.create_task(server.serve([taken]), name="callboard-server")
            listening = asyncio.create_task(server.is_listening.wait())
            await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
            listening.cancel()
            if server.started:
                self._on_start(await self._started(url))
                systemd.notify("READY=1\nSTATUS=Serving " + url)
                feeding = asyncio.create_task(self._say_it_turns(), name="callboard-watchdog")
            try:
                await serving
            except OSError as error:
                raise ConfigError(f"Cannot listen on {url}: {error.strerror}.") from error
        finally:
            if feeding is not None:
                feeding.cancel()
            await self._end()

    async def _say_it_turns(self) -> None:
        """Tell the service manager, or the parent, again and again."""
        if self.beats is None:
            await systemd.feed_watchdog()
            return
        seconds, tell = self.beats
        while True:
            tell()
            await asyncio.sleep(seconds)

    async def _meet(self) -> None:
        """Let the other processes on the port know what passes through this one."""
        if self.meets_in is not None:
            describing = partial(describe, self.coordinator)
            siblings = Siblings(*self.meets_in, self.coordinator.requests, describing)
            self.coordinator.siblings = siblings
            await siblings.start()

    async def _choose_access(self) -> None:
        """Beyond this machine callers need keys: refuse where nobody has one."""
        keys = await (await self._keys()).list()
        self._access = bound_to(
            self._access, self._listen.place, keys, is_insecure=self._is_insecure
        )

    async def _keys(self) -> Access:
        cb = await self.coordinator.board(self._settings.namespace)
        return cb.access

    def _config(self) -> uvicorn.Config:
        application = Application(self.coordinator)
        guard = self._guard = secure(application, self._access, self._keys, application.screen)
        app: Any = Observed(_Farewell(guard), self.coordinator.requests, logs=self._logs_requests)
        options = server_options(self._access, tls=self._listen.tls, proxies=self._proxies)
        options["ws_max_size"] = self._settings.live.frame_bytes
        return uvicorn.Config(
            app,
            loop="none",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=math.ceil(self._settings.drain),
            **options,
        )

    async def _started(self, url: str) -> Started:
        from callboard.version import __version__

        settings = self._settings
        cb = await self.coordinator.board(settings.namespace)
        facts: EngineFacts = cb.facts
        return Started(
            url=url,
            pid=os.getpid(),
            version=__version__,
            engine=str(self.coordinator.choice),
            software=f"{facts.software} {facts.version}",
            namespace=settings.namespace,
            dispatches=settings.dispatches,
            strategy=settings.strategy,
            durability=facts.durability,
            keys=self._keys_in_words(),
        )

    def _keys_in_words(self) -> str:
        if self._access.require_keys:
            return "needed of every caller"
        if self._access.anonymous_anywhere:
            return "NOT needed: whoever reaches this address may do anything"
        return "not needed on this machine"

    async def _end(self) -> None:
        """End loops and connections; the last user of an embedded engine stops it."""
        self.coordinator.is_stopping.set()
        bound = AT_ONCE_SECONDS if len(self._signals) > 1 else self._settings.drain + 5.0
        try:
            async with asyncio.timeout(bound):
                if self._retiring is not None:
                    await self._retiring
                await self.coordinator.stop()
        except TimeoutError:
            _log.warning("The coordinator did not end within %g s.", bound)
        if self.coordinator.siblings is not None:
            self.coordinator.siblings.stop()

    # Signals

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        before = {number: signal.getsignal(number) for number in (*numbers, signal.SIGHUP)}
        for number in numbers:
            loop.add_signal_handler(number, self.leave, int(number))
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self.lifeline is not None:
            loop.add_reader(self.lifeline, self._orphaned)
        try:
            yield
        finally:
            if self.lifeline is not None:
                loop.remove_reader(self.lifeline)
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def leave(self, number: int) -> None:
        """Begin the end: not ready from now on; the second time, end at once."""
        self._signals.append(number)
        if len(self._signals) > 1:
            self._leave_at_once(number)
            return
        _log.info("Stopping: requests under way get %g s to end.", self._settings.drain)
        systemd.notify("STOPPING=1")
        self.coordinator.is_stopping.set()
        if self._server is None or not self._server.started:
            assert self._main is not None
            self._main.cancel()
            return
        self._retiring = asyncio.create_task(self.coordinator.retire(), name="callboard-retire")
        asyncio.get_running_loop().call_later(self._linger, self._stop_listening)

    def _orphaned(self) -> None:
        assert self.lifeline is not None
        asyncio.get_running_loop().remove_reader(self.lifeline)
        _log.error("The process that began this one is gone.")
        self.leave(signal.SIGTERM)

    def _stop_listening(self) -> None:
        assert self._server is not None
        assert self._guard is not None
        self._server.should_exit = True
        self._guard.leave()

    def _leave_at_once(self, number: int) -> None:
        def end() -> None:
            sys.stderr.flush()
            os._exit(128 + number)

        timer = threading.Timer(AT_ONCE_SECONDS, end)
        timer.daemon = True
        timer.start()
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True

    def _reload(self) -> None:
        """Read the certificate anew: new connections get it, those that are open stay."""
        tls, server = self._listen.tls, self._server
        if tls is None or server is None or server.config.ssl is None:
            _log.info("There is no certificate to read anew.")
            return
        try:
            check_tls(tls)
            server.config.ssl.load_cert_chain(tls.certificate, tls.key, tls.key_password or "")
        except ConfigError as error:
            _log.error("The old certificate stays: %s", error.message)
        else:
            _log.info("The certificate was read anew.")


def run(service: Service) -> None:
    """Run a service to its end, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(service.run())
    else:
        uvloop.run(service.run())
