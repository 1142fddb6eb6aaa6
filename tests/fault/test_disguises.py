"""Changes that look like nothing: another type, another's name, another's signature. Verify goes red."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import entry
from appliance.audit.entry import Entry
from appliance.audit.header import decode_header
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.core import Delta, Outcome
from tests.clocks import ManualClock
from tests.fault.test_tampering import written
from tests.harness import appliance as program
from tests.tampered import tampered
from tests.verifying import verify

__all__ = ["written"]  # the fixture


def test_digest_stored_as_text_is_not_the_digest(written: Home, tmp_path: Path) -> None:
    """A key's secret hash as hexadecimal text hashes alike and opens nothing: another value."""
    with tampered(written, tmp_path) as (sql, copy):
        sql.execute("UPDATE api_key SET secret_sha256 = lower(hex(secret_sha256)) WHERE name = 'lobby'")

    assert [each.where for each in verify(written, copy).findings] == ["api_key"]


def test_trigger_that_borrows_an_indexs_name_is_a_stranger(written: Home, tmp_path: Path) -> None:
    """SQLite keeps names of triggers and indexes apart; so does the comparison of schemas."""
    with tampered(written, tmp_path) as (sql, copy):
        (index,) = sql.execute("SELECT sql FROM sqlite_master WHERE name = 'ix_log_entry_ts'").fetchone()
        sql.execute("DROP INDEX ix_log_entry_ts")
        sql.execute("CREATE TRIGGER ix_log_entry_ts AFTER INSERT ON log_entry BEGIN DELETE FROM api_key; END")
        sql.execute(index)

    assert "schema" in verify(written, copy).findings[0].message


@pytest.mark.parametrize("row", ["first", "last"])
def test_kept_checkpoint_can_not_be_exchanged(written: Home, tmp_path: Path, row: str) -> None:
    """A kept checkpoint overwritten by the newest one, which is signed as well, is missed."""
    order = "ASC" if row == "first" else "DESC"
    with tampered(written, tmp_path) as (sql, copy):
        newest = sql.execute("SELECT size, note FROM tree_head").fetchone()
        sql.execute(
            "UPDATE checkpoint SET size = ?, note = ? "
            f"WHERE size = (SELECT size FROM checkpoint ORDER BY size {order} LIMIT 1)",
            newest,
        )

    assert {each.where for each in verify(written, copy).findings} == {"checkpoint"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.REQUEST_SEGMENT, "index"),
        (Kind.REQUEST_CLOSED, "num_segments"),
        (Kind.EPOCH_OPENED, "epoch"),
        (Kind.KEY_CREATED, "row_id"),
    ],
)
def test_header_that_lacks_a_field_is_a_finding(written: Home, tmp_path: Path, kind: Kind, name: str) -> None:
    """The verifier survives a canonical header in which something is missing."""
    with tampered(written, tmp_path) as (sql, copy):
        seq, data = sql.execute(
            "SELECT seq, hdr FROM log_entry WHERE kind = ? ORDER BY seq LIMIT 1", [str(kind)]
        ).fetchone()
        header = decode_header(data)
        less = {field: value for field, value in header.pub.items() if field != name}
        data = msgspec.structs.replace(header, pub=less).encode()
        sql.execute("UPDATE log_entry SET hdr = ? WHERE seq = ?", [data, seq])

    assert not verify(written, copy).is_green


def test_segment_behind_its_closing_is_found(tmp_path: Path, home: Home) -> None:
    """Nothing belongs to a request any more once it is closed."""
    with open_log_alone(home, config.load(home), ManualClock()) as alone:
        opened = alone.audit.append_sync(
            Entry(
                kind=Kind.REQUEST_OPENED,
                public={"model": "m", "model_sha256": "0" * 64, "stream": 1},
                request_id="req_1",
            )
        )
        alone.audit.append_sync(entry.closed("req_1", opened.seq, model="m", outcome=Outcome.STOP))
        alone.audit.append_sync(entry.segment("req_1", opened.seq, 0, Delta("more", 1), subject="key:k"))

    assert [each.message for each in verify(home, home.database).findings] == [
        "it does not point to an opening, or lies behind its closing"
    ]


def test_missing_head_file_is_a_finding(tmp_path: Path, home: Home) -> None:
    """A home that has lost its memory outside the database is not green."""
    home.head.unlink()
    done = program("audit", "verify", home=home, check=False)

    assert done.returncode == 1
    assert "head" in done.stdout
