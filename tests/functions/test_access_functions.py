"""API keys on the engine: made, read, revoked, forgotten; rates, tickets and the audit log."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from callboard.domain.access import ApiKey, Credential, parse_token
from callboard.domain.task import at_ms
from callboard.exceptions import (
    ApiKeyNotFound,
    InvalidArgument,
    NotAuthenticated,
    TooLarge,
)
from callboard.services.access import Access
from tests.functions.access_support import access_of
from tests.functions.support import START_US, Stage
from tests.functions.test_wrong_types import failure_of

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000
DAY = 86_400
FILLER = (
    '{"name":"x","role":"read","namespaces":["*"],"agent":null,"hash":"","rate":null,'
    '"burst":null,"by":""}'
)


@pytest.fixture
def access(stage: Stage) -> Access:
    return access_of(stage.namespace)


async def made(access: Access, **options: Any) -> ApiKey:
    return (await access.create("ci", **options)).key


async def credential(access: Access, key_id: str) -> Credential:
    found = await access.credential(key_id)
    assert found is not None
    return found


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "no name"},
        {"role": "root"},
        {"namespaces": []},
        {"namespaces": "team"},
        {"namespaces": ["no name"]},
        {"namespaces": [f"n{i}" for i in range(101)]},
        {"agent": "no name"},
        {"expires_in": 59},
        {"expires_in": 11 * 366 * DAY},
        {"expires_in": True},
        {"rate": 0},
        {"rate": float("inf")},
        {"burst": 5},
        {"rate": 1, "burst": 0},
        {"by": 1},
    ],
    ids=str,
)
async def test_a_key_out_of_its_bounds_is_refused_at_the_edge(
    stage: Stage, access: Access, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await access.create(**{"name": "ci", **wrong})

    assert await stage.dump() == before


@pytest.mark.parametrize("key_id", ["", "short", "a" * 12, "a" * 13, "ä" * 12, "../../../etc"])
async def test_a_key_that_is_not_there_is_not_found(access: Access, key_id: str) -> None:
    for call in (access.get(key_id), access.revoke(key_id), access.use(key_id)):
        with pytest.raises(ApiKeyNotFound):
            await call


async def test_the_thousand_and_first_key_is_refused(stage: Stage, access: Access) -> None:
    for i in range(999):
        await stage.raw("HSET", "access:keys", f"filler{i}", "0||{}")
    await made(access)

    with pytest.raises(TooLarge, match="1,000 API keys"):
        await made(access)


async def test_where_there_is_no_room_the_key_that_ended_first_makes_it(
    stage: Stage, access: Access
) -> None:
    for i in range(996):
        await stage.raw("HSET", "access:keys", f"filler{i}", f"0||{FILLER}")
    lasting = await made(access, expires_in=90)
    later = await made(access, expires_in=60)
    revoked = await made(access)
    last = await made(access)
    await access.revoke(revoked.id)
    await access.use(revoked.id)
    stage.now += 61_000_000

    first, second = await made(access), await made(access)
    with pytest.raises(TooLarge, match="1,000 API keys"):
        await made(access)

    known = {key.id for key in await access.list()}
    assert len(known) == 1_000
    assert {lasting.id, last.id, first.id, second.id} <= known
    assert not {revoked.id, later.id} & known
    assert revoked.id not in repr(
        {k: v for k, v in (await stage.dump()).items() if "audit" not in k}
    )


@pytest.mark.parametrize(
    "key", ["access:keys", "access:revoked", "access:used", "access:gone", "access:audit"]
)
@pytest.mark.parametrize("how", ["create", "revoke", "use", "note"])
async def test_a_foreign_value_stops_the_operation_before_its_first_write(
    stage: Stage, access: Access, key: str, how: str
) -> None:
    known = await made(access)
    await access.use(known.id)
    await stage.raw("DEL", key)
    await stage.raw("SET", key, "not ours")
    before = await stage.dump()
    calls = {
        "create": lambda: access.create("other", expires_in=60),
        "revoke": lambda: access.revoke(known.id),
        "use": lambda: access.use(known.id),
        "note": lambda: access.note("boards.pause"),
    }

    error = await failure_of(calls[how]())

    if error:
        assert "of the wrong type" in error
        assert await stage.dump() == before
    else:
        assert await stage.raw("GET", key) == b"not ours"


# Keys


async def test_a_new_key_reads_back_as_it_was_made(stage: Stage, access: Access) -> None:
    issued = await access.create(
        "ci",
        role="operate",
        namespaces=["", "team"],
        agent="mira",
        expires_in=3_600,
        rate=2.5,
        by="olga",
    )

    key = issued.key
    assert await access.get(key.id) == key
    assert await access.list() == [key]
    assert (key.name, key.role, key.status) == ("ci", "operate", "active")
    assert (key.namespaces, key.agent) == (("", "team"), "mira")
    assert (key.rate, key.burst) == (2.5, 3)
    assert (key.created_at, key.created_by) == (at_ms(START_MS), "olga")
    assert key.expires_at == at_ms(START_MS + 3_600_000)
    assert (key.last_used_at, key.revoked_at) == (None, None)


async def test_the_secret_matches_and_nothing_else_does(access: Access) -> None:
    issued = await access.create("ci")
    other = await access.create("other")
    token = parse_token(issued.secret)
    assert token is not None
    key_id, secret = token

    found = await credential(access, key_id)

    assert key_id == issued.key.id
    assert found.matches(secret)
    assert not found.matches(secret[:-1] + ("A" if secret[-1] != "A" else "B"))
    assert not found.matches("")
    assert not found.matches(parse_token(other.secret)[1])  # type: ignore[index]


async def test_no_secret_is_anywhere_on_the_engine(stage: Stage, access: Access) -> None:
    issued = await access.create("ci", by="olga", address="10.0.0.1")
    ticket = await access.ticket(issued.key.id)
    secret = parse_token(issued.secret)[1]  # type: ignore[index]
    await access.use(issued.key.id)
    await access.revoke(issued.key.id)

    kept = repr(await stage.dump()) + repr(await access.audit())

    assert issued.key.id in kept
    assert secret not in kept
    assert ticket.ticket not in kept
    assert secret not in repr(issued)


async def test_secrets_have_256_bits_and_never_repeat(access: Access) -> None:
    secrets = {(await access.create("ci")).secret for _ in range(50)}

    assert len(secrets) == 50
    assert all(len(text.split("_", 2)[2]) == 43 for text in secrets)


async def test_a_key_holds_until_it_runs_out(stage: Stage, access: Access) -> None:
    key = await made(access, expires_in=60)
    stage.now += 59_999_000
    assert (await access.get(key.id)).status == "active"

    stage.now += 1_000

    assert (await access.get(key.id)).status == "expired"
    assert [key.status for key in await access.list()] == ["expired"]


async def test_a_revoked_key_says_since_when_and_by_whom(stage: Stage, access: Access) -> None:
    key = await made(access)
    stage.now += 5_000_000
    revoked = await access.revoke(key.id, by="olga")
    stage.now += 5_000_000

    again = await access.revoke(key.id, by="noor")

    assert revoked == again
    assert (again.status, again.revoked_by) == ("revoked", "olga")
    assert again.revoked_at == at_ms(START_MS + 5_000)
    assert len((await access.audit()).entries) == 2


async def test_the_use_of_a_key_is_remembered(stage: Stage, access: Access) -> None:
    key = await made(access)
    stage.now += 1_000_000

    await access.use(key.id)

    assert (await access.get(key.id)).last_used_at == at_ms(START_MS + 1_000)


async def test_the_same_key_again_is_the_same_key(stage: Stage) -> None:
    """A call whose reply was lost is repeated."""
    row = ("abcdefghijkl", '{"name":"ci"}', 0, "olga", "", "", "ci")
    first = await stage.call("access_create", *row)
    stage.now += 1_000_000

    again = await stage.call("access_create", *row)

    assert first == again
    assert await stage.raw("XLEN", "access:audit") == 1


@pytest.mark.parametrize("end", ["expired", "revoked"])
async def test_a_key_that_ended_is_forgotten_after_thirty_days(
    stage: Stage, access: Access, end: str
) -> None:
    key = await made(access, expires_in=60 if end == "expired" else None)
    if end == "revoked":
        stage.now += 60_000_000
        await access.revoke(key.id)
    await access.use(key.id)
    stage.now = START_US + round((30 * DAY + 60) * 1e6) - 1_000_000
    await made(access)
    assert len(await access.list()) == 2

    stage.now += 2_000_000
    await made(access)

    assert key.id not in {known.id for known in await access.list()}
    assert key.id not in repr({k: v for k, v in (await stage.dump()).items() if "audit" not in k})


# Rates


async def test_a_rate_lets_its_burst_through_and_then_one_an_interval(
    stage: Stage, access: Access
) -> None:
    taken = [await access.take("k", rate=10, burst=3) for _ in range(4)]
    stage.now += 99_000
    early = await access.take("k", rate=10, burst=3)
    stage.now += 1_000

    assert taken == [0, 0, 0, 0.1]
    assert early == 0.001
    assert await access.take("k", rate=10, burst=3) == 0
    assert await access.take("k", rate=10, burst=3) == 0.1


async def test_who_is_refused_takes_nothing(stage: Stage, access: Access) -> None:
    await access.take("k", rate=1, burst=1)
    for _ in range(100):
        await access.take("k", rate=1, burst=1)
    stage.now += 1_000_000

    assert await access.take("k", rate=1, burst=1) == 0


async def test_each_bucket_has_a_rate_of_its_own_and_a_lifetime(
    stage: Stage, access: Access
) -> None:
    await access.take("a", rate=0.5, burst=2)
    await access.take("a", rate=0.5, burst=2)

    assert await access.take("b", rate=0.5, burst=2) == 0
    assert 3_000 < await stage.raw("PTTL", "access:rate:a") <= 4_000
    assert 1_000 < await stage.raw("PTTL", "access:rate:b") <= 2_000


async def test_a_rate_is_shared_by_all_who_take_from_it(access: Access) -> None:
    waits = await asyncio.gather(*(access.take("k", rate=1, burst=5) for _ in range(20)))

    assert sum(wait == 0 for wait in waits) == 5


# Tickets


async def test_a_ticket_stands_for_its_key_once(access: Access) -> None:
    key = await made(access)
    ticket = (await access.ticket(key.id)).ticket

    assert await access.redeem(ticket) == key.id
    for wrong in (ticket, "", "x" * 43):
        with pytest.raises(NotAuthenticated, match="can be used once"):
            await access.redeem(wrong)


async def test_a_ticket_is_gone_after_a_minute(stage: Stage, access: Access) -> None:
    key = await made(access)
    await access.ticket(key.id)

    names = [name for name in await stage.key_names() if name.startswith("access:ticket:")]

    assert len(names) == 1
    assert 50_000 < await stage.raw("PTTL", names[0]) <= 60_000


async def test_there_is_no_ticket_for_a_key_that_is_not_there(access: Access) -> None:
    with pytest.raises(ApiKeyNotFound):
        await access.ticket("a" * 12)


# The audit log


async def test_keys_that_come_and_go_stand_in_the_audit_log(access: Access) -> None:
    key = await made(access, by="olga", by_key="k1", address="10.0.0.1")
    await access.revoke(key.id, by="noor", address="10.0.0.2")

    revoked, created = (await access.audit()).entries

    assert (created.operation, created.target) == ("access.create", f"{key.id} ci")
    assert (created.name, created.key, created.address) == ("olga", "k1", "10.0.0.1")
    assert (created.outcome, revoked.outcome) == ("ok", "ok")
    assert (revoked.operation, revoked.target) == ("access.revoke", key.id)
    assert (revoked.name, revoked.address) == ("noor", "10.0.0.2")


async def test_an_entry_reads_back_as_it_was_written(stage: Stage, access: Access) -> None:
    said = {
        "name": "ci",
        "key": "abcdefghijkl",
        "role": "operate",
        "address": "::1",
        "namespace": "team",
        "target": "board b",
        "outcome": "board_not_found",
        "request": "r-1",
    }

    cursor = await access.note("boards.pause", **said)

    (entry,) = (await access.audit()).entries
    assert (entry.cursor, entry.at, entry.operation) == (cursor, at_ms(START_MS), "boards.pause")
    assert {name: getattr(entry, name) for name in said} == said


async def test_long_texts_and_lines_are_cut(access: Access) -> None:
    await access.note("o", target="a\nb" + "x" * 500)

    (entry,) = (await access.audit()).entries

    assert entry.target == "a b" + "x" * 196 + "…"


async def test_the_log_is_read_from_the_newest_on_page_by_page(
    stage: Stage, access: Access
) -> None:
    for i in range(7):
        await access.note("o", target=str(i))
        stage.now += 500

    pages, cursor = [], None
    for _ in range(4):
        page = await access.audit(limit=3, cursor=cursor)
        pages.append([entry.target for entry in page.entries])
        cursor = page.cursor
        if cursor is None:
            break

    assert pages == [["6", "5", "4"], ["3", "2", "1"], ["0"]]


async def test_the_log_is_filtered_by_name_operation_and_time(stage: Stage, access: Access) -> None:
    await access.note("boards.pause", name="a", target="1")
    stage.now += 10_000_000
    await access.note("boards.resume", name="b", target="2")
    await access.note("tasks.purge", name="a", target="3")

    async def targets(**wanted: Any) -> list[str]:
        return [entry.target for entry in (await access.audit(**wanted)).entries]

    assert await targets(name="a") == ["3", "1"]
    assert await targets(operation="boards.*") == ["2", "1"]
    assert await targets(operation="boards.resume") == ["2"]
    since = at_ms(START_MS) + timedelta(seconds=10)
    assert await targets(since=since) == ["3", "2"]
    assert await targets(since=since, name="a", operation="boards.*") == []


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1", "1-x", "(1-0", "1" * 50 + "-0"])
async def test_a_cursor_that_is_none_is_refused(access: Access, cursor: str) -> None:
    with pytest.raises(InvalidArgument, match="cursor"):
        await access.audit(cursor=cursor)


async def test_the_log_is_kept_for_ninety_days(stage: Stage, access: Access) -> None:
    for _ in range(300):
        await access.note("old")
    stage.now += round(91 * DAY * 1e6)

    await access.note("new")

    operations = [entry.operation for entry in (await access.audit(limit=1_000)).entries]
    assert operations[0] == "new"
    # The engine trims whole nodes of about a hundred.
    assert len(operations) <= 101
    assert await stage.raw("PTTL", "access:audit") > 89 * DAY * 1_000


async def test_the_log_is_kept_by_count(stage: Stage, access: Access) -> None:
    await stage.call("access_note", "operation", "o")
    key = f"{stage.keys.prefix}access:audit"
    adding = [
        stage.connection.call("XADD", key, f"{START_MS}-*", "operation", "o")
        for _ in range(100_300)
    ]
    await asyncio.gather(*adding)
    await access.note("newest")

    assert await stage.raw("XLEN", "access:audit") <= 100_101


# Namespaces that coordinators serve


async def test_namespaces_that_are_served_are_remembered_the_latest_first(
    access: Access, stage: Stage
) -> None:
    await access._serve(["a", "b"])
    await stage.advance(1)
    found = await access._serve(["a", "c"])
    left = await access._serve([], ["a"])

    assert found == ["c", "a", "b"]
    assert left == ["c", "b"]


async def test_a_namespace_that_nobody_names_for_a_month_is_forgotten(
    access: Access, stage: Stage
) -> None:
    await access._serve(["a", "b"])
    await stage.advance(29 * DAY)
    await access._serve(["a"])
    await stage.advance(2 * DAY)

    assert await access._serve([]) == ["a"]


async def test_of_namespaces_that_are_served_the_latest_thousand_are_remembered(
    access: Access, stage: Stage
) -> None:
    await access._serve([f"n{i}" for i in range(1_000)])
    await stage.advance(1)
    found = await access._serve(["new"])

    assert (len(found), found[0]) == (1_000, "new")
