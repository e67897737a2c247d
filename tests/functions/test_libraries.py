"""Function libraries of other releases go when nobody used them for a week."""

from __future__ import annotations

import re
import uuid

import pytest

from callboard.engine.library import library
from tests.functions.support import Stage

pytestmark = pytest.mark.every_engine

OTHER = "#!lua name={name}\nredis.register_function('{name}_f', function() return 1 end)\n"


async def _libraries(stage: Stage, pattern: str) -> int:
    return len(await stage.connection.call("FUNCTION", "LIST", "LIBRARYNAME", pattern))


async def test_a_library_unused_for_a_week_is_deleted_and_ours_is_not(stage: Stage) -> None:
    name = f"callboard_{uuid.uuid4().hex[:10]}"
    await stage.connection.call("FUNCTION", "LOAD", OTHER.format(name=name))
    functions = stage.functions

    at_first = await functions.tidy()
    await stage.advance(6 * 86_400)
    too_early = await functions.tidy()
    await stage.advance(2 * 86_400)
    in_time = await functions.tidy()

    assert name not in [*at_first, *too_early]
    assert name in in_time
    assert await _libraries(stage, name) == 0
    assert await _libraries(stage, library().name) == 1


async def test_a_call_whose_function_was_deleted_loads_it_and_runs(stage: Stage) -> None:
    await stage.connection.call("FUNCTION", "DELETE", library().name)

    reply = await stage.call("namespace_tick", 1_000, 0)

    assert reply.status == "due"


def test_no_two_includes_show_the_same_name_and_all_fit_into_one_chunk() -> None:
    shown = re.findall(r"^local ([\w, ]+)\ndo\n", library().text.decode(), re.MULTILINE)

    names = [name for line in shown for name in line.split(", ")]

    assert len(names) == len(set(names))
    assert 100 < len(names) <= 190
