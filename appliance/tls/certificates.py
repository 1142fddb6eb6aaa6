"""Certificates: made, read and held against each other. Pure but for randomness.

ECDSA on P-384 for an authority, on P-256 for a server (RFC 5480; both in FIPS 186-5, both known to every
client). An authority may sign servers only, below itself none, and only names that it was made for (RFC 5280,
4.2.1.9 and 4.2.1.10): what a thief of its key could do to those who trust it ends there.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.errors import RequestError, SetupError

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 397  # what browsers take at most of a public authority
CLIENT_DAYS: Final = 397
MAX_NAMES: Final = 100
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"
_EARLIER: Final = timedelta(hours=1)  # for clients whose clock is behind
_CLIENT: Final = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9 _-]{0,62}[A-Za-z0-9_-])?", re.ASCII)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class About:
    """What a certificate says. Times in UTC."""

    sha256: str  # of its DER, hex
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    is_authority: bool

    def is_valid(self, now: datetime) -> bool:
        """Whether its time has begun and is not over."""
        return self.not_before <= now <= self.not_after

    def wants_renewal(self, now: datetime) -> bool:
        """Whether less than a third of its time is left."""
        return self.not_after - now < (self.not_after - self.not_before) / 3

    def state(self, now: datetime) -> Literal["valid", "renew", "over"]:
        """In one word, for people and monitors; `over` also where its time has not begun."""
        if not self.is_valid(now):
            return "over"
        return "renew" if self.wants_renewal(now) else "valid"

    @property
    def begins_at(self) -> str:
        """RFC 3339, to the second."""
        return f"{self.not_before:{_MOMENT}}"

    @property
    def ends_at(self) -> str:
        """RFC 3339, to the second."""
        return f"{self.not_after:{_MOMENT}}"


def new_authority(name: str, permitted: Sequence[str], *, now: datetime, days: int = AUTHORITY_DAYS) -> Pair:
    """A self-signed authority. `permitted` bounds what it may sign: domains (`tax.example` with all below
    it), addresses and networks; empty: any name. RequestError names what is none.
    """
    if not name.isprintable() or not 1 <= len(name) <= 64:
        raise RequestError("an authority's name has 1 to 64 printable characters", code="invalid_name")
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if permitted:
        subtrees = [_permitted(each) for each in permitted]
        builder = builder.add_extension(x509.NameConstraints(subtrees, None), critical=True)
    return _pair(builder.sign(key, hashes.SHA384()), key)


def issue(authority: Pair, names: Sequence[str], *, now: datetime, days: int = SERVER_DAYS) -> Pair:
    """A server's certificate for these host names and addresses, with the authority's behind it.

    RequestError where a name is none, or where the authority may not sign it; SetupError where the authority
    is over, or no authority.
    """
    signer = _able(authority, now)
    if not 1 <= len(names) <= MAX_NAMES:
        raise RequestError(f"a certificate has 1 to {MAX_NAMES} names", code="invalid_name", param="name")
    for each in map(_name, names):
        if not _allows(signer, each):
            raise RequestError(
                f"the authority was not made for {each.value}",
                code="name_not_permitted",
                param="name",
                hint="appliance tls show tells what it may sign; a new one is made with --replace --permit",
            )
    return _issued(authority, names, now=now, days=days)


def issue_client(authority: Pair, name: str, *, now: datetime, days: int = CLIENT_DAYS) -> Pair:
    """A client's certificate, which no server can use, with the authority's behind it. RequestError where the
    name is none; it is for people: what the certificate opens is the matter of the key that it stands for.

    A name with a dot in it would be taken for a host's by those who check what an authority may sign, and
    refused where that was bounded: so there are none.
    """
    if not _CLIENT.fullmatch(name):
        raise RequestError(
            "a client's name has 1 to 64 letters, digits, spaces, - and _",
            code="invalid_name",
            param="client",
        )
    _able(authority, now)
    return _signed(authority, name, [ExtendedKeyUsageOID.CLIENT_AUTH], (), now=now, days=days)


def _able(authority: Pair, now: datetime) -> x509.Certificate:
    """The authority's own certificate. SetupError where its time is over, or where it is none."""
    about = describe(authority.certificate)
    if not about.is_authority or not about.is_valid(now):
        raise SetupError(
            "the authority's certificate is none, or its time is over",
            code="tls_authority",
            hint="make a new one with: appliance tls init --replace, and give its certificate to the clients",
        )
    return _first(authority.certificate)


