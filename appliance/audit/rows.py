"""Entries as rows for programs and spreadsheets: JSON, JSON lines, CSV. Pure.

Whatever stands in an entry, a row is inert: JSON is ASCII with everything else escaped, and a cell of CSV
holds neither a formula nor a character that steers a terminal or turns the direction of writing.
Sources: RFC 8259, RFC 4180, OWASP "CSV injection", ASVS 16.4.1.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from appliance.audit.query import Record

_FIELDS: Final = ("model", "outcome", "code", "prompt_tokens", "completion_tokens")
COLUMNS: Final = ("seq", "time", "kind", "request_id", *_FIELDS, "more", "leaf")
# Controls, and the marks that turn the direction of writing or end a line for some readers.
_STEERING = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_FORMULA = re.compile(r"\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")  # the full-width forms count too


def moment(microseconds: int) -> str:
    """RFC 3339, UTC, to the microsecond; the number itself beyond the calendar."""
    try:
        found = datetime.fromtimestamp(microseconds // 1_000_000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return str(microseconds)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06d}Z"


def plain(record: Record) -> dict[str, Any]:
    """What everybody may see of an entry."""
    return {
        "seq": record.seq,
        "ts": record.ts,
        "time": moment(record.ts),
        "kind": str(record.kind),
        "request_id": record.request_id,
        "public": record.public,
        "leaf": record.leaf.hex(),
    }


def json_line(value: dict[str, Any]) -> bytes:
    """One line of JSON, in ASCII."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def csv_lines(rows: Sequence[Sequence[str | int]]) -> bytes:
    """Rows with CR LF at their ends, every cell quoted."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [[each if isinstance(each, int) else cell(each) for each in row] for row in rows]
    )
    return text.getvalue().encode()


def csv_row(record: Record) -> list[str | int]:
    """An entry in the order of `COLUMNS`."""
    more = {name: value for name, value in record.public.items() if name not in _FIELDS}
    return [
        record.seq,
        moment(record.ts),
        str(record.kind),
        record.request_id or "",
        *(record.public.get(name, "") for name in _FIELDS),
        json.dumps(more, ensure_ascii=True, sort_keys=True) if more else "",
        record.leaf.hex(),
    ]


def cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula, and that steers nothing."""
    begins_formula = _FORMULA.match(text) is not None
    shown = _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return f"'{shown}" if begins_formula else shown
