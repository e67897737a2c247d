"""A key for one agent: it acts as no other, by whatever parameter of whatever operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from callboard.domain.access import Caller
from callboard.exceptions import NotPermitted
from callboard.http.routes import all_routes
from callboard.http.security.acting import ACTORS, OTHERS, OWNERS, TOLD, acting_of, check_caller
from callboard.operations import OPERATIONS, Operation
from callboard.sdk.remote.asking import asking
from tests.http.test_callers import Asked, asked, claimed
from tests.operations.samples import sample

__all__ = ["asked"]

WORK = [one for one in OPERATIONS.values() if one.role == "work"]
"""With more, one steers others; and who only reads acts as nobody."""

OF_OTHERS = frozenset(
    "about affinity_key agent_type arbiter begun bell board candidate capabilities claims code "
    "component concurrency_key conflict_id content current_task depends_on description error "
    "fairness_key fallback field host id ids in_reply_to instance kind kinds lock members message "
    "name on_board operation parties policy priority project protocol rate_key reason remove "
    "request request_id resources rule services stack status strategy subject suggested_worker "
    "tags taken taker task task_id task_ids team thread tie title to topic trace_context "
    "traceback type types unique version waits_for winner".split()
)
"""Texts that say something else than who acts: what it is about, and whom it reaches."""


def _is_text(info: Any) -> bool:
    match info:
        case inspect.StrType():
            return True
        case inspect.UnionType():
            return any(map(_is_text, info.types))
        case inspect.CollectionType():
            return _is_text(info.item_type)
        case inspect.TupleType():
            return any(map(_is_text, info.item_types))
    return False


def _texts(name: str, info: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of all that is text in a parameter, by name."""
    if _is_text(info):
        yield (*path, name)
    yield from _inside(info, (*path, name))


