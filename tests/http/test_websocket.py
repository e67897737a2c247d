"""``/ws``: one socket for an agent, and what it finds again on the next one."""

from __future__ import annotations

import asyncio
import socket as socketlib
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

import callboard
from callboard.app import Callboard
from callboard.domain.message import MessageSpec
from callboard.domain.task import Status, TaskSpec
from callboard.engine.outage import voice_of
from callboard.exceptions import AgentNotFound, OutcomeUnknown
from callboard.http.live.settings import LiveSettings
from callboard.http.live.websocket import AT_ONCE, Session
from tests.http.live_support import SECONDS
from tests.http.socket_support import agent_socket, socket
from tests.http.support import Served, serving
from tests.waiting import until


async def board_of(served: Served) -> Callboard:
    return await served.coordinator.board(served.coordinator.settings.namespace)


async def test_an_agent_registers_claims_and_completes_on_one_socket(served: Served) -> None:
    cb = await board_of(served)
    await cb.tasks.submit("greet", id="a", payload={"name": "noor"})

    async with socket(served.port) as ws:
        registered = await ws.ask("register", agent="mira", capabilities=["greeting"])
        claims = await ws.ask("claim")
        task = claims["tasks"][0]
        answer = await ws.ask("complete", task_id=task["id"], fence=task["fence"], result="hello")

    assert registered["agent"] == "mira"
    assert registered["instance"] == ws.session
    assert (task["id"], task["payload"]) == ("a", {"name": "noor"})
    assert answer["status"] == "ok"
    assert (await cb.tasks.get("a")).result == "hello"


async def test_any_operation_can_be_called(served: Served) -> None:
    async with socket(served.port) as ws:
        task = await ws.ask(
            "call", operation="tasks.submit", arguments={"kind": "greet", "id": "a"}
        )
        other = await ws.ask(
            "call",
            operation="tasks.submit",
            arguments={"kind": "greet", "id": "a", "board": "other"},
        )
        found = await ws.ask("call", operation="tasks.get", arguments={"task_id": "a"})

    assert task == {"id": "a", "existed": False}
    assert other == {"id": "a", "existed": False}
    assert found["status"] == "pending"


async def test_what_cannot_be_done_is_answered_with_its_code_and_the_socket_stays(
    served: Served,
) -> None:
    async with socket(served.port) as ws:
        assert await ws.refused("dance") == "invalid_argument"
        assert await ws.refused("call", operation="tasks.fly") == "invalid_argument"
        assert await ws.refused("call", operation="tasks.get") == "invalid_argument"
        missing = {"task_id": "nothing"}
        assert (
            await ws.refused("call", operation="tasks.get", arguments=missing) == "task_not_found"
        )
        assert await ws.refused("subscribe", work=True) == "invalid_argument"
        assert await ws.refused("ack", message="m") == "invalid_argument"
        await ws.connection.send("no JSON")
        assert (await ws.next("error"))["code"] == "invalid_argument"
        await ws.connection.send(b"\xff\x00")
        assert (await ws.next("error"))["code"] == "invalid_argument"
        await ws.connection.send("[1, 2]")
        assert (await ws.next("error"))["code"] == "invalid_argument"
        assert await ws.ask("ping") is True
        await ws.next("pong")


async def test_work_comes_by_itself_and_never_more_than_was_asked_for(served: Served) -> None:
    cb = await board_of(served)

    async with agent_socket(served.port, max_concurrent=10) as ws:
        await ws.ask("subscribe", work={"limit": 2})
        await cb.tasks.submit_many([TaskSpec(kind="greet", id=f"t{i}") for i in range(6)])
        done = []
        held = [await ws.next("task"), await ws.next("task")]
        assert (await cb.boards.get("default")).counts.held == 2
        while held:
            task = held.pop(0)["task"]
            await ws.ask("complete", task_id=task["id"], fence=task["fence"])
            done.append(task["id"])
            if len(done) + len(held) < 6:
                held.append(await ws.next("task"))

    assert sorted(done) == [f"t{i}" for i in range(6)]
    assert (await cb.boards.get("default")).counts.done == 6


