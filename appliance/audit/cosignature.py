"""C2SP tlog-cosignature: what a witness says about a checkpoint, with the time. Pure.

Two forms, both in one signature line of the note: Ed25519 (0x04) over a header, the time and the note's
text; ML-DSA-44 (0x06, FIPS 204) over a structure that names the witness as well. Before the signature
stands the time, eight bytes, POSIX seconds. An Ed25519 key serves one witness and nothing else: its
message does not name who signed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from appliance.audit import checkpoint
from appliance.audit.checkpoint import Algorithm, Signature, Verifier
from appliance.errors import VerificationError

COSIGNATURES = frozenset({Algorithm.COSIGNATURE_ED25519, Algorithm.COSIGNATURE_ML_DSA_44})
_TIME_BYTES = 8
_MAX_TIME = (1 << 63) - 1
_SUBTREE_LABEL = b"subtree/v1\n\0"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's verified statement: at `time` (POSIX seconds) this was the largest tree it knew."""

    witness: Verifier
    time: int
    line: str  # without its line feed


class Cosigner:
    """A witness's secret key under its name. Never prints it."""

    def __init__(self, name: str, key: Ed25519PrivateKey | MLDSA44PrivateKey) -> None:
        if not checkpoint.is_name(name):
            raise ValueError("a witness's name has no spaces and no plus")
        self._key = key
        self.verifier = Verifier(
            name=name,
            public=key.public_key().public_bytes_raw(),
            algorithm=Algorithm.COSIGNATURE_ED25519
            if isinstance(key, Ed25519PrivateKey)
            else Algorithm.COSIGNATURE_ML_DSA_44,
        )

    def cosign(self, text: str, time: int) -> str:
        """The signature line for a checkpoint's note text, with its line feed."""
        if not 0 < time <= _MAX_TIME:
            raise ValueError("a cosignature's time is in POSIX seconds, and not zero")
        signature = self._key.sign(_message(self.verifier, text, time))
        return checkpoint.signature_line(self.verifier, time.to_bytes(_TIME_BYTES, "big") + signature)


def verify(text: str, signature: Signature, witness: Verifier) -> Cosignature:
    """One cosignature over a checkpoint's note text. VerificationError where it does not hold."""
    if not signature.is_by(witness) or witness.algorithm not in COSIGNATURES:
        raise VerificationError("the cosignature is by another key")
    time = int.from_bytes(signature.data[:_TIME_BYTES], "big")
    # A zero time would make no statement about the newest tree: no checkpoint's cosignature has it.
    if len(signature.data) <= _TIME_BYTES or not 0 < time <= _MAX_TIME:
        raise VerificationError("the cosignature has no time")
    message, data = _message(witness, text, time), signature.data[_TIME_BYTES:]
    try:
        if witness.algorithm is Algorithm.COSIGNATURE_ED25519:
            Ed25519PublicKey.from_public_bytes(witness.public).verify(data, message)
        else:
            MLDSA44PublicKey.from_public_bytes(witness.public).verify(data, message)
    except InvalidSignature as error:
        raise VerificationError("a cosignature is not valid") from error
    return Cosignature(witness=witness, time=time, line=signature.line)


def verified(note: str, witnesses: Iterable[Verifier]) -> list[Cosignature]:
    """What these witnesses said about a checkpoint. VerificationError where one of them did not say it.

    Lines of unknown keys are ignored; a line that claims to be a known key's must hold.
    """
    found = checkpoint.read_note(note)
    return [
        verify(found.text, signature, witness)
        for witness in witnesses
        for signature in found.signatures
        if signature.is_by(witness)
    ]


def _message(witness: Verifier, text: str, time: int) -> bytes:
    if witness.algorithm is Algorithm.COSIGNATURE_ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    head = checkpoint.parse(text)
    return b"".join(
        (
            _SUBTREE_LABEL,
            _short(witness.name),
            time.to_bytes(8, "big"),
            _short(head.origin),
            (0).to_bytes(8, "big"),  # a checkpoint's subtree starts with the first leaf
            head.size.to_bytes(8, "big"),
            head.root,
        )
    )


def _short(text: str) -> bytes:
    """opaque<1..2^8-1>, RFC 8446 §3.4."""
    data = text.encode()
    if not 1 <= len(data) <= 255:
        raise VerificationError("a name is too long for this cosignature")
    return bytes([len(data)]) + data
