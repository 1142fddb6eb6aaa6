"""The only look at the host: files under /proc, /sys and /etc, and three programs that say their version."""

from __future__ import annotations

import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from appliance import config
from appliance.bundle.layout import Site
from appliance.bundle.manifest import moment
from appliance.bundle.preflight.facts import Facts, Place
from appliance.clock import Clock

ACCOUNT: Final = "appliance"
_SECONDS: Final = 20
_MODULES: Final = ("venv", "ssl", "sqlite3", "ctypes")
_PROBE: Final = """
import importlib, platform
missing = []
for name in %r:
    try:
        importlib.import_module(name)
    except ImportError:
        missing.append(name)
print(platform.python_version(), *missing)
"""
# What leads out (proxies, registries' tokens), or brings foreign code and settings into a program.
_VARIABLES: Final = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "HF_",
    "HUGGING_FACE",
    "NGC_",
    "PIP_",
    "UV_",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "OPENSSL_",
    "SSL_CERT",
    "GGML_",
    "LLAMA_",
)


def look(site: Site, *, python: Path | None, home: Path, clock: Clock) -> Facts:
    """Facts about the host under `site.root`; what can not be seen is left empty, never guessed."""
    root = site.root
    version, missing = _python(python or Path(sys.executable))
    libc, _, glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    memory = _table(root / "proc/meminfo")
    systemd, features = _systemd(root)
    account = _account()
    return Facts(
        os=platform.system().lower(),
        arch=platform.machine(),
        glibc=glibc if libc == "glibc" else "",
        python=version,
        python_missing=missing,
        openssl=_first(r"OpenSSL ([0-9.]+)", _say("openssl", "version")),
        cpu_flags=frozenset(_table(root / "proc/cpuinfo").get("flags", "").split()),
        ram_bytes=_kilobytes(memory.get("MemTotal", "")),
        free_ram_bytes=_kilobytes(memory.get("MemAvailable", "")),
        releases=_place(site.releases),
        state=_place(site.state),
        home_bytes=_databases(home),
        now=moment(clock.now_us()),
        listening=_listening(root),
        euid=os.geteuid(),
        account_uid=account.pw_uid if account is not None else None,
        account_shell=account.pw_shell if account is not None else "",
        systemd=systemd,
        has_socket_bpf="+BPF_FRAMEWORK" in features,
        has_cgroup2=(root / "sys/fs/cgroup/cgroup.controllers").exists(),
        has_cgroup_bpf=_has_cgroup_bpf(root),
        selinux=_selinux(root),
        has_restorecon=shutil.which("restorecon", path="/usr/sbin:/sbin:/usr/bin:/bin") is not None,
        has_fapolicyd=(root / "run/fapolicyd").exists() or (root / "run/fapolicyd.pid").exists(),
        has_fapolicyd_rules=(root / "etc/fapolicyd/rules.d/35-appliance.rules").exists(),
        is_fips=_read(root / "proc/sys/crypto/fips_enabled").strip() == "1",
        open_swaps=_open_swaps(root),
        nvidia_driver=_first(
            r"NVRM version:.*?\s([0-9]{3}[0-9.]+)\s", _read(root / "proc/driver/nvidia/version")
        ),
        nvidia_devices=len([p for p in _listed(root / "dev") if re.fullmatch(r"nvidia[0-9]+", p)]),
        encoding=sys.getfilesystemencoding(),
        variables=tuple(config.variables(*_VARIABLES)),
        umask=int(_table(root / "proc/self/status").get("Umask", "0022"), 8),
        lock_holder=_lock_holder(root, home / "lock"),
        has_release=site.current.exists(),
    )


def _python(program: Path) -> tuple[str, tuple[str, ...]]:
    found = _say(str(program), "-I", "-c", _PROBE % (_MODULES,)).split()
    return (found[0], tuple(found[1:])) if found else ("", ())


def _say(*command: str) -> str:
    """What a program prints; nothing where it is not there, fails or hangs."""
    try:
        return subprocess.run(  # noqa: S603 - fixed programs, no shell
            command, capture_output=True, text=True, timeout=_SECONDS, check=True, stdin=subprocess.DEVNULL
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _listed(folder: Path) -> Sequence[str]:
    try:
        return [each.name for each in folder.iterdir()]
    except OSError:
        return ()


def _table(path: Path) -> dict[str, str]:
    """`name: value` lines; of several with one name the first."""
    found: dict[str, str] = {}
    for line in _read(path).splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _kilobytes(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * 1024 if text else 0


def _place(path: Path) -> Place:
    there = path
    while not there.exists():
        there = there.parent
    stat = os.statvfs(there)
    return Place(
        path=str(path),
        device=there.stat().st_dev,
        free_bytes=stat.f_bavail * stat.f_frsize,
        free_inodes=stat.f_favail if stat.f_files else None,
        is_noexec=bool(stat.f_flag & os.ST_NOEXEC),
        is_there=path.exists(),
    )


def _databases(home: Path) -> int:
    """Bytes of the home's databases, which are backed up before they are migrated."""
    try:
        return sum(path.stat().st_size for path in home.glob("*.db*"))
    except OSError:
        return 0


def _listening(root: Path) -> dict[int, int]:
    """Port → user of each TCP socket that listens (proc(5), net/tcp: state 0A)."""
    rows = [
        line.split() for name in ("tcp", "tcp6") for line in _read(root / "proc/net" / name).splitlines()[1:]
    ]
    return {int(row[1].rpartition(":")[2], 16): int(row[7]) for row in rows if row[3] == "0A"}


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None


def _systemd(root: Path) -> tuple[int | None, str]:
    """(version, features) where systemd is process 1."""
    if not (root / "run/systemd/system").is_dir():
        return None, ""
    said = _say("systemctl", "--version")
    version = _first(r"systemd ([0-9]+)", said)
    return (int(version) if version else None), said


def _has_cgroup_bpf(root: Path) -> bool | None:
    said = _read(root / "boot" / f"config-{platform.release()}")
    if not said and (root / "proc/config.gz").exists():
        said = _say("gzip", "-dc", str(root / "proc/config.gz"))
    return "CONFIG_CGROUP_BPF=y" in said if said else None


def _open_swaps(root: Path) -> tuple[str, ...]:
    """Swap areas but those in memory (zram) and those of dm-crypt, which its device's UUID tells."""
    areas = [line.split(maxsplit=1)[0] for line in _read(root / "proc/swaps").splitlines()[1:]]
    return tuple(
        area
        for area in areas
        if not Path(area).name.startswith("zram")
        and not _read(root / "sys/class/block" / Path(area).name / "dm/uuid").startswith("CRYPT-")
    )


def _selinux(root: Path) -> Literal["off", "permissive", "enforcing"]:
    match _read(root / "sys/fs/selinux/enforce").strip():
        case "1":
            return "enforcing"
        case "0":
            return "permissive"
        case _:
            return "off"


def _lock_holder(root: Path, path: Path) -> int | None:
    """The process that holds the home's flock (proc(5), locks), without taking it for a moment."""
    try:
        stat = path.stat()
    except OSError:
        return None
    name = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    for line in _read(root / "proc/locks").splitlines():
        fields = line.split()
        if fields[1:2] == ["FLOCK"] and name in fields:
            return int(fields[4])
    return None
