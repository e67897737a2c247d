"""A real Valkey beside the program: started by its first user, stopped by its last.

The state is in the files of the data directory and in the kernel's locks on
them (``embedded_files``), never in a process: any user may be killed at any
moment, and the next one finds what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote

from callboard.engine.embedded_files import (
    DataDir,
    FileLock,
    explained,
    find_data_dir,
    open_data_dir,
)
from callboard.engine.embedded_life import (
    STOP_TIMEOUT,
    StartLock,
    bring_down,
    bring_up,
    is_alive,
    is_locked,
    lock_not_obtained,
)
from callboard.engine.embedded_process import (
    ask,
    ensure_durability,
    flush_policy,
    read_conf,
    read_pid,
    terminate,
)
from callboard.exceptions import EngineError, EngineStartFailed, Refused

# Reading a log back takes about a second a gigabyte.
START_TIMEOUT = 60.0

# How long a look at the engine waits for somebody who starts or stops it.
_STATUS_WAIT = 1.0

T = TypeVar("T", bound="EmbeddedEngine")


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What can be said of the engine of one data directory without starting it.

    Attributes:
        state: ``stopped``, ``ready``, ``loading``, ``busy`` or ``unreachable``.
        url: Its address, also while it is stopped; None before its first start.
        users: The process ids holding it, one for each user; None where the
            system does not tell (other than Linux). Users in other containers
            are listed as 0.
        in_use: Whether anybody holds it.
        durable: Whether each write is on the disk before it is answered.
    """

    data_dir: Path
    state: str
    url: str | None = None
    pid: int | None = None
    users: tuple[int, ...] | None = None
    in_use: bool = False
    durable: bool = False
    version: str | None = None
    uptime_s: int | None = None
    memory_bytes: int | None = None

    @property
    def is_running(self) -> bool:
        """True if the engine's process lives, whether it answers or not."""
        return self.state != "stopped"


