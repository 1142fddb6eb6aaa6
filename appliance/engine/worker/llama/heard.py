"""What the library says of its buffers while it allocates them. Owner: the thread that loads.

Nothing else tells their sizes to C: the function that sums them up speaks C++.
"""

from __future__ import annotations

import re
from collections import deque

from appliance.engine.amounts import Buffer

_SAID = re.compile(r": +(\S{1,40}) +(\w{2,8}) buffer size = +([0-9]+\.[0-9]{2}) MiB")
_MIB = 1024 * 1024
_MAX_LINES = 256  # of one load: a line for each kind of buffer and device

_lines: deque[str] = deque(maxlen=_MAX_LINES)


def note(line: str) -> None:
    """Keep a line that may tell a size; called for everything that the library says."""
    if "buffer size" in line:
        _lines.append(line)


def forget() -> None:
    """From here on what is heard is of one allocation alone: some contexts are made long after a load."""
    _lines.clear()


def take() -> tuple[Buffer, ...]:
    """What was allocated since the last call of this or of `forget`, to 5 KB."""
    found = tuple(
        Buffer(said[1], said[2].lower(), round(float(said[3]) * _MIB))
        for said in map(_SAID.search, _lines)
        if said is not None
    )
    _lines.clear()
    return found
