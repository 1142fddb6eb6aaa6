"""Certificates of a small authority: what it signs, what it does not, and what OpenSSL says to them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from appliance.errors import RequestError, SetupError
from appliance.tls import certificates
from appliance.tls.certificates import Pair

NOW = datetime.now(UTC).replace(microsecond=0)  # openssl asks the real clock


def openssl(tmp_path: Path, authority: Pair, issued: Pair, *options: str) -> int:
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "server.crt").write_bytes(issued.certificate)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", "-purpose", "sslserver", *options]
    return subprocess.run([*command, "server.crt"], cwd=tmp_path, capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def authority() -> Pair:
    return certificates.new_authority("Tax office", ["tax.example", "10.1.0.0/16", "fd00::/8"], now=NOW)


@pytest.mark.parametrize(
    "names",
    [
        ["tax.example"],
        ["box.tax.example", "10.1.2.3"],
        ["*.lobby.tax.example", "fd00::1"],
        ["Box.Tax.Example"],
    ],
)
def test_what_it_may_sign_is_good_for_strict_clients(
    names: list[str], authority: Pair, tmp_path: Path
) -> None:
    """The chain verifies with every name that was asked for."""
    issued = certificates.issue(authority, names, now=NOW)

    for name in names:
        host = name.replace("*", "a").lower()
        option = "-verify_ip" if ":" in name or name[0].isdigit() else "-verify_hostname"
        assert openssl(tmp_path, authority, issued, option, host) == 0
    assert openssl(tmp_path, authority, issued, "-verify_hostname", "other.tax.example2") != 0
    about = certificates.describe(issued.certificate)
    assert set(about.names) == {each.lower() for each in names}
    assert not about.is_authority


@pytest.mark.parametrize(
    "name",
    ["example", "evil.example", "eviltax.example", "tax.example.evil", "10.2.0.1", "192.0.2.1", "fe80::1"],
)
def test_what_it_was_not_made_for_is_not_signed(name: str, authority: Pair) -> None:
    """Also where the names look alike."""
    with pytest.raises(RequestError) as refused:
        certificates.issue(authority, ["box.tax.example", name], now=NOW)

    assert refused.value.code == "name_not_permitted"


def test_clients_refuse_what_a_thief_of_the_key_signs(tmp_path: Path) -> None:
    """The bound stands in the authority itself: the same key signs another name, and nobody believes it."""
    bound = certificates.new_authority("Tax office", ["tax.example"], now=NOW)
    loose = certificates.new_authority("Tax office", [], now=NOW)
    stolen = certificates.issue(loose, ["bank.example"], now=NOW)
    assert openssl(tmp_path, loose, stolen, "-verify_hostname", "bank.example") == 0  # the control

    forged = certificates._issued(bound, ["bank.example"], now=NOW, days=30)
    assert openssl(tmp_path, bound, forged, "-verify_hostname", "bank.example") != 0


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        "-a.example",
        "a b",
        "box.tax.example\n",
        "bücher.tax.example",
        "*.*.tax.example",
        "a" * 64 + ".tax.example",
        "10.1.2.3/32",
        "\u202ebox.tax.example",
    ],
)
def test_what_is_no_name_is_refused(name: str, authority: Pair) -> None:
    """Before it could stand in a certificate."""
    with pytest.raises(RequestError) as refused:
        certificates.issue(authority, [name], now=NOW)

    assert refused.value.code == "invalid_name"


def test_a_certificate_ends_with_its_authority() -> None:
    """And an authority that is over signs nothing."""
    short = certificates.new_authority("Tax office", [], now=NOW, days=10)

    about = certificates.describe(certificates.issue(short, ["box.example"], now=NOW).certificate)
    assert about.not_after == certificates.describe(short.certificate).not_after
    with pytest.raises(SetupError, match="time is over"):
        certificates.issue(short, ["box.example"], now=NOW + timedelta(days=11))


def test_only_an_authority_signs(authority: Pair) -> None:
    """A server's certificate, another one's key, and bytes that are neither are told apart."""
    server = certificates.issue(authority, ["box.tax.example"], now=NOW)
    other = certificates.new_authority("Other", [], now=NOW)

    for pair in (server, Pair(authority.certificate, other.key), Pair(authority.certificate, b"none")):
        with pytest.raises(SetupError) as refused:
            certificates.issue(pair, ["box.tax.example"], now=NOW)
        assert refused.value.code == "tls_authority"
    with pytest.raises(SetupError, match="no certificate"):
        certificates.describe(b"-----BEGIN CERTIFICATE-----\nnone")


def test_renewal_is_wanted_in_the_last_third(authority: Pair) -> None:
    """A timer that runs each day does its work once."""
    about = certificates.describe(
        certificates.issue(authority, ["tax.example"], now=NOW, days=90).certificate
    )

    assert not about.wants_renewal(NOW + timedelta(days=59))
    assert about.wants_renewal(NOW + timedelta(days=61))
    assert about.is_valid(NOW + timedelta(days=89))
    assert not about.is_valid(NOW + timedelta(days=91))
    assert not about.is_valid(NOW - timedelta(hours=2))


def test_usages_are_those_of_their_kind(authority: Pair) -> None:
    """RFC 5280: an authority signs certificates and is no server; a server signs no certificate."""
    ca = x509.load_pem_x509_certificate(authority.certificate)
    issued = certificates.issue(authority, ["tax.example"], now=NOW)
    server = x509.load_pem_x509_certificates(issued.certificate)[0]

    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert ca.extensions.get_extension_for_class(x509.NameConstraints).critical
    usage = server.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    assert b"PRIVATE KEY" not in issued.certificate
    assert "PRIVATE" not in repr(issued)
