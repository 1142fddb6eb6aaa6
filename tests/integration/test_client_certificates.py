"""Clients that show a certificate: for a key, beside a key, and in vain."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from appliance.audit import query, shares
from appliance.audit.kinds import Kind
from appliance.commands import RevokeKey
from appliance.config import Home
from appliance.core import Role
from appliance.terms import Terms
from appliance.tls import certificates
from appliance.tls.certificates import Pair
from tests.acts import dev_auditor
from tests.harness import Gateway, appliance, gateway, question, sse, wait_until
from tests.needed import need
from tests.records import place

pytestmark = pytest.mark.integration
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Card:
    """A client's certificate in two files."""

    certificate: Path
    key: Path
    sha256: str


class Site:
    """An authority, a server, and clients."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = certificates.new_authority("Tax office", ["localhost", "127.0.0.0/8"], now=self.now)
        self.others = certificates.new_authority("Elsewhere", [], now=self.now)
        server = certificates.issue(self.authority, ["localhost", "127.0.0.1"], now=self.now)
        (folder / "server.key").write_bytes(server.key)
        (folder / "server.crt").write_bytes(server.certificate)
        (folder / "ca.crt").write_bytes(self.authority.certificate)
        (folder / "clients.crt").write_bytes(self.authority.certificate)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    def toml(self, asked: str, *lines: str) -> str:
        return "\n".join(
            [
                "[audit]\nrefusal_burst = 10000\n[server]",
                f'tls_certificate = "{self.folder}/server.crt"',
                f'tls_key = "{self.folder}/server.key"',
                f'client_certificates = "{asked}"',
                f'client_ca = "{self.folder}/clients.crt"',
                *lines,
            ]
        )

    def card(self, name: str, authority: Pair | None = None, *, ago_days: int = 0, days: int = 30) -> Card:
        then = self.now - timedelta(days=ago_days)
        made = certificates.issue_client(authority or self.authority, name, now=then, days=days)
        crt, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        crt.write_bytes(made.certificate)
        key.write_bytes(made.key)
        return Card(crt, key, certificates.describe(made.certificate).sha256)

    def context(self, card: Card | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        if card is not None:
            made.load_cert_chain(card.certificate, card.key)
        return made

    def revoke(self, *cards: Card) -> None:
        """A list of what the authority took back."""
        issuer = x509.load_pem_x509_certificate(self.authority.certificate)
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
        builder = builder.last_update(self.now - timedelta(hours=1)).next_update(self.now + timedelta(days=1))
        for each in cards:
            serial = x509.load_pem_x509_certificate(each.certificate.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self.now)
            builder = builder.add_revoked_certificate(revoked.build())
        key = serialization.load_pem_private_key(self.authority.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signed = builder.sign(key, hashes.SHA384())
        (self.folder / "clients.crl").write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def running(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("asked") / "home"
    with gateway(home, toml=site.toml("optional")) as started:
        yield started


@pytest.fixture(scope="module")
def card(site: Site) -> Card:
    return site.card("lobby-1")


@pytest.fixture(scope="module")
def bound(running: Gateway, card: Card) -> str:
    """A key that is good beside its certificate only."""
    return running.key(Role.KIOSK, terms=Terms(certificates=(card.sha256,)))


def ask(running: Gateway, site: Site, card: Card | None, token: str = "") -> httpx.Response:
    """One question."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(verify=site.context(card), base_url=running.url, headers=headers, timeout=30) as client:
        return client.post(CHAT, json=question("echo: in"))


