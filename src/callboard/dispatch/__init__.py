"""Bringing tasks to agents: a loop that gives them out, and the pushes that it makes.

``callboard serve`` runs a dispatcher for each namespace; ``client`` is also what the client
of a coordinator stands on.
"""

from __future__ import annotations

from callboard.dispatch.dispatcher import Dispatcher, DispatchState
from callboard.dispatch.settings import DispatchSettings

__all__ = ["DispatchSettings", "DispatchState", "Dispatcher"]
