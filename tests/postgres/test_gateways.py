"""Whole gateways over PostgreSQL: one serves, two share a server, one outlives nothing it should not."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import config
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.config import Home
from appliance.core import Role
from appliance.databases.postgres import PostgresSchema
from tests.harness import Gateway, question, sse, wait_until
from tests.harness import appliance as program
from tests.records import assert_verified, closing_of, place
from tests.servers import GATEWAY, Server, make_server_home
from tests.servers import server as started
from tests.visitor import Visitor

pytestmark = pytest.mark.integration


@contextlib.contextmanager
def serving(home: Home) -> Iterator[Gateway]:
    running = Gateway(home=home)
    try:
        yield running.start()
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def test_gateway_serves_and_records(home: Home) -> None:
    """Whole and streamed answers with their receipts; search, show and a clean stop; all of it verifies."""
    with serving(home) as running:
        whole = running.chat("echo: over a server")
        assert whole.json()["choices"][0]["message"]["content"] == "over a server"
        with running.client() as client, client.stream(
            "POST", "/v1/chat/completions", json=question("echo: streamed", stream=True)
        ) as answer:  # fmt: skip
            assert "[DONE]" in list(sse(answer.iter_lines()))
        seq = int(whole.headers["x-audit-record"].rpartition("/")[2])
        (opened,) = query.by_request(place(home), whole.headers["x-request-id"])[:1]
        assert opened.seq == seq
        assert opened.leaf.hex() == whole.headers["x-audit-leaf"]
        shown = program("audit", "show", str(seq), home=home)
        assert "over a server" in shown.stdout
        assert "included in the tree" in shown.stdout
        assert running.stop() == 0

    assert closing_of(home, whole.headers["x-request-id"]).public["outcome"] == "stop"
    (began,) = query.search(place(home), kind=Kind.LOG_STARTED)
    assert str(began.public["database"]).startswith("postgresql ")
    assert not home.database.exists()
    assert_verified(home)


def test_two_gateways_with_two_origins_share_a_server(server: Server, database: str, tmp_path: Path) -> None:
    """At the same time, in the same database; neither record holds a row of the other, both verify."""
    homes = [make_server_home(tmp_path / name, server, database) for name in ("one", "two")]
    with serving(homes[0]) as one, serving(homes[1]) as two:

        def ask(running: Gateway, name: str) -> None:
            for number in range(15):
                assert running.chat(f"echo: {name} {number}").status_code == 200

        for running in (one, two):
            running.key()
        callers = [
            threading.Thread(target=ask, args=pair)
            for pair in ((one, "one"), (two, "two"), (one, "one"), (two, "two"))
        ]
        for each in callers:
            each.start()
        for each in callers:
            each.join(60)
        for home in homes:
            assert_verified(home)

    for home in homes:
        records = query.search(place(home), limit=10_000)
        assert {each.header.log for each in records} == {config.load(home).audit.origin}
        assert sum(each.kind is Kind.REQUEST_CLOSED for each in records) == 30
        assert_verified(home)


def test_server_that_dies_closes_the_gateway_until_recovery(tmp_path: Path) -> None:
    """503 and nothing else while it is away; back only after an operator's recovery."""
    with started() as server:
        home = make_server_home(tmp_path / "home", server, server.new_database())
        with serving(home) as running, running.client() as client:
            assert running.chat("echo: before").status_code == 200
            server.kill()
            refused = running.chat("echo: while it is away")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "audit_unavailable")
            assert client.get("/readyz").status_code == 503
            failed = program("audit", "recover", home=home, check=False)
            assert failed.returncode == 3
            server.start()
            assert running.chat("echo: not yet").status_code == 503
            program("audit", "recover", home=home)
            assert running.chat("echo: after").json()["choices"][0]["message"]["content"] == "after"
        assert_verified(home)


@pytest.fixture
def secretive(server: Server, database: str, tmp_path: Path) -> Iterator[tuple[Home, str]]:
    """A home whose login has a password, and asks for it."""
    secret = "canary-p@ss:word"
    access = server.root / "data" / "pg_hba.conf"
    before = access.read_bytes()
    home = make_server_home(tmp_path / "home", server, database)
    with server.connect() as admin:
        admin.execute("SET password_encryption = 'scram-sha-256'")
        admin.execute(f"CREATE ROLE guarded_{database} LOGIN PASSWORD '{secret}'")
        found = place(home)
        assert isinstance(found, PostgresSchema)
        admin.execute(f"GRANT {found.roles.writer} TO guarded_{database}")
        access.write_bytes(f"local all guarded_{database} scram-sha-256\n".encode() + before)
        admin.execute("SELECT pg_reload_conf()")
        text = home.config.read_text()
        yield Home(root=home.root), secret
        home.config.write_text(text)
        access.write_bytes(before)
        admin.execute("SELECT pg_reload_conf()")


