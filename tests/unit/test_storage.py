"""Storage: what lies on the disk, and a forecast that says what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance import config, db, storage
from appliance.audit.space import Room
from appliance.clock import SystemClock
from appliance.storage import DAY_US, DAYS, Day, Holdings
from tests.homes import make_home

NOW_US = 20_000 * DAY_US + DAY_US // 2
EDGES = [20_000 * DAY_US - back * DAY_US for back in range(DAYS - 1, -1, -1)]
GIB = 1 << 30


def holdings(counts: list[int], *, first_us: int | None = 0, size: int = 1000) -> Holdings:
    days = [Day(edge, count) for edge, count in zip(EDGES, counts, strict=True)]
    return Holdings(
        database_bytes=size,
        shares_bytes=0,
        backup_bytes=0,
        num_entries=sum(counts) or 1,
        is_embedded=True,
        days=days,
        first_us=first_us,
        databases=[],
        shares=[],
        boxes=[],
        unreadable=[],
    )


def test_entries_by_day_come_from_the_numbers_at_its_borders() -> None:
    """Numbers have no gaps: a day has as many as lie between its first and the next day's first."""
    found = storage.by_day(EDGES, [0] * (DAYS - 3) + [0, 40, 100], 100)

    assert [each.num_entries for each in found[-3:]] == [40, 60, 0]
    assert sum(each.num_entries for each in found) == 100


def test_forecast_is_a_straight_line_over_a_week() -> None:
    """Six full days and a half, 130 entries of 10 bytes: 200 bytes a day, so 1 GiB lasts so long."""
    found = storage.forecast(
        holdings([0] * (DAYS - 7) + [20] * 6 + [10], size=1300),
        Room(free_bytes=2 * GIB),
        now_us=NOW_US,
        min_free_bytes=GIB,
    )

    assert found is not None
    assert found.entries_per_day == pytest.approx(20)
    assert found.bytes_per_day == pytest.approx(200)
    assert found.days_left == pytest.approx(GIB / 200)


def test_young_record_counts_from_its_beginning() -> None:
    """Half a day of record is not spread over a week."""
    found = storage.forecast(
        holdings([0] * (DAYS - 1) + [50], first_us=EDGES[-1], size=50),
        Room(free_bytes=GIB),
        now_us=NOW_US,
        min_free_bytes=0,
    )

    assert found is not None
    assert found.entries_per_day == pytest.approx(100)


def test_nothing_is_foretold_where_nothing_is_known() -> None:
    """An hour, an empty record, a server's disk: no forecast. A record that does not grow lasts for ever."""
    room = Room(free_bytes=GIB)
    some = holdings([1] * DAYS)

    assert storage.forecast(replace(some, first_us=None), room, now_us=NOW_US, min_free_bytes=0) is None
    assert storage.forecast(replace(some, first_us=NOW_US - 1), room, now_us=NOW_US, min_free_bytes=0) is None
    assert storage.forecast(replace(some, is_embedded=False), room, now_us=NOW_US, min_free_bytes=0) is None
    still = storage.forecast(holdings([5] + [0] * (DAYS - 1)), room, now_us=NOW_US, min_free_bytes=0)
    assert still is not None
    assert still.days_left is None


def test_look_tells_sizes_and_backups_and_what_only_looks_like_one(tmp_path: Path) -> None:
    """Files by their kinds; one that is no backup of shares is named, not passed over."""
    home = make_home(tmp_path / "home")
    place = db.of(home, config.load(home))
    db.backup(home, place, SystemClock(), note="test")
    (home.backups / "shares-20260101T000000000000Z.backup").write_text("no backup")

    found = storage.look(home, place, now_us=SystemClock().now_us(), share_backup_days=30)

    assert found.num_entries >= 1
    assert found.database_bytes >= home.database.stat().st_size
    assert [each.name.endswith("-test.db") for each in found.databases] == [True]
    assert found.backup_bytes == found.databases[0].num_bytes
    assert (found.shares, found.unreadable) == ([], ["shares-20260101T000000000000Z.backup"])
    assert found.days[-1].num_entries == found.num_entries
