"""What set-up needs of the host: programs, a cache folder, and a way to run things and tell of them.

Standard library only: this runs before anything is installed. Everything that is written goes into
the checkout or into the cache folder; temporary files too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = ROOT / "deploy" / "lock"
VENV = ROOT / ".venv"
MIN_PYTHON = (3, 11)
_TAIL_LINES = 30
_QUIET_SECONDS = 10.0  # between two lines of progress where nobody watches a terminal
_FIXES = {
    "gcc": "Debian: apt install gcc · RHEL: dnf install gcc",
    "g++": "Debian: apt install g++ · RHEL: dnf install gcc-c++",
    "make": "Debian: apt install make · RHEL: dnf install make",
    "cmake": "Debian: apt install cmake · RHEL: dnf install cmake",
}


class SetupFailed(Exception):
    """Set-up can not go on; the message says what to do."""


def cache_dir() -> Path:
    """$APPLIANCE_CACHE, else the user's cache folder."""
    explicit = os.environ.get("APPLIANCE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(explicit) if explicit else Path(base, "appliance")
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def check_host() -> None:
    """Python's version and parts, and the compilers. Names everything that is missing at once."""
    if sys.version_info < MIN_PYTHON:
        wanted = ".".join(map(str, MIN_PYTHON))
        raise SetupFailed(
            f"Python {wanted} or newer is needed, this is {sys.version.split()[0]}\n"
            "  set another one with: make run PYTHON=python3.12"
        )
    missing = [f"  {name}: {fix}" for name, fix in _FIXES.items() if shutil.which(name) is None]
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian packs it apart
        import venv  # noqa: F401, PLC0415
    except ImportError:
        missing.append("  venv: Debian: apt install python3-venv")
    if missing:
        raise SetupFailed("some programs are missing:\n" + "\n".join(missing))


def digest_of(*paths: Path, salt: str = "") -> str:
    """SHA-256 over files' contents, shortened: a key for what was made from them."""
    digest = hashlib.sha256(salt.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """SHA-256 of one file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One set-up at a time does what this file stands for; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at this; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every program that set-up runs: pip's files stay in our cache."""
    cache = cache_dir()
    temporary = cache / "tmp"
    temporary.mkdir(exist_ok=True)
    inherited = dict(os.environ)
    # Where it is set, even to nothing, ggml switches every SIMD default off.
    inherited.pop("SOURCE_DATE_EPOCH", None)
    return {
        **inherited,
        "PIP_CACHE_DIR": str(cache / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "TMPDIR": str(temporary),
        **(extra or {}),
    }


def say(text: str) -> None:
    """One line to the person who waits."""
    print(f"  {text}", flush=True)


class Progress:
    """A line that is rewritten on a terminal, and a line now and then elsewhere."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._began = time.monotonic()
        self._told = self._began
        self._live = sys.stdout.isatty()

    def update(self, done: int, total: int) -> None:
        """`done` of `total` steps."""
        now = time.monotonic()
        if not self._live and now - self._told < _QUIET_SECONDS:
            return
        self._told = now
        elapsed = now - self._began
        rest = f", about {_minutes(elapsed / done * (total - done))} left" if done else ""
        text = f"{self._label}: {done}/{total} ({100 * done // max(1, total)} %), {_minutes(elapsed)}{rest}"
        print(
            f"\r  {text}\x1b[K" if self._live else f"  {text}",
            end="" if self._live else "\n",
            flush=True,
        )

    def finish(self) -> None:
        """Say how long it took."""
        end = "\r" if self._live else ""
        print(f"{end}  {self._label}: done in {_minutes(time.monotonic() - self._began)}\x1b[K"
              if self._live else f"  {self._label}: done in {_minutes(time.monotonic() - self._began)}",
              flush=True)  # fmt: skip


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    extra: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run a program, its words into `log`. SetupFailed shows their end where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            if process.stdout is not None:
                for line in process.stdout:
                    file.write(line)
                    if on_line is not None:
                        on_line(line)
        except BaseException:
            process.terminate()  # Ctrl-C: nothing of ours goes on
            process.wait()
            raise
        code = process.wait()
    if code != 0:
        tail = log.read_text(encoding="utf-8").splitlines()[-_TAIL_LINES:]
        raise SetupFailed(
            f"{Path(str(command[0])).name} failed with exit code {code}; the end of {log}:\n"
            + "\n".join(f"    {line[:200]}" for line in tail)
        )


def counting(pattern: str, progress: Progress, total: int) -> Callable[[str], None]:
    """A line listener that counts lines with this pattern."""
    seen = 0
    wanted = re.compile(pattern)

    def on_line(line: str) -> None:
        nonlocal seen
        if wanted.search(line):
            seen = min(total, seen + 1)
            progress.update(seen, total)

    return on_line


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
