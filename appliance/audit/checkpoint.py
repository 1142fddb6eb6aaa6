"""C2SP signed-note and tlog-checkpoint, byte for byte, with Ed25519. Pure: bytes in, values out.

A checkpoint is the note text ``origin\\nsize\\nbase64(root)\\n``; a signed note is the text, an empty
line, and signature lines ``— <name> base64(key id || signature)``. Parsing is strict: one value has
one form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.audit.merkle import HASH_BYTES
from appliance.errors import VerificationError

MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 100
_ED25519 = 0x01  # C2SP signed-note: signature type of plain Ed25519
_KEY_ID_BYTES = 4
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: this log had this many entries and this root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text, C2SP tlog-checkpoint."""
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that signs notes, as its public half: a vkey `name+hash+key` of C2SP signed-note."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || type || key)[:4]."""
        material = self.name.encode() + b"\n" + bytes([_ED25519]) + self.public
        return hashlib.sha256(material).digest()[:_KEY_ID_BYTES]

    def text(self) -> str:
        """The vkey, one line."""
        return f"{self.name}+{self.key_id.hex()}+{_encode(bytes([_ED25519]) + self.public)}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """From a vkey. VerificationError unless it is exactly in its one form."""
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = _decode(encoded)
        if len(material) != 1 + HASH_BYTES or material[0] != _ED25519 or not _is_name(name):
            raise VerificationError("the verifier key is malformed")
        verifier = cls(name=name, public=material[1:])
        if verifier.key_id.hex() != key_id:
            raise VerificationError("the verifier key does not match its own hash")
        return verifier


class Signer:
    """Signs notes under one name. Holds the private key; never prints it."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        if not _is_name(name):
            raise ValueError("a note's key name has no spaces and no plus")
        self._key = key
        self.verifier = Verifier(name=name, public=key.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """The signed note: text, empty line, one signature line."""
        signature = self._key.sign(text.encode())
        encoded = _encode(self.verifier.key_id + signature)
        return f"{text}\n— {self.verifier.name} {encoded}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """The text of a note that `verifier` signed. Unknown signatures are ignored, as C2SP demands."""
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise VerificationError("the note is too large")
    if any(ord(character) < 0x20 and character != "\n" for character in note):
        raise VerificationError("the note holds control characters")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise VerificationError("the note has no signatures")
    text += "\n"
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise VerificationError("the note has too many signatures")
    good = 0
    for line in lines:
        dash, name, encoded = _signature_line(line)
        material = _decode(encoded)
        if dash != "—" or not _is_name(name) or len(material) <= _KEY_ID_BYTES:
            raise VerificationError("a signature line is malformed")
        if name != verifier.name or material[:_KEY_ID_BYTES] != verifier.key_id:
            continue
        try:
            public = Ed25519PublicKey.from_public_bytes(verifier.public)
            public.verify(material[_KEY_ID_BYTES:], text.encode())
        except InvalidSignature as error:
            raise VerificationError("a signature is not valid") from error
        good += 1
    if good != 1:
        raise VerificationError("the note is not signed by the expected key")
    return text


def parse(text: str) -> Checkpoint:
    """A checkpoint from its note text. VerificationError unless it is in its one form."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "":
        raise VerificationError("a checkpoint has three lines")
    origin, size, encoded = lines[:3]
    root = _decode(encoded)
    if not origin or not _SIZE.fullmatch(size) or len(root) != HASH_BYTES:
        raise VerificationError("the checkpoint is malformed")
    return Checkpoint(origin=origin, size=int(size), root=root)


def open_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """A checkpoint that `verifier` signed for its own log."""
    checkpoint = parse(open_note(note, verifier))
    if checkpoint.origin != verifier.name:
        raise VerificationError("the checkpoint belongs to another log")
    return checkpoint


def origin_of(note: str) -> str:
    """The name on a note that nobody has verified: good for an error message, and for nothing else."""
    return note.partition("\n")[0]


def _signature_line(line: str) -> tuple[str, str, str]:
    parts = line.split(" ")
    if len(parts) != 3:
        raise VerificationError("a signature line is malformed")
    return parts[0], parts[1], parts[2]


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def _encode(data: bytes) -> str:
    return base64.standard_b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerificationError("base64 is malformed") from error
    if _encode(data) != text:  # trailing bits and missing padding: a second form of one value
        raise VerificationError("base64 is not in its canonical form")
    return data