async def test_a_process_that_lost_its_socket_resumes_with_what_it_held_and_missed(
    served: Served,
) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", events={"types": ["task:created"]}, work=True)
        await cb.tasks.submit("greet", id="a")
        task = (await ws.next("task"))["task"]
        cursor = (await ws.next("events"))["cursor"]
        ws.connection.transport.abort()
    await cb.tasks.submit("greet", id="b")

    async with socket(served.port) as again:
        resumed = await again.ask("resume", agent="mira", session=ws.session, cursor=cursor)
        await again.ask("subscribe", events={"types": ["task:created"]}, work=True)
        found = (await again.next("task"))["task"]
        missed = (await again.next("events"))["events"]
        await again.ask("complete", task_id=found["id"], fence=found["fence"])
        following = (await again.next("task"))["task"]

    assert resumed["held"] == [{"board": "default", "id": "a", "fence": task["fence"]}]
    assert (found["id"], found["fence"]) == ("a", task["fence"])
    assert [event["facts"][0]["id"] for event in missed] == ["b"]
    assert following["id"] == "b"


async def test_a_process_resumes_at_another_coordinator(valkey_url: str, namespace: str) -> None:
    async with (
        serving(valkey_url, namespace=namespace) as one,
        serving(valkey_url, namespace=namespace) as other,
    ):
        cb = await board_of(one)
        await cb.tasks.submit("greet", id="a")
        async with agent_socket(one.port) as ws:
            await ws.ask("subscribe", work=True)
            task = (await ws.next("task"))["task"]
        async with socket(other.port) as again:
            await again.ask("resume", agent="mira", session=ws.session)
            await again.ask("subscribe", work=True)
            found = (await again.next("task"))["task"]
            answer = await again.ask("complete", task_id="a", fence=found["fence"])

    assert found["fence"] == task["fence"]
    assert answer["status"] == "ok"


async def test_a_process_that_was_given_up_has_to_register_again(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace) as served:
        cb = await board_of(served)
        await cb.tasks.submit("greet", id="a")
        async with agent_socket(served.port, heartbeat_interval=0.1) as ws:
            await ws.ask("subscribe", work={"lease": 600})
            await ws.next("task")

        async def is_back() -> bool:
            return (await cb.tasks.get("a")).status is Status.PENDING

        await until(is_back)
        async with socket(served.port) as again:
            refusal = await again.refused("resume", agent="mira", session=ws.session)

    assert refusal == "agent_not_found"
    assert (await cb_tasks_crashes(valkey_url, namespace)) == 0


async def cb_tasks_crashes(url: str, namespace: str) -> int:
    async with callboard.connect(url, namespace=namespace) as cb:
        return (await cb.tasks.get("a")).crashes


async def test_an_open_socket_is_the_heartbeat_of_its_process(served: Served) -> None:
    cb = await board_of(served)

    async with agent_socket(served.port, heartbeat_interval=0.3):
        first = (await cb.agents.get("mira")).last_heartbeat

        async def is_heard() -> bool:
            return (await cb.agents.get("mira")).last_heartbeat != first

        await until(is_heard)
        assert (await cb.agents.get("mira")).status == "active"


