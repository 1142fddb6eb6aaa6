"""What the log stands on, told in its first entry: libraries, the clock's source, the file system.

WAL needs shared memory and locks that are honest, and a power cut needs a disk: remote file systems
have not the first, memory and overlays not the second.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Final, Literal

import cryptography
from cryptography.hazmat.backends.openssl import backend

from appliance import db
from appliance.audit import profiles
from appliance.config import Home, Settings
from appliance.databases.base import Database
from appliance.errors import SetupError
from appliance.log import get_logger

# statfs(2): f_type. What keeps a database through a power cut, and what does not.
_LOCAL: Final = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
}
_UNFIT: Final = {
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x01021997: "9p",
    0x00C36400: "ceph",
    0x65735546: "fuse",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x794C7630: "overlay",
}
_STATFS_BYTES: Final = 256  # longer than struct statfs on every Linux
_TIMEX: Final = struct.Struct("@Iqqqqi")  # struct timex, up to its status
_TIMEX_BYTES: Final = 256
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_STA_UNSYNC: Final = 0x0040

TimeSource = Literal["synchronised", "unsynchronised", "unknown"]

log = get_logger(__name__)


def started(home: Home, database: Database, settings: Settings, version: str) -> dict[str, str | int]:
    """For `log:started`: versions, file system, time source."""
    return {
        "version": version,
        "schema": db.schema(database).head,
        "database": database.version(),
        "cryptography": cryptography.__version__,
        "openssl": backend.openssl_version_text(),
        "crypto": profiles.told(settings.crypto.profile),
        "filesystem": filesystem_of(home.root),
        "time_source": time_source(),
    }


def filesystem_of(path: Path) -> str:
    """Name of the file system, or its magic number in hex. OSError where the kernel does not tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if libc.statfs(bytes(path), buffer) != 0:
        raise OSError(ctypes.get_errno(), "statfs", str(path))
    magic = ctypes.c_long.from_buffer(buffer).value & 0xFFFF_FFFF
    return _LOCAL.get(magic) or _UNFIT.get(magic) or hex(magic)


def check_filesystem(home: Home, settings: Settings) -> None:
    """SetupError in profile production where the home would not survive; elsewhere a line in the log."""
    found = filesystem_of(home.root)
    if found not in _UNFIT.values() or settings.audit.any_filesystem:
        return
    if settings.profile == "production":
        raise SetupError(
            f"the home lies on {found}, which does not keep a record through a power cut",
            code="filesystem",
            hint="move it to a local disk (ext4, xfs), or set audit.any_filesystem = true",
        )
    log.warning("filesystem_unfit", filesystem=found)


def time_source() -> TimeSource:
    """Whether the kernel's clock is disciplined by a time source, as adjtimex(2) tells it."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: reads only
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        return "unknown"
    status = _TIMEX.unpack_from(buffer)[5]
    return "unsynchronised" if state == _TIME_ERROR or status & _STA_UNSYNC else "synchronised"
