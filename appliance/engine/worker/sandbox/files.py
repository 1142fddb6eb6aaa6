"""What a worker may read while it loads (Landlock), and that nothing is written, run or called.

Nothing here names what is forbidden: the home, its keys and every other file are simply not on the list.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from appliance.engine.worker.sandbox import kernel

# landlock(7), access rights in the order of their ABI.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_ABI_1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_SOCKETS, _SCOPE_SIGNALS = 1, 2
_READ = _READ_FILE | _READ_DIR

_SYSTEM: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.conf"),
    *("/etc/ld.so.conf.d", "/etc/localtime", "/usr/share/zoneinfo", "/etc/ssl/openssl.cnf"),
    *("/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/sys/vm/overcommit_memory"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"),
    *("/dev/zero", "/dev/urandom", "/dev/random"),
)
# As NVIDIA's driver asks for them; not tried on a GPU by this project's tests.
_GPU_FILES: Final = (
    *("/proc/driver/nvidia", "/proc/devices", "/proc/modules", "/proc/version", "/etc/nvidia"),
    *("/sys/bus/pci", "/sys/module", "/sys/devices", "/usr/share/nvidia", "/run/nvidia-persistenced"),
)
_INSTALLED: Final = {"site-packages", "dist-packages"}
_GPU_DEVICES: Final = "nvidia*"


def own_code() -> list[Path]:
    """The interpreter's libraries and every package that was begun to be imported.

    Never the entries of sys.path as they stand: in a checkout one of them holds a home, and its keys.
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {Path(path) for path in map(sysconfig.get_path, names) if path}
    for name, module in list(sys.modules.items()):
        if "." in name:
            continue
        for path in map(Path, getattr(module, "__path__", ())):
            # Where packages were installed the others are beside it, however Python was told of the place.
            found.add(path.parent if path.parent.name in _INSTALLED else path)
    library = sysconfig.get_config_var("LIBDIR")  # of an interpreter with a place of its own
    if library and Path(sys.base_prefix) in Path(library).parents:
        found.add(Path(library))
    return sorted(found)


def confine(abi: int, *, readable: Iterable[Path], on_gpu: bool) -> None:
    """Landlock this thread: only what is readable can be read. OSError where the kernel refuses."""
    handled = _ABI_1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        handled |= right if abi >= since else 0
    allowed = [(path, _READ) for path in (*map(Path, _SYSTEM), *readable)]
    allowed.append((Path(os.devnull), _READ | _WRITE_FILE))
    if on_gpu:
        allowed += [(Path(path), _READ) for path in _GPU_FILES]
        devices = _READ | _WRITE_FILE | (handled & _IOCTL_DEV)
        allowed += [(path, devices) for path in Path("/dev").glob(_GPU_DEVICES)]
        allowed.append((Path("/proc/self/task"), _READ | _WRITE_FILE))  # where its threads are named
    with contextlib.ExitStack() as stack:
        beneath: list[tuple[int, int]] = []
        for path, rights in allowed:
            try:
                opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:  # this host has none, and none is needed then
                continue
            stack.callback(os.close, opened)
            # The kernel takes no rights of folders for a file.
            beneath.append((opened, rights if path.is_dir() else rights & ~_READ_DIR))
        kernel.restrict(
            abi,
            fs=handled,
            net=_BIND_TCP | _CONNECT_TCP if abi >= 4 else 0,
            scoped=_SCOPE_SOCKETS | _SCOPE_SIGNALS if abi >= 6 else 0,
            beneath=beneath,
        )
