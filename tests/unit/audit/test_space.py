"""Room on the disk: levels with a margin, a ballast of real blocks, file systems that do not do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from appliance import config
from appliance.audit import surroundings
from appliance.audit.log import AuditLog
from appliance.audit.space import Level, Space, is_full, level_of
from appliance.config import Audit, Home
from appliance.errors import SetupError
from tests.clocks import ManualClock

MIB = 1 << 20
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory is what is wanted


@pytest.mark.parametrize(
    ("free_mib", "used", "before", "expected"),
    [
        (900, 0.74, Level.OK, Level.OK),
        (900, 0.75, Level.OK, Level.WARNING),
        (900, 0.72, Level.WARNING, Level.WARNING),
        (900, 0.69, Level.WARNING, Level.OK),
        (255, 0.50, Level.OK, Level.LOW),
        (256, 0.50, Level.OK, Level.OK),
        (300, 0.50, Level.LOW, Level.LOW),
        (320, 0.50, Level.LOW, Level.OK),
        (320, 0.72, Level.LOW, Level.WARNING),
    ],
)
def test_levels_have_a_margin(free_mib: int, used: float, before: Level, expected: Level) -> None:
    """Each way back is further than the way there: one crossing is one alarm."""
    assert level_of(free_mib * MIB, used, 256 * MIB, before) is expected


def test_ballast_takes_real_room_and_gives_it_back(tmp_path: Path) -> None:
    """Blocks, not a length; thrown off in place; a file of holes is no ballast."""
    home = Home(root=tmp_path)
    space = Space(home, Audit(ballast_mib=4, min_free_mib=0))
    space.prepare()
    made = home.ballast.stat()
    space.release()
    space.look()
    released = space.room
    with home.ballast.open("wb") as file:
        file.truncate(4 * MIB)
    space.look()
    hollow = space.room
    space.restore()

    assert (made.st_size, made.st_blocks * 512) == (4 * MIB, 4 * MIB)
    assert not released.has_ballast
    assert not hollow.has_ballast
    assert home.ballast.stat().st_blocks * 512 == 4 * MIB


def test_recovery_wants_room(tmp_path: Path) -> None:
    """A disk below its low-water mark does not get its log opened."""
    free = os.statvfs(tmp_path)
    wanted = free.f_bavail * free.f_frsize // MIB + 1000
    space = Space(Home(root=tmp_path), Audit(ballast_mib=0, min_free_mib=wanted))
    with pytest.raises(SetupError) as refused:
        space.restore()

    assert refused.value.code == "disk_low"


def test_full_disk_is_told_from_a_broken_one() -> None:
    """Only a disk without room gets the ballast: what fails otherwise is not trusted with last words."""
    assert [is_full(OSError(number, "x")) for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO)] == [
        True,
        True,
        False,
    ]


@pytest.mark.skipif(
    not MEMORY.is_dir() or surroundings.filesystem_of(MEMORY) != "tmpfs", reason="no file system in memory"
)
@pytest.mark.parametrize(
    ("profile", "anyway", "refused"),
    [("production", False, True), ("production", True, False), ("dev", False, False)],
)
def test_home_in_memory_is_refused_in_production(
    profile: str,
    anyway: bool,  # noqa: FBT001
    refused: bool,  # noqa: FBT001
) -> None:
    """Nothing there survives a power cut; an operator may say that this is known."""
    settings = msgspec.structs.replace(config.Settings(), profile=profile, audit=Audit(any_filesystem=anyway))
    try:
        surroundings.check_filesystem(Home(root=MEMORY), settings)
        code = ""
    except SetupError as error:
        code = error.code

    assert code == ("filesystem" if refused else "")


def test_log_opens_without_its_ballast(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start does not fail for want of it; the state tells."""

    def no_room(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    log = AuditLog.open(home, config.load(home), clock, version="test")

    assert log.is_ready
    assert not log.room.has_ballast
    log.close()
