"""A bare host in a box: a root file system of its own, and no network, or one that leads to a trap.

Process 1 of a box is a `cat` whose standard input this process holds: when the test ends, however it ends,
`cat` ends, and the kernel ends every process of the box with it and takes its mounts away. It ignores
SIGCHLD, so that nothing in a box stays a zombie.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

import pytest

from tests.offline import egress

START_SECONDS: Final = 20
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Nothing of this host's environment reaches a box: what is not here is not there.
ENVIRONMENT: Final = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
# In a boot script: what the box has at /media, read-only.
MEDIA: Final = """
for medium in "$upper".media/*; do
  [ -e "$medium" ] || continue
  mkdir -p "$root/media/${medium##*/}"
  mount --bind "$medium" "$root/media/${medium##*/}"
  mount -o remount,bind,ro "$root/media/${medium##*/}"
done
"""
_BOOT: Final = f"""
set -eu
root=$1 lower=$2 upper=$3 work=$4
mount --make-rprivate /
mount -t overlay box -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
{MEDIA}
hostname box
ip link set lo up
echo ready
exec env --ignore-signal=CHLD chroot "$root" /bin/cat > /dev/null
"""


class TookTooLong(AssertionError):
    """A command in a box did not end in its time; the box was closed."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended: its exit code, and what it said."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out[-6000:]}\n{self.err[-6000:]}"


@dataclass
class Running:
    """A command that goes on. `process` is nsenter, which ends as it ends."""

    process: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")


