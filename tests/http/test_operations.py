"""The operations of the library over HTTP, as anyone would call them."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callboard.domain.team import parse_team
from callboard.http import polling
from callboard.operations import find
from callboard.operations.examples import EXAMPLES
from tests.http.support import Served, serving

ROOT = Path(__file__).resolve().parents[2]


async def until(look: Callable[[], Awaitable[Any]], is_so: Callable[[Any], bool]) -> Any:
    """Look until it is so; TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while True:
            seen = await look()
            if is_so(seen):
                return seen


async def test_a_task_is_submitted_claimed_completed_and_read(served: Served) -> None:
    await served.ok("PUT", "/agents/mira", {"capabilities": ["code"]})
    task = (await served.ok("POST", "/tasks", {"kind": "greet", "payload": {"n": 1}}))["task"]

    claims = (await served.ok("POST", "/tasks/claim", {"agent": "mira"}))["claims"]
    one = claims["tasks"][0]
    answer = await served.ok(
        "POST", f"/tasks/{task['id']}/complete", {"fence": one["fence"], "result": "hello"}
    )
    read = (await served.ok("GET", f"/tasks/{task['id']}"))["task"]

    assert one["id"] == task["id"]
    assert one["payload"] == {"n": 1}
    assert answer["answer"] == {"id": task["id"], "status": "ok"}
    assert (read["status"], read["result"]) == ("done", "hello")


async def test_an_unknown_field_is_refused_by_name(served: Served) -> None:
    response = await served.call("POST", "/tasks", {"kind": "greet", "prioriti": 3})

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "prioriti"]


async def test_a_missing_task_is_not_found_by_code(served: Served) -> None:
    response = await served.call("GET", "/tasks/nothing")

    assert response.status_code == 404
    assert response.json()["code"] == "task_not_found"
    assert "detail" not in response.json()


async def test_a_board_is_configured_paused_and_removed(served: Served) -> None:
    configured = await served.ok("PUT", "/boards/build", {"settings": {"max_attempts": 5}})
    await served.ok("POST", "/boards/build/tasks", {"kind": "compile", "id": "t-1"})
    await served.ok("POST", "/boards/build/pause")
    paused = await served.ok("GET", "/boards/build")
    await served.ok("POST", "/boards/build/resume", {})
    await served.ok("POST", "/boards/build/tasks/t-1/cancel", {"reason": "moved"})
    listed = await served.ok("GET", "/boards?limit=1")
    removed = await served.ok("DELETE", "/boards/build")

    assert configured["board"]["name"] == "build"
    assert paused["board"]["is_paused"] is True
    assert [one["name"] for one in listed["boards"]] == ["build"]
    assert set(removed) == {"status", "timestamp"}
    assert (await served.call("GET", "/boards/build")).status_code == 404


async def test_a_task_that_failed_for_good_is_read_and_requeued(served: Served) -> None:
    await served.ok("PUT", "/agents/mira", {})
    await served.ok("POST", "/tasks", {"kind": "x", "id": "t-1", "retry": {"max_retries": 0}})
    claims = (await served.ok("POST", "/tasks/claim", {"agent": "mira"}))["claims"]
    fence = claims["tasks"][0]["fence"]
    await served.ok("POST", "/tasks/t-1/fail", {"fence": fence, "error": "It broke."})

    listed = (await served.ok("GET", "/dead-letters"))["dead_letters"]
    task, attempts = (await served.ok("GET", "/dead-letters/t-1"))["dead_letter"]
    answer = (await served.ok("POST", "/dead-letters/t-1/requeue", {}))["answer"]

    assert [one["id"] for one in listed] == ["t-1"]
    assert (task["status"], attempts[0]["error"]["message"]) == ("failed", "It broke.")
    assert answer["status"] == "ok"
    assert (await served.ok("GET", "/dead-letter-count"))["count"] == 0


