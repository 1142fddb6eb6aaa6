"""Signers' keys: an Ed25519 and an ECDSA P-384 key each, as files under a passphrase or on a token.

A fingerprint is the SHA-256 of a public key's DER form (SubjectPublicKeyInfo, RFC 5280 §4.1), 64 hexadecimal
digits: what `openssl pkey -pubin -outform DER | sha256sum` shows, what stands on paper, and the key's id in
the metadata. Its first 16 digits name files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, HSMSigner, Key, Signer, SSlibKey

from appliance.bundle import pkcs8
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError, SetupError

MAX_KEY_FILE_BYTES: Final = 65_536
SIGNER_FIELD: Final = "x-appliance-signer"  # in the metadata: who holds a key
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n[A-Za-z0-9+/=\n]+-----END \1-----\n")
_NAMED: Final = re.compile(rb"\A# signer: ([a-z0-9._-]{1,64})\n")
# keytype and scheme, as The Update Framework calls them
_SCHEMES: Final = {"ed25519": ("ed25519", "ed25519"), "p384": ("ecdsa", "ecdsa-sha2-nistp384")}


class Kind(StrEnum):
    """What a key computes with. A host in FIPS mode checks P-384 only."""

    ED25519 = "ed25519"
    P384 = "p384"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key. `der` is its one encoding."""

    kind: Kind
    der: bytes

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    @property
    def key_id(self) -> str:
        """What files are named after."""
        return self.fingerprint[:16]

    @property
    def pem(self) -> bytes:
        return _public(self.der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether its owner signed these bytes: 64 raw bytes, or (P-384, with SHA-384) DER."""
        key = _public(self.der)
        try:
            if isinstance(key, Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ECDSA(hashes.SHA384()))
        except InvalidSignature:
            return False
        return True

    def for_metadata(self, name: str) -> SSlibKey:
        """The key as it stands in the metadata."""
        keytype, scheme = _SCHEMES[self.kind]
        key = _public(self.der)
        raw = key.public_bytes_raw().hex() if isinstance(key, Ed25519PublicKey) else self.pem.decode()
        return SSlibKey(self.fingerprint, keytype, scheme, {"public": raw}, {SIGNER_FIELD: name})


@dataclass(frozen=True, slots=True)
class PublicSigner:
    """Who signs, and with which keys: what a ceremony takes. One key of a kind; a token has P-384 only."""

    name: str
    keys: tuple[PublicKey, ...]

    def key(self, kind: Kind) -> PublicKey | None:
        return next((each for each in self.keys if each.kind is kind), None)

    def text(self) -> bytes:
        """The public file: readable by people, and by openssl key by key."""
        prints = "".join(f"# {each.kind}: {each.fingerprint}\n" for each in self.keys)
        return f"# signer: {self.name}\n{prints}".encode() + b"".join(each.pem for each in self.keys)


@dataclass(frozen=True, slots=True)
class SignerKey:
    """One signer's secret keys, or the token that has them."""

    name: str
    signers: Mapping[Kind, Signer] = field(repr=False)

    @property
    def public(self) -> PublicSigner:
        return PublicSigner(
            self.name, tuple(from_metadata(each.public_key) for each in self.signers.values())
        )

    def sign(self, kind: Kind, message: bytes) -> bytes:
        """The signature as openssl takes it: raw for Ed25519, DER for P-384."""
        return bytes.fromhex(self.signers[kind].sign(message).signature)


def create(name: str) -> tuple[SignerKey, Callable[[str], bytes]]:
    """Fresh keys, and what writes their secret file under a passphrase."""
    _check_name(name)
    edwards, curve = Ed25519PrivateKey.generate(), generate_ec(SECP384R1())
    signers: dict[Kind, Signer] = {}
    for kind, secret in ((Kind.ED25519, edwards), (Kind.P384, curve)):
        key = _key_of(secret.public_key())
        signers[kind] = CryptoSigner(secret, key.for_metadata(name))

    def sealed(passphrase: str) -> bytes:
        ders = [
            each.private_bytes(Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            for each in (edwards, curve)
        ]
        return f"# signer: {name}\n".encode() + b"".join(pkcs8.seal(der, passphrase) for der in ders)

    return SignerKey(name, signers), sealed


def load(data: bytes, passphrase: str) -> SignerKey:
    """A signer's secret file. RequestError for a wrong passphrase or another file."""
    name, blocks = _named(data, b"ENCRYPTED PRIVATE KEY")
    signers: dict[Kind, Signer] = {}
    for block in blocks:
        try:
            secret = serialization.load_pem_private_key(block, passphrase.encode())
        except ValueError as error:
            raise RequestError(
                "the passphrase does not open this key file", code="wrong_passphrase", param="passphrase"
            ) from error
        key = _key_of(secret.public_key())
        signers[key.kind] = CryptoSigner(secret, key.for_metadata(name))
    return SignerKey(name, signers)


def load_public(data: bytes) -> PublicSigner:
    """A signer's public file. BundleRefused (11) where it is none."""
    try:
        name, blocks = _named(data, b"PUBLIC KEY")
    except RequestError as error:
        raise BundleRefused(Exit.BAD_METADATA, error.message) from error
    found = PublicSigner(name, tuple(parse(block) for block in blocks))
    if found.text() != data:
        raise BundleRefused(Exit.BAD_METADATA, f"the public file of {name} is not as it was made")
    return found


def parse(pem: bytes) -> PublicKey:
    """One public key in PEM. BundleRefused (11) where it is none of ours, or not in its one form."""
    try:
        found = _key_of(serialization.load_pem_public_key(pem))
    except (ValueError, TypeError, RequestError) as error:
        raise BundleRefused(Exit.BAD_METADATA, "a key file holds no Ed25519 and no P-384 key") from error
    if found.pem != pem:
        raise BundleRefused(Exit.BAD_METADATA, "a key file is not in its one form")
    return found


def of_private(secret: Ed25519PrivateKey) -> PublicKey:
    """The public half."""
    return _key_of(secret.public_key())


def from_metadata(key: Key) -> PublicKey:
    """A key out of the metadata. BundleRefused (11) where its id is not its fingerprint."""
    public = key.keyval.get("public", "")
    try:
        if key.scheme == "ed25519":
            found = _key_of(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)))
        else:
            found = _key_of(serialization.load_pem_public_key(public.encode()))
    except (ValueError, TypeError, AttributeError, RequestError) as error:
        raise BundleRefused(Exit.BAD_METADATA, "the metadata holds a key that is none") from error
    if found.fingerprint != key.keyid:
        raise BundleRefused(Exit.BAD_METADATA, "a key of the metadata has the id of another")
    return found


