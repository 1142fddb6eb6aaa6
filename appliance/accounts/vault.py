"""A secret sealed under a passphrase: a slow function of it, then AES-256-GCM. Pure but for randomness.

The functions are those that keep people's own passphrases (passphrases.py). Profile `fips` wants 15
characters, as SP 800-63B-4 §3.1.1.2 does where a passphrase is all that is asked for: whoever has a copy of
the row can guess for as long as they like.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.accounts import passphrases
from appliance.config import CryptoProfile
from appliance.errors import RequestError, VerificationError

SCRYPT: Final = "scrypt$17,8,1"
PBKDF2: Final = "pbkdf2-sha256$600000"
KNOWN: Final = frozenset({SCRYPT, PBKDF2})  # a row decides what an attempt costs us: nothing else than these
MIN_CHARACTERS: Final = {"standard": 12, "fips": 15}
SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Vault:
    """A sealed secret, and how its key comes from the passphrase."""

    kdf: str
    salt: bytes = field(repr=False)
    sealed: bytes = field(repr=False)  # nonce || ciphertext || tag


def kdf_of(profile: CryptoProfile) -> str:
    """The function and its costs for what is sealed from now on."""
    return PBKDF2 if profile == "fips" else SCRYPT


def checked_passphrase(passphrase: str, profile: CryptoProfile) -> str:
    """A new passphrase. RequestError where it is too short, too long, or one that everybody tries first."""
    least = MIN_CHARACTERS[profile]
    normal = unicodedata.normalize("NFKC", passphrase)
    if not least <= len(normal) <= passphrases.MAX_CHARACTERS:
        raise RequestError(
            f"a passphrase has {least} to {passphrases.MAX_CHARACTERS} characters",
            code="invalid_passphrase",
            param="passphrase",
            hint="five or six words that nobody would put together",
        )
    passphrases.check_new(passphrase, least=least)
    if len(set(normal.casefold())) < 5:
        raise RequestError(
            "a passphrase has at least five different characters",
            code="invalid_passphrase",
            param="passphrase",
        )
    return passphrase


def seal(secret: bytes, passphrase: str, *, kdf: str, bound: bytes) -> Vault:
    """Seal under a passphrase. `bound` is authenticated: where the secret belongs. Takes 0.1 to 0.5 s."""
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    key = _derived(passphrase, salt, kdf)
    return Vault(kdf, salt, nonce + AESGCM(key).encrypt(nonce, secret, _bound(bound, kdf)))


def open_(vault: Vault, passphrase: str, *, bound: bytes) -> bytes | None:
    """The secret; None where this is not the passphrase, or not the place. Takes as long as `seal`.

    VerificationError where the row asks for another function than ours.
    """
    key = _derived(passphrase, vault.salt, vault.kdf)
    nonce, ciphertext = vault.sealed[:_NONCE_BYTES], vault.sealed[_NONCE_BYTES:]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, _bound(bound, vault.kdf))
    except (InvalidTag, ValueError):
        return None


def _bound(bound: bytes, kdf: str) -> bytes:
    return b"appliance/vault/1\n" + kdf.encode() + b"\n" + bound


def _derived(passphrase: str, salt: bytes, kdf: str) -> bytes:
    if kdf not in KNOWN:
        raise VerificationError("a sealed identity names a key derivation that this release does not know")
    return passphrases.derive(passphrase, kdf, salt)
