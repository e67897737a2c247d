"""The demo from its first line to its last: plan, work, a kill, the way back, the check."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from callboard.app import Callboard, connect
from callboard.demo import ending
from callboard.demo.crew import Crew, Hand
from callboard.demo.ledger import Check, Ledger, check
from callboard.demo.plan import Tree, in_words, plan, plant, read_tree, with_planted
from callboard.demo.show import Scene, Screen, WorkerRow
from callboard.demo.survey import LEASE_SECONDS
from callboard.domain.event import Event
from callboard.domain.task import Status, TaskSpec
from callboard.exceptions import ConfigError, EngineError, TaskNotFound

WORKERS_MAX: Final = 64
KILL_AFTER_SHARE: Final = 0.25
"""The kill comes when this share of the tasks has ended, and the victim holds two or more."""

KILL_AT_LAST_SHARE: Final = 0.4
"""From here on one held task is enough."""

TICK_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 0.4
RETRIED_ON_PURPOSE: Final = "names"
INTERRUPTED: Final = 130


def run(folder: Path | None, workers: int, out: Path | None, kill: bool, data: Path | None) -> int:
    """Run the demo; answers the exit code.

    Raises:
        ConfigError: Nothing can be surveyed there, or *workers* is out of its bounds.
        CallboardError: The engine cannot be had.
    """
    if not 1 <= workers <= WORKERS_MAX:
        raise ConfigError(f"workers is {workers}; the demo takes 1 to {WORKERS_MAX}.")
    tree = read_tree(folder)
    console = Console(highlight=False)
    report = _report_path(out, tree)
    return asyncio.run(_run(console, tree, workers, report, kill, data))


def _report_path(out: Path | None, tree: Tree) -> Path:
    """A file as it is given; in a folder, a file named after the tree."""
    chosen = Path("callboard-report") if out is None else out
    return chosen if chosen.suffix == ".md" else chosen / f"{tree.name}.md"


async def _run(
    console: Console, tree: Tree, workers: int, out: Path, kill: bool, data: Path | None
) -> int:
    tree = with_planted(tree, plant(out.parent / "planted"))
    scratch = Path(tempfile.mkdtemp(prefix="callboard-demo-"))
    story: Story | None = None
    with _interruptible() as was_interrupted:
        try:
            async with connect(data=data) as cb:
                board = await _fresh_board(cb)
                specs = plan(tree, out=out, scratch=scratch)
                with Screen(console, Scene(tree.title, board)) as screen:
                    story = Story(cb, screen, tree, specs, Crew(board, cb.choice, scratch))
                    await story.play(workers, kill=kill)
                checks = await story.check()
                # A data directory found by itself is found again, from the same folder.
                where = "" if data is None else f" --data {data}"
                outcome = story.outcome(checks, out, where)
                await asyncio.to_thread(_append, out, ending.markdown(outcome))
                ending.tell(console, outcome)
                return 0 if all(each.holds for each in checks) else 1
        except asyncio.CancelledError:
            if not was_interrupted():
                raise
            console.print("Stopped. No process was left behind.")
            if story is not None:
                console.print(story.remainder(data), soft_wrap=True)
            return INTERRUPTED
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _append(report: Path, text: str) -> None:
    """Add how it went to the report, where the survey got as far as writing one."""
    if report.exists():
        with report.open("a", encoding="utf-8") as page:
            page.write(text)


async def _fresh_board(cb: Callboard) -> str:
    """A name that no board has: several demos may share an engine."""
    name = f"survey-{datetime.now(UTC):%m%d-%H%M%S}"
    taken = {board.name for board in await cb.boards.list()}
    numbered = (f"{name}-{n}" for n in range(2, len(taken) + 3))
    return next(each for each in (name, *numbered) if each not in taken)


class Story:
    """One run: what is planned, who does it, and what came of it."""

    def __init__(
        self, cb: Callboard, screen: Screen, tree: Tree, specs: list[TaskSpec], crew: Crew
    ) -> None:
        self.specs = specs
        self.ledger = Ledger(screen.scene.board)
        self.victim: Hand | None = None
        self._cb = cb
        self._screen = screen
        self._scene = screen.scene
        self._tree = tree
        self._crew = crew
        self._tasks = cb.board(self._scene.board).tasks
        self._kinds = {spec.id: spec.kind for spec in specs}
        self._news = asyncio.Event()
        self._retried = 0
        self._buried: list[str] = []
        self._cursor = ""
        self._is_given_back = False
        self._is_done_by_others = False

    async def play(self, workers: int, *, kill: bool) -> None:
        """Submit, let the workers work, kill one, and wait until every task has ended.

        Raises:
            ConfigError: All workers ended by themselves; the message shows what they logged.
        """
        scene, screen = self._scene, self._screen
        scene.total = len(self.specs)
        self._cursor = await self._cb.events.cursor()
        await self._tasks.submit_many(self.specs, created_by="demo")
        screen.say(
            f"{len(self.specs):,} tasks for {self._tree.modules:,} modules "
            f"in {len(self._tree.packages)} packages are on the board"
        )
        for reason in self._tree.left_out:
            screen.say(reason, "yellow")
        following = asyncio.create_task(self._follow())
        looking = asyncio.create_task(self._look())
        try:
            hands = [await self._crew.start(f"worker-{n}") for n in range(1, workers + 1)]
            numbers = in_words([str(hand.process.pid) for hand in hands])
            screen.say(f"{workers} workers started, each a process of its own: {numbers}")
            if kill and workers == 1:
                screen.say("The only worker is not killed: nobody would be left.", "yellow")
            while self.ledger.ended < len(self.specs):
                self._news.clear()
                if kill and workers > 1 and self.victim is None:
                    await self._kill_one()
                await self._tell_buried()
                self._redraw()
                self._mind_the_fallen()
                for helper in (following, looking):
                    if helper.done():
                        helper.result()
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._news.wait()
            await self._tell_buried()
            screen.say("all tasks have ended; the workers are sent home")
            self._redraw()
            await self._crew.stop()
        finally:
            for helper in (following, looking):
                helper.cancel()
            await asyncio.gather(following, looking, return_exceptions=True)
            await asyncio.shield(self._crew.end())

    # Following along

    async def _follow(self) -> None:
        """Enter every event of the run into the ledger, and tell those worth telling."""
        async for event in self._cb.events.follow(self._cursor):
            self.ledger.apply(event)
            self._scene.ended = self.ledger.ended
            if isinstance(event, Event) and event.board == self._scene.board:
                self._tell(event)
                self._news.set()

    def _tell(self, event: Event) -> None:
        if event.type == "task:lease_lost":
            self._tell_lost(event)
        elif event.type == "task:retry_scheduled":
            for fact in event.facts:
                self._tell_retry(fact.id)
        elif event.type == "task:failed":
            self._buried += [fact.id for fact in event.facts]
        elif event.type == "task:completed":
            for fact in event.facts:
                agent = fact.holder.split("/")[0]
                if self._kinds.get(fact.id) in ("summarise", "report"):
                    self._screen.say(f"{fact.id} done by {agent}", is_minor=True)
            self._tell_taken_over()

    def _tell_lost(self, event: Event) -> None:
        victim = self.victim
        for fact in event.facts:
            agent = fact.holder.split("/")[0]
            if victim is None or agent != victim.agent:
                self._screen.say(f"{agent} was too slow to renew its lease of {fact.id}", "yellow")
        if victim is None or not victim.held or victim.killed_at is None or self._is_given_back:
            return
        losses = [loss for task in victim.held for loss in self.ledger.lives[task].losses]
        lost = [loss for loss in losses if loss.holder.startswith(victim.agent + "/")]
        if len(lost) >= len(victim.held):
            self._is_given_back = True
            after = [(loss.at - victim.killed_at).total_seconds() for loss in lost]
            seconds = " to ".join(dict.fromkeys(f"{each:.1f}" for each in (min(after), max(after))))
            self._screen.say(
                f"{_tasks(len(victim.held))} of {victim.agent} came back to the board, "
                f"{seconds} s after the kill",
                "green",
            )

    def _tell_taken_over(self) -> None:
        victim = self.victim
        if victim is None or not victim.held or self._is_done_by_others:
            return
        lives = [self.ledger.lives[task] for task in victim.held]
        if all(life.outcomes for life in lives):
            self._is_done_by_others = True
            self._screen.say(f"all that {victim.agent} had held is done by others", "green")

    def _tell_retry(self, task: str) -> None:
        is_on_purpose = self._kinds.get(task) == RETRIED_ON_PURPOSE
        self._retried += is_on_purpose
        if not is_on_purpose:
            self._screen.say(f"{task} failed and will be tried again", "yellow")
        elif self._retried == 1:
            self._screen.say(
                f"{task} failed and will be tried again, like all of its kind: "
                "they are made to fail their first attempt"
            )

    async def _tell_buried(self) -> None:
        while self._buried:
            task = await self._tasks.get(self._buried.pop(0))
            message = (task.error or {}).get("message", "")
            self._screen.say(f"{task.id} is a dead letter: {message}", "red")

    # Looking at the board

    async def _look(self) -> None:
        """Read now and then how many tasks stand where, and why some of them wait."""
        while True:
            try:
                self._scene.counts = (await self._cb.boards.get(self._scene.board)).counts
                waits = []
                for task in self._curious():
                    with suppress(TaskNotFound):
                        waits.append((task, (await self._tasks.why(task)).text))
                self._scene.waits = waits
            except EngineError:
                pass  # The view may be late; the follower says where the engine is gone.
            await asyncio.sleep(LOOK_SECONDS)

    def _curious(self) -> Iterator[str]:
        """A few tasks whose waiting is worth a word: of the killed worker, a retry, a summary."""
        lives = self.ledger.lives
        if self.victim is not None:
            yield from [
                task
                for task in self.victim.held
                if lives[task].holder.startswith(self.victim.agent)
            ][:1]
        yield from [task for task, life in lives.items() if life.state == "scheduled"][:1]
        blocked = [task for task, life in lives.items() if life.state == "blocked"]
        yield from blocked[:1]
        if len(blocked) > 1:
            yield blocked[-1]

    def _redraw(self) -> None:
        self._scene.workers = [self._row(hand) for hand in self._crew.hands]
        self._screen.draw()

    def _row(self, hand: Hand) -> WorkerRow:
        held = self.ledger.held_by(hand.agent)
        names = f"{len(held)}: {', '.join(held)}"
        if hand.killed_at is not None:
            word = (
                f"not yet given back: {', '.join(held)}" if held else "all it held was given back"
            )
            return WorkerRow(hand.agent, "killed", word if hand.held else "it held nothing by then")
        if not hand.is_alive:
            return WorkerRow(hand.agent, "ended", "")
        if held:
            return WorkerRow(hand.agent, "working", names)
        has_worked = any(
            claim.holder.startswith(hand.agent + "/")
            for life in self.ledger.lives.values()
            for claim in life.claims
        )
        return WorkerRow(hand.agent, "idle" if has_worked else "starting", "")

    # The kill

    async def _kill_one(self) -> None:
        """Kill a worker if one holds enough, and it is late enough for a kill to matter."""
        share = self.ledger.ended / len(self.specs)
        if share < KILL_AFTER_SHARE:
            return
        enough = 1 if share >= KILL_AT_LAST_SHARE else 2
        hand = max(self._crew.hands, key=lambda hand: len(self.ledger.held_by(hand.agent)))
        if not hand.is_alive or len(self.ledger.held_by(hand.agent)) < enough:
            return
        # It stands still first: what the board says then is what it is killed with.
        self._crew.pause(hand)
        if len(await self._held(hand)) < enough:
            self._crew.resume(hand)
            return
        await self._crew.kill(hand)
        self.victim = hand
        hand.killed_at = (await self._cb.boards.get(self._scene.board)).at
        hand.held = await self._held(hand)
        self._screen.say(
            f"{hand.agent} was killed (SIGKILL) while it held {_tasks(len(hand.held))}: "
            f"{in_words(hand.held)}",
            "bold red",
        )

    async def _held(self, hand: Hand) -> list[str]:
        page = await self._tasks.list(status=[Status.CLAIMED, Status.IN_PROGRESS], limit=1_000)
        held = [task for task in page.tasks if task.agent == hand.agent]
        return [task.id for task in sorted(held, key=lambda task: task.fence)]

    def _mind_the_fallen(self) -> None:
        """A worker that ends by itself is no part of the plot."""
        if any(hand.is_alive for hand in self._crew.hands):
            return
        logged = [
            hand.log.read_text(errors="replace").strip()[-2_000:] for hand in self._crew.hands
        ]
        raise ConfigError(
            "All workers ended by themselves. They logged:\n" + "\n".join(filter(None, logged))
        )

    # The end

    async def check(self) -> list[Check]:
        """Read the whole stream of the run once more and see whether everything balances."""
        ledger, cursor = Ledger(self._scene.board), self._cursor
        while True:
            found, following = await self._cb.events.read(cursor)
            for event in found:
                ledger.apply(event)
            if following == cursor:
                break
            cursor = following
        self.ledger = ledger
        on_board = {task.id: task.status async for task in self._tasks.iterate()}
        planned = [spec.id for spec in self.specs if spec.id]
        return check(ledger, planned, on_board, self.victim.held if self.victim else ())

    def remainder(self, data: Path | None) -> str:
        """What a survey that was stopped leaves on the board, and how to go on with it."""
        board, left = self._scene.board, len(self.specs) - self.ledger.ended
        where = "" if data is None else f" --data {data}"
        return (
            f"{left:,} of {len(self.specs):,} tasks are still on the board. To go on with them:\n"
            f"  callboard worker callboard.demo.survey:worker --board {board}{where}"
        )

    def outcome(self, checks: list[Check], out: Path, where: str) -> ending.Outcome:
        """All that the ending tells."""
        return ending.Outcome(
            board=self._scene.board,
            lines=[line for line in self._scene.lines if not line.is_minor],
            ledger=self.ledger,
            victim=self.victim,
            lease=LEASE_SECONDS,
            checks=checks,
            report=out,
            where=where,
        )


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, SIGTERM and a closed terminal cancel the running task; answers whether one did."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    caught: list[int] = []

    def interrupt(number: int) -> None:
        # Once: a second Ctrl-C must not keep the first from ending the workers.
        if not caught:
            task.cancel()
        caught.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield lambda: bool(caught)
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
