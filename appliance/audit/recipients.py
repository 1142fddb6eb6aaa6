"""Auditors' keys: what reads sealed content, and what signs acts. Made on their own machines.

An identity is one 32-byte seed. From it come the key that opens epochs (HPKE, RFC 9180) and the key
that signs acts. It never comes to the appliance (profile `dev` keeps one, loudly). A recipient is its
public half. Files are one tagged line of base64, so that a person can see what they hold.

Two suites: `xwing` (ML-KEM-768 with X25519, and Ed25519; draft-connolly-cfrg-xwing-kem), and `p256`
(ECDH and ECDSA on P-256), whose algorithms are FIPS-approved; neither makes a module validated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.errors import VerificationError

SEED_BYTES: Final = 32
MAX_FILE_BYTES: Final = 16_384
_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1184
_X25519_BYTES: Final = 32
_POINT_BYTES: Final = 65  # SEC 1, uncompressed
_SCALAR_BYTES: Final = 48  # 64 bits more than the order: SP 800-56A rev. 3 §5.6.1.2.1
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Algorithms(StrEnum):
    """Which keys an identity has."""

    XWING = "xwing"
    P256 = "p256"


_SUITES: Final = {
    Algorithms.XWING: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    Algorithms.P256: Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
SUITE_NAMES: Final = {
    Algorithms.XWING: "hpke-xwing-sha256-aes256gcm",
    Algorithms.P256: "hpke-p256-sha256-aes256gcm",
}
_OPENING_BYTES: Final = {
    Algorithms.XWING: _MLKEM_PUBLIC_BYTES + _X25519_BYTES,
    Algorithms.P256: _POINT_BYTES,
}
_SIGNING_BYTES: Final = {Algorithms.XWING: 32, Algorithms.P256: _POINT_BYTES}
_IDENTITY_TAGS: Final = {
    Algorithms.XWING: "appliance-identity-1",
    Algorithms.P256: "appliance-identity-p256-1",
}
_RECIPIENT_TAGS: Final = {
    Algorithms.XWING: "appliance-recipient-1",
    Algorithms.P256: "appliance-recipient-p256-1",
}


@dataclass(frozen=True, slots=True)
class Recipient:
    """An auditor's public half: what content is wrapped to, and what their acts are checked with."""

    name: str
    opening: bytes = field(repr=False)  # public key of the KEM
    signing: bytes = field(repr=False)  # public key of acts
    algorithms: Algorithms = Algorithms.XWING

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over both keys, in groups, for paper and for reading aloud."""
        return grouped(hashlib.sha256(self.opening + self.signing).hexdigest())

    @property
    def suite_name(self) -> str:
        """The HPKE suite, as it stands beside each wrap."""
        return SUITE_NAMES[self.algorithms]

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """HPKE base mode (RFC 9180 §5.1.1), single shot: enc || ciphertext."""
        suite = _SUITES[self.algorithms]
        if self.algorithms is Algorithms.P256:
            return suite.encrypt(secret, _point(self.opening), info)
        public = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.opening[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(self.opening[_MLKEM_PUBLIC_BYTES:]),
        )
        return suite.encrypt(secret, public, info)

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the identity behind this key signed exactly these bytes."""
        try:
            if self.algorithms is Algorithms.P256:
                _point(self.signing).verify(signature, message, ec.ECDSA(SHA256()))
            else:
                Ed25519PublicKey.from_public_bytes(self.signing).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def text(self) -> str:
        """The public file: what an auditor hands over."""
        encoded = base64.b64encode(self.opening + self.signing).decode()
        return f"{_RECIPIENT_TAGS[self.algorithms]} {self.name} {encoded}\n"


