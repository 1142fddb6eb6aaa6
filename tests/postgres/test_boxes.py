"""A home whose record lies on a server comes back: pg_restore before the box file, or behind it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.databases.postgres import PostgresSchema
from tests.harness import appliance as program
from tests.needed import need
from tests.records import assert_verified, place
from tests.servers import Server


@pytest.mark.parametrize("is_first", [True, False], ids=["dump first", "box first"])
def test_lost_home_comes_back(
    server: Server, database: str, home: Home, tmp_path: Path, *, is_first: bool
) -> None:
    """Settings, keys and head from the box, the record from its dump, the shares behind both."""
    need("pg_restore", package="postgresql-client")
    program("key", "create", "lobby", "--role", "kiosk", home=home)
    saved = json.loads(program("db", "backup", "--json", home=home).stdout)
    shelf = tmp_path / "shelf"
    shutil.copytree(home.backups, shelf)
    shutil.copy(home.keys / "recovery.identity", shelf)
    box, dump, shares = (str(shelf / Path(saved[each]).name) for each in ("box", "backup", "shares"))
    schema = place(home)
    assert isinstance(schema, PostgresSchema)
    identity = ("--identity", str(shelf / "recovery.identity"))
    shutil.rmtree(home.root)
    with server.connect(database) as admin:
        admin.execute(f"DROP SCHEMA {schema.name} CASCADE")

    def restore_dump() -> None:
        url = server.url("admin", database)
        command = ["pg_restore", f"--dbname={url}", "--exit-on-error", dump]
        subprocess.run(command, check=True, capture_output=True)

    refused = program("db", "restore-box", box, *identity, "--database", dump, home=home, check=False)
    assert (refused.returncode, "lies on a server" in refused.stderr) == (3, True)
    if is_first:
        restore_dump()
    told = json.loads(program("db", "restore-box", box, *identity, "--json", home=home).stdout)
    if is_first:
        assert (told["awaited"], told["shares"] > 0) == ("", True)
    else:
        assert ("pg_restore" in told["awaited"], told["shares"]) == (True, None)
        restore_dump()
        program("db", "restore-shares", shares, *identity, home=home)

    assert [len(query.search(place(home), kind=kind)) for kind in (
        Kind.BOX_RESTORED, Kind.SHARES_RESTORED, Kind.DATABASE_RESTORED,
    )] == [1, 1, 0]  # fmt: skip
    assert "lobby" in program("key", "list", home=home).stdout
    assert_verified(home)
