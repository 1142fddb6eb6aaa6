"""API keys: how they look, how they are made and how they are checked. Pure but for randomness.

A key reads ``apk_<id>_<secret>``. The id is public and finds the row; the secret is 256 bits from
the system's generator and is kept only as SHA-256. A slow password hash would buy nothing against
a secret of that length and would cost every request of a kiosk milliseconds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from appliance.core import Role
from appliance.terms import Terms

_PATTERN = re.compile(r"apk_([a-z2-7]{10})_([a-z2-7]{52})", re.ASCII)
_ID_CHARACTERS = 10
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as the directory holds it: everything but the secret."""

    id: str
    name: str
    role: Role
    secret_sha256: bytes = field(repr=False)
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None
    stores_responses: bool = False  # a grant: a row of its own (`grants`)
    terms: Terms = field(default_factory=Terms)  # a row of its own as well

    def is_active(self, now_us: int) -> bool:
        """Neither revoked nor expired at `now_us`, microseconds since the epoch."""
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its birth, the only time its secret exists outside the caller's hands."""

    key: ApiKey
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a caller sent, split but not yet believed."""

    id: str
    secret: str = field(repr=False)


def generate(
    name: str,
    role: Role,
    *,
    now_us: int,
    expires_us: int | None = None,
    stores_responses: bool = False,
    terms: Terms = Terms(),  # noqa: B008 - frozen
) -> NewKey:
    """A fresh key. The token is shown once and never stored."""
    key_id = _base32(secrets.token_bytes(7))[:_ID_CHARACTERS]
    secret = _base32(secrets.token_bytes(_SECRET_BYTES))
    key = ApiKey(
        id=key_id,
        name=name,
        role=role,
        secret_sha256=_digest(secret),
        created_us=now_us,
        expires_us=expires_us,
        stores_responses=stores_responses,
        terms=terms,
    )
    return NewKey(key=key, token=f"apk_{key_id}_{secret}")


def parse(token: str) -> PresentedKey | None:
    """The parts of a token, or None where it is not one of ours."""
    match = _PATTERN.fullmatch(token)
    return PresentedKey(id=match[1], secret=match[2]) if match else None


def matches(presented: PresentedKey, key: ApiKey | None) -> bool:
    """Constant-time check; an unknown id costs the same as a wrong secret."""
    expected = key.secret_sha256 if key is not None else bytes(32)
    same = hmac.compare_digest(_digest(presented.secret), expected)
    return same and key is not None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()
