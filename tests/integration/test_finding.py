"""Search by name, over months whose index keys the appliance no longer has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import blind, entry, query
from appliance.audit.kinds import Kind
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import Delta
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


def test_sessions_addresses_and_ends_are_found(tmp_path: Path) -> None:
    """By what the caller names and where the call came from; with an outcome the exchange's end."""
    with gateway(tmp_path / "home") as running:
        home = running.home
        for _ in range(2):
            running.chat("echo: x", metadata={"session_id": "visit-1"})
        running.chat("echo: x", prompt_cache_key="visit-2")
        openings = [each.seq for each in query.search(home.database, kind=Kind.REQUEST_OPENED)][::-1]
        closings = [each.seq for each in query.search(home.database, kind=Kind.REQUEST_CLOSED)][::-1]

        assert found(home, "--session", "visit-1") == openings[:2]
        assert found(home, "--session", "visit-2") == openings[2:]
        assert found(home, "--session", "visit-1", "--outcome", "stop") == closings[:2]
        assert found(home, "--session", "visit-1", "--outcome", "failed") == []
        assert found(home, "--address", "127.0.0.1", "--kind", "request:opened") == openings
        assert found(home, "--address", "127.0.0.2") == []
        assert found(home, "--min-prompt-tokens", "1") == closings
        assert found(home, "--max-prompt-tokens", "0") == []
        options = ("audit", "search", "--kind", "request:opened", "--limit", "2", "--json")
        first = json.loads(appliance(*options, home=home).stdout)
        second = json.loads(appliance(*options, "--cursor", first["next_cursor"], home=home).stdout)
        assert [each["seq"] for each in first["entries"] + second["entries"]] == openings[::-1]
        assert second["next_cursor"] is None


def test_text_is_found_in_questions_and_answers(home: Home) -> None:
    """On the border of two pieces too, whatever the case of its letters; shares are released first."""
    with open_log_alone(home, config.load(home), ManualClock(SystemClock().now_us())) as alone:
        asked = replace(
            said("Where is FORM twelve?"),
            kind=Kind.REQUEST_OPENED,
            public={"endpoint": "chat", "model": "m", "model_sha256": "0" * 64, "stream": 1},
            request_id="req_asked",
        )
        opening = alone.audit.append_sync(asked)
        for number, piece in enumerate(("It is on the sec", "ond floor")):
            alone.audit.append_sync(
                entry.segment("req_asked", opening.seq, number, Delta(piece, 1), subject=str(asked.subject))
            )
        other = alone.audit.append_sync(said("nothing of it", "other"))

    def hits(text: str, *options: str) -> list[tuple[list[int], list[str]]]:
        told = appliance("audit", "search", "--text", text, "--json", *options, home=home)
        return [
            (each["seqs"], [hit["where"] for hit in each["hits"]])
            for each in json.loads(told.stdout)["matches"]
        ]

    ((seqs, where),) = hits("SECOND floor", "--purpose", "case 7")
    assert (seqs[0], where) == (opening.seq, ["answer"])
    assert [seqs for seqs, _ in hits("form TWELVE")] == [seqs]
    assert hits("form twelve", "--user", "other") == []
    assert [seqs for seqs, _ in hits("nothing", "--user", "other")] == [[other.seq]]
    assert hits("not there at all") == []
    released = query.search(home.database, kind=Kind.AUDIT_RELEASED)
    assert len(released) == 5
    short = appliance("audit", "search", "--text", "x", home=home, check=False)
    assert short.returncode == 2


def test_volume_holds_for_the_command_line_too(home: Home) -> None:
    """Above the limit nothing is shown, and the record says so once."""
    limits = "searches_per_hour = 2\nreads_per_hour = 1\n"
    home.config.write_text(home.config.read_text().replace("[audit]\n", "[audit]\n" + limits, 1))
    appliance("audit", "search", home=home)
    appliance("audit", "search", home=home)
    for _ in range(2):
        refused = appliance("audit", "search", home=home, check=False)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert "of an hour" in refused.stderr
    appliance("audit", "show", "0", home=home)
    assert appliance("audit", "show", "0", home=home, check=False).returncode == 4
    assert [each.public["code"] for each in query.search(home.database, kind=Kind.LOG_ALARM)] == [
        "reading_volume"
    ] * 2
