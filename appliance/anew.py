"""The ceremony after a restored backup: the old log ends, a new one begins under a new name and key.

Every step can be done again, and does what is left of it. `ceremony.act` in the home says that they have
begun: until the last step has removed it, nobody else takes the home's lock, and whoever applies the same
act again goes on where a crash had stopped.

    1 archive    old head, public key and act are copied aside; then the database moves there
    2 key        a fresh signing key takes the place of the old one, which is destroyed
    3 shares     all of them stay: the old log's content opens by them
    4 begin      leaf 0 pins the same readers; one commit says what was lost and carries keys and holds over
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, select

from appliance import db, durable, keyring
from appliance.audit import acts, checkpoint, files, lineage, restoration, shares, store
from appliance.audit.acts import Draft
from appliance.audit.checkpoint import Verifier
from appliance.audit.files import take_lock
from appliance.audit.kinds import Kind
from appliance.audit.merkle import root_at
from appliance.audit.policy import KeyPolicy
from appliance.audit.restoration import Restoration
from appliance.audit.sequencer import Sequencer
from appliance.audit.shares import ShareStore
from appliance.clock import Clock
from appliance.config import CryptoProfile, Home, Settings
from appliance.errors import RequestError, SetupError, VerificationError
from appliance.restore import Verify, move, require_embedded

NEXT: Final = "next-"  # before the names of the new log's keys


@dataclass(frozen=True, slots=True)
class Begun:
    """The new log."""

    origin: str
    archive: Path
    vkey: str
    tree_size: int
    num_carried: int


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is there: the database's tree, and what the head file remembers of it."""

    origin: str
    size: int
    root: bytes
    policy: KeyPolicy
    head: str
    head_size: int
    is_whole: bool  # the log could go on


def draft(home: Home, settings: Settings, reason: str) -> Draft:
    """For a quorum of the auditors. RequestError where nothing is lost: such a log goes on."""
    require_embedded(settings)
    found = _standing(home, home.database, files.read_verifiers(home.keys))
    if found.is_whole:
        raise RequestError(
            "the database holds all that the head file remembers: this log goes on",
            code="log_is_whole",
            hint="appliance serve",
        )
    return restoration.draft(
        found.policy,
        found.origin,
        head=found.head,
        head_size=found.head_size,
        size=found.size,
        root=found.root,
        reason=reason,
    )


def apply(
    home: Home, settings: Settings, clock: Clock, note: str, *, verify: Verify, tables: Sequence[Table]
) -> Begun:
    """Carry the ceremony out, or finish it. VerificationError or RequestError: nothing has changed."""
    lock = take_lock(home, finishing=True)
    try:
        if not home.ceremony.exists():
            _admit(home, note, verify)
        elif home.ceremony.read_text(encoding="utf-8") != note:
            raise SetupError(
                "another act is half carried out",
                code="ceremony_unfinished",
                hint=f"finish it: appliance auditor apply {home.ceremony}",
            )
        place = _place(home, note)
        old = place if (place / lineage.DATABASE_NAME).exists() else home.root
        with db.reading(old / lineage.DATABASE_NAME) as connection:
            found = restoration.agreed(note, store.policies(connection)[-1])
        archive_old(home, place, note)
        change_key(home, found)
        settle_shares(home)
        begun = begin(home, settings, clock, found, place, verify=verify, tables=tables)
        home.ceremony.unlink()
        durable.fsync_dir(home.root)
        return begun
    finally:
        os.close(lock)


def _admit(home: Home, note: str, verify: Verify) -> None:
    """The last look before the first step: the act is agreed to, and the world is as it says."""
    verifiers = files.read_verifiers(home.keys)
    found = _standing(home, home.database, verifiers)
    agreed = restoration.agreed(note, found.policy)
    if agreed.origin != found.origin:
        raise VerificationError("this act was drafted for another log, or is carried out already")
    if (agreed.size, agreed.root, agreed.head) != (
        found.size,
        found.root.hex(),
        found.head,
    ) or found.is_whole:
        raise VerificationError("database or head file are not those of the act: draft it anew")
    report = verify(home.database, verifiers)
    if not report.is_green or report.num_entries != found.size:
        first = report.findings[0].message if report.findings else "it changed meanwhile"
        raise VerificationError(
            f"the database is not a whole record: {first}",
            code="backup_not_green",
            hint="appliance audit verify tells what is wrong; restore another backup",
        )
    profile: CryptoProfile = "fips" if files.has_second_key(home) else "standard"
    for name, secret in files.fresh_keys(profile).items():
        keyring.write(home, home.keys / f"{NEXT}{name}", secret)
    durable.write_file(home.ceremony, note.encode())  # from here on it is finished, not undone