async def test_a_heartbeat_that_failed_is_forgotten_with_the_next_that_does_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    cb = await board_of(served)
    engine = f"of-{served.port}:1"
    heartbeat, failed = cb.agents.heartbeat, asyncio.Event()

    async def once_late(*given: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise OutcomeUnknown("Late.", engine=engine, reason="no answer")
        return await heartbeat(*given)

    monkeypatch.setattr(cb.agents, "heartbeat", once_late)
    async with agent_socket(served.port, heartbeat_interval=0.3):
        await until(lambda: voice_of(engine).tries)
        await until(lambda: voice_of(engine).since is None)

    assert voice_of(engine).tries == 1


async def test_who_leaves_gives_back_at_once(served: Served) -> None:
    cb = await board_of(served)
    await cb.tasks.submit("greet", id="a")

    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", work=True)
        await ws.next("task")
        left = await ws.ask("leave")

    assert left == {"given_back": 1}
    assert (await cb.tasks.get("a")).status is Status.PENDING


async def test_messages_come_and_those_not_acknowledged_come_again_on_the_next_socket(
    served: Served,
) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox=True)
        await cb.messages.send("mira", "one", id="m1")
        await cb.messages.send("mira", "two", id="m2")
        first, second = await ws.next("message"), await ws.next("message")
        assert await ws.ask("ack", message=first["message"]["id"]) is True

    async with socket(served.port) as again:
        await again.ask("resume", agent="mira", session=ws.session)
        await again.ask("subscribe", inbox=True)
        found = (await again.next("message"))["message"]
        await again.ask("ack", message=[found["id"]])
        refusal = await again.refused("ack", message="m2")

    assert [first["message"]["payload"], second["message"]["payload"]] == ["one", "two"]
    assert (found["id"], found["payload"]) == ("m2", "two")
    assert refusal == "lease_lost"
    assert (await cb.messages.get("m2")).status == "read"


async def test_an_ack_is_answered_once_the_message_is_read_and_holds_up_nothing_meanwhile(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    cb = await board_of(served)
    may_end = asyncio.Event()
    acknowledge = cb.messages.acknowledge_many

    async def late(taken: Any) -> Any:
        await may_end.wait()
        return await acknowledge(taken)

    monkeypatch.setattr(cb.messages, "acknowledge_many", late)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox=True)
        await cb.messages.send_many([message(f"m{i}") for i in range(3)])
        for _ in range(3):
            await ws.next("message")
        numbers = [await ws.send("ack", message=one) for one in ("m0", ["m1", "m2"])]
        await ws.ask("call", operation="agents.get", arguments={"agent": "mira"})
        early = [frame for frame in ws.kept if frame.get("id") in numbers]
        may_end.set()
        answers = [(await ws.answer(number))["result"] for number in numbers]
        found = [(await cb.messages.get(f"m{i}")).status for i in range(3)]

    assert early == []
    assert answers == [True, True]
    assert found == ["read", "read", "read"]


async def test_an_ack_of_what_is_another_takers_by_now_is_refused_and_the_others_hold(
    served: Served,
) -> None:
    cb = await board_of(served)
    await cb.messages.send_many([message("m1"), message("m2")])
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox={"limit": 2})  # so that it takes none that came back
        first = (await ws.next("message"))["message"]
        await ws.next("message")
        await cb.messages.release_ids("mira", [("m1", first["fence"])])
        taken = await cb.messages.take("mira", 2)
        refusal = await ws.refused("ack", message=["m1", "unknown", "m2"])
        found = [(await cb.messages.get(name)).status for name in ("m1", "m2")]

    assert [one.id for one in taken] == ["m1"]
    assert refusal == "lease_lost"
    assert found == ["delivered", "read"]


async def test_a_broadcast_is_read_when_its_ack_is_answered_but_for_one_behind_an_open_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    cb = await board_of(served)
    may_move = asyncio.Event()
    heard = cb.messages.heard

    async def late(*told: Any, **how: Any) -> Any:
        await may_move.wait()
        return await heard(*told, **how)

    monkeypatch.setattr(cb.messages, "heard", late)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox=True)
        for n in range(3):
            await cb.messages.broadcast(n)
        names = [(await ws.next("message"))["message"]["id"] for _ in range(3)]
        behind = await ws.ask("ack", message=names[1])
        number = await ws.send("ack", message=names[0])
        await ws.ask("call", operation="agents.get", arguments={"agent": "mira"})
        early = [frame for frame in ws.kept if frame.get("id") == number]
        may_move.set()
        await ws.answer(number)
        found = [(await cb.messages.why(name, agent="mira")).status for name in names]

    assert behind is True, "it is read with the one before it"
    assert early == []
    assert found == ["read", "read", "pending"]


