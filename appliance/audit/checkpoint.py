"""C2SP signed-note and tlog-checkpoint, byte for byte. Pure: bytes in, values out.

A checkpoint is the note text ``origin\\nsize\\nbase64(root)\\n``; a signed note is the text, an empty
line, and signature lines ``— <name> base64(key id || signature)``, one for each signer. Parsing is
strict: one value has one form. Here are the keys that sign a note's text: Ed25519, and ECDSA P-256
beside it where only approved curves count. Cosignatures sign more than the text: cosignature.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from appliance.audit.merkle import HASH_BYTES
from appliance.errors import VerificationError

MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 100
_KEY_ID_BYTES = 4
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class Algorithm(IntEnum):
    """C2SP signed-note: signature types."""

    ED25519 = 0x01
    ECDSA_P256 = 0x02
    COSIGNATURE_ED25519 = 0x04
    COSIGNATURE_ML_DSA_44 = 0x06


_PUBLIC_BYTES = {
    Algorithm.ED25519: 32,
    Algorithm.COSIGNATURE_ED25519: 32,
    Algorithm.COSIGNATURE_ML_DSA_44: 1312,
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: this log had this many entries and this root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note text, C2SP tlog-checkpoint."""
        return f"{self.origin}\n{self.size}\n{encode(self.root)}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that signs notes, as its public half: a vkey `name+hash+key` of C2SP signed-note."""

    name: str
    public: bytes  # raw, but for ECDSA: there it is a SubjectPublicKeyInfo
    algorithm: Algorithm = Algorithm.ED25519

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || type || key)[:4]; of ECDSA, SHA-256(key)[:4]."""
        material = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public
        if self.algorithm is Algorithm.ECDSA_P256:
            material = self.public
        return hashlib.sha256(material).digest()[:_KEY_ID_BYTES]

    def text(self) -> str:
        """The vkey, one line."""
        return f"{self.name}+{self.key_id.hex()}+{encode(bytes([self.algorithm]) + self.public)}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """From a vkey. VerificationError unless it is exactly in its one form."""
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = decode(encoded)
        try:
            algorithm, public = Algorithm(material[0]), material[1:]
        except (IndexError, ValueError) as error:
            raise VerificationError("the verifier key is of an unknown kind") from error
        if algorithm is Algorithm.ECDSA_P256:
            _ecdsa_key(public)
        elif len(public) != _PUBLIC_BYTES[algorithm]:
            raise VerificationError("the verifier key is malformed")
        if not is_name(name):
            raise VerificationError("the verifier key is malformed")
        verifier = cls(name=name, public=public, algorithm=algorithm)
        if verifier.key_id.hex() != key_id:
            raise VerificationError("the verifier key does not match its own hash")
        return verifier

    def verify(self, text: str, signature: bytes) -> None:
        """VerificationError unless this key made this signature over a note's text."""
        try:
            match self.algorithm:
                case Algorithm.ED25519:
                    Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
                case Algorithm.ECDSA_P256:
                    _ecdsa_key(self.public).verify(signature, text.encode(), ec.ECDSA(SHA256()))
                case _:
                    raise VerificationError("this key cosigns: it does not sign notes")
        except InvalidSignature as error:
            raise VerificationError("a signature is not valid") from error


