"""Clients that show a certificate: which are believed, and how one is made and carried.

A certificate says who somebody is to the port; what that somebody may do is its key's matter
(`terms.Terms.certificates`). So an authority here opens nothing by itself.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from appliance.errors import SetupError
from appliance.tls.certificates import About, Pair, describe


@dataclass(frozen=True, slots=True)
class Clients:
    """Whose certificates are asked for at a port. PEM files."""

    authorities: Path
    revoked: Path | None  # lists of what an authority took back; every one of them must be there then
    is_required: bool

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.authorities,) if self.revoked is None else (self.authorities, self.revoked)


def ask(context: ssl.SSLContext, clients: Clients) -> None:
    """Have a context ask for certificates. SetupError where a file can not be read, or holds none.

    There are no session tickets: whoever comes again is looked at again.
    """
    for path in clients.files:
        try:
            context.load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            raise SetupError(
                f"{path} holds no certificates or revocation lists in PEM", code="tls_clients"
            ) from error
        except OSError as error:
            raise SetupError(f"can not read {path}: {error.strerror}", code="tls_clients") from error
    if not context.get_ca_certs():
        raise SetupError(
            f"{clients.authorities} holds no certificate of an authority",
            code="tls_clients",
            hint="server.client_ca names the authorities whose clients are believed",
        )
    context.verify_mode = ssl.CERT_REQUIRED if clients.is_required else ssl.CERT_OPTIONAL
    if clients.revoked is not None:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def shown(der: bytes) -> About:
    """What a certificate says that was shown and believed."""
    return describe(ssl.DER_cert_to_PEM_cert(der).encode("ascii"))


def carried(made: Pair, name: str, passphrase: str) -> bytes:
    """A certificate with its key and its authority in one file (PKCS #12, RFC 7292), as browsers and smart
    cards take it; under a passphrase (PBES2: AES-256, PBKDF2 with SHA-256).
    """
    certificate, *authorities = x509.load_pem_x509_certificates(made.certificate)
    key = serialization.load_pem_private_key(made.key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SetupError("the certificate's key can not be read", code="tls_certificate")
    return pkcs12.serialize_key_and_certificates(
        name.encode("utf-8"),
        key,
        certificate,
        authorities,
        serialization.BestAvailableEncryption(passphrase.encode("utf-8")),
    )
