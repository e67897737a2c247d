"""Tools for tests: a throw-away board on a real engine, a clock that moves, ``drain``.

    async with testing.board() as board:
        handle = await board.tasks.submit("greet", {"name": "Ada"})
        await board.drain(worker)
        await board.assert_done(handle, result="Hello Ada")

As a pytest fixture: ``pytest_plugins = ["callboard.testing.pytest"]`` in ``conftest.py``
gives tests ``callboard_board``.
"""

from callboard.sdk.testing import (
    Clock,
    Drained,
    HandlerRun,
    ThrowawayBoard,
    board,
    run_handler,
)

__all__ = ["Clock", "Drained", "HandlerRun", "ThrowawayBoard", "board", "run_handler"]
