"""Sealing of content: AES-256-GCM under one key per record, in two halves that nobody holds together.

    ES      random, in memory only, one per epoch; wrapped by HPKE to the readers of the policy
    CK_0    = HKDF-Expand(ES, "ck")
    seed_n  = HMAC(CK_n, 0x01)      the auditors' half of the record's secret
    CK_n+1  = HMAC(CK_n, 0x02)      overwrites CK_n: there is no way back
    SS      the subject's share of the month: the appliance's half (shares.py)
    PRK     = HMAC(SS, seed_n)
    K_enc   = HKDF-Expand(PRK, "audit/v1/enc" || H(AAD)),  kc = HKDF-Expand(PRK, "audit/v1/commit")

Neither half opens anything. So every reading needs a share that the appliance releases, on the record
first, and a share that is erased takes its subject's content with it, in every copy of the database.

After a record is sealed the appliance keeps nothing that opens it: ES is dropped as soon as CK_0 and
the wraps exist, and each CK is replaced by the next. CPython does not wipe what it frees, so `wipe`
does; what a library copied in between is beyond us, and a test looks for it in the memory of a real
process. Sources: RFC 5869 (HKDF), RFC 9180
(HPKE), NIST SP 800-38D (GCM).
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.audit.policy import KeyPolicy, Reading
from appliance.audit.recipients import Identity, Recipient
from appliance.errors import InternalError, VerificationError

ALGORITHM = "A256GCM"
NONCE_BYTES = 12
SECRET_BYTES = 32
_SALT_BYTES = 16
_LENGTH_BYTES = 4
_MAX_CONTENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: bound into its encryption, so that ciphertexts can not be swapped."""

    origin: str
    seq: int
    epoch: int
    step: int
    kind: str

    def aad(self) -> bytes:
        """Additional authenticated data."""
        return f"audit/v1\n{self.origin}\n{self.seq}\n{self.epoch}\n{self.step}\n{self.kind}".encode()


@dataclass(frozen=True, slots=True)
class Sealed:
    """Ciphertext, and what the header commits to."""

    nonce: bytes
    ciphertext: bytes = field(repr=False)
    key_commitment: bytes

    @property
    def sha256(self) -> str:
        """Over nonce || ciphertext || tag, hex."""
        return hashlib.sha256(self.nonce + self.ciphertext).hexdigest()


@dataclass(frozen=True, slots=True)
class Wrap:
    """An epoch's secret, sealed to one recipient."""

    recipient: str  # fingerprint; where it takes two, with ":k" for the policy's k-th pair
    suite: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecordKey:
    """What opens exactly one record."""

    prk: bytes = field(repr=False)
    place: Place

    @property
    def key(self) -> bytes:
        """The AES-256-GCM key."""
        return _record_key(self.prk, self.place.aad())

    def open(self, sealed: Sealed, *, key_commitment: str) -> dict[str, Any]:
        """The content. VerificationError where anything does not fit."""
        if not hmac.compare_digest(commitment(self.prk).hex(), key_commitment):
            raise VerificationError("the record was sealed under another key")
        aad = self.place.aad()
        try:
            framed = AESGCM(_record_key(self.prk, aad)).decrypt(sealed.nonce, sealed.ciphertext, aad)
        except InvalidTag as error:
            raise VerificationError("the ciphertext does not open") from error
        return _unframe(framed)


class Epoch:
    """The sealing side of one epoch. Owner: the sequencer's thread."""

    def __init__(self, number: int, origin: str, policy: KeyPolicy) -> None:
        secret = secrets.token_bytes(SECRET_BYTES)
        info = wrap_info(origin, number, policy.sha256)
        self.number = number
        self.step = 0
        self.secret_sha256 = hashlib.sha256(secret).hexdigest()
        self.wraps = _wraps(secret, info, policy)
        self._origin = origin
        self._chain_key = first_chain_key(secret)
        wipe(secret)

    def seal(self, content: Mapping[str, Any], *, share: bytes, seq: int, kind: str) -> tuple[int, Sealed]:
        """Seal one record's content; its step in the epoch, and the ciphertext."""
        place = Place(self._origin, seq, self.number, self.step, kind)
        past = self._chain_key
        seed, self._chain_key = advance(past)
        self.step += 1
        prk = combine(share, seed)
        sealed = _seal(prk, place, _frame(content))
        for each in (past, seed, prk):
            wipe(each)
        return place.step, sealed


