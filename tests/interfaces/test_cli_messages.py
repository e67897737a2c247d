"""``callboard messages``: what is sent, looked at, taken, answered, and put back."""

from __future__ import annotations

import threading

import pytest

from tests.interfaces.cli_support import Cli


def send(cli: Cli, *arguments: str) -> str:
    sent: str = cli.json("messages", "send", *arguments)["id"]
    return sent


# Refusals, and the empty state


def test_where_nothing_was_sent_it_says_how(cli: Cli) -> None:
    assert "Send one: callboard messages send" in cli.ok("messages", "inboxes").out
    assert cli.ok("messages", "inbox", "noor").out.startswith("Nothing unread in the inbox of noor")
    assert cli.ok("messages", "take", "noor").out == "Nothing waits in the inbox of noor.\n"
    assert cli.ok("messages", "dead").out == "No dead letters.\n"
    assert "callboard messages add-peer" in cli.ok("messages", "peers").out
    assert "callboard messages set-hierarchy" in cli.ok("messages", "hierarchy").out
    assert "callboard messages subscribe" in cli.ok("messages", "subscriptions").out
    assert "No messages are kept" in cli.ok("messages", "history").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "'no json'"),
        ("send", "1"),
        ("send", "noor", "--role", "critic", "1"),
        ("send", "noor", "no json"),
        ("send", "noor", "1", "--priority", "highest"),
        ("ack", "noor", "m:x"),
        ("inbox", "noor", "--state", "lost"),
        ("history", "--sender", "a", "--receiver", "b"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(cli: Cli, arguments: tuple[str, ...]) -> None:
    ran = cli("--json", "messages", *arguments)

    assert ran.code == 2
    assert ran.error["code"] == "invalid_argument"


def test_what_is_not_there_is_told(cli: Cli) -> None:
    ran = cli("--json", "messages", "show", "none")

    assert (ran.code, ran.error["code"]) == (4, "message_not_found")
    assert cli("messages", "requeue", "noor", "none").code == 4


def test_a_full_inbox_is_told_with_the_cure(cli: Cli) -> None:
    cli.ok("messages", "limit", "noor", "1")
    send(cli, "noor", "1")

    ran = cli("messages", "send", "noor", "2")

    assert ran.code != 0
    assert "The inbox of noor is full" in ran.err
    assert "callboard messages limit noor N" in ran.err


# What it does


def test_a_message_is_sent_seen_taken_and_acknowledged(cli: Cli) -> None:
    message = send(cli, "noor", '{"n": 1}', "--from", "mira", "--priority", "high")

    listed = cli.json("messages", "inbox", "noor")
    shown = cli.ok("messages", "inbox", "noor").out
    taken = cli.json("messages", "take", "noor")["messages"][0]
    fence = taken["fence"]
    acknowledged = cli.ok("messages", "ack", "noor", f"{message}:{fence}").out
    again = cli("messages", "ack", "noor", f"{message}:{fence}")

    assert listed["counts"]["waiting"] == 1
    assert "acknowledged it at" in cli.ok("messages", "why", message).out
    assert message in shown
    assert "mira" in shown
    assert (taken["id"], taken["payload"], taken["priority"]) == (message, {"n": 1}, 10)
    assert acknowledged == f"Acknowledged {message}.\n"
    assert again.code == 0
    assert cli.json("messages", "show", message)["copies"][0]["status"] == "read"


def test_what_is_taken_says_how_to_acknowledge_it(cli: Cli) -> None:
    message = send(cli, "noor", '"hello"', "--from", "mira", "--thread", "plan")

    told = cli.ok("messages", "take", "noor").out

    assert "from mira (direct, thread plan)" in told
    assert f"callboard messages ack noor {message}:" in told


def test_looking_marks_as_read_without_a_fence(cli: Cli) -> None:
    message = send(cli, "noor", "1")

    cli.ok("messages", "ack", "noor", message)

    assert cli.json("messages", "inbox", "noor")["total"] == 0


def test_a_role_a_topic_and_everybody_are_reached(cli: Cli) -> None:
    cli.ok("agents", "register", "ann", "--type", "critic")
    cli.ok("messages", "subscribe", "noor", "news")

    to_role = cli.json("messages", "send", "--role", "critic", "1")
    to_topic = cli.json("messages", "send", "--topic", "news", "2")
    to_nobody = cli.ok("messages", "send", "--capability", "painting", "3").out
    to_all = cli.ok("messages", "broadcast", '"hear"', "--from", "mira").out

    assert to_role["recipients"] == ["ann"]
    assert to_topic["recipients"] == ["noor"]
    assert "to nobody: no agent fits now" in to_nobody
    assert "number 1" in to_all
    assert "news" in cli.ok("messages", "subscriptions", "noor").out
    cli.ok("messages", "unsubscribe", "noor", "news")
    assert cli.json("messages", "subscriptions") == {"subscriptions": []}


def test_listening_prints_what_comes_and_acknowledges_it(cli: Cli) -> None:
    for n in range(2):
        send(cli, "noor", str(n))

    ran = cli.ok("messages", "listen", "noor", "--limit", "2", "--json")

    assert [line.count('"payload"') for line in ran.out.splitlines()] == [1, 1]
    assert cli.json("messages", "inbox", "noor")["total"] == 0


def test_a_request_prints_its_answer(cli: Cli, engine_url: str, namespace: str) -> None:
    from callboard import sync

    def answer() -> None:
        with sync.connect(engine_url, namespace=namespace) as cb:
            for message in cb.messages.listen("noor"):
                cb.messages.reply(message, message.value * 2)
                return

    thread = threading.Thread(target=answer)
    thread.start()
    told = cli.ok("messages", "request", "noor", "21", "--timeout", "30s").out
    thread.join(30)

    assert told == "42\n"


def test_a_request_nobody_answers_ends_with_an_error(cli: Cli) -> None:
    ran = cli("--json", "messages", "request", "noor", "21", "--timeout", "50ms")

    assert ran.code != 0
    assert ran.error["code"] == "request_timeout"


def test_a_request_is_answered_by_hand_and_only_a_request(
    cli: Cli, engine_url: str, namespace: str
) -> None:
    from callboard import sync

    plain = send(cli, "noor", "1")
    refused = cli("--json", "messages", "reply", "noor", plain, "2")
    with sync.connect(engine_url, namespace=namespace) as cb:
        cb.messages.send_request("noor", 1, timeout=60, id="q")
        cli.ok("messages", "reply", "noor", "q", "2")
        answer = cb.messages.wait_reply("q")

    assert refused.error["code"] == "not_a_request"
    assert answer.value == 2


def test_dead_letters_are_listed_requeued_and_purged(
    cli: Cli, engine_url: str, namespace: str
) -> None:
    from callboard import sync

    with sync.connect(engine_url, namespace=namespace) as cb:
        for name in ("m1", "m2"):
            cb.messages.send("noor", 1, id=name, max_deliveries=1)
        for message in cb.messages.take("noor", 2):
            cb.messages.release(message, reason="it hurts")

    told = cli.ok("messages", "dead").out
    cli.ok("messages", "requeue", "noor", "m1")
    cli.ok("messages", "purge", "noor", "m2")

    assert "it hurts" in told
    assert [m["id"] for m in cli.json("messages", "inbox", "noor")["messages"]] == ["m1"]
    assert cli.json("messages", "dead") == {"dead": []}


def test_peers_and_hierarchies_decide_who_is_reached(cli: Cli) -> None:
    refused = cli("messages", "send", "noor", "1", "--from", "mira", "--protocol", "peer_to_peer")
    cli.ok("messages", "add-peer", "mira", "noor")
    cli.ok("messages", "send", "noor", "1", "--from", "mira", "--protocol", "peer_to_peer")
    cli.ok("messages", "set-hierarchy", "lead", "mira", "noor")
    cli.ok("messages", "send", "lead", "1", "--from", "mira", "--protocol", "hierarchical")

    assert "is no peer of the sender" in refused.err
    assert "noor" in cli.ok("messages", "peers", "mira").out
    assert [link["name"] for link in cli.json("messages", "hierarchy")["subordinates"]] == [
        "mira",
        "noor",
    ]
    cli.ok("messages", "remove-peer", "mira", "noor")
    assert cli.json("messages", "peers") == {"peers": []}


def test_the_history_is_a_page_and_says_where_it_goes_on(cli: Cli) -> None:
    for n in range(3):
        send(cli, "noor", str(n), "--from", "mira")

    page = cli.json("messages", "history", "--sender", "mira", "--limit", "2")

    assert ([m["payload"] for m in page["messages"]], page["total"]) == ([2, 1], 3)
    assert "more: --offset 2" in cli.ok("messages", "history", "--limit", "2").out
    assert "noor" in cli.ok("messages", "inboxes").out


def test_a_message_goes_to_all_who_are_registered(cli: Cli) -> None:
    for name in ("mira", "noor"):
        cli.ok("agents", "register", name)

    sent = cli.json("messages", "send", "--registered", "--from", "mira", '"hello"')
    both = cli("messages", "send", "noor", "--registered", '"hello"')

    assert sent["recipients"] == ["noor"]
    assert both.code == 2
    assert "--registered" in both.err