def test_password_lies_in_a_file_and_shows_nowhere(
    secretive: tuple[Home, str], database: str, tmp_path: Path
) -> None:
    """By libpq's password file or in the URL; never in output, logs, errors, or on the record."""
    home, secret = secretive
    passfile = tmp_path / "pgpass"
    passfile.write_text("*:*:*:*:" + secret.replace(":", "\\:") + "\n")
    passfile.chmod(0o600)
    by_file = home.config.read_text().replace(f"//{GATEWAY}@", f"//guarded_{database}@")
    said: list[str] = []
    for text in (
        by_file.replace("?host=", f"?passfile={passfile}&host="),
        by_file.replace("@/", ":canary-p%40ss%3Aword@/"),
    ):
        home.config.write_text(text)
        with serving(home) as running:
            assert running.chat("echo: with a password").status_code == 200
            said += running.output
        for command in (("doctor",), ("db", "status"), ("db", "backup"), ("init",), ("audit", "verify")):
            done = program(*command, home=home)
            said += [done.stdout, done.stderr]
        said.append(running.log_file.read_text())
        said.append(repr(config.load(home)))
        said.append(repr(place(home)))
    home.config.write_text(by_file.replace("@/", ":canary-wrong@/"))
    for words in (["doctor"], ["db", "status"], ["serve", "--port", "0"]):
        refused = program(*words, home=home, check=False)
        assert refused.returncode != 0
        said += [refused.stdout, refused.stderr]
    with open(home.root / "head", encoding="utf-8") as head:  # noqa: PTH123
        said.append(head.read())

    assert [each for each in said if "canary-" in each] == []
    contents: list[Any] = json.loads(
        program("audit", "search", "--json", "--limit", "200", home=_with(home, by_file, passfile)).stdout
    )["entries"]
    assert "canary-" not in json.dumps(contents)


def _with(home: Home, text: str, passfile: Path) -> Home:
    home.config.write_text(text.replace("?host=", f"?passfile={passfile}&host="))
    return home


def test_doctor_tells_of_each_thing(server: Server, home: Home) -> None:
    """One line each for version, way, settings, roles and clock; red without the server."""
    done = program("doctor", home=home)
    for name in ("server", "way", "settings", "roles", "clock"):
        assert f"ok   database {name}: " in done.stdout
    home.config.write_text(home.config.read_text().replace("/test_", "/absent_"))
    red = program("doctor", home=home, check=False)

    assert red.returncode == 1
    assert "RED  database server: " in red.stdout
    assert "does not exist" in red.stdout


def test_unsafe_server_is_refused_in_production_and_told_in_dev(tmp_path: Path) -> None:
    """With fsync off an acknowledged record could be lost: dev goes on and says so."""
    with started(fsync="off") as server:
        home = make_server_home(tmp_path / "home", server, server.new_database())
        done = program("doctor", home=home, check=False)
        assert "RED  database settings: the server would lose acknowledged records: fsync=off" in done.stdout
        found = place(home)
        assert isinstance(found, PostgresSchema)
        found.open_writer().close()
        strict = PostgresSchema(found.origin, "production", 2, found.parameters)
        with pytest.raises(Exception, match="fsync=off"):
            strict.open_writer()


def test_operators_pages_are_the_same_over_a_server(home: Home) -> None:
    """Health, storage with the server's size and no forecast of its disk, a backup, the witness's page."""
    with serving(home) as running:
        assert running.chat("echo: x").is_success
        operator, witness = Visitor(running, Role.OPERATOR), Visitor(running, Role.WITNESS)
        health, storage = operator.get("/health"), operator.get("/storage")
        assert (health.status_code, storage.status_code) == (200, 200)
        assert "1 of 1" in health.text
        assert "on a server" in storage.text
        assert operator.post("/storage/backup").status_code == 303
        wait_until(lambda: "is there and on the record" in operator.get("/storage").text, seconds=30)
        assert "svg" in witness.get("/witness").text
        operator.close()
        witness.close()
    assert list(home.backups.glob("appliance-*-console*"))
