"""Preflight: each check is green and red by facts alone, and this host can be looked at."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.bundle import preflight
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Database, Manifest, Needs, Platform, UpgradeFrom
from appliance.bundle.preflight import gather, machine, room
from appliance.bundle.preflight.facts import Check, Facts, Level, Place, Wanted
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.clock import SystemClock
from tests.clocks import ManualClock

GIB = 1 << 30
V3 = machine._V2 | machine._V3
PLACE = Place("/opt/appliance/releases", 1, 100 * GIB, 1_000_000, is_noexec=False, is_there=True)
STATE = dataclasses.replace(PLACE, path="/var/lib/appliance", device=2)
FULL = dataclasses.replace(PLACE, free_bytes=9)
FULL_STATE = dataclasses.replace(STATE, free_bytes=4 * GIB)
GOOD = Facts(
    os="linux",
    arch="x86_64",
    glibc="2.36",
    python="3.11.2",
    python_missing=(),
    openssl="3.0.20",
    cpu_flags=V3,
    ram_bytes=32 * GIB,
    free_ram_bytes=30 * GIB,
    releases=PLACE,
    state=STATE,
    home_bytes=GIB,
    now="2026-11-21T12:00:00Z",
    account_uid=997,
    account_shell="/usr/sbin/nologin",
    systemd=252,
    has_socket_bpf=True,
    has_cgroup2=True,
    has_cgroup_bpf=True,
)
MANIFEST = Manifest(
    format="appliance-bundle/1",
    product="appliance",
    release="2.4.0",
    serial=37,
    built="2026-11-20T00:00:00Z",
    git_commit="0" * 40,
    platform=Platform(),
    upgrade_from=UpgradeFrom(),
    db=Database(alembic_head="a", reads_since="a"),
    needs=Needs(disk_bytes=3 * GIB, disk_peak_bytes=4 * GIB, ram_bytes=4 * GIB),
    kind="full",
    files=(),
    blobs=(),
)
WANTED = Wanted(manifest=MANIFEST, ports=(8080, 8090))


def check(name: str, wanted: Wanted = WANTED, **changes: Any) -> Check:
    (found,) = [
        each for each in preflight.decide(dataclasses.replace(GOOD, **changes), wanted) if each.name == name
    ]
    return found


def test_good_host_is_green() -> None:
    """Every check of a host that has all it needs is ok, and may go on."""
    checks = preflight.decide(GOOD, WANTED)

    assert {each.level for each in checks} == {Level.OK}
    assert len({each.name for each in checks}) == len(checks) >= 24
    preflight.require(checks)


NOEXEC = dataclasses.replace(PLACE, is_noexec=True)
STAGED = dataclasses.replace(WANTED, staged_bytes=3 * GIB)
GPU = dataclasses.replace(WANTED, needs_gpu=True)
RED: list[tuple[str, Wanted, dict[str, Any], str]] = [
    ("platform", WANTED, {"arch": "aarch64"}, "linux x86_64"),
    ("C library", WANTED, {"glibc": "2.31"}, "2.34"),
    ("C library", WANTED, {"glibc": ""}, "Debian 12"),
    ("processor", WANTED, {"cpu_flags": frozenset()}, "x86-64-v2"),
    ("memory", WANTED, {"ram_bytes": 2 * GIB}, "4.0 GiB"),
    ("GPU driver", GPU, {}, "580"),
    ("GPU driver", GPU, {"nvidia_driver": "570.133.20", "nvidia_devices": 1}, "580"),
    ("GPU driver", GPU, {"nvidia_driver": "580.82.07", "nvidia_devices": 0}, "nvidia-modprobe"),
    ("Python", WANTED, {"python": "3.9.21"}, "3.11"),
    ("Python", WANTED, {"python": ""}, "3.11"),
    ("Python modules", WANTED, {"python_missing": ("sqlite3",)}, "python3"),
    (
        "room in /opt/appliance/releases",
        WANTED,
        {"releases": FULL},
        "disk",
    ),
    ("room in /var/lib/appliance", WANTED, {"state": FULL_STATE}, "disk"),
    ("inodes", WANTED, {"releases": dataclasses.replace(PLACE, free_inodes=1000)}, "50000"),
    ("mount options", WANTED, {"releases": NOEXEC}, "exec"),
    ("mount options", Wanted(), {"releases": NOEXEC, "has_release": True}, "exec"),
    ("clock", WANTED, {"now": "2026-11-19T23:59:59Z"}, "clock"),
    ("clock", Wanted(floor="2027-01-01T00:00:00Z"), {}, "clock"),
    ("user", WANTED, {"euid": 1000}, "root"),
    ("account", WANTED, {"account_uid": 0}, "remove"),
    ("other instance", WANTED, {"lock_holder": 77}, "stop it"),
    ("ports", WANTED, {"listening": {8080: 33}}, "ss -ltnp"),
    ("ports", WANTED, {"listening": {8080: 0}}, "ss -ltnp"),
    ("ports", Wanted(ports=(8080,)), {"listening": {8080: 33}}, "ss -ltnp"),
    ("ports", WANTED, {"listening": {8080: 33}, "lock_holder": 77, "has_release": True}, "ss -ltnp"),
    ("SELinux", WANTED, {"selinux": "enforcing"}, "policycoreutils"),
    ("fapolicyd", WANTED, {"has_fapolicyd": True, "has_release": True}, "fagenrules"),
]
WARN: list[tuple[str, Wanted, dict[str, Any], str]] = [
    ("processor", WANTED, {"cpu_flags": machine._V2}, "AVX2"),
    ("memory", WANTED, {"free_ram_bytes": GIB}, "4.0 GiB"),
    ("GPU driver", WANTED, {"nvidia_driver": "570.133.20", "nvidia_devices": 1}, "580"),
    ("openssl", WANTED, {"openssl": "1.1.1"}, "3.0"),
    ("openssl", WANTED, {"openssl": ""}, "3.0"),
    ("account", WANTED, {"account_shell": "/bin/bash"}, "nologin"),
    ("ports", Wanted(ports=(8080,)), {"listening": {8080: 0}}, "ss -ltnp"),
    ("systemd", WANTED, {"systemd": None}, "appliance.init"),
    ("systemd", WANTED, {"systemd": 239}, "249"),
    ("egress filter", WANTED, {"systemd": None}, "firewall"),
    ("egress filter", WANTED, {"has_cgroup2": False}, "firewall"),
    ("egress filter", WANTED, {"has_cgroup_bpf": False}, "firewall"),
    ("egress filter", WANTED, {"has_cgroup_bpf": None}, "test it"),
    ("port filter", WANTED, {"has_socket_bpf": False}, "SocketBindDeny"),
    ("SELinux", WANTED, {"selinux": "permissive"}, "policycoreutils"),
    ("fapolicyd", WANTED, {"has_fapolicyd": True}, "fagenrules"),
    ("FIPS mode", WANTED, {"is_fips": True}, "P-384"),
    ("swap", WANTED, {"open_swaps": ("/dev/sda2",)}, "swapoff"),
    ("locale", WANTED, {"encoding": "ascii"}, "UTF-8"),
    ("environment", WANTED, {"variables": ("HF_TOKEN",)}, "unset"),
    ("umask", WANTED, {"umask": 0o077}, "022"),
]
GREEN: list[tuple[str, Wanted, dict[str, Any], str]] = [
    ("platform", Wanted(), {"arch": "aarch64"}, "aarch64"),
    ("processor", Wanted(), {"arch": "aarch64", "cpu_flags": frozenset()}, "aarch64"),
    ("GPU driver", GPU, {"nvidia_driver": "580.82.07", "nvidia_devices": 2}, "2 GPUs"),
    ("Python", WANTED, {"python": "3.14.0"}, "3.14.0"),
    ("inodes", WANTED, {"releases": dataclasses.replace(PLACE, free_inodes=None)}, "not counted"),
    ("mount options", WANTED, {"state": dataclasses.replace(STATE, is_noexec=True)}, "nothing runs"),
    ("user", Wanted(), {"euid": 1000}, "1000"),
    ("account", WANTED, {"account_uid": None}, "makes it"),
    ("other instance", WANTED, {"lock_holder": 77, "has_release": True}, "77"),
    (
        "ports",
        WANTED,
        {"listening": {8080: 997, 8090: 997}, "lock_holder": 77, "has_release": True},
        "ours",
    ),
    ("SELinux", WANTED, {"selinux": "enforcing", "has_restorecon": True}, "enforcing"),
    ("fapolicyd", WANTED, {"has_fapolicyd": True, "has_fapolicyd_rules": True}, "with rules"),
    ("umask", WANTED, {"umask": 0o077, "euid": 1000}, "0077"),
    (
        "room in /var/lib/appliance",
        STAGED,
        {"state": FULL_STATE},
        "",
    ),
]


@pytest.mark.parametrize(("name", "wanted", "changes", "fix"), RED)
def test_red(name: str, wanted: Wanted, changes: dict[str, Any], fix: str) -> None:
    """What would not work is red, says what to do, and keeps the installer from beginning."""
    found = check(name, wanted, **changes)

    assert found.level is Level.FAIL
    assert fix in found.fix
    with pytest.raises(BundleRefused) as refused:
        preflight.require([found])
    expected = Exit.WRONG_PLATFORM if name in {"platform", "C library", "processor"} else Exit.PREFLIGHT
    assert refused.value.exit is expected
    assert refused.value.hint == found.fix


@pytest.mark.parametrize(("name", "wanted", "changes", "fix"), WARN)
def test_warnings(name: str, wanted: Wanted, changes: dict[str, Any], fix: str) -> None:
    """What a person should know says so, and keeps nobody from installing."""
    found = check(name, wanted, **changes)

    assert found.level is Level.WARN
    assert fix in found.fix + found.found
    preflight.require([found])


@pytest.mark.parametrize(("name", "wanted", "changes", "says"), GREEN)
def test_green(name: str, wanted: Wanted, changes: dict[str, Any], says: str) -> None:
    """What looks odd and is right is no complaint."""
    found = check(name, wanted, **changes)

    assert found.level is Level.OK
    assert says in found.found


def test_every_check_can_be_red_or_warn() -> None:
    """The tables above miss none."""
    named = {each[0] for each in [*RED, *WARN]}

    assert {each.name for each in preflight.decide(GOOD, WANTED)} == named


def test_all_that_is_red_is_said_at_once() -> None:
    """Nobody mends one thing, and hears of the next."""
    checks = preflight.decide(dataclasses.replace(GOOD, glibc="2.31", python="3.9.2"), WANTED)
    with pytest.raises(BundleRefused) as refused:
        preflight.require(checks)

    assert refused.value.exit is Exit.WRONG_PLATFORM
    assert "C library: glibc 2.31" in refused.value.message
    assert "Python: 3.9.2" in refused.value.message


def test_room_is_counted_once_on_one_disk() -> None:
    """Release, what is staged, the databases' copy, and a fifth more; together where they share a disk."""
    release, state = room.needed_bytes(GOOD, WANTED)
    one = dataclasses.replace(STATE, device=1, free_bytes=release + state - 1)
    checks = preflight.decide(dataclasses.replace(GOOD, state=one), WANTED)

    assert state == 5 * GIB * 6 // 5
    assert [(each.name, each.level) for each in checks if each.name.startswith("room")] == [
        ("room in /var/lib/appliance", Level.FAIL)
    ]


