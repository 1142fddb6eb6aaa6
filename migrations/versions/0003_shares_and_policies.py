"""Shares, users' blind indexes, and key policies that follow each other.

Why: a record's key has two halves, and the entry names the share that is one of them; a later policy
carries the act that its predecessor's auditors signed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from appliance.databases.append_only import keep_rows

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log_entry", sa.Column("bi_user", sa.LargeBinary(16), nullable=True))
    op.add_column("log_entry", sa.Column("subj", sa.LargeBinary(16), nullable=True))
    op.create_index("ix_log_entry_bi_user_ts", "log_entry", ["bi_user", "ts"])
    op.create_index("ix_log_entry_subj", "log_entry", ["subj"])
    op.add_column("key_policy", sa.Column("act", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "erasure",
        sa.Column("share", sa.LargeBinary(16), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
    )
    keep_rows("erasure")


def downgrade() -> None:
    op.drop_table("erasure")
    op.drop_column("key_policy", "act")
    op.drop_index("ix_log_entry_subj", "log_entry")
    op.drop_index("ix_log_entry_bi_user_ts", "log_entry")
    op.drop_column("log_entry", "subj")
    op.drop_column("log_entry", "bi_user")
