"""Who asks a coordinator: keys, tickets, this machine; and what each may not."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from callboard.domain.access import ApiKey, Caller, IssuedKey
from callboard.exceptions import ConfigError, EngineUnavailable, InvalidArgument, NotPermitted
from callboard.http.routes import all_routes
from callboard.http.security import AccessSettings, bound_to, identity, strangers
from callboard.http.security.settings import PUBLIC
from callboard.services.access import Access
from tests.http.security_support import Guarded, guarding
from tests.waiting import until


@pytest.fixture
async def open_here(access: Access) -> AsyncIterator[Guarded]:
    """A server as it is on somebody's machine: nobody needs a key."""
    async with guarding(access) as guarded:
        yield guarded


@pytest.fixture
async def closed(access: Access) -> AsyncIterator[Guarded]:
    """A server that wants keys."""
    async with guarding(access, require_keys=True, key_seconds=0) as guarded:
        yield guarded


def bearer(issued: IssuedKey) -> str:
    return f"Authorization: Bearer {issued.secret}"


# Without a key


async def test_on_this_machine_nobody_needs_a_key(open_here: Guarded) -> None:
    told = (await open_here.get()).json

    assert (told["caller"], told["role"], told["namespace"]) == ("anonymous", "admin", "")


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Proto: https",
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "Via: 1.1 proxy",
        "CF-Connecting-IP: 10.0.0.1",
        "True-Client-IP: 10.0.0.1",
    ],
)
async def test_what_comes_through_a_proxy_is_not_of_this_machine(
    open_here: Guarded, header: str
) -> None:
    refused = await open_here.get("/who", header)

    assert refused.status == 401
    assert "through a proxy" in refused.json["detail"]
    assert open_here.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9001",
        "127.0.0.1.evil.example",
        "[::1].evil.example",
        "[::1]:80.evil.example",
        "0.0.0.0",
        "10.0.0.1",
        "a@b",
    ],
)
async def test_a_name_that_points_here_is_no_name_of_this_machine(
    open_here: Guarded, host: str
) -> None:
    """DNS rebinding: a page's own name is made to point to the loopback."""
    refused = await open_here.get("/who", host=host)

    assert (refused.status, refused.json["code"]) == (403, "not_permitted")
    assert open_here.seen == []


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:80", "[::1]:9001", "a.localhost"]
)
async def test_each_name_of_the_loopback_is_taken(open_here: Guarded, host: str) -> None:
    assert (await open_here.get("/who", host=host)).status == 200


