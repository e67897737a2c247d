"""What is sent with the documented routes, as an example: shown in the documents, held by tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

EXAMPLES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "POST /agents/register": {
            "agent_id": "mira",
            "agent_type": "worker",
            "capabilities": ["analysis"],
            "services": ["task-execution"],
            "metadata": {"model": "small"},
        },
        "POST /agents/discover": {"capabilities": ["analysis"], "limit": 10},
        "PUT /agents/{agent_id}/status": {"status": "busy", "load_metrics": {"cpu_usage": 0.4}},
        "POST /tasks/submit": {
            "task_data": {"task_type": "summarise", "document": "report.pdf"},
            "priority": "high",
            "requirements": {"capabilities": ["analysis"]},
        },
        "POST /messages/send": {
            "receiver_id": "mira",
            "message_type": "direct",
            "payload": {"text": "The report is in."},
        },
        "POST /messages/broadcast": {
            "message_type": "broadcast",
            "payload": {"text": "Back at noon."},
            "capabilities": ["analysis"],
        },
        "POST /api/v1/agent/messages/send": {
            "sender": "noor",
            "recipient": "mira",
            "content": {"text": "The report is in."},
        },
        "POST /api/v1/agent/messages/subscribe": {"agent_id": "mira", "topic": "builds"},
        "POST /api/v1/agent/messages/unsubscribe": {"agent_id": "mira", "topic": "builds"},
    }
)
"""By verb and path: the body."""