@dataclass(frozen=True, slots=True)
class Identity:
    """The secret half. Whoever holds it reads what was sealed to it, and signs in its name."""

    name: str
    seed: bytes = field(repr=False)
    algorithms: Algorithms = Algorithms.XWING

    @classmethod
    def generate(cls, name: str, algorithms: Algorithms = Algorithms.XWING) -> Identity:
        """A fresh identity from the system's generator."""
        return cls(name=checked_name(name), seed=secrets.token_bytes(SEED_BYTES), algorithms=algorithms)

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        if self.algorithms is Algorithms.P256:
            opening = _encoded(self._scalar(b"kem").public_key())
            signing = _encoded(self._scalar(b"acts").public_key())
        else:
            mlkem, x25519 = self._xwing()
            opening = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
            signing = self._ed25519().public_key().public_bytes_raw()
        return Recipient(name=self.name, opening=opening, signing=signing, algorithms=self.algorithms)

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """The secret. cryptography's InvalidTag or ValueError where it was not sealed to us."""
        suite = _SUITES[self.algorithms]
        if self.algorithms is Algorithms.P256:
            return suite.decrypt(wrapped, self._scalar(b"kem"), info)
        return suite.decrypt(wrapped, MLKEM768X25519PrivateKey(*self._xwing()), info)

    def sign(self, message: bytes) -> bytes:
        """A signature under this identity: Ed25519, or ECDSA on P-256 with SHA-256."""
        if self.algorithms is Algorithms.P256:
            return self._scalar(b"acts").sign(message, ec.ECDSA(SHA256()))
        return self._ed25519().sign(message)

    def text(self) -> str:
        """The secret file."""
        return (
            f"# secret: reads the audit log; fingerprint {self.recipient.fingerprint}\n"
            f"{_IDENTITY_TAGS[self.algorithms]} {self.name} {base64.b64encode(self.seed).decode()}\n"
        )

    def _xwing(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        # X-Wing key derivation: SHAKE-256 stretches the seed to ML-KEM's d || z and X25519's scalar.
        stretched = hashlib.shake_256(self.seed).digest(_MLKEM_SEED_BYTES + _X25519_BYTES)
        return (
            MLKEM768PrivateKey.from_seed_bytes(stretched[:_MLKEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(stretched[_MLKEM_SEED_BYTES:]),
        )

    def _ed25519(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(_derived(self.seed, b"acts", 32))

    def _scalar(self, purpose: bytes) -> ec.EllipticCurvePrivateKey:
        wide = int.from_bytes(_derived(self.seed, purpose, _SCALAR_BYTES), "big")
        return ec.derive_private_key(wide % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def parse_identity(text: str) -> Identity:
    """An identity file. VerificationError where it is none."""
    algorithms, name, seed = _parse(text, _IDENTITY_TAGS, "an auditor's identity")
    if len(seed) != SEED_BYTES:
        raise VerificationError("the identity has the wrong length")
    return Identity(name=name, seed=seed, algorithms=algorithms)


def parse_recipient(text: str) -> Recipient:
    """A recipient file. VerificationError where it is none."""
    algorithms, name, public = _parse(text, _RECIPIENT_TAGS, "an auditor's public key")
    return recipient_of(name, public, algorithms)


def recipient_of(name: str, public: bytes, algorithms: Algorithms) -> Recipient:
    """A recipient from both public keys, one behind the other. VerificationError unless they are keys."""
    length = _OPENING_BYTES[algorithms]
    if len(public) != length + _SIGNING_BYTES[algorithms]:
        raise VerificationError("the public key has the wrong length")
    found = Recipient(checked_name(name), public[:length], public[length:], algorithms)
    try:
        found.wrap(bytes(SEED_BYTES), b"")  # a key that nothing can be wrapped to would stop the log later
        if algorithms is Algorithms.P256:
            _point(found.signing)
    except ValueError as error:
        raise VerificationError("the public key is not one") from error
    return found


def grouped(digest: str) -> str:
    """The first 128 bits of a hexadecimal digest in groups of four, for paper."""
    return "-".join(digest[start : start + 4] for start in range(0, 32, 4))


def checked_name(name: str) -> str:
    """A name that stands in files and notes. VerificationError otherwise."""
    if not 1 <= len(name) <= 64 or not all(
        each.isascii() and (each.isalnum() or each in "._@-") for each in name
    ):
        raise VerificationError(
            "an auditor's name has 1 to 64 letters, digits, dots, dashes, underscores or @"
        )
    return name


def _derived(seed: bytes, purpose: bytes, length: int) -> bytes:
    info = b"appliance/identity/1/" + purpose
    return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(seed)


def _encoded(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _point(data: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def _parse(text: str, tags: dict[Algorithms, str], what: str) -> tuple[Algorithms, str, bytes]:
    if len(text) > MAX_FILE_BYTES:
        raise VerificationError(f"this file is too large for {what}")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parts = lines[0].split(" ") if len(lines) == 1 else []
    found = [each for each, tag in tags.items() if parts and parts[0] == tag]
    if len(parts) != 3 or not found:
        raise VerificationError(f"this is not {what}")
    try:
        return found[0], checked_name(parts[1]), base64.b64decode(parts[2], validate=True)
    except binascii.Error as error:
        raise VerificationError(f"this is not {what}") from error
