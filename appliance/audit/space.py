"""Room on the home's disk: a warning in time, a low-water mark, and a ballast for the last words.

The ballast is a file that only takes up room. When the disk is full it is thrown off, so that the
log can still close what is open and say why it stopped; recovery puts it back.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy.exc import DatabaseError

from appliance import durable
from appliance.config import Audit, Home
from appliance.errors import SetupError
from appliance.log import get_logger

WARN_AT: Final = 0.75  # NIST 800-53 AU-5(1), ASD STIG V-222483
WARN_AGAIN_BELOW: Final = 0.70  # so that one crossing is one warning
LOW_AGAIN_ABOVE: Final = 1.25  # of the low-water mark
_MIB: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

log = get_logger(__name__)


class Level(StrEnum):
    """How the disk stands, from good to bad."""

    OK = "ok"
    WARNING = "warning"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Room:
    """The disk at one look. `used` is a fraction, as df(1) tells it."""

    free_bytes: int = 0
    used: float = 0.0
    level: Level = Level.OK
    has_ballast: bool = True


def level_of(free_bytes: int, used: float, min_free_bytes: int, before: Level) -> Level:
    """The level, with a margin on the way back. Pure."""
    low_at = min_free_bytes * LOW_AGAIN_ABOVE if before is Level.LOW else min_free_bytes
    if free_bytes < low_at:
        return Level.LOW
    warn_at = WARN_AT if before is Level.OK else WARN_AGAIN_BELOW
    return Level.WARNING if used >= warn_at else Level.OK


def is_full(error: BaseException) -> bool:
    """Whether an error of the write path says that the disk, or a quota, is full."""
    original = getattr(error, "orig", None) if isinstance(error, DatabaseError) else error
    if isinstance(original, OSError):
        return original.errno in _FULL
    return getattr(original, "sqlite_errorname", "") == "SQLITE_FULL"


class Space:
    """Looks at the disk. Everything but `room` belongs to the thread that writes the log."""

    def __init__(self, home: Home, settings: Audit) -> None:
        self._path = home.ballast
        self._folder = home.root
        self._ballast_bytes = settings.ballast_mib * _MIB
        self._min_free_bytes = settings.min_free_mib * _MIB
        self.room = Room()
        self._alarm = ""

    def look(self) -> None:
        """Measure. What got worse is kept for `take_alarm`. OSError where the disk does not tell."""
        found = os.statvfs(self._folder)
        free = found.f_bavail * found.f_frsize
        taken = (found.f_blocks - found.f_bfree) * found.f_frsize
        used = taken / (taken + free) if taken + free else 1.0
        before = self.room.level
        now = level_of(free, used, self._min_free_bytes, before)
        self.room = Room(free, used, now, self._has_ballast())
        if now is not before and now is not Level.OK and before is not Level.LOW:
            self._alarm = "disk_low" if now is Level.LOW else "disk_warning"
            log.warning(self._alarm, free_mib=free // _MIB, used_percent=round(used * 100))

    def take_alarm(self) -> str:
        """The code of what is to be said on the record, once; empty for nothing."""
        alarm, self._alarm = self._alarm, ""
        return alarm

    def prepare(self) -> None:
        """Have the ballast where there is room for it: a start does not fail for want of it."""
        try:
            self._make()
        except OSError as error:
            log.warning("ballast_missing", error=type(error).__name__)
        self.look()

    def restore(self) -> None:
        """Have the ballast, and room besides. SetupError where the disk is still too full."""
        try:
            self._make()
            self.look()
        except OSError as error:
            raise self._too_full() from error
        if self.room.level is Level.LOW:
            raise self._too_full()

    def release(self) -> None:
        """Throw the ballast off. Its name stays, so that the folder needs no room to change."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, 0)
            os.fsync(fd)  # journalling file systems give blocks back with the journal only
        finally:
            os.close(fd)

    def _make(self) -> None:
        if self._has_ballast():
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, durable.PRIVATE_FILE)
        try:
            os.ftruncate(fd, 0)
            if self._ballast_bytes:
                os.posix_fallocate(fd, 0, self._ballast_bytes)
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, 0)  # half a ballast would take the last room
            raise
        finally:
            os.close(fd)

    def _has_ballast(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        # A file of holes has the length and none of the room.
        return found.st_size == self._ballast_bytes and found.st_blocks * 512 >= self._ballast_bytes

    def _too_full(self) -> SetupError:
        wanted = (self._ballast_bytes + self._min_free_bytes) // _MIB
        return SetupError(
            "the disk is too full to open the log",
            code="disk_low",
            hint=f"free {wanted} MiB in the home's file system, then run: appliance audit recover",
        )
