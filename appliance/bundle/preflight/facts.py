"""What was seen on a host, and what is wanted of it. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from appliance.bundle.manifest import Manifest


class Level(StrEnum):
    """`WARN` does not keep anything from being installed; a person should know it."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One look at the host: what was found, and what to do where it is not as it must be."""

    name: str
    level: Level
    found: str
    fix: str = ""
    is_platform: bool = False  # another machine would be needed


@dataclass(frozen=True, slots=True)
class Wanted:
    """For what the host is looked at. `floor` is a moment that has been: 2026-01-31T00:00:00Z."""

    manifest: Manifest | None = None
    ports: tuple[int, ...] = ()
    staged_bytes: int = 0
    floor: str = ""
    needs_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The file system under a path, or under the nearest folder above it that is there."""

    path: str
    device: int
    free_bytes: int
    free_inodes: int | None  # None: this file system does not count them
    is_noexec: bool
    is_there: bool  # the path itself


@dataclass(frozen=True, slots=True)
class Facts:
    """A host. None and empty texts: it could not be seen, or is not there."""

    os: str
    arch: str
    glibc: str
    python: str  # 3.11.2
    python_missing: tuple[str, ...]  # of the modules that a release needs
    openssl: str  # 3.0.20, of the program
    cpu_flags: frozenset[str]
    ram_bytes: int
    free_ram_bytes: int
    releases: Place
    state: Place
    home_bytes: int
    now: str  # 2026-01-31T00:00:00Z
    listening: dict[int, int] = field(default_factory=dict)  # port → user id of who listens
    euid: int = 0
    account_uid: int | None = None  # of the user `appliance`
    account_shell: str = ""
    systemd: int | None = None  # its version where it is process 1
    has_socket_bpf: bool = False  # systemd was built with BPF_FRAMEWORK
    has_cgroup2: bool = False
    has_cgroup_bpf: bool | None = None  # None: the kernel's configuration can not be read
    selinux: Literal["off", "permissive", "enforcing"] = "off"
    has_restorecon: bool = False
    has_fapolicyd: bool = False
    has_fapolicyd_rules: bool = False
    is_fips: bool = False
    open_swaps: tuple[str, ...] = ()  # swap areas on a disk that are not encrypted, or not known to be
    nvidia_driver: str = ""  # 580.82.07
    nvidia_devices: int = 0
    encoding: str = "utf-8"
    variables: tuple[str, ...] = ()  # names only: their values may be secrets
    umask: int = 0o022
    lock_holder: int | None = None  # process that holds the home
    has_release: bool = False  # `current` is there
