"""What is sent with some operations, as an example: shown in the documents, held by tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

_WAIT: Final = {
    "owner": "mira-job-7",
    "resources": ["file:src/a.py"],
    "mode": "exclusive",
    "limit": None,
    "lease": 30,
    "priority": 0,
    "agent": "",
    "operation": "0198c0df",
}

EXAMPLES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "tasks.submit": {
            "kind": "summarise",
            "payload": {"document": "report.pdf"},
            "priority": "high",
            "requirements": {"capabilities": ["analysis"]},
        },
        "tasks.submit_many": {
            "specs": [
                {"kind": "fetch", "id": "fetch-1"},
                {"kind": "summarise", "depends_on": ["fetch-1"]},
            ]
        },
        "tasks.get_many": {"task_ids": ["fetch-1", "fetch-2"]},
        "tasks.note": {"content": "The source was moved.", "author": "mira"},
        "tasks.cancel": {"reason": "not needed any more"},
        "tasks.reprioritise": {"priority": "urgent"},
        "tasks.claim": {"agent": "mira", "limit": 1, "lease": 30, "poll": 20},
        "tasks.take": {"agent": "mira"},
        "tasks.complete_and_claim": {
            "agent": "mira",
            "instance": "mira-1",
            "results": [{"id": "fetch-1", "fence": 17, "result": {"pages": 3}}],
            "limit": 1,
            "started": 1,
        },
        "tasks.cancel_many": {"task_ids": ["fetch-1", "fetch-2"]},
        "tasks.retry_many": {"task_ids": ["fetch-1", "fetch-2"]},
        "tasks.purge": {"task_ids": ["fetch-1", "fetch-2"]},
        "tasks.accept": {"task_ids": ["fetch-1"], "agent": "mira", "instance": "mira-1"},
        "tasks.complete": {"fence": 17, "result": {"summary": "Sales rose."}},
        "tasks.complete_many": {
            "results": [{"id": "fetch-1", "fence": 17, "result": {"pages": 3}}]
        },
        "tasks.fail": {"fence": 17, "error": "The file cannot be read.", "retryable": True},
        "tasks.fail_many": {
            "failures": [
                {
                    "id": "fetch-1",
                    "fence": 17,
                    "failure": {"type": "", "message": "It cannot be read.", "retryable": False},
                }
            ]
        },
        "tasks.start": {"fence": 17},
        "tasks.start_many": {"claims": [["fetch-1", 17]]},
        "tasks.renew": {"fence": 17, "lease": 30},
        "tasks.renew_many": {"claims": [["fetch-1", 17], ["fetch-2", 18]], "lease": 30},
        "tasks.release": {"fence": 17, "delay": 5},
        "tasks.release_many": {"claims": [["fetch-1", 17], ["fetch-2", 18]]},
        "tasks.handoff": {"fence": 17, "to": "noor"},
        "tasks.progress": {"fence": 17, "value": {"percent": 40}},
        "tasks.partial": {"fence": 17, "value": {"pages": 2}},
        "tasks.tell": {"fence": 17, "what": "log", "value": "Page 2 of 3 is read."},
        "tasks.split": {"fence": 17, "children": [{"kind": "fetch"}, {"kind": "fetch"}]},
        "tasks.confirm_cancel": {"fence": 17},
        "tasks.park": {"fence": 17},
        "tasks.unpark": {"fence": 17},
        "tasks.ask": {"fence": 17, "question": "Which quarter?"},
        "tasks.answer": {"value": "The third."},
        "dead_letters.requeue_many": {"task_ids": ["fetch-1", "fetch-2"]},
        "dead_letters.purge": {"task_ids": ["fetch-1", "fetch-2"]},
        "boards.configure": {"settings": {"strategy": "least_connections"}},
        "boards.pause": {"kinds": ["fetch"]},
        "agents.register": {
            "agent_type": "worker",
            "capabilities": ["analysis"],
            "max_concurrent": 4,
        },
        "agents.discover": {"capabilities": ["analysis"], "limit": 10},
        "agents.heartbeat_many": {"beats": [{"agent": "mira"}, {"agent": "noor"}]},
        "agents.report_load": {"load": {"cpu": 0.4}},
        "agents.set_status": {"status": "maintenance"},
        "scheduler.set_strategy": {"strategy": "round_robin"},
        "scheduler.assign": {"tasks": ["fetch-1"], "strategy": "least_connections"},
        "messages.send": {"to": "noor", "payload": {"text": "The report is in."}, "sender": "mira"},
        "messages.send_many": {
            "specs": [
                {"to": "noor", "payload": {"page": 1}, "sender": "mira"},
                {"to": "noor", "payload": {"page": 2}, "sender": "mira"},
            ]
        },
        "messages.broadcast": {"payload": {"text": "Back at noon."}, "sender": "mira"},
        "messages.publish": {"payload": {"build": 41}, "sender": "mira"},
        "messages.request": {"to": "noor", "payload": {"question": "Which?"}, "timeout": 10},
        "messages.send_request": {"to": "noor", "payload": {"question": "Which?"}, "timeout": 60},
        "messages.take": {"limit": 1, "lease": 30, "poll": 20},
        "messages.acknowledge_ids": {"taken": [["0198c0de", 5]]},
        "messages.release_ids": {"taken": [["0198c0de", 5]]},
        "messages.renew_ids": {"taken": [["0198c0de", 5]], "lease": 30},
        "messages.mark_read": {"ids": ["0198c0de"]},
        "messages.requeue": {"ids": ["0198c0de"]},
        "messages.purge": {"ids": ["0198c0de"]},
        "messages.set_hierarchy": {"subordinates": ["noor", "otto"]},
        "messages.reply_to": {"request_id": "0198c0de", "payload": {"answer": 3}, "fence": 5},
        "locks.acquire": {"resources": ["file:src/a.py"], "owner": "mira-job-7", "wait": 10},
        "locks.release": {"lock": ["file:src/a.py"], "owner": "mira-job-7"},
        "locks.renew": {"lock": ["file:src/a.py"], "owner": "mira-job-7", "lease": 30},
        "locks.release_all": {"owner": "mira-job-7"},
        "locks.force_release": {"reason": "Its process is gone."},
        "locks._ask": {"request": _WAIT, "wait": 10, "bell": "0198c0de"},
        "locks._await": {"rows": [["mira-job-7", "0198c0df"]]},
        "locks._withdraw": {"request": _WAIT, "keep": False},
        "context.get_many": {"projects": ["release-1", "release-2"]},
        "context.set": {"fields": {"branch": "main", "build": 41}, "ttl": 86400},
        "context.increment": {"field": "build"},
        "context.set_state": {"status": "busy", "current_task": "fetch-1"},
        "conflicts.report": {
            "kind": "context",
            "subject": "release-2",
            "about": "branch",
            "parties": [
                {"name": "mira", "priority": 2, "value": "main"},
                {"name": "noor", "priority": 1, "value": "next"},
            ],
        },
        "conflicts.refer": {"arbiter": "otto"},
        "conflicts.decide": {"winner": "mira"},
        "conflicts.resolve": {"strategy": "priority"},
        "conflicts.vote": {"voter": "mira", "candidate": "noor"},
        "breakers.configure": {"policy": {"failure_threshold": 5, "open_for": 60}},
        "breakers.record": {
            "permit": {"component": "search-api", "number": 12},
            "outcome": "failure",
        },
        "breakers.renew": {"permit": {"component": "search-api", "number": 12}},
        "flow.get_many": {"keys": ["customer-7", "customer-8"]},
        "flow.limit": {"concurrency": 10, "rate": 5, "per": 1},
        "recurring.create": {"kind": "report", "cron": "0 7 * * *", "timezone": "Europe/Berlin"},
        "errors.record": {"error": "TimeoutError", "message": "No answer in 5 s.", "agent": "mira"},
        "errors.record_many": {
            "reports": [{"name": "TimeoutError", "message": "No answer in 5 s.", "agent": "mira"}]
        },
        "metrics.record": {"value": 0.42, "tags": {"region": "eu"}},
        "metrics.record_many": {
            "points": [{"name": "summary", "value": 0.42}, {"name": "summary", "value": 0.44}]
        },
        "metrics.record_training": {"step": 100, "values": {"loss": 0.31}},
        "metrics.record_training_many": {
            "steps": [
                {"step": 100, "values": {"loss": 0.31}},
                {"step": 200, "values": {"loss": 0.3}},
            ]
        },
        "teams.add": {
            "document": {
                "team": {"planner": "planner", "workers": ["reader"], "synthesizer": "writer"},
                "agents": {
                    "planner": {"command": ["python3", "plan.py"]},
                    "reader": {"command": ["python3", "read.py"]},
                    "writer": {"command": ["python3", "write.py"]},
                },
            }
        },
        "runs.start": {"team": "summary", "request": "Summarise the report."},
        "access.create": {"name": "ci", "role": "work", "expires_in": 2592000},
    }
)
"""By operation: the body."""
