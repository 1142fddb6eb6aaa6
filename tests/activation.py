"""Sockets where each connection is a process, by systemd's own program: no systemd has to run for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ACTIVATE = shutil.which("systemd-socket-activate")
FAKE = (sys.executable, "-m", "tests.fakes.fake_worker")
REAL = (sys.executable, "-m", "appliance.engine.worker")
needs_systemd = pytest.mark.skipif(
    ACTIVATE is None and "CI" not in os.environ, reason="systemd is not installed"
)


def is_gone(pid: int) -> bool:
    """No process, or one that only waits for its parent to look (socket-activate does at its leisure)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@contextmanager
def handing_out(path: Path, command: tuple[str, ...] = FAKE, **environment: str) -> Iterator[Path]:
    """A socket where each connection is a worker, as Accept=yes makes them."""
    assert ACTIVATE is not None
    variables = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(
        [
            ACTIVATE,
            "--accept",
            "--inetd",
            f"--listen={path}",
            *(f"--setenv={name}={value}" for name, value in variables.items()),
            *command,
            "--fd",
            "0",
            "--leashed",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            if path.exists():
                break
            process.poll()
            assert process.returncode is None
            wait()
        yield path
    finally:
        process.kill()
        process.wait()


def wait() -> None:
    time.sleep(0.05)
