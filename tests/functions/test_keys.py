"""The key names that Python reads are those that the functions write."""

from __future__ import annotations

import uuid

import pytest

from callboard.engine.keys import Keys
from callboard.engine.library import LUA
from tests.functions.support import Stage

pytestmark = pytest.mark.every_engine

ASK = """
redis.register_function('{name}', function(_, argv)
  local prefix = argv[1]
  local b, d = board_keys(prefix, 'b'), board_keys(prefix, 'default')
  return {{ prefix .. FORMAT, boards_key(prefix), events_key(prefix), events_bell(prefix),
    dispatch_bell(prefix),
    board_bell(prefix, 'b'), b.board, b.heads, b.fair, b.reserved, b.journal,
    held_key(prefix, 'mira'), agent_bell(prefix, 'mira/i1'), b.tasks,
    b.attempts .. 't', b.notes .. 't', b.dead, d.dead,
    completed_channel(prefix), retry_channel(prefix, 'retry_success'), run_keys(prefix, 'r').all,
    run_keys(prefix, 'r').run, error_keys(prefix).counters, error_keys(prefix).correlations,
    error_keys(prefix).task .. 't' .. error_keys(prefix).details,
    error_keys(prefix).task .. 't' .. error_keys(prefix).details .. ':b',
    team_keys(prefix, 't').all, team_keys(prefix, 't').versions,
    flow_keys(prefix).limits, flow_keys(prefix).patterns, recurring_keys(prefix).all,
    lock_keys(prefix).all, lock_keys(prefix).waits, lock_keys(prefix).incidents,
    lock_keys(prefix).lock .. 'r', lock_keys(prefix).bell .. 'c',
    message_keys(prefix, 'm').bell, message_keys(prefix, 'm').broadcast_bell,
    message_keys(prefix, 'm').reply_bell .. 'q',
    context_keys(prefix, 'p').fields, activity_keys(prefix, 'w').shown,
    context_keys(prefix, 'p').channel,
    breaker_keys(prefix, 'c').breaker, breaker_keys(prefix, 'c').channel,
    access_keys(prefix).audit }}
end)
"""


@pytest.mark.parametrize("name", ["", "team"])
async def test_both_sides_build_the_same_names(stage: Stage, name: str) -> None:
    library = f"names_{uuid.uuid4().hex[:10]}"
    text = (LUA / "include" / "keys.lua").read_text() + ASK.format(name=library)
    await stage.connection.call("FUNCTION", "LOAD", f"#!lua name={library}\n{text}")
    keys = Keys(name)

    names = await stage.connection.call("FCALL", library, 1, stage.keys.format, keys.prefix)
    await stage.connection.call("FUNCTION", "DELETE", library)

    assert [raw.decode() for raw in names] == [
        keys.format,
        keys.boards,
        keys.events,
        keys.events_bell,
        keys.dispatch_bell,
        keys.board_bell("b"),
        keys.settings("b"),
        *keys.at_hand("b"),
        keys.journal("b"),
        keys.held("mira"),
        keys.agent_bell("mira", "i1"),
        keys.tasks("b"),
        keys.attempts("b", "t"),
        keys.notes("b", "t"),
        keys.dead_letters("b"),
        keys.dead_letters("default"),
        keys.completed_channel(),
        keys.retry_channel("retry_success"),
        keys.runs,
        keys.run("r"),
        keys.error_counters,
        keys.error_cascades,
        keys.error_details("default", "t"),
        keys.error_details("b", "t"),
        keys.teams,
        keys.team("t"),
        keys.flow_limits,
        keys.flow_patterns,
        keys.recurring,
        keys.locks,
        keys.locks_waits,
        keys.locks_incidents,
        keys.lock("r"),
        keys.locks_bell("c"),
        keys.inbox_bell("m"),
        keys.broadcast_bell(),
        keys.reply_bell("q"),
        keys.context("p"),
        keys.activity("w"),
        keys.context_channel(),
        keys.breaker("c"),
        keys.breaker_channel(),
        keys.audit,
    ]
