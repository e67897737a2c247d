"""What could be wrong with a coordinator, as seen by one who asks it from here."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx2
import msgspec

from callboard.cli import failures
from callboard.cli.doctor import Finding, durability_of, of_clock
from callboard.cli.render import span
from callboard.exceptions import ConfigError

if TYPE_CHECKING:
    from callboard.dispatch.dispatcher import DispatchState
    from callboard.http.system import NamespaceState, System

PATIENCE_SECONDS: Final = 10.0
FIRST_BYTES_SECONDS: Final = 5.0
"""A stream says something at once; a proxy that collects answers holds it back."""

SWEPT_SECONDS: Final = 15.0
"""The janitor goes round once a second, or sees that another one did."""

LOOKED_SECONDS: Final = 15.0
"""The dispatch loop looks for work once a second, whether or not it was rung."""

ENGINE_MS: Final = 20.0
"""Beyond it, each call waits longer for the way to the engine than for its work."""

ROUNDS: Final = 5


def examine(url: str, namespace: str | None) -> tuple[list[Finding], int]:
    """Look at the coordinator at *url*; the findings, and the exit code."""
    _check(url)
    headers = {"x-callboard-namespace": namespace} if namespace else {}
    key = os.environ.get("CALLBOARD_API_KEY", "").strip()
    if key:
        headers["authorization"] = f"Bearer {key}"
    findings: list[Finding] = []
    code = failures.OK
    try:
        with httpx2.Client(base_url=url, timeout=PATIENCE_SECONDS, headers=headers) as client:
            findings.extend(_look(client, url, has_key=bool(key)))
    except httpx2.TransportError as error:
        findings.append(_unreachable(url, error))
        code = failures.ENGINE
    if code == failures.OK and any(finding.level == "problem" for finding in findings):
        code = failures.REFUSED
    return findings, code


def _look(client: httpx2.Client, url: str, *, has_key: bool) -> Iterator[Finding]:
    yield _round_trips(client)
    ready = client.get("/ready")
    if ready.status_code == 200:
        yield Finding("ok", "ready", "requests can be served")
    else:
        yield Finding("problem", "ready", _detail(ready), _CURES.get(ready.status_code, ""))
    yield from _open_to_all(url)
    before = time.time()
    answer = client.get("/system")
    after = time.time()
    if answer.status_code in (401, 403):
        cure = (
            "Have one made with the role read: callboard keys create NAME --role read"
            if has_key
            else "Set CALLBOARD_API_KEY to an API key."
        )
        yield Finding("problem", "key", _detail(answer), cure)
        return
    if answer.status_code != 200:
        yield Finding("problem", "system", _detail(answer) or f"answers {answer.status_code}")
        return
    if has_key:
        yield Finding("ok", "key", "the API key holds")
    from callboard.http.system import SystemBody

    try:
        system = msgspec.json.decode(answer.content, type=SystemBody).system
    except msgspec.DecodeError:
        yield Finding("problem", "system", f"{url} answers, and is no coordinator of Callboard")
        return
    yield from of_system(system, before, after)
    yield _stream(client)


def of_system(system: System, before: float, after: float) -> Iterator[Finding]:
    """What a coordinator says of itself, judged."""
    from callboard.version import __version__

    up = span(system.uptime_seconds)
    text = f"{system.version} on {system.node}, process {system.pid}, up for {up}"
    if system.version == __version__:
        yield Finding("ok", "coordinator", text)
    else:
        cure = "Use the same release on both sides; within a minor version they get along."
        yield Finding("note", "coordinator", f"{text}; here it is {__version__}", cure)
    yield of_clock(system.time.timestamp(), before, after, "the coordinator's")
    engine = system.engine
    if not engine.is_connected or engine.latency_ms is None:
        cure = "Look at the engine's process and log; the coordinator comes back by itself."
        yield Finding("problem", "engine", f"{engine.software} {engine.version} is away", cure)
    else:
        kind = f"{engine.software} {engine.version}{', cluster' if engine.is_cluster else ''}"
        text = f"{kind} answers the coordinator in {engine.latency_ms:g} ms"
        level = "note" if engine.latency_ms > ENGINE_MS else "ok"
        cure = "Run coordinators near the engine." if level == "note" else ""
        yield Finding(level, "engine", text, cure)  # type: ignore[arg-type]
    yield durability_of(engine.durability)
    for namespace in system.namespaces:
        yield from _loops(namespace, system.time)
    requests = system.requests
    text = (
        f"{requests.total:,} so far, {requests.in_flight} under way, "
        f"{requests.p50_ms:g} ms in the middle, {requests.p99_ms:g} ms for the slowest 1 %"
    )
    if requests.failures:
        cure = "Look into the coordinator's log for each."
        text = f"{text}; {requests.failures:,} were answered with 500 and above"
        yield Finding("note", "requests", text, cure)
    else:
        yield Finding("ok", "requests", text)


def _loops(namespace: NamespaceState, now: datetime) -> Iterator[Finding]:
    """Of one namespace; *now* is of the coordinator's clock, as all that it says is."""
    about = f"namespace {namespace.name or 'default'}"
    if namespace.swept_at is None:
        yield Finding("note", about, "no janitor has gone round yet", "Look again in a moment.")
    else:
        silent = (now - namespace.swept_at).total_seconds()
        if silent > SWEPT_SECONDS:
            text = f"the janitor went round {silent:.0f} s ago, and should each second"
            yield Finding("problem", about, text, "Look into the coordinator's log.")
        else:
            yield Finding("ok", about, "the janitor goes round")
    yield _dispatch(about, namespace.dispatcher, now)


