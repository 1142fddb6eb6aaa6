"""For migrations: tables whose rows nobody changes. Frozen with the revisions that call it.

The triggers are a guard against accidents, not against an attacker: the tree is what finds those.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from alembic import op


def keep_rows(table: str) -> None:
    """Triggers that refuse UPDATE and DELETE, on PostgreSQL TRUNCATE too."""
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    else:
        for act in ("UPDATE", "DELETE", "TRUNCATE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )


@contextlib.contextmanager
def lift_rows(table: str) -> Iterator[None]:
    """UPDATE is let through inside: for columns that a revision adds, and fills from what is there."""
    name = f"{table}_no_update"
    if op.get_bind().dialect.name == "sqlite":
        sql = (
            op.get_bind()
            .exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (name,))
            .scalar_one()
        )
        op.execute(f"DROP TRIGGER {name}")
        yield
        op.execute(sql)
    else:
        op.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}")
        yield
        op.execute(f"ALTER TABLE {table} ENABLE TRIGGER {name}")


def create_function() -> None:
    """PostgreSQL's triggers call one."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    connection.exec_driver_sql(_REFUSE_CHANGE)


def drop_function() -> None:
    """The reverse."""
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION refuse_change()")


_REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'log_payload' AND TG_OP = 'DELETE'
       AND current_setting('appliance.contents_deleted_by', true) <> '' THEN
        RETURN NULL;  -- delete_contents has looked at the record; nobody else may delete at all
    END IF;
    RAISE EXCEPTION '%% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""