async def test_acks_that_cannot_be_are_refused_in_a_few_words_and_read_no_faster_than_answered(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(calls_max=10)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        async with agent_socket(served.port) as ws:
            await ws.ask("subscribe", inbox=True)
            long = await ws.answer(await ws.send("ack", message="x" * 400_000))
            many = await ws.refused("ack", message=["m"] * 1_001)
        hub = (await served.coordinator.served(namespace)).hub
        await until(lambda: not len(hub.outlets))
        stuck = await deaf_socket(
            served.port, b'{"type":"register","agent":"noor"}', b'{"type":"subscribe","inbox":true}'
        )
        (session,) = hub.outlets._open
        assert isinstance(session, Session)
        sending = asyncio.create_task(
            send_texts(stuck, *[b'{"type":"ack","message":"m"}'] * 50_000)
        )
        loop = asyncio.get_running_loop()
        await until(lambda: session.sending_since and loop.time() - session.sending_since > 0.5)
        under_way = len(session._calls)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        stuck.close()

    assert (long["code"], many) == ("invalid_argument", "invalid_argument")
    assert len(str(long)) < 1_000
    assert under_way <= 10


async def test_a_message_that_comes_again_on_an_open_socket_takes_no_second_place(
    served: Served,
) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox={"limit": 2})
        await cb.messages.send_many([message("m0"), message("m1")])
        first = (await ws.next("message"))["message"]
        await ws.next("message")
        await ws.ask("ack", message="m1")
        await cb.messages.release_ids("mira", [("m0", first["fence"])])
        again = (await ws.next("message"))["message"]
        await ws.ask("ack", message="m0")
        await cb.messages.send_many([message("m2"), message("m3")])
        found = [(await ws.next("message"))["message"]["id"] for _ in range(2)]

    assert (again["id"], again["deliveries"]) == ("m0", 2)
    assert found == ["m2", "m3"], "none is acknowledged, so both have a place"


@pytest.mark.parametrize("operation", ["acknowledge_ids", "release_ids", "reply_to"])
async def test_a_message_that_a_call_ends_gives_its_place_to_the_next_at_once(
    served: Served, operation: str
) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox={"limit": 1})
        await cb.messages.send_request("mira", "how much?", timeout=SECONDS)
        first = (await ws.next("message"))["message"]
        await cb.messages.send("mira", id="m2", priority="high")
        arguments: dict[str, Any] = {"agent": "mira", "taken": [[first["id"], first["fence"]]]}
        if operation == "reply_to":
            arguments = {"agent": "mira", "request_id": first["id"], "fence": first["fence"]}
        await ws.ask("call", operation=f"messages.{operation}", arguments=arguments)
        following = (await ws.next("message"))["message"]
        refusal = await ws.refused("ack", message=first["id"])

    assert following["id"] != first["id"]
    assert refusal == "lease_lost"


async def test_a_call_with_an_older_fence_leaves_a_message_open(served: Served) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox={"limit": 1})
        await cb.messages.send("mira", id="m1")
        found = (await ws.next("message"))["message"]
        arguments = {"agent": "mira", "taken": [["m1", found["fence"] + 1]]}
        await ws.ask("call", operation="messages.acknowledge_ids", arguments=arguments)
        answer = await ws.ask("ack", message="m1")

    assert answer is True