class Signer:
    """Signs notes under one name. Holds the private key; never prints it."""

    def __init__(self, name: str, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        if not is_name(name):
            raise ValueError("a note's key name has no spaces and no plus")
        self._key = key
        if isinstance(key, Ed25519PrivateKey):
            self.verifier = Verifier(name=name, public=key.public_key().public_bytes_raw())
        else:
            public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            _ecdsa_key(public)
            self.verifier = Verifier(name=name, public=public, algorithm=Algorithm.ECDSA_P256)

    def under(self, name: str) -> Signer:
        """The same key under another name: for notes that are never to be taken for this one's."""
        return Signer(name, self._key)

    def sign(self, text: str) -> str:
        """The signed note: text, empty line, one signature line."""
        return f"{text}\n{self.line(text)}"

    def line(self, text: str) -> str:
        """The signature line alone, to be put under a note that others signed too."""
        if isinstance(self._key, Ed25519PrivateKey):
            signature = self._key.sign(text.encode())
        else:
            signature = self._key.sign(text.encode(), ec.ECDSA(SHA256()))
        return signature_line(self.verifier, signature)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line, as it was read."""

    name: str
    key_id: bytes
    data: bytes
    line: str

    def is_by(self, verifier: Verifier) -> bool:
        """Whether it claims to be this key's: name and key id together say so."""
        return (self.name, self.key_id) == (verifier.name, verifier.key_id)


@dataclass(frozen=True, slots=True)
class Note:
    """A note that nobody has verified: its text, and who claims to have signed it."""

    text: str
    signatures: tuple[Signature, ...]


def read_note(note: str) -> Note:
    """Take a note apart. VerificationError unless it is in its one form."""
    try:
        size = len(note.encode())
    except UnicodeEncodeError as error:
        raise VerificationError("the note is not UTF-8") from error
    if size > MAX_NOTE_BYTES:
        raise VerificationError("the note is too large")
    if any(ord(character) < 0x20 and character != "\n" for character in note):
        raise VerificationError("the note holds control characters")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise VerificationError("the note has no signatures")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise VerificationError("the note has too many signatures")
    return Note(text=text + "\n", signatures=tuple(map(read_signature, lines)))


def read_signature(line: str) -> Signature:
    """One signature line, without its line feed. VerificationError unless it is in its one form."""
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not is_name(parts[1]):
        raise VerificationError("a signature line is malformed")
    material = decode(parts[2])
    if len(material) <= _KEY_ID_BYTES:
        raise VerificationError("a signature line is malformed")
    return Signature(parts[1], material[:_KEY_ID_BYTES], material[_KEY_ID_BYTES:], line)


def signature_line(verifier: Verifier, signature: bytes) -> str:
    """`— name base64(key id || signature)`, with its line feed."""
    return f"— {verifier.name} {encode(verifier.key_id + signature)}\n"


def open_note(note: str, *verifiers: Verifier) -> str:
    """The text of a note that each of `verifiers` signed, once.

    Signatures by other keys are ignored, as C2SP demands, even where name or key id is one of ours.
    """
    found = read_note(note)
    for verifier in verifiers:
        signatures = [each for each in found.signatures if each.is_by(verifier)]
        for signature in signatures:
            verifier.verify(found.text, signature.data)
        if len(signatures) != 1:
            raise VerificationError("the note is not signed by the expected key")
    return found.text


def parse(text: str) -> Checkpoint:
    """A checkpoint from its note text. VerificationError unless it is in its one form."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "":
        raise VerificationError("a checkpoint has three lines")
    origin, size, encoded = lines[:3]
    root = decode(encoded)
    if not origin or len(root) != HASH_BYTES:
        raise VerificationError("the checkpoint is malformed")
    return Checkpoint(origin=origin, size=number(size), root=root)


def open_checkpoint(note: str, verifier: Verifier, *others: Verifier) -> Checkpoint:
    """A checkpoint that `verifier` signed for its own log, and each of the log's other keys too."""
    checkpoint = parse(open_note(note, verifier, *others))
    if checkpoint.origin != verifier.name:
        raise VerificationError("the checkpoint belongs to another log")
    return checkpoint


def origin_of(note: str) -> str:
    """The name on a note that nobody has verified: good for an error message, and for nothing else."""
    return note.partition("\n")[0]


def number(text: str) -> int:
    """A size or an index: decimal, no sign, no leading zero, below 10^19."""
    if not _SIZE.fullmatch(text):
        raise VerificationError("a number is malformed")
    return int(text)


def is_name(name: str) -> bool:
    """Whether a key can have this name."""
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def encode(data: bytes) -> str:
    """Standard base64, RFC 4648 §4."""
    return base64.standard_b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """What `encode` made. VerificationError for every other form."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerificationError("base64 is malformed") from error
    if encode(data) != text:  # trailing bits and missing padding: a second form of one value
        raise VerificationError("base64 is not in its canonical form")
    return data


def _ecdsa_key(public: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError("the ECDSA key is malformed") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise VerificationError("the ECDSA key is not on P-256")
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public:
        raise VerificationError("the ECDSA key is not in its canonical form")
    return key