@pytest.mark.parametrize(
    ("flags", "level", "variant"),
    [
        (frozenset[str](), 1, "x64"),
        (machine._V2, 2, "sse42"),
        (V3, 3, "haswell"),
        (V3 | {"avx_vnni"}, 3, "alderlake"),
        (V3 | machine._V4, 4, "skylakex"),
        (V3 | machine._V4 | {"avx512vbmi", "avx512_vnni", "avx512_bf16"}, 4, "zen4"),
    ],
)
def test_levels_and_variants(flags: frozenset[str], level: int, variant: str) -> None:
    """A processor's flags tell what llama.cpp will compute with."""
    assert (machine.level(flags), machine.variant(flags)) == (level, variant)


def test_this_host_is_seen(tmp_path: Path) -> None:
    """Real facts of the machine that this runs on."""
    facts = gather.look(Site(), python=None, home=tmp_path, clock=SystemClock())

    assert facts.python == sys.version.split()[0]
    assert (facts.os, facts.python_missing) == ("linux", ())
    assert facts.ram_bytes > facts.free_ram_bytes > 0
    assert facts.cpu_flags or facts.arch != "x86_64"
    assert tuple(map(int, facts.glibc.split("."))) >= (2, 34)
    assert facts.state.free_bytes > 0
    assert facts.euid == os.geteuid()
    assert facts.umask == os.umask(facts.umask)
    assert {each.level for each in preflight.run(None, Site(tmp_path), home=tmp_path, ports=())} <= set(Level)


