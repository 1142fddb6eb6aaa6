"""Imported models, aliases, evaluations.

Why: which file answered, whether it may be used and who said so is evidence. A model's row stays when the
model has left the store, and the record commits to each row.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("file", sa.String(255), nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
        sa.Column("licence", sa.String(100), nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("signed_by", sa.String(255), nullable=True),
        sa.Column("accepted_by", sa.String(64), nullable=True),
        sa.Column("accepted_us", sa.BigInteger, nullable=True),
        sa.Column("imported_us", sa.BigInteger, nullable=False),
        sa.Column("imported_by", sa.String(64), nullable=False),
        sa.Column("removed_us", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "alias",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("adapter", sa.String(100), nullable=True),
        sa.Column("adapter_sha256", sa.String(64), nullable=True),
        sa.Column("scale_thousandths", sa.Integer, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("pinned", sa.Integer, nullable=False),
        sa.Column("changed_us", sa.BigInteger, nullable=False),
        sa.Column("changed_by", sa.String(64), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("suite", sa.String(100), nullable=False),
        sa.Column("suite_sha256", sa.String(64), nullable=False),
        sa.Column("num_cases", sa.Integer, nullable=False),
        sa.Column("num_passed", sa.Integer, nullable=False),
        sa.Column("score_thousandths", sa.Integer, nullable=False),
        sa.Column("floor_thousandths", sa.Integer, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("evaluated_us", sa.BigInteger, nullable=False),
        sa.Column("evaluated_by", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("evaluation")
    op.drop_table("alias")
    op.drop_table("model")
