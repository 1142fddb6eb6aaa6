"""A backup, a loss, a restoration and a new beginning, as operator and auditors do it at their terminals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway
from tests.records import assert_verified
from tests.restored import content_of, renamed

pytestmark = pytest.mark.integration


def told(home: Home, *arguments: str) -> dict[str, str]:
    """The JSON that a command prints."""
    found: dict[str, str] = json.loads(appliance(*arguments, "--json", home=home).stdout)
    return found


def test_new_beginning(tmp_path: Path) -> None:
    """The older copy is served by nobody before a quorum agreed; then keys work and old answers open."""
    with gateway(tmp_path / "home") as running:
        home = running.home
        kept = running.chat("echo: canary-kept")
        backup = told(home, "db", "backup")
        assert "shares-" in backup["shares"]
        lost = running.chat("echo: canary-lost")
        running.stop()
        restored = appliance("db", "restore", backup["backup"], home=home)
        assert "rolled_back" in restored.stdout
        dev = str(home.keys / "dev-auditor.identity")
        appliance("auditor", "keygen", "mallory", "--out", str(tmp_path))

        refused = appliance("serve", "--port", "0", home=home, check=False)
        assert (refused.returncode, "begin-anew" in refused.stderr) == (3, True)
        act = str(tmp_path / "restore.act")
        appliance("audit", "begin-anew", "--reason", "disk lost", "--out", act, home=home)
        appliance("auditor", "sign", act, "--identity", str(tmp_path / "mallory.identity"))
        few = appliance("auditor", "apply", act, home=home, check=False)
        assert (few.returncode, "0 valid signatures" in few.stderr) == (1, True)
        appliance("auditor", "sign", act, "--identity", dev)
        begun = told(home, "auditor", "apply", act)
        misnamed = appliance("serve", "--port", "0", home=home, check=False)
        assert (misnamed.returncode, begun["origin"] in misnamed.stderr) == (3, True)
        old_origin = kept.headers["x-audit-record"].rpartition("/")[0]
        renamed(home, old_origin, begun["origin"])

        again = Gateway(home=home, _keys=running._keys).start()
        try:
            assert again.chat("echo: canary-new").status_code == 200  # the key of before
            check_old_log(home, tmp_path, begun["archive"], kept.headers["x-audit-record"], dev)
            gone = appliance("audit", "show", lost.headers["x-audit-record"], home=home, check=False)
            assert (gone.returncode, "is lost" in gone.stderr) == (2, True)
            assert Role.KIOSK in again._keys
        finally:
            again.stop()
        assert_verified(home)


def check_old_log(home: Home, folder: Path, archive: str, receipt: str, dev: str) -> None:
    """Verified with its own key, read through a release on the new record; a bent one is found out."""
    database = str(Path(archive) / "appliance.db")
    release = str(folder / "old.release")
    archived = appliance("audit", "show", receipt, home=home, check=False)
    assert (archived.returncode, "lies in the archive" in archived.stderr) == (2, True)
    assert "green" in appliance("audit", "verify", "--database", database, home=home).stdout
    seq = receipt.rpartition("/")[2]
    appliance("audit", "release", seq, "--database", database, "--purpose", "court order",
              "--case", "2026-17", "--out", release, home=home)  # fmt: skip
    (entry,) = query.search(home.database, kind=Kind.AUDIT_RELEASED)
    assert entry.public["num_shares"] == 1
    said = content_of(home, home.database, entry.seq)
    assert isinstance(said, dict)
    assert (said["purpose"], said["case"], said["targets"]) == ("court order", "2026-17", [seq])
    shown = appliance("audit", "show", seq, "--database", database, "--release", release, "--identity", dev,
                      home=home)  # fmt: skip
    assert "canary-kept" in shown.stdout
    assert "NOT INCLUDED" not in shown.stdout


def test_ceremony_waits_for_the_gateway_to_end(tmp_path: Path) -> None:
    """While one serves, neither a database nor a log is exchanged under it."""
    with gateway(tmp_path / "home") as running:
        backup = told(running.home, "db", "backup")
        busy = appliance("db", "restore", backup["backup"], home=running.home, check=False)
        assert (busy.returncode, "another appliance process" in busy.stderr) == (3, True)
        whole = appliance("audit", "begin-anew", "--reason", "r", "--out", str(tmp_path / "a.act"),
                          home=running.home, check=False)  # fmt: skip
        assert (whole.returncode, "this log goes on" in whole.stderr) == (2, True)