def test_listeners_and_locks_are_seen_with_their_owners(tmp_path: Path) -> None:
    """A port and a lock that are taken are found without touching either."""
    (tmp_path / "lock").touch()
    with socket.create_server(("127.0.0.1", 0)) as server, (tmp_path / "lock").open() as lock:
        port = server.getsockname()[1]
        before = gather.look(Site(), python=None, home=tmp_path, clock=SystemClock())
        fcntl.flock(lock, fcntl.LOCK_EX)
        after = gather.look(Site(), python=None, home=tmp_path, clock=SystemClock())

    assert before.listening[port] == os.geteuid()
    assert (before.lock_holder, after.lock_holder) == (None, os.getpid())


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_a_hardened_gpu_host_shows_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files as the kernel and the distribution write them, under another root."""
    write(
        tmp_path,
        {
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
            "580.82.07  Release Build\nGCC version:  gcc 12\n",
            "dev/nvidia0": "",
            "dev/nvidiactl": "",
            "sys/fs/selinux/enforce": "1",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory",
            "proc/sys/crypto/fips_enabled": "1\n",
            "run/fapolicyd/fapolicyd.fifo": "",
            f"boot/config-{os.uname().release}": "CONFIG_CGROUP_BPF=y\n",
            "proc/cpuinfo": "flags\t\t: sse4_2 avx\nflags\t\t: sse4_2 avx\n",
            "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n"
            "/dev/zram0 partition 1 0 100\n/dev/dm-1 partition 1 0 -2\n/swapfile file 1 0 -3\n",
            "sys/class/block/dm-1/dm/uuid": "CRYPT-PLAIN-swap",
            "proc/meminfo": "MemTotal:       1024 kB\nMemAvailable:    512 kB\n",
        },
    )
    monkeypatch.setenv("https_proxy", "http://secret@proxy")
    monkeypatch.setenv("HF_TOKEN", "secret")
    clock = ManualClock(1_700_000_000_000_000)
    facts = gather.look(Site(tmp_path), python=Path("/nowhere/python"), home=tmp_path, clock=clock)

    assert (facts.nvidia_driver, facts.nvidia_devices) == ("580.82.07", 1)
    assert (facts.selinux, facts.is_fips) == ("enforcing", True)
    assert (facts.has_fapolicyd, facts.has_fapolicyd_rules) == (True, False)
    assert (facts.has_cgroup2, facts.has_cgroup_bpf) == (True, True)
    assert (facts.ram_bytes, facts.free_ram_bytes) == (1024 * 1024, 512 * 1024)
    assert facts.open_swaps == ("/swapfile",)
    assert facts.cpu_flags == {"sse4_2", "avx"}
    assert (facts.python, facts.now) == ("", "2023-11-14T22:13:20Z")
    assert {"https_proxy", "HF_TOKEN"} <= set(facts.variables)
    assert "secret" not in repr(facts)
