"""A superuser past every trigger: each changed, lost or added row, and each loosened guard, turns it red."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from appliance import config
from appliance.alone import open_log_alone
from appliance.config import Home
from appliance.core import Genre, Principal, Role
from appliance.databases.postgres import PostgresSchema
from appliance.searches import Searches
from appliance.terms import Terms
from tests.acts import dev_auditor
from tests.clocks import ManualClock
from tests.modelled import put_everything
from tests.office import HERE, PAUL, approvals_of, erasure
from tests.records import place
from tests.servers import Server, make_server_home
from tests.tampered import enrol
from tests.unit.audit.test_log import opening
from tests.verifying import verify

EMPTY = {"erasure", "retention", "witness", "cosignature"}  # ceremonies that this record has not seen
MAX_ROWS = 3


@pytest.fixture(scope="module")
def written(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str]:
    """A record with something of everything, and the database that it lies in."""
    database = server.new_database()
    home = make_server_home(tmp_path_factory.mktemp("tampering") / "home", server, database)
    clock = ManualClock(2_000_000_000_000_000)
    return write(home, clock), database


def write(home: Home, clock: ManualClock) -> Home:
    with open_log_alone(home, config.load(home), clock) as alone:

        async def acts() -> None:
            for name in ("lobby", "counter", "desk"):
                await alone.administration.create_key(name, Role.KIOSK, stores_responses=True)
            await alone.administration.change_key("lobby", Terms(addresses=("10.1.0.0/16",)))
            await alone.administration.revoke_key("desk")
            await alone.publishing.publish(Genre.PROMPT, "lobby", "Answer briefly.")
            await alone.custody.hold(api_key="", user="someone", since_us=1, until_us=None, reason="case")
            await alone.people.create("Ada Kim", Role.OPERATOR)
            await put_everything(alone)
            await enrol(alone, clock)
            await alone.hosted.store("p_ada", Role.AUDITOR, dev_auditor(home), "correct horse battery")
            await approvals_of(alone, home, clock).draft(erasure(alone), PAUL, HERE)
            searches = Searches(audit=alone.audit, database=place(home), clock=clock)
            await searches.save(Principal("p_ada", "Ada", Role.AUDITOR), "mine", "{}")

        asyncio.run(acts())
        for number in range(6):
            alone.audit.append_sync(opening(f"req_{number}"))
            if number == 3:
                clock.advance(700)
    with open_log_alone(home, config.load(home), clock):
        pass  # its start closes what was open
    return home


@pytest.fixture
def intruder(server: Server, written: tuple[Home, str]) -> Iterator[psycopg.Connection[Any]]:
    """A superuser for whom no trigger fires."""
    home, database = written
    found = place(home)
    assert isinstance(found, PostgresSchema)
    options = f"-c search_path={found.name} -c session_replication_role=replica"
    with server.connect(database, options=options) as connection:
        yield connection
    assert verify(home).findings == []  # whatever a test did, it undid: the next one starts green


def tables(connection: psycopg.Connection[Any]) -> list[str]:
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
    )
    return sorted(name for (name,) in rows)


def neighbours(value: Any) -> list[Any]:
    """What a value could be changed to."""
    match value:
        case bytes():
            at = len(value) // 2
            return [value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :], value[:-1]]
        case "":
            return ["x"]
        case str():
            at = len(value) // 2
            return [value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :], value + " "]
        case int():
            return [value + 1]
        case None:
            return []
        case _:
            raise AssertionError(type(value))


def test_every_table_is_tampered_with(intruder: psycopg.Connection[Any]) -> None:
    """The control: but for the named ones, each table has rows to change."""
    for table in tables(intruder):
        row = intruder.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
        assert row is not None
        assert (row[0] == 0) is (table in EMPTY), table


def test_every_changed_value_is_found(intruder: psycopg.Connection[Any], written: tuple[Home, str]) -> None:
    """Each column of each table, in some of its rows, in each way that the column's type allows."""
    survivors = []
    for table in tables(intruder):
        cursor = intruder.execute(sql.SQL("SELECT ctid, * FROM {}").format(sql.Identifier(table)))
        assert cursor.description is not None
        names = [column.name for column in cursor.description][1:]
        rows = cursor.fetchall()
        for row in random.Random(table).sample(rows, min(MAX_ROWS, len(rows))):
            for name, value in zip(names, row[1:], strict=True):
                for changed in neighbours(value):
                    if not set_to(intruder, table, dict(zip(names, row[1:], strict=True)), name, changed):
                        continue  # the column itself refuses it
                    if verify(written[0]).is_green:
                        survivors.append((table, name, changed))
                    now = dict(zip(names, row[1:], strict=True)) | {name: changed}
                    assert set_to(intruder, table, now, name, value)

    assert survivors == []


