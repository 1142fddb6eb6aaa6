"""Blind indexes: auditors find a caller's entries, and nobody who holds the disk learns who called.

    bi = HMAC-SHA256(K_month, field || 0x00 || value)[:16]

K_month lives beside the log's keys for one month. Its first use is an entry `index:opened`, whose sealed
content hands it to the auditors; at the month's end it is destroyed here. Whoever takes the box later
can not try names against older entries. Equal callers have equal indexes within a month: that leaks,
and is what makes a search quick.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from appliance import durable, keyring
from appliance.config import Home
from appliance.errors import SetupError

BLIND_BYTES: Final = 16
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class IndexKey:
    """One month's key."""

    month: str
    key: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """The key's commitment in its `index:opened` entry."""
        return hashlib.sha256(self.key).hexdigest()

    def blind(self, name: str, value: str) -> bytes:
        """The blind index of one field's value."""
        message = name.encode() + b"\0" + value.encode()
        return hmac.digest(self.key, message, "sha256")[:BLIND_BYTES]


def month_of(microseconds: int) -> str:
    """The month of a moment, UTC: "2026-11"."""
    return datetime.fromtimestamp(microseconds / 1e6, tz=UTC).strftime("%Y-%m")


def existing_key(home: Home, month: str) -> IndexKey | None:
    """The month's key while it is still here; None once it is the auditors' alone."""
    try:
        return IndexKey(month, keyring.read(home, home.keys / f"index-{month}.key"))
    except FileNotFoundError:
        return None


def key_of(home: Home, month: str) -> IndexKey:
    """The month's key, made where it is its first use. Durable when it returns."""
    path = home.keys / f"index-{month}.key"
    try:
        key = keyring.read(home, path)
    except FileNotFoundError:
        key = secrets.token_bytes(_KEY_BYTES)
        keyring.write(home, path, key)
    if len(key) != _KEY_BYTES:
        raise SetupError(f"{path.name} is damaged", code="log_keys", hint="restore it from a backup")
    return IndexKey(month, key)


def destroy_others(home: Home, keep: str) -> None:
    """Overwrite and remove the keys of other months: the auditors have them."""
    for path in home.keys.glob("index*.key"):
        if path.name != f"index-{keep}.key":
            durable.destroy(path)
    durable.fsync_dir(home.keys)