def describe(certificate: bytes) -> About:
    """What the first certificate of a PEM file says. SetupError where there is none."""
    found = _first(certificate)
    return About(
        sha256=found.fingerprint(hashes.SHA256()).hex(),
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        names=_names_of(found),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        is_authority=_is_authority(found),
    )


def permitted_of(certificate: bytes) -> tuple[str, ...]:
    """What an authority may sign; empty: any name."""
    constraints = _constraints(_first(certificate))
    return tuple(str(each.value) for each in constraints)


def _issued(authority: Pair, names: Sequence[str], *, now: datetime, days: int) -> Pair:
    """Signed, whatever the authority was made for: clients hold it to its bounds themselves."""
    alternatives = [_name(each) for each in dict.fromkeys(names)]
    common = str(alternatives[0].value)[:64]
    return _signed(authority, common, [ExtendedKeyUsageOID.SERVER_AUTH], alternatives, now=now, days=days)


def _signed(
    authority: Pair,
    common: str,
    usages: Sequence[x509.ObjectIdentifier],
    alternatives: Sequence[x509.DNSName | x509.IPAddress],
    *,
    now: datetime,
    days: int,
) -> Pair:
    signer = _first(authority.certificate)
    signing_key = _key_of(authority, signer)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    ends = min(timedelta(days=days), signer.not_valid_after_utc - now)
    builder = (
        _builder(subject, signer.subject, key.public_key(), now, days, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    pair = _pair(builder.sign(signing_key, hashes.SHA384()), key)
    return Pair(pair.certificate + authority.certificate, pair.key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
    ends: timedelta | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + (timedelta(days=days) if ends is None else ends))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _key_of(authority: Pair, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise SetupError("the authority's key can not be read", code="tls_authority") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise SetupError("the authority's key is not the one of its certificate", code="tls_authority")
    return key


def _name(text: str) -> x509.DNSName | x509.IPAddress:
    """A host name or an address. RequestError where it is neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(_domain(text.removeprefix("*."), text))


def _permitted(text: str) -> x509.DNSName | x509.IPAddress:
    """A domain, an address or a network. RequestError where it is none."""
    try:
        return x509.IPAddress(ipaddress.ip_network(text, strict=True))
    except ValueError:
        return x509.DNSName(_domain(text, text))


def _domain(text: str, written: str) -> str:
    labels = text.lower().split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(each) for each in labels):
        raise RequestError(
            f"{written[:80]!r} is no host name and no address",
            code="invalid_name",
            param="name",
            hint="letters, digits, hyphens and dots; a name with other letters is written as xn--…",
        )
    return written.lower()


def _first(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise SetupError("this file holds no certificate", code="tls_certificate") from error


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in names if isinstance(each, x509.DNSName | x509.IPAddress))


def _constraints(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return list(constraints.permitted_subtrees or ())


def _allows(authority: x509.Certificate, name: x509.DNSName | x509.IPAddress) -> bool:
    """RFC 5280, 4.2.1.10: a domain permits itself and what is below it. A form that is not constrained is
    permitted there; here an authority that is bound at all signs nothing beside what it names.
    """
    permitted = _constraints(authority)
    if not permitted:
        return True
    if isinstance(name, x509.IPAddress):
        address = name.value
        return any(
            isinstance(each.value, ipaddress.IPv4Network | ipaddress.IPv6Network) and address in each.value
            for each in permitted
        )
    host = name.value.removeprefix("*.")
    domains = [each.value for each in permitted if isinstance(each, x509.DNSName)]
    return any(host == each or host.endswith(f".{each}") for each in domains)


def utc(now_us: int) -> datetime:
    """A moment of the appliance's clock, to the second."""
    return datetime.fromtimestamp(now_us // 1_000_000, tz=UTC)