def _dispatch(about: str, state: DispatchState | None, now: datetime) -> Finding:
    if state is None:
        text = "this coordinator hands out no tasks; others may"
        return Finding("note", about, text, "Start it without --no-dispatch.")
    silent = None if state.looked_at is None else (now - state.looked_at).total_seconds()
    if not state.is_running or (silent is not None and silent > LOOKED_SECONDS):
        text = "nothing is handed out to agents: its loop stands still"
        return Finding("problem", about, text, "Look into the coordinator's log.")
    text = (
        f"tasks are handed out: {state.pushed:,} pushed, {state.under_way} under way, "
        f"{state.undelivered:,} not delivered, {state.reserved:,} reserved"
    )
    return Finding("ok", about, text)


def _round_trips(client: httpx2.Client) -> Finding:
    client.get("/ready")
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        client.get("/ready")
        times.append((time.perf_counter() - started) * 1e3)
    middle = statistics.median(times)
    return Finding(
        "ok", "way", f"an answer takes {middle:.1f} ms from here, up to {max(times):.1f}"
    )


def _open_to_all(url: str) -> Iterator[Finding]:
    """Whether strangers are served, where the address is not of this machine alone."""
    from callboard.http.security.settings import is_loopback

    if is_loopback(urlsplit(url).hostname or ""):
        return
    if urlsplit(url).scheme == "http":
        text = "keys and tasks travel readable for whoever listens on the way"
        yield Finding("note", "encryption", text, "Use https: --tls-cert, or a proxy that has it.")
    if httpx2.get(f"{url}/system", timeout=PATIENCE_SECONDS).status_code == 200:
        text = "whoever reaches the address may do anything: no key is needed"
        yield Finding("note", "keys", text, "Start it without --insecure-no-keys.")
    else:
        yield Finding("ok", "keys", "nobody is served without an API key")


def _stream(client: httpx2.Client) -> Finding:
    started = time.perf_counter()
    try:
        with client.stream("GET", "/events", timeout=FIRST_BYTES_SECONDS) as answer:
            if answer.status_code != 200:
                answer.read()
                return Finding("problem", "events", _detail(answer))
            next(answer.iter_bytes())
    except (httpx2.ReadTimeout, StopIteration):
        cure = "Where a proxy stands between: proxy_buffering off, and HTTP/1.1 upstream."
        return Finding("problem", "events", "the stream of events says nothing", cure)
    took = (time.perf_counter() - started) * 1e3
    return Finding("ok", "events", f"the stream of events begins after {took:.1f} ms")


def _unreachable(url: str, error: httpx2.TransportError) -> Finding:
    said = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in said:
        cure = "Have it signed by an authority known here, or name yours: SSL_CERT_FILE=ca.pem"
        return Finding("problem", "certificate", f"that of {url} is not trusted: {said}", cure)
    cure = "Is it running, on that port? Start one: callboard serve"
    return Finding("problem", "reach", f"{url} cannot be reached: {said}", cure)


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{url!r} is no coordinator's address. Write it as http://localhost:9001."
        )


def _detail(answer: httpx2.Response) -> str:
    try:
        found = answer.json()
        return str(found.get("detail") or found.get("message") or f"status {answer.status_code}")
    except (ValueError, AttributeError):
        return f"it answers {answer.status_code}, and nothing that can be read"


_CURES: Final = {
    503: "The engine is away, or it is about to stop: look into its log.",
    404: "That is no coordinator, or one behind a path: give the address with the path.",
}
