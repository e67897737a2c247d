"""The engine that the tests of a process share: started by the first, stopped at the end."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading

from callboard.engine.embedded import EmbeddedEngine

_mutex = threading.Lock()
_shared: tuple[int, EmbeddedEngine] | None = None


async def shared_engine_url() -> str:
    """URL of this process's temporary engine, which is started where it is not running.

    Raises:
        EngineStartFailed: It did not start.
    """
    return await asyncio.to_thread(_url)


def _url() -> str:
    global _shared
    with _mutex:
        # After a fork the parent's engine is the parent's to stop.
        if _shared is None or _shared[0] != os.getpid():
            engine = asyncio.run(EmbeddedEngine.temporary())
            # The public release needs a thread, and at exit no thread can be started any more.
            atexit.register(engine._release)
            _shared = os.getpid(), engine
        return _shared[1].url