class Opener:
    """The auditors' side of one epoch: identities and wraps in, contents out."""

    def __init__(
        self,
        identities: Sequence[Identity],
        *,
        origin: str,
        epoch: int,
        policy: KeyPolicy,
        secret_sha256: str,
        wraps: Mapping[str, bytes],
    ) -> None:
        secret = _unwrapped(identities, policy, wraps, wrap_info(origin, epoch, policy.sha256))
        if hashlib.sha256(secret).hexdigest() != secret_sha256:
            raise VerificationError("the wrapped secret is not the one that the epoch committed to")
        self._origin = origin
        self._epoch = epoch
        self._start = first_chain_key(secret)
        self._chain_key, self._step = self._start, 0

    def open(
        self, sealed: Sealed, *, share: bytes, seq: int, step: int, kind: str, key_commitment: str
    ) -> dict[str, Any]:
        """The content of one record. VerificationError where anything does not fit."""
        return self.disclose(share=share, seq=seq, step=step, kind=kind).open(
            sealed, key_commitment=key_commitment
        )

    def disclose(self, *, share: bytes, seq: int, step: int, kind: str) -> RecordKey:
        """One record's own key, which opens this record and no other: what evidence carries."""
        return RecordKey(combine(share, self._seed(step)), Place(self._origin, seq, self._epoch, step, kind))

    def _seed(self, step: int) -> bytes:
        if step < self._step:  # the ratchet only turns forward: begin again
            self._chain_key, self._step = self._start, 0
        while True:
            seed, following = advance(self._chain_key)
            if self._step == step:
                return seed
            self._chain_key, self._step = following, self._step + 1


def wrap_info(origin: str, epoch: int, policy_sha256: str) -> bytes:
    """HPKE's info: a wrap is good for one log, epoch and policy only."""
    return f"audit/epoch/v1\n{origin}\n{epoch}\n{policy_sha256}".encode()


def first_chain_key(secret: bytes) -> bytes:
    """CK_0."""
    return _expand(secret, b"ck")


def advance(chain_key: bytes) -> tuple[bytes, bytes]:
    """(seed_n, CK_n+1) from CK_n."""
    return (
        hmac.digest(chain_key, b"\x01", "sha256"),
        hmac.digest(chain_key, b"\x02", "sha256"),
    )


def wipe(secret: bytes) -> None:
    """Overwrite a secret that nobody else holds, in place; on CPython, whose bytes lie behind a head."""
    if sys.implementation.name == "cpython" and len(secret) > 1:  # shorter ones are shared by everybody
        ctypes.memset(id(secret) + sys.getsizeof(b"") - 1, 0, len(secret))


def combine(share: bytes, seed: bytes) -> bytes:
    """PRK of a record from both halves."""
    return hmac.digest(share, seed, "sha256")


def check(content: Mapping[str, Any]) -> None:
    """InternalError where this can not be sealed, or not be opened again: before it has a place."""
    try:
        size = _SALT_BYTES + _LENGTH_BYTES + len(_json(content))
    except (TypeError, ValueError, RecursionError) as error:
        raise InternalError("a content can not be written as JSON") from error
    if padme(size) > _MAX_CONTENT_BYTES:
        raise InternalError("a content is too large to be opened again")


def _wraps(secret: bytes, info: bytes, policy: KeyPolicy) -> list[Wrap]:
    """The secret to every reader; or to each two of them, in halves that are nothing alone."""
    if policy.reading is Reading.ANY:
        return [_wrap(each, secret, info) for each in policy.readers]
    wraps = []
    for number, (one, other) in enumerate(policy.pairs()):
        mask = secrets.token_bytes(SECRET_BYTES)
        wraps.append(_wrap(one, mask, info, number))
        wraps.append(_wrap(other, _xor(secret, mask), info, number))
    return wraps


