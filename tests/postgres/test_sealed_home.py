"""A sealed home whose record lies on a server: neither the home nor the server opens anything by itself."""

from __future__ import annotations

import json
from pathlib import Path

from appliance import keyring, resealing
from appliance.config import Home
from appliance.resealing import NewWay
from tests.harness import appliance as program
from tests.records import assert_verified
from tests.sealed import CREDENTIAL, found_on, opened_by, secrets_of
from tests.servers import Server


def test_sealed_beside_a_server(server: Server, database: str, home: Home, tmp_path: Path) -> None:
    """Sealed on the record, refused without the credential, opened with it; the dump holds no key."""
    secrets = secrets_of(home)
    (home.keys / keyring.RECOVERY).rename(tmp_path / keyring.RECOVERY)
    credential = tmp_path / "credential"
    credential.write_text(CREDENTIAL)
    unlock = ("--unlock", str(credential))
    program("secrets", "seal", "--with", str(credential), home=home)
    refused = program("key", "list", home=home, check=False)
    assert (refused.returncode, "nothing that opens it" in refused.stderr) == (3, True)
    program("key", "create", "lobby", "--role", "kiosk", *unlock, home=home)
    program("db", "backup", *unlock, home=home)
    assert_verified(home)
    opened = opened_by(home.root, CREDENTIAL)
    assert secrets.items() <= secrets_of(opened).items()
    assert found_on(home.root, secrets_of(opened)) == set()
    resealing.rotate(opened, NewWay(CREDENTIAL, "again"))
    told = json.loads(program("secrets", "status", "--json", home=home).stdout)
    assert [each["name"] for each in told["slots"]] == ["again"]
