"""What the services of one namespace share: the functions, the connection, the key names."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.engine.connection import Connection
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys


@dataclass(frozen=True, slots=True)
class Namespace:
    """One group of agents on one engine: the unit of atomicity."""

    name: str
    connection: Connection
    functions: Functions
    keys: Keys