async def test_an_agent_is_found_drained_and_taken_off_the_roster(served: Served) -> None:
    await served.ok("PUT", "/agents/mira", {"capabilities": ["code"], "labels": {"zone": "a"}})
    await served.ok("PUT", "/agents/noor", {"capabilities": ["text"]})
    heard = await served.ok("POST", "/agents/mira/beat", {"load": {"cpu": 0.5}})
    found = await served.ok("POST", "/agents/find", {"labels": {"zone": "a"}})
    previous = await served.ok("POST", "/agents/mira/drain")
    read = await served.ok("GET", "/agents/mira/state")
    await served.ok("DELETE", "/agents/mira")

    assert heard["heard"]["status"] == "ok"
    assert [one["id"] for one in found["agents"]] == ["mira"]
    assert previous["previous"] == "active"
    assert read["agent"]["load"] == {"cpu": 0.5}
    assert [one["id"] for one in (await served.ok("GET", "/agents"))["agents"]] == ["noor"]


async def test_a_strategy_is_set_and_a_decision_is_told(served: Served) -> None:
    await served.ok("PUT", "/agents/mira", {})
    await served.ok("POST", "/tasks", {"kind": "x", "id": "t-1"})
    await served.ok("PUT", "/scheduler/strategy", {"strategy": "round_robin"})

    decisions = (await served.ok("POST", "/scheduler/assign", {"tasks": ["t-1"]}))["decisions"]
    told = (await served.ok("GET", "/scheduler/tasks/t-1"))["decision"]
    strategy = (await served.ok("GET", "/scheduler/strategy"))["strategy"]

    assert (decisions[0]["agent"], told["agent"], strategy) == ("mira", "mira", "round_robin")


async def test_a_message_is_sent_taken_and_acknowledged(served: Served) -> None:
    body = {"to": ["noor", "mira"], "payload": {"text": "hi"}, "sender": "ann"}
    sent = (await served.ok("POST", "/messages", body))["sent"]
    taken = (await served.ok("POST", "/inboxes/noor/take", {}))["messages"]
    one = taken[0]
    back = await served.ok(
        "POST", "/inboxes/noor/release", {"taken": [[one["id"], one["fence"]]], "unharmed": True}
    )
    again = (await served.ok("POST", "/inboxes/noor/take", {}))["messages"][0]
    renewed = await served.ok(
        "POST", "/inboxes/noor/renew", {"taken": [[again["id"], again["fence"]]], "lease": 60}
    )
    ended = await served.ok(
        "POST", "/inboxes/noor/acknowledge", {"taken": [[again["id"], again["fence"]]]}
    )
    copies = (await served.ok("GET", f"/messages/{one['id']}/copies"))["messages"]

    assert sorted(sent["recipients"]) == ["mira", "noor"]
    assert one["payload"] == {"text": "hi"}
    assert [back["answers"][0]["status"], renewed["answers"][0]["status"]] == ["ok", "ok"]
    assert ended["answers"][0]["status"] == "ok"
    assert {copy["agent"]: copy["status"] for copy in copies} == {
        "mira": "pending",
        "noor": "read",
    }


async def test_a_topic_and_a_role_are_addresses_and_an_unknown_group_is_refused(
    served: Served,
) -> None:
    await served.ok("PUT", "/agents/noor", {"capabilities": ["text"]})
    await served.ok("PUT", "/topics/builds/subscribers/noor", {})
    by_topic = await served.ok("POST", "/messages", {"to": "#builds", "payload": 1})
    by_role = await served.ok("POST", "/messages", {"to": {"capabilities": ["text"]}})
    batch = await served.ok(
        "POST", "/messages/batch", {"specs": [{"to": "#builds"}, {"to": ["noor", "ann"]}]}
    )
    refused = await served.call("POST", "/messages", {"to": "@friends"})

    assert by_topic["sent"]["recipients"] == ["noor"]
    assert by_role["sent"]["recipients"] == ["noor"]
    assert [sorted(one["recipients"]) for one in batch["sent"]] == [["noor"], ["ann", "noor"]]
    assert refused.status_code == 422


async def test_a_request_is_answered_while_its_caller_waits(served: Served) -> None:
    body = {"to": "noor", "payload": "which?", "timeout": 10, "id": "q-1", "sender": "ann"}
    asking = asyncio.create_task(served.ok("POST", "/requests/answered", body))
    taken = (await served.ok("POST", "/inboxes/noor/take", {"poll": 10}))["messages"][0]
    await served.ok(
        "POST",
        "/inboxes/noor/reply",
        {"request_id": "q-1", "payload": "the third", "fence": taken["fence"]},
    )

    reply = (await asking)["reply"]

    assert reply["payload"] == "the third"
    read = await served.ok("GET", "/requests/q-1/reply")
    assert read["reply"]["id"] == reply["id"]