def _wrap(reader: Recipient, secret: bytes, info: bytes, pair: int | None = None) -> Wrap:
    return Wrap(_label(reader, pair), reader.suite_name, reader.wrap(secret, info))


def _label(reader: Recipient, pair: int | None) -> str:
    return reader.fingerprint if pair is None else f"{reader.fingerprint}:{pair}"


def _unwrapped(
    identities: Sequence[Identity], policy: KeyPolicy, wraps: Mapping[str, bytes], info: bytes
) -> bytes:
    """The epoch's secret. VerificationError where these identities do not open it."""
    held = {each.recipient.fingerprint: each for each in identities}
    if policy.reading is Reading.ANY:
        found = [each for each in policy.readers if each.fingerprint in held]
        if not found:
            raise VerificationError("this identity is not a recipient of this record's epoch")
        return _unwrap(held[found[0].fingerprint], wraps, _label(found[0], None), info)
    for number, pair in enumerate(policy.pairs()):
        if all(each.fingerprint in held for each in pair):
            one, other = (_unwrap(held[each.fingerprint], wraps, _label(each, number), info) for each in pair)
            return _xor(one, other)
    raise VerificationError("this record's epoch opens for two of its readers together: give both identities")


def _unwrap(identity: Identity, wraps: Mapping[str, bytes], label: str, info: bytes) -> bytes:
    try:
        secret = identity.unwrap(wraps[label], info)
    except (KeyError, InvalidTag, ValueError) as error:
        raise VerificationError("the epoch's secret does not open with this identity") from error
    if len(secret) != SECRET_BYTES:
        raise VerificationError("the epoch's secret has another length")
    return secret


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _seal(prk: bytes, place: Place, framed: bytes) -> Sealed:
    nonce = secrets.token_bytes(NONCE_BYTES)
    aad = place.aad()
    key = _record_key(prk, aad)
    ciphertext = AESGCM(key).encrypt(nonce, framed, aad)
    wipe(key)
    return Sealed(nonce=nonce, ciphertext=ciphertext, key_commitment=commitment(prk))


def _record_key(prk: bytes, aad: bytes) -> bytes:
    return _expand(prk, b"audit/v1/enc" + hashlib.sha256(aad).digest())


def commitment(prk: bytes) -> bytes:
    """What the header says of a record's key: AES-GCM alone binds a ciphertext to no one key."""
    return _expand(prk, b"audit/v1/commit")


def _expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand to one block of SHA-256 (RFC 5869 §2.3): T(1), which is all that 32 bytes take."""
    return hmac.digest(key, info + b"\x01", "sha256")


def _frame(content: Mapping[str, Any]) -> bytes:
    """Salt || length || JSON || zeros: the salt defeats guessing, the padding hides the length."""
    data = _json(content)
    head = secrets.token_bytes(_SALT_BYTES) + len(data).to_bytes(_LENGTH_BYTES, "big")
    size = len(head) + len(data)
    return head + data + bytes(padme(size) - size)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _unframe(framed: bytes) -> dict[str, Any]:
    start = _SALT_BYTES + _LENGTH_BYTES
    length = int.from_bytes(framed[_SALT_BYTES:start], "big")
    if not start + length <= len(framed) <= _MAX_CONTENT_BYTES:
        raise VerificationError("the content's frame is malformed")
    try:
        content = json.loads(framed[start : start + length])
    except ValueError as error:
        raise VerificationError("the content is malformed") from error
    if not isinstance(content, dict):
        raise VerificationError("the content is malformed")
    return content


def padme(size: int) -> int:
    """The Padmé bucket of a length: at most 12 % more, and only O(log log n) bits leak."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    kept = exponent.bit_length()
    mask = (1 << max(0, exponent - kept)) - 1
    return (size + mask) & ~mask
