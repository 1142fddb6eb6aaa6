"""Backups and their restoration: what a medium holds, what comes back, and what must not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance import config, db, restore
from appliance.alone import Alone, open_log_alone
from appliance.audit import lineage, query, share_backups, shares
from appliance.audit.kinds import Kind
from appliance.audit.policy import first_policy
from appliance.audit.recipients import Identity
from appliance.cli.verifying import second_reading
from appliance.clock import Clock
from appliance.config import Home, Settings
from appliance.errors import SetupError, VerificationError
from appliance.restore import Restored
from tests.acts import dev_auditor, erase, signed, with_member
from tests.clocks import ManualClock
from tests.records import assert_verified
from tests.restored import backed_up, content_of, recovery_of, said, set_back, with_past

DAY_SECONDS = 86_400


def put_back(home: Home, clock: Clock, file: Path) -> Restored:
    return restore.restore_database(home, config.load(home), clock, file, verify=second_reading)


def put_shares_back(home: Home, clock: Clock, file: Path) -> tuple[int, int]:
    return restore.restore_shares(home, config.load(home), clock, file, recovery_of(home))


def lose(home: Home) -> None:
    """A disk without the database and without the shares; keys and head are on another one."""
    for stem in (home.database, home.shares):
        for suffix in ("", "-wal", "-shm"):
            stem.with_name(stem.name + suffix).unlink(missing_ok=True)
    for path in home.keys.glob("shares-*.kek"):
        path.unlink()


async def with_privacy(alone: Alone, home: Home) -> tuple[Identity, Identity]:
    auditor, privacy = dev_auditor(home), Identity.generate("privacy")
    draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
    await alone.custody.change_policy(signed(draft, auditor))
    return auditor, privacy


async def test_drill(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Database and shares are lost and come back: green, readable, whole, and on the record."""
    with open_log_alone(home, config.load(home), clock) as alone:
        receipt = alone.audit.append_sync(said("canary"))
        share_file = (await backed_up(alone, home, clock)).shares
    copy = tmp_path / "copy.db"
    db.copy(home.database, copy)
    before = [each.leaf for each in query.search(home.database, limit=1000)][::-1]
    lose(home)
    with pytest.raises(SetupError), open_log_alone(home, config.load(home), clock):
        pass

    done = put_back(home, clock, copy)
    assert (done.closed, done.tree_size, done.aside) == ("shares_missing", len(before), None)
    taken, num_erased = put_shares_back(home, clock, share_file)

    assert (taken > 0, num_erased) == (True, 0)
    assert content_of(home, home.database, receipt.seq) == {"text": "canary"}
    after = [each.leaf for each in query.search(home.database, limit=1000)][::-1]
    assert after[: len(before)] == before
    (entry,) = query.search(home.database, kind=Kind.SHARES_RESTORED)
    assert entry.public["num_shares"] == taken
    assert_verified(home)
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("more"))
    assert_verified(home)


def test_present_database_moves_aside(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """A copy that is not older goes on under its own name; what was there can still be read."""
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("canary"))
    copy = tmp_path / "copy.db"
    db.copy(home.database, copy)
    for _ in range(2):
        done = put_back(home, clock, copy)
        assert done.aside is not None
        if done.closed:  # the first restoration put its own entry behind the copy's
            assert done.closed == "rolled_back"
        else:
            (entry,) = query.search(home.database, kind=Kind.DATABASE_RESTORED)
            assert entry.public["backup_sha256"] == done.sha256
            assert_verified(home)
    aside = lineage.archived(home)
    assert len(aside) == 2
    assert all(second_reading(each, lineage.verifiers_of(home, each)).is_green for each in aside)


