"""Agents: registered, heard, found, drained, taken off the roster."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.domain.agent import AgentSpec
from callboard.operations.operation import operations_of
from callboard.services.agents import Agents

_operation = operations_of("agents", is_repeatable=True)
_read = partial(_operation, verb="GET", role="read")
_work = partial(_operation, verb="POST", role="work")
_steer = partial(_operation, verb="POST", role="operate")

_ONE: Final = "/agents/{agent}"

OPERATIONS: Final = (
    _work(
        "register",
        Agents.register,
        verb="PUT",
        path=_ONE,
        answers="registration",
        types={"agent": str},
        fields=AgentSpec,
        hidden=frozenset({"id"}),
    ),
    # ``GET /agents/{agent}`` is the documented one, in its own shape.
    _read("get", Agents.get, path=f"{_ONE}/state", answers="agent"),
    _read(
        "documents",
        Agents.documents,
        path="/registry/documents",
        answers="agents",
    ),
    _read("list", Agents.list, path="/agents", answers="agents"),
    _operation(
        "discover",
        Agents.discover,
        verb="POST",
        path="/agents/find",
        role="read",
        answers="agents",
    ),
    _read("counts", Agents.counts, path="/registry/counts", answers="counts"),
    _read("census", Agents.census, path="/registry/census", answers="census"),
    _read("tasks", Agents.tasks, path=f"{_ONE}/tasks", answers="tasks"),
    _work("heartbeat", Agents.heartbeat, path=f"{_ONE}/beat", answers="heard"),
    _work("heartbeat_many", Agents.heartbeat_many, path="/agents/beats", answers="heard"),
    _work("report_load", Agents.report_load, path=f"{_ONE}/load", answers="heard"),
    _work("leave", Agents.leave, path=f"{_ONE}/leave", answers="given_back"),
    _steer("drain", Agents.drain, path=f"{_ONE}/drain", answers="previous"),
    _steer("set_status", Agents.set_status, path=f"{_ONE}/declare", answers="previous"),
    _steer("deregister", Agents.deregister, verb="DELETE", path=_ONE, answers="given_back"),
)
