"""Auditors' keys: X-Wing (ML-KEM-768 with X25519) identities, recipients and the key policy.

An identity is the 32-byte X-Wing seed; it is made on the auditor's own machine and never comes to
the appliance (profile `dev` keeps one, loudly). A recipient is its public half. Files are one
tagged line of base64, so that a person can see what they hold. Source: draft-connolly-cfrg-xwing-kem.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import rfc8785
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from appliance.errors import VerificationError

SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
SUITE_NAME = "hpke-xwing-sha256-aes256gcm"
SEED_BYTES = 32
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
PUBLIC_BYTES = _MLKEM_PUBLIC_BYTES + 32
MAX_FILE_BYTES = 16_384
_IDENTITY_TAG = "appliance-identity-1"
_RECIPIENT_TAG = "appliance-recipient-1"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key that sealed content is wrapped to."""

    name: str
    public: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 in groups, for paper and for reading aloud."""
        digest = hashlib.sha256(self.public).hexdigest()[:32]
        return "-".join(digest[start : start + 4] for start in range(0, 32, 4))

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """HPKE base mode (RFC 9180 §5.1.1), single shot: enc || ciphertext."""
        public = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC_BYTES:]),
        )
        return SUITE.encrypt(secret, public, info)

    def text(self) -> str:
        """The public file: what an auditor hands over."""
        return f"{_RECIPIENT_TAG} {self.name} {base64.b64encode(self.public).decode()}\n"


@dataclass(frozen=True, slots=True)
class Identity:
    """The secret half. Whoever holds it reads what was sealed to it."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Identity:
        """A fresh identity from the system's generator."""
        return cls(name=_checked_name(name), seed=secrets.token_bytes(SEED_BYTES))

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        mlkem, x25519 = self._keys()
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        return Recipient(name=self.name, public=public)

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """The secret. cryptography's InvalidTag or ValueError where it was not sealed to us."""
        return SUITE.decrypt(wrapped, MLKEM768X25519PrivateKey(*self._keys()), info)

    def text(self) -> str:
        """The secret file."""
        return (
            f"# secret: reads the audit log; fingerprint {self.recipient.fingerprint}\n"
            f"{_IDENTITY_TAG} {self.name} {base64.b64encode(self.seed).decode()}\n"
        )

    def _keys(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        # X-Wing key derivation: SHAKE-256 stretches the seed to ML-KEM's d || z and X25519's scalar.
        stretched = hashlib.shake_256(self.seed).digest(_MLKEM_SEED_BYTES + 32)
        return (
            MLKEM768PrivateKey.from_seed_bytes(stretched[:_MLKEM_SEED_BYTES]),
            X25519PrivateKey.from_private_bytes(stretched[_MLKEM_SEED_BYTES:]),
        )


def parse_identity(text: str) -> Identity:
    """An identity file. VerificationError where it is none."""
    name, seed = _parse(text, _IDENTITY_TAG, "an auditor's identity")
    if len(seed) != SEED_BYTES:
        raise VerificationError("the identity has the wrong length")
    return Identity(name=name, seed=seed)


def parse_recipient(text: str) -> Recipient:
    """A recipient file. VerificationError where it is none."""
    name, public = _parse(text, _RECIPIENT_TAG, "an auditor's public key")
    if len(public) != PUBLIC_BYTES:
        raise VerificationError("the public key has the wrong length")
    return Recipient(name=name, public=public)


class _PolicyRecipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    public: str


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    mode: str
    recipients: list[_PolicyRecipient]


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Who can read what is sealed from now on: any one of these (mode `any-of`)."""

    recipients: tuple[Recipient, ...]

    def text(self) -> str:
        """Canonical JSON: these bytes are pinned by leaf 0."""
        policy: dict[str, Any] = {
            "v": 0,
            "mode": "any-of",
            "recipients": [
                {"name": each.name, "public": base64.b64encode(each.public).decode()}
                for each in self.recipients
            ],
        }
        return rfc8785.dumps(policy).decode()

    @property
    def sha256(self) -> str:
        """The policy's name in headers."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """For paper, as a recipient's."""
        return "-".join(self.sha256[start : start + 4] for start in range(0, 32, 4))

    @classmethod
    def of(cls, recipients: Sequence[Recipient]) -> KeyPolicy:
        """A policy over these keys. VerificationError for none, or one twice."""
        if not recipients:
            raise VerificationError("a key policy needs at least one auditor")
        if len({each.public for each in recipients}) != len(recipients):
            raise VerificationError("one auditor's key was given twice")
        return cls(recipients=tuple(recipients))

    @classmethod
    def parse(cls, text: str) -> KeyPolicy:
        """From stored text. VerificationError unless it is in its one form."""
        try:
            raw = msgspec.json.decode(text, type=_Policy)
            found = cls.of(
                [
                    Recipient(name=each.name, public=base64.b64decode(each.public, validate=True))
                    for each in raw.recipients
                ]
            )
        except (msgspec.MsgspecError, binascii.Error) as error:
            raise VerificationError("the key policy is malformed") from error
        if found.text() != text:
            raise VerificationError("the key policy is not in its canonical form")
        return found


def _parse(text: str, tag: str, what: str) -> tuple[str, bytes]:
    if len(text) > MAX_FILE_BYTES:
        raise VerificationError(f"this file is too large for {what}")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parts = lines[0].split(" ") if len(lines) == 1 else []
    if len(parts) != 3 or parts[0] != tag:
        raise VerificationError(f"this is not {what}")
    try:
        return _checked_name(parts[1]), base64.b64decode(parts[2], validate=True)
    except binascii.Error as error:
        raise VerificationError(f"this is not {what}") from error


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= 64 or not all(each.isalnum() or each in "._@-" for each in name):
        raise VerificationError(
            "an auditor's name has 1 to 64 letters, digits, dots, dashes, underscores or @"
        )
    return name
