"""The drill: a backup beside a serving gateway, a machine that is gone, and another one in its place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway
from tests.records import assert_verified
from tests.restored import renamed
from tests.starter import link_into

pytestmark = pytest.mark.integration


def carry_away(running: Gateway, shelf: Path) -> dict[str, str]:
    """`appliance db backup` beside the gateway; its files and the identities on a shelf."""
    told: dict[str, str] = json.loads(appliance("db", "backup", "--json", home=running.home).stdout)
    shelf.mkdir(exist_ok=True)
    carried = {name: str(shelf / Path(told[name]).name) for name in ("backup", "shares", "box")}
    for path in (*(Path(told[name]) for name in carried), *running.home.keys.glob("*.identity")):
        shutil.copy2(path, shelf)
    return carried


def test_a_lost_machine_comes_back(tmp_path: Path) -> None:
    """From box, copies and recovery identity alone: it serves, keys work, old answers open, all is green."""
    shelf = tmp_path / "shelf"
    with gateway(tmp_path / "home") as running:
        running.chat("echo: canary-before")
        carried = carry_away(running, shelf)
        assert running.chat("echo: canary-behind").status_code == 200  # nobody stops for a backup
        receipt = query.search(running.home.database, kind=Kind.REQUEST_OPENED, limit=10)[-1].seq
        running.stop()
        shutil.rmtree(running.home.root)

        home = Home(tmp_path / "new")
        restored = appliance(
            "db", "restore-box", carried["box"], "--identity", str(shelf / "recovery.identity"), home=home
        )
        assert "must never serve again" in restored.stderr
        assert "--head" in restored.stderr
        assert str(home.root) in restored.stdout
        link_into(home)  # as a bundle brings it
        again = Gateway(home=home, _keys=running._keys).start()
        try:
            assert again.chat("echo: canary-after").status_code == 200  # with a key of the lost machine
            assert Role.KIOSK in again._keys
            shown = appliance(
                "audit", "show", str(receipt), "--identity", str(shelf / "dev-auditor.identity"), home=home
            )
            assert "canary-before" in shown.stdout
            assert "box" in json.loads(appliance("db", "backup", "--json", home=home).stdout)
        finally:
            again.stop()
        assert_verified(home)
        assert [len(query.search(home.database, kind=kind)) for kind in (
            Kind.BOX_RESTORED, Kind.DATABASE_RESTORED, Kind.SHARES_RESTORED,
        )] == [1, 1, 1]  # fmt: skip


def test_an_older_copy_takes_the_ceremony(tmp_path: Path) -> None:
    """Monday's copy of the database, Tuesday's box: closed, until the auditors agree to begin anew."""
    shelf = tmp_path / "shelf"
    with gateway(tmp_path / "home") as running:
        running.chat("echo: canary-monday")
        monday = carry_away(running, shelf)
        running.chat("echo: canary-tuesday")
        tuesday = carry_away(running, shelf)
        running.stop()
        shutil.rmtree(running.home.root)
        home = Home(tmp_path / "new")
        recovery, dev = str(shelf / "recovery.identity"), str(shelf / "dev-auditor.identity")

        wrong = appliance("db", "restore-box", tuesday["box"], "--identity", dev, home=home, check=False)
        assert (wrong.returncode, "not sealed to this identity" in wrong.stderr) == (1, True)
        told = json.loads(
            appliance("db", "restore-box", tuesday["box"], "--identity", recovery, "--database",
                      monday["backup"], "--json", home=home).stdout
        )  # fmt: skip
        assert (told["closed"], told["shares"]) == ("rolled_back", None)
        link_into(home)
        refused = appliance("serve", "--port", "0", home=home, check=False)
        assert (refused.returncode, "begin-anew" in refused.stderr) == (3, True)
        act = str(tmp_path / "restore.act")
        appliance("audit", "begin-anew", "--reason", "machine lost", "--out", act, home=home)
        appliance("auditor", "sign", act, "--identity", dev)
        begun = json.loads(appliance("auditor", "apply", act, "--json", home=home).stdout)
        renamed(home, told["origin"], begun["origin"])
        appliance("db", "restore-shares", tuesday["shares"], "--identity", recovery, home=home)

        again = Gateway(home=home, _keys=running._keys).start()
        try:
            assert again.chat("echo: canary-new").status_code == 200
        finally:
            again.stop()
        assert_verified(home)
        again_told = json.loads(appliance("db", "backup", "--json", home=home).stdout)
        assert again_told["archived"] == [begun["archive"]]
        archived = str(Path(begun["archive"]) / "appliance.db")
        assert "green" in appliance("audit", "verify", "--database", archived, home=home).stdout
