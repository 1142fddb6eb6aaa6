"""Search by name, over months whose index keys the appliance no longer has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance import config
from appliance.audit import blind, query
from appliance.audit.entry import Kind
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.services import open_log_alone
from tests.clocks import ManualClock
from tests.harness import appliance, gateway
from tests.restored import said

pytestmark = pytest.mark.integration
MONTH_US = 31 * 86_400_000_000


def found(home: Home, *options: str) -> list[int]:
    """Sequence numbers, oldest first."""
    told = appliance("audit", "search", "--limit", "100", "--json", *options, home=home)
    return [each["seq"] for each in json.loads(told.stdout)["entries"]][::-1]


def recorded(home: Home, month: int) -> list[int]:
    """Two entries of one person and one of another, in a month before this one."""
    clock = ManualClock(SystemClock().now_us() - month * MONTH_US)
    with open_log_alone(home, config.load(home), clock) as alone:
        mine = [alone.audit.append_sync(said("x", "citizen")).seq for _ in range(2)]
        alone.audit.append_sync(said("x", "other"))
    return mine


def test_person_is_found_over_months(home: Home) -> None:
    """This month by the appliance's key, earlier ones by the auditor's; each search is on the record."""
    old, older = recorded(home, 2), recorded(home, 1)
    now = recorded(home, 0)
    dev = str(home.keys / "dev-auditor.identity")
    assert len(list(home.keys.glob("index-*"))) == 1

    assert found(home, "--user", "citizen") == now
    assert query.search(home.database, kind=Kind.AUDIT_RELEASED) == []
    assert found(home, "--user", "citizen", "--identity", dev) == [*old, *older, *now]
    (released,) = query.search(home.database, kind=Kind.AUDIT_RELEASED)
    assert released.public["num_records"] == 2
    assert len(query.search(home.database, kind=Kind.AUDIT_SEARCHED)) == 2
    both = found(home, "--user", "citizen", "--key", "key", "--identity", dev)
    assert both == [*old, *older, *now]
    assert found(home, "--user", "citizen", "--key", "another", "--identity", dev) == []
    warned = appliance("audit", "search", "--user", "citizen", home=home)
    assert "under this month" in warned.stderr


def test_lost_key_of_this_month(home: Home) -> None:
    """Where the appliance lost its key and made another, the auditor finds what both index."""
    first = recorded(home, 0)
    next(home.keys.glob("index-*")).unlink()
    second = recorded(home, 0)
    dev = str(home.keys / "dev-auditor.identity")
    assert found(home, "--user", "citizen") == second
    assert found(home, "--user", "citizen", "--identity", dev) == [*first, *second]
    next(home.keys.glob("index-*")).unlink()
    assert found(home, "--user", "citizen", "--identity", dev) == [*first, *second]


def test_running_gateway_answers(tmp_path: Path) -> None:
    """Beside a gateway; a stranger's identity opens nothing; a copy is not searched by name."""
    with gateway(tmp_path / "home") as running:
        home = running.home
        before = found(home)
        answer = running.chat("echo: x", user="citizen-17")
        assert answer.status_code == 200
        mine = found(home, "--user", "citizen-17")
        assert mine
        assert not set(mine) & set(before)
        assert all(each.header.bi for each in query.search(home.database, limit=100) if each.seq in mine)
        (key,) = home.keys.glob("index-*")
        assert key.name == f"index-{blind.month_of(SystemClock().now_us())}.key"
        copy = tmp_path / "copy.db"
        copy.write_bytes(home.database.read_bytes())
        refused = appliance("audit", "search", "--user", "x", "--database", str(copy), home=home, check=False)
        assert refused.returncode == 2