async def test_broadcasts_are_heard_once(served: Served) -> None:
    await served.ok("PUT", "/agents/noor", {})
    await served.ok("POST", "/broadcasts", {"payload": "noon", "sender": "ann"})

    hearing = (await served.ok("POST", "/inboxes/noor/hear", {}))["hearing"]
    place = {"fence": hearing["fence"], "upto": hearing["upto"]}
    await served.ok("POST", "/inboxes/noor/heard", {"hearing": place})

    assert [one["payload"] for one in hearing["messages"]] == ["noon"]
    again = (await served.ok("POST", "/inboxes/noor/hear", {}))["hearing"]
    assert again["messages"] == []


async def test_a_lock_with_a_slash_in_its_name_is_held_shown_and_released(served: Served) -> None:
    body = {"resources": ["file:src/a.py"], "owner": "job-1"}
    lock = (await served.ok("POST", "/locks/acquire", body))["lock"]
    held = await served.call("POST", "/locks/acquire", {**body, "owner": "job-2", "wait": 0})
    shown = (await served.ok("GET", "/locks/file:src%2Fa.py"))["resource"]
    is_held = await served.ok("GET", f"/locks/file:src%2Fa.py/check?fence={lock['fence']}")
    await served.ok("POST", "/locks/renew", {"lock": lock, "lease": 60})
    await served.ok("POST", "/locks/release", {"lock": ["file:src/a.py"], "owner": "job-1"})

    assert (held.status_code, held.json()["code"]) == (409, "lock_held")
    assert shown["holders"][0]["owner"] == "job-1"
    assert is_held["is_held"] is True
    assert (await served.ok("GET", "/locks"))["resources"] == []


async def test_a_wait_for_a_lock_ends_where_its_caller_goes_away(served: Served) -> None:
    body = {"resources": ["build"], "owner": "job-1"}
    await served.ok("POST", "/locks/acquire", body)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    text = msgspec.json.encode({**body, "owner": "job-2", "wait": 60})
    writer.write(
        b"POST /locks/acquire HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
        % (len(text), text)
    )
    await until(lambda: served.ok("GET", "/waits"), lambda seen: len(seen["waits"]) == 1)

    writer.close()

    await until(lambda: served.ok("GET", "/waits"), lambda seen: seen["waits"] == [])
    await served.ok("POST", "/locks/release-all", {"owner": "job-1"})
    assert (await served.ok("GET", "/locks/build"))["resource"]["holders"] == []


async def test_a_context_is_written_read_and_compared(served: Served) -> None:
    fields = {"branch": "main", "build": 41}
    written = (await served.ok("POST", "/contexts/rel/fields", {"fields": fields}))["written"]
    value = (await served.ok("POST", "/contexts/rel/increment", {"field": "build"}))["value"]
    late = await served.call(
        "POST", "/contexts/rel/fields", {"fields": {"x": 1}, "if_rev": written["rev"]}
    )
    read = (await served.ok("GET", "/contexts/rel?fields=build&fields=branch"))["context"]
    many = await served.ok("POST", "/contexts/read", {"projects": ["none", "rel"]})
    await served.ok("PUT", "/agents/mira", {"agent_type": "coder"})
    await served.ok("PUT", "/agents/mira/activity", {"status": "idle"})
    idle = await served.ok("GET", "/activities/coder/available")

    assert value == 42
    assert (late.status_code, late.json()["code"]) == (409, "rev_conflict")
    assert read["fields"] == {"branch": "main", "build": 42}
    assert [one is None for one in many["contexts"]] == [True, False]
    assert idle["agents"] == ["mira"]


async def test_a_conflict_is_reported_voted_on_and_decided(served: Served) -> None:
    body = {
        "kind": "context",
        "subject": "rel",
        "about": "branch",
        "parties": ["mira", {"name": "noor", "value": "next"}],
        "id": "c-1",
    }
    await served.ok("POST", "/contexts/rel/fields", {"fields": {"branch": "main"}})
    conflict = (await served.ok("POST", "/conflicts", body))["conflict"]
    await served.ok(
        "POST", "/conflicts/c-1/ballot", {"members": ["ann", "bo"], "quorum": 1.0, "deadline": 60}
    )
    for voter in ("ann", "bo"):
        await served.ok("POST", "/conflicts/c-1/votes", {"voter": voter, "candidate": "noor"})
    read = (await served.ok("GET", "/conflicts/c-1"))["conflict"]

    assert conflict["status"] == "open"
    assert read["resolution"]["winner"] == "noor"
    assert (await served.ok("GET", "/resolutions"))["conflicts"][0]["id"] == "c-1"
    assert (await served.ok("GET", "/resolutions/stats"))["stats"]["resolved"] == 1