async def test_a_message_that_was_ended_elsewhere_gives_up_its_place_when_it_would_be_renewed(
    served: Served,
) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox={"limit": 1, "lease": 0.3})
        await cb.messages.send("mira", id="m1")
        first = (await ws.next("message"))["message"]
        await cb.messages.acknowledge_ids("mira", [("m1", first["fence"])])
        await cb.messages.send("mira", id="m2")
        following = (await ws.next("message"))["message"]

    assert following["id"] == "m2"


async def test_no_more_messages_are_sent_than_may_be_open(served: Served) -> None:
    cb = await board_of(served)
    await cb.messages.send_many(
        [message(f"m{i}") for i in range(5)],
    )
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox={"limit": 2})
        await ws.next("message")
        second = (await ws.next("message"))["message"]
        for _ in range(3):
            await ws.ask("call", operation="agents.get", arguments={"agent": "mira"})
        assert not ws.kept
        await ws.ask("ack", message=second["id"])
        third = (await ws.next("message"))["message"]

    assert third["id"] == "m2"


def message(message_id: str) -> MessageSpec:
    return MessageSpec(to="mira", id=message_id)


async def test_a_request_is_answered_over_the_socket(served: Served) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox=True)
        asking = asyncio.create_task(cb.messages.request("mira", "how much?", timeout=SECONDS))
        request = (await ws.next("message"))["message"]
        await ws.ask("reply", message=request["id"], payload=42)
        reply = await asking

    assert reply.value == 42


async def test_a_message_that_is_refused_comes_again(served: Served) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", inbox=True)
        await cb.messages.send("mira", "one", id="m1")
        await ws.next("message")
        await ws.ask("nack", message="m1", reason="not now", delay=0.05)
        again = (await ws.next("message"))["message"]

    assert (again["id"], again["deliveries"]) == ("m1", 2)


async def test_messages_are_sent_in_the_name_of_the_sockets_agent(served: Served) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("message", to="noor", payload={"greeting": "hello"})

    (found,) = await cb.messages.take("noor")
    assert (found.sender, found.value) == ("mira", {"greeting": "hello"})


async def test_events_are_the_same_frames_for_all_who_want_the_same(served: Served) -> None:
    cb = await board_of(served)
    async with socket(served.port) as one, socket(served.port) as other:
        for ws in (one, other):
            await ws.ask("subscribe", events={"types": ["task:created"]})
        await cb.tasks.submit("greet", id="a")
        first, second = await one.next("events"), await other.next("events")
        await one.ask("unsubscribe", events=True)
        await cb.tasks.submit("greet", id="b")
        await other.next("events")
        await one.ask("ping")

    assert first == second
    assert first["events"][0]["type"] == "task:created"
    assert first["events"][-1]["cursor"] == first["cursor"]
    assert not [frame for frame in one.kept if frame["type"] == "events"]


async def test_a_bell_is_passed_on(served: Served) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", bells=True)
        await ws.ask("claim", wait=30)
        await cb.tasks.submit("greet", id="a")
        bell = await ws.next("bell")

    assert bell["data"] == "default|a"


async def test_the_earlier_socket_of_a_process_is_closed_when_it_resumes_on_another(
    served: Served,
) -> None:
    async with agent_socket(served.port) as ws, socket(served.port) as again:
        await again.ask("resume", agent="mira", session=ws.session)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.read()

    assert code_of(closed.value) == 4409


