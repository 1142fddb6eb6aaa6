"""What lies on the disk, how fast it grows, and what was put aside. Reads files and headers; no contents.

The forecast is a straight line: the entries of the last days, at the mean size of all entries. It says so
wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import text

from appliance import db
from appliance.audit import boxes, share_backups, store
from appliance.audit.space import Room
from appliance.config import Home
from appliance.databases.base import Database
from appliance.errors import VerificationError

DAY_US: Final = 86_400_000_000
DAYS: Final = 14  # that are shown
_RATE_DAYS: Final = 7  # that the forecast looks back
_LEAST_US: Final = DAY_US // 24  # less than an hour of record foretells nothing


@dataclass(frozen=True, slots=True)
class Day:
    """Entries of one day, UTC."""

    begin_us: int
    num_entries: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """A straight line through the last days."""

    over_us: int  # looked at
    entries_per_day: float
    bytes_per_entry: float
    days_left: float | None  # until nothing new is admitted; None where it does not grow

    @property
    def bytes_per_day(self) -> float:
        return self.entries_per_day * self.bytes_per_entry


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of the home's backups. `expires_us`: when the appliance removes it by itself."""

    name: str
    num_bytes: int
    made_us: int
    expires_us: int | None = None


@dataclass(frozen=True, slots=True)
class Holdings:
    """Everything at one look. `database_bytes` on a server are what the server says."""

    database_bytes: int
    shares_bytes: int
    backup_bytes: int
    num_entries: int
    is_embedded: bool
    days: list[Day]
    first_us: int | None
    databases: list[BackupFile]
    shares: list[BackupFile]
    boxes: list[BackupFile]
    unreadable: list[str]  # files of a backup's name that are none


def look(home: Home, place: Database, *, now_us: int, share_backup_days: int) -> Holdings:
    """Reads the disk and the database: not for an event loop."""
    with db.reading(place) as connection:
        num_entries = _size(store.head(connection))
        edges = [now_us // DAY_US * DAY_US - back * DAY_US for back in range(DAYS - 1, -1, -1)]
        seqs = [store.first_since(connection, each) for each in edges]
        first_us = store.first_ts(connection)
        on_server = 0
        if place.file is None:
            on_server = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    shares, unreadable = _share_backups(home, share_backup_days)
    databases = [_file(each) for each in sorted(home.backups.glob("appliance-*"))]
    kept = [_file(each) for each in boxes.every(home)]
    return Holdings(
        database_bytes=on_server if place.file is None else _bytes_of(place.file),
        shares_bytes=_bytes_of(home.shares),
        backup_bytes=sum(each.num_bytes for each in (*databases, *shares, *kept)),
        num_entries=num_entries,
        is_embedded=place.file is not None,
        days=by_day(edges, seqs, num_entries),
        first_us=first_us,
        databases=databases[::-1],
        shares=shares[::-1],
        boxes=kept,
        unreadable=unreadable,
    )


def by_day(edges: Sequence[int], seqs: Sequence[int], num_entries: int) -> list[Day]:
    """Entries of each day, from the places where days begin."""
    ends = [*seqs[1:], num_entries]
    return [Day(edge, max(0, end - start)) for edge, start, end in zip(edges, seqs, ends, strict=True)]


def forecast(holdings: Holdings, room: Room, *, now_us: int, min_free_bytes: int) -> Forecast | None:
    """When the disk has no room for new requests any more. None where nothing can be said. Pure."""
    if holdings.first_us is None or not holdings.is_embedded or not holdings.num_entries:
        return None
    begin_us = max(holdings.first_us, holdings.days[-1].begin_us - (_RATE_DAYS - 1) * DAY_US)
    over_us = now_us - begin_us
    if over_us < _LEAST_US:
        return None
    counted = sum(each.num_entries for each in holdings.days if each.begin_us + DAY_US > begin_us)
    per_day = counted * DAY_US / over_us
    per_entry = (holdings.database_bytes + holdings.shares_bytes) / holdings.num_entries
    grows = per_day * per_entry
    left = max(0, room.free_bytes - min_free_bytes)
    return Forecast(over_us, per_day, per_entry, left / grows if grows else None)


def _share_backups(home: Home, days: int) -> tuple[list[BackupFile], list[str]]:
    found, unreadable = [], []
    for path in sorted(home.backups.glob("shares-*.backup")):
        try:
            made_us = share_backups.read(path).made_us
        except VerificationError:  # told, not hidden: somebody put it there, or it is damaged
            unreadable.append(path.name)
            continue
        found.append(BackupFile(path.name, path.stat().st_size, made_us, made_us + days * DAY_US))
    return found, unreadable


def _file(path: Path) -> BackupFile:
    found = path.stat()
    return BackupFile(path.name, found.st_size, int(found.st_mtime * 1_000_000))


def _bytes_of(path: Path) -> int:
    """Of an SQLite database with what is written ahead of it."""
    beside = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))
    return sum(each.stat().st_size for each in beside if each.exists())


def _size(head: tuple[int, str] | None) -> int:
    return head[0] if head is not None else 0
