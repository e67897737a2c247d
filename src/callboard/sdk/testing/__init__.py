"""What handlers and the programs around them are tested with: see ``callboard.testing``."""

from callboard.sdk.testing.board import ThrowawayBoard, board
from callboard.sdk.testing.clock import Clock
from callboard.sdk.testing.drain import Drained
from callboard.sdk.testing.handler import HandlerRun, run_handler

__all__ = ["Clock", "Drained", "HandlerRun", "ThrowawayBoard", "board", "run_handler"]
