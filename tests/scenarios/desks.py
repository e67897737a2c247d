"""The same few things done through the library, over HTTP, and by commands over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol

import msgspec

from callboard import Callboard
from callboard.cli import main
from callboard.exceptions import CallboardError


class Refusal(Exception):
    """What was asked for was refused.

    Attributes:
        code: The stable word for why.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Desk(Protocol):
    """Somebody who works with a board, by whatever way."""

    async def add(self, kind: str, payload: Any = None, **options: Any) -> str: ...

    async def show(self, task: str) -> dict[str, Any]: ...

    async def claim(self, agent: str, capability: str = "") -> tuple[str, int] | None: ...

    async def complete(self, task: str, fence: int, result: Any) -> str: ...

    async def fail(self, task: str, fence: int, message: str, *, retry: bool) -> str: ...

    async def cancel(self, task: str) -> str: ...

    async def retry(self, task: str) -> str: ...

    async def release(self, task: str, fence: int) -> str: ...

    async def why(self, task: str) -> str: ...

    async def note(self, task: str, content: str) -> None: ...

    async def waiting(self) -> list[str]: ...

    async def dead_letters(self) -> list[str]: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def set_fields(self, project: str, **fields: Any) -> int: ...

    async def fields(self, project: str) -> dict[str, Any]: ...

    async def send(self, to: str, payload: Any) -> str: ...

    async def take(self, agent: str) -> list[tuple[str, int, Any]]: ...

    async def acknowledge(self, agent: str, message: str, fence: int) -> str: ...

    async def lock(self, resource: str, owner: str) -> int: ...

    async def unlock(self, resource: str, owner: str) -> None: ...


class LibraryDesk:
    """Calls of the library, on an engine or over HTTP alike."""

    def __init__(self, cb: Callboard) -> None:
        self.cb = cb

    async def add(self, kind: str, payload: Any = None, **options: Any) -> str:
        with _refusals():
            return (await self.cb.tasks.submit(kind, payload, **options)).id

    async def show(self, task: str) -> dict[str, Any]:
        with _refusals():
            found = msgspec.json.decode(msgspec.json.encode(await self.cb.tasks.get(task)))
            found["notes"] = [one.content for one in await self.cb.tasks.notes(task)]
            return dict(found)

    async def claim(self, agent: str, capability: str = "") -> tuple[str, int] | None:
        with _refusals():
            offers = (capability,) if capability else ()
            await self.cb.agents.register(agent, capabilities=offers)
            claims = await self.cb.tasks.claim(agent)
            return (claims.tasks[0].id, claims.tasks[0].fence) if claims.tasks else None

    async def complete(self, task: str, fence: int, result: Any) -> str:
        with _refusals():
            return (await self.cb.tasks.complete(task, fence=fence, result=result)).status

    async def fail(self, task: str, fence: int, message: str, *, retry: bool) -> str:
        with _refusals():
            answer = await self.cb.tasks.fail(task, fence=fence, error=message, retryable=retry)
            return answer.status

    async def cancel(self, task: str) -> str:
        with _refusals():
            return (await self.cb.tasks.cancel(task)).status

    async def retry(self, task: str) -> str:
        with _refusals():
            return (await self.cb.tasks.retry(task)).status

    async def release(self, task: str, fence: int) -> str:
        with _refusals():
            return (await self.cb.tasks.release(task, fence=fence)).status

    async def why(self, task: str) -> str:
        with _refusals():
            return msgspec.json.encode(await self.cb.tasks.why(task)).decode()

    async def note(self, task: str, content: str) -> None:
        with _refusals():
            await self.cb.tasks.note(task, content)

    async def waiting(self) -> list[str]:
        page = await self.cb.tasks.list(status="pending")
        return sorted(one.id for one in page.tasks)

    async def dead_letters(self) -> list[str]:
        return [one.id for one in await self.cb.dead_letters.list()]

    async def pause(self) -> None:
        await self.cb.boards.pause("default")

    async def resume(self) -> None:
        await self.cb.boards.resume("default")

    async def set_fields(self, project: str, **fields: Any) -> int:
        with _refusals():
            return (await self.cb.context.set(project, fields)).rev

    async def fields(self, project: str) -> dict[str, Any]:
        with _refusals():
            return dict((await self.cb.context.get(project)).fields)

    async def send(self, to: str, payload: Any) -> str:
        with _refusals():
            return (await self.cb.messages.send(to, payload, sender="desk")).id

    async def take(self, agent: str) -> list[tuple[str, int, Any]]:
        with _refusals():
            taken = await self.cb.messages.take(agent, 10)
            return [(one.id, one.fence, one.value) for one in taken]

    async def acknowledge(self, agent: str, message: str, fence: int) -> str:
        with _refusals():
            answers = await self.cb.messages.acknowledge_ids(agent, [(message, fence)])
            return answers[0].status

    async def lock(self, resource: str, owner: str) -> int:
        with _refusals():
            return (await self.cb.locks.acquire(resource, owner=owner, wait=0)).fence

    async def unlock(self, resource: str, owner: str) -> None:
        with _refusals():
            await self.cb.locks.release([resource], owner)


