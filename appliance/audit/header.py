"""Headers: the canonical bytes of what everybody may read of an entry. Pure.

A header is the leaf's preimage. It is plaintext, so it names no person and holds no content: the
actor stands in it only as a blind index, and content only as the hash of its ciphertext. It is
canonical JSON (RFC 8785); the bytes are stored and hashed verbatim and never encoded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import rfc8785
from msgspec import Meta

from appliance.audit.kinds import PUBLIC_FIELDS
from appliance.errors import InternalError, VerificationError

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 65_535  # C2SP tlog-tiles prefixes entries with a 16-bit length

_FIELDS: Mapping[str, frozenset[str]] = {str(kind): fields for kind, fields in PUBLIC_FIELDS.items()}
# Canonical JSON takes integers that a double holds exactly (RFC 8785 §3.2.2.3, RFC 7493 §2.2).
Integer = Annotated[int, Meta(ge=-(1 << 53) + 1, le=(1 << 53) - 1)]


class SealedHash(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What a header commits to of its sealed content: ciphertext, key, length."""

    alg: str
    kc: str  # key commitment, hex: AES-GCM alone does not bind a ciphertext to one key
    len: Integer
    sha256: str  # over nonce || ciphertext || tag


class Header(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False
):
    """The leaf's preimage, field by field. Times in microseconds, UTC.

    The fields stand in the order of their names, which is the order of canonical JSON.
    """

    bi: dict[str, str] | None = None
    boot: str
    ct: SealedHash | None = None
    epoch: Integer | None = None
    kind: str
    log: str
    mono: Integer
    prev: Integer | None = None
    pub: dict[str, str | Integer]
    req: str | None = None
    seq: Integer
    step: Integer | None = None
    subj: str | None = None  # id of the share that opens it, hex
    ts: Integer
    v: Integer

    def encode(self) -> bytes:
        """Canonical JSON, RFC 8785."""
        data = _encode(self)
        if not data.isascii() or max(self.ts, self.mono) >= 1 << 53:
            data = rfc8785.dumps(msgspec.to_builtins(self))
        if len(data) > MAX_HEADER_BYTES:
            raise InternalError("a header must fit into a tile entry")
        return data


# For what is ASCII, sorted names and the shortest escapes are all of RFC 8785; tests hold it against the
# reference for every character. Whatever is not goes through the reference itself.
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Header).decode


def decode_header(data: bytes) -> Header:
    """A header from stored bytes. VerificationError unless these are its one canonical form."""
    try:
        header = _decode(data)
        canonical = header.encode()
    except (msgspec.MsgspecError, rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise VerificationError("the header is malformed") from error
    if canonical != data:
        raise VerificationError("the header is not in its canonical form")
    if header.v != FORMAT_VERSION:
        raise VerificationError(f"the header has format {header.v}, which this release does not read")
    if header.kind not in _FIELDS or not header.pub.keys() <= _FIELDS[header.kind]:
        raise VerificationError("the header names an unknown kind or field")
    return header


def decode_headers(many: Sequence[bytes]) -> list[Header] | None:
    """All of them at once, several times as fast; None where one is not as it must be."""
    try:
        headers = list(map(_decode, many))
        canonical = list(map(_encode, headers))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError):
        return None
    if canonical != list(many) or not b"".join(many).isascii() or max(map(len, many)) > MAX_HEADER_BYTES:
        return None
    known = all(
        each.v == FORMAT_VERSION and each.kind in _FIELDS and each.pub.keys() <= _FIELDS[each.kind]
        for each in headers
    )
    return headers if known else None