@dataclass
class Box:
    """One bare host. `lower` are its file systems, the uppermost first; what it writes goes below `place`."""

    lower: Sequence[Path]
    place: Path
    media: Mapping[str, Path] = field(default_factory=dict)  # read-only at /media/NAME
    trace: Path | None = None  # every command's network calls, where it is given
    first_program: ClassVar[str] = "cat"  # what its process 1 is, once it has booted
    namespaces: ClassVar[tuple[str, ...]] = ("--net", "--mount", "--pid", "--uts", "--ipc")
    _boot: subprocess.Popen[bytes] | None = None
    pid: int = 0  # of its process 1, as this host counts
    _commands: int = 0
    _begun: list[Running] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Its file system, as this host's root sees it while it runs."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def upper(self) -> Path:
        """What it has written: a lower layer for another box, once this one is closed."""
        return self.place / "upper"

    def start(self) -> Box:
        """Boot it; boot it again with what it had written, after `close`."""
        for name in ("root", "upper", "work", "log"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        media = self.place / "upper.media"
        shutil.rmtree(media, ignore_errors=True)
        media.mkdir()
        for name, folder in self.media.items():
            (media / name).symlink_to(folder)
        with (self.place / "log" / "boot").open("wb") as errors:
            self._boot = self.unshare(errors)
        assert self._boot.stdout is not None
        # Ends with the line, or with the program: either way soon.
        line = self._boot.stdout.readline()
        assert line == b"ready\n", (self.place / "log" / "boot").read_text()
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text(encoding="ascii")
        self.pid = int(children.split()[0])
        deadline = time.monotonic() + START_SECONDS
        while Path(f"/proc/{self.pid}/comm").read_text(encoding="ascii") != f"{self.first_program}\n":
            assert time.monotonic() < deadline, "the box did not boot"
            time.sleep(0.01)
        return self

    def unshare(self, errors: BinaryIO) -> subprocess.Popen[bytes]:
        """The program whose first child is the box's process 1; it says "ready" when that has its root."""
        return subprocess.Popen(
            [
                *("unshare", *self.namespaces, "--fork", "--kill-child"),
                *("sh", "-c", _BOOT, "boot", self.place / "root", ":".join(map(str, self.lower))),
                *(self.upper, self.place / "work"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={"PATH": PATH},
        )

    def close(self) -> None:
        """End everything in it, at once, as a power cut does. What it wrote stays."""
        if self._boot is None:
            return
        boot, self._boot = self._boot, None
        assert boot.stdin is not None
        boot.stdin.close()
        try:
            boot.wait(10)
        except subprocess.TimeoutExpired:
            boot.kill()
            boot.wait(10)
        assert boot.stdout is not None
        boot.stdout.close()
        for running in self._begun:
            running.process.wait(10)
        self._begun.clear()

    def run(
        self,
        *command: str,
        seconds: float = 60,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        expect: int | None = 0,
    ) -> Done:
        """Run a command to its end. AssertionError on another exit code than `expect`; None takes any."""
        running = self.begin(*command, stdin=stdin, env=env)
        try:
            code = running.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.close()
            raise TookTooLong(f"{command} took over {seconds} s\n{running.text()[-4000:]}") from None
        errors = running.output.with_suffix(".err").read_text(encoding="utf-8", errors="replace")
        done = Done(code, running.text(), errors)
        assert expect is None or code == expect, f"{' '.join(command)[:300]}: {done}"
        return done

    def begin(self, *command: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Running:
        """Start a command and go on. Its output is a file: what it leaves behind may keep it open."""
        self._commands += 1
        output = self.place / "log" / f"{self._commands:03d}.out"
        given = output.with_suffix(".in")
        given.write_text(stdin, encoding="utf-8")
        entered = [
            *("nsenter", f"--target={self.pid}", *self.namespaces, "--root", "--wd", "--", *command),
        ]
        if self.trace is not None:
            entered = ["strace", "-DD", *egress.OPTIONS, "-o", f"{self.trace}.{self._commands:03d}", *entered]
        with (
            given.open("rb") as source,
            output.open("wb") as out,
            output.with_suffix(".err").open("wb") as err,
        ):
            process = subprocess.Popen(
                entered, stdin=source, stdout=out, stderr=err, env={**ENVIRONMENT, **(env or {})}
            )
        running = Running(process, output)
        self._begun.append(running)
        return running

    def python(self, script: str, *arguments: str, seconds: float = 60, expect: int | None = 0) -> Done:
        """Run a script with the system's own Python, isolated, its standard library alone."""
        return self.run("python3", "-I", "-", *arguments, stdin=script, seconds=seconds, expect=expect)

    def traces(self) -> list[Path]:
        """What strace has written, a file for each command; empty where nothing is traced."""
        if self.trace is None:
            return []
        return sorted(self.trace.parent.glob(f"{self.trace.name}.*"))

    def processes(self) -> dict[int, str]:
        """The command lines of everything in the box, by this host's ids; its process 1 is not among them."""
        mine = _namespace(self.pid)
        found = {}
        for folder in Path("/proc").iterdir():
            if (
                folder.name.isdigit()
                and int(folder.name) != self.pid
                and _namespace(int(folder.name)) == mine
            ):
                with contextlib.suppress(OSError):
                    line = (
                        (folder / "cmdline")
                        .read_bytes()
                        .replace(b"\0", b" ")
                        .decode(errors="replace")
                        .strip()
                    )
                    if line:
                        found[int(folder.name)] = line
        return found

    def kill(self, pattern: str) -> int:
        """SIGKILL to every process of the box whose command line has this in it; how many there were."""
        hit = [pid for pid, line in self.processes().items() if pattern in line]
        for pid in hit:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(hit)


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


@contextlib.contextmanager
def box(
    lower: Sequence[Path], place: Path, *, media: Mapping[str, Path] | None = None, trace: Path | None = None
) -> Iterator[Box]:
    """A booted box, closed at the end; what it wrote is removed unless the test fails."""
    made = Box(lower, place, media or {}, trace)
    try:
        made.start()
        yield made
    finally:
        made.close()
    shutil.rmtree(place / "root", ignore_errors=True)


def require_root() -> None:
    """Boxes are made by root. Skips for anybody else, but not in CI."""
    wanting = [
        each
        for each in ("unshare", "nsenter", "strace", "ip", "nft")
        if shutil.which(each, path=PATH) is None
    ]
    if os.geteuid() == 0 and not wanting:
        return
    reason = f"missing: {', '.join(wanting)}" if wanting else "only root makes network-less boxes"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and this is the build server (deploy/bootstrap/test-tools.sh)")
    pytest.skip(reason)