class EmbeddedEngine:
    """One use of a data directory's engine; the engine runs at least until `release`.

    Made by `acquire` or `temporary`, also as ``async with await EmbeddedEngine.acquire(d)``.
    Several uses of one directory share one engine, within a process and between
    processes. A use does not carry over to a forked child: it acquires its own.
    """

    def __init__(
        self, files: DataDir, users: FileLock, address: Path, pid: int, *, durable: bool
    ) -> None:
        self._files = files
        self._users = users
        self._address = address
        self._pid = pid
        self._durable = durable
        self._owner = os.getpid()
        self._mutex = threading.Lock()
        self._released = False

    @classmethod
    async def acquire(
        cls,
        data_dir: str | os.PathLike[str],
        durable: bool = False,
        *,
        start_timeout: float = START_TIMEOUT,
    ) -> Self:
        """Find the data directory's engine, or start it, and keep it running until release.

        With *durable* each write is on the disk before it is answered; an engine
        that flushes once a second is switched over, and the directory stays
        durable for all later users. If this is cancelled, what it had got is
        given back.

        Raises:
            ConfigError: The folder cannot be a data directory.
            EngineStartFailed: The engine did not start, or was not ready within
                *start_timeout* seconds.
        """
        return await _acquired(
            lambda: cls._acquire(open_data_dir(data_dir), durable, start_timeout)
        )

    @classmethod
    async def temporary(cls, durable: bool = False) -> Self:
        """Start an engine in a new folder, which is removed with all in it by the last release."""
        return await _acquired(lambda: cls._acquire_temporary(durable))

    @property
    def url(self) -> str:
        """The engine's address: ``unix://`` and the path of its socket.

        `ensure_running` keeps it, unless the socket lay in a runtime directory
        that is gone.
        """
        return _url(self._address)

    @property
    def pid(self) -> int:
        """The engine's process id, as of the last `acquire` or `ensure_running`."""
        return self._pid

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute and without links."""
        return self._files.path

    async def ensure_running(self, *, start_timeout: float = START_TIMEOUT) -> bool:
        """Start the engine again if it died; return whether it had to be started.

        Any user may call this at any time; all who call meet the same new
        engine, on the same socket, with all writes that were answered.

        Raises:
            EngineError: This use was released, or belongs to another process.
            EngineStartFailed: The engine did not start, or its data directory is gone.
        """
        return await asyncio.to_thread(self._ensure_running, start_timeout)

    async def release(self) -> None:
        """End this use; the last user of the data directory stops the engine.

        Further calls do nothing, and neither does one in a forked child. If
        this is cancelled, it goes on in its thread.

        Raises:
            EngineError: The engine did not end within 30 seconds of SIGTERM. It
                is not killed: that is for a person to decide.
        """
        await asyncio.to_thread(self._release)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.release()

    @classmethod
    def _acquire(cls, files: DataDir, durable: bool, start_timeout: float) -> Self:
        with StartLock(files, start_timeout):
            with explained(files.path):
                users = FileLock.hold(files.users_lock, shared=True, timeout=start_timeout)
            if users is None:
                raise lock_not_obtained(files, files.users_lock, start_timeout)
            try:
                address, pid, _ = _bring_up_checked(files, durable, start_timeout)
            except BaseException:
                users.release()
                raise
            return cls(files, users, address, pid, durable=durable)

    @classmethod
    def _acquire_temporary(cls, durable: bool) -> Self:
        folder = tempfile.mkdtemp(prefix="callboard-")
        try:
            return cls._acquire(open_data_dir(folder, temporary=True), durable, START_TIMEOUT)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _ensure_running(self, start_timeout: float) -> bool:
        self._refuse_foreign_use()
        if ask(self._address).state == "ready":
            return False
        self._refuse_lost_directory()
        with StartLock(self._files, start_timeout):
            self._refuse_foreign_use()
            self._refuse_lost_directory()
            found = _bring_up_checked(self._files, self._durable, start_timeout)
            self._address, self._pid, started = found
            return started

    def _refuse_foreign_use(self) -> None:
        if self._owner != os.getpid():
            raise EngineError("This engine was acquired before a fork. Acquire one in the child.")
        if self._released:
            raise EngineError("This use of the embedded engine was released. Acquire a new one.")

    def _refuse_lost_directory(self) -> None:
        if not self._users.is_current():
            raise EngineStartFailed(
                f"The data directory {self.data_dir} was removed or replaced while it was in "
                "use. Restart this program.",
                data_dir=str(self.data_dir),
            )

    def _release(self) -> None:
        with self._mutex:
            if self._released or self._owner != os.getpid():
                return
            self._released = True
        try:
            if self._users.is_current():
                self._leave()
            elif self._users.try_lock():
                # The directory is gone, and nobody can come to this engine any more.
                terminate(self._files, self._address)
        finally:
            self._users.release()

    def _leave(self) -> None:
        try:
            start = StartLock(self._files, STOP_TIMEOUT)
        except EngineStartFailed:
            return  # Whoever is so long at it finds the engine, and stops it when done.
        with start:
            if not self._users.try_lock():
                return
            bring_down(self._files)
            if self._files.is_temporary:
                shutil.rmtree(self._files.path, ignore_errors=True)


def engine_status(data_dir: str | os.PathLike[str]) -> EngineStatus:
    """Say how the engine of this data directory is, without starting or changing anything.

    Blocks for up to a second while somebody starts or stops the engine, and two
    if it hangs.

    Raises:
        ConfigError: The folder holds somebody else's files.
    """
    files = find_data_dir(data_dir)
    if files is None or not files.engine_lock.exists():
        return EngineStatus(Path(os.path.realpath(data_dir)), "stopped")
    address, durable = read_conf(files)
    lives, in_use = _look(files)
    status = EngineStatus(
        files.path, "stopped", _url(address), None, _users_of(files), in_use, durable
    )
    return _with_answer(status, files, address) if lives else status


def stop_engine(data_dir: str | os.PathLike[str], force: bool = False) -> bool:
    """Stop the engine of this data directory; return whether one was running.

    With *force* also while it is in use: its users then lose their connections,
    and each may start it again with `EmbeddedEngine.ensure_running`.

    Raises:
        Refused: It is in use, and *force* was not given.
        EngineError: It did not end within 30 seconds.
        ConfigError: The folder holds somebody else's files.
    """
    files = find_data_dir(data_dir)
    if files is None or not files.engine_lock.exists():
        return False
    with StartLock(files, STOP_TIMEOUT):
        users = FileLock(files.users_lock)
        try:
            if not users.try_lock() and not force:
                pids = _users_of(files) or ()
                names = f" (process {', '.join(map(str, pids))})" if pids else ""
                raise Refused(
                    f"The embedded engine in {files.path} is in use{names}. "
                    "Stop its users first, or force it.",
                    data_dir=str(files.path),
                    users=list(pids),
                )
            return bring_down(files)
        finally:
            users.release()


def _bring_up_checked(files: DataDir, durable: bool, timeout: float) -> tuple[Path, int, bool]:
    address, answer, started = bring_up(files, durable, timeout)
    ensure_durability(files, address, durable=durable)
    return address, answer.pid or 0, started


async def _acquired(start: Callable[[], T]) -> T:
    """Run *start* in a thread; if this is cancelled, release what it returns."""
    cancelled = threading.Event()
    got: list[T] = []

    def run() -> T:
        engine = start()
        got.append(engine)
        # Set before *got* is looked at, appended before this looks: one of both sees the other.
        if cancelled.is_set():
            _release_quietly(engine)
        return engine

    try:
        return await asyncio.to_thread(run)
    except asyncio.CancelledError:
        cancelled.set()
        for engine in got:
            await asyncio.to_thread(_release_quietly, engine)
        raise


def _release_quietly(engine: EmbeddedEngine) -> None:
    with contextlib.suppress(EngineError):
        engine._release()


def _look(files: DataDir) -> tuple[bool, bool]:
    """Whether the engine lives and is in use; both are true while it is started or stopped."""
    with explained(files.path):
        start = FileLock.hold(files.start_lock, timeout=_STATUS_WAIT)
        if start is None:
            return True, True
        try:
            return is_alive(files), is_locked(files.users_lock)
        finally:
            start.release()


def _with_answer(status: EngineStatus, files: DataDir, address: Path) -> EngineStatus:
    answer, durable = ask(address), status.durable
    with contextlib.suppress(EngineError):
        durable = answer.state == "ready" and flush_policy(files, address) == "always"
    return replace(
        status,
        state=answer.state,
        pid=answer.pid or read_pid(files),
        durable=durable,
        version=answer.facts.get("valkey_version") or answer.facts.get("redis_version"),
        uptime_s=answer.facts.get("uptime_in_seconds"),
        memory_bytes=answer.facts.get("used_memory"),
    )


def _users_of(files: DataDir) -> tuple[int, ...] | None:
    try:
        inode = files.users_lock.stat().st_ino
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return None
    # 12: FLOCK  ADVISORY  READ 4711 fd:01:393226 0 EOF
    pattern = re.compile(rf"\d+: FLOCK +ADVISORY +READ +(\d+) [0-9a-f]+:[0-9a-f]+:{inode} ")
    return tuple(sorted(int(found[1]) for line in lines if (found := pattern.match(line))))


def _url(address: Path) -> str:
    return "unix://" + quote(os.fsencode(address))
