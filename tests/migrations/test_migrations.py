"""Migrations are promises: up, down, with data, equal to the models, and never without a backup."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, String, create_engine, inspect, pool, text

import appliance.accounts.tables
import appliance.audit.tables
from appliance import config, db
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.files import Latch
from appliance.audit.kinds import Kind
from appliance.cli.init import initialise
from appliance.config import Home
from appliance.core import Role
from tests.clocks import ManualClock
from tests.harness import appliance as program
from tests.homes import make_home
from tests.records import assert_verified
from tests.searched import write

REVISIONS = [each.revision for each in db._script().walk_revisions()][::-1]


@pytest.fixture
def memory() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=pool.StaticPool)
    yield engine
    engine.dispose()


def shape(path: Path) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return dict(
            connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        )


def test_models_equal_the_newest_revision(memory: Engine) -> None:
    """What the code believes about tables is what the migrations make."""
    with memory.begin() as connection:
        db.migrate(connection, "head")
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, db.metadata)

    assert differences == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_goes_up_and_down_again(memory: Engine, revision: str) -> None:
    """Down from a revision gives back exactly the schema before it."""
    at = REVISIONS.index(revision)
    before = REVISIONS[at - 1] if at else "base"
    with memory.begin() as connection:
        if before != "base":
            db.migrate(connection, before)
        earlier = set(inspect(connection).get_table_names()) - {"alembic_version"}
        db.migrate(connection, revision)
        db.migrate(connection, before)
        later = set(inspect(connection).get_table_names()) - {"alembic_version"}

    assert later == earlier


def test_downgrade_and_upgrade_keep_the_record(tmp_path: Path) -> None:
    """The log's rows come through 0002 down and up again untouched."""
    home = make_home(tmp_path / "home")
    engine = db.at(home.database).migrator()
    with engine.begin() as connection:
        before = connection.execute(text("SELECT hdr FROM log_entry")).scalars().all()
        db.migrate(connection, "0001")
    with engine.begin() as connection:
        db.migrate(connection, "head")
        after = connection.execute(text("SELECT hdr FROM log_entry")).scalars().all()
    engine.dispose()

    assert before == after
    assert_verified(home)


@pytest.mark.parametrize("revision", ["0005", "0006"])
def test_columns_of_older_entries_are_filled_from_their_headers(tmp_path: Path, revision: str) -> None:
    """What a search walks along is there for entries of earlier releases too; verify finds it right."""
    home = make_home(tmp_path / "home")
    write(home)
    columns = "prev, code, prompt_tokens, completion_tokens, bi_session, bi_addr"
    query_all = text(f"SELECT seq, {columns} FROM log_entry ORDER BY seq")
    engine = db.at(home.database).migrator()
    with engine.begin() as connection:
        before = connection.execute(query_all).all()
        db.migrate(connection, revision)
    with engine.begin() as connection:
        db.migrate(connection, "head")
        after = connection.execute(query_all).all()
    engine.dispose()

    assert before == after
    assert all(any(row[column] is not None for row in after) for column in range(1, 7))
    assert_verified(home)


def older_home(tmp_path: Path) -> Home:
    """A home as a release with revision 0001 left it."""
    home = make_home(tmp_path / "home")
    engine = db.at(home.database).migrator()
    with engine.begin() as connection:
        db.migrate(connection, "0001")
    engine.dispose()
    return home


def test_serve_refuses_an_older_schema_and_says_what_to_do(tmp_path: Path) -> None:
    """Nothing is upgraded in passing."""
    done = program("serve", "--port", "0", home=older_home(tmp_path), check=False)

    assert done.returncode == 3
    assert "appliance db upgrade" in done.stderr


