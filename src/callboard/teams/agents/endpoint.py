"""Agents behind HTTP: the request is posted as JSON, the answer is the response's body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec

from callboard.exceptions import CallboardError, Fatal, Retry
from callboard.outgoing import retry_after
from callboard.teams.agents import unusable
from callboard.teams.agents.address import Addresses
from callboard.teams.agents.options import number, output_bytes, pairs, texts

if TYPE_CHECKING:
    from callboard.domain.team import AgentDefinition
    from callboard.teams.agents import Invocation

CONNECT_SECONDS: Final = 10.0
CONNECT_SECONDS_MAX: Final = 300.0

ANSWER_SECONDS: Final = 300.0
"""How long an endpoint may be silent where the definition has no time limit."""

RETRY_AFTER_SECONDS_MAX: Final = 3_600.0
"""A longer ``Retry-After`` counts as this: a run has an end of its own to reach."""

REASON_BYTES: Final = 16_384
REASON_SECONDS: Final = 5.0
"""How much of a refusal's body is read, and how long, to find out why."""

HEAD_CHARACTERS: Final = 200

RETRYABLE: Final = frozenset({408, 425, 429})
"""Of the 4xx; they speak of the moment. All 5xx are retried too."""

OWN_HEADERS: Final = frozenset({"connection", "content-length", "content-type", "host"}) | {
    "transfer-encoding"
}
"""Headers that follow from the call itself."""


