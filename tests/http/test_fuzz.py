"""The service fuzzed from its own document: nothing fails, nothing is answered undocumented.

``CALLBOARD_FUZZ=50`` makes it that many times as thorough.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from callboard.http.security import AccessSettings, secure
from callboard.services.access import Access
from tests.http.support import serving

TIMES = int(os.environ.get("CALLBOARD_FUZZ", "1"))
EXAMPLES = {GenerationMode.POSITIVE: 3 * TIMES, GenerationMode.NEGATIVE: 2 * TIMES}
PATIENCE_SECONDS = 2.0
"""Some requests wait for what never comes; that they do is no fault."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDLESS = "text/event-stream"


KNOWN = {
    "agent": "mira",
    "agent_id": "mira",
    "voter": "mira",
    "sender": "mira",
    "receiver": "mira",
    "to": "mira",
    "master": "mira",
    "peer": "noor",
    "receiver_id": "mira",
    "arbiter": "mira",
    "task_id": "t-1",
    "task": "t-1",
    "task_ids": ["t-1"],
    "board": "default",
    "resource": "file:a",
    "resources": ["file:a"],
    "owner": "job-1",
    "subject": "file:a",
    "project": "rel",
    "field": "n",
    "conflict_id": "c-1",
    "component": "api",
    "key": "k",
    "message_id": "m-1",
    "request_id": "m-1",
    "topic": "news",
    "instance": "",
    "run": "r-1",
    "team": "echo",
    "agent_type": "worker",
    "wait": 0,
    "timeout": 0.1,
    "poll": 0.1,
}
"""Names of what was put there before, so that what is asked is also done."""

SEEDS: tuple[tuple[str, str, Any], ...] = (
    ("PUT", "/agents/mira", {"agent_type": "worker"}),
    ("PUT", "/agents/noor", {}),
    ("POST", "/tasks", {"kind": "x", "id": "t-1"}),
    ("POST", "/messages", {"to": "mira", "id": "m-1", "payload": 1}),
    ("PUT", "/topics/news/subscribers/mira", {}),
    ("POST", "/locks/acquire", {"resources": ["file:a"], "owner": "job-1", "lease": 3600}),
    ("POST", "/contexts/rel/fields", {"fields": {"n": 1}}),
    (
        "POST",
        "/conflicts",
        {"kind": "context", "subject": "rel", "about": "n", "parties": ["mira"], "id": "c-1"},
    ),
    ("PUT", "/breakers/api", {}),
    ("PUT", "/flow/k", {"concurrency": 5}),
    ("PUT", "/recurring/daily", {"kind": "x", "every": 3600}),
    ("POST", "/series/loss/points", {"value": 1}),
    ("POST", "/errors", {"error": "E", "task": "t-1"}),
    (
        "PUT",
        "/teams/echo",
        {"document": {"name": "echo", "agents": {"one": {"kind": "command", "command": ["cat"]}}}},
    ),
)


def _name_what_is_there(case: Any) -> None:
    for name in list(case.path_parameters or {}):
        if isinstance(KNOWN.get(name), str):
            case.path_parameters[name] = KNOWN[name]
    for place in (case.body, case.query):
        if isinstance(place, dict):
            place.update({name: KNOWN[name] for name in place if name in KNOWN})


def _operations(url: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        answers = operation.definition.raw["responses"].get("200", {}).get("content", {})
        is_twice = operation.path.startswith("/boards/{board}/") and TIMES == 1
        if ENDLESS not in answers and not is_twice:
            yield operation


def _fuzz(url: str) -> tuple[list[str], Counter[int]]:
    faults: list[str] = []
    statuses: Counter[int] = Counter()
    session = requests.Session()
    for verb, path, body in SEEDS:
        seeded = session.request(verb, f"{url}{path}", json=body, timeout=PATIENCE_SECONDS)
        assert seeded.status_code == 200, seeded.text
    for operation in _operations(url):
        for mode in EXAMPLES:
            _fuzz_one(url, operation, mode, session, faults, statuses)
    return faults, statuses


def _fuzz_one(
    url: str,
    operation: Any,
    mode: GenerationMode,
    session: requests.Session,
    faults: list[str],
    statuses: Counter[int],
) -> None:
    @settings(
        max_examples=EXAMPLES[mode],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_known=booleans())
    def check(case: Any, is_known: bool) -> None:
        if is_known:
            _name_what_is_there(case)
        try:
            response = case.call(base_url=url, session=session, timeout=PATIENCE_SECONDS)
        except requests.Timeout:
            return
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    try:
        check()
    except (Exception, BaseExceptionGroup) as error:
        if "Unsatisfiable" not in type(error).__name__:
            faults.append(f"{operation.label}: {error}")


def _guarded(app: Any) -> Any:
    """The whole of what is served: the guard before the application."""
    coordinator = app.coordinator

    async def keys() -> Access:
        return (await coordinator.board(coordinator.settings.namespace)).access

    return secure(app, AccessSettings(), keys)


@pytest.mark.timeout(600 + 120 * TIMES)
async def test_nothing_that_the_document_allows_or_forbids_is_answered_undocumented(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, _guarded, namespace=namespace) as served:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the fuzzer's own
            faults, statuses = await asyncio.to_thread(_fuzz, served.url)

    assert faults == []
    assert statuses[200] > 150, "hardly anything was accepted: the fuzzing tests nothing"
    assert statuses[422] > 150
