"""A coordinator in this process, on a port of the system's choice, and a client for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import uvicorn

from callboard.config import EngineChoice
from callboard.domain.access import Caller
from callboard.http.app import Application, Coordinator
from callboard.http.route import Receive, Scope, Send
from callboard.http.security import AccessSettings
from callboard.http.security.server import server_options
from callboard.http.settings import ServeSettings


class Served:
    """A coordinator that answers, and where."""

    def __init__(
        self, coordinator: Coordinator, app: Any, port: int, client: httpx2.AsyncClient
    ) -> None:
        self.coordinator = coordinator
        self.application = app
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = client

    async def call(self, verb: str, path: str, body: Any = None, **rest: Any) -> httpx2.Response:
        """Send a request with a JSON body, where there is one."""
        if body is not None:
            rest["content"] = msgspec.json.encode(body)
            rest.setdefault("headers", {})["content-type"] = "application/json"
        return await self.client.request(verb, path, **rest)

    async def ok(self, verb: str, path: str, body: Any = None, **rest: Any) -> Any:
        """The JSON of an answer that must be 200."""
        response = await self.call(verb, path, body, **rest)
        assert response.status_code == 200, response.text
        return response.json()


class Vouched:
    """The application as a caller on this machine sees it, unless a guard says who asks."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.coordinator = app.coordinator

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        anyone = Caller(name="anonymous", role="admin")
        scope.setdefault("state", {}).setdefault("caller", anyone)
        await self.app(scope, receive, send)


class Lifespan:
    """Starts the coordinator before the first request, and stops it after the last."""

    def __init__(self, app: Any, coordinator: Coordinator) -> None:
        self.app = app
        self.coordinator = coordinator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass requests on; heed the server's start and stop."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        await receive()
        try:
            await self.coordinator.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.coordinator.stop()
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def serving(
    url: str, wrap: Any = None, clock: Any = None, **settings: Any
) -> AsyncIterator[Served]:
    """A coordinator on the engine at *url*.

    Args:
        wrap: Makes an ASGI application of another.
        clock: The engine's time, in µs, as ``connect`` takes it.
    """
    settings.setdefault("dispatches", False)
    settings.setdefault("recalls", False)  # those of other tests are on the same engine
    choice = EngineChoice(url, None, "tests")
    coordinator = Coordinator(choice, ServeSettings(**settings), adopt=True, clock=clock)
    app: Any = Vouched(Application(coordinator))
    if wrap is not None:
        app = wrap(app)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        Lifespan(app, coordinator),
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=2,
        **server_options(AccessSettings()),
    )
    port = listener.getsockname()[1]
    client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20)
    async with started(config, listener):
        try:
            async with client:
                yield Served(coordinator, app, port, client)
        finally:
            coordinator.is_stopping.set()


@asynccontextmanager
async def started(config: uvicorn.Config, listener: socket.socket) -> AsyncIterator[uvicorn.Server]:
    """A server that answers, until the end; signals are left to the tests."""
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve([listener]))
    try:
        while not server.started:
            if running.done():
                running.result()
                raise RuntimeError("the server did not start")
            await asyncio.sleep(0.005)
        yield server
    finally:
        server.should_exit = True
        await running
