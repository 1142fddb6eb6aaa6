"""A box in which systemd is process 1, with control groups of its own: units run as they do on a host.

It ends when this process does: `setpriv` has the kernel kill `unshare` then, and `--kill-child` everything
in the box.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

from tests.offline.box import ENVIRONMENT, MEDIA, PATH, START_SECONDS, Box, Done

SCRIPT_SECONDS: Final = 60
# Tries what a box needs of the kernel, in mounts of its own.
_PROBE: Final = 'mount -t cgroup2 none "$1" && mkdir "$1/$2" && rmdir "$1/$2"'
# Ahead of a command that runs in a group; the box's own is made first, a unit's has to be there.
_MAKE: Final = 'mount -t cgroup2 none "$1" && mkdir "$1/$2" && umount "$1"\n'
_JOIN: Final = """
set -eu
mount -t cgroup2 none "$1"
echo $$ > "$1/$2/cgroup.procs"
umount "$1"
shift 2
exec "$@"
"""
# Its leaves first: a group with groups in it is kept. Members that were just killed leave within moments.
_REMOVE: Final = """
mount -t cgroup2 none "$1"
for try in 1 2 3 4 5 6 7 8 9 10; do
  find "$1/$2" -depth -type d -exec rmdir {} + && exit 0
  sleep 0.1
done
exit 1
"""
_BOOT: Final = f"""
set -eu
root=$1 lower=$2 upper=$3 work=$4 said=$5
mount -t overlay box -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$root"
: > "$root/etc/fstab"
echo uninitialized > "$root/etc/machine-id"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs"
mkdir "$root/sys/fs/cgroup" "$root/sys/fs/bpf"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
  : > "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
{MEDIA}
hostname box
ip link set lo up
mkdir -p "$root/oldroot"
exec 3> "$said"
cd "$root"
pivot_root . oldroot
umount -l /oldroot
rmdir /oldroot
echo ready
exec env -i container=test PATH={PATH} TERM=dumb /lib/systemd/systemd --log-target=console \\
  --show-status=1 --unit=multi-user.target > /proc/self/fd/3 2>&1
"""


@dataclass
class Booted(Box):
    """A bare host that has booted. Its control groups lie in `group`, below the test run's own."""

    first_program: ClassVar[str] = "systemd"
    namespaces: ClassVar[tuple[str, ...]] = (*Box.namespaces, "--cgroup")

    @property
    def group(self) -> str:
        return f"appliance-test-{os.getpid()}-{self.place.name}"

    @property
    def console(self) -> str:
        """What systemd has said."""
        return (self.place / "log" / "console").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Booted:
        """Boot it, and wait for multi-user.target."""
        super().start()
        deadline = time.monotonic() + START_SECONDS
        while self.run("systemctl", "is-active", "multi-user.target", expect=None).code:
            assert time.monotonic() < deadline, self.console[-4000:]
            time.sleep(0.1)
        return self

    def unshare(self, errors: BinaryIO) -> subprocess.Popen[bytes]:
        mounts = self.place / "cgroup"
        mounts.mkdir(exist_ok=True)
        return subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", *_in_group(mounts, self.group, _MAKE + _JOIN)),
                *("unshare", *self.namespaces, "--fork", "--kill-child", "--propagation", "private"),
                *("sh", "-c", _BOOT, "boot", self.place / "root", ":".join(map(str, self.lower))),
                *(self.upper, self.place / "work", self.place / "log" / "console"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={"PATH": PATH},
        )

    def close(self) -> None:
        """Cut its power, and give its control groups back."""
        if self._boot is None:
            return
        self._boot.kill()
        super().close()
        words = [_REMOVE, "remove", str(self.place / "cgroup"), self.group]
        command = ["unshare", "--mount", "sh", "-c", *words]
        removed = subprocess.run(command, env={"PATH": PATH}, capture_output=True, text=True, check=False)
        assert removed.returncode == 0, removed.stderr

    def in_unit(self, unit: str, script: str) -> Done:
        """Run Python as a member of a unit's control group, in the box's network and outside the sandbox."""
        enter = _in_group(self.place / "cgroup", f"{self.group}/system.slice/{unit}")
        return _python([*enter, "nsenter", f"--target={self.pid}", *self.namespaces], script)

    def in_sandbox(self, pid: int, script: str) -> Done:
        """Run Python as root with the files that a process (by this host's ids) sees."""
        return _python(["nsenter", f"--target={pid}", "--mount"], script)


def _python(enter: Sequence[str | Path], script: str) -> Done:
    done = subprocess.run(
        [*enter, "--root", "--wd", "--", "python3", "-I", "-"],
        input=script,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def can_boot(scratch: Path) -> bool:
    """Whether this machine has version 2 of control groups, and lets us make one."""
    name = f"appliance-probe-{os.getpid()}"
    command = ["unshare", "--mount", "sh", "-c", _PROBE, "probe", str(scratch), name]
    return subprocess.run(command, env={"PATH": PATH}, capture_output=True, check=False).returncode == 0


def _in_group(mounts: Path, group: str, script: str = _JOIN) -> list[str | Path]:
    """The words ahead of a command that is to run in a group."""
    return ["unshare", "--mount", "sh", "-c", script, "join", mounts, group]
