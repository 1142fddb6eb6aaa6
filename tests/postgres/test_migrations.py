"""Migrations on PostgreSQL: up, down, with data, equal to the models, and never without a backup."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

import appliance.accounts.tables
import appliance.audit.holds
import appliance.audit.tables  # noqa: F401 - models of every room, for the comparison
from appliance import db
from appliance.audit import query
from appliance.audit.fsck.postgres import EXPECTED_SCHEMA, PostgresSource, expected_schema
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.databases.postgres import PostgresSchema, parse
from tests.harness import appliance as program
from tests.needed import need
from tests.records import assert_verified, place
from tests.servers import GATEWAY, OWNER, Server

REVISIONS = [each.revision for each in db._script().walk_revisions()][::-1]


@pytest.fixture
def empty(server: Server, database: str) -> PostgresSchema:
    """Where nothing is yet, with the owner's login beside the gateway's."""
    return PostgresSchema(
        origin=f"{database}/audit/1",
        profile="dev",
        commit_timeout_seconds=2,
        parameters=parse(server.url(GATEWAY, database)),
        owner_parameters=parse(server.url(OWNER, database)),
    )


def owned(home: Home, server: Server, database: str) -> PostgresSchema:
    found = place(home)
    assert isinstance(found, PostgresSchema)
    return PostgresSchema(
        origin=found.origin,
        profile="dev",
        commit_timeout_seconds=2,
        parameters=found.parameters,
        owner_parameters=parse(server.url(OWNER, database)),
    )


def schema_of(found: PostgresSchema) -> dict[str, str]:
    with PostgresSource(found) as source:
        return source.schema()


def test_models_equal_the_newest_revision(empty: PostgresSchema) -> None:
    """What the code believes about tables is what the migrations make here too."""
    db.change_schema(empty, "head")
    with db.reading(empty) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, db.metadata)

    assert differences == []


def test_expected_schema_is_what_the_migrations_make(empty: PostgresSchema) -> None:
    """The file that `verify` compares with. Where it is old: python -m tests.postgres.schema writes it."""
    db.change_schema(empty, "head")

    assert schema_of(empty) == expected_schema()
    text = json.dumps(expected_schema(), indent=1, sort_keys=True) + "\n"
    assert EXPECTED_SCHEMA.read_text() == text


def test_each_revision_goes_up_and_down_again(empty: PostgresSchema) -> None:
    """Down from a revision gives back exactly the schema before it, rights included."""
    shapes = {}
    for revision in REVISIONS:
        db.change_schema(empty, revision)
        shapes[revision] = schema_of(empty)
    for before, revision in zip(reversed(REVISIONS[:-1]), reversed(REVISIONS), strict=False):
        assert schema_of(empty) == shapes[revision]
        db.change_schema(empty, before)
        assert schema_of(empty) == shapes[before]
    db.change_schema(empty, "base")
    with db.reading(empty) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    db.change_schema(empty, "head")
    assert schema_of(empty) == shapes[REVISIONS[-1]]


def test_upgrade_makes_a_backup_first_and_is_on_the_record(server: Server, database: str, home: Home) -> None:
    """By the owner's login, with pg_dump's copy in the home; the gateway's own login may not."""
    before_last = REVISIONS[-2]
    db.change_schema(owned(home, server, database), before_last)
    refused = program("db", "upgrade", home=home, check=False)
    assert refused.returncode == 3
    assert "changed by its owner, owner" in refused.stderr
    assert "--owner-url" in refused.stderr
    program("db", "upgrade", "--owner-url", server.url(OWNER, database), home=home)

    (upgraded,) = query.search(place(home), kind=Kind.DATABASE_UPGRADED)
    assert upgraded.public["from_revision"] == before_last
    backups = list(home.backups.iterdir())
    assert upgraded.public["backup_sha256"] in {db.digest_of(path) for path in backups}
    assert all(path.stat().st_mode & 0o077 == 0 for path in backups)
    assert_verified(home)
    assert "current" in program("db", "status", home=home).stdout


def test_newer_schema_is_refused(server: Server, database: str, home: Home) -> None:
    """A database of a newer release is left alone."""
    found = place(home)
    assert isinstance(found, PostgresSchema)
    with server.connect(database) as admin:
        admin.execute(f"UPDATE {found.name}.alembic_version SET version_num = '9999'")
    for command in (("init",), ("serve", "--port", "0"), ("db", "upgrade")):
        done = program(*command, home=home, check=False)
        assert done.returncode == 3
        assert "does not know" in done.stderr


def test_missing_schema_beside_a_head_file_is_no_fresh_start(
    server: Server, database: str, home: Home
) -> None:
    """Where there was a log, its absence is told and not papered over."""
    found = place(home)
    assert isinstance(found, PostgresSchema)
    with server.connect(database) as admin:
        admin.execute(f"DROP SCHEMA {found.name} CASCADE")
    owner = ("--owner-url", server.url(OWNER, database))
    for command in (
        ("init", *owner),
        ("serve", "--port", "0"),
        ("audit", "verify"),
        ("db", "upgrade", *owner),
    ):
        done = program(*command, home=home, check=False)
        assert done.returncode == 3, done.stdout
        assert "database is missing" in done.stderr
    assert not found.exists()


def test_backup_restores_to_the_same_record(server: Server, database: str, home: Home) -> None:
    """pg_dump's copy, restored into another database by its owner, verifies; its making is on the record."""
    need("pg_restore", package="postgresql-client")
    program("key", "create", "lobby", "--role", "kiosk", home=home)
    saved = json.loads(program("db", "backup", "--json", home=home).stdout)
    (copied,) = query.search(place(home), kind=Kind.DATABASE_BACKED_UP)
    assert copied.public["backup_sha256"] == saved["sha256"] == db.digest_of(Path(saved["backup"]))

    other = server.new_database()
    subprocess.run(
        ["pg_restore", f"--dbname={server.url('admin', other)}", "--exit-on-error", saved["backup"]],
        check=True,
        capture_output=True,
    )
    copy = Home(root=home.root.with_name("copy"))
    shutil.copytree(home.root, copy.root)
    copy.config.write_text(copy.config.read_text().replace(f"/{database}?", f"/{other}?"))
    done = program("audit", "verify", home=copy, check=False)
    # It is whole, but older than the head file remembers: its own making came behind it.
    assert done.stdout.count("\n") == 2, done.stdout + done.stderr
    assert "longer once" in done.stdout
    assert [each.kind for each in query.search(place(copy), limit=1000)] == [
        each.kind for each in query.search(place(home), limit=1000)
    ][-len(query.search(place(copy), limit=1000)) :]


def test_without_pg_dump_the_operator_is_told_what_to_run(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is upgraded without a copy; the message is the command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    done = program("db", "backup", home=home, check=False)

    assert done.returncode == 3
    assert "pg_dump --format=custom --schema=log_" in done.stderr
    assert list(home.backups.iterdir()) == []