@pytest.mark.parametrize("command", [("db", "upgrade"), ("init",)])
def test_upgrade_makes_a_backup_first_and_is_on_the_record(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The old database lies whole in backups, and the record tells its digest."""
    home = older_home(tmp_path)
    old_shape = shape(home.database)
    program(*command, home=home)
    backups = list(home.backups.iterdir())

    assert [shape(path) for path in backups] == [old_shape]
    found = query.search(home.database, kind=Kind.DATABASE_UPGRADED)
    assert [(each.public["from_revision"], each.public["to_revision"]) for each in found] == [
        ("0001", REVISIONS[-1])
    ]
    assert_verified(home)
    assert "current" in program("db", "status", home=home).stdout


@pytest.mark.parametrize("command", [("db", "upgrade"), ("init",)])
def test_latched_record_is_not_upgraded(tmp_path: Path, command: tuple[str, ...]) -> None:
    """An upgrade is an entry: behind the latch only recovery writes one."""
    home = older_home(tmp_path)
    Latch(home.latch).set("a test")
    before = home.database.read_bytes(), home.head.read_bytes()
    done = program(*command, home=home, check=False)

    assert done.returncode == 3
    assert "the log is closed: a test" in done.stderr
    assert "appliance audit recover" in done.stderr
    assert (home.database.read_bytes(), home.head.read_bytes()) == before


@pytest.mark.parametrize("command", [("init",), ("serve", "--port", "0"), ("db", "upgrade")])
def test_newer_schema_is_refused(home: Home, command: tuple[str, ...]) -> None:
    """A database of a newer release is left alone."""
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = home.database.read_bytes()
    done = program(*command, home=home, check=False)

    assert done.returncode == 3
    assert "does not know" in done.stderr
    assert home.database.read_bytes() == before


@pytest.mark.parametrize("command", [("init",), ("serve", "--port", "0"), ("audit", "verify")])
def test_missing_database_beside_a_head_file_is_no_fresh_start(home: Home, command: tuple[str, ...]) -> None:
    """Where there was a log, its absence is told and not papered over."""
    home.database.unlink()
    done = program(*command, home=home, check=False)

    assert done.returncode == 3
    assert not home.database.exists()


def test_backup_of_a_running_log_verifies(home: Home) -> None:
    """A copy made beside the writer is a whole record of its moment."""
    clock = ManualClock()
    with open_log_alone(home, config.load(home), clock) as alone:
        assert alone.directory.all() == []
        path = db.backup(home, db.at(home.database), clock, note="test")
    done = program("audit", "verify", "--database", str(path), home=home, check=False)

    # Only the head file, which belongs to the live database, knows of later entries.
    assert done.stdout.count("\n") == 2
    assert "longer once" in done.stdout


def test_init_twice_changes_nothing(home: Home) -> None:
    """`init` is idempotent: keys, policy and configuration stay."""
    kept = [
        home.config,
        home.keys / "log.ed25519",
        home.keys / "shares-1.kek",
        home.shares,
        home.keys / "dev-auditor.identity",
    ]
    before = [path.read_bytes() for path in kept]
    again = initialise(home, profile="dev")

    assert again["created"] is False
    assert [path.read_bytes() for path in kept] == before


def test_production_needs_auditors_and_tls(tmp_path: Path) -> None:
    """No identity is made in production, and nothing is served in the clear."""
    home = Home(root=tmp_path / "home")
    done = program("init", "--profile", "production", home=home, check=False)
    assert done.returncode == 3
    assert "auditor keygen" in done.stderr

    program("auditor", "keygen", "alice", "--out", str(tmp_path))
    public = str(tmp_path / "alice.recipient")
    refused = program("init", "--profile", "production", "--auditor", public, home=home, check=False)
    assert "TLS" in refused.stderr
    config_text = home.config.read_text().replace('tls_certificate = ""', 'tls_certificate = "c.pem"')
    home.config.write_text(config_text.replace('tls_key = ""', 'tls_key = "k.pem"'))
    missing = program("init", home=home, check=False)
    assert "auditor keygen" in missing.stderr
    program("init", "--auditor", public, home=home)
    assert "alice" in program("auditor", "list", home=home).stdout
    assert not (home.keys / "dev-auditor.identity").exists()


def test_roles_fit_their_column() -> None:
    """The table holds every role."""
    width = appliance.accounts.tables.api_key.c.role.type
    assert isinstance(width, String)
    assert all(len(role) <= (width.length or 0) for role in Role)
