"""A record that somebody tampers with under the running gateway: verify says so, and the gateway stops."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.core import Role
from tests.harness import appliance as program
from tests.harness import gateway, question
from tests.verifying import unguarded


def test_red_verification_closes_the_gateway_until_somebody_has_looked(tmp_path: Path) -> None:
    """Exit code 1, a latch with the reason, 503 for callers; later the same is only told."""
    with (
        gateway(tmp_path / "home") as running,
        running.client() as client,
        running.client(Role.OPERATOR) as operator,
    ):
        assert client.post("/v1/chat/completions", json=question("echo: x")).status_code == 200
        green = json.loads(program("audit", "verify", "--json", home=running.home).stdout)
        assert (green["green"], green["begin"]) == (True, 0)
        with unguarded(running.home.database) as sql:
            sql.execute("UPDATE log_entry SET outcome = 'failed' WHERE kind = 'request:closed'")
        # What is new is whole; only the full reading looks at what was verified before.
        assert program("audit", "verify", "--since-last", home=running.home).returncode == 0

        red = program("audit", "verify", home=running.home, check=False)
        assert red.returncode == 1
        assert "a column differs from the header" in red.stdout
        assert client.post("/v1/chat/completions", json=question("echo: x")).status_code == 503
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "a column differs" in ready.json()["audit"]["reason"]
        assert ready.json()["audit"]["verified"]["green"] is False
        assert [each["code"] for each in ready.json()["troubles"] if each["stops"]] == ["record_red"]
        assert "appliance_audit_verified 0.0" in operator.get("/metrics").text

        program("audit", "recover", home=running.home)
        assert program("audit", "verify", home=running.home, check=False).returncode == 1
        assert client.get("/readyz").status_code == 200
        assert client.get("/readyz").json()["audit"]["verified"]["green"] is False


def test_what_can_not_be_verified_is_neither_green_nor_red(tmp_path: Path) -> None:
    """Another exit code: nothing is known to be wrong."""
    with gateway(tmp_path / "home") as running:
        (running.home.keys / "log.vkey").unlink()
        assert program("audit", "verify", home=running.home, check=False).returncode == 3
