"""Sealed files: what a home copies of its secrets opens for named recipients only.

    one line of JSON that says what the file is, with the file's key wrapped to each recipient
    12 bytes of nonce, then AES-256-GCM over the content, with that line as additional data

The rooms that make such files own the line's fields; here are its bytes and the key's.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.audit.recipients import Identity, Recipient
from appliance.config import Home
from appliance.errors import VerificationError

MAX_HEADER_BYTES: Final = 1 << 17
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12

_Header = TypeVar("_Header", bound=msgspec.Struct)


def seal(
    content: bytes,
    recipients: Sequence[Recipient],
    info: bytes,
    header: Callable[[dict[str, str]], msgspec.Struct],
) -> bytes:
    """The file. `info` binds the key to this very file (HPKE's info), `header` takes the wraps."""
    key, nonce = secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
    wraps = {each.fingerprint: base64.b64encode(each.wrap(key, info)).decode() for each in recipients}
    line = msgspec.json.encode(header(wraps)) + b"\n"
    return line + nonce + AESGCM(key).encrypt(nonce, content, line)


def head(data: bytes, kind: type[_Header], name: str) -> _Header:
    """The line, unverified. VerificationError where there is none: `name` says what this should be."""
    line, separator, _ = data.partition(b"\n")
    try:
        found = msgspec.json.decode(line[:MAX_HEADER_BYTES], type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise VerificationError(f"this is no {name}") from error
    if not separator:
        raise VerificationError(f"this is no {name}: it was cut")
    return found


def unseal(data: bytes, wraps: Mapping[str, str], identity: Identity, info: bytes, name: str) -> bytes:
    """The content. VerificationError where it is damaged, or not sealed to this identity."""
    mine = wraps.get(identity.recipient.fingerprint)
    if mine is None:
        raise VerificationError(
            f"the {name} is not sealed to this identity", hint="it opens for the recovery key of its time"
        )
    line, separator, rest = data.partition(b"\n")
    try:
        key = identity.unwrap(base64.b64decode(mine, validate=True), info)
        return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], line + separator)
    except (InvalidTag, ValueError) as error:
        raise VerificationError(f"the {name} is damaged") from error


def path_of(home: Home, stem: str, made_us: int) -> Path:
    """Where a sealed file of this moment lies."""
    moment = datetime.fromtimestamp(made_us / 1e6, tz=UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return home.backups / f"{stem}-{moment}.backup"
