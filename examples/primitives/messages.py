"""Agents that write to each other: roles, a crash, questions and answers, topics, broadcasts.

A lead asks all critics for a review of forty pages; two critics share the inbox of the first
of them. One of the two crashes with pages in its hands, and the other gets those too. A page
that breaks its reader lands among the dead letters, and is put back when the reader is mended.
Then the lead asks a question and gets the answer, says something on a topic, and tells
everybody that the day is over; somebody who slept through it all hears that too.

    python examples/primitives/messages.py
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections import Counter

import callboard
from callboard import Message, MessageSpec, Role

PAGES = 40
POISON = 7


async def main() -> None:
    # The page that breaks its reader would be told three times, with its traceback.
    logging.getLogger("callboard.messages").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        data = None if "CALLBOARD_URL" in os.environ else folder
        async with callboard.connect(data=data, namespace="messages-example", adopt=True) as cb:
            janitor = cb.janitor(interval=0.1)
            janitor.start()
            await register(cb)
            await review(cb)
            await converse(cb)
            await janitor.stop()


async def register(cb: callboard.Callboard) -> None:
    await cb.agents.register("lead", agent_type="lead")
    for name in ("noor", "mira"):
        await cb.agents.register(name, agent_type="critic", capabilities=("read",))
    sent = await cb.messages.send(Role(agent_type="critic"), {"get": "ready"}, sender="lead")
    print(f"To all critics: {', '.join(sorted(sent.recipients))}.")
    for name in sent.recipients:
        async for message in cb.messages.listen(name, limit=1):
            assert message.value == {"get": "ready"}


async def review(cb: callboard.Callboard) -> None:
    """Forty pages for noor, whose inbox two processes share; one of them crashes."""
    read: Counter[int] = Counter()
    is_mended = asyncio.Event()

    async def reader(message: Message) -> None:
        if message.value == POISON and not is_mended.is_set():
            raise ValueError("page 7 cannot be read")
        await asyncio.sleep(0.005)
        read[message.value] += 1

    await cb.messages.send_many(
        MessageSpec(to="noor", payload=page, sender="lead", max_deliveries=3)
        for page in range(PAGES)
    )
    taken_by_the_one_that_crashes = await cb.messages.take("noor", 5, lease=0.3, taker="p1")
    serving = asyncio.create_task(cb.messages.serve("noor", reader, backoff=0.01, taker="p2"))
    while len(read) < PAGES - 1:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    again = [page.value for page in taken_by_the_one_that_crashes]
    print(f"A reader crashed with pages {again} in its hands; the other read them too.")

    dead: list[Message] = []
    while not dead:
        dead = list((await cb.messages.inbox("noor", state="dead")).messages)
        await asyncio.sleep(0.02)
    print(f"Dead letter after {dead[0].deliveries} deliveries: {dead[0].error}.")
    is_mended.set()
    await cb.messages.requeue("noor", [message.id for message in dead])
    while await cb.messages.unread("noor"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    print(f"All {len(read)} pages are read, each {max(read.values())} time.")


async def converse(cb: callboard.Callboard) -> None:
    async def answer(message: Message) -> str:
        return f"{message.value} looks fine"

    serving = asyncio.create_task(cb.messages.serve("mira", answer))
    replies = await asyncio.gather(
        *(cb.messages.request("mira", f"chapter {n}", sender="lead") for n in range(1, 4))
    )
    for reply in replies:
        print(f"mira answers: {reply.value}.")
    thread = await cb.messages.history(thread=replies[0].thread)
    print(f"The thread of the first question holds {thread.total} messages.")
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)

    await cb.messages.subscribe("noor", "builds")
    published = await cb.messages.publish("builds", {"build": 12, "ok": True}, sender="lead")
    print(f"Subscribed to builds: {', '.join(published.recipients)}.")

    sent = await cb.messages.broadcast("the day is over", sender="lead")
    heard = []
    for name in ("noor", "mira"):
        async for message in cb.messages.listen(name):
            if message.is_broadcast:
                heard.append(f"{name}: {message.value}")
                break
    print(f"Broadcast {sent.number} for {sent.count} agents: {'; '.join(heard)}.")


if __name__ == "__main__":
    asyncio.run(main())