async def test_a_breaker_opens_after_its_failures_and_is_reset(served: Served) -> None:
    path = "/breakers/search-api"
    await served.ok("PUT", path, {"policy": {"failure_threshold": 1, "open_for": 60}})
    permit = (await served.ok("POST", f"{path}/admit"))["permit"]
    counts = await served.ok("POST", "/permits/record", {"permit": permit, "outcome": "failure"})
    refused = await served.call("POST", f"{path}/admit")
    await served.ok("POST", f"{path}/reset")

    assert counts["counts"] is True
    assert (refused.status_code, refused.json()["code"]) == (409, "breaker_open")
    assert (await served.ok("GET", path))["breaker"]["state"] == "closed"


async def test_a_key_of_tasks_is_limited_and_freed(served: Served) -> None:
    limited = (await served.ok("PUT", "/flow/customer-7", {"concurrency": 2}))["key"]
    await served.ok("PUT", "/flow/free", {"concurrency": "unlimited"})
    free = (await served.ok("GET", "/flow/free"))["key"]
    await served.ok("POST", "/flow/customer-7/pause")
    paused = (await served.ok("GET", "/flow/customer-7"))["key"]
    await served.ok("DELETE", "/flow/customer-7")

    assert limited["own"]["concurrency"] == 2
    assert free["own"]["concurrency"] == "unlimited"
    assert paused["holds"]["is_paused"] is True
    assert [one["key"] for one in (await served.ok("GET", "/flow"))["keys"]] == ["free"]


async def test_a_recurring_task_is_made_shown_and_triggered(served: Served) -> None:
    body = {"kind": "report", "cron": "0 7 * * *", "timezone": "Europe/Berlin", "priority": "high"}
    made = (await served.ok("PUT", "/recurring/daily", body))["recurring"]
    ticks = (await served.ok("GET", "/recurring/daily/next?count=2"))["ticks"]
    task_id = (await served.ok("POST", "/recurring/daily/trigger"))["task_id"]
    await served.ok("DELETE", "/recurring/daily")

    assert made["name"] == "daily"
    assert len(ticks) == 2
    assert (await served.ok("GET", f"/tasks/{task_id}"))["task"]["kind"] == "report"
    assert (await served.ok("GET", "/recurring"))["recurring"] == []


async def test_errors_are_recorded_grouped_and_resolved(served: Served) -> None:
    body = {"error": "TimeoutError", "message": "No answer in 5 s.", "agent": "mira"}
    recorded = (await served.ok("POST", "/errors", body))["recorded"]
    await served.ok("POST", "/errors/batch", {"reports": [{"name": "ValueError"}]})
    listed = (await served.ok("GET", "/errors?agent=mira"))["errors"]
    group = (
        await served.ok("POST", f"/errors/groups/{recorded['fingerprint']}/resolve", {"note": "ok"})
    )["group"]

    assert [one["error"]["name"] for one in listed] == ["TimeoutError"]
    assert group["state"] == "resolved"
    assert len((await served.ok("GET", "/errors/groups"))["groups"]) == 2


async def test_metrics_are_recorded_and_averaged_by_tags(served: Served) -> None:
    for value in (1.0, 3.0):
        await served.ok("POST", "/series/loss/points", {"value": value, "tags": {"run": "a"}})
    await served.ok("POST", "/trainings/voice/steps", {"step": 1, "values": {"wer": 0.2}})

    points = await served.ok("GET", '/series/loss/points?tags={"run":"a"}')
    means = await served.ok("GET", '/series/loss/averages?window=2&tags={"run":"a"}')
    training = await served.ok("GET", "/trainings/voice/points?name=wer")

    assert [one["value"] for one in points["points"]] == [1.0, 3.0]
    assert means["means"][-1]["mean"] == 2.0
    assert training["points"][0]["step"] == 1
    assert (await served.ok("GET", "/series"))["series"][0]["tags"] == {"run": "a"}


