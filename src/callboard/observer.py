"""Where an application watches what Callboard does: one method, called for each occurrence.

An observer that raises never breaks the caller: its exception is logged and dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

Observer = Callable[[str, Mapping[str, Any]], None]
"""Called with a name, as ``worker.task_started``, and the facts."""

log = logging.getLogger("callboard")


class Observers:
    """The observers of one client or worker.

    Attributes:
        anyone: At least one was added: without any, hot paths need not tell.
    """

    def __init__(self) -> None:
        self.anyone = False
        self._observers: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Call *observer* for each occurrence from now on."""
        self._observers.append(observer)
        self.anyone = True

    def tell(self, name: str, **facts: Any) -> None:
        """Call all observers; what they raise is logged and goes no further."""
        for observer in self._observers:
            try:
                observer(name, facts)
            except Exception:
                log.exception("An observer raised on %s.", name)