async def test_more_calls_than_a_socket_may_have_are_refused_and_the_others_answered(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.http.live.websocket.ROOM_SECONDS", 0.01)
    live = LiveSettings(calls_max=2)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        cb = await board_of(served)
        await cb.tasks.submit("greet", id="a")
        async with socket(served.port) as ws:
            wait = {"operation": "tasks.wait", "arguments": {"task_id": "a"}}
            waiting = [await ws.send("call", **wait) for _ in range(2)]
            assert await ws.refused("call", **wait) == "rate_limited"
            await cb.tasks.cancel("a")
            ended = [await ws.answer(number) for number in waiting]

    assert [one["result"]["status"] for one in ended] == ["cancelled"] * 2


async def test_a_call_that_waits_ends_with_the_socket(served: Served) -> None:
    cb = await board_of(served)
    await cb.tasks.submit("greet", id="a")
    async with socket(served.port) as ws:
        await ws.send("call", operation="tasks.wait", arguments={"task_id": "a"})
        await until(lambda: cb._ends._waiting)

    await until(lambda: not cb._ends._waiting)


async def test_a_frame_that_is_too_large_is_refused(valkey_url: str, namespace: str) -> None:
    live = LiveSettings(frame_bytes=1_000)
    async with (
        serving(valkey_url, namespace=namespace, live=live) as served,
        socket(served.port) as ws,
    ):
        await ws.connection.send('{"type":"ping","x":"' + "x" * 2_000 + '"}')
        error = await ws.next("error")

    assert error["code"] == "too_large"


async def test_sockets_close_with_a_word_when_the_coordinator_stops(served: Served) -> None:
    async with socket(served.port) as ws:
        served.coordinator.is_stopping.set()
        with pytest.raises(ConnectionClosed) as closed:
            await ws.read()

    assert code_of(closed.value) == 1012
    hub = (await served.coordinator.served(served.coordinator.settings.namespace)).hub
    assert hub.sockets == {}


async def test_one_who_does_not_read_is_closed_and_keeps_nobody_waiting(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(write_timeout=0.5, chunk_bytes=20_000, ring_bytes=200_000)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        cb = await board_of(served)
        hub = (await served.coordinator.served(namespace)).hub
        stuck = await deaf_socket(served.port, b'{"type":"subscribe","events":true}')
        async with socket(served.port) as reader:
            await reader.ask("subscribe", events={"types": ["task:created"]})
            await until(lambda: len(hub.outlets) == 2)
            heard, filler = 0, "x" * 100
            async with asyncio.timeout(60):
                while not hub.outlets.cut_off:
                    await cb.tasks.submit_many(
                        [TaskSpec(kind="greet", id=f"{heard}-{i}-{filler}") for i in range(500)]
                    )
                    for event in (await reader.next("events"))["events"]:
                        heard += len(event["facts"])
            await until(lambda: len(hub.outlets) == 1)
        stuck.close()

    assert heard > 0


async def test_a_subscription_that_is_refused_is_told_of_once(served: Served) -> None:
    async with socket(served.port) as ws:
        refused = await ws.refused("subscribe", events={"cursor": "nonsense"})
        others = await ws.refused("subscribe", events={"types": [f"t*{i}" for i in range(100)]})
        await ws.ask("ping")

    assert (refused, others) == ("invalid_argument", "invalid_argument")
    assert [one["type"] for one in ws.kept] == ["pong"]


async def test_answers_that_are_not_read_keep_later_calls_from_being_performed(
    served: Served,
) -> None:
    cb = await board_of(served)
    payload = "x" * 500_000
    await cb.tasks.submit("greet", id="a", payload=payload)
    hub = (await served.coordinator.served(served.coordinator.settings.namespace)).hub
    ask = b'{"type":"call","operation":"tasks.get","arguments":{"task_id":"a"}}'
    stuck = await deaf_socket(served.port, *[ask] * 300)
    await until(lambda: len(hub.outlets))
    (session,) = hub.outlets._open
    assert isinstance(session, Session)
    await until(lambda: session.sending_since and len(session._calls) > 200)
    async with socket(served.port) as reader:
        for _ in range(20):
            await reader.ask("call", operation="tasks.get", arguments={"task_id": "a"})

    assert 0 < session._unsent < (AT_ONCE + 1) * len(payload)
    stuck.close()


async def test_an_answer_over_its_bound_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.http.live.calls.ANSWER_BYTES_MAX", 10_000)
    cb = await board_of(served)
    await cb.tasks.submit("greet", id="a", payload="x" * 1_000)
    async with socket(served.port) as ws:
        many = {"task_ids": ["a"] * 20}
        refused = await ws.refused("call", operation="tasks.get_many", arguments=many)
        few = {"task_ids": ["a"] * 5}
        found = await ws.ask("call", operation="tasks.get_many", arguments=few)

    assert refused == "too_large"
    assert [one["id"] for one in found] == ["a"] * 5


def code_of(closed: ConnectionClosed) -> int:
    return closed.rcvd.code if closed.rcvd is not None else 0


async def deaf_socket(port: int, *texts: bytes) -> socketlib.socket:
    """A socket that sends frames and never reads."""
    deaf = socketlib.socket()
    deaf.setsockopt(socketlib.SOL_SOCKET, socketlib.SO_RCVBUF, 4_096)
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, ("127.0.0.1", port))
    lines = ["GET /ws HTTP/1.1", "host: 127.0.0.1", "connection: upgrade", "upgrade: websocket"]
    lines += ["sec-websocket-version: 13", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="]
    await loop.sock_sendall(deaf, ("\r\n".join(lines) + "\r\n\r\n").encode())
    assert b"101" in (await loop.sock_recv(deaf, 1_000))
    await send_texts(deaf, *texts)
    return deaf


async def send_texts(deaf: socketlib.socket, *texts: bytes) -> None:
    """Frames of less than 126 bytes each."""
    masked = [bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text for text in texts]
    await asyncio.get_running_loop().sock_sendall(deaf, b"".join(masked))


async def test_a_wait_that_takes_too_long_and_a_value_of_a_wrong_type_leave_the_socket_open(
    served: Served,
) -> None:
    cb = await board_of(served)
    await cb.tasks.submit("greet", id="a")
    async with socket(served.port) as ws:
        wait = {"task_id": "a", "timeout": 0.01}
        late = await ws.refused("call", operation="tasks.wait", arguments=wait)
        message = {"to": 5, "payload": 1}
        wrong = await ws.refused("call", operation="messages.send", arguments=message)
        assert await ws.ask("ping") is True

    assert (late, wrong) == ("timeout", "invalid_argument")


async def test_a_socket_that_becomes_another_agents_gets_no_more_work_of_the_first(
    served: Served,
) -> None:
    cb = await board_of(served)
    async with agent_socket(served.port) as ws:
        await ws.ask("subscribe", work=True)
        await ws.ask("register", agent="noor", kinds=["sing"])
        await cb.tasks.submit("greet", id="a")
        await ws.ask("subscribe", work=True)
        await cb.tasks.submit("sing", id="b")
        task = (await ws.next("task"))["task"]

    assert (task["id"], task["agent"]) == ("b", "noor")
    assert (await cb.tasks.get("a")).fence == 0


async def test_a_socket_that_resumes_for_another_agent_forgets_how_the_first_registered(
    served: Served,
) -> None:
    cb = await board_of(served)
    hub = (await served.coordinator.served(served.coordinator.settings.namespace)).hub
    async with agent_socket(served.port, "noor") as other:
        session = other.session
    async with agent_socket(served.port) as ws:
        await ws.ask("resume", agent="noor", session=session)
        (opened,) = hub.sockets.values()
        assert isinstance(opened, Session)
        await cb.agents.deregister("mira")

        with pytest.raises(AgentNotFound, match="noor"):
            await opened.enter()

    assert [agent.id for agent in await cb.agents.list()] == ["noor"]


async def test_a_claim_on_a_socket_is_not_held_and_says_what_to_do_instead(
    served: Served,
) -> None:
    async with agent_socket(served.port) as ws:
        held = await ws.answer(await ws.send("claim", poll=5))
        claims = await ws.ask("claim")

    assert (held["code"], held["details"]["field"]) == ("invalid_argument", "poll")
    assert "subscribe" in held["detail"]
    assert claims["tasks"] == []
