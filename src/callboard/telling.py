"""What happened in a run, told from the journal of its board, as it comes where that is wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final, Self

from callboard.domain.event import Gap
from callboard.domain.run import Run
from callboard.domain.story import RunEvent, Story
from callboard.engine.pubsub import Subscription
from callboard.exceptions import InvalidArgument
from callboard.services.events import Events
from callboard.services.tasks import Tasks

RECHECK_SECONDS: Final = 5.0


async def tell(
    run: Run,
    events: Events,
    tasks: Tasks,
    is_over: Callable[[str, bool], Awaitable[bool]],
    cursor: str | None = None,
    *,
    follow: bool = False,
) -> AsyncGenerator[RunEvent | Gap]:
    """What happened in *run*, each thing once, from its start or behind *cursor*.

    Args:
        tasks: Of its board.
        is_over: Whether nothing more is to be waited for, where nothing was heard for a while.
        follow: Go on as things happen, until it is over.
    """
    story = Story(run.id, run.team)
    after = _place(cursor)
    position: str | None = None
    is_silent = False
    async with Bell(events, run.id, is_wanted=follow) as bell:
        while True:
            entries, following = await events.read(position, board=run.id)
            needed = sorted({i for entry in entries for i in _needs(story, entry)})
            read = {t.id: t for t in await tasks.get_many(needed) if t is not None}
            for entry in entries:
                if isinstance(entry, Gap):
                    yield entry
                    continue
                for event in story.tell(entry, read):
                    if _place(event.cursor) > after:
                        yield event
            if following != position and entries:
                position, is_silent = following, False
                continue
            position = following
            if not follow or (story.has_ended and await is_over(run.id, is_silent)):
                return
            is_silent = await bell.wait() is None


def _place(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return (0, -1)
    number, _, within = cursor.partition(".")
    try:
        return (int(number), int(within or -1))
    except ValueError:
        raise InvalidArgument(
            f"{cursor!r} is no cursor of a run. Use one that an event carried, as in '42.1'.",
            field="cursor",
        ) from None


def _needs(story: Story, entry: Any) -> Sequence[str]:
    return () if isinstance(entry, Gap) else story.needs(entry)


class Bell:
    """News of a run's board; a bell is only a hint, so whoever waits looks by itself too."""

    def __init__(self, events: Events, run: str, *, is_wanted: bool = True) -> None:
        self._events = events
        self._run = run
        self._is_wanted = is_wanted
        self._subscription: Subscription | None = None

    async def wait(self, seconds: float | None = None) -> object:
        """Wait for the next; None where none came for a while."""
        assert self._subscription is not None
        return await self._subscription.get(RECHECK_SECONDS if seconds is None else seconds)

    async def __aenter__(self) -> Self:
        if self._is_wanted:
            self._subscription = await self._events.listen(board=self._run)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._subscription is not None:
            self._subscription.close()
