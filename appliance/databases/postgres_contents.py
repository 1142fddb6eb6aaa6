"""For migrations: how contents leave a log on PostgreSQL, where its writer may delete nothing itself.

The contract of `delete_contents(record, entries)`: it deletes the contents of these entries if the row
of `retention` with this sequence number covers every one of them (their kind, and a time in its
span), and returns how many it deleted. That row is there for good only together with the entry
`record` of kind `retention:applied`: a constraint holds the two against each other at the COMMIT.
"""

from __future__ import annotations

from alembic import op


def create() -> None:
    """Function and constraint."""
    connection = op.get_bind()
    schema = str(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    # pg_temp last: whoever can make temporary tables must not be able to forge the record with one.
    connection.exec_driver_sql(_DELETE_CONTENTS.replace("SCHEMA", schema))
    connection.exec_driver_sql(_DEMAND_RECORD.replace("SCHEMA", schema))
    connection.exec_driver_sql(
        "CREATE CONSTRAINT TRIGGER retention_is_recorded AFTER INSERT ON retention "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION demand_retention_record()"
    )


def drop() -> None:
    """The reverse, behind the table's end."""
    op.execute("DROP FUNCTION demand_retention_record()")
    op.execute("DROP FUNCTION delete_contents(bigint, bigint[])")


_DELETE_CONTENTS = """
CREATE FUNCTION delete_contents(record bigint, entries bigint[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = SCHEMA, pg_temp AS $$
DECLARE
    deleted bigint;
BEGIN
    IF EXISTS (
        SELECT FROM unnest(entries) AS given (seq)
        WHERE NOT EXISTS (
            SELECT FROM log_entry JOIN retention
            ON retention.kind = log_entry.kind
            AND log_entry.ts >= retention.from_ts AND log_entry.ts < retention.before_ts
            WHERE log_entry.seq = given.seq AND retention.seq = record
        )
    ) THEN
        RAISE EXCEPTION 'retention %% does not cover these contents', record
        USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    PERFORM set_config('appliance.contents_deleted_by', record::text, true);
    DELETE FROM log_payload WHERE seq = ANY (entries);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    PERFORM set_config('appliance.contents_deleted_by', '', true);
    RETURN deleted;
END $$
"""

_DEMAND_RECORD = """
CREATE FUNCTION demand_retention_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = SCHEMA, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM log_entry WHERE seq = NEW.seq AND kind = 'retention:applied') THEN
        RAISE EXCEPTION 'retention %% is not on the record', NEW.seq
        USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$
"""
