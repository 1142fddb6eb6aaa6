"""Streams in both modes, keys in force at once, the control socket, TLS, auditors with their own keys."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from appliance import asking
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.recipients import parse_recipient
from appliance.cli.init import Members, initialise
from appliance.commands import CreateKey, ListKeys, Problem, RecordReading, RevokeKey
from appliance.config import Home
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway, question, sse, wait_until
from tests.records import assert_verified, closing_of
from tests.starter import link_into

pytestmark = pytest.mark.integration


def stream_text(running: Gateway, text: str) -> tuple[str, str]:
    """A streamed answer, and its request id."""
    body = question(text, stream=True)
    with running.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        events = list(sse(answer.iter_lines()))
        request_id = answer.headers["x-request-id"]
    assert events[-1] == "[DONE]"
    pieces = [
        choice["delta"].get("content") or ""
        for event in events
        if isinstance(event, dict)
        for choice in event["choices"]
    ]
    return "".join(pieces), request_id


def contents(running: Gateway, request_id: str) -> list[str]:
    """What the record holds of the answer, entry by entry, as an auditor decrypts it."""
    shown = appliance("audit", "show", request_id, "--json", home=running.home)
    records = json.loads(shown.stdout)["records"]
    return [
        (record["content"] or {}).get("text") or (record["content"] or {}).get("output") or ""
        for record in records
    ]


@pytest.mark.parametrize("mode", ["strict", "final"])
def test_record_holds_exactly_what_was_streamed(tmp_path: Path, mode: str) -> None:
    """In both modes segments and closing together are the answer; only strict has segments."""
    toml = f'[audit]\nstream = "{mode}"\nsegment_ms = 60\n'
    with gateway(tmp_path / "home", toml=toml) as running:
        text, request_id = stream_text(running, "please be slow; echo: the whole answer, in pieces")
        kinds = [each.kind for each in query.by_request(running.home.database, request_id)]

        assert text == "the whole answer, in pieces"
        assert "".join(contents(running, request_id)) == text
        assert (Kind.REQUEST_SEGMENT in kinds) == (mode == "strict")
        assert kinds.count(Kind.REQUEST_CLOSED) == 1
        closing = closing_of(running.home, request_id)
        assert closing.public["num_segments"] == kinds.count(Kind.REQUEST_SEGMENT)
        running.stop()
        assert_verified(running.home)


def test_segments_are_coalesced(tmp_path: Path) -> None:
    """A long segment time makes few segments: the first piece at once, then one for each period."""
    with gateway(tmp_path / "home", toml="[audit]\nsegment_ms = 400\n") as running:
        _, request_id = stream_text(running, "please be slow; say 30 tokens")
        closing = closing_of(running.home, request_id)

    assert 2 <= int(closing.public["num_segments"]) <= 6


def test_keys_are_in_force_and_out_of_force_at_once(tmp_path: Path) -> None:
    """Created, replaced and revoked keys take effect with the command, without a restart."""
    with gateway(tmp_path / "home") as running:
        made = json.loads(
            appliance("key", "create", "desk", "--role", "kiosk", "--json", home=running.home).stdout
        )
        headers = {"authorization": f"Bearer {made['token']}"}
        assert httpx.get(f"{running.url}/v1/models", headers=headers).status_code == 200
        again = appliance("key", "create", "desk", "--role", "kiosk", home=running.home, check=False)
        assert (again.returncode, "exists" in again.stderr) == (2, True)
        appliance("key", "revoke", "desk", home=running.home)
        assert httpx.get(f"{running.url}/v1/models", headers=headers).status_code == 401
        listed = appliance("key", "list", home=running.home).stdout
        assert "revoked" in listed
        assert made["token"] not in listed
        acts = [each.kind for each in query.search(running.home.database, limit=6)]
        assert [each for each in acts if each in {Kind.KEY_REVOKED, Kind.KEY_CREATED}] == [
            Kind.KEY_REVOKED,
            Kind.KEY_CREATED,
        ]


def test_expired_keys_are_refused(tmp_path: Path) -> None:
    """A key's lifetime ends by itself."""
    with gateway(tmp_path / "home") as running:
        made = running.command(CreateKey(name="short", role=Role.KIOSK, expires_seconds=1))
        headers = {"authorization": f"Bearer {made['token']}"}
        wait_until(
            lambda: httpx.get(f"{running.url}/v1/models", headers=headers).status_code == 401, seconds=4
        )