async def test_events_are_read_from_a_cursor(served: Served) -> None:
    cursor = (await served.ok("GET", "/events/cursor"))["cursor"]
    await served.ok("POST", "/tasks", {"kind": "x", "id": "t-1"})

    page = (await served.ok("GET", f"/events/page?cursor={cursor}&types=task:*"))["page"]

    assert page["events"][0]["facts"][0]["id"] == "t-1"
    again = (await served.ok("GET", f"/events/page?cursor={page['cursor']}"))["page"]
    assert again["events"] == []


async def test_a_team_is_stored_and_a_run_of_it_started_and_cancelled(served: Served) -> None:
    document = EXAMPLES["teams.add"]["document"]
    added = (await served.ok("PUT", "/teams/echo", {"document": document}))["team"]
    asked = {"team": "echo", "request": "hello", "id": "r-1"}
    started = (await served.ok("POST", "/runs", asked))["run"]
    again = (await served.ok("POST", "/runs", asked))["run"]
    cancelled = (await served.ok("POST", "/runs/r-1/cancel", {"reason": "enough"}))["run"]
    ended = (await served.ok("GET", "/runs/r-1/wait?timeout=10"))["run"]

    assert (added["version"], added["document"]) == (1, document)
    assert [one["name"] for one in (await served.ok("GET", "/teams"))["teams"]] == ["echo"]
    assert (started["id"], started["team"], started["request"]) == ("r-1", "echo", "hello")
    assert again["id"] == "r-1"
    assert cancelled["id"] == "r-1"
    assert ended["phase"] == "cancelled"


async def test_a_run_of_a_team_that_is_none_is_refused_and_none_is_kept(served: Served) -> None:
    document = {"name": "echo", "agents": {"one": {"kind": "command", "command": ["cat"]}}}
    await served.ok("PUT", "/teams/echo", {"document": document})

    started = await served.call("POST", "/runs", {"team": "echo", "request": "hello"})

    assert (started.status_code, started.json()["code"]) == (422, "invalid_team")
    assert (await served.ok("GET", "/runs"))["runs"] == []


def test_the_example_of_a_team_is_one() -> None:
    team = parse_team("summary", EXAMPLES["teams.add"]["document"])

    assert (team.planner, team.workers) == ("planner", ("reader",))


