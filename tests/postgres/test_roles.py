"""Who may do what: the gateway appends, auditors' tools read, and nobody's login does more."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from appliance import config, db
from appliance.alone import open_log_alone
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.databases.postgres import PostgresSchema
from appliance.databases.postgres_roles import Roles
from appliance.errors import SetupError
from tests.clocks import ManualClock
from tests.records import place
from tests.servers import GATEWAY, OWNER, Server, make_server_home
from tests.unit.audit.test_log import open_log, opening

APPEND_ONLY = (
    "log_entry", "log_payload", "node", "checkpoint", "epoch", "epoch_wrap", "key_policy", "erasure",
    "retention",
)  # fmt: skip
CHANGING = (
    "tree_head", "api_key", "account", "saved_search", "legal_hold", "witness", "cosignature",
    "hosted_identity", "drafted_act", "key_grant", "entrance", "key_terms", "document",
    "model", "alias", "evaluation",
)  # fmt: skip


def schema_of(home: Home) -> PostgresSchema:
    found = place(home)
    assert isinstance(found, PostgresSchema)
    return found


def as_role(server: Server, database: str, user: str, role: str, schema: str) -> psycopg.Connection[Any]:
    connection = server.connect(database, user, options=f"-c search_path={schema}")
    connection.execute(f"SET ROLE {role}")
    return connection


@pytest.fixture
def written(home: Home, clock: ManualClock) -> PostgresSchema:
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    log.close()
    return schema_of(home)


def acts_on(connection: psycopg.Connection[Any], table: str) -> list[str]:
    """Each way to lose rows of a table."""
    found = connection.execute(f"SELECT * FROM {table}")
    assert found.description is not None
    column = found.description[0].name
    return [f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table}"]


def test_writer_changes_and_removes_nothing(server: Server, database: str, written: PostgresSchema) -> None:
    """As the role that the gateway works as, no row of the record can be changed or removed."""
    with as_role(server, database, GATEWAY, written.roles.writer, written.name) as connection:
        for act in (act for table in APPEND_ONLY for act in acts_on(connection, table)):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(act)


def test_owner_is_stopped_by_triggers(server: Server, database: str, written: PostgresSchema) -> None:
    """Whoever has every right meets a trigger: an accident, not an attack, ends here."""
    with server.connect(database, options=f"-c search_path={written.name}") as connection:
        for act in (act for table in APPEND_ONLY for act in acts_on(connection, table)):
            with pytest.raises(errors.IntegrityConstraintViolation, match="append-only"):
                connection.execute(act)


def test_writer_removes_no_state(server: Server, database: str, written: PostgresSchema) -> None:
    """The newest checkpoint and state rows are replaced, never removed."""
    with as_role(server, database, GATEWAY, written.roles.writer, written.name) as connection:
        for act in (act for table in CHANGING for act in acts_on(connection, table)[1:]):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(act)


def test_every_table_has_its_rights(server: Server, database: str, written: PostgresSchema) -> None:
    """No table of a later revision is forgotten: each one is in one of the two lists."""
    with server.connect(database) as admin:
        rows = admin.execute(
            "SELECT relname, has_table_privilege(%s, oid, 'UPDATE') FROM pg_class "
            "WHERE relnamespace = %s::regnamespace AND relkind = 'r'",
            (written.roles.writer, written.name),
        ).fetchall()

    assert {name for name, may_update in rows if may_update} == set(CHANGING)
    assert {name for name, may_update in rows if not may_update} == {*APPEND_ONLY, "alembic_version"}


def test_reader_reads_and_does_nothing_else(server: Server, database: str, written: PostgresSchema) -> None:
    """An auditor's tool sees the record and can not add to it."""
    roles = written.roles
    with server.connect(database) as admin:
        admin.execute(f"CREATE ROLE tool_{database} LOGIN")
        admin.execute(f"GRANT {roles.reader} TO tool_{database}")
    with server.connect(database, f"tool_{database}", options=f"-c search_path={written.name}") as tool:
        row = tool.execute("SELECT count(*) FROM log_entry").fetchone()
        assert row is not None
        assert row[0] > 3
        for act in ("INSERT INTO node VALUES (0, 99, 'x')", "UPDATE tree_head SET size = 0"):
            with pytest.raises(errors.InsufficientPrivilege):
                tool.execute(act)
        with pytest.raises(errors.InsufficientPrivilege):
            tool.execute("SELECT delete_contents(0, '{1}')")


def test_our_own_reading_can_not_write(home: Home) -> None:
    """The appliance's readers are read-only twice: by their role and by their session."""
    with (
        db.reading(place(home)) as connection,
        pytest.raises(DBAPIError, match=r"read-only transaction|permission denied"),
    ):
        connection.execute(text("UPDATE tree_head SET size = 0"))


