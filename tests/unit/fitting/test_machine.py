"""What is free: the machine's, or what its control groups leave, page cache not counted as taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SetupError
from appliance.fitting.machine import read_machine

MIB = 1024 * 1024


def lay(root: Path, cgroup: str) -> tuple[Path, Path]:
    """A /proc with 1000 MiB available of 2000, and an empty tree of groups."""
    proc, groups = root / "proc", root / "cgroup"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()
    (proc / "meminfo").write_text(
        f"MemTotal: {2000 * 1024} kB\nMemAvailable: {1000 * 1024} kB\nHugePages_Total: 0\n"
    )
    (proc / "self" / "cgroup").write_text(cgroup)
    return proc, groups


def group(folder: Path, limit: str, used_mib: int, cached_mib: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current", "") if version == 2 else (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
    )  # fmt: skip
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used_mib * MIB}\n")
    stat = f"anon 1\n{names[2]}inactive_file {cached_mib * MIB}\n{names[2]}active_file 0\n"
    (folder / "memory.stat").write_text(stat)


def free_mib(proc: Path, groups: Path, mapped_bytes: int = 0) -> float:
    return read_machine(proc=proc, groups=groups, mapped_bytes=mapped_bytes).free_bytes / MIB


def test_machine_alone(tmp_path: Path) -> None:
    """Without a limit it is what the kernel calls available."""
    proc, groups = lay(tmp_path, "0::/\n")

    assert free_mib(proc, groups) == 1000
    assert read_machine(proc=proc, groups=groups).total_bytes == 2000 * MIB


def test_limit_of_version_2(tmp_path: Path) -> None:
    """The limit less what is taken for good: a model that was just hashed is in the page cache."""
    proc, groups = lay(tmp_path, "0::/system.slice/appliance.service\n")
    group(groups / "system.slice/appliance.service", str(600 * MIB), 500, 400)

    assert free_mib(proc, groups) == 500


def test_limit_of_a_group_above(tmp_path: Path) -> None:
    """Every group up to the root counts."""
    proc, groups = lay(tmp_path, "0::/outer/inner\n")
    group(groups / "outer/inner", "max", 10, 0)
    group(groups / "outer", str(300 * MIB), 100, 0)

    assert free_mib(proc, groups) == 200


def test_limit_of_version_1(tmp_path: Path) -> None:
    """The memory controller's own tree, and a number without end that means none."""
    proc, groups = lay(tmp_path, "5:cpu:/\n4:memory:/app\n0::/\n")
    group(groups / "memory/app", str(400 * MIB), 100, 50, version=1)
    group(groups / "memory", str(2**63 - 4096), 100, 50, version=1)

    assert free_mib(proc, groups) == 350


def test_path_that_is_the_hosts(tmp_path: Path) -> None:
    """In a container the root is its own group, whatever the path says."""
    proc, groups = lay(tmp_path, "0::/docker/abc\n")
    group(groups, str(256 * MIB), 56, 0)

    assert free_mib(proc, groups) == 200


def test_what_others_have_mapped(tmp_path: Path) -> None:
    """Their models lie in the page cache, and would be read again at once."""
    proc, groups = lay(tmp_path, "0::/\n")

    assert free_mib(proc, groups, mapped_bytes=400 * MIB) == 600


def test_kernel_that_says_nothing(tmp_path: Path) -> None:
    """An error with a code, not a guess."""
    proc, groups = lay(tmp_path, "0::/\n")
    (proc / "meminfo").write_text("MemTotal: 1 kB\n")
    with pytest.raises(SetupError) as raised:
        read_machine(proc=proc, groups=groups)

    assert raised.value.code == "memory_unknown"
