"""Witnesses of this log: who they are, what they said, and whether they were here lately.

A witness and each of its cosignatures are rows that stand on the record in their own transaction, as API
keys are. The same code runs inside the gateway and inside the `appliance` program while none runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert

from appliance import db
from appliance.accounts.duties import Duties
from appliance.audit import checkpoint, cosignature, entry, merkle, proving
from appliance.audit.checkpoint import Verifier
from appliance.audit.cosignature import Cosignature
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.tables import COSIGNATURE, WITNESS
from appliance.audit.tables import cosignature as cosignature_table
from appliance.audit.tables import witness as witness_table
from appliance.clock import Clock
from appliance.core import Principal, Receipt, Role
from appliance.db import Place
from appliance.errors import RequestError, VerificationError

Row = dict[str, str | int]

_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Visits:
    """How the log stands with its witnesses. Times in POSIX seconds; 0 where there was none."""

    num_witnesses: int
    size: int  # of the newest tree that was cosigned
    time_s: int
    is_stale: bool


@dataclass(frozen=True, slots=True)
class Pinned:
    """One witness and the newest tree that it cosigned; 0 for none. Time in POSIX seconds."""

    name: str
    size: int
    time_s: int


class Witnessing:
    """Owner of `_witnesses` and `_newest`: the event loop that runs it; the log holds what they say."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        database: Place,
        log: Verifier,
        clock: Clock,
        max_age_days: int,
        duties: Duties,
    ) -> None:
        self._audit = audit
        self._database = database
        self._log = log
        self._clock = clock
        self._max_age_s = max_age_days * _DAY_SECONDS
        self._duties = duties
        self._changing = asyncio.Lock()
        with db.reading(database) as connection:
            self._witnesses = proving.witnesses(connection)
            self._newest = proving.last_visit(connection)

    def names(self) -> list[str]:
        """The witnesses whose keys are pinned."""
        return sorted({each.name for each in self._witnesses.values()})

    def pinned(self) -> list[Pinned]:
        """Each witness and what it said last. Reads the database: not for an event loop."""
        with db.reading(self._database) as connection:
            found = {
                each.name: proving.last_visit_of(connection, each.name) for each in self._witnesses.values()
            }
        return [Pinned(name, size, time_s) for name, (size, time_s) in sorted(found.items())]

    def visits(self) -> Visits:
        """Stale once the newest cosignature is older than `audit.witness_max_age_days`."""
        size, time_s, since_s = self._newest
        now_s = self._clock.now_us() // 1_000_000
        return Visits(
            num_witnesses=len(self.names()),
            size=size,
            time_s=time_s,
            is_stale=bool(self._witnesses) and now_s - max(time_s, since_s) > self._max_age_s,
        )

    async def add(self, vkeys: Sequence[Verifier]) -> Receipt:
        """Pin a witness's keys; the receipt of the last. RequestError where one is pinned already."""
        async with self._changing, self._duties.giving:
            for each in vkeys:
                if witness_id(each) in self._witnesses:
                    raise RequestError("this witness's key is pinned already", code="witness_exists")
            for name in {each.name for each in vkeys}:
                self._duties.require(name, Role.WITNESS)
            for each in vkeys:
                row: Row = {"id": witness_id(each), "vkey": each.text(), "added_us": self._clock.now_us()}
                added = _state(Kind.WITNESS_ADDED, WITNESS, row, {"witness": each.name})
                receipt = await self._audit.append(added)
            self._reload()
            return receipt

    async def take(self, note: str, *, by: Principal | None = None) -> tuple[list[Cosignature], Receipt]:
        """Store what pinned witnesses said below a checkpoint of this log; lines of others are ignored.

        VerificationError where the note is not this log's, a line does not hold, or nobody known said it;
        RequestError where each line is stored already.
        """
        async with self._changing:
            head = checkpoint.open_checkpoint(note, self._log)
            if head.size > self._audit.tree_size:
                raise VerificationError("the witness saw a longer log than this one: it was cut back")
            with db.reading(self._database) as connection:
                if merkle.root_at(head.size, proving.reader(connection)) != head.root:
                    raise VerificationError("the cosigned checkpoint is not of this log's tree")
                stored = proving.cosignature_ids(connection, head.size)
            said = cosignature.verified(note, self._witnesses.values())
            if not said:
                raise VerificationError(
                    "no pinned witness cosigned this checkpoint",
                    hint="appliance audit witness add FILE pins a witness's public file",
                )
            own = checkpoint.read_note(note)
            kept = own.text + "\n" + next(s.line for s in own.signatures if s.is_by(self._log)) + "\n"
            fresh = [each for each in said if f"{head.size} {witness_id(each.witness)}" not in stored]
            if not fresh:
                raise RequestError("these cosignatures are stored already", code="already_cosigned")
            for each in fresh:
                row: Row = {
                    "id": f"{head.size} {witness_id(each.witness)}",
                    "size": head.size,
                    "witness": witness_id(each.witness),
                    "time_s": each.time,
                    "note": kept,
                    "line": each.line,
                }
                public: Row = {"witness": each.witness.name, "tree_size": head.size}
                receipt = await self._audit.append(
                    _state(Kind.WITNESS_COSIGNED, COSIGNATURE, row, public, by)
                )
            self._reload()
            return fresh, receipt

    def _reload(self) -> None:
        with db.reading(self._database) as connection:
            self._witnesses = proving.witnesses(connection)
            self._newest = proving.last_visit(connection)


def witness_id(verifier: Verifier) -> str:
    """How rows name a witness's key: name and key id, which together name a key in a note."""
    return f"{verifier.name}+{verifier.key_id.hex()}"


def _state(kind: Kind, table: str, row: Row, public: Row, by: Principal | None = None) -> Entry:
    made = witness_table if table == WITNESS else cosignature_table

    def effects(connection: Connection, _seq: int) -> None:
        connection.execute(insert(made).values(**row))

    return entry.state_changed(
        kind, table=table, row=row, row_id=str(row["id"]), public=public, content={}, effects=effects, by=by
    )
