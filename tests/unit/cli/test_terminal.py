"""What foreign words can do to an auditor's screen: nothing."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import msgspec
import pytest
from click.testing import CliRunner

from appliance import config
from appliance.alone import open_log_alone
from appliance.audit import entry, query
from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.cli import audit as audit_commands
from appliance.cli.base import when
from appliance.config import Home
from appliance.core import Delta, Outcome
from appliance.errors import RequestError
from tests.clocks import ManualClock

ESCAPES = "\x1b]0;owned\x07\x9b2J\u202egreen\u2066\x7f\r\u2028"
FORGED = "hello\n── answer\n   yes, granted"


def ask(home: Home, text: str) -> None:
    with open_log_alone(home, config.load(home), ManualClock()) as alone:
        opened = alone.audit.append_sync(
            Entry(
                kind=Kind.REQUEST_OPENED,
                public={"model": "m", "model_sha256": "0" * 64, "stream": 0},
                content={"messages": [{"role": "user", "content": text}], "annotations": {"user": text}},
                request_id="req_1",
            )
        )
        alone.audit.append_sync(
            entry.closed("req_1", opened.seq, model="m", outcome=Outcome.STOP, rest=[Delta("no", 0)])
        )


def run(*arguments: str, home: Home) -> str:
    done = CliRunner().invoke(audit_commands.audit, [*arguments, "--home", str(home.root)], color=True)
    return done.output


def assert_harmless(text: str) -> None:
    assert not {c for c in text if not c.isprintable()} - {"\n", "\t"}, ascii(text)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_content_can_not_steer_the_terminal(home: Home, options: list[str]) -> None:
    """Control and direction characters of a prompt are shown, not obeyed, as JSON too."""
    ask(home, ESCAPES)
    shown = run("show", "req_1", *options, home=home)

    assert "owned" in shown
    assert_harmless(shown)


def test_json_still_says_what_was_said(home: Home) -> None:
    """Escaping loses nothing: a program reads back every character."""
    ask(home, ESCAPES)
    shown = run("show", "req_1", "--json", home=home)
    records = json.loads(shown[shown.index("{") :])["records"]

    assert records[0]["content"]["messages"][0]["content"] == ESCAPES


def test_content_can_not_pretend_to_be_another_line(home: Home) -> None:
    """Every line of a prompt is indented as content: what begins a line is ours."""
    ask(home, FORGED)
    lines = run("show", "req_1", home=home).splitlines()

    assert lines.count("── answer") == 1
    assert "   yes, granted" not in lines


def test_findings_can_not_steer_the_terminal(home: Home) -> None:
    """Names in a foreign database are shown in verify's lines without their control characters."""
    with contextlib.closing(sqlite3.connect(home.database)) as sql:
        sql.execute(f'CREATE TABLE "{ESCAPES}\ngreen: 5 entries" (a)')
        sql.commit()
    shown = run("verify", home=home)

    assert shown.startswith("RED")
    assert "\ngreen" not in shown
    assert_harmless(shown)


def test_search_shows_foreign_headers_harmlessly(home: Home) -> None:
    """A header that somebody wrote into a copy can hold anything."""
    ask(home, "x")
    copy = home.root / "copy.db"
    with contextlib.closing(sqlite3.connect(home.database)) as sql:
        sql.execute("VACUUM INTO ?", [str(copy)])
    (record, *_) = query.by_request(home.database, "req_1")
    header = msgspec.structs.replace(record.header, req=ESCAPES)
    with contextlib.closing(sqlite3.connect(copy)) as sql:
        sql.execute("DROP TRIGGER log_entry_no_update")
        sql.execute("UPDATE log_entry SET hdr = ? WHERE seq = ?", [header.encode(), record.seq])
        sql.commit()
    shown = run("search", "--database", str(copy), home=home)

    assert "owned" in shown
    assert_harmless(shown)


def test_own_record_is_no_copy(home: Home) -> None:
    """Naming the home's own database as a copy does not keep the reading off the record."""
    ask(home, "x")
    shown = run("show", "req_1", "--database", str(home.database), home=home)

    assert "can not be put on the record" not in shown
    assert [each.kind for each in query.search(home.database, kind=Kind.AUDIT_READ)] == [Kind.AUDIT_READ]


def test_number_beyond_the_record_is_simply_not_there(home: Home) -> None:
    """A sequence number that SQLite can not hold is answered like any other unknown one."""
    done = CliRunner().invoke(audit_commands.audit, ["show", "9" * 30, "--home", str(home.root)])

    assert isinstance(done.exception, RequestError)


def test_moment_beyond_the_calendar_is_shown_as_a_number() -> None:
    """A foreign header can hold any time; search shows it all the same."""
    assert when(1 << 50).endswith("Z")
    assert when((1 << 63) - 1) == str((1 << 63) - 1)
    assert when(-(1 << 62)) == str(-(1 << 62))
