"""The embedded engine's data directory: whether it can be used, what lies in it, its locks.

Three locks, each a ``flock`` on a file of its own, so the kernel frees them when
their holder dies, however it dies:

- ``users.lock``, shared: held by each process (each `EmbeddedEngine`) that uses the engine;
- ``start.lock``, exclusive: held while one starts, stops or checks the engine;
- ``engine.lock``, exclusive: held by the engine process itself, for as long as it lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from callboard.exceptions import CallboardError, ConfigError, EngineStartFailed

MARKER = "callboard.json"
MARKER_FORMAT = 1

# Sockets' paths end at 108 bytes on Linux and at 104 on macOS, the closing zero included.
SOCKET_PATH_BYTES_MAX = 100

# One rewrite of a small log, with the old one still there.
FREE_BYTES_MIN = 64 << 20

# A lock that holds across machines, and a log that is flushed in order, are both needed.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smbfs", "smb2", "smb3", "afs", "coda", "davfs", "fuse.davfs2"),
        *("ceph", "fuse.ceph", "fuse.ceph-fuse", "glusterfs", "fuse.glusterfs", "fuse.sshfs"),
        *("fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"),
    }
)

_MOUNTS = Path("/proc/self/mountinfo")

# What a folder may hold before it becomes a data directory: left by mount points and by git.
_HARMLESS = frozenset({".gitignore", ".gitkeep", "lost+found"})


@dataclass(frozen=True, slots=True)
class DataDir:
    """The names of the files in one data directory; *path* is absolute and without links."""

    path: Path
    is_temporary: bool = False

    @property
    def users_lock(self) -> Path:
        """Locked, shared, by each user of the engine."""
        return self.path / "users.lock"

    @property
    def start_lock(self) -> Path:
        """Locked, exclusively, by whoever starts or stops the engine."""
        return self.path / "start.lock"

    @property
    def engine_lock(self) -> Path:
        """Locked, exclusively, by the living engine."""
        return self.path / "engine.lock"

    @property
    def conf(self) -> Path:
        """The engine's configuration, written anew at each start."""
        return self.path / "engine.conf"

    @property
    def log(self) -> Path:
        """The engine's log."""
        return self.path / "engine.log"

    @property
    def pid_file(self) -> Path:
        """The engine's process id; stale after the engine was killed."""
        return self.path / "engine.pid"

    @property
    def socket(self) -> Path:
        """The engine's socket, where the path is short enough and the file system allows it."""
        return self.path / "engine.sock"

    @property
    def far_socket_name(self) -> str:
        """The name of the engine's socket where it has to lie in the runtime directory."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:24] + ".sock"

    def owns_socket(self, path: Path) -> bool:
        """False for a path that was copied or moved here within another directory's files."""
        return path == self.socket or path.name == self.far_socket_name


def open_data_dir(path: str | os.PathLike[str], *, temporary: bool = False) -> DataDir:
    """Make the data directory, or check that it is one of ours.

    A new one is private to the user and tells git to ignore it. Safe to call
    from many processes at once.

    Raises:
        ConfigError: It holds somebody else's files, cannot be written, was made
            by a newer release, or lies on a network file system.
        EngineStartFailed: The disk is full.
    """
    real = Path(os.path.realpath(path))
    refuse_network_file_system(real)
    with explained(real):
        real.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker = _read_marker(real)
        if marker is None:
            _refuse_foreign(real)
            _mark(real, temporary)
            marker = {"temporary": temporary}
    return DataDir(real, bool(marker.get("temporary")))


