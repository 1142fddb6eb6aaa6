"""The log's tables, as migrations made them. `tree_head` is the one row that changes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from appliance.db import metadata

# Plain strings: SQLAlchemy's own names are a subclass that goes into no header.
WITNESS, COSIGNATURE = "witness", "cosignature"


def _sparse(first: str, *more: str) -> Index:
    """An index of the entries that have this column at all."""
    where = text(f"{first} IS NOT NULL")
    return Index(f"ix_log_entry_{first}", first, *more, sqlite_where=where, postgresql_where=where)


log_entry = Table(
    "log_entry",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("ts", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("req", String(64), nullable=True),
    Column("bi_key", LargeBinary(16), nullable=True),
    Column("model", String(200), nullable=True),
    Column("outcome", String(32), nullable=True),
    Column("hdr", LargeBinary, nullable=False),
    Column("leaf", LargeBinary(32), nullable=False),
    Column("bi_user", LargeBinary(16), nullable=True),
    Column("subj", LargeBinary(16), nullable=True),
    Column("prev", BigInteger, nullable=True),
    Column("code", String(64), nullable=True),
    Column("prompt_tokens", BigInteger, nullable=True),
    Column("completion_tokens", BigInteger, nullable=True),
    Column("bi_session", LargeBinary(16), nullable=True),
    Column("bi_addr", LargeBinary(16), nullable=True),
    Index("ix_log_entry_ts", "ts"),
    Index(
        "ix_log_entry_facets",
        *("kind", "seq", "outcome", "model", "code", "prompt_tokens", "completion_tokens", "prev"),
    ),
    _sparse("req", "seq"),
    _sparse("subj"),
    _sparse("bi_key", "seq"),
    _sparse("bi_user", "seq"),
    _sparse("bi_session", "seq"),
    _sparse("bi_addr", "seq"),
)
log_payload = Table(
    "log_payload",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("nonce", LargeBinary(12), nullable=False),
    Column("ct", LargeBinary, nullable=False),
)
node = Table(
    "node",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("h", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
)
checkpoint = Table(  # kept ones: the tree as it stood when each epoch began
    "checkpoint",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
tree_head = Table(  # the newest checkpoint, replaced by every commit
    "tree_head",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
)
epoch = Table(
    "epoch",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("policy_sha256", String(64), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
)
epoch_wrap = Table(
    "epoch_wrap",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("recipient", String(64), primary_key=True),
    Column("suite", String(64), nullable=False),
    Column("wrap", LargeBinary, nullable=False),
)
erasure = Table(  # shares that were destroyed, and the entry that says why
    "erasure",
    metadata,
    Column("share", LargeBinary(16), primary_key=True),
    Column("seq", BigInteger, nullable=False),
)
retention = Table(  # the span whose contents of a kind were removed, but for those that a hold kept
    "retention",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    Column("from_ts", BigInteger, nullable=False),
    Column("before_ts", BigInteger, nullable=False),
    Column("kept", Text, nullable=False),
)
key_policy = Table(
    "key_policy",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    Column("act", Text, nullable=False, server_default=""),  # the signed act behind it; none: the first
)
witness = Table(  # whose cosignatures count; each row is committed to by its record
    WITNESS,
    metadata,
    Column("id", String(200), primary_key=True),
    Column("vkey", String(4096), nullable=False),
    Column("added_us", BigInteger, nullable=False),
)
cosignature = Table(  # what witnesses said, and the checkpoint that they said it of
    COSIGNATURE,
    metadata,
    Column("id", String(220), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("witness", String(200), nullable=False),
    Column("time_s", BigInteger, nullable=False),
    Column("note", String(4096), nullable=False),
    Column("line", String(8192), nullable=False),
)