async def test_what_is_asked_for_again_is_read_once_and_an_answer_has_a_bound(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await served.ok("POST", "/tasks", {"kind": "x", "id": f"t-{number}", "payload": "x" * 500})
    await served.ok("POST", "/contexts/p/fields", {"fields": {"text": "x" * 500}})
    found = await served.ok("POST", "/tasks/read", {"task_ids": ["t-1", "none", "t-1"]})
    monkeypatch.setattr("callboard.http.binding.ANSWER_BYTES_MAX", 4_000)

    many = await served.call("POST", "/tasks/read", {"task_ids": ["t-1"] * 20})
    contexts = await served.call("POST", "/contexts/read", {"projects": ["p"] * 20})
    listed = await served.call("GET", "/tasks?limit=100")
    few = await served.ok("GET", "/tasks?limit=2")
    await served.ok("PUT", "/agents/mira", {"max_concurrent": 20})
    claims = (await served.ok("POST", "/tasks/claim", {"agent": "mira", "limit": 20}))["claims"]

    assert [one and one["id"] for one in found["tasks"]] == ["t-1", None, "t-1"]
    for refused in (many, contexts, listed):
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        assert refused.json()["details"]["limit"] == 4_000
    assert len(few["page"]["tasks"]) == 2
    assert len(claims["tasks"]) == 20, "what was done is told, however long it is"


async def test_a_key_is_made_shown_without_its_secret_and_revoked(served: Served) -> None:
    issued = (await served.ok("POST", "/keys", {"name": "ci", "role": "read"}))["issued"]
    key_id = issued["key"]["id"]
    listed = await served.call("GET", "/keys")
    revoked = (await served.ok("DELETE", f"/keys/{key_id}"))["key"]

    assert issued["secret"].startswith(f"cb_{key_id}_")
    assert key_id in listed.text and issued["secret"] not in listed.text
    assert revoked["status"] == "revoked"


async def test_a_claim_is_held_until_there_is_work(served: Served) -> None:
    await served.ok("PUT", "/agents/mira", {})
    await served.ok("PUT", "/boards/default", {"settings": {}})
    asking = asyncio.create_task(
        served.ok("POST", "/tasks/claim", {"agent": "mira", "poll": 20, "limit": 2})
    )
    await until(
        lambda: served.ok("GET", "/boards/default"),
        lambda seen: seen["board"]["counts"]["waiters"] == 1,
    )
    assert not asking.done()

    task = (await served.ok("POST", "/tasks", {"kind": "greet"}))["task"]
    claims = (await asking)["claims"]

    assert [one["id"] for one in claims["tasks"]] == [task["id"]]


async def test_held_claims_of_two_agents_share_what_a_dispatcher_gives_out(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace, dispatches=True) as served:
        for agent in ("mira", "noor"):
            await served.ok("PUT", f"/agents/{agent}", {"max_concurrent": 5})
        done: dict[str, set[str]] = {"mira": set(), "noor": set()}

        async def work(agent: str) -> None:
            while sum(map(len, done.values())) < 10:
                body = {"agent": agent, "poll": 1}
                for one in (await served.ok("POST", "/tasks/claim", body))["claims"]["tasks"]:
                    fence = {"fence": one["fence"]}
                    await served.ok("POST", f"/tasks/{one['id']}/complete", fence)
                    done[agent].add(one["id"])

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for agent in done:
                group.create_task(work(agent))
            specs = [{"kind": "x", "id": f"t-{n}"} for n in range(10)]
            await served.ok("POST", "/tasks/batch", {"specs": specs})

    assert done["mira"] | done["noor"] == {f"t-{n}" for n in range(10)}
    assert done["mira"] and done["noor"]


async def test_nothing_is_kept_for_one_who_went_away_from_a_held_claim(served: Served) -> None:
    await served.ok("PUT", "/agents/mira", {})
    await served.ok("PUT", "/boards/default", {"settings": {}})
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    text = b'{"agent":"mira","poll":60,"wait":600}'
    writer.write(
        b"POST /tasks/claim HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
        % (len(text), text)
    )
    await until(
        lambda: served.ok("GET", "/boards/default"),
        lambda seen: seen["board"]["counts"]["waiters"] == 1,
    )

    writer.close()

    await until(
        lambda: served.ok("GET", "/boards/default"),
        lambda seen: seen["board"]["counts"]["waiters"] == 0,
    )
    await served.ok("POST", "/tasks", {"kind": "x", "id": "t-1"})
    assert (await served.ok("GET", "/tasks/t-1"))["task"]["status"] == "pending"


async def test_what_a_claim_brought_for_one_who_went_away_goes_back(served: Served) -> None:
    cb = await served.coordinator.board(served.coordinator.settings.namespace)
    await cb.agents.register("mira")
    await cb.tasks.submit("x", id="t-1")
    is_asked = asyncio.Event()

    async def ask(_: Any) -> Any:
        claims = await cb.tasks.claim("mira")
        is_asked.set()
        await asyncio.sleep(0)
        return claims

    holding = asyncio.ensure_future(
        polling.held(find("tasks.claim"), cb, cb.tasks, {"agent": "mira"}, 60, ask)
    )
    await is_asked.wait()
    holding.cancel()

    with pytest.raises(asyncio.CancelledError):
        await holding
    await until(lambda: cb.tasks.get("t-1"), lambda task: task.status == "pending")


async def test_a_wait_ends_where_its_coordinator_stops_and_says_to_ask_another(
    served: Served,
) -> None:
    await served.ok("PUT", "/boards/default", {"settings": {}})
    await served.ok("PUT", "/agents/mira", {})
    asking = asyncio.create_task(
        served.call("POST", "/tasks/claim", {"agent": "mira", "poll": 60, "wait": 600})
    )
    await until(
        lambda: served.ok("GET", "/boards/default"),
        lambda seen: seen["board"]["counts"]["waiters"] == 1,
    )

    served.coordinator.is_stopping.set()

    response = await asking
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    await until(
        lambda: served.ok("GET", "/boards/default"),
        lambda seen: seen["board"]["counts"]["waiters"] == 0,
    )


async def test_a_claim_that_is_held_in_vain_answers_that_there_is_nothing(served: Served) -> None:
    await served.ok("PUT", "/agents/mira", {})

    claims = (await served.ok("POST", "/tasks/claim", {"agent": "mira", "poll": 0.05}))["claims"]

    assert claims == {"tasks": [], "status": "empty"}


@pytest.mark.parametrize(
    ("path", "name"),
    [("/tasks/read", "task_ids"), ("/contexts/read", "projects"), ("/flow/read", "keys")],
)
async def test_more_names_than_a_page_are_not_read_at_once(
    served: Served, path: str, name: str
) -> None:
    whole = await served.call("POST", path, {name: ["a"] * 1_000})
    more = await served.call("POST", path, {name: ["a"] * 1_001})

    assert (whole.status_code, more.status_code) == (200, 422)
    assert more.json()["detail"][0]["loc"] == ["body", name]


async def test_a_poll_beyond_its_bound_is_refused(served: Served) -> None:
    response = await served.call("POST", "/tasks/claim", {"agent": "mira", "poll": 61})

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "poll"]


