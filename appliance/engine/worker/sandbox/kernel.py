"""What is asked of the kernel by number, because the standard library has no words for it. x86-64.

By ctypes over the C library. The bindings that exist want libseccomp on the host, or compile, or have no
maintainer: this is the part of the product that must be read rather than believed, and it is short.
"""

from __future__ import annotations

import ctypes
import os
import platform

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_GET_ACTION_AVAIL = 2
_TSYNC = 1  # every thread of the process, or none
_KILL_PROCESS = 0x8000_0000
_SECCOMP, _CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 317, 444, 445, 446
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1

_LIBC = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`; an older kernel takes a shorter one."""

    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    """`struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def is_known() -> bool:
    """Whether the numbers here are this machine's."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def has_seccomp() -> bool:
    """Whether a filter may end the whole process (Linux 4.14)."""
    action = ctypes.c_uint32(_KILL_PROCESS)
    return is_known() and _call(_SECCOMP, _SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action)) == 0


def filter_calls(program: bytes) -> None:
    """Install a filter on every thread (seccomp(2)). OSError where the kernel does not take it."""
    packed = _Program(len(program) // 8, program)
    done = _call(_SECCOMP, _SECCOMP_SET_MODE_FILTER, _TSYNC, ctypes.byref(packed))
    if done < 0:
        raise _error("seccomp")
    if done > 0:  # the thread that could not follow
        raise OSError(0, "seccomp: a thread has another filter")


def landlock_abi() -> int:
    """Which Landlock the kernel has (landlock(7)); 0: none, or not for us."""
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION)) if is_known() else 0


def restrict(abi: int, *, fs: int, net: int, scoped: int, beneath: list[tuple[int, int]]) -> None:
    """Landlock this thread and all that it starts: nothing of `fs` but what `beneath` allows.

    `beneath` is pairs of an open path and what may be done there. OSError where it is refused.
    """
    attributes = _Ruleset(fs, net, scoped)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    if ruleset < 0:
        raise _error("landlock_create_ruleset")
    try:
        for parent, allowed in beneath:
            rule = _Beneath(allowed, parent)
            if _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) != 0:
                raise _error("landlock_add_rule")
        if _call(_RESTRICT_SELF, ruleset, 0) != 0:
            raise _error("landlock_restrict_self")
    finally:
        os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(_LIBC.syscall(ctypes.c_long(number), *wide))


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