def archive_old(home: Home, place: Path, note: str) -> None:
    """What a reader of the old log needs, then its database; and its head, which is not the new one's."""
    if not (place / lineage.DATABASE_NAME).exists():
        durable.make_private_dir(place)
        lineage.write_verifiers(home, place)
        durable.write_file(place / "restore.act", note.encode(), mode=0o644)
        if home.head.exists():
            durable.write_file(place / "head", home.head.read_bytes())
        _fold(home.database)
        move([lineage.DATABASE_NAME], home.root, place)
    origin = acts.parse(note).draft.origin
    if home.head.exists() and checkpoint.origin_of(files.read_head(home)) == origin:
        home.head.unlink()
        durable.fsync_dir(home.root)


def change_key(home: Home, found: Restoration) -> None:
    """The key that signed the old log signs nothing any more."""
    for name in (files.KEY, files.SECOND_KEY):
        following, key = home.keys / f"{NEXT}{name}", home.keys / name
        if following.exists():
            keyring.rename(home, following, key)
    files.write_verifiers(home, files.load_keys(home, found.new_origin))


def settle_shares(home: Home) -> None:
    """No share is taken for a leftover because the new log does not name it."""
    shares.create(home)
    opened = ShareStore(home)
    try:
        opened.settle()
    finally:
        opened.close()


def begin(
    home: Home,
    settings: Settings,
    clock: Clock,
    found: Restoration,
    place: Path,
    *,
    verify: Verify,
    tables: Sequence[Table],
) -> Begun:
    """The new log's first entries: its readers, then in one commit what was before."""
    old = place / lineage.DATABASE_NAME
    report = verify(old, lineage.verifiers_of(home, old))
    with db.reading(old) as connection:
        policy = store.policies(connection)[-1]
        rows = [(table, row) for table in tables for row in _rows(connection, table)]
    db.settle(home.database)
    database = db.at(home.database)
    db.upgrade(home, database, clock)
    _remember(home)
    anew = msgspec.structs.replace(settings.audit, origin=found.new_origin)
    sequencer = Sequencer(home, database, anew, clock)
    try:
        with db.reading(home.database) as connection:
            size = store.num_entries(connection)
            is_begun = store.last_seq_of(connection, (Kind.LOG_RESTORED,)) >= 0
        if size == 0:
            sequencer.pin_policy(restoration.first_policy_of(policy))
        else:
            sequencer.open(None)
        if not is_begun:
            carried = [restoration.carried(table, row) for table, row in rows]
            sequencer.commit([restoration.restored(found, report.num_open), *carried])
        sequencer.write_head()
        vkey = files.read_verifier(home).text()
        return Begun(found.new_origin, place, vkey, sequencer.size, len(rows))
    finally:
        sequencer.close()


def _standing(home: Home, database: Path, verifiers: tuple[Verifier, ...]) -> _Standing:
    db.require_current(database)
    head = files.read_head(home) if home.head.exists() else ""
    with db.reading(database) as connection:
        newest = store.head(connection)
        if newest is None:
            raise SetupError("the database holds no log", code="database_missing")
        tree = checkpoint.open_checkpoint(newest[1], *verifiers)
        remembered = checkpoint.open_checkpoint(head, *verifiers) if head else None

        def read(level: int, index: int) -> bytes:
            return store.read_node(connection, level, index)

        is_whole = (
            remembered is not None
            and remembered.size <= tree.size
            and root_at(remembered.size, read) == remembered.root
        )
        return _Standing(
            origin=tree.origin,
            size=tree.size,
            root=tree.root,
            policy=store.policies(connection)[-1],
            head=head,
            head_size=remembered.size if remembered is not None else tree.size,
            is_whole=is_whole,
        )


def _place(home: Home, note: str) -> Path:
    signed = acts.parse(note).draft
    name = f"{signed.origin.replace('/', '-')}-{signed.parameters.get('size')}"
    return home.archive / name


def _fold(database: Path) -> None:
    """The write-ahead log into the database, so that one file holds everything."""
    db.fold(database)
    if (wal := database.with_name(database.name + "-wal")).exists() and wal.stat().st_size:
        raise SetupError(
            "another program reads the database",
            code="database_busy",
            hint="end it, then apply the act again",
        )


def _rows(connection: Connection, table: Table) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.execute(select(table)).mappings()]


def _remember(home: Home) -> None:
    """A crash between leaf 0 and its head: the database that we made here is believed."""
    with db.reading(home.database) as connection:
        newest = store.head(connection)
    if newest is not None and not home.head.exists():
        durable.write_file(home.head, newest[1].encode())
