"""Bringing the embedded engine up and down, one process at a time.

Whether the engine lives is read from ``engine.lock``, which it holds from its
first moment to its last: no process id, pid file or socket can say that for sure.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path

from callboard.engine.embedded_files import (
    DataDir,
    FileLock,
    choose_socket,
    explained,
    refuse_full_disk,
)
from callboard.engine.embedded_process import (
    Answer,
    ask,
    read_conf,
    read_pid,
    spawn,
    start_failed,
    terminate,
    write_conf,
)
from callboard.exceptions import EngineError, EngineStartFailed

# A stop flushes the log; a disk that takes longer than this for it needs a person.
STOP_TIMEOUT = 30.0

# An engine that lives opens its socket within milliseconds. One that has none after this
# long lost it (a cleaned-up runtime directory), and only a new start gives it one again.
_LOST_SOCKET_AFTER = 3.0

_POLL = 0.01


class StartLock:
    """``start.lock``, held from creation to the end of the block.

    Raises:
        EngineStartFailed: Another process held it for all of *timeout* seconds.
    """

    def __init__(self, files: DataDir, timeout: float) -> None:
        with explained(files.path):
            lock = FileLock.hold(files.start_lock, timeout=timeout)
        if lock is None:
            raise lock_not_obtained(files, files.start_lock, timeout)
        self._lock = lock

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


def bring_up(files: DataDir, durable: bool, timeout: float) -> tuple[Path, Answer, bool]:
    """Find the living engine or start one, and wait until it is ready; needs ``start.lock``.

    Returns its socket, what it says of itself, and whether it was started.

    Raises:
        EngineStartFailed: It ended, or was not ready within *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    lost_at = time.monotonic() + _LOST_SOCKET_AFTER
    socket, was_durable = read_conf(files)
    started, log_from = False, 0
    while True:
        with explained(files.path):
            lock = FileLock(files.engine_lock)
        try:
            if lock.try_lock():
                if started:
                    raise start_failed(files, "it ended while it started", log_from=log_from)
                log_from = _log_bytes(files)
                socket = _start(files, socket, durable or was_durable, lock)
                started = True
        finally:
            lock.close()  # Not released: if the engine was started, it has it now.
        answer = ask(socket)
        if answer.state == "ready":
            return socket, answer, started
        if time.monotonic() >= deadline:
            raise _not_ready(files, answer, timeout, log_from)
        if answer.state != "unreachable":
            lost_at = time.monotonic() + _LOST_SOCKET_AFTER
        elif not started and time.monotonic() >= lost_at:
            bring_down(files)
        time.sleep(_POLL)


def bring_down(files: DataDir) -> bool:
    """Stop the engine and wait until it has ended; needs ``start.lock``.

    Returns whether there was one. A stale socket and pid file are removed.

    Raises:
        EngineError: It cannot be reached, or did not end within 30 seconds. It
            is not killed: that is for a person to decide.
    """
    socket, _ = read_conf(files)
    lived = is_alive(files)
    if lived:
        terminate(files, socket)
        deadline = time.monotonic() + STOP_TIMEOUT
        while is_alive(files):
            if time.monotonic() >= deadline:
                raise EngineError(
                    f"The embedded engine in {files.path} (process {read_pid(files)}) did not "
                    f"end within {STOP_TIMEOUT:.0f} s of SIGTERM. See {files.log}. Killing it "
                    "with SIGKILL loses no answered write.",
                    data_dir=str(files.path),
                )
            time.sleep(_POLL)
    _remove_stale(files, socket)
    return lived


def is_alive(files: DataDir) -> bool:
    """True if the engine's process lives; needs ``start.lock``."""
    return is_locked(files.engine_lock)


def is_locked(path: Path) -> bool:
    """True if anybody holds a lock on this file.

    This takes the lock for a moment, so everyone who draws conclusions from
    not getting it does so under ``start.lock``, as the caller of this must.
    """
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        return not lock.try_lock()
    finally:
        lock.release()


def lock_not_obtained(files: DataDir, lock: Path, timeout: float) -> EngineStartFailed:
    """The error for a lock that was not to be had in time."""
    return EngineStartFailed(
        f"Another process holds {lock} for more than {timeout:.0f} s: it starts or stops the "
        "engine. Wait and try again; if it hangs, end it.",
        data_dir=str(files.path),
    )


def _start(files: DataDir, last_socket: Path, durable: bool, lock: FileLock) -> Path:
    refuse_full_disk(files.path)
    _remove_stale(files, last_socket)
    with explained(files.path):
        # Users who hold the last address must find the new engine there.
        is_usable = files.conf.exists() and _is_mine(last_socket.parent)
        socket = last_socket if is_usable else choose_socket(files)
    write_conf(files, socket, durable=durable)
    spawn(files, lock)
    return socket


def _is_mine(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _remove_stale(files: DataDir, socket: Path) -> None:
    for path in (files.pid_file, files.socket, socket):
        with contextlib.suppress(FileNotFoundError), explained(files.path):
            path.unlink(missing_ok=True)


def _log_bytes(files: DataDir) -> int:
    return files.log.stat().st_size if files.log.exists() else 0


def _not_ready(files: DataDir, answer: Answer, timeout: float, log_from: int) -> EngineStartFailed:
    if answer.state == "loading":
        share = answer.facts.get("loading_loaded_perc", "?")
        what = f"after {timeout:.0f} s it still reads its log back ({share} %); it goes on, so wait"
    elif answer.state == "busy":
        what = f"it took the connection but gave no answer within {timeout:.0f} s"
    else:
        what = f"nobody listened on its socket after {timeout:.0f} s"
    return start_failed(files, what, log_from=log_from)
