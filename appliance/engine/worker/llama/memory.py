"""Does it fit? Asked before the library allocates, so that the answer is a sentence with numbers.

Inside the library a failed allocation is a null pointer at best and the end of the process at worst.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from appliance.engine import held
from appliance.engine.worker.llama.library import LoadError

_MIB = 1024 * 1024
_RESERVE_BYTES = 128 * _MIB  # for the rest of the machine, and what is not counted here
_CGROUP = "/sys/fs/cgroup"


def available_bytes() -> int:
    """What this process may still take: of the machine, and of its control group where that is less."""
    free = _of_machine()
    group = _of_group()
    return free if group is None else min(free, group)


def check_weights(paths: Iterable[str]) -> None:
    """LoadError where the weights in all these files are larger than the memory."""
    needed = 0
    for path in paths:
        try:
            needed += Path(path).stat().st_size
        except OSError as error:
            raise LoadError(f"the model's file can not be read: {error.strerror}") from error
        if not os.access(path, os.R_OK):  # a worker in a sandbox has a user of its own
            raise LoadError("the model's file can not be read by the worker's user: chmod a+r")
    free = available_bytes()
    if needed + _RESERVE_BYTES > free:
        raise LoadError(
            f"not enough memory: the weights need {_mib(needed)} MiB and {_mib(free)} MiB are free; "
            "take a smaller model or a smaller quantization of it"
        )


def check_context(*, n_ctx: int, cell_bytes: int, buffer_bytes: int) -> None:
    """LoadError where the cells and the buffers of a context are larger than the memory."""
    needed = n_ctx * cell_bytes + buffer_bytes
    free = available_bytes() - _RESERVE_BYTES
    if needed <= free:
        return
    fits = max(0, (free - buffer_bytes) // cell_bytes) // 256 * 256
    raise LoadError(
        f"not enough memory: a context of {n_ctx} cells needs {_mib(n_ctx * cell_bytes)} MiB and its buffers "
        f"{_mib(buffer_bytes)} MiB; {_mib(max(0, free))} MiB are free; "
        + (f"engine.n_ctx = {fits} would fit" if fits else "no context fits beside these weights")
    )


def _of_machine() -> int:
    for line in held.read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise LoadError("/proc/meminfo does not say how much memory is available")


def _of_group() -> int | None:
    """Control groups, version 2; None where there is no limit or another version."""
    own = [
        line.removeprefix("0::").strip()
        for line in held.read("/proc/self/cgroup").splitlines()
        if line.startswith("0::")
    ]
    if not own:
        return None
    folder = f"{_CGROUP}/{own[0].lstrip('/')}"
    try:
        limit = held.read(f"{folder}/memory.max").strip()
        used = int(held.read(f"{folder}/memory.current"))
    except (OSError, ValueError):  # the root group has no limit, and a container may not see its own
        return None
    return None if limit == "max" else max(0, int(limit) - used)


def _mib(size: int) -> int:
    return round(size / _MIB)
