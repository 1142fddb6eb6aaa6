"""A file that goes to the disk while it is written: no error of the other thread is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.bundle import flushing
from appliance.bundle.flushing import Flushed


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_everything_is_written_and_synced(target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few MiB in between, and once more at the end."""
    calls: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda _fd: calls.append("between"))
    monkeypatch.setattr(os, "fsync", lambda _fd: calls.append("end"))
    monkeypatch.setattr(flushing, "EVERY_BYTES", 1000)
    data = os.urandom(10_000)
    flushed = Flushed(target)
    for begin in range(0, len(data), 500):
        flushed.write(memoryview(data[begin : begin + 500]))
    flushed.finish()
    flushed.close()

    assert os.pread(target, 20_000, 0) == data
    assert "between" in calls
    assert calls[-1] == "end"


def test_failure_of_the_other_thread_is_told(target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of a failed write back once: the last fsync would succeed."""

    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    monkeypatch.setattr(flushing, "EVERY_BYTES", 1000)
    flushed = Flushed(target)
    flushed.write(memoryview(bytes(2000)))

    with pytest.raises(OSError, match="Input/output error"):
        flushed.finish()
    flushed.close()


def test_full_disk_is_told() -> None:
    """As `/dev/full` tells it."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        flushed = Flushed(full.fileno())
        with pytest.raises(OSError, match="No space left"):
            flushed.write(memoryview(b"data"))
        flushed.close()