def set_to(
    connection: psycopg.Connection[Any], table: str, row: dict[str, Any], name: str, value: Any
) -> bool:
    """Change one column of the row that looks like this; False where the table does not take it."""
    where = sql.SQL(" AND ").join(
        sql.SQL("{} IS NOT DISTINCT FROM %s").format(sql.Identifier(each)) for each in row
    )
    try:
        done = connection.execute(
            sql.SQL("UPDATE {} SET {} = %s WHERE {} RETURNING {}").format(
                sql.Identifier(table), sql.Identifier(name), where, sql.Identifier(name)
            ),
            (value, *row.values()),
        ).fetchall()
    except psycopg.Error:
        return False
    assert len(done) == 1
    return bool(done[0][0] == value)  # blanks behind a column's length are cut off


def test_every_lost_or_added_row_is_found(
    intruder: psycopg.Connection[Any], written: tuple[Home, str]
) -> None:
    """A row that is deleted, and one that is put beside the others under another number."""
    survivors = []
    for table in tables(intruder):
        name = sql.Identifier(table)
        cursor = intruder.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(name))
        row = cursor.fetchone()
        if row is None:
            continue
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        where = sql.SQL(" AND ").join(
            sql.SQL("{} IS NOT DISTINCT FROM %s").format(sql.Identifier(each)) for each in names
        )
        values = sql.SQL(", ").join([sql.Placeholder()] * len(row))
        put = sql.SQL("INSERT INTO {} VALUES ({})").format(name, values)
        remove = sql.SQL("DELETE FROM {} WHERE {}").format(name, where)
        intruder.execute(remove, row)
        if verify(written[0]).is_green:
            survivors.append((table, "deleted"))
        intruder.execute(put, row)
        first = row[0] + 1000 if isinstance(row[0], int) else "f" * 10
        try:
            intruder.execute(put, (first, *row[1:]))
        except psycopg.errors.CheckViolation:
            continue  # tree_head takes one row
        if verify(written[0]).is_green:
            survivors.append((table, "added"))
        intruder.execute(remove, (first, *row[1:]))

    assert survivors == []


LOOSENED = {
    "a trigger is off": (
        "ALTER TABLE log_entry DISABLE TRIGGER log_entry_no_update",
        "ALTER TABLE log_entry ENABLE TRIGGER log_entry_no_update",
    ),
    "a right more": (
        "GRANT DELETE ON log_entry TO {writer}",
        "REVOKE DELETE ON log_entry FROM {writer}",
    ),
    "a right for everybody": ("GRANT SELECT ON api_key TO PUBLIC", "REVOKE SELECT ON api_key FROM PUBLIC"),
    "a right on one column": (
        "GRANT UPDATE (hdr) ON log_entry TO {writer}",
        "REVOKE UPDATE (hdr) ON log_entry FROM {writer}",
    ),
    "rights to come": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE ALL ON TABLES FROM PUBLIC",
    ),
    "another owner": ("ALTER TABLE node OWNER TO admin", "ALTER TABLE node OWNER TO owner"),
    "a table that no crash survives": (
        "ALTER TABLE log_payload SET UNLOGGED", "ALTER TABLE log_payload SET LOGGED",
    ),
    "a rule": (
        "CREATE RULE hush AS ON INSERT TO node DO INSTEAD NOTHING", "DROP RULE hush ON node",
    ),
    "rows that are hidden": (
        "ALTER TABLE log_entry ENABLE ROW LEVEL SECURITY; CREATE POLICY hide ON log_entry USING (true)",
        "DROP POLICY hide ON log_entry; ALTER TABLE log_entry DISABLE ROW LEVEL SECURITY",
    ),
    "another index": ("CREATE INDEX ix_more ON log_entry (outcome)", "DROP INDEX ix_more"),
    "a missing index": (
        "DROP INDEX ix_log_entry_req",
        "CREATE INDEX ix_log_entry_req ON log_entry (req, seq) WHERE req IS NOT NULL",
    ),
    "another column": ("ALTER TABLE api_key ADD COLUMN extra int", "ALTER TABLE api_key DROP COLUMN extra"),
    "a missing constraint": (
        "ALTER TABLE tree_head DROP CONSTRAINT ck_tree_head_one_row",
        "ALTER TABLE tree_head ADD CONSTRAINT ck_tree_head_one_row CHECK (id = 1)",
    ),
    "a function of the same name": (
        "CREATE FUNCTION refuse_change(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION refuse_change(int)",
    ),
    "a function with another body": (
        "ALTER FUNCTION delete_contents(bigint, bigint[]) SECURITY INVOKER",
        "ALTER FUNCTION delete_contents(bigint, bigint[]) SECURITY DEFINER",
    ),
    "a view": ("CREATE VIEW peek AS SELECT * FROM log_entry", "DROP VIEW peek"),
}  # fmt: skip


@pytest.mark.parametrize("what", LOOSENED)
def test_every_loosened_guard_is_found(
    intruder: psycopg.Connection[Any], written: tuple[Home, str], what: str
) -> None:
    """Triggers, rights, owners, indexes, rules: the schema is this release's to the letter."""
    found = place(written[0])
    assert isinstance(found, PostgresSchema)
    do, undo = (
        each.replace("{writer}", found.roles.writer).replace("{schema}", found.name)
        for each in LOOSENED[what]
    )
    intruder.execute(do)
    is_green = verify(written[0]).is_green
    intruder.execute(undo)

    assert not is_green
