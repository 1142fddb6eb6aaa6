"""A witness's key file: two secret keys under one name, made on the witness's own machine.

Ed25519 cosigns in a line short enough for a QR code; ML-DSA-44 (FIPS 204) in one that no quantum computer
forges. Each is used for this witness and for nothing else.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from appliance.audit import checkpoint
from appliance.audit.checkpoint import Verifier
from appliance.audit.cosignature import COSIGNATURES, Cosigner
from appliance.errors import VerificationError

MAX_FILE_BYTES: Final = 65_536
MAX_NAME: Final = 100
_TAG: Final = "appliance-witness-1"
_SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WitnessKeys:
    """The secret file's content."""

    name: str
    ed25519: bytes = field(repr=False)
    ml_dsa: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> WitnessKeys:
        """Fresh keys from the system's generator. VerificationError for a name that no note takes."""
        return cls(checked_name(name), secrets.token_bytes(_SEED_BYTES), secrets.token_bytes(_SEED_BYTES))

    @property
    def cosigners(self) -> list[Cosigner]:
        """Both, the short one first."""
        return [
            Cosigner(self.name, Ed25519PrivateKey.from_private_bytes(self.ed25519)),
            Cosigner(self.name, MLDSA44PrivateKey.from_seed_bytes(self.ml_dsa)),
        ]

    def text(self) -> str:
        """The secret file."""
        seeds = f"{checkpoint.encode(self.ed25519)} {checkpoint.encode(self.ml_dsa)}"
        return f"# secret: cosigns as {self.name}\n{_TAG} {self.name} {seeds}\n"

    def public(self) -> str:
        """The public file: one vkey a line."""
        return "".join(f"{each.verifier.text()}\n" for each in self.cosigners)


def parse(text: str) -> WitnessKeys:
    """From the secret file. VerificationError where it is none."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parts = lines[0].split(" ") if len(lines) == 1 else []
    if len(parts) != 4 or parts[0] != _TAG:
        raise VerificationError("this is not a witness's key file")
    keys = WitnessKeys(checked_name(parts[1]), *map(checkpoint.decode, parts[2:]))
    if {len(keys.ed25519), len(keys.ml_dsa)} != {_SEED_BYTES}:
        raise VerificationError("the witness's key has the wrong length")
    return keys


def parse_public(text: str) -> list[Verifier]:
    """The vkeys of a witness's public file. VerificationError unless they are one witness's."""
    found = [Verifier.parse(line) for line in text.splitlines() if line]
    if not found or len({each.name for each in found}) != 1:
        raise VerificationError("this is not one witness's public file")
    if not {each.algorithm for each in found} <= COSIGNATURES:
        raise VerificationError("these keys sign notes, and do not cosign checkpoints")
    checked_name(found[0].name)
    return found


def checked_name(name: str) -> str:
    """A name that notes, rows and headers take. VerificationError for another."""
    if not checkpoint.is_name(name) or not name.isascii() or not name.isprintable() or len(name) > MAX_NAME:
        raise VerificationError("a witness's name has 1 to 100 printable letters, no space and no plus")
    return name