class EndpointAgent:
    """Posts each request to a URL and takes the response's body for the answer.

    JSON is decoded, ``text/*`` is taken as it is, an empty body is nothing. Redirects are not
    followed, no proxy is used, no cookie is kept. Connections are shared by all calls until
    ``aclose``.

    Each request carries ``Idempotency-Key``, the same for all attempts at a task,
    ``Callboard-Fence``, which rises with each attempt, and the task's ``traceparent``.

    The address is looked up for each call, and exactly that address is connected to:
    link-local addresses and those of cloud metadata services are refused.

    Options:
        headers: Sent besides.
        connect_timeout: Seconds until connected, 10 by default.
        output_bytes: The longest answer, 1 MiB by default.
        allow: Hosts, addresses or networks that are connected to though they are refused else.
    """

    def __init__(self, definition: AgentDefinition, folder: Path) -> None:
        self._url = _checked_url(definition)
        self._shown = _shown(self._url)
        self._headers = _checked_headers(definition)
        self._limit = definition.timeout
        self._connect_seconds = number(
            definition, "connect_timeout", CONNECT_SECONDS, 0.01, CONNECT_SECONDS_MAX
        )
        self._output_bytes = output_bytes(definition)
        self._addresses = Addresses(
            definition, self._url.raw_host.decode("ascii"), texts(definition, "allow")
        )
        self._transport: httpx2.AsyncHTTPTransport | None = None

    async def run(self, invocation: Invocation) -> Any:
        """Post the request, and read the answer.

        Raises:
            Retry: No connection, too slow, an answer that cannot be read, or a status that
                speaks of the moment; with the delay that ``Retry-After`` asks for.
            Fatal: Redirected, refused by another status, or by the address.
        """
        content, headers = self._written(invocation)
        try:
            async with asyncio.timeout(self._limit):
                async with self._response(content, headers) as response:
                    return await self._answer(response)
        except TimeoutError as error:
            limit = self._limit or ANSWER_SECONDS
            raise self._failed(f"did not answer within {limit:g} s") from error
        except httpx2.ConnectTimeout as error:
            raise self._failed(f"took no connection within {self._connect_seconds:g} s") from error
        except httpx2.TimeoutException as error:
            silent = self._limit or ANSWER_SECONDS
            raise self._failed(f"was silent for {silent:g} s") from error
        except httpx2.ConnectError as error:
            raise self._failed(f"cannot be reached: {_why(error)}") from error
        except httpx2.DecodingError as error:
            raise self._failed("answered with a body that does not decompress") from error
        except httpx2.TransportError as error:
            raise self._failed(f"broke off or does not speak HTTP: {_why(error)}") from error

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    def _written(self, invocation: Invocation) -> tuple[bytes, dict[str, str]]:
        request, context = invocation.request, invocation.context
        headers = {
            "accept": "application/json, text/plain;q=0.9",
            # A compressed body could be any size; what comes compressed anyway is bounded too.
            "accept-encoding": "identity",
            "user-agent": "callboard",
            "idempotency-key": f"{request.run}/{context.id}",
            "callboard-fence": str(context.fence),
        }
        trace = msgspec.json.decode(context.task.body, type=_Traced).trace_context
        if trace:
            headers["traceparent"] = trace
        headers |= self._headers
        headers |= {"content-type": "application/json", "host": self._url.netloc.decode("ascii")}
        return msgspec.json.encode(request), headers

    @asynccontextmanager
    async def _response(
        self, content: bytes, headers: dict[str, str]
    ) -> AsyncIterator[httpx2.Response]:
        """Connect to the first address that takes the connection, and send the request."""
        if self._transport is None:
            self._transport = httpx2.AsyncHTTPTransport(
                # No certificates are needed for plain HTTP, and loading them takes a while.
                verify=httpx2.create_ssl_context() if self._url.scheme == "https" else False,
                limits=httpx2.Limits(keepalive_expiry=5.0),
            )
        silent = self._limit or ANSWER_SECONDS
        limits = {"connect": self._connect_seconds, "read": silent, "write": silent, "pool": None}
        failure: httpx2.TransportError | None = None
        for address in await self._look_up():
            request = httpx2.Request(
                "POST",
                self._url.copy_with(host=address),
                headers=headers,
                content=content,
                extensions={"timeout": limits, "sni_hostname": self._url.raw_host.decode("ascii")},
            )
            try:
                response = await self._transport.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error  # Nothing was sent yet, so another address may be tried.
                continue
            try:
                yield response
            finally:
                await response.aclose()
            return
        assert failure is not None
        raise failure

    async def _look_up(self) -> list[str]:
        try:
            async with asyncio.timeout(self._connect_seconds):
                return await self._addresses.look_up(self._url.port or 0)
        except TimeoutError as error:
            # The limit of the whole call may have passed, too; this one is then as true.
            raise self._failed(
                f"has a name that was not found within {self._connect_seconds:g} s"
            ) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise self._failed(f"has a name that cannot be looked up: {why}") from error

    async def _answer(self, response: httpx2.Response) -> Any:
        status = response.status_code
        if 300 <= status < 400:
            where = response.headers.get("location", "")
            to = f" to {_shown(where)}" if where else ""
            raise Fatal(
                f"The endpoint {self._shown} answered {status}{to}: redirects are not followed. "
                "Give the address that answers itself.",
                status=status,
            )
        if not 200 <= status < 300:
            raise await self._refusal(response)
        body = await self._body(response)
        if not body.strip():
            return None
        kind, _, parameters = response.headers.get("content-type", "").lower().partition(";")
        kind = kind.strip()
        if kind == "application/json" or kind.endswith("+json") or not kind:
            return self._json(body, kind)
        if kind.startswith("text/"):
            return self._text(body, parameters)
        raise self._failed(f"answered with {kind[:80]}; let it answer with JSON or text")

    def _json(self, body: bytes, kind: str) -> Any:
        try:
            return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            what = "something without a type that" if not kind else f"{kind} that"
            raise self._failed(f"answered with {what} is not JSON: {_head(body)}") from error

    def _text(self, body: bytes, parameters: str) -> str:
        found = re.search(r"charset\s*=\s*\"?([\w.:-]+)", parameters)
        charset = found[1] if found else "utf-8"
        try:
            return body.decode(charset)
        except (ValueError, LookupError) as error:
            raise self._failed(f"answered with text that is not {charset[:40]}") from error

    async def _body(self, response: httpx2.Response) -> bytes:
        """The whole body, read only as far as it may be long."""
        length = response.headers.get("content-length", "")
        body = bytearray()
        if not (length.isdecimal() and len(length) < 20 and int(length) > self._output_bytes):
            async with aclosing(response.aiter_bytes()) as parts:
                async for part in parts:
                    body += part
                    if len(body) > self._output_bytes:
                        break
                else:
                    return bytes(body)
        raise self._failed(
            f"answered with more than {self._output_bytes:,} bytes. Let it answer with less, or "
            "raise output_bytes"
        )

    async def _refusal(self, response: httpx2.Response) -> CallboardError:
        status = response.status_code
        why = await _reason(response)
        message = f"The endpoint {self._shown} answered {status}{': ' if why else '.'}{why}"
        if status in RETRYABLE or status >= 500 or status < 200:
            delay = retry_after(response.headers.get("retry-after", ""), RETRY_AFTER_SECONDS_MAX)
            return Retry(message, delay=delay, status=status)
        return Fatal(message, status=status)

    def _failed(self, what: str) -> Retry:
        return Retry(f"The endpoint {self._shown} {what}.")


