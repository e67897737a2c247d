"""What is true of a run: begun whole or not at all, moved by one, ended once, told once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from callboard.domain.run import ENDED, Phase, Run
from callboard.domain.task import TaskSpec, at_ms
from callboard.exceptions import (
    BoardFull,
    EngineError,
    IdConflict,
    IllegalState,
    InvalidArgument,
    LeaseLost,
    Refused,
    RunNotFound,
    TooLarge,
)
from callboard.services.boards import Boards
from callboard.services.runs import RunRecords
from tests.functions.support import MIRA, START_US, Stage, changed, types_of

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000
LIVE = tuple(phase for phase in Phase if phase not in ENDED)
PLANNING, EXECUTION, SYNTHESIS = Phase.PLANNING, Phase.EXECUTION, Phase.SYNTHESIS


@pytest.fixture
def records(stage: Stage) -> RunRecords:
    return RunRecords(stage.namespace)


def lead(task_id: str, **fields: Any) -> TaskSpec:
    return TaskSpec(id=task_id, kind="run.survey", **fields)


async def begin(records: RunRecords, run: str = "r", **fields: Any) -> tuple[Run, bool]:
    given: dict[str, Any] = {
        "team": "survey",
        "version": 3,
        "request": "Look at src",
        "variables": {"MODEL": "small"},
        "document": {"team": {}, "agents": {}},
        "timeout_seconds": 60,
        "keep_seconds": 86_400,
        "concurrency": 4,
        "claims_most": 100,
        "lead_spec": lead(run),
        "by": "ann",
        "host": "here",
        "folder": "/work",
    }
    return await records.create(run, **{**given, **fields})


async def end(records: RunRecords, to: Phase = Phase.FAILED, generation: int = 1) -> None:
    await records.move("r", from_=LIVE, to=to, generation=generation)


async def own_events(stage: Stage) -> list[str]:
    return [name for name in types_of(await stage.news()) if name.startswith("run:")]


async def settings(stage: Stage, board: str) -> dict[str, str]:
    raw = await stage.raw("HGETALL", f"tasks:{board}:board")
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


# Beginning


@pytest.mark.parametrize("other", [{"team": "other"}, {"request": "Look elsewhere"}])
async def test_an_id_that_another_run_has_is_refused(
    stage: Stage, records: RunRecords, other: dict[str, Any]
) -> None:
    await begin(records)
    before = await stage.dump()

    with pytest.raises(IdConflict, match="Run id 'r' is taken"):
        await begin(records, **other)

    assert await stage.dump() == before


async def test_an_id_that_a_board_has_is_refused(stage: Stage, records: RunRecords) -> None:
    await stage.submit("t", board="r")
    before = await stage.dump()

    with pytest.raises(IdConflict):
        await begin(records)

    assert await stage.dump() == before


@pytest.mark.parametrize("payload", [None, 1])
async def test_an_id_whose_lead_is_known_from_elsewhere_is_refused(
    stage: Stage, records: RunRecords, payload: Any
) -> None:
    await stage.submit(lead("r"), board="runs")
    before = await stage.dump()

    with pytest.raises(IdConflict):
        await begin(records, lead_spec=lead("r", payload=payload))

    assert await stage.dump() == before


async def test_a_run_without_room_for_its_lead_leaves_nothing(
    stage: Stage, records: RunRecords
) -> None:
    await stage.configure("runs", limit=1)
    await begin(records, "first")
    before = await stage.dump()

    with pytest.raises(BoardFull):
        await begin(records)

    assert await stage.dump() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": "runs"},
        {"run": "no name"},
        {"version": 0},
        {"timeout_seconds": 0},
        {"keep_seconds": -1},
        {"concurrency": 0},
        {"claims_most": -1},
        {"request": "\ud800"},
        {"variables": ["MODEL"]},
        {"variables": {"MODEL": 1}},
        {"lead_spec": TaskSpec(kind="run.survey")},
        {"lead_spec": lead("r", depends_on=["t"])},
        {"lead_spec": lead("r", unique="u")},
    ],
    ids=str,
)
async def test_what_no_run_can_have_is_refused_at_the_edge(
    stage: Stage, records: RunRecords, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await begin(records, **wrong)

    assert await stage.dump() == before


async def test_a_request_of_more_than_a_mebibyte_is_refused(records: RunRecords) -> None:
    with pytest.raises(TooLarge):
        await begin(records, request="x" * 1_048_577)


async def test_a_run_begins_with_record_board_and_lead(stage: Stage, records: RunRecords) -> None:
    run, existed = await begin(records)

    assert not existed
    assert run == Run(
        id="r",
        team="survey",
        version=3,
        request="Look at src",
        phase=PLANNING,
        variables={"MODEL": "small"},
        created_at=at_ms(START_MS),
        created_by="ann",
        deadline_at=at_ms(START_MS + 60_000),
        host="here",
        folder="/work",
    )
    own = await settings(stage, "r")
    assert own == {
        "step": "60000000",
        "created": str(START_MS),
        "journal": "1",
        "finished_for": "31536000000",
        "dead_for": "31536000000",
        "finished_most": "100000000",
        "concurrency": "4",
        "claims_most": "100",
    }
    leads = await settings(stage, "runs")
    assert (leads["poison"], leads["crashes"]) == ("10", "20")
    assert (await stage.task("r", board="runs")).kind == "run.survey"


async def test_the_board_of_a_run_is_swept_from_its_beginning(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)

    assert set(await stage.raw("ZRANGE", "boards:due", 0, -1)) == {b"r", b"runs"}


async def test_a_run_without_limits_has_none_on_its_board(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records, concurrency=None, claims_most=None)

    assert {"concurrency", "claims_most"}.isdisjoint(await settings(stage, "r"))


async def test_settings_of_the_board_of_leads_stay_as_somebody_set_them(
    stage: Stage, records: RunRecords
) -> None:
    await stage.configure("runs", poison=4)

    await begin(records)

    assert (await settings(stage, "runs"))["poison"] == "4"


async def test_beginning_a_run_again_leaves_it_alone(stage: Stage, records: RunRecords) -> None:
    await begin(records)
    await records.move("r", from_=[PLANNING], to=EXECUTION, generation=1)
    before = await stage.dump()

    run, existed = await begin(records, version=4)

    assert existed
    assert (run.phase, run.version) == (EXECUTION, 3)
    assert await stage.dump() == before


async def test_of_many_that_begin_a_run_at_once_one_does(stage: Stage, records: RunRecords) -> None:
    answers = await asyncio.gather(*(begin(records) for _ in range(8)))

    assert sorted(existed for _, existed in answers) == [False] + [True] * 7
    assert await own_events(stage) == ["run:created"]


# Reading


async def test_a_run_that_is_not_there_is_not_found(records: RunRecords) -> None:
    for call in (
        records.get("r"),
        records.move("r", from_=LIVE, to=EXECUTION, generation=1),
        records.pause("r"),
        records.resume("r"),
        records.reopen("r", generation=1, timeout_seconds=1, lead_spec=lead("r.2")),
        records.tell("r", kind="x", key="k"),
        records.remove("r"),
    ):
        with pytest.raises(RunNotFound, match="No run 'r'"):
            await call


@pytest.mark.parametrize("limit", [0, 1_001, True])
async def test_a_list_of_no_length_is_refused(records: RunRecords, limit: int) -> None:
    with pytest.raises(InvalidArgument):
        await records.list(limit=limit)


@pytest.mark.parametrize("phases", ["done", ["over"]])
async def test_what_is_no_phase_is_refused(stage: Stage, records: RunRecords, phases: Any) -> None:
    await begin(records)
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await records.list(phases=phases)
    with pytest.raises(InvalidArgument):
        await records.move("r", from_=phases, to=EXECUTION, generation=1)
    with pytest.raises(InvalidArgument, match="use planning, execution"):
        await records.move("r", from_=LIVE, to="over", generation=1)  # type: ignore[arg-type]

    assert await stage.dump() == before


async def test_runs_are_listed_newest_first_page_by_page(stage: Stage, records: RunRecords) -> None:
    for number in range(130):
        stage.now += 1_000
        await begin(records, f"r{number}", team="few" if number % 50 == 0 else "many")
    await records.move("r5", from_=LIVE, to=Phase.DONE, generation=1)

    newest = await records.list(limit=3)
    few = await records.list(team="few", limit=2)
    all_of_few = await records.list(team="few")
    ended = await records.list(phases=[Phase.DONE, Phase.FAILED])
    everything = await records.list(limit=1_000)

    assert [run.id for run in newest] == ["r129", "r128", "r127"]
    assert [run.id for run in few] == ["r100", "r50"]
    assert [run.id for run in all_of_few] == ["r100", "r50", "r0"]
    assert [run.id for run in ended] == ["r5"]
    assert [run.id for run in everything] == [f"r{number}" for number in range(129, -1, -1)]


# Moving


@pytest.mark.parametrize(
    ("from_", "generation"), [([EXECUTION, SYNTHESIS], 1), ([PLANNING], 2), ([], 1)]
)
async def test_a_run_that_stands_elsewhere_is_not_moved(
    stage: Stage, records: RunRecords, from_: list[Phase], generation: int
) -> None:
    await begin(records)
    before = await stage.dump()

    with pytest.raises(IllegalState) as refusal:
        await records.move("r", from_=from_, to=SYNTHESIS, generation=generation)

    assert refusal.value.details == {"run": "r", "phase": "planning", "generation": 1}
    assert await stage.dump() == before


async def test_a_field_that_does_not_move_with_a_run_is_refused(records: RunRecords) -> None:
    await begin(records)

    with pytest.raises(InvalidArgument, match="use counts, folder"):
        await records.move("r", from_=LIVE, to=EXECUTION, generation=1, fields={"deadline_at": "1"})


async def test_a_move_sets_phase_and_fields_together(stage: Stage, records: RunRecords) -> None:
    await begin(records)

    after = await records.move(
        "r",
        from_=[PLANNING],
        to=EXECUTION,
        generation=1,
        fields={"round": "2", "planning": "no_progress", "counts": '{"created":7}'},
        by="lead",
    )

    run = await records.get("r")
    assert after is EXECUTION
    assert (run.phase, run.round, run.planning) == (EXECUTION, 2, "no_progress")
    assert run.counts == {"created": 7}
    event = (await stage.news())[-1]
    assert (event.type, event.board, event.by) == ("run:phase", "r", "lead")
    assert [(fact.id, fact.state, fact.extra) for fact in event.facts] == [
        ("r", "execution", "1|2|")
    ]


async def test_an_empty_field_is_taken_away(stage: Stage, records: RunRecords) -> None:
    await begin(records)
    await records.move("r", from_=LIVE, to=PLANNING, generation=1, fields={"planning": "why"})

    await records.move("r", from_=LIVE, to=PLANNING, generation=1, fields={"planning": ""})

    assert (await records.get("r")).planning == ""
    assert await stage.raw("HEXISTS", "run:r", "planning") == 0


async def test_fields_set_where_a_run_stands_are_no_news(stage: Stage, records: RunRecords) -> None:
    await begin(records)

    await records.move("r", from_=LIVE, to=PLANNING, generation=1, fields={"round": "1"})

    assert (await records.get("r")).round == 1
    assert await own_events(stage) == ["run:created"]


async def test_of_many_movers_one_moves_and_the_others_are_told_where_it_stands(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)

    answers = await asyncio.gather(
        *(records.move("r", from_=[PLANNING], to=EXECUTION, generation=1) for _ in range(8)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, IllegalState)]
    assert [answer for answer in answers if answer is EXECUTION] == [EXECUTION]
    assert [answer.details["phase"] for answer in refused] == ["execution"] * 7
    assert await own_events(stage) == ["run:created", "run:phase"]


async def test_a_move_whose_reply_was_lost_is_known_again(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    call = ("run_move", "r", "lead", "op", 1, 0, "planning", "execution", "round", "1")

    first, again = await stage.call(*call), await stage.call(*call)

    assert [(reply.status, reply.facts) for reply in (first, again)] == [
        ("ok", ["execution"]),
        ("ok", ["execution"]),
    ]
    assert await own_events(stage) == ["run:created", "run:phase"]


# Ending


async def test_a_run_that_ends_closes_its_board_and_lifts_its_pause(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await records.pause("r")
    stage.now += 5_000_000

    await records.move(
        "r", from_=LIVE, to=Phase.CANCELLED, generation=1, fields={"reason": "enough"}
    )

    run = await records.get("r")
    assert (run.phase, run.reason, run.is_paused) == (Phase.CANCELLED, "enough", False)
    assert run.ended_at == at_ms(START_MS + 5_000)
    own = await settings(stage, "r")
    assert own["closed"] == "1"
    assert "paused" not in own


@pytest.mark.parametrize("ended", sorted(ENDED))
@pytest.mark.parametrize("to", [EXECUTION, Phase.DONE, Phase.FAILED, Phase.CANCELLED])
async def test_no_move_leaves_an_end(
    stage: Stage, records: RunRecords, ended: Phase, to: Phase
) -> None:
    await begin(records)
    await end(records, ended)
    stage.now += 1_000_000
    before = await stage.dump()

    if to is ended:
        await records.move("r", from_=[ended], to=to, generation=1, fields={"counts": "{}"})
    else:
        with pytest.raises(IllegalState):
            await records.move("r", from_=[ended], to=to, generation=1)

    assert (await records.get("r")).ended_at == at_ms(START_MS)
    assert changed(before, await stage.dump()) <= {"run:r"}


async def test_a_reason_of_several_lines_is_one_line_of_news(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)

    await records.move(
        "r", from_=LIVE, to=Phase.FAILED, generation=1, fields={"reason": "a\nb|c|d\r\ne"}
    )

    assert (await records.get("r")).reason == "a\nb|c|d\r\ne"
    assert (await stage.news())[-1].facts[0].extra == "1|0|a b|c|d  e"


# Pausing


async def test_a_run_that_has_ended_is_not_paused(stage: Stage, records: RunRecords) -> None:
    await begin(records)
    await end(records)
    before = await stage.dump()

    with pytest.raises(IllegalState):
        await records.pause("r")

    assert await stage.dump() == before


async def test_a_paused_run_gives_out_no_tasks_and_its_time_stands_still(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await stage.submit("t", board="r")

    paused = await records.pause("r", by="ann")
    while_paused = (await stage.claim(board="r")).status
    stage.now += 7_000_000
    resumed = await records.resume("r", by="ann")

    assert (paused.is_paused, paused.deadline_at) == (True, at_ms(START_MS + 60_000))
    assert while_paused == "paused"
    assert (resumed.is_paused, resumed.deadline_at) == (False, at_ms(START_MS + 67_000))
    assert (await stage.claim(board="r")).ids == ["t"]


async def test_pausing_and_resuming_again_does_nothing(stage: Stage, records: RunRecords) -> None:
    await begin(records)

    await records.resume("r")
    await records.pause("r")
    stage.now += 3_000_000
    await records.pause("r")
    stage.now += 3_000_000
    await records.resume("r")
    await records.resume("r")

    assert (await records.get("r")).deadline_at == at_ms(START_MS + 66_000)
    assert await own_events(stage) == ["run:created", "run:paused", "run:unpaused"]


@pytest.mark.parametrize("how", ["resume", "reopen"])
async def test_those_that_wait_for_a_run_are_rung_when_it_goes_on(
    stage: Stage, records: RunRecords, how: str
) -> None:
    await begin(records)
    await stage.claim(MIRA, board="r", wait=3_600)
    if how == "resume":
        await records.pause("r")
    else:
        await end(records)
    bell = await stage.connection.subscribe(stage.keys.agent_bell(MIRA, "i1"))

    if how == "resume":
        await records.resume("r")
    else:
        await records.reopen("r", generation=1, timeout_seconds=5, lead_spec=lead("r.2"))

    assert await bell.get(10) == (stage.keys.agent_bell(MIRA, "i1"), b"r")
    bell.close()


# Reopening


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_run_that_goes_on_is_not_reopened(
    stage: Stage, records: RunRecords, generation: int
) -> None:
    await begin(records)
    if generation == 2:  # It has ended, in another generation.
        await end(records)
    before = await stage.dump()

    with pytest.raises(IllegalState):
        await records.reopen("r", generation=generation, timeout_seconds=5, lead_spec=lead("r.2"))

    assert await stage.dump() == before


async def test_a_lead_that_was_there_before_reopens_nothing(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await end(records)
    before = await stage.dump()

    with pytest.raises(IdConflict):
        await records.reopen("r", generation=1, timeout_seconds=5, lead_spec=lead("r"))

    assert await stage.dump() == before


async def test_a_run_whose_board_is_gone_is_not_reopened(stage: Stage, records: RunRecords) -> None:
    await begin(records)
    await end(records)
    await stage.raw("DEL", "tasks:r:board")

    with pytest.raises(RunNotFound):
        await records.reopen("r", generation=1, timeout_seconds=5, lead_spec=lead("r.2"))


async def test_a_reopened_run_is_in_execution_with_another_lead_and_an_open_board(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await records.move("r", from_=LIVE, to=Phase.FAILED, generation=1, fields={"reason": "x"})
    stage.now += 100_000_000

    run = await records.reopen("r", generation=1, timeout_seconds=5, lead_spec=lead("r.2"))

    assert (run.phase, run.generation, run.reason, run.ended_at) == (EXECUTION, 2, "", None)
    assert run.deadline_at == at_ms(START_MS + 105_000)
    assert "closed" not in await settings(stage, "r")
    assert (await stage.submit("t", board="r")).status == "ok"
    assert (await stage.task("r.2", board="runs")).status == "pending"
    event = next(event for event in await stage.news() if event.type == "run:reopened")
    assert (event.board, event.facts[0].state, event.facts[0].extra) == ("r", "execution", "2")


async def test_of_three_that_reopen_a_run_at_once_one_does(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await end(records)

    answers = await asyncio.gather(
        *(
            records.reopen("r", generation=1, timeout_seconds=5, lead_spec=lead("r.2"))
            for _ in range(3)
        ),
        return_exceptions=True,
    )

    assert sorted(type(answer).__name__ for answer in answers) == [
        "IllegalState",
        "IllegalState",
        "Run",
    ]
    assert (await own_events(stage)).count("run:reopened") == 1


async def test_a_reopening_whose_reply_was_lost_is_known_again(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await end(records)
    call = ("run_reopen", "r", "ann", "op", 1, 5_000, "runs", 0, "r.2", '{"kind":"k"}')

    replies = [await stage.call(*call, "||k;;;;|0||", "", "") for _ in range(2)]

    assert [(reply.status, reply.facts) for reply in replies] == [
        ("ok", ["2", "", ""]),
        ("ok", ["2", "more", ""]),
    ]
    assert (await own_events(stage)).count("run:reopened") == 1


# Telling


@pytest.mark.parametrize(
    "wrong", [{"kind": "two words"}, {"key": ""}, {"key": "k" * 257}, {"value": "x" * 16_384}]
)
async def test_what_cannot_be_told_is_refused_at_the_edge(
    stage: Stage, records: RunRecords, wrong: dict[str, Any]
) -> None:
    await begin(records)
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await records.tell("r", **{"kind": "x", "key": "k", **wrong})

    assert await stage.dump() == before


async def test_a_thing_is_told_once_for_each_key(stage: Stage, records: RunRecords) -> None:
    await begin(records)

    answers = [
        await records.tell("r", kind="stalled", key="1", value={"why": "a|b\nc"}),
        await records.tell("r", kind="stalled", key="1", value={"why": "other"}),
        await records.tell("r", kind="resumed", key="2", value=msgspec.Raw(b'{\n"n": 1}')),
    ]

    assert answers == [True, False, True]
    told = [event for event in await stage.news() if event.type == "run:told"]
    assert [fact.extra for event in told for fact in event.facts] == [
        'stalled|{"why":"a|b\\nc"}',
        'resumed|{"n":1}',
    ]


# Removing


@pytest.mark.parametrize("phase", LIVE)
async def test_a_run_that_has_not_ended_is_not_removed(
    stage: Stage, records: RunRecords, phase: Phase
) -> None:
    await begin(records)
    await records.move("r", from_=LIVE, to=phase, generation=1)
    before = await stage.dump()

    with pytest.raises(IllegalState):
        await records.remove("r")

    assert await stage.dump() == before


async def test_nothing_is_left_of_a_run_that_was_removed(stage: Stage, records: RunRecords) -> None:
    await begin(records)
    await records.tell("r", kind="x", key="k")
    await end(records)
    await stage.call("task_cancel", "runs", "ann", "over", 1, "r", "")
    await Boards(stage.namespace).remove("r")
    await Boards(stage.namespace).remove("runs")

    await records.remove("r", by="ann")

    names = {name for name in await stage.key_names() if not name.startswith("agent")}
    assert names == {"callboard:format", "events", "metrics:totals"}
    event = (await stage.news())[-1]
    assert (event.type, event.board, event.by) == ("run:removed", "r", "ann")
    assert await records.list() == []


async def test_an_ended_run_is_due_when_it_was_kept_for_as_long_as_it_should_be(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await end(records)
    await stage.advance(86_399.999)
    assert await records.due() == []

    await stage.advance(0.001)
    assert await records.due() == ["r"]


async def test_a_run_that_was_given_out_and_is_not_done_is_due_again_in_a_minute(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await end(records)
    await stage.advance(86_400)
    assert await records.due() == ["r"]
    await stage.advance(59.999)
    assert await records.due() == []

    await stage.advance(0.001)
    assert await records.due() == ["r"]


async def test_a_run_that_nobody_ends_is_due_half_a_minute_after_its_time(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await stage.advance(89.999)
    assert await records.due() == []

    await stage.advance(0.001)
    assert await records.due() == ["r"]


async def test_a_paused_run_is_not_due_and_later_once_it_goes_on(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await stage.advance(20)
    await records.pause("r")
    await stage.advance(1_000)
    assert await records.due() == []

    await records.resume("r")
    await stage.advance(69.999)
    assert await records.due() == []

    await stage.advance(0.001)
    assert await records.due() == ["r"]


async def test_a_run_that_was_reopened_is_not_deleted_for_its_earlier_end(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await end(records)
    await records.reopen("r", generation=1, timeout_seconds=200_000, lead_spec=lead("r.2"))
    await stage.advance(100_000)

    assert await records.due() == []


async def test_what_ended_a_generation_does_not_cancel_the_next(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await stage.submit("t", board="r")
    await end(records)
    await records.wind_up("r", ["t"], generation=1, reason="over")
    await records.reopen("r", generation=1, timeout_seconds=60, lead_spec=lead("r.2"), ids=["t"])

    with pytest.raises(IllegalState):
        await records.wind_up("r", ["t"], generation=1, reason="over")

    assert (await stage.all_states("r"))["t"] == "pending"
    await end(records, generation=2)
    with pytest.raises(IllegalState):
        await records.wind_up("r", ["t"], generation=1, reason="over")


async def test_a_leader_that_another_has_followed_moves_nothing(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await records.move("r", from_=LIVE, to=EXECUTION, generation=1, fence=7)
    await records.move("r", from_=LIVE, to=EXECUTION, generation=1, fence=9)
    before = await stage.dump()

    with pytest.raises(LeaseLost, match="led by another"):
        await records.move("r", from_=LIVE, to=Phase.REPLANNING, generation=1, fence=7)

    assert changed(before, await stage.dump()) == set()
    await records.move("r", from_=LIVE, to=Phase.CANCELLED, generation=1)


async def test_a_run_with_an_unfinished_task_does_not_go_on_to_its_answer(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await stage.submit("t", board="r")

    with pytest.raises(Refused, match="1 unfinished"):
        await records.move("r", from_=LIVE, to=SYNTHESIS, generation=1)

    assert (await records.get("r")).phase is PLANNING


# The journal, and somebody else's keys


async def test_the_journal_of_a_run_tells_its_life_in_order(
    stage: Stage, records: RunRecords
) -> None:
    await begin(records)
    await records.move("r", from_=LIVE, to=EXECUTION, generation=1)
    await records.pause("r")
    await records.resume("r")
    await records.tell("r", kind="x", key="k")
    await end(records)
    await records.reopen("r", generation=1, timeout_seconds=5, lead_spec=lead("r.2"))

    rows = await stage.raw("XRANGE", "tasks:r:journal", "-", "+")

    kinds = []
    for _, fields in rows:
        pairs = fields if isinstance(fields, dict) else dict(zip(*[iter(fields)] * 2, strict=True))
        kinds.append(pairs[b"type"].decode())
    assert kinds == [
        "board:created",
        "run:created",
        "run:phase",
        "run:paused",
        "run:unpaused",
        "run:told",
        "run:phase",
        "run:reopened",
    ]


Operation = Callable[[RunRecords], Awaitable[Any]]

OPERATIONS: dict[str, tuple[str, Operation]] = {
    "create": ("", begin),
    "move": (
        "live",
        lambda r: r.move("r", from_=LIVE, to=Phase.DONE, generation=1, fields={"round": "1"}),
    ),
    "pause": ("live", lambda r: r.pause("r")),
    "resume": ("paused", lambda r: r.resume("r")),
    "reopen": (
        "ended",
        lambda r: r.reopen("r", generation=1, timeout_seconds=5, lead_spec=lead("r.2")),
    ),
    "tell": ("live", lambda r: r.tell("r", kind="x", key="other")),
    "remove": ("ended", lambda r: r.remove("r")),
}
KEYS = (
    "runs run:r told:r boards boards:due events tasks:r:board tasks:r:journal tasks:r:waiters "
    "tasks:runs tasks:runs:board tasks:runs:state"
).split()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_foreign_value_stops_the_operation_before_its_first_write(
    stage: Stage, records: RunRecords, name: str
) -> None:
    state, operation = OPERATIONS[name]
    for key in KEYS:
        if state:
            await begin(records)
            await records.tell("r", kind="x", key="k")
        if state == "paused":
            await records.pause("r")
        if state == "ended":
            await end(records)
        await stage.raw("DEL", key)
        await stage.raw("SET", key, "not ours")
        before = await stage.dump()

        error = await failure_of(operation(records))

        if error is not None:
            assert isinstance(error, RunNotFound) or "of the wrong type" in error.message
            assert changed(before, await stage.dump()) == set(), key
        if name != "remove" or key not in ("run:r", "told:r"):
            assert await stage.raw("GET", key) == b"not ours", key
        names = await stage.key_names()
        await stage.connection.call("DEL", *(stage.keys.prefix + each for each in names))
        await stage.call("namespace_open", "replication", "incarnation1")


async def failure_of(call: Awaitable[Any]) -> EngineError | RunNotFound | None:
    """What the call ends in; None where it ends well."""
    try:
        await call
    except (EngineError, RunNotFound) as error:
        return error
    return None
