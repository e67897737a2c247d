"""The kinds of event, read from the one list of them, in `include/open.lua`."""

from __future__ import annotations

import re
from typing import Final

from callboard.engine.library import LUA

_LIST: Final = re.search(
    r"local EVENT_KINDS = \{(.*?)\}", (LUA / "include" / "open.lua").read_text("utf-8"), re.DOTALL
)
assert _LIST, "include/open.lua has no list EVENT_KINDS"

EVENT_KINDS: Final = tuple(re.findall(r"'([a-z_:-]+)'", _LIST[1]))
