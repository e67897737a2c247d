"""The same API without ``async``, for scripts, notebooks and threads.

    with callboard.sync.connect() as cb:
        handle = cb.tasks.submit("greet", {"name": "Ada"})
        print(handle.result(timeout=10))

Its methods, their arguments, results and exceptions are those of the asynchronous API.
"""

from callboard.sdk.sync import (
    Agents,
    Boards,
    BoardView,
    Callboard,
    DeadLetters,
    Events,
    TaskHandle,
    Tasks,
    connect,
)

__all__ = [
    "Agents",
    "BoardView",
    "Boards",
    "Callboard",
    "DeadLetters",
    "Events",
    "TaskHandle",
    "Tasks",
    "connect",
]