def find_data_dir(path: str | os.PathLike[str]) -> DataDir | None:
    """The data directory at this path, or None where there is none yet; nothing is written.

    Raises:
        ConfigError: It holds somebody else's files, or was made by a newer release.
    """
    real = Path(os.path.realpath(path))
    with explained(real):
        if not real.exists():
            return None
        marker = _read_marker(real)
        if marker is None:
            _refuse_foreign(real)
            return None
    return DataDir(real, bool(marker.get("temporary")))


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says about files in *path* into an error with its cure.

    Raises:
        EngineStartFailed: The disk, or the user's share of it, is full.
        ConfigError: Anything else.
    """
    try:
        yield
    except OSError as error:
        raise _cure(error, path) from error


def refuse_full_disk(path: Path) -> None:
    """Raise `EngineStartFailed` where less than 64 MiB are free."""
    free = shutil.disk_usage(path).free
    if free < FREE_BYTES_MIN:
        raise EngineStartFailed(
            f"The disk of {path} has {free >> 20} MiB left, and the engine's log needs at least "
            f"{FREE_BYTES_MIN >> 20}. Free some space, or give --data with a folder elsewhere.",
            data_dir=str(path),
            free_bytes=free,
        )


def refuse_network_file_system(path: Path) -> None:
    """Raise `ConfigError` where *path* lies on a file system of another machine.

    Known where the system has ``/proc`` (Linux); elsewhere nothing is refused.
    """
    kind = file_system_of(path)
    if kind in NETWORK_FILE_SYSTEMS:
        raise ConfigError(
            f"{path} lies on a network file system ({kind}), where locks and flushes cannot be "
            "relied on. Give --data with a folder on a local disk, or --url of a server that "
            "all machines share.",
            data_dir=str(path),
            file_system=kind,
        )


def file_system_of(path: Path) -> str | None:
    """The type of the file system that *path* lies on or would be made on, if it can be known."""
    try:
        lines = _MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    above = {str(path), *map(str, path.parents)}
    best, kind = "", None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        # Of two mounts on the same point the later one is seen.
        if point in above and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def choose_socket(files: DataDir) -> Path:
    """Where the engine's socket goes: into the data directory, if a socket there works.

    Where the path is over 100 bytes, or the file system has no sockets (folders
    that a virtual machine shares with its host), it is a name made of a hash of
    the path in the user's runtime directory.
    """
    if len(os.fsencode(files.socket)) <= SOCKET_PATH_BYTES_MAX and _has_sockets(files.path):
        return files.socket
    path = _runtime_dir() / files.far_socket_name
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(
            f"Neither {files.path} nor {path.parent} has a path short enough for a socket "
            f"({SOCKET_PATH_BYTES_MAX} bytes). Set XDG_RUNTIME_DIR or TMPDIR to a shorter one.",
            data_dir=str(files.path),
        )
    return path


class FileLock:
    """A ``flock`` on one file, with a descriptor of its own.

    Two objects on the same file exclude each other, within one process too. The
    descriptor is closed in each program started and in each forked child, so
    neither keeps the lock; `release` frees it even while a child is just being
    started. An object that is merely forgotten frees the lock as well.
    """

    _living: ClassVar[weakref.WeakSet[FileLock]] = weakref.WeakSet()

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 held until release
        FileLock._living.add(self)

    @classmethod
    def hold(cls, path: Path, *, shared: bool = False, timeout: float) -> FileLock | None:
        """Lock the file that *path* names, or return None if it took over *timeout* seconds.

        If the file was replaced while this waited, the new one is locked.
        """
        deadline = time.monotonic() + timeout
        while True:
            lock = cls(path)
            while not lock.try_lock(shared=shared):
                if time.monotonic() >= deadline:
                    lock.close()
                    return None
                time.sleep(0.01)
            if lock.is_current():
                return lock
            lock.close()

    def try_lock(self, *, shared: bool = False) -> bool:
        """Take the lock, or change its kind, if that can be had at once."""
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_current(self) -> bool:
        """True while *path* still names the file that is locked."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    def fileno(self) -> int:
        """The descriptor, to hand the lock on to another process."""
        return self._file.fileno()

    def release(self) -> None:
        """Free the lock, for every process that has this descriptor."""
        if not self._file.closed:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self.close()

    def close(self) -> None:
        """Close the descriptor; a process that it was handed on to keeps the lock."""
        self._file.close()

    @staticmethod
    def _forget_in_child() -> None:
        for lock in list(FileLock._living):
            lock.close()


os.register_at_fork(after_in_child=FileLock._forget_in_child)


def _read_marker(path: Path) -> dict[str, object] | None:
    try:
        text = (path / MARKER).read_bytes()
    except FileNotFoundError:
        return None
    try:
        marker = json.loads(text) if text else {}  # Another process is just about to fill it.
    except ValueError:
        marker = None
    if not isinstance(marker, dict):
        raise ConfigError(
            f"{path / MARKER} is damaged. If {path} is Callboard's, delete that file and "
            'write {"callboard_data": 1} into it; else give --data with another folder.',
            data_dir=str(path),
        )
    found = marker.get("callboard_data", MARKER_FORMAT)
    if found != MARKER_FORMAT:
        raise ConfigError(
            f"{path} was made by a newer Callboard (format {found}, this one knows "
            f"{MARKER_FORMAT}). Upgrade callboard, or give --data with another folder.",
            data_dir=str(path),
        )
    return marker


def _refuse_foreign(path: Path) -> None:
    foreign = sorted(set(os.listdir(path)) - _HARMLESS)
    # The marker is the first file made: where others are ours, it is there by now.
    if foreign and not (path / MARKER).exists():
        raise ConfigError(
            f"{path} is not a Callboard data directory: it holds {foreign[0]!r} and no {MARKER}. "
            "Give --data with an empty or a new folder.",
            data_dir=str(path),
        )


def _mark(path: Path, temporary: bool) -> None:
    text = json.dumps({"callboard_data": MARKER_FORMAT, "temporary": temporary}) + "\n"
    for name, content in ((MARKER, text), (".gitignore", "*\n")):
        with contextlib.suppress(FileExistsError), open(path / name, "x") as file:
            file.write(content)


def _cure(error: OSError, path: Path) -> CallboardError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineStartFailed(
            f"The disk of {path} is full ({reason}). "
            "Free some space, or give --data with a folder elsewhere.",
            data_dir=str(path),
        )
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
        return ConfigError(
            f"The file system of {path} has no file locks ({reason}). "
            "Give --data with a folder on a local disk, or --url of a server.",
            data_dir=str(path),
        )
    return ConfigError(
        f"Cannot use {path} as data directory: {error.filename or path}: {reason}. "
        "Give --data with a folder that you can write, or --url of a server.",
        data_dir=str(path),
    )


def _has_sockets(path: Path) -> bool:
    name = path / f"s{os.getpid():x}-{os.urandom(2).hex()}"
    if len(os.fsencode(name)) > SOCKET_PATH_BYTES_MAX:
        return True  # So close to the limit there is no room for a trial.
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(os.fsencode(name))
            server.listen(1)
            client.connect(os.fsencode(name))
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            name.unlink()
    return True


def _runtime_dir() -> Path:
    offered = os.environ.get("XDG_RUNTIME_DIR")
    if offered and len(os.fsencode(offered)) <= 50 and os.path.isdir(offered):
        path = Path(offered) / "callboard"
    else:
        path = Path(tempfile.gettempdir()) / f"callboard-{os.geteuid()}"
    with explained(path):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"{path} is not a private folder of yours, so the engine's socket cannot go there. "
            "Delete it, or set XDG_RUNTIME_DIR, or give --data with a path under "
            f"{SOCKET_PATH_BYTES_MAX} bytes.",
            runtime_dir=str(path),
        )
    return path
