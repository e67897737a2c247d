"""Boards: listed, configured, paused, removed; and the settings of the namespace."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import operations_of
from callboard.services.boards import Boards

_operation = operations_of("boards", is_repeatable=True)
_read = partial(_operation, verb="GET", role="read")
_steer = partial(_operation, verb="POST", role="operate", answers="")

OPERATIONS: Final = (
    _read("list", Boards.list, path="/boards", answers="boards"),
    _read("get", Boards.get, path="/boards/{name}", answers="board"),
    _steer("configure", Boards.configure, verb="PUT", path="/boards/{name}", answers="board"),
    _steer("remove", Boards.remove, verb="DELETE", path="/boards/{name}"),
    _steer("pause", Boards.pause, path="/boards/{name}/pause"),
    _steer("resume", Boards.resume, path="/boards/{name}/resume"),
    _steer("pause_all", Boards.pause_all, path="/namespace/pause"),
    _steer("resume_all", Boards.resume_all, path="/namespace/resume"),
    _steer(
        "configure_namespace",
        Boards.configure_namespace,
        verb="PUT",
        path="/namespace",
        role="admin",
    ),
)
