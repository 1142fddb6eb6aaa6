"""What this process holds in memory is nobody else's: no core dump, no debugger of the same user.

Every program of ours may hold a key or a prompt, if only for a moment. Root sees it all the same, and swap
is the host's business (`appliance doctor`, deploy/guides/host.md).
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_DUMPABLE = 4


def close_memory() -> None:
    """No core dump, and what /proc shows of this process's memory is root's alone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl(_PR_SET_DUMPABLE, 0)


def gain_nothing() -> None:
    """No program that this process starts has more privileges than it (prctl(2), PR_SET_NO_NEW_PRIVS)."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def prctl(option: int, value: int) -> None:
    """Set a property of this process. OSError where it is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(number := ctypes.get_errno(), f"prctl: {os.strerror(number)}")
