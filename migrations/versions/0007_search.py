"""Columns and indexes that a search walks along: what ended how, with how many tokens, who asked from where.

Why: the first page of any filter over years of a record comes at once. Every index ends in the place of
the entry, which is what pages go on from; times are turned into places once. Entries that name nobody
are in no index of names, which pays for the new ones.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from appliance.databases.append_only import lift_rows

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = (
    ("prev", sa.BigInteger),
    ("code", sa.String(64)),
    ("prompt_tokens", sa.BigInteger),
    ("completion_tokens", sa.BigInteger),
    ("bi_session", sa.LargeBinary(16)),
    ("bi_addr", sa.LargeBinary(16)),
)
EARLIER = (
    ("ix_log_entry_kind_ts", ["kind", "ts"]),
    ("ix_log_entry_req", ["req"]),
    ("ix_log_entry_bi_key_ts", ["bi_key", "ts"]),
    ("ix_log_entry_bi_user_ts", ["bi_user", "ts"]),
    ("ix_log_entry_subj", ["subj"]),
)
FACETS = ["kind", "seq", "outcome", "model", "code", "prompt_tokens", "completion_tokens", "prev"]
SPARSE = (
    ("ix_log_entry_req", ["req", "seq"]),
    ("ix_log_entry_subj", ["subj"]),
    ("ix_log_entry_bi_key", ["bi_key", "seq"]),
    ("ix_log_entry_bi_user", ["bi_user", "seq"]),
    ("ix_log_entry_bi_session", ["bi_session", "seq"]),
    ("ix_log_entry_bi_addr", ["bi_addr", "seq"]),
)


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column("log_entry", sa.Column(name, kind, nullable=True))
    for name, _ in EARLIER:
        op.drop_index(name, "log_entry")
    if op.get_bind().dialect.name == "sqlite":
        driver: Any = op.get_bind().connection.driver_connection
        driver.create_function("from_hex", 1, _from_hex, deterministic=True)  # SQLite's own is too new
    with lift_rows("log_entry"):
        op.execute(_FILL[op.get_bind().dialect.name])
    op.create_index("ix_log_entry_facets", "log_entry", FACETS)
    for name, columns in SPARSE:
        where = sa.text(f"{columns[0]} IS NOT NULL")
        op.create_index(name, "log_entry", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name, _ in SPARSE:
        op.drop_index(name, "log_entry")
    op.drop_index("ix_log_entry_facets", "log_entry")
    for name, columns in EARLIER:
        op.create_index(name, "log_entry", columns)
    for name, _ in reversed(COLUMNS):
        op.drop_column("log_entry", name)


def _from_hex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


# What these columns say stands in the headers; a damaged header is left to `verify`.
_FILL = {
    "sqlite": (
        "UPDATE log_entry SET prev = json_extract(CAST(hdr AS TEXT), '$.prev'), "
        "code = json_extract(CAST(hdr AS TEXT), '$.pub.code'), "
        "prompt_tokens = json_extract(CAST(hdr AS TEXT), '$.pub.prompt_tokens'), "
        "completion_tokens = json_extract(CAST(hdr AS TEXT), '$.pub.completion_tokens'), "
        "bi_session = from_hex(json_extract(CAST(hdr AS TEXT), '$.bi.session')), "
        "bi_addr = from_hex(json_extract(CAST(hdr AS TEXT), '$.bi.addr')) "
        "WHERE json_valid(CAST(hdr AS TEXT))"
    ),
    "postgresql": (
        "UPDATE log_entry SET prev = (found.said ->> 'prev')::bigint, code = found.said -> 'pub' ->> 'code', "
        "prompt_tokens = (found.said -> 'pub' ->> 'prompt_tokens')::bigint, "
        "completion_tokens = (found.said -> 'pub' ->> 'completion_tokens')::bigint, "
        "bi_session = decode(found.said -> 'bi' ->> 'session', 'hex'), "
        "bi_addr = decode(found.said -> 'bi' ->> 'addr', 'hex') "
        "FROM (SELECT seq, convert_from(hdr, 'UTF8')::json AS said FROM log_entry) AS found "
        "WHERE found.seq = log_entry.seq"
    ),
}
