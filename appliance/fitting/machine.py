"""What this machine has free, for this process: of the whole, and of its control groups where that is less.

Page cache counts as free: the kernel gives it back. What other workers have mapped of their models' files is
page cache, too, and is wanted again at once: whoever knows of such workers says how much (`mapped_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.errors import SetupError
from appliance.fitting.plan import Device, Machine

_KIB: Final = 1024
_NO_LIMIT: Final = 1 << 60  # version 1 writes a number near 2**63 where there is none
PROC: Final = Path("/proc")
GROUPS: Final = Path("/sys/fs/cgroup")


def read_machine(
    devices: tuple[Device, ...] = (),
    *,
    mapped_bytes: int = 0,
    in_groups: bool = True,
    proc: Path = PROC,
    groups: Path = GROUPS,
) -> Machine:
    """Free memory now; without `in_groups` of the whole machine. SetupError where nobody says it."""
    figures = _meminfo(proc)
    try:
        free, total = figures["MemAvailable"], figures["MemTotal"]
    except KeyError as error:
        raise SetupError(f"{proc}/meminfo does not say {error}", code="memory_unknown") from error
    for limit, used in _limits(proc, groups) if in_groups else ():
        free, total = min(free, max(0, limit - used)), min(total, limit)
    return Machine(max(0, free - mapped_bytes), devices, total)


def _meminfo(proc: Path) -> dict[str, int]:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise SetupError(
            f"{proc}/meminfo can not be read: {error.strerror}", code="memory_unknown"
        ) from error
    pairs = (line.partition(":") for line in lines)
    return {name: int(value.split()[0]) * _KIB for name, _, value in pairs if value.strip()}


def _limits(proc: Path, groups: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group that this process is in, up to the root; versions 2 and 1."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:  # a kernel without control groups
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield from _up(groups, path, "memory.max", "memory.current", ("inactive_file", "active_file"))
        elif "memory" in controllers.split(","):
            cached = ("total_inactive_file", "total_active_file")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            yield from _up(groups / "memory", path, *names, cached)


def _up(root: Path, path: str, limit: str, used: str, cached: tuple[str, str]) -> Iterator[tuple[int, int]]:
    folder = root / path.lstrip("/")
    # In a container the path may be the host's: then the root is its own group.
    for each in (folder, *folder.parents) if folder.is_dir() else (root,):
        if not each.is_relative_to(root):
            return
        try:
            most, now = (each / limit).read_text(encoding="ascii").strip(), int((each / used).read_text())
            stat = dict(
                line.split() for line in (each / "memory.stat").read_text(encoding="ascii").splitlines()
            )
        except (OSError, ValueError):  # the root has no limit, and a container may not see its own
            continue
        if most != "max" and int(most) < _NO_LIMIT:
            yield int(most), max(0, now - sum(int(stat.get(name, 0)) for name in cached))
