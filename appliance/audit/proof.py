"""C2SP tlog-proof: one file that proves offline that an entry is in the log. Pure.

Its lines: `c2sp.org/tlog-proof@v1`; optionally `extra <base64>`, opaque and not authenticated; `index
<decimal>`; the inclusion proof (RFC 6962 §2.1.1), one hash in base64 a line, leaf's sibling first; an empty
line; the checkpoint with the log's and the witnesses' signatures.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.audit import checkpoint, merkle
from appliance.audit.checkpoint import Checkpoint, Verifier
from appliance.errors import VerificationError

MAX_HASHES = 63  # a tree's size fits into 63 bits
_VERSION = "c2sp.org/tlog-proof@v1"
_MAX_EXTRA_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's place, its path to the root, and the checkpoint note that signs the root."""

    index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The file."""
        lines = [_VERSION]
        if self.extra is not None:
            lines.append(f"extra {checkpoint.encode(self.extra)}")
        lines.append(f"index {self.index}")
        lines += map(checkpoint.encode, self.hashes)
        return ("\n".join(lines) + "\n\n" + self.note).encode()


def parse(data: bytes) -> Proof:
    """A proof from its file. VerificationError unless it is in its one form; proves nothing yet."""
    if len(data) > checkpoint.MAX_NOTE_BYTES:
        raise VerificationError("the proof is too large")
    try:
        head, separator, note = data.decode().partition("\n\n")
    except UnicodeDecodeError as error:
        raise VerificationError("the proof is not UTF-8") from error
    lines = head.split("\n")
    if not separator or lines.pop(0) != _VERSION:
        raise VerificationError("this is not a tlog-proof of version 1")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = checkpoint.decode(lines.pop(0).removeprefix("extra "))
        if len(extra) > _MAX_EXTRA_BYTES:
            raise VerificationError("the proof's extra data are too large")
    if not lines or not lines[0].startswith("index "):
        raise VerificationError("the proof has no index")
    index = checkpoint.number(lines.pop(0).removeprefix("index "))
    hashes = hashes_of(lines)
    checkpoint.parse(checkpoint.read_note(note).text)
    return Proof(index=index, hashes=hashes, note=note, extra=extra)


def hashes_of(lines: list[str]) -> tuple[bytes, ...]:
    """The lines of a Merkle proof, one hash each. VerificationError for anything else."""
    if len(lines) > MAX_HASHES:
        raise VerificationError("the proof has too many hashes")
    hashes = tuple(map(checkpoint.decode, lines))
    if any(len(each) != merkle.HASH_BYTES for each in hashes):
        raise VerificationError("a proof's hash has another length")
    return hashes


def verify(proof: Proof, leaf: bytes, log: Verifier, *others: Verifier) -> Checkpoint:
    """The checkpoint whose tree holds this leaf hash. VerificationError where the proof fails."""
    head = checkpoint.open_checkpoint(proof.note, log, *others)
    if not merkle.verify_inclusion(proof.index, head.size, leaf, head.root, proof.hashes):
        raise VerificationError("the proof does not lead from this entry to the checkpoint's root")
    return head
