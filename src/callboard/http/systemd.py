"""What the system's service manager is told: ready, stopping, still alive."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress


def notify(text: str, environ: Mapping[str, str] | None = None) -> bool:
    """Tell the service manager *text*, as ``READY=1``; answers whether there is one."""
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.sendall(text.encode())
        return True
    return False


def watchdog_seconds(environ: Mapping[str, str] | None = None) -> float | None:
    """How often the service manager wants to hear from this process; None if not at all."""
    env = os.environ if environ is None else environ
    if env.get("WATCHDOG_PID") not in (None, "", str(os.getpid())):
        return None
    micros = env.get("WATCHDOG_USEC", "")
    return int(micros) / 1e6 if micros.isdecimal() and int(micros) else None


async def feed_watchdog() -> None:
    """Say that the loop turns, twice within the time that the service manager gives."""
    seconds = watchdog_seconds()
    if seconds is None:
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)