class _Traced(msgspec.Struct):
    trace_context: str = ""


def _checked_url(definition: AgentDefinition) -> httpx2.URL:
    given = definition.settings
    example = 'for example "http://127.0.0.1:8800/judge"'
    try:
        url = httpx2.URL(given)
    except (httpx2.InvalidURL, TypeError) as error:
        raise unusable(definition, f"endpoint is no URL: {error}. Write one, {example}.") from error
    is_port = url.port is None or 0 < url.port < 65_536
    if url.scheme not in ("http", "https") or not url.host or not is_port:
        raise unusable(
            definition, f"endpoint {_shown(url)} is no address of the web; write one, {example}."
        )
    if url.userinfo:
        raise unusable(
            definition,
            f"endpoint {_shown(url)} has a name or password in it, which would be shown with it. "
            "Put it into headers, under Authorization.",
        )
    return url.copy_with(fragment=None)


def _checked_headers(definition: AgentDefinition) -> dict[str, str]:
    headers = {name.lower(): value for name, value in pairs(definition, "headers").items()}
    for name, value in headers.items():
        if name in OWN_HEADERS:
            raise unusable(definition, f"the header {name} is set by the call itself; remove it.")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name):
            raise unusable(definition, f"headers: {name!r:.60} is no name of a header.")
        if not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", value):
            raise unusable(
                definition,
                f"the value of the header {name} has a line break or a character that HTTP "
                "cannot carry; remove it.",
            )
    return headers


def _shown(url: object) -> str:
    """A URL for messages: without what may be secret in it, and not too long."""
    try:
        parts = urlsplit(str(url))
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an unreadable address"
    start = f"{parts.scheme}://{host}" if host else ""
    text = f"{start}{parts.path}" + ("?…" if parts.query else "")
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= HEAD_CHARACTERS else text[:HEAD_CHARACTERS] + "…"


def _why(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")[:HEAD_CHARACTERS]


def _head(body: bytes) -> str:
    text = body[: HEAD_CHARACTERS * 4].decode("utf-8", "replace")[:HEAD_CHARACTERS]
    return repr(" ".join(text.split())) + ("…" if len(body) > len(text.encode()) else "")


async def _reason(response: httpx2.Response) -> str:
    """Why an endpoint refuses, where it says so in words; never what it echoes besides."""
    body = bytearray()
    try:
        async with asyncio.timeout(REASON_SECONDS):
            async with aclosing(response.aiter_bytes()) as parts:
                async for part in parts:
                    body += part
                    if len(body) > REASON_BYTES:
                        break
    except (TimeoutError, httpx2.RequestError):
        return ""
    kind = response.headers.get("content-type", "").lower().partition(";")[0].strip()
    if kind == "text/plain":
        text = bytes(body[:REASON_BYTES]).decode("utf-8", "replace")
    else:
        try:
            found = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
        text = _words(found)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text[:HEAD_CHARACTERS]


def _words(found: Any) -> str:
    """The sentence in an error of the usual shapes: RFC 9457, and what frameworks write."""
    if not isinstance(found, dict):
        return ""
    for key in ("detail", "message", "error", "title"):
        value = found.get(key)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, dict) and (inner := _words(value)):
            return inner
    return ""
