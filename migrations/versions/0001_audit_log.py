"""The audit log: entries, sealed content, tree, checkpoints, epochs and the key policy.

Why: the record comes first; everything else in this database is committed to by it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from appliance.databases.append_only import create_function, drop_function, keep_rows

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = (
    "log_entry", "log_payload", "node", "checkpoint", "epoch", "epoch_wrap", "key_policy",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "log_entry",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("req", sa.String(64), nullable=True),
        sa.Column("bi_key", sa.LargeBinary(16), nullable=True),
        sa.Column("model", sa.String(200), nullable=True),
        sa.Column("outcome", sa.String(32), nullable=True),
        sa.Column("hdr", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary(32), nullable=False),
    )
    op.create_index("ix_log_entry_ts", "log_entry", ["ts"])
    op.create_index("ix_log_entry_kind_ts", "log_entry", ["kind", "ts"])
    op.create_index("ix_log_entry_req", "log_entry", ["req"])
    op.create_index("ix_log_entry_bi_key_ts", "log_entry", ["bi_key", "ts"])
    op.create_table(
        "log_payload",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("nonce", sa.LargeBinary(12), nullable=False),
        sa.Column("ct", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "node",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("h", sa.LargeBinary(32), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoint",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "tree_head",
        sa.Column(
            "id",
            sa.Integer,
            sa.CheckConstraint("id = 1", name="one_row"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "epoch",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("policy_sha256", sa.String(64), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
    )
    op.create_table(
        "epoch_wrap",
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("recipient", sa.String(64), primary_key=True),
        sa.Column("suite", sa.String(64), nullable=False),
        sa.Column("wrap", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "key_policy",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
    create_function()
    for table in APPEND_ONLY:
        keep_rows(table)


def downgrade() -> None:
    for table in ("tree_head", *reversed(APPEND_ONLY)):
        op.drop_table(table)
    drop_function()