async def test_a_host_that_was_allowed_is_taken(access: Access) -> None:
    async with guarding(access, allowed_hosts=("Coordinator.lan",)) as guarded:
        assert (await guarded.get("/who", host="coordinator.LAN:9001")).status == 200
        assert (await guarded.get("/who", host="other.lan")).status == 403


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize(
    "header",
    [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://localhost:3000",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ],
)
async def test_a_page_of_another_origin_may_not_ask_without_a_key(
    open_here: Guarded, verb: str, header: str
) -> None:
    refused = await open_here.ask(verb, "/who", header, host="localhost")

    assert (refused.status, refused.json["code"]) == (403, "not_permitted")
    assert open_here.seen == []


async def test_a_page_of_this_origin_may_ask(open_here: Guarded) -> None:
    own = f"127.0.0.1:{open_here.port}"

    told = await open_here.ask(
        "POST", "/who", f"Origin: http://{own}", "Sec-Fetch-Site: same-origin"
    )

    assert told.status == 200


async def test_open_to_a_closed_network_plain_names_are_taken_and_domains_are_not(
    access: Access,
) -> None:
    async with guarding(access, anonymous_anywhere=True) as guarded:
        assert (await guarded.get("/who", host="coordinator:9001")).status == 200
        assert (await guarded.get("/who", host="10.0.0.7")).status == 200
        assert (await guarded.get("/who", host="evil.example")).status == 403


# Keys


@pytest.mark.parametrize(
    "how", ["Authorization: Bearer {}", "authorization: bearer {}", "X-API-Key: {}"]
)
async def test_a_key_says_who_asks(closed: Guarded, how: str) -> None:
    issued = await closed.access.create("ci", role="operate", agent="mira")

    told = (await closed.get("/who", how.format(issued.secret))).json

    assert (told["caller"], told["role"], told["agent"]) == ("ci", "operate", "mira")


async def test_without_a_key_nothing_is_told(closed: Guarded) -> None:
    refused = await closed.get()

    assert refused.status == 401
    assert refused["www-authenticate"] == 'Bearer realm="callboard"'
    assert refused.json["code"] == "not_authenticated"
    assert set(refused.json) == {"detail", "code", "details"}
    assert closed.seen == []


async def test_a_wrong_key_is_refused_whatever_is_wrong_with_it(closed: Guarded) -> None:
    issued = await closed.access.create("ci")
    key_id, secret = issued.secret.split("_", 2)[1:]
    wrong = [
        f"cb_{key_id}_{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}",
        f"cb_{'a' * 12}_{secret}",
        f"cb_{key_id}_",
        f"cb_{key_id}_{secret}x",
        secret,
        "",
        "x" * 5_000,
    ]

    for text in wrong:
        for header in (f"Authorization: Bearer {text}", f"X-API-Key: {text}"):
            assert (await closed.get("/who", header)).status == 401, text
    assert (await closed.get("/who", "Authorization: Basic YTpi")).status == 401
    assert closed.seen == []


async def test_a_wrong_key_is_refused_where_none_is_needed(open_here: Guarded) -> None:
    assert (await open_here.get("/who", "X-API-Key: nonsense")).status == 401


@pytest.mark.parametrize("what", ["key", "ticket", "nonsense"])
async def test_who_makes_keys_up_is_soon_told_to_wait_and_asks_the_engine_no_more(
    access: Access, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    known, new = await access.create("known"), await access.create("new")
    asked: list[str] = []

    def counting(plain: Any) -> Any:
        async def counted(text: str) -> Any:
            asked.append(text)
            return await plain(text)

        return counted

    async with guarding(
        access, require_keys=True, refused_rate=0.01, refused_burst=3, key_seconds=0
    ) as guarded:
        assert (await guarded.get("/who", bearer(known))).status == 200
        monkeypatch.setattr(access, "credential", counting(access.credential))
        monkeypatch.setattr(access, "redeem", counting(access.redeem))
        answers = []
        for i in range(6):
            made_up = f"cb_{i:012}_{'x' * 43}"
            match what:
                case "key":
                    answers.append(await guarded.get("/who", f"X-API-Key: {made_up}"))
                case "ticket":
                    answers.append(await guarded.get(f"/who?ticket={made_up}"))
                case _:
                    answers.append(await guarded.get("/who", "X-API-Key: nonsense"))
        made_up_asked = len(asked)
        wrong = f"X-API-Key: {known.secret[:-2]}--"
        others = [await guarded.get("/who", *one) for one in ([wrong], [bearer(new)])]

        assert [one.status for one in answers] == [401, 401, 401, 429, 429, 429]
        assert answers[-1].json["code"] == "rate_limited"
        assert 90 <= int(answers[-1]["retry-after"]) <= 100
        assert made_up_asked == (0 if what == "nonsense" else 3)
        assert [one.status for one in others] == [429, 429]
        assert (await guarded.get("/who", bearer(known))).status == 200


async def test_new_keys_that_hold_are_not_counted_as_made_up(access: Access) -> None:
    issued = [await access.create("ci") for _ in range(5)]
    async with guarding(
        access, require_keys=True, refused_rate=0.01, refused_burst=2, key_seconds=0
    ) as guarded:
        for one in issued:
            ticket = (await access.ticket(one.key.id)).ticket
            assert (await guarded.get("/who", bearer(one))).status == 200
            assert (await guarded.get(f"/who?ticket={ticket}")).status == 200


async def test_what_is_known_of_addresses_and_keys_has_a_bound(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "ADDRESSES_MAX", 3)
    monkeypatch.setattr(identity, "KNOWN_MAX", 3)
    counted = strangers.Strangers(1, 1)
    for i in range(9):
        counted.take(f"10.0.0.{i}")
    async with guarding(access, require_keys=True) as guarded:
        for _ in range(5):
            assert (await guarded.get("/who", bearer(await access.create("ci")))).status == 200

        assert list(counted._due) == ["10.0.0.6", "10.0.0.7", "10.0.0.8"]
        assert len(guarded.guard._doorkeeper._keyring._known) == 3


async def test_a_query_of_too_many_fields_is_refused(closed: Guarded) -> None:
    ticket = (await closed.access.ticket((await closed.access.create("ci")).key.id)).ticket
    many = "&".join(f"a{i}=1" for i in range(1_001))

    refused = await closed.get(f"/who?ticket={ticket}&{many}")
    taken = await closed.get(f"/who?ticket={ticket}&{many[: many.index('a200=')]}")

    assert (refused.status, refused.json["detail"][0]["loc"][-1]) == (422, "query")
    assert taken.status == 200


async def test_a_namespace_that_is_none_is_named_with_the_header(open_here: Guarded) -> None:
    refused = await open_here.ask("GET", "/who", "X-Callboard-Namespace: no no", host="localhost")

    assert refused.status == 422
    assert refused.json["detail"][0]["loc"] == ["header", "x-callboard-namespace"]
    assert "Namespace 'no no' cannot be used" in refused.json["detail"][0]["msg"]


async def test_two_keys_in_one_request_are_refused(closed: Guarded) -> None:
    first, second = await closed.access.create("a"), await closed.access.create("b")

    refused = await closed.get("/who", bearer(first), bearer(second))

    assert refused.status == 422
    assert closed.seen == []


async def test_secrets_are_compared_in_constant_time(
    closed: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await closed.access.create("ci")
    compared: list[tuple[int, int]] = []
    plain = hmac.compare_digest

    def compare(a: Any, b: Any) -> bool:
        compared.append((len(a), len(b)))
        return plain(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert (await closed.get("/who", bearer(issued))).status == 200

    assert compared == [(32, 32)]


async def test_a_revoked_key_is_refused_at_once_where_nothing_is_believed(
    closed: Guarded,
) -> None:
    issued = await closed.access.create("ci")
    assert (await closed.get("/who", bearer(issued))).status == 200
    await closed.access.revoke(issued.key.id)

    refused = await closed.get("/who", bearer(issued))

    assert refused.status == 401
    assert "was revoked" in refused.json["detail"]


async def test_a_revoked_key_is_refused_within_two_seconds(access: Access) -> None:
    issued = await access.create("ci")
    async with guarding(access, require_keys=True) as guarded:
        assert (await guarded.get("/who", bearer(issued))).status == 200
        await access.revoke(issued.key.id)

        async def is_refused() -> bool:
            return (await guarded.get("/who", bearer(issued))).status == 401

        await until(is_refused, seconds=2)


async def test_a_key_is_looked_up_once_a_second(access: Access, monkeypatch: Any) -> None:
    issued = await access.create("ci")
    looked_up: list[str] = []
    plain = access.credential

    async def credential(key_id: str) -> Any:
        looked_up.append(key_id)
        return await plain(key_id)

    monkeypatch.setattr(access, "credential", credential)
    async with guarding(access, require_keys=True, key_seconds=2) as guarded:
        for _ in range(20):
            assert (await guarded.get("/who", bearer(issued))).status == 200
        known = issued.secret[:-1] + ("A" if issued.secret[-1] != "A" else "B")
        assert (await guarded.get("/who", f"X-API-Key: {known}")).status == 401

    assert len(looked_up) == 1


def test_a_key_is_never_believed_for_more_than_two_seconds() -> None:
    with pytest.raises(InvalidArgument, match="from 0 to 2"):
        AccessSettings(key_seconds=2.5)


async def test_the_use_of_a_key_is_noted_once_a_minute(closed: Guarded, monkeypatch: Any) -> None:
    issued = await closed.access.create("ci")
    noted: list[str] = []
    plain = closed.access.use

    async def use(key_id: str) -> None:
        noted.append(key_id)
        await plain(key_id)

    monkeypatch.setattr(closed.access, "use", use)

    for _ in range(5):
        await closed.get("/who", bearer(issued))

    assert noted == [issued.key.id]
    assert (await closed.access.get(issued.key.id)).last_used_at is not None


async def test_a_wrong_secret_does_not_count_as_use(closed: Guarded) -> None:
    issued = await closed.access.create("ci")

    await closed.get("/who", f"X-API-Key: {issued.secret[:-1]}_")

    assert (await closed.access.get(issued.key.id)).last_used_at is None


async def test_while_the_engine_is_away_nobody_is_believed(access: Access) -> None:
    async def away() -> Access:
        raise EngineUnavailable("The engine cannot be reached.")

    issued = await access.create("ci")
    async with guarding(access, require_keys=True, reach=away) as guarded:
        refused = await guarded.get("/who", bearer(issued))
        watchdog = await guarded.get("/health")

    assert (refused.status, refused.json["code"]) == (503, "engine_unavailable")
    assert refused["retry-after"] == "1"
    assert watchdog.status == 200


# Public paths


def test_the_public_paths_are_those_whose_routes_take_no_role() -> None:
    assert {route.path for route in all_routes() if route.role is None} == PUBLIC


@pytest.mark.parametrize("path", sorted(PUBLIC))
async def test_a_public_path_takes_no_key_and_gives_no_rights(closed: Guarded, path: str) -> None:
    told = (await closed.get(path, host="balancer.example")).json

    assert (told["caller"], told["role"]) == ("anonymous", "read")
    with pytest.raises(NotPermitted):
        Caller(name="anonymous", role="read", namespaces=()).check_namespace("")


@pytest.mark.parametrize("path", ["/health/", "//health", "/health/x", "/docs.", "/HEALTH"])
async def test_what_only_looks_like_a_public_path_takes_a_key(closed: Guarded, path: str) -> None:
    assert (await closed.get(path)).status == 401


# Namespaces


@pytest.mark.parametrize(
    ("namespaces", "given", "expected"),
    [
        (["*"], None, ""),
        (["*"], "team", "team"),
        (["team"], None, "team"),
        (["team"], "team", "team"),
        (["", "team"], None, ""),
        (["", "team"], "team", "team"),
        (["a", ""], "", ""),
        (["team"], "other", 403),
        (["team"], "", 403),
        (["team", "other"], None, 422),
        (["*"], "no name", 422),
        (["*"], "callboard-access", 422),
        (["*"], "x" * 200, 422),
    ],
)
async def test_the_namespace_is_that_of_the_header_or_the_key(
    closed: Guarded, namespaces: list[str], given: str | None, expected: str | int
) -> None:
    issued = await closed.access.create("ci", namespaces=namespaces)
    headers = [bearer(issued)] + ([] if given is None else [f"X-Callboard-Namespace: {given}"])

    told = await closed.get("/who", *headers)

    if isinstance(expected, int):
        assert told.status == expected
        assert closed.seen == []
    else:
        assert told.json["namespace"] == expected


async def test_the_coordinators_own_namespace_is_the_default(access: Access) -> None:
    issued = await access.create("ci")
    async with guarding(access, namespace="mine") as guarded:
        assert (await guarded.get()).json["namespace"] == "mine"
        assert (await guarded.get("/who", bearer(issued))).json["namespace"] == "mine"


# Roles


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("read", ["read"]),
        ("work", ["read", "work"]),
        ("operate", ["read", "work", "operate"]),
        ("admin", ["read", "work", "operate", "admin"]),
    ],
)
def test_each_role_may_do_what_those_before_it_may(role: Any, allowed: list[str]) -> None:
    caller = Caller(name="ci", role=role, key_id="k")
    wanted: Any

    for wanted in ("read", "work", "operate", "admin"):
        if wanted in allowed:
            caller.check(wanted)
        else:
            with pytest.raises(NotPermitted, match=f"takes the role {wanted}"):
                caller.check(wanted)


def test_a_key_for_one_agent_acts_as_no_other() -> None:
    bound = Caller(name="ci", role="work", agent="mira", key_id="k")

    bound.check_agent("mira")
    Caller(name="ci", role="work").check_agent("noor")
    for other in ("noor", None, ""):
        with pytest.raises(NotPermitted, match="for agent 'mira' alone"):
            bound.check_agent(other)


def test_a_key_of_some_namespaces_makes_no_keys() -> None:
    Caller(name="ci", role="admin").check_everywhere()
    with pytest.raises(NotPermitted):
        Caller(name="ci", role="admin", namespaces=("team",), key_id="k").check_everywhere()


# Rates


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(closed: Guarded) -> None:
    issued = await closed.access.create("ci", rate=0.5, burst=2)
    other = await closed.access.create("other")

    statuses = [(await closed.get("/who", bearer(issued))).status for _ in range(2)]
    refused = await closed.get("/who", bearer(issued))

    assert statuses == [200, 200]
    assert refused.status == 429
    assert refused.json["detail"] == "Rate limit exceeded"
    assert refused.json["code"] == "rate_limited"
    assert refused["retry-after"] == "2"
    assert (await closed.get("/who", bearer(other))).status == 200


async def test_two_coordinators_count_together(access: Access) -> None:
    issued = await access.create("ci", rate=0.01, burst=4)
    async with (
        guarding(access, require_keys=True) as one,
        guarding(access, require_keys=True) as two,
    ):
        answers = await asyncio.gather(
            *(server.get("/who", bearer(issued)) for server in (one, two) for _ in range(5))
        )

    assert sorted(answer.status for answer in answers) == [200] * 4 + [429] * 6


async def test_without_a_key_an_address_has_the_coordinators_rate(access: Access) -> None:
    async with guarding(access, rate=0.01, burst=1) as guarded:
        assert (await guarded.get()).status == 200
        assert (await guarded.get()).status == 429
        assert (await guarded.get("/health")).status == 200


# Where no header can be set


async def test_a_ticket_stands_for_its_key_once_and_gets_into_no_log(closed: Guarded) -> None:
    issued = await closed.access.create("ci", namespaces=["team", "other"])
    ticket = (await closed.access.ticket(issued.key.id)).ticket
    path = f"/events?a=1&ticket={ticket}&namespace=team&types=task%3A*"

    told = await closed.get(path)

    assert (told.json["caller"], told.json["namespace"]) == ("ci", "team")
    assert told.json["query"] == "a=1&types=task%3A%2A"
    assert (await closed.get(path)).status == 401


async def test_a_namespace_that_is_none_is_named_where_it_stood(closed: Guarded) -> None:
    issued = await closed.access.create("ci")
    tickets = [(await closed.access.ticket(issued.key.id)).ticket for _ in range(2)]

    asked = await closed.get(f"/events?ticket={tickets[0]}&namespace=no%20no")
    both = await closed.get(
        f"/events?ticket={tickets[1]}&namespace=no%20no", "X-Callboard-Namespace: team"
    )
    twice = await closed.get("/who", bearer(issued), "X-API-Key: a", "X-API-Key: b")
    long = await closed.get("/events?ticket=t&" + "&".join(f"a={n}" for n in range(1_100)))

    assert [one.status for one in (asked, both, twice, long)] == [422] * 4
    assert asked.json["detail"][0]["loc"] == ["query", "namespace"]
    assert both.json["detail"][0]["loc"] == ["query", "namespace"]
    assert twice.json["detail"][0]["loc"] == ["header", "x-api-key"]
    assert long.json["detail"][0]["loc"] == ["query"]


async def test_a_ticket_changes_nothing_but_what_is_read(closed: Guarded) -> None:
    issued = await closed.access.create("ci")
    ticket = (await closed.access.ticket(issued.key.id)).ticket

    assert (await closed.ask("POST", f"/who?ticket={ticket}")).status == 401


async def test_a_ticket_of_a_revoked_key_does_not_hold(closed: Guarded) -> None:
    issued = await closed.access.create("ci")
    ticket = (await closed.access.ticket(issued.key.id)).ticket
    await closed.access.revoke(issued.key.id)

    assert (await closed.get(f"/who?ticket={ticket}")).status == 401


HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def test_a_socket_of_a_browser_shows_its_key_as_a_protocol(closed: Guarded) -> None:
    issued = await closed.access.create("ci")
    offered = f"Sec-WebSocket-Protocol: callboard, bearer.{issued.secret}"

    opened = await closed.ask("GET", "/ws", *HANDSHAKE, offered)

    assert opened.status == 101
    assert opened["sec-websocket-protocol"] == "callboard"
    assert closed.seen[0]["caller"] == "ci"
    assert issued.secret not in repr(closed.seen[0]["scope"]["subprotocols"])


async def test_a_socket_without_a_key_is_refused_before_it_is_one(closed: Guarded) -> None:
    refused = await closed.ask("GET", "/ws", *HANDSHAKE)

    assert (refused.status, refused.json["code"]) == (401, "not_authenticated")
    assert refused["x-frame-options"] == "DENY"
    assert closed.seen == []


async def test_sockets_that_are_refused_are_no_faults_in_the_log(
    closed: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("uvicorn.error")
    log.addHandler(caplog.handler)
    try:
        refused = await closed.ask("GET", "/ws", *HANDSHAKE)
        await until(lambda: not closed.server.server_state.tasks, "it is dealt with")
    finally:
        log.removeHandler(caplog.handler)

    assert refused.status == 401
    assert caplog.records == []


async def test_a_page_of_another_origin_opens_no_socket_without_a_key(
    open_here: Guarded,
) -> None:
    refused = await open_here.ask("GET", "/ws", *HANDSHAKE, "Origin: https://evil.example")
    own = f"Origin: http://127.0.0.1:{open_here.port}"

    assert refused.status == 403
    assert (await open_here.ask("GET", "/ws", *HANDSHAKE, own)).status == 101


# The audit log


async def test_what_operators_do_is_written_down_with_who_and_how_it_ended(
    closed: Guarded,
) -> None:
    issued = await closed.access.create("ci", role="operate")
    headers = (bearer(issued), "X-Request-ID: r-1", "X-Callboard-Namespace: team")

    await closed.ask("POST", "/do/boards.pause/operate/b/200", *headers)
    await closed.ask("POST", "/do/boards.remove/admin/b/409", *headers)
    await closed.ask("POST", "/do/tasks.submit/work/b/200", *headers)
    await closed.get("/do/boards.look/admin/b/200", *headers)

    failed, done = (await closed.access.audit(operation="boards.*")).entries
    assert (done.operation, done.target, done.outcome) == ("boards.pause", "b", "ok")
    assert (done.name, done.key, done.role) == ("ci", issued.key.id, "operate")
    assert (done.address, done.namespace, done.request) == ("127.0.0.1", "team", "r-1")
    assert (failed.operation, failed.outcome) == ("boards.remove", "409")
    assert (await closed.access.audit(operation="tasks.*")).entries == ()


async def test_who_may_not_cannot_fill_the_audit_log(
    closed: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    issued = await closed.access.create("reader", role="read")

    await closed.ask("POST", "/do/boards.pause/operate/b/403", bearer(issued))

    assert (await closed.access.audit(operation="boards.*")).entries == ()
    assert "reader may not boards.pause" in caplog.text


async def test_no_secret_gets_into_a_log(closed: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issued = await closed.access.create("ci", role="admin")
    ticket = (await closed.access.ticket(issued.key.id)).ticket
    secret = issued.secret.split("_", 2)[2]

    await closed.ask("POST", "/do/boards.pause/operate/b/403", bearer(issued))
    await closed.ask("POST", "/fail", bearer(issued), body=b"the payload")
    await closed.get("/who", f"X-API-Key: {issued.secret}x")
    await closed.get(f"/fail?ticket={ticket}")

    assert "a bug" in caplog.text
    for kept in (secret, ticket, "the payload"):
        assert kept not in caplog.text


# Where it is bound


def key_of(status: str) -> ApiKey:
    whole: dict[str, Any] = dict.fromkeys(ApiKey.__struct_fields__)
    return ApiKey(**{**whole, "status": status})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "/run/callboard.sock"])
def test_on_the_loopback_keys_are_a_choice(host: str) -> None:
    assert not bound_to(AccessSettings(), host, []).require_keys
    with pytest.raises(ConfigError, match="there is none"):
        bound_to(AccessSettings(require_keys=True), host, [])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "coordinator.example", ""])
def test_beyond_the_loopback_there_must_be_a_key(host: str) -> None:
    for keys in ([], [key_of("revoked"), key_of("expired")]):
        with pytest.raises(ConfigError, match="callboard keys create"):
            bound_to(AccessSettings(), host, keys)

    settings = bound_to(AccessSettings(), host, [key_of("active")])

    assert settings.require_keys
    assert not settings.anonymous_anywhere


def test_beyond_the_loopback_without_keys_has_to_be_said() -> None:
    settings = bound_to(AccessSettings(), "0.0.0.0", [], is_insecure=True)

    assert settings.anonymous_anywhere
    assert not settings.require_keys
    with pytest.raises(ConfigError):
        bound_to(AccessSettings(require_keys=True), "0.0.0.0", [], is_insecure=True)
