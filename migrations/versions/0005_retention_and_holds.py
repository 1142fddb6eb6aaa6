"""Retention and legal holds: contents may go once an entry says why; holds keep them.

Why: the law asks for both an end of keeping and a stop of deleting.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from appliance.databases import postgres_contents
from appliance.databases.append_only import keep_rows

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retention",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("from_ts", sa.BigInteger, nullable=False),
        sa.Column("before_ts", sa.BigInteger, nullable=False),
        sa.Column("kept", sa.Text, nullable=False),
    )
    op.create_table(
        "legal_hold",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("key_bi", sa.LargeBinary(16), nullable=True),
        sa.Column("user_bi", sa.LargeBinary(16), nullable=True),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=True),
        sa.Column("placed_us", sa.BigInteger, nullable=False),
        sa.Column("lifted_us", sa.BigInteger, nullable=True),
    )
    keep_rows("retention")
    if op.get_bind().dialect.name != "sqlite":
        postgres_contents.create()
        return
    op.execute("DROP TRIGGER log_payload_no_delete")
    op.execute(
        "CREATE TRIGGER log_payload_no_delete BEFORE DELETE ON log_payload WHEN NOT EXISTS "
        "(SELECT 1 FROM log_entry JOIN retention ON retention.kind = log_entry.kind "
        "AND log_entry.ts >= retention.from_ts AND log_entry.ts < retention.before_ts "
        "WHERE log_entry.seq = OLD.seq) "
        "BEGIN SELECT RAISE(ABORT, 'log_payload is append-only'); END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER log_payload_no_delete")
        op.execute(
            "CREATE TRIGGER log_payload_no_delete BEFORE DELETE ON log_payload "
            "BEGIN SELECT RAISE(ABORT, 'log_payload is append-only'); END"
        )
    op.drop_table("legal_hold")
    op.drop_table("retention")
    if op.get_bind().dialect.name != "sqlite":
        postgres_contents.drop()
