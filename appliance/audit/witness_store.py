"""What a witness remembers, on its own machine: the logs it follows, every checkpoint it cosigned, whole,
and what it refused. One SQLite file; comparing and storing are one transaction.

Whole notes, because only the log's own signatures prove to others what the log has said. Two of them of
one size with different roots are a proof that the log equivocated.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.audit import checkpoint, witness
from appliance.audit.checkpoint import Checkpoint, Verifier
from appliance.audit.cosignature import Cosigner
from appliance.audit.witness import NotCosigned, Request, Status
from appliance.errors import RequestError, SetupError

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE log (origin TEXT PRIMARY KEY NOT NULL, vkey TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cosigned (origin TEXT NOT NULL, size INTEGER NOT NULL, note TEXT NOT NULL, lines TEXT NOT NULL,
    time_s INTEGER NOT NULL);
CREATE TABLE refused (origin TEXT NOT NULL, size INTEGER NOT NULL, known TEXT NOT NULL, note TEXT NOT NULL,
    time_s INTEGER NOT NULL, is_proof INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Followed:
    """One log, as the witness knows it."""

    origin: str
    size: int  # of the newest tree that was cosigned, 0 for none
    time_s: int
    num_refused: int
    num_proofs: int  # of equivocation: two signed roots of one size


@dataclass(frozen=True, slots=True)
class Fork:
    """Two checkpoints of one log of which at most one can be true."""

    known: str
    refused: str
    is_proof: bool


class WitnessStore:
    """A witness's memory. Owner of the file: one program at a time, SQLite's lock between them."""

    def __init__(self, path: Path) -> None:
        try:
            self._sql = sqlite3.connect(path, timeout=10, isolation_level=None)
            self._sql.execute("PRAGMA synchronous = FULL")
            with self._transaction():
                version = self._sql.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in _SCHEMA.split(";\n"):
                        self._sql.execute(statement)
                    self._sql.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.Error as error:
            raise _unreadable() from error
        if version not in {0, _VERSION}:
            raise SetupError("the witness's state is of another release", code="witness_state")

    def follow(self, log: Verifier) -> None:
        """Trust this key for its log from now on. RequestError where the log has another one already."""
        with self._transaction():
            row = self._sql.execute("SELECT vkey FROM log WHERE origin = ?", [log.name]).fetchone()
            if row is not None and row[0] != log.text():
                raise RequestError(
                    "this witness follows the log under another key",
                    code="witness_log_key",
                    hint="a log keeps its key: ask its operator before you begin a new state file",
                )
            self._sql.execute("INSERT OR IGNORE INTO log VALUES (?, ?)", [log.name, log.text()])

    def cosign(self, request: Request, cosigners: list[Cosigner], *, time_s: int) -> tuple[Checkpoint, str]:
        """The checkpoint and the cosignature lines, durable when it returns; else NotCosigned.

        A checkpoint that does not go on from the known one is kept beside it before the refusal.
        """
        origin = checkpoint.origin_of(request.note)
        with self._transaction():
            log, note = self._known(origin)
            newest = checkpoint.open_checkpoint(note, log) if note else None
            try:
                head = witness.check(request, log, newest)
            except NotCosigned as refused:
                self._keep(refused, request, note, time_s)
                problem: NotCosigned | None = refused
            else:
                text = head.text()
                lines = "".join(each.cosign(text, time_s) for each in cosigners)
                self._sql.execute(
                    "INSERT INTO cosigned VALUES (?, ?, ?, ?, ?)",
                    [origin, head.size, request.note, lines, time_s],
                )
                problem = None
        if problem is not None:
            raise problem
        return head, lines

    def logs(self) -> list[Followed]:
        """Every log that this witness follows."""
        rows = self._sql.execute(
            "SELECT origin, (SELECT max(size) FROM cosigned c WHERE c.origin = log.origin),"
            " (SELECT max(time_s) FROM cosigned c WHERE c.origin = log.origin),"
            " (SELECT count(*) FROM refused r WHERE r.origin = log.origin),"
            " (SELECT count(*) FROM refused r WHERE r.origin = log.origin AND is_proof = 1)"
            " FROM log ORDER BY origin"
        )
        return [Followed(origin, size or 0, time or 0, refused, proofs)
                for origin, size, time, refused, proofs in rows]  # fmt: skip

    def forks(self, origin: str) -> list[Fork]:
        """What was refused beside what was known, oldest first."""
        rows = self._sql.execute(
            "SELECT known, note, is_proof FROM refused WHERE origin = ? ORDER BY rowid", [origin]
        )
        return [Fork(known, note, bool(is_proof)) for known, note, is_proof in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._sql.close()

    def _known(self, origin: str) -> tuple[Verifier, str]:
        row = self._sql.execute("SELECT vkey FROM log WHERE origin = ?", [origin]).fetchone()
        if row is None:
            raise NotCosigned(
                Status.NOT_FOUND,
                "this witness does not follow that log",
                hint="its operator hands over keys/log.vkey; pass it once with --log FILE",
            )
        newest = self._sql.execute(
            "SELECT note FROM cosigned WHERE origin = ? ORDER BY rowid DESC LIMIT 1", [origin]
        ).fetchone()
        return Verifier.parse(row[0]), newest[0] if newest else ""

    def _keep(self, refused: NotCosigned, request: Request, known: str, time_s: int) -> None:
        """A checkpoint that the log signed and that contradicts what it signed before."""
        if refused.status not in {Status.CONFLICT, Status.UNPROCESSABLE} or not known:
            return
        one, other = (checkpoint.parse(checkpoint.read_note(note).text) for note in (known, request.note))
        is_proof = witness.is_equivocation(one, other)
        if is_proof or refused.status is Status.UNPROCESSABLE:
            self._sql.execute(
                "INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?)",
                [other.origin, other.size, known, request.note, time_s, int(is_proof)],
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            yield
            self._sql.execute("COMMIT")
        except BaseException as error:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _unreadable() from error
            raise


def _unreadable() -> SetupError:
    return SetupError("the witness's state can not be read or written", code="witness_state")
