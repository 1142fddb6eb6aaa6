"""The guard of the files: what would lead the writer into the void closes the log."""

from __future__ import annotations

import shutil

import pytest

from appliance import config, db
from appliance.audit.kinds import Kind
from appliance.audit.sequencer import Sequencer, Start
from appliance.config import Home
from appliance.errors import VerificationError
from tests.clocks import ManualClock
from tests.unit.audit.test_log import open_log, opening


@pytest.mark.parametrize("name", ["appliance.db", "appliance.db-wal"])
def test_symbolic_link_in_a_files_place_is_noticed(home: Home, clock: ManualClock, name: str) -> None:
    """The same bytes by way of a link: readers and the next start would look for the WAL elsewhere."""
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    elsewhere = home.root / "elsewhere"
    (home.root / name).rename(elsewhere)
    (home.root / name).symlink_to(elsewhere)

    assert not log.check().is_ready
    log.close()


def test_database_exchanged_while_the_log_opens_is_noticed(home: Home, clock: ManualClock) -> None:
    """The guard stands before the first commit, not behind it."""
    copy = home.root / "copy.db"
    shutil.copy(home.database, copy)
    sequencer = Sequencer(home, db.at(home.database), config.load(home).audit, clock)
    copy.replace(home.database)
    with pytest.raises(VerificationError):
        sequencer.open(Start(Kind.LOG_STARTED, {}))
    sequencer.close()


def test_removed_lock_closes_the_log(home: Home, clock: ManualClock) -> None:
    """Without its lock file a second writer would come in: the first one stops."""
    log = open_log(home, clock)
    home.lock.unlink()

    assert not log.check().is_ready
    log.close()