def _inside(info: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    match info:
        case inspect.StructType() if len(path) < 6:
            for field in info.fields:
                yield from _texts(field.name, field.type, path)
        case inspect.UnionType():
            for one in info.types:
                yield from _inside(one, path)
        case inspect.CollectionType():
            yield from _inside(info.item_type, path)
        case inspect.TupleType():
            for one in info.item_types:
                yield from _inside(one, path)


def _paths(operation: Operation) -> list[tuple[str, ...]]:
    return [
        path
        for one in operation.parameters
        for path in _texts(one.name, inspect.type_info(one.type), ())
    ]


def test_of_every_text_that_is_sent_it_is_known_whether_it_says_who_acts() -> None:
    known = OF_OTHERS | ACTORS | OWNERS | TOLD

    unknown = {(one.name, path) for one in WORK for path in _paths(one) if path[-1] not in known}

    assert unknown == set(), "name it in http/security/acting.py, or above if it says nothing of it"
    assert frozenset() == OF_OTHERS & (ACTORS | OWNERS | TOLD)


def test_who_acts_is_said_nowhere_deeper_than_it_is_looked_for() -> None:
    names = ACTORS | OWNERS | TOLD
    missed = []
    for operation in WORK:
        acting = acting_of(operation)
        seen: set[tuple[str, ...]] = {
            (one,) for one in (*acting.actors, *acting.owners, *acting.told)
        }
        seen |= {(one, field) for one, fields in acting.inner for field in fields}
        missed += [
            (operation.name, path)
            for path in _paths(operation)
            if path[-1] in names
            and path not in seen
            and f"{operation.name}.{path[0]}" not in OTHERS
        ]

    assert missed == []


def test_what_names_another_all_the_same_is_there() -> None:
    known = {f"{one.name}.{part.name}" for one in WORK for part in one.parameters}

    assert set(OTHERS) - known == set()


def _cases(names: frozenset[str]) -> list[Any]:
    """Each parameter of each operation that is, or holds, one of these."""
    found = []
    for operation in WORK:
        acting = acting_of(operation)
        own = {*acting.actors, *acting.owners} & names
        paths: list[tuple[str, ...]] = [(one,) for one in own]
        paths += [(one, part) for one, fields in acting.inner for part in fields & names]
        found += [
            pytest.param(operation, path, id=f"{operation.name}-{'.'.join(path)}")
            for path in sorted(paths)
        ]
    return found


def _values(operation: Operation, path: tuple[str, ...], said: str) -> dict[str, Any]:
    """As few values as may be sent, with this one at *path*."""
    own = {one.name: one for one in operation.parameters}
    values = {
        one.name: "x" if _is_text(inspect.type_info(one.type)) else sample(one.type, False)
        for one in operation.parameters
        if one.is_required
    }
    name, *fields = path
    if name == "rows":
        values[name] = [(said, "")]
    elif not fields:
        values[name] = said
    else:
        kind = next(_structs(inspect.type_info(own[name].type), fields[0]))
        value = msgspec.structs.replace(sample(kind, False), **{fields[0]: said})
        is_list = isinstance(inspect.type_info(own[name].type), inspect.CollectionType)
        values[name] = [value] if is_list else value
    return values


def _structs(info: Any, field: str) -> Iterator[Any]:
    match info:
        case inspect.StructType() if field in info.cls.__struct_fields__:
            yield info.cls
        case inspect.UnionType():
            for one in info.types:
                yield from _structs(one, field)
        case inspect.CollectionType():
            yield from _structs(info.item_type, field)


@pytest.mark.parametrize(("operation", "path"), _cases(ACTORS))
def test_no_operation_lets_a_key_for_one_agent_act_as_another(
    operation: Operation, path: tuple[str, ...]
) -> None:
    mira = Caller(name="ci", key_id="k", role="work", agent="mira")
    anybody = Caller(name="ci", key_id="k", role="work")
    noor = _values(operation, path, "noor")

    check_caller(mira, operation, _values(operation, path, "mira"))
    check_caller(anybody, operation, noor)
    with pytest.raises(NotPermitted, match="agent 'mira' alone"):
        check_caller(mira, operation, noor)


async def _sent(asked: Asked, operation: Operation, values: dict[str, Any]) -> tuple[int, str]:
    ask = asking(operation.name)
    path, body = ask.request(operation.sent(values), "default")
    response = await asked.client.request(operation.verb, asked.url + path, content=body)
    return response.status_code, response.json().get("code", "")


@pytest.mark.parametrize(("operation", "path"), _cases(OWNERS))
@pytest.mark.parametrize("owner", ["claim", "token"])
async def test_no_operation_lets_a_key_for_one_agent_use_what_another_holds(
    asked: Asked, operation: Operation, path: tuple[str, ...], owner: str
) -> None:
    fence = await claimed(asked, "noor")
    said = f"claim:default:t-1:{fence}" if owner == "claim" else "shift-7"
    lock = {"resources": ["file:a"], "owner": said, "agent": "noor"}
    await asked.ok("POST", "/locks/acquire", lock)
    before = await asked.ok("GET", "/locks/file:a")

    asked.asks(agent="mira")
    answer = await _sent(asked, operation, _values(operation, path, said))

    assert answer == (403, "not_permitted")
    assert (await asked.ok("GET", "/locks/file:a"))["resource"] == before["resource"]


async def test_a_key_for_one_agent_takes_nobodys_place_in_line(asked: Asked) -> None:
    await claimed(asked, "mira")
    for owner, wait in (("other", 0), ("shift-7", 5)):
        request = {
            "owner": owner,
            "resources": ["file:a"],
            "mode": "exclusive",
            "limit": None,
            "lease": 30.0,
            "priority": 0,
            "agent": "noor",
            "operation": owner,
        }
        await asked.ok("POST", "/waits/enter", {"request": request, "wait": wait, "bell": ""})

    asked.asks(agent="mira")
    left = await asked.call(
        "POST", "/waits/leave", {"request": {**request, "agent": ""}, "keep": False}
    )
    heard = await asked.call("POST", "/waits/await", {"rows": [["shift-7", "shift-7"]]})
    waits = (await asked.ok("GET", "/waits"))["waits"]

    assert (left.status_code, heard.status_code) == (403, 403)
    assert [one["owner"] for one in waits] == ["shift-7"]


async def test_a_key_for_one_agent_holds_locks_by_its_claims_and_tokens(asked: Asked) -> None:
    fence = await claimed(asked, "mira")

    asked.asks(agent="mira")
    for owner in (f"claim:default:t-1:{fence}", "shift-7"):
        held = await asked.ok("POST", "/locks/acquire", {"resources": ["file:a"], "owner": owner})
        assert held["lock"]["agent"] == "mira"
        await asked.ok("POST", "/locks/renew", {"lock": held["lock"]})
        await asked.ok("POST", "/locks/release", {"lock": held["lock"]})
        released = await asked.ok("POST", "/locks/release-all", {"owner": owner})
        assert released["released"] == 0


async def test_what_is_left_out_is_said_by_the_agent_of_the_key(asked: Asked) -> None:
    await claimed(asked, "mira")

    asked.asks(agent="mira")
    await asked.ok("POST", "/tasks/t-1/notes", {"content": "seen"})
    await asked.ok("POST", "/messages", {"to": "noor", "id": "m-1"})
    await asked.ok("POST", "/messages/batch", {"specs": [{"to": "noor", "id": "m-2"}]})
    notes = (await asked.ok("GET", "/tasks/t-1/notes"))["notes"]
    page = (await asked.ok("GET", "/messages?sender=mira"))["page"]

    assert [one["author"] for one in notes] == ["mira"]
    assert {one["id"] for one in page["messages"]} == {"m-1", "m-2"}


async def test_who_made_tasks_is_the_key_for_several_tasks_too(asked: Asked) -> None:
    fence = await claimed(asked, "mira")

    specs = [{"kind": "x", "id": "b-1", "created_by": "ann"}]
    await asked.ok("POST", "/tasks/batch", {"specs": specs})
    children = [{"kind": "x", "id": "c-1", "created_by": "ann"}]
    await asked.ok("POST", "/tasks/t-1/split", {"fence": fence, "children": children})
    made = [(await asked.ok("GET", f"/tasks/{one}"))["task"] for one in ("b-1", "c-1")]

    assert [one["created_by"] for one in made] == ["ci", "ci"]


async def test_an_agent_answers_whoever_asked_it(asked: Asked) -> None:
    asked.asks()
    for name in ("mira", "noor"):
        await asked.ok("PUT", f"/agents/{name}", {})
    await asked.ok(
        "POST", "/requests", {"to": "mira", "sender": "noor", "id": "q-1", "timeout": 60}
    )

    asked.asks(agent="mira")
    answer = {"request_id": "q-1", "payload": 1, "sender": "noor"}
    await asked.ok("POST", "/inboxes/mira/reply", answer)
    reply = (await asked.ok("GET", "/requests/q-1/reply"))["reply"]

    assert (reply["sender"], reply["payload"]) == ("mira", 1)


async def test_nobody_ends_the_wait_of_another_agent(asked: Asked) -> None:
    asked.asks()
    for name in ("mira", "noor"):
        await asked.ok("PUT", f"/agents/{name}", {})
    await asked.ok(
        "POST", "/requests", {"to": "mira", "sender": "noor", "id": "q-1", "timeout": 60}
    )

    asked.asks(agent="mira")
    refused = await asked.call("POST", "/requests/q-1/stop-waiting")
    asked.asks(agent="noor")
    done = await asked.call("POST", "/requests/q-1/stop-waiting")

    assert (refused.status_code, done.status_code) == (403, 200)


async def test_an_arbiter_decides_with_the_key_for_its_agent(asked: Asked) -> None:
    asked.asks()
    report = {"kind": "resource", "subject": "file:a", "parties": ["noor", "lena"], "id": "c-1"}
    await asked.ok("POST", "/conflicts", report)
    await asked.ok("POST", "/conflicts/c-1/refer", {"arbiter": "mira"})

    asked.asks(agent="noor")
    refused = await asked.call("POST", "/conflicts/c-1/decide", {"winner": "noor", "by": "mira"})
    asked.asks(agent="mira")
    decided = await asked.ok("POST", "/conflicts/c-1/decide", {"winner": "lena"})

    assert (refused.status_code, refused.json()["code"]) == (409, "not_entitled")
    assert decided["resolution"]["winner"] == "lena"


async def _t_1_reported(asked: Asked, *parties: Any, **rest: Any) -> tuple[int, str]:
    body = {"kind": "task", "subject": "t-1", "id": "c-1", "parties": list(parties), **rest}
    response = await asked.call("POST", "/conflicts", body)
    return response.status_code, response.json().get("code", "")


@pytest.mark.parametrize("brought", [{"value": "forged"}, {"owner": "shift-7"}])
@pytest.mark.parametrize("role", ["work", "operate"])
async def test_a_key_for_one_agent_says_nothing_in_the_name_of_another_party(
    asked: Asked, brought: dict[str, Any], role: Any
) -> None:
    await claimed(asked, "noor")

    asked.asks(role, agent="mira")
    forged = await _t_1_reported(asked, "mira", {"name": "noor", **brought})
    own = await _t_1_reported(asked, {"name": "mira", **brought}, {"name": "noor", "priority": 1})

    assert (forged, own) == ((403, "not_permitted"), (200, ""))


@pytest.mark.parametrize("owner", ["claim", "token"])
async def test_a_key_for_one_agent_is_no_party_with_what_another_holds(
    asked: Asked, owner: str
) -> None:
    fence = await claimed(asked, "noor")
    said = f"claim:default:t-1:{fence}" if owner == "claim" else "shift-7"
    lock = {"resources": ["file:a"], "owner": said, "agent": "noor"}
    await asked.ok("POST", "/locks/acquire", lock)

    asked.asks(agent="mira")

    assert await _t_1_reported(asked, {"name": "mira", "owner": said}) == (403, "not_permitted")


STEERED: dict[str, dict[str, Any]] = {
    "resolve": {"strategy": "priority"},
    "refer": {"arbiter": "mira", "fallback": "priority"},
    "ballot": {"members": ["mira"]},
}
PAIR = ({"name": "mira", "priority": 9}, {"name": "noor", "priority": 1})


@pytest.mark.parametrize("how", STEERED)
@pytest.mark.parametrize("kind", ["task", "resource"])
async def test_a_key_for_one_agent_takes_from_others_only_with_the_role_operate(
    asked: Asked, how: str, kind: str
) -> None:
    await claimed(asked, "noor")
    lock = {"resources": ["t-1"], "owner": "shift-7", "agent": "noor"}
    await asked.ok("POST", "/locks/acquire", lock)
    held = [await asked.ok("GET", one) for one in ("/tasks/t-1", "/locks/t-1")]

    asked.asks(agent="mira")
    assert await _t_1_reported(asked, *PAIR, kind=kind) == (200, "")
    refused = await asked.call("POST", f"/conflicts/c-1/{how}", STEERED[how])
    after = [await asked.ok("GET", one) for one in ("/tasks/t-1", "/locks/t-1")]
    asked.asks("operate", agent="mira")
    done = await asked.call("POST", f"/conflicts/c-1/{how}", STEERED[how])

    assert (refused.status_code, refused.json()["details"]["wanted"]) == (403, "operate")
    assert after[0]["task"]["agent"] == held[0]["task"]["agent"] == "noor"
    assert after[1]["resource"]["holders"] == held[1]["resource"]["holders"]
    assert done.status_code == 200


@pytest.mark.parametrize("how", STEERED)
@pytest.mark.parametrize(
    "rest",
    [{"enforce": False}, {"kind": "context", "about": "a"}, {"about": "dependency"}],
    ids=["verdict", "context", "dependency"],
)
async def test_a_key_for_one_agent_settles_what_takes_nothing_from_others(
    asked: Asked, how: str, rest: dict[str, Any]
) -> None:
    await claimed(asked, "noor")

    asked.asks(agent="mira")
    mine = {**PAIR[0], "value": 1}
    assert await _t_1_reported(asked, mine, PAIR[1], **rest) == (200, "")

    await asked.ok("POST", f"/conflicts/c-1/{how}", STEERED[how])


# Routes that are no operation

PLAIN: dict[tuple[str, str], Any] = {
    ("POST", "/agents/register"): {"agent_id": "noor", "agent_type": "worker"},
    ("PUT", "/agents/noor/status"): {"status": "active"},
    ("POST", "/agents/noor/heartbeat"): None,
    ("POST", "/messages/send"): {
        "receiver_id": "mira",
        "message_type": "direct",
        "payload": {},
        "sender_id": "noor",
    },
    ("POST", "/messages/broadcast"): {
        "message_type": "broadcast",
        "payload": {},
        "sender_id": "noor",
    },
    ("POST", "/peers/add?agent_id=noor&peer_id=mira"): None,
    ("POST", "/peers/remove?agent_id=noor&peer_id=mira"): None,
    ("POST", "/api/v1/agent/messages/send"): {
        "sender": "noor",
        "recipient": "mira",
        "content": {},
    },
    ("POST", "/api/v1/agent/messages/id/m-1/read"): None,
    ("POST", "/api/v1/agent/messages/subscribe"): {"agent_id": "noor", "topic": "news"},
    ("POST", "/api/v1/agent/messages/unsubscribe"): {"agent_id": "noor", "topic": "news"},
    ("GET", "/agents/noor/bell"): None,
    ("GET", "/agents/noor/tasks/stream"): None,
}


def test_of_every_other_route_that_is_an_agents_own_it_is_tried() -> None:
    own = {
        (route.verb, len(route.path.split("/")), route.path.split("/")[1])
        for route in all_routes()
        if route.operation is None and route.role == "work" and route.verb != "WEBSOCKET"
    } - {("POST", 3, "tasks")}  # Whoever submits is nobody in particular.

    tried = {(verb, len(path.split("/")), path.split("/")[1]) for verb, path in PLAIN}

    assert own == tried


@pytest.mark.parametrize(("verb", "path"), PLAIN, ids=lambda part: part)
async def test_no_other_route_lets_a_key_for_one_agent_act_as_another(
    asked: Asked, verb: str, path: str
) -> None:
    asked.asks()
    for name in ("mira", "noor"):
        await asked.ok("PUT", f"/agents/{name}", {})
    await asked.ok("POST", "/messages", {"to": "noor", "id": "m-1"})

    asked.asks(agent="mira")
    response = await asked.call(verb, path, PLAIN[verb, path])

    assert response.status_code == 403, response.text
