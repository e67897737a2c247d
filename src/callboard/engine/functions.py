"""Calls the functions of the library, by name and on one namespace.

A call that finds its function missing (a restart without persistence, a failover, a flush)
loads the library and repeats, as *function not found* means *not run*.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError, OutOfMemoryError, ResponseError

from callboard import exceptions
from callboard.engine.library import PREFIX, library
from callboard.engine.outcomes import unread

if TYPE_CHECKING:
    from callboard.engine.connection import Connection

UNUSED_MS = 7 * 86_400_000


class Functions:
    """Calls operations by name on one namespace, loading the library where it is missing.

    Args:
        connection: The way to the engine.
        format_key: The namespace's routing key.
        clock: Where tests move time: returns the *now* to pass, in µs; None for the engine's own.

    Attributes:
        reopen: Awaited where the namespace is gone from the engine (flushed), before the call
            is repeated; what was lost with it is not brought back.
    """

    def __init__(
        self,
        connection: Connection,
        format_key: str,
        clock: Callable[[], int | None] | None = None,
    ) -> None:
        self.reopen: Callable[[], Awaitable[None]] | None = None
        self._connection = connection
        self._format_key = format_key.encode()
        self._clock = clock
        self._library = library()
        self._names = {name: full.encode() for name, full in self._library.function_names.items()}

    async def load(self, call: Callable[..., Awaitable[Any]] | None = None) -> None:
        """Load the library unless the engine has it; *call* is of a link still being opened."""
        try:
            await (call or self._connection.call)("FUNCTION", "LOAD", self._library.text)
        except ResponseError as error:
            if "already exists" not in str(error):
                raise

    async def tidy(self) -> list[str]:
        """Delete libraries of other releases that nobody used here for seven days; name them."""
        try:
            listed = await self._connection.call("FUNCTION", "LIST", "LIBRARYNAME", f"{PREFIX}*")
        except ResponseError:
            return []  # an operator may forbid it, and looks after the libraries then
        names = [name.decode() for name in _library_names(listed)]
        reply = await self.call("namespace_libraries", self._library.name, UNUSED_MS, *names)
        unused = [name.decode() for name in reply[1:]]
        for name in unused:
            try:
                await self._connection.call("FUNCTION", "DELETE", name)
            except ResponseError:
                continue  # another janitor was quicker
        return unused

    async def call_on(
        self, call: Callable[..., Awaitable[Any]], name: str, *arguments: Any
    ) -> list[Any]:
        """Run one operation through *call*, a link still being opened."""
        command = ("FCALL", self._names[name], 1, self._format_key, b"", *arguments)
        try:
            reply: list[Any] = await call(*command)
        except ResponseError as error:
            if "unction not found" not in str(error):
                raise
            await self.load(call)
            reply = await call(*command)
        return reply

    async def call(self, name: str, *arguments: Any, timeout: float | None = None) -> list[Any]:
        """Run one operation and return its reply, the status first, as bytes.

        Where the outcome is unknown, an operation whose header says ``REPEAT`` is run once
        more: ids, fences or the state itself make it have its effect once.

        Raises:
            EngineFull: The engine is at its memory limit and the operation would add work.
            EngineUnavailable: Certainly not run, or it only reads.
            OutcomeUnknown: Sent, and the reply was lost.
        """
        now = self._clock() if self._clock else None
        command = (
            b"FCALL",
            self._names[name],
            1,
            self._format_key,
            b"" if now is None else now,
            *arguments,
        )
        try:
            try:
                reply: list[Any] = await self._run(command, timeout)
            except exceptions.OutcomeUnknown:
                if not self._library.headers[name].is_repeatable:
                    raise
                reply = await self._again(name, command, timeout)
            if reply[0] == b"no_namespace" and self.reopen is not None:
                await self.reopen()
                reply = await self._run(command, timeout)
        except ResponseError as error:
            raise translated(name, error) from error
        return reply

    async def _again(self, name: str, command: Iterable[Any], timeout: float | None) -> Any:
        """Repeat a call whose reply was lost; where that is lost too, say what it may have done."""
        try:
            return await self._run(command, timeout)
        except exceptions.OutcomeUnknown as error:
            if self._library.headers[name].writes:
                raise
            engine, reason = (str(error.details.get(part, "")) for part in ("engine", "reason"))
            raise unread(f"Operation {name}", engine, reason) from error

    async def _run(self, command: Iterable[Any], timeout: float | None) -> Any:
        try:
            return await self._connection.call(*command, timeout=timeout)
        except ResponseError as error:
            if "unction not found" not in str(error):
                raise
        await self.load()
        return await self._connection.call(*command, timeout=timeout)


def _library_names(listed: Iterable[Any]) -> Iterator[bytes]:
    """The names in a reply of FUNCTION LIST, in either protocol's shape."""
    for entry in listed:
        fields = (
            entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
        )
        yield fields[b"library_name"]


def translated(name: str, error: ResponseError) -> exceptions.EngineError:
    """The engine's error reply to an operation, with the cure."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM" in text or "used memory > 'maxmemory'" in text:
        return exceptions.EngineFull(
            "The engine is at its maxmemory limit, so new work is refused; finishing, failing, "
            "releasing and purging still work. Raise maxmemory or purge finished tasks."
        )
    if "WRONGTYPE" in text:
        return exceptions.EngineError(
            f"Operation {name} found a key of the wrong type: something else writes to this "
            "database under Callboard's names. Use another database or a namespace of its own."
        )
    if isinstance(error, NoPermissionError) or "ACL failure" in text:
        return exceptions.EngineUnsuitable(
            f"The engine's user may not do what operation {name} takes: {text}. Its rights are "
            "given by ACL SETUSER on the engine; docs/how-to/deploy.md lists those it needs."
        )
    if text.startswith(("NOREPLICAS", "MISCONF")):
        return exceptions.EngineUnavailable(
            f"The engine takes no writes just now, and operation {name} was not run: {text}"
        )
    return exceptions.EngineError(f"Operation {name} failed on the engine: {text}")