async def test_older_copy_keeps_the_log_closed(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """The head file remembers more: nothing is written, and the way on is told."""
    past = await with_past(home, clock, tmp_path)
    done = put_back(home, clock, past.backup)
    assert (done.closed, "begin-anew" in done.hint) == ("rolled_back", True)
    assert len(query.search(home.database, limit=1000)) == past.size
    with pytest.raises(SetupError) as refused, open_log_alone(home, config.load(home), clock):
        pass
    assert refused.value.code == "rolled_back"


def test_only_this_logs_whole_copies_come_back(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """No database, a bent one, another log's, a server's: each is refused, and nothing has changed."""
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("canary"))
    present = home.database.read_bytes()
    none, bent = tmp_path / "none.db", tmp_path / "bent.db"
    none.write_bytes(b"no database")
    db.copy(home.database, bent)
    data = bent.read_bytes()
    bent.write_bytes(data.replace(b'"code":"test"', b'"code":"tesu"', 1))
    for file, error in ((none, SetupError), (bent, VerificationError)):
        with pytest.raises(error):
            put_back(home, clock, file)
    (home.keys / "log.vkey").write_text(
        (home.keys / "log.vkey").read_text().replace("appliance", "bppliance")
    )
    with pytest.raises(VerificationError):
        put_back(home, clock, home.database)
    with pytest.raises(SetupError) as refused:
        restore.require_embedded(msgspec.structs.replace(Settings(), database_url="postgresql://h/d"))
    assert (refused.value.code, "pg_restore" in refused.value.hint) == ("restore_on_server", True)
    assert home.database.read_bytes() == present
    assert not home.archive.exists()


async def test_interrupted_restoration_goes_on(
    home: Home, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash while files move leaves no write-ahead log beside a database that it is not of."""
    past = await with_past(home, clock, tmp_path)
    wal = home.database.with_name("appliance.db-wal")
    wal.write_bytes(b"frames")
    real = Path.replace

    def crash(path: Path, target: Path) -> Path:
        if path.name.endswith("-wal"):
            raise KeyboardInterrupt
        return real(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            put_back(home, clock, past.backup)
    assert not home.database.exists()
    done = put_back(home, clock, past.backup)
    assert done.aside is not None
    assert {"appliance.db", "appliance.db-wal", "log.vkey"} <= {each.name for each in done.aside.iterdir()}
    assert not wal.exists() or wal.read_bytes() != b"frames"
    assert second_reading(home.database, lineage.verifiers_of(home, None)).is_green


async def test_shares_open_for_the_recovery_key_only(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Neither the medium nor an auditor who holds it opens a share; a bent file opens for nobody."""
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("canary"))
        file = (await backed_up(alone, home, clock)).shares
    data = file.read_bytes()
    secrets = [each.secret for each in shares.every(home)]
    assert not any(each in data or each.hex().encode() in data for each in secrets)
    opened = share_backups.open_backup(data, recovery_of(home))
    assert sorted(each.secret for each in opened) == sorted(secrets)
    with pytest.raises(VerificationError, match="not sealed to this identity"):
        share_backups.open_backup(data, dev_auditor(home))
    for at in (20, data.index(b"\n") + 20, len(data) - 1):
        bent = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(VerificationError):
            share_backups.open_backup(bent, recovery_of(home))
    (entry,) = query.search(home.database, kind=Kind.SHARES_BACKED_UP)
    assert entry.public["backup_sha256"] == share_backups.digest_of(data)
    assert file.stat().st_mode & 0o077 == 0


def test_policy_without_a_recovery_key_seals_to_its_readers() -> None:
    """There must be somebody; a privacy member is not."""
    auditor, privacy = Identity.generate("one"), Identity.generate("two")
    policy = first_policy([auditor.recipient], privacy=[privacy.recipient])
    assert share_backups.recipients_of(policy) == [auditor.recipient]


async def test_backups_of_shares_live_for_days(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """What is older than audit.share_backup_days goes at the next backup and at the daily look."""
    with open_log_alone(home, config.load(home), clock) as alone:
        alone.audit.append_sync(said("canary"))
        first = (await backed_up(alone, home, clock)).shares
        clock.advance(29 * DAY_SECONDS)
        second = (await backed_up(alone, home, clock)).shares
        assert (first.exists(), second.exists()) == (True, True)
        clock.advance(2 * DAY_SECONDS)
        assert await alone.custody.expire_share_backups() == 1
        assert (first.exists(), second.exists()) == (False, True)
        clock.advance(30 * DAY_SECONDS)
        third = (await backed_up(alone, home, clock)).shares
        assert (second.exists(), third.exists()) == (False, True)
    told = query.search(home.database, kind=Kind.SHARES_EXPIRED)
    assert [each.public["num_removed"] for each in told] == [1, 1]


async def test_erased_shares_come_back_from_no_backup(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """An erasure replaces every backup at once; a copy on another medium restores all but what was erased."""
    with open_log_alone(home, config.load(home), clock) as alone:
        members = await with_privacy(alone, home)
        doomed = alone.audit.append_sync(said("doomed", "citizen"))
        kept = alone.audit.append_sync(said("kept", "other"))
        old = (await backed_up(alone, home, clock)).shares
        elsewhere = tmp_path / "medium.backup"
        elsewhere.write_bytes(old.read_bytes())
        clock.advance(1)
        assert await erase(alone, *members, key="key", user="citizen") == 1
        (fresh,) = share_backups.every(home)
        assert not old.exists()
        subjects = {each.subject for each in share_backups.open_backup(
            fresh.path.read_bytes(), recovery_of(home))}  # fmt: skip
        assert ("user:key:citizen" in subjects, "user:key:other" in subjects) == (False, True)
    home.shares.unlink()
    taken, num_erased = put_shares_back(home, clock, elsewhere)
    assert (taken > 0, num_erased) == (True, 1)
    assert content_of(home, home.database, kept.seq) == {"text": "kept"}
    assert content_of(home, home.database, doomed.seq) is None
    assert_verified(home)


async def test_erasure_whose_backups_were_not_replaced(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash behind an erasure leaves old backups; the next look replaces them."""
    with open_log_alone(home, config.load(home), clock) as alone:
        members = await with_privacy(alone, home)
        alone.audit.append_sync(said("doomed", "citizen"))
        old = (await backed_up(alone, home, clock)).shares
        clock.advance(1)

        def full(*_: object, **__: object) -> bytes:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(share_backups, "seal", full)
            assert await erase(alone, *members, key="key", user="citizen") == 1
        assert old.exists()
        assert await alone.custody.expire_share_backups() == 1
        assert not old.exists()
        assert len(share_backups.every(home)) == 1


async def test_shares_are_not_restored_off_the_record(home: Home, clock: ManualClock, tmp_path: Path) -> None:
    """Where the log can not open, its ceremony comes first."""
    with open_log_alone(home, config.load(home), clock) as alone:
        file = (await backed_up(alone, home, clock)).shares
    past = await with_past(home, clock, tmp_path)
    set_back(home, past)
    before = home.shares.read_bytes()
    with pytest.raises(SetupError) as refused:
        put_shares_back(home, clock, file)
    assert refused.value.code == "rolled_back"
    assert home.shares.read_bytes() == before
