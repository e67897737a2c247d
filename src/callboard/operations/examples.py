"""What is sent with some operations, as an example: shown in the documents, held by tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

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
        "tasks.complete": {"fence": 17, "result": {"summary": "Sales rose."}},
        "tasks.fail": {"fence": 17, "error": "The file cannot be read.", "retryable": True},
        "tasks.renew": {"fence": 17, "lease": 30},
        "tasks.release": {"fence": 17, "delay": 5},
        "tasks.progress": {"fence": 17, "value": {"percent": 40}},
        "tasks.ask": {"fence": 17, "question": "Which quarter?"},
        "tasks.answer": {"value": "The third."},
        "boards.configure": {"settings": {"strategy": "least_connections"}},
        "boards.pause": {"kinds": ["fetch"]},
        "agents.register": {
            "agent_type": "worker",
            "capabilities": ["analysis"],
            "max_concurrent": 4,
        },
        "agents.discover": {"capabilities": ["analysis"], "limit": 10},
        "agents.report_load": {"load": {"cpu": 0.4}},
        "agents.set_status": {"status": "maintenance"},
        "scheduler.set_strategy": {"strategy": "round_robin"},
        "scheduler.assign": {"tasks": ["fetch-1"], "strategy": "least_connections"},
        "messages.send": {"to": "noor", "payload": {"text": "The report is in."}, "sender": "mira"},
        "messages.broadcast": {"payload": {"text": "Back at noon."}, "sender": "mira"},
        "messages.publish": {"payload": {"build": 41}, "sender": "mira"},
        "messages.request": {"to": "noor", "payload": {"question": "Which?"}, "timeout": 10},
        "messages.send_request": {"to": "noor", "payload": {"question": "Which?"}, "timeout": 60},
        "messages.take": {"limit": 1, "lease": 30, "poll": 20},
        "messages.acknowledge_ids": {"taken": [["0198c0de", 5]]},
        "messages.mark_read": {"ids": ["0198c0de"]},
        "messages.reply_to": {"request_id": "0198c0de", "payload": {"answer": 3}, "fence": 5},
        "locks.acquire": {"resources": ["file:src/a.py"], "owner": "mira-job-7", "wait": 10},
        "locks.release": {"lock": ["file:src/a.py"], "owner": "mira-job-7"},
        "locks.renew": {"lock": ["file:src/a.py"], "owner": "mira-job-7", "lease": 30},
        "locks.release_all": {"owner": "mira-job-7"},
        "locks.force_release": {"reason": "Its process is gone."},
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
        "conflicts.resolve": {"strategy": "priority"},
        "conflicts.vote": {"voter": "mira", "candidate": "noor"},
        "breakers.configure": {"policy": {"failure_threshold": 5, "open_for": 60}},
        "breakers.record": {
            "permit": {"component": "search-api", "number": 12},
            "outcome": "failure",
        },
        "flow.limit": {"concurrency": 10, "rate": 5, "per": 1},
        "recurring.create": {"kind": "report", "cron": "0 7 * * *", "timezone": "Europe/Berlin"},
        "errors.record": {"error": "TimeoutError", "message": "No answer in 5 s.", "agent": "mira"},
        "metrics.record": {"value": 0.42, "tags": {"region": "eu"}},
        "metrics.record_training": {"step": 100, "values": {"loss": 0.31}},
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
