"""State rows (API keys …): each is the one that the last record about it commits to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import rfc8785

from appliance.audit.fsck.steps import Block, Reading
from appliance.audit.fsck.trusted import headers_before
from appliance.audit.header import Header
from appliance.audit.kinds import PUBLIC_FIELDS

_KINDS = frozenset(str(kind) for kind, fields in PUBLIC_FIELDS.items() if "row_table" in fields)


@dataclass(frozen=True, slots=True)
class _Record:
    """What the record says last about a row."""

    digest: str
    seq: int


class State:
    """The newest record about each row; as many as there are rows, not as there are entries."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._report = reading.report
        self._records: dict[tuple[str, str], _Record] = {}
        for header in headers_before(reading, _KINDS):
            self._remember(header)

    def take(self, block: Block) -> None:
        """Changes of rows."""
        for header in block.acts:
            if header.kind in _KINDS:
                self._remember(header)

    def finish(self) -> None:
        """Every row of every state table, and every record that should have one."""
        for table, id_column in self._reading.expected.state_tables.items():
            columns = self._reading.source.columns(table)
            names = [name for name, _ in columns]
            seen = set()
            rows = self._reading.source.execute(f"SELECT {', '.join(names)} FROM {table}")  # noqa: S608 - ours
            for row in rows:
                values = dict(zip(names, row, strict=True))
                place = (table, str(values[id_column]))
                seen.add(place)
                record = self._records.get(place)
                # SQLite takes text into a column of bytes, and hexadecimal text has the same digest.
                is_typed = all(
                    value is None or isinstance(value, kind)
                    for value, (_, kind) in zip(row, columns, strict=True)
                )
                if record is None:
                    self._report.add(table, f"row {place[1]!r} is not on the record")
                elif not is_typed or record.digest != _row_digest(values):
                    self._report.add(table, f"row {place[1]!r} is not as its record left it", record.seq)
            for place, record in self._records.items():
                if place[0] == table and place not in seen:
                    self._report.add(table, f"row {place[1]!r} is missing", record.seq)

    def _remember(self, header: Header) -> None:
        said = header.pub
        if not {"row_table", "row_id", "row_sha256"} <= said.keys():
            self._report.add("log_entry", "the header lacks a field of its kind", header.seq)
            return
        place = (str(said["row_table"]), str(said["row_id"]))
        self._records[place] = _Record(str(said["row_sha256"]), header.seq)


def _row_digest(row: dict[str, Any]) -> str:
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
    try:
        return hashlib.sha256(rfc8785.dumps(plain)).hexdigest()
    except rfc8785.CanonicalizationError:
        return ""
