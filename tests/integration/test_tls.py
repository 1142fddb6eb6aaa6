"""A gateway over TLS: who gets in, what changes under running streams, and what it says when time is over."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from appliance.tls import certificates
from appliance.tls.certificates import Pair
from tests.harness import Gateway, appliance, gateway, question, sse, wait_until
from tests.records import place

TOML = """
[server]
tls_certificate = "{folder}/server.crt"
tls_key = "{folder}/server.key"
"""
NAME = "localhost"


class Site:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.authority = certificates.new_authority("Tax office", ["localhost", "127.0.0.0/8"], now=self.now)
        (folder / "ca.crt").write_bytes(self.authority.certificate)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    @property
    def toml(self) -> str:
        return TOML.format(folder=self.folder)

    def issue(self, *, ago_days: int = 0, days: int = 90) -> str:
        """A new pair in its place; its fingerprint."""
        then = self.now - timedelta(days=ago_days)
        authority = self.authority
        if ago_days:
            authority = certificates.new_authority("Tax office", [], now=then, days=ago_days + days)
        return self.put(certificates.issue(authority, [NAME, "127.0.0.1"], now=then, days=days))

    def put(self, pair: Pair) -> str:
        (self.folder / "server.key").write_bytes(pair.key)
        (self.folder / "server.crt").write_bytes(pair.certificate)
        return certificates.describe(pair.certificate).sha256

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.crt"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("tls"))
    made.issue()
    return made


@pytest.fixture(scope="module")
def running(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("served") / "home", toml=site.toml) as started:
        yield started


def served(running: Gateway) -> str:
    """The fingerprint that a new connection is shown."""
    port = int(running.url.rsplit(":", 1)[1])
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        shown = wrapped.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).fingerprint(hashes.SHA256()).hex()


def readiness(running: Gateway) -> httpx.Response:
    with running.client(Role.OPERATOR, verify=False) as client:
        return client.get("/readyz")


def test_clients_that_trust_the_authority_get_in(running: Gateway, site: Site) -> None:
    """By the name and by the address in the certificate; API and console alike."""
    assert running.url.startswith("https://")
    with running.client(verify=site.context) as client:
        assert client.post("/v1/chat/completions", json=question("echo: over tls")).status_code == 200
    by_name = running.url.replace("127.0.0.1", NAME)
    assert httpx.get(f"{by_name}/healthz", verify=site.context).status_code == 200
    assert httpx.get(f"{running.console_url}/login", verify=site.context).status_code == 200
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{running.url}/healthz")


def test_only_the_newest_version_is_spoken(running: Gateway, site: Site) -> None:
    """TLS 1.2 must be asked for in the configuration."""
    old = site.context
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/healthz", verify=old)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(running.url.replace("https", "http") + "/healthz")


def test_renewal_cuts_no_stream(running: Gateway, site: Site) -> None:
    """What began goes on to its end; the next connection is shown the new certificate; both are on record."""
    before = served(running)
    with (
        running.client(verify=site.context) as client,
        client.stream(
            "POST", "/v1/chat/completions", json=question("please be slow, say 160 tokens", stream=True)
        ) as answer,
    ):
        events = sse(answer.iter_lines())
        next(events)
        new = site.issue()
        wait_until(lambda: served(running) == new, seconds=15)
        rest = list(events)

    assert new != before
    assert rest[-1] == "[DONE]"
    text = "".join(
        each["choices"][0]["delta"].get("content") or ""
        for each in rest
        if isinstance(each, dict) and each["choices"]
    )
    assert text.count("word") == 160
    told = [
        record.public["certificate_sha256"]
        for record in query.search(place(running.home), kind=Kind.CERTIFICATE_SERVED)
    ]
    assert {before, new} <= set(told)


def test_what_does_not_fit_is_told_and_not_served(running: Gateway, site: Site) -> None:
    """Readiness says so, an alarm is on the record, and clients notice nothing."""
    before = served(running)
    (site.folder / "server.key").write_bytes(certificates.new_authority("x", [], now=site.now).key)

    wait_until(lambda: readiness(running).json()["certificate"]["state"] == "not_taken", seconds=15)

    told = readiness(running)
    assert told.status_code == 200
    assert "is not the one of the certificate" in told.json()["certificate"]["problem"]
    assert served(running) == before
    codes = [each.public["code"] for each in query.search(place(running.home), kind=Kind.LOG_ALARM)]
    assert "certificate_not_taken" in codes
    site.issue()
    wait_until(lambda: readiness(running).json()["certificate"]["state"] == "valid", seconds=15)


def test_a_certificate_that_is_over_is_told_at_readyz(tmp_path: Path) -> None:
    """It serves, so that people see it; it is not ready; an alarm is on the record; renewal mends it."""
    site = Site(tmp_path / "tls")
    site.issue(ago_days=40, days=30)
    with gateway(tmp_path / "home", toml=site.toml) as running:
        told = readiness(running)
        assert (told.status_code, told.json()["certificate"]["state"]) == (503, "over")
        wait_until(
            lambda: any(
                each.public["code"] == "certificate_over"
                for each in query.search(place(running.home), kind=Kind.LOG_ALARM)
            ),
            seconds=15,
        )
        done = appliance("doctor", home=running.home, check=False)
        assert done.returncode == 1
        assert "certificate's time is over" in done.stdout

        site.issue()
        wait_until(lambda: readiness(running).status_code == 200, seconds=15)


def test_the_guide_s_way_from_nothing_to_a_certificate(tmp_path: Path) -> None:
    """init, issue, show, renew, with a gateway that runs and one that does not; every act on the record."""
    with gateway(tmp_path / "home") as running:
        home = running.home
        made = json.loads(
            appliance(
                "tls", "init", "--name", "Tax office", "--permit", "localhost", "--json", home=home
            ).stdout
        )
        assert made["permitted"] == ["localhost"]
        issued = json.loads(appliance("tls", "issue", "--name", NAME, "--json", home=home).stdout)
        again = appliance("tls", "init", home=home, check=False)
        assert (again.returncode, "--replace" in again.stderr) == (2, True)
    refused = appliance("tls", "issue", "--name", "evil.example", home=home, check=False)
    assert (refused.returncode, "not made for" in refused.stderr) == (2, True)
    assert json.loads(appliance("tls", "renew", "--json", home=home).stdout)["renewed"] is False
    renewed = json.loads(appliance("tls", "renew", "--force", "--json", home=home).stdout)
    assert renewed["sha256"] != issued["sha256"]
    assert renewed["names"] == issued["names"]
    shown = json.loads(appliance("tls", "show", "--json", home=home).stdout)
    assert shown["server"]["sha256"] == renewed["sha256"]
    assert (home.tls / "ca.key").stat().st_mode & 0o077 == 0
    told = [
        each.public["certificate_sha256"] for each in query.search(place(home), kind=Kind.CERTIFICATE_ISSUED)
    ]
    assert told == [renewed["sha256"], issued["sha256"], made["sha256"]]