def from_token(name: str, uri: str, pin: Callable[[str], str]) -> SignerKey:
    """A P-384 key on a PKCS#11 token, `hsm:KEYID?label=TOKEN`. SetupError where that can not be."""
    _check_name(name)
    match = re.fullmatch(r"hsm:([0-9]*)(?:\?label=(.+))?", uri)
    if match is None:
        raise RequestError("a token's key is hsm:KEYID?label=TOKEN", code="invalid_token", param="pkcs11")
    try:
        number = int(match[1]) if match[1] else None
        found_uri, found = HSMSigner.import_(number, match[2], pin)
        key = _of_token(found)
        signer = HSMSigner.from_priv_key_uri(found_uri, key.for_metadata(name), pin)
    except (UnsupportedLibraryError, ValueError) as error:
        raise SetupError(
            f"the token can not be used: {error}",
            code="token_unavailable",
            hint="install python-pkcs11, and name the token's module in PYKCS11LIB (guide: signing)",
        ) from error
    return SignerKey(name, {key.kind: signer})


def fingerprint(text: str) -> str:
    """A fingerprint as a person types it off paper: groups, colons and capitals are fine."""
    digits = text.replace(" ", "").replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        raise RequestError(
            "a fingerprint has 64 hexadecimal digits", code="invalid_fingerprint", param="fingerprint"
        )
    return digits


def on_paper(digits: str) -> str:
    """A fingerprint in groups of four, two lines' worth."""
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def _of_token(key: SSlibKey) -> PublicKey:
    """A token's public key, which the library gives an id of its own."""
    return _key_of(serialization.load_pem_public_key(str(key.keyval["public"]).encode()))


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise RequestError(
            "a signer's name has small letters, digits, dots and dashes", code="invalid_name", param="name"
        )


def _named(data: bytes, label: bytes) -> tuple[str, list[bytes]]:
    head = _NAMED.match(data)
    blocks = [match[0] for match in _BLOCK.finditer(data) if match[1] == label]
    if head is None or len(data) > MAX_KEY_FILE_BYTES or not 1 <= len(blocks) <= len(Kind):
        raise RequestError("this is no key file of a signer", code="invalid_key_file", param="key")
    name = head[1].decode()
    _check_name(name)
    return name, blocks


def _key_of(key: object) -> PublicKey:
    if isinstance(key, Ed25519PublicKey):
        kind = Kind.ED25519
    elif isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP384R1):
        kind = Kind.P384
    else:
        raise RequestError("a key is neither Ed25519 nor P-384", code="invalid_key", param="key")
    return PublicKey(kind, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _public(der: bytes) -> Ed25519PublicKey | EllipticCurvePublicKey:
    key = serialization.load_der_public_key(der)
    assert isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey)  # noqa: S101 - _key_of made it
    return key
