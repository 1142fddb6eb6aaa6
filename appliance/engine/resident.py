"""What a process holds of memory: the gateway asks about a child, a dialled worker about itself."""

from __future__ import annotations

import os
from pathlib import Path


def of(pid: int | str) -> int | None:
    """Resident bytes (proc(5), statm); None where the process is gone, or is not shown to us."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def own() -> int:
    """Of this process; 0 where it can not be told."""
    return of("self") or 0
