"""Share files, accounts and a page among agents that would destroy each other's work.

Six agents edit pairs of eight files, and a formatter wants all of them alone. Two transfers
lock their accounts in opposite order, and wait for each other: one of them is told so at once,
gives back what it has, and tries again, while the other goes on. At last a process that holds a
page is stopped in the middle of its work, as by a closed laptop; the page goes to another, and
when the first one wakes and writes, the database refuses it by its fence.

    python examples/primitives/locks.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import callboard
import callboard.sync
from callboard import TaskContext
from callboard.exceptions import DeadlockVictim, LockLost

NAMESPACE = "locks-example"
AGENTS, EDITS = 6, 10
FILES = [f"file:src/{name}.py" for name in ("app", "cli", "db", "io", "log", "net", "task", "ui")]
PAGE = "page:home"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace=NAMESPACE, adopt=True) as cb:
            # As in every worker: while somebody sweeps, what ran out is over when it says.
            janitor = cb.janitor()
            janitor.start()
            await edit(cb)
            await transfer(cb)
            await publish(cb, folder)
            await janitor.stop()


async def edit(cb: callboard.Callboard) -> None:
    """Edit two files at a time; a pattern locks whatever is beneath it."""
    inside: Counter[str] = Counter()
    edits = most = 0

    async def agent(number: int) -> None:
        nonlocal edits, most
        for turn in range(EDITS):
            pair = [FILES[(number + turn) % 8], FILES[(number * 3 + turn * 5) % 8]]
            async with cb.locks.hold(*pair, agent=f"editor-{number}"):
                inside.update(set(pair))
                most = max(most, *inside.values())
                await asyncio.sleep(0.005)
                inside.subtract(set(pair))
                edits += 1

    async def formatter() -> None:
        async with cb.locks.hold("file:src/**", agent="formatter"):
            assert not +inside
            await asyncio.sleep(0.02)
            assert not +inside
            print(f"The formatter has {len(FILES)} files to itself.")

    await asyncio.gather(*(agent(number) for number in range(AGENTS)), formatter())
    print(f"{edits} edits by {AGENTS} agents, at most {most} at a time in a file.")


async def transfer(cb: callboard.Callboard) -> None:
    """Lock in opposite order what two transfers need: a deadlock, and what becomes of it."""
    accounts = {"account:1": 1_000, "account:2": 1_000}
    both_have_one = asyncio.Barrier(2)

    async def move(ctx: TaskContext, payload: dict[str, str]) -> str:
        first, second = payload["from"], payload["to"]
        for attempt in (1, 2):
            try:
                async with ctx.hold(first):
                    if attempt == 1:
                        await both_have_one.wait()
                    async with ctx.hold(second, priority=payload["priority"]):
                        accounts[first] -= 100
                        await asyncio.sleep(0.01)
                        accounts[second] += 100
                        return f"{first} to {second} at attempt {attempt}"
            except DeadlockVictim as victim:
                over = " and ".join(sorted(victim.details["resources"]))
                print(f"Deadlock over {over}: {first} to {second} gives back and tries again.")
        raise AssertionError("the other one is done by now")

    workers = []
    for name in ("mira", "noor"):
        worker = callboard.Worker(agent=name, concurrency=1)
        worker.handles("transfer")(move)
        workers.append((worker, asyncio.create_task(worker.run(cb, handle_signals=False))))
    handles = [
        await cb.tasks.submit("transfer", {"from": one, "to": other, "priority": priority})
        for one, other, priority in (
            ("account:1", "account:2", "normal"),
            ("account:2", "account:1", "low"),
        )
    ]
    for handle in handles:
        print(f"Done: {await handle.result(timeout=30)}.")
    (incident,) = await cb.locks.incidents(limit=1)
    print(f"Kept as an incident between {' and '.join(sorted(incident.agents))}.")
    assert accounts == {"account:1": 1_000, "account:2": 1_000}
    for worker, working in workers:
        worker.stop()
        await working


async def publish(cb: callboard.Callboard, folder: str) -> None:
    """Stop a process that holds the page, let another have it, and wake the first."""
    store = Store(Path(folder) / "pages.db")
    writer = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        str(store.path),
        env={"CALLBOARD_DATA": folder, **os.environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    old_fence = int(await writer.stdout.readline())
    writer.send_signal(signal.SIGSTOP)
    try:
        async with cb.locks.hold(PAGE, agent="noor") as lock:
            assert store.write("by noor", lock.fence)
            is_higher = lock.fence > old_fence
            print(f"The holder sleeps; noor has the page. Her fence is higher: {is_higher}.")
            writer.send_signal(signal.SIGCONT)
            told, _ = await writer.communicate(b"go on\n")
    finally:
        if writer.returncode is None:
            writer.kill()
    print(told.decode(), end="")
    print(f"The page was written {store.read()}.")


class Store:
    """Something outside of Callboard that compares fences: a table of a database."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS page (name PRIMARY KEY, text, fence)")
            db.execute("INSERT OR IGNORE INTO page VALUES (?, '', 0)", [PAGE])

    def write(self, text: str, fence: int) -> bool:
        """Write, unless somebody wrote under a higher fence; whether it was written."""
        with closing(sqlite3.connect(self.path)) as db, db:
            done = db.execute(
                "UPDATE page SET text = ?, fence = ? WHERE name = ? AND fence <= ?",
                [text, fence, PAGE, fence],
            )
            return done.rowcount == 1

    def read(self) -> str:
        with closing(sqlite3.connect(self.path)) as db:
            (text,) = db.execute("SELECT text FROM page WHERE name = ?", [PAGE]).fetchone()
            return str(text)


def write_late(path: Path) -> None:
    """What the process does that is stopped: it takes the page, and writes when told to."""
    with callboard.sync.connect(namespace=NAMESPACE, adopt=True) as cb:
        lock = cb.locks.acquire(PAGE, owner="sleeper", lease=0.3)
        print(lock.fence, flush=True)
        sys.stdin.readline()
        is_written = Store(path).write("by the sleeper", lock.fence)
        print(f"The sleeper wakes and writes: {'written' if is_written else 'refused'}.")
        try:
            cb.locks.release(lock)
        except LockLost:
            print("It gives the page back: lost before.")


if __name__ == "__main__":
    if sys.argv[1:]:
        write_late(Path(sys.argv[1]))
    else:
        asyncio.run(main())
