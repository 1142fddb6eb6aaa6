"""The past that somebody puts in place of the present: cut back, forked, or an older copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.config import Home
from tests.clocks import ManualClock
from tests.homes import make_home
from tests.verifying import unguarded, verify

# Everything that was written behind a size, by how its tables tell; the checkpoint of that size is the head.
CUT = (
    "UPDATE tree_head SET size = :size, note = (SELECT note FROM checkpoint WHERE size = :size)",
    "DELETE FROM epoch_wrap WHERE epoch IN (SELECT id FROM epoch WHERE first_seq >= :size)",
    "DELETE FROM epoch WHERE first_seq >= :size",
    "DELETE FROM log_payload WHERE seq >= :size",
    "DELETE FROM log_entry WHERE seq >= :size",
    "DELETE FROM checkpoint WHERE size >= :size",
    "DELETE FROM node WHERE (idx + 1) << level > :size",
)


def write(home: Home, clock: ManualClock, *codes: str) -> None:
    """Alarms, each in an epoch of its own."""
    with open_log_alone(home, config.load(home), clock) as alone:
        for code in codes:
            clock.advance(700)
            alone.audit.append_sync(
                Entry(kind=Kind.LOG_ALARM, public={"code": code}, content={"about": code})
            )


@pytest.fixture
def written(tmp_path: Path, clock: ManualClock) -> Home:
    """A home with several kept checkpoints."""
    home = make_home(tmp_path / "home")
    clock.advance(100_000_000)
    write(home, clock, "one", "two", "three", "four", "five")
    write(home, clock, "six", "seven")
    return home


def test_log_cut_back_to_a_kept_checkpoint_is_seen_beside_its_head(written: Home, tmp_path: Path) -> None:
    """Whatever was signed once stands alone: only what lies outside the database tells that it was longer."""
    with unguarded(written.database) as sql:
        sizes = [size for (size,) in sql.execute("SELECT size FROM checkpoint ORDER BY size")]
    assert len(sizes) == 7
    for size in sizes:
        copy = tmp_path / "cut.db"
        shutil.copy(written.database, copy)
        with unguarded(copy) as sql:
            for statement in CUT:
                sql.execute(statement, {"size": size})

        assert verify(written, copy, beside_head=False).findings == []
        report = verify(written, copy)
        assert [each.where for each in report.findings] == ["head"]
        assert "longer once" in report.findings[0].message


def test_log_cut_back_to_a_size_that_nobody_signed_is_red_by_itself(written: Home, tmp_path: Path) -> None:
    """Between two kept checkpoints there is no signature to put into the head's place."""
    total = verify(written).num_entries
    signed = {row[0] for row in _kept(written)}
    for size in sorted(set(range(1, total)) - signed):
        copy = tmp_path / "cut.db"
        shutil.copy(written.database, copy)
        with unguarded(copy) as sql:
            for statement in CUT[1:]:
                sql.execute(statement, {"size": size})
            sql.execute("UPDATE tree_head SET size = ?", (size,))

        assert not verify(written, copy, beside_head=False).is_green


def _kept(home: Home) -> list[tuple[int]]:
    with unguarded(home.database) as sql:
        return sql.execute("SELECT size FROM checkpoint").fetchall()


def test_older_copy_is_seen_beside_the_head(written: Home, tmp_path: Path, clock: ManualClock) -> None:
    """A rollback verifies alone, and not beside what the home remembers."""
    older = tmp_path / "older.db"
    shutil.copy(written.database, older)
    write(written, clock, "later")

    assert verify(written, older, beside_head=False).is_green
    assert ["longer once" in each.message for each in verify(written, older).findings] == [True]


def test_fork_is_seen_beside_the_head(written: Home, tmp_path: Path, clock: ManualClock) -> None:
    """Two futures of one log: each is sound, and neither is the other's."""
    fork = Home(root=tmp_path / "fork")
    shutil.copytree(written.root, fork.root)
    write(written, clock, "here")
    write(fork, clock, "there", "and there again")

    assert verify(written).is_green
    assert verify(fork).is_green
    assert ["another root" in each.message for each in verify(written, fork.database).findings][:1] == [True]