class CommandDesk:
    """Commands of ``callboard``, one after another, in this process."""

    def __init__(self, url: str, namespace: str) -> None:
        self._where = ["--json", "--url", url, "--namespace", namespace]

    async def run(self, *arguments: str) -> Any:
        """What the command printed; Refusal where it was refused."""
        return await asyncio.to_thread(self._run, arguments)

    def _run(self, arguments: tuple[str, ...]) -> Any:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*self._where, *arguments])
        if code and err.getvalue().strip().startswith("{"):
            raise Refusal(json.loads(err.getvalue())["error"]["code"])
        told = json.loads(out.getvalue()) if out.getvalue().strip() else None
        if code and told and "answers" in told:
            raise Refusal(told["answers"][0]["status"])
        assert code == 0, (code, out.getvalue(), err.getvalue())
        return told

    async def add(self, kind: str, payload: Any = None, **options: Any) -> str:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        added: str = (await self.run("tasks", "add", kind, json.dumps(payload), *flags))["id"]
        return added

    async def show(self, task: str) -> dict[str, Any]:
        shown = await self.run("tasks", "show", task)
        shown["notes"] = [one["content"] for one in shown.get("notes", ())]
        return dict(shown)

    async def claim(self, agent: str, capability: str = "") -> tuple[str, int] | None:
        offers = ["--capability", capability] if capability else []
        tasks = (await self.run("tasks", "claim", "--agent", agent, *offers))["tasks"]
        return (tasks[0]["id"], tasks[0]["fence"]) if tasks else None

    async def complete(self, task: str, fence: int, result: Any) -> str:
        told = ("tasks", "complete", task, "--fence", str(fence), json.dumps(result))
        return self._one(await self.run(*told))

    async def fail(self, task: str, fence: int, message: str, *, retry: bool) -> str:
        final = [] if retry else ["--no-retry"]
        told = ("tasks", "fail", task, "--fence", str(fence), message, *final)
        return self._one(await self.run(*told))

    async def cancel(self, task: str) -> str:
        return self._one(await self.run("tasks", "cancel", task))

    async def retry(self, task: str) -> str:
        return self._one(await self.run("tasks", "retry", task))

    async def release(self, task: str, fence: int) -> str:
        told = await self.run("tasks", "release", task, "--fence", str(fence))
        return self._one(told)

    async def why(self, task: str) -> str:
        return json.dumps(await self.run("tasks", "why", task))

    async def note(self, task: str, content: str) -> None:
        await self.run("tasks", "note", task, content)

    async def waiting(self) -> list[str]:
        found = await self.run("tasks", "list", "--status", "pending")
        return sorted(one["id"] for one in found["tasks"])

    async def dead_letters(self) -> list[str]:
        found = await self.run("dlq", "list")
        return [one["id"] for one in found["dead_letters"]]

    async def pause(self) -> None:
        await self.run("boards", "pause", "default")

    async def resume(self) -> None:
        await self.run("boards", "resume", "default")

    async def set_fields(self, project: str, **fields: Any) -> int:
        pairs = [f"{name}={json.dumps(value)}" for name, value in fields.items()]
        return int((await self.run("context", "set", project, *pairs))["rev"])

    async def fields(self, project: str) -> dict[str, Any]:
        return dict((await self.run("context", "show", project))["fields"])

    async def send(self, to: str, payload: Any) -> str:
        told = ("messages", "send", to, json.dumps(payload), "--from", "desk")
        return str((await self.run(*told))["id"])

    async def take(self, agent: str) -> list[tuple[str, int, Any]]:
        taken = await self.run("messages", "take", agent, "--limit", "10")
        return [(one["id"], one["fence"], one["payload"]) for one in taken["messages"]]

    async def acknowledge(self, agent: str, message: str, fence: int) -> str:
        told = await self.run("messages", "ack", agent, f"{message}:{fence}")
        return self._one(told)

    async def lock(self, resource: str, owner: str) -> int:
        told = ("locks", "acquire", resource, "--owner", owner, "--wait", "0")
        return int((await self.run(*told))["fence"])

    async def unlock(self, resource: str, owner: str) -> None:
        await self.run("locks", "release", resource, "--owner", owner)

    def _one(self, told: Any) -> str:
        """The status of one of many answers."""
        for key in ("tasks", "answers", "messages"):
            if isinstance(told, dict) and key in told:
                told = told[key]
        if isinstance(told, list):
            told = told[0]
        return str(told["status"])


@contextlib.contextmanager
def _refusals() -> Any:
    try:
        yield
    except CallboardError as error:
        raise Refusal(error.code) from error


def closing(source: AsyncIterator[Any]) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
    """The iteration, closed at the end: it is a generator, whatever its type says."""
    generator: Any = source
    return aclosing(generator)
