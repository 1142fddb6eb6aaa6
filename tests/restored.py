"""Homes for tests of restoring: a log with a past, a backup of it, and what was lost behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance import anew, config, db
from appliance.alone import Alone, open_log_alone
from appliance.anew import Begun
from appliance.audit import checkpoint, query, shares, store
from appliance.audit.acts import Draft
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity, parse_identity
from appliance.audit.witness_keys import WitnessKeys
from appliance.backups import BackedUp, copy_database
from appliance.cli.init import RECOVERY_IDENTITY
from appliance.cli.verifying import second_reading
from appliance.clock import Clock
from appliance.config import Home
from appliance.core import Role
from appliance.state import CARRIED_TABLES
from tests.acts import dev_auditor, signed


@dataclass(frozen=True, slots=True)
class Past:
    """What a test knows of the log before it was set back."""

    origin: str
    backup: Path
    kept_seq: int  # on the record before the backup
    lost_seq: int  # behind it
    size: int  # of the backup
    head_size: int


def said(text: str, user: str = "citizen") -> Entry:
    """An entry with content of one person."""
    return Entry(
        kind=Kind.REQUEST_REFUSED,
        public={"code": "test", "status": 400, "count": 1, "route": "/"},
        content={"text": text},
        actor="key",
        user=user,
        subject=f"user:key:{user}",
    )


async def with_past(home: Home, clock: Clock, folder: Path) -> Past:
    """An entry, a key, a hold, a witness and what it cosigned; a backup; then one more entry."""
    settings = config.load(home)
    with open_log_alone(home, settings, clock) as alone:
        kept = alone.audit.append_sync(said("canary-kept"))
        await alone.administration.create_key("lobby", Role.KIOSK)
        await alone.custody.hold(api_key="key", user="", since_us=0, until_us=None, reason="a case")
        witness = WitnessKeys.generate("court.example/w1")
        await alone.witnessing.add([each.verifier for each in witness.cosigners])
        with db.reading(home.database) as connection:
            _, note = store.head(connection) or (0, "")
        text = checkpoint.read_note(note).text
        await alone.witnessing.take(note + "".join(each.cosign(text, 1) for each in witness.cosigners))
    backup = folder / "monday.db"
    db.copy(home.database, backup)
    with db.reading(backup) as connection:
        size = connection.exec_driver_sql("SELECT count(*) FROM log_entry").scalar_one()
    with open_log_alone(home, settings, clock) as alone:
        lost = alone.audit.append_sync(said("canary-lost", "other"))
    with db.reading(home.database) as connection:
        head_size = connection.exec_driver_sql("SELECT count(*) FROM log_entry").scalar_one()
    return Past(settings.audit.origin, backup, kept.seq, lost.seq, size, head_size)


async def backed_up(alone: Alone, home: Home, clock: Clock) -> BackedUp:
    """What `appliance db backup` leaves."""
    copied = copy_database(home, db.of(home, config.load(home)), clock, note="test")
    return await alone.custody.back_up(copied)


def set_back(home: Home, past: Past) -> None:
    """What a rolled back disk looks like: the backup in the database's place, the head as it was."""
    for suffix in ("", "-wal", "-shm"):
        home.database.with_name(home.database.name + suffix).unlink(missing_ok=True)
    db.copy(past.backup, home.database)


def drafted(home: Home) -> Draft:
    """The ceremony's act, unsigned."""
    return anew.draft(home, config.load(home), "the disk was lost")


def begin(home: Home, clock: Clock, note: str) -> Begun:
    """The ceremony."""
    return anew.apply(home, config.load(home), clock, note, verify=second_reading, tables=CARRIED_TABLES)


def agreed(home: Home) -> str:
    """The act with the signature of the one auditor of profile dev."""
    return signed(drafted(home), dev_auditor(home))


def renamed(home: Home, old: str, new: str) -> None:
    """What the operator does behind the ceremony."""
    text = home.config.read_text()
    assert f'"{old}"' in text
    home.config.write_text(text.replace(f'"{old}"', f'"{new}"'))


def recovery_of(home: Home) -> Identity:
    """The recovery key, which a site would have in its safe."""
    return parse_identity((home.keys / RECOVERY_IDENTITY).read_text())


def content_of(home: Home, database: Path, seq: int) -> object:
    """An entry's content with this home's shares and auditor."""
    (record,) = [each for each in query.search(database, limit=1000) if each.seq == seq]
    ids = [bytes.fromhex(each) for each in query.shares_of([record])]
    held = {each.hex(): secret for each, secret in shares.release(home, ids).items()}
    (opened,) = query.open_records(database, [record], [dev_auditor(home)], held)
    return opened.content
