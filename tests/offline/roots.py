"""Root file systems of bare Debian hosts, made once into the cache: a minimal base, openssl and python3.

`python -m tests.offline.roots` makes what is missing; this alone needs a mirror, which it takes from this
host's own package sources. A root is kept by what it was made of; tests only ever read it.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# What an operator has from the medium of the operating system, and all that an appliance may want of it.
PACKAGES: Final = ("openssl", "python3")
RECIPE: Final = 1  # raise it where `_make` changes what is in a root
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MAKE_SECONDS: Final = 900
MIRROR_VARIABLE: Final = "DEBIAN_MIRROR"


@dataclass(frozen=True, slots=True)
class System:
    """One release of Debian, and the Python that it brings."""

    suite: str
    name: str
    python: str
    extra: tuple[str, ...] = ()  # packages beyond PACKAGES

    @property
    def packages(self) -> list[str]:
        return sorted((*PACKAGES, *self.extra))

    @property
    def key(self) -> str:
        """What the root is made of; not where from, and not when."""
        parts = [self.suite, self.packages, platform.machine(), RECIPE]
        return f"{self.suite}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"

    @property
    def root(self) -> Path:
        """Where it lies. Whoever enters it writes elsewhere: a box lays its own layer over it."""
        return cache() / self.key


SYSTEMS: Final = (System("bookworm", "Debian 12", "3.11"), System("trixie", "Debian 13", "3.13"))
BOOTED: Final = System("bookworm", "Debian 12 with systemd", "3.11", ("systemd", "dbus"))
ALL: Final = (*SYSTEMS, BOOTED)


class RootsMissing(Exception):
    """A root can not be made here; the message says what to do."""


def cache() -> Path:
    """Where roots lie: outside the checkout, beside the wheels and the models."""
    base = os.environ.get("APPLIANCE_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "appliance"
    )
    return Path(base, "roots")


def require(system: System) -> Path:
    """A root that is there and whole. RootsMissing says how it is made."""
    if not _is_whole(system):
        raise RootsMissing(
            f"no root of {system.name} in the cache ({system.root}): `make test-offline` makes it"
        )
    return system.root


def mirror() -> str:
    """Where this host has Debian from. RootsMissing where it is no Debian and nobody says."""
    if chosen := os.environ.get(MIRROR_VARIABLE):
        return chosen
    found = _sources()
    if not found:  # their lists were never read, or an image left them out
        _run("apt-get", "update", "-qq")
        found = _sources()
    if not found:
        raise RootsMissing(
            "no Debian mirror among this host's package sources: does `apt-get update` work? "
            f"Or name one in ${MIRROR_VARIABLE}"
        )
    return found[0]


def _sources() -> list[str]:
    listed = _run(
        *("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)"), "Created-By: Packages"
    )
    return [line.split()[0] for line in listed.splitlines() if line.split()[1:] == ["Debian", "Debian"]]


def _run(*command: str) -> str:
    """What it said; nothing where it can not be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def make_missing() -> None:
    """Make the roots that are not in the cache, side by side. RootsMissing says what is wanting."""
    cache().mkdir(parents=True, exist_ok=True)
    with Path(cache(), "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may be at it
        _make_missing()


def _make_missing() -> None:
    missing = [each for each in ALL if not _is_whole(each)]
    if not missing:
        return
    if shutil.which("debootstrap") is None or not KEYRING.is_file():
        raise RootsMissing(
            "debootstrap and debian-archive-keyring are needed to make bare Debian roots: "
            "run deploy/bootstrap/test-tools.sh as root"
        )
    source = mirror()
    with concurrent.futures.ThreadPoolExecutor(len(missing)) as pool:
        list(pool.map(lambda each: _make(each, source), missing))


def _is_whole(system: System) -> bool:
    """Whether a root has every file that it was made with, by their number and bytes; that takes a moment."""
    try:
        pinned = system.root.with_suffix(".size").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return system.root.is_dir() and pinned == _size(system.root)


def _size(root: Path) -> str:
    found = [os.lstat(Path(folder, name)) for folder, _, names in os.walk(root) for name in names]
    return f"{len(found)} files, {sum(each.st_size for each in found)} bytes\n"


def _make(system: System, source: str) -> None:
    _say(f"{system.name}: making a bare root, once (about 100 s)")
    shutil.rmtree(system.root, ignore_errors=True)  # where it was there, it was not whole
    log = cache() / f"{system.key}.log"
    with tempfile.TemporaryDirectory(dir=cache(), prefix=f"{system.key}-") as scratch:
        root = Path(scratch, "root")
        with log.open("wb") as output:
            command = [
                *("debootstrap", "--variant=minbase", f"--include={','.join(system.packages)}"),
                *(f"--keyring={KEYRING}", system.suite, str(root), source),
            ]
            done = subprocess.run(command, stdout=output, stderr=output, timeout=MAKE_SECONDS, check=False)
        if done.returncode != 0:
            end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
            raise RootsMissing(
                f"debootstrap of {system.name} ended with {done.returncode}: can the mirror be reached, "
                f"and does it have {system.suite}?\n{end}"
            )
        _strip(root)
        size = _size(root)
        root.rename(system.root)
    system.root.with_suffix(".size").write_text(size, encoding="ascii")
    _say(f"{system.name}: its root is in the cache ({size.strip()})")


def _strip(root: Path) -> None:
    """Take out what this host left in it: its name, its resolver, the mirror, packages and their lists."""
    for name in ("etc/resolv.conf", "etc/hostname", "etc/apt/sources.list", "var/log/bootstrap.log"):
        (root / name).unlink(missing_ok=True)
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        for path in (root / folder).iterdir():
            if path.is_file():
                path.unlink()
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 box\n", encoding="ascii")


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Make what is missing; 1 with a line of advice where that can not be."""
    if os.geteuid() != 0:
        _say("bare roots are made and entered by root only; tests/offline is skipped")
        return 1 if os.environ.get("CI") == "true" else 0
    try:
        make_missing()
    except (RootsMissing, subprocess.SubprocessError, OSError) as error:
        _say(f"no bare roots: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