def test_control_socket_is_private_and_strict(tmp_path: Path) -> None:
    """Owner only; nonsense and unknown keys are answered, not obeyed."""
    with gateway(tmp_path / "home") as running:
        path = running.home.control_socket
        assert path.stat().st_mode & 0o777 == 0o600
        for nonsense in (b"{}\n", b"not json\n", b'{"kind": "Shell"}\n'):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(path))
                peer.sendall(nonsense)
                assert b'"kind":"Problem"' in peer.recv(4096)
        for command in (
            RevokeKey(name_or_id="nobody"),
            CreateKey(name="two\nlines", role=Role.KIOSK),
            RecordReading(event="request:opened", public={}, content={}),
        ):
            assert isinstance(asking.send(path, command), Problem)
        assert running.command(ListKeys()) == {"keys": []}


def test_auditors_searches_and_readings_are_on_the_record(tmp_path: Path) -> None:
    """Who looked at what is recorded before it is shown."""
    with gateway(tmp_path / "home") as running:
        request_id = running.chat("echo: read me").headers["x-request-id"]
        appliance("audit", "search", "--kind", "request:closed", home=running.home)
        appliance("audit", "show", request_id, home=running.home)
        kinds = [each.kind for each in query.search(running.home.database, limit=3)]

    assert kinds[:2] == [Kind.AUDIT_READ, Kind.AUDIT_SEARCHED]


def test_production_with_tls_and_an_auditors_own_key(tmp_path: Path) -> None:
    """TLS only, no identity on the box, and the auditor reads with the file from their own machine."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         "2", "-subj", "/CN=box", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out",
         str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    appliance("auditor", "keygen", "alice", "--out", str(tmp_path))
    home = Home(root=tmp_path / "home")
    home.root.mkdir(mode=0o700)
    home.config.write_text(
        f'profile = "production"\n[server]\ntls_certificate = "{certificate}"\ntls_key = "{key}"\n'
    )
    recipient = parse_recipient((tmp_path / "alice.recipient").read_text())
    initialise(home, profile="production", members=Members(auditors=[recipient]))
    refused = appliance("serve", home=home, check=False)
    assert (refused.returncode, "recovery.identity" in refused.stderr) == (3, True)
    (home.keys / "recovery.identity").rename(tmp_path / "recovery.identity")
    link_into(home)
    running = Gateway(home=home)
    try:
        running.start()
        assert running.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificate))
        headers = {"authorization": f"Bearer {running.key()}"}
        answer = httpx.post(
            f"{running.url}/v1/chat/completions",
            json=question("echo: sealed"),
            headers=headers,
            verify=context,
        )
        assert answer.json()["choices"][0]["message"]["content"] == "sealed"
        request_id = answer.headers["x-request-id"]
        without = appliance("audit", "show", request_id, home=home, check=False)
        assert (without.returncode, "--identity" in without.stderr) == (3, True)
        identity = str(tmp_path / "alice.identity")
        assert "sealed" in appliance("audit", "show", request_id, "--identity", identity, home=home).stdout
        appliance("auditor", "keygen", "mallory", "--out", str(tmp_path))
        stranger = str(tmp_path / "mallory.identity")
        refused = appliance("audit", "show", request_id, "--identity", stranger, home=home, check=False)
        assert (refused.returncode, "not a recipient" in refused.stderr) == (1, True)
    finally:
        running.stop()


def test_doctor_is_green_and_finds_what_is_wrong(tmp_path: Path) -> None:
    """A healthy home is green; an open key file and a latch are named with what to do."""
    with gateway(tmp_path / "home") as running:
        assert appliance("doctor", home=running.home).returncode == 0
    (running.home.keys / "shares-1.kek").chmod(0o644)
    running.home.latch.write_bytes(b"x")
    done = appliance("doctor", "--json", home=running.home, check=False)
    red = {each["name"] for each in json.loads(done.stdout)["checks"] if not each["green"]}

    assert done.returncode == 1
    assert red == {"private files", "latch"}