def told(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json().get("error", {}).get("code")


def refusals(running: Gateway, code: str) -> int:
    found = query.search(running.home.database, kind=Kind.REQUEST_REFUSED, limit=1000)
    return sum(int(each.public["count"]) for each in found if each.public["code"] == code)


def sealed(running: Gateway, answer: httpx.Response) -> dict[str, Any]:
    """The contents of the first entry of an answer's request."""
    found = place(running.home)
    (first, *_) = query.by_request(found, answer.headers["x-request-id"])
    ids = [bytes.fromhex(each) for each in query.shares_of([first])]
    held = {each.hex(): secret for each, secret in shares.release(running.home, ids).items()}
    (opened,) = query.open_records(found, [first], [dev_auditor(running.home)], held)
    return dict(opened.content or {})


def test_a_certificate_alone_is_its_key(running: Gateway, site: Site, card: Card, bound: str) -> None:
    """The question is that key's; who showed what is sealed with it."""
    answer = ask(running, site, card)
    assert answer.status_code == 200, answer.text
    both = ask(running, site, card, bound)
    assert both.status_code == 200

    caller = sealed(running, answer)["caller"]
    assert (caller["certificate_sha256"], caller["certificate_subject"]) == (card.sha256, "CN=lobby-1")
    assert sealed(running, answer)["principal"] == sealed(running, both)["principal"]


def test_a_stolen_key_opens_nothing(running: Gateway, site: Site, bound: str) -> None:
    """Without its certificate, or beside another one."""
    for other in (None, site.card("somebody")):
        answer = ask(running, site, other, bound)
        assert told(answer) == (403, "certificate_required")
        (record,) = query.by_request(running.home.database, answer.headers["x-request-id"])
        assert (record.kind, record.public["code"]) == (Kind.REQUEST_REFUSED, "certificate_required")


def test_a_certificate_of_another_key(running: Gateway, site: Site, card: Card, bound: str) -> None:
    """Certificate and key must belong together; one that belongs to no key is only a way in."""
    assert bound
    assert told(ask(running, site, card, running.key())) == (403, "certificate_mismatch")
    assert told(ask(running, site, site.card("anybody"), running.key())) == (200, None)
    assert told(ask(running, site, site.card("anybody"))) == (401, "invalid_api_key")


def test_nobody_needs_one_for_an_open_path(running: Gateway, site: Site) -> None:
    """`optional`: a monitor without one sees that the appliance lives; an unbound key asks as before."""
    assert httpx.get(f"{running.url}/healthz", verify=site.context()).status_code == 200
    assert told(ask(running, site, None, running.key())) == (200, None)
    assert told(ask(running, site, None)) == (401, "invalid_api_key")


def test_a_revoked_key_is_not_its_certificates(running: Gateway, site: Site) -> None:
    """With the key's end the certificate stands for nobody."""
    card = site.card("leaver")
    running.key(Role.KIOSK, terms=Terms(certificates=(card.sha256,)))
    assert told(ask(running, site, card)) == (200, None)
    running.command(RevokeKey(name_or_id=f"test-kiosk-{running.num_keys}"))

    assert told(ask(running, site, card)) == (401, "invalid_api_key")


def test_certificates_that_are_not_believed(running: Gateway, site: Site) -> None:
    """Of another authority, over, of a server, signed by nobody: no handshake, and it is on the record."""
    before = refusals(running, "certificate_refused")
    long_ago = certificates.new_authority("Tax office", [], now=site.now - timedelta(days=90), days=100)
    own = certificates.new_authority("nobody", [], now=site.now)
    (site.folder / "own.crt").write_bytes(own.certificate)
    (site.folder / "own.key").write_bytes(own.key)
    cards = [
        site.card("stranger", site.others),
        site.card("late", long_ago, ago_days=60, days=30),
        Card(site.folder / "server.crt", site.folder / "server.key", ""),
        Card(site.folder / "own.crt", site.folder / "own.key", ""),
    ]
    for each in cards:
        with pytest.raises(httpx.TransportError):
            ask(running, site, each, running.key())

    wait_until(lambda: refusals(running, "certificate_refused") == before + len(cards))


def test_clients_of_the_agency(running: Gateway, site: Site, card: Card, bound: str) -> None:
    """Python's `openai`, which always sends a key, and curl, which need not."""
    with openai.OpenAI(
        base_url=f"{running.url}/v1",
        api_key=bound,
        http_client=openai.DefaultHttpxClient(verify=site.context(card)),
    ) as client:
        said = client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": "echo: by openai"}]
        )
    assert said.choices[0].message.content == "by openai"
    trusted, shown = (
        ["--cacert", f"{site.folder}/ca.crt"],
        ["--cert", f"{card.certificate}", "--key", f"{card.key}"],
    )
    command = [need("curl", package="curl"), "-sS", *trusted, *shown, f"{running.url}/v1/models"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["object"] == "list"


def test_authorities_change_under_running_streams(site: Site, tmp_path: Path) -> None:
    """A stream goes on; the next connection is held to what is believed now, and to what was revoked."""
    first, second = site.card("first"), site.card("second")
    site.revoke()
    toml = site.toml("required", f'client_crl = "{site.folder}/clients.crl"')
    with gateway(tmp_path / "home", toml=toml) as running:
        token = running.key()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{running.url}/healthz", verify=site.context())
        wait_until(lambda: refusals(running, "certificate_refused") == 1)
        headers = {"authorization": f"Bearer {token}"}
        with (
            httpx.Client(
                verify=site.context(first), base_url=running.url, headers=headers, timeout=60
            ) as client,
            client.stream(
                "POST", CHAT, json=question("please be slow, say 200 tokens", stream=True)
            ) as answer,
        ):
            events = sse(answer.iter_lines())
            next(events)
            assert told(ask(running, site, first, token)) == (200, None)
            site.revoke(first)
            wait_until(lambda: is_shut_out(running, site, first, token), seconds=20)
            assert told(ask(running, site, second, token)) == (200, None)
            (site.folder / "clients.crt").write_bytes(site.others.certificate)
            wait_until(lambda: is_shut_out(running, site, second, token), seconds=20)
            assert list(events)[-1] == "[DONE]"
        assert httpx.get(f"{running.console_url}/login", verify=site.context()).status_code == 200
    (site.folder / "clients.crt").write_bytes(site.authority.certificate)


def is_shut_out(running: Gateway, site: Site, card: Card, token: str) -> bool:
    try:
        ask(running, site, card, token)
    except httpx.TransportError:
        return True
    return False


def test_a_clients_certificate_is_issued(running: Gateway, tmp_path: Path) -> None:
    """For a browser or a card under a passphrase, for programs as PEM; on the record before it is a file."""
    home: Home = running.home
    appliance("tls", "init", "--name", "Site", "--permit", "tax.example", home=home)
    out = tmp_path / "card.p12"
    done = appliance("tls", "issue", "--client", "Jane Doe", "--out", str(out), "--json", home=home)
    result = json.loads(done.stdout)
    key, certificate, others = pkcs12.load_key_and_certificates(
        out.read_bytes(), result["passphrase"].encode()
    )
    assert key is not None
    assert certificate is not None
    assert certificate.fingerprint(hashes.SHA256()).hex() == result["sha256"]
    assert len(others) == 1
    assert out.stat().st_mode & 0o077 == 0
    issued = query.search(home.database, kind=Kind.CERTIFICATE_ISSUED, limit=1)[0]
    assert issued.public["certificate_sha256"] == result["sha256"]

    again = appliance("tls", "issue", "--client", "x", "--out", str(out), home=home, check=False)
    assert again.returncode != 0
    pem = tmp_path / "desk.crt"
    appliance("tls", "issue", "--client", "desk-4", "--pem", "--out", str(pem), home=home)
    ssl.create_default_context().load_cert_chain(pem, pem.with_suffix(".key"))
    for wrong in (["--client", "a.b"], ["--client", "x", "--name", "y"], ["--pem", "--name", "y"], []):
        assert appliance("tls", "issue", *wrong, home=home, check=False).returncode != 0
