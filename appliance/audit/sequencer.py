"""The sequencer: entries in, durable entries out. One thread owns it and everything in it.

The commit point is the COMMIT in `commit`: entries, contents, tree nodes, signed checkpoint and rows
of other rooms become durable together or not at all. A crash before it loses only what nobody was
told of; a crash after it loses nothing, and `open` walks the same tables to go on from there.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from appliance import durable, resealing
from appliance.audit import blind, boxes, checkpoint, entry, files, shares, store
from appliance.audit.blind import IndexKey
from appliance.audit.checkpoint import Checkpoint
from appliance.audit.entry import Entry
from appliance.audit.header import FORMAT_VERSION, Header, SealedHash
from appliance.audit.kinds import Kind
from appliance.audit.merkle import Frontier, Node, ReadNode, leaf_hash, root_at
from appliance.audit.orphans import orphans
from appliance.audit.policy import KeyPolicy
from appliance.audit.sealing import ALGORITHM, Epoch
from appliance.audit.shares import ShareStore
from appliance.clock import Clock
from appliance.config import Audit, Home
from appliance.core import Receipt
from appliance.databases.base import Database
from appliance.errors import SetupError, VerificationError

COMMIT_BYTES: Final = 48 << 10  # of pages that a commit writes besides its contents, about
CHECKPOINT_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Start:
    """How the log comes to life: told in its first entry."""

    kind: Kind  # log:started, or log:recovered after a latch
    public: dict[str, str | int]


class Sequencer:
    """Gives entries their place. Every field is owned by the thread that called `open`."""

    def __init__(self, home: Home, database: Database, settings: Audit, clock: Clock) -> None:
        self._home = home
        self._database = database
        self._settings = settings
        self._clock = clock
        resealing.finish(home)  # what a crash left of secrets on their way: we hold the lock
        self._keys = files.load_keys(home, settings.origin)
        self._guard = files.FileGuard()
        self._holds_wal = database.file is None  # a server has none of ours
        try:
            # Held before SQLite opens it: an exchange of the file in between is one that is noticed.
            for path in (database.file, home.lock):  # without the lock a second writer comes in
                if path is not None:
                    self._guard.hold(path)
            self._guard.hold(home.latch, needed=False)  # a missing one is a latch: `recover` makes it
            self._shares = ShareStore(home)
            self._guard.hold(home.shares)
            self._writer = database.open_writer()
            self._connection = self._writer.connection
        except BaseException:
            self._guard.close()
            raise
        self._wal_bytes = 0  # about: what commits wrote since the last checkpoint
        self._boot = secrets.token_hex(8)
        self._frontier = Frontier()
        self._note = ""
        self._head_size = 0  # what the head file says
        self._last_ts = 0
        self._policy: KeyPolicy | None = None
        self._epoch: Epoch | None = None
        self._epoch_ends_us = 0
        self._last_epoch = 0
        self._index: IndexKey | None = None  # of this month, once the auditors have it

    @property
    def size(self) -> int:
        """Entries on the record."""
        return self._frontier.size

    @property
    def note(self) -> str:
        """The newest checkpoint."""
        return self._note

    @property
    def policy(self) -> KeyPolicy | None:
        """The key policy in force; None before the first entry."""
        return self._policy

    @property
    def last_ts(self) -> int:
        """The newest entry's time, microseconds."""
        return self._last_ts

    @property
    def head_is_behind(self) -> bool:
        """True while the head file does not know the newest commit."""
        return self._head_size != self._frontier.size

    def pin_policy(self, policy: KeyPolicy) -> None:
        """The first entry of a new log: who will be able to read it."""
        if self.size:
            raise SetupError("this log has its first key policy already", code="log_exists")
        self._policy = policy
        pinned = Entry(
            kind=Kind.POLICY_PINNED,
            public={"policy_sha256": policy.sha256, "num_recipients": len(policy.readers)},
            effects=lambda connection, _seq: store.add_policy(connection, policy),
        )
        # A head of no entries first: a crash behind the commit must not leave a record without one.
        self._note = self._sign(self._frontier)
        self.write_head()
        self.commit([pinned])

    def open(self, start: Start | None) -> None:
        """Believe the database only as far as it proves itself, then close what a crash left open.

        SetupError where it is older than the head file remembers, VerificationError where it lies.
        """
        with self._connection.begin():
            self._load(self._connection)
            left_open = [] if start is None else orphans(self._connection)
        if start is not None:
            public = {**start.public, "num_recovered": len(left_open)}
            out_of_a_box = boxes.restored(self._home)
            self.commit([*left_open, Entry(kind=start.kind, public=public), *out_of_a_box])
            boxes.recorded(self._home)

    def commit(self, entries: Sequence[Entry]) -> list[Receipt]:
        """Append a batch durably. Any exception means: not acknowledged; the caller latches."""
        self.check()
        frontier = self._frontier.copy()
        rows: list[store.Row] = []
        nodes: list[Node] = []
        with self._connection.begin():
            # Epochs change between batches only: each keeps the checkpoint of the commit before it.
            for placed in [*self._preface(entries), *entries]:
                row = self._row(placed, frontier.size)
                nodes += frontier.append(row.leaf)
                rows.append(row)
                if placed.effects is not None:
                    placed.effects(self._connection, row.header.seq)
            note = self._sign(frontier)
            store.add_entries(self._connection, rows, nodes)
            store.put_head(self._connection, frontier.size, note)
        # The commit point is behind us. The file may have gone meanwhile: then nobody is told.
        if not self._holds_wal and self._database.file is not None:  # they exist from here on
            for suffix in ("-wal", "-shm"):
                self._guard.hold(self._database.file.with_name(self._database.file.name + suffix))
            self._holds_wal = True
        self.check()
        self._frontier, self._note = frontier, note
        self._wal_bytes += COMMIT_BYTES + sum(len(row.sealed.ciphertext) for row in rows if row.sealed)
        self._follow(entries, rows)
        origin = self._settings.origin
        return [
            Receipt(origin=origin, seq=row.header.seq, leaf=row.leaf)
            for row in rows
            if row.header.kind not in _PREFACES
        ]

    def _follow(self, entries: Sequence[Entry], rows: Sequence[store.Row]) -> None:
        """What is only true behind the commit. A crash before its end is made good by `_load`."""
        for each in entries:
            if each.policy is not None:
                self._policy, self._epoch = each.policy, None  # what follows is wrapped to the new readers
            if each.erases:
                self._shares.erase(each.erases)
        if self._index is not None and any(row.header.kind == Kind.INDEX_OPENED for row in rows):
            blind.destroy_others(self._home, keep=self._index.month)

    def checkpoint(self) -> None:
        """Move a long WAL into the database. Behind the receipts, and its errors are errors."""
        if self._wal_bytes >= CHECKPOINT_BYTES:
            self._writer.checkpoint()
            self._wal_bytes = 0

    def check(self) -> None:
        """VerificationError where the log's files, or our connection to a server, are no longer ours."""
        self._guard.check()
        self._writer.check()

    def hold(self, path: Path) -> None:
        """Watch this file from now on, in place of what was at its path before."""
        self._guard.hold(path)

    def write_head(self) -> None:
        """Remember size and root outside the database, durably."""
        with self._guard.replacing(self._home.head):
            durable.write_file(self._home.head, self._note.encode())
        self._head_size = self._frontier.size

    def close(self) -> None:
        """Let go of the database; the keys of the open epoch go with this object."""
        self._guard.close()
        self._shares.close()
        self._writer.close()

    def _in_force(self) -> KeyPolicy:
        if self._policy is None:
            raise VerificationError("the log has no key policy")
        return self._policy

    def _preface(self, entries: Sequence[Entry]) -> list[Entry]:
        """What must stand before this batch: a new epoch, and the month's index key for the auditors."""
        month = blind.month_of(self._clock.now_us())
        names_somebody = any(each.names for each in entries)
        new_month = names_somebody and (self._index is None or self._index.month != month)
        prefaces = []
        if (new_month or any(each.content is not None for each in entries)) and self._epoch_is_over():
            prefaces.append(self._open_epoch(self.size))
        if new_month:
            self._index = blind.key_of(self._home, month)
            prefaces.append(
                Entry(
                    kind=Kind.INDEX_OPENED,
                    public={"month": month, "key_sha256": self._index.sha256},
                    content={"key": self._index.key.hex()},
                )
            )
        return prefaces

    def _open_epoch(self, seq: int) -> Entry:
        """A new epoch and its entry, which commits to who can read what follows."""
        policy = self._in_force()
        self._last_epoch += 1
        epoch = Epoch(self._last_epoch, self._settings.origin, policy)
        self._epoch = epoch
        self._epoch_ends_us = self._clock.monotonic_us() + self._settings.epoch_seconds * 1_000_000
        stored = store.EpochRow(
            number=epoch.number,
            first_seq=seq,
            policy_sha256=policy.sha256,
            secret_sha256=epoch.secret_sha256,
            wraps=epoch.wraps,
        )
        # The tree as it stood before this batch, signed and durable already.
        kept = (self._frontier.size, self._note)

        def keep(connection: Connection, seq: int) -> None:
            del seq
            store.add_epoch(connection, stored)
            store.keep_checkpoint(connection, *kept)

        return Entry(
            kind=Kind.EPOCH_OPENED,
            public={
                "epoch": epoch.number,
                "policy_sha256": policy.sha256,
                "secret_sha256": epoch.secret_sha256,
                "wraps_sha256": entry.wraps_digest(
                    (wrap.recipient, wrap.suite, wrap.data) for wrap in epoch.wraps
                ),
            },
            effects=keep,
        )

    def _epoch_is_over(self) -> bool:
        return (
            self._epoch is None
            or self._epoch.step >= self._settings.epoch_records
            or self._clock.monotonic_us() >= self._epoch_ends_us
        )

    def _row(self, each: Entry, seq: int) -> store.Row:
        """Place, seal, encode, hash: notes of the order in audit/DESIGN.md."""
        step = epoch = share = None
        sealed = None
        if each.content is not None and self._epoch is not None:
            epoch = self._epoch.number
            month = blind.month_of(self._clock.now_us())
            share = self._shares.of(each.subject or shares.APPLIANCE, month, since_seq=seq)
            step, sealed = self._epoch.seal(each.content, share=share.secret, seq=seq, kind=each.kind)
        index = self._index
        blinds = {} if index is None else {name: index.blind(name, who) for name, who in each.names.items()}
        self._last_ts = max(self._clock.now_us(), self._last_ts + 1)
        header = Header(
            log=self._settings.origin,
            seq=seq,
            ts=self._last_ts,
            boot=self._boot,
            mono=self._clock.monotonic_us(),
            kind=each.kind,
            pub=dict(each.public),
            v=FORMAT_VERSION,
            req=each.request_id,
            prev=each.opening,
            bi={name: value.hex() for name, value in blinds.items()} or None,
            epoch=epoch,
            step=step,
            subj=share.id.hex() if share is not None else None,
            ct=None
            if sealed is None
            else SealedHash(
                alg=ALGORITHM,
                kc=sealed.key_commitment.hex(),
                len=len(sealed.ciphertext),
                sha256=sealed.sha256,
            ),
        )
        data = header.encode()
        return store.Row(header=header, data=data, leaf=leaf_hash(data), blinds=blinds, sealed=sealed)

    def _sign(self, frontier: Frontier) -> str:
        head = Checkpoint(self._settings.origin, frontier.size, frontier.root())
        return self._keys.sign(head.text())

    def _load(self, connection: Connection) -> None:
        found = store.head(connection)
        if found is None:
            if files.head_size(self._home, self._keys.signer.verifier):
                raise _rolled_back()
            return
        size, self._note = found
        if (origin := checkpoint.origin_of(self._note)) != self._settings.origin:
            raise SetupError(
                "audit.origin is not the name that this log was begun with",
                code="origin_changed",
                hint=f'a log keeps its name: in appliance.toml, below [audit], origin = "{origin}"',
            )
        head = checkpoint.open_checkpoint(self._note, *self._keys.verifiers)

        def read(level: int, index: int) -> bytes:
            return store.read_node(connection, level, index)

        self._frontier = Frontier.load(size, read)
        if head.size != size or head.root != self._frontier.root():
            raise VerificationError("the newest checkpoint does not fit the tree")
        if store.num_entries(connection) != size:
            raise VerificationError("entries and checkpoint do not agree about the log's size")
        self._check_head_file(read)
        begin = store.last_checkpoint_size(connection)
        for seq, data, leaf in store.leaves(connection, begin):
            if leaf_hash(data) != leaf or read(0, seq) != leaf:
                raise VerificationError(f"entry {seq} is not what its leaf says")
        self._policy = store.policies(connection)[-1]
        self._resume_index(connection)
        self._shares.discard(store.unreferenced(connection, self._shares.unused(begin)))
        if half_erased := self._shares.among(store.erased_shares(connection)):
            self._shares.erase(half_erased)
        self._last_ts = store.last_ts(connection)
        self._last_epoch = store.last_epoch(connection)

    def _resume_index(self, connection: Connection) -> None:
        """This month's index key, where its entry is on the record; else the next batch opens it."""
        last = store.header_of_last(connection, Kind.INDEX_OPENED)
        month = blind.month_of(self._clock.now_us())
        if last is not None and last.pub["month"] == month:
            key = blind.key_of(self._home, month)
            self._index = key if key.sha256 == last.pub["key_sha256"] else None

    def _check_head_file(self, read: ReadNode) -> None:
        try:
            note = files.read_head(self._home)
        except FileNotFoundError as error:
            raise SetupError(
                "the head file is missing",
                code="head_missing",
                hint="it lies beside the database and remembers the log's size; restore it too",
            ) from error
        self._guard.hold(self._home.head)
        known = checkpoint.open_checkpoint(note, *self._keys.verifiers)
        self._head_size = known.size
        if known.size > self._frontier.size:
            raise _rolled_back()
        if root_at(known.size, read) != known.root:
            raise _rolled_back()


_PREFACES = frozenset({Kind.EPOCH_OPENED, Kind.INDEX_OPENED})


def _rolled_back() -> SetupError:
    return SetupError(
        "the database is older than the head file remembers",
        code="rolled_back",
        hint="it stays closed until its auditors agree to begin anew: appliance audit begin-anew --help",
    )