def test_contents_go_by_a_retention_alone(server: Server, database: str, written: PostgresSchema) -> None:
    """The only way to delete a content demands a retention that covers it, and that one its record."""
    with as_role(server, database, GATEWAY, written.roles.writer, written.name) as writer:
        rows = writer.execute("SELECT seq, kind, ts FROM log_entry JOIN log_payload USING (seq)").fetchall()
        seq, kind, ts = rows[-1]
        with pytest.raises(errors.InsufficientPrivilege):
            writer.execute("DELETE FROM log_payload")
        with pytest.raises(errors.IntegrityConstraintViolation):
            writer.execute("SELECT delete_contents(500, %s)", ([seq],))
        put = "INSERT INTO retention (seq, kind, from_ts, before_ts, kept) VALUES (500, %s, 0, %s, '')"
        with pytest.raises(errors.IntegrityConstraintViolation, match="not on the record"):
            writer.execute(put, (kind, ts + 1))  # a transaction of its own: the constraint speaks at its end
        # What an entry of this kind says is held against the row by verify; here a stand-in will do.
        writer.execute(
            "INSERT INTO log_entry (seq, ts, kind, hdr, leaf) VALUES (500, 0, 'retention:applied', '', '')"
        )
        writer.execute(put, (kind, ts + 1))
        others = [other for other, other_kind, _ in rows if other_kind != kind]
        for wrong in ([*others[:1], seq], [seq, 10_000]):
            with pytest.raises(errors.IntegrityConstraintViolation, match="does not cover"):
                writer.execute("SELECT delete_contents(500, %s::bigint[])", (wrong,))
        done = writer.execute("SELECT delete_contents(500, %s::bigint[])", ([seq, seq],)).fetchone()
        left = writer.execute("SELECT count(*) FROM log_payload WHERE seq = %s", (seq,)).fetchone()

    assert others
    assert (done, left) == ((1,), (0,))


def test_temporary_tables_forge_no_retention(server: Server, database: str, written: PostgresSchema) -> None:
    """The function that deletes looks at the real tables, whatever its caller puts in front."""
    with as_role(server, database, GATEWAY, written.roles.writer, written.name) as writer:
        row = writer.execute("SELECT max(seq) FROM log_payload").fetchone()
        assert row is not None
        writer.execute(
            "CREATE TEMPORARY TABLE retention AS "
            "SELECT 500::bigint AS seq, kind, ts AS from_ts, ts + 1 AS before_ts FROM log_entry"
        )
        with pytest.raises(errors.IntegrityConstraintViolation):
            writer.execute("SELECT delete_contents(500, %s)", ([row[0]],))


def test_login_without_membership_is_told_what_it_needs(
    server: Server, database: str, home: Home, clock: ManualClock
) -> None:
    """The error names the role and the statement."""
    roles = schema_of(home).roles
    with server.connect(database) as admin:
        admin.execute(f"REVOKE {roles.writer} FROM {GATEWAY}")
    with pytest.raises(SetupError) as refused:
        open_log(home, clock)

    assert refused.value.code == "database_role"
    assert f"GRANT {roles.writer} TO" in refused.value.hint


def test_owner_without_the_right_to_make_roles_gets_the_statements(
    server: Server, database: str, tmp_path: Any
) -> None:
    """Where the server's administrator makes roles, the error is what they have to run; then it works."""
    with server.connect(database) as admin:
        admin.execute(f"CREATE ROLE plain_{database} LOGIN")
        admin.execute(f"GRANT CREATE ON DATABASE {database} TO plain_{database}")
    owner_url = server.url(f"plain_{database}", database)
    with pytest.raises(SetupError) as refused:
        make_server_home(tmp_path / "home", server, database, owner_url=owner_url)
    assert refused.value.code == "database_role"
    statements = refused.value.hint.partition("runs: ")[2]
    assert "CREATE ROLE" in statements
    with server.connect(database) as admin:
        for statement in filter(None, statements.split("; ")):
            admin.execute(statement)
    home = make_server_home(tmp_path / "home", server, database, owner_url=owner_url)

    assert db.require_current(place(home)).revision


def test_production_refuses_a_login_that_owns_the_tables(
    server: Server, database: str, home: Home, clock: ManualClock
) -> None:
    """In dev it is told; in production a gateway that could change the record does not start."""
    text_ = home.config.read_text().replace(f"//{GATEWAY}@", f"//{OWNER}@")
    home.config.write_text(text_)
    with server.connect(database) as admin:
        admin.execute(f"GRANT {schema_of(home).roles.writer} TO {OWNER}")
    with open_log_alone(home, config.load(home), clock) as alone:
        assert alone.audit.is_ready
    strict = PostgresSchema(
        origin=config.load(home).audit.origin,
        profile="production",
        commit_timeout_seconds=2,
        parameters=schema_of(home).parameters,
    )
    with pytest.raises(SetupError) as refused:
        strict.open_writer()

    assert refused.value.code == "database_role"


def test_names_fit_and_differ() -> None:
    """Names of schema and roles are within the server's 63 bytes, need no quotes, and are one per origin."""
    origins = ["a" * 100, "a" * 99 + "b", "box.example/audit/1", "box_example/audit/1", "9/audit/1"]
    names = [PostgresSchema(origin, "dev", 2, {}).name for origin in origins]

    assert len(set(names)) == len(names)
    assert all(len(Roles(name).writer) <= 63 and name.isidentifier() for name in names)
    assert str(Kind.RETENTION_APPLIED) == "retention:applied"  # the server's function knows it by its text
