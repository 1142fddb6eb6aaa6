"""What a process holds of memory: the gateway asks about a child, a dialled worker about itself."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.engine import held


def of(pid: int) -> int | None:
    """Resident bytes (proc(5), statm); None where the process is gone, or is not shown to us."""
    try:
        return _bytes_of(Path(f"/proc/{pid}/statm").read_text(encoding="ascii"))
    except (OSError, IndexError, ValueError):
        return None


def own() -> int:
    """Of this process; 0 where it can not be told."""
    try:
        return _bytes_of(held.read("/proc/self/statm"))
    except (OSError, IndexError, ValueError):
        return 0


def _bytes_of(statm: str) -> int:
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")