async def test_what_is_no_json_is_refused(served: Served) -> None:
    response = await served.client.post("/tasks", content=b"{nothing")

    assert response.status_code == 422
    assert response.json()["detail"][0]["type"] == "json_invalid"


@pytest.mark.parametrize(
    ("path", "loc"),
    [
        ("/tasks?limit=x", ["query", "limit"]),
        ("/tasks?limit=0", ["query", "limit"]),
        ("/tasks?colour=red", ["query", "colour"]),
        ("/series/loss/points?tags={", ["query"]),
        ("/agents/a%20b/state", ["path", "agent"]),
        ("/events/page?types=task:complete", ["query", "types"]),
    ],
    ids=["no-number", "out-of-bounds", "unknown", "no-json", "no-name", "no-type"],
)
async def test_a_value_that_cannot_be_used_is_named_where_it_stands(
    served: Served, path: str, loc: list[str]
) -> None:
    response = await served.call("GET", path)

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == loc


async def test_every_example_of_the_documents_is_understood(served: Served) -> None:
    """What it names may not be there, or stand in its way; that is no fault of the example."""
    wrong = []
    for name, body in EXAMPLES.items():
        operation = find(name)
        path = re.sub(r"\{(\w+)\}", lambda found: f"some-{found[1]}", operation.path)
        if operation.is_waiting:
            body = {**body, "timeout": 0.1} if "timeout" in body else {**body, "wait": 0}
        if operation.polls:
            body = {**body, "poll": 0}

        response = await served.call(operation.verb, path, body)

        if response.status_code not in (200, 404, 408, 409):
            wrong.append((name, response.text))
    assert wrong == []


async def test_the_page_about_coordinating_can_be_sent_from_top_to_bottom(served: Served) -> None:
    page = (ROOT / "docs" / "how-to" / "coordinate-with-curl.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    answers = []
    known = {"$FENCE": "", "$PERMIT": ""}

    for command in re.split(r"\n(?=curl)", "\n".join(block.strip() for block in blocks)):
        for name, value in known.items():
            command = command.replace(name, value.replace('"', '\\"'))
        words = shlex.split(command)
        address = next(word for word in words if word.startswith("http"))
        verb = words[words.index("-X") + 1] if "-X" in words else "GET"
        content = words[words.index("-d") + 1].encode() if "-d" in words else None
        path = address.removeprefix("http://localhost:9001")
        response = await served.client.request(verb, path, content=content)
        answers.append((path, response.status_code))
        if path.endswith("/take"):
            known["$FENCE"] = str(response.json()["messages"][0]["fence"])
        if path.endswith("/admit"):
            known["$PERMIT"] = json.dumps(response.json()["permit"])

    assert [one for one in answers if one[1] != 200] == []
    assert len(answers) == 16
    build = await served.ok("GET", "/contexts/release-2")
    assert build["context"]["fields"] == {"branch": "main", "build": 42}


async def test_a_task_that_is_named_as_a_documented_path_is_read_by_its_board(
    served: Served,
) -> None:
    await served.ok("POST", "/tasks", {"kind": "x", "id": "status"})

    task = (await served.ok("GET", "/boards/default/tasks/status"))["task"]

    assert task["id"] == "status"
    assert "stats" in await served.ok("GET", "/tasks/status")
