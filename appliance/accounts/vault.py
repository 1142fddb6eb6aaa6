"""A secret sealed under a passphrase: a slow function of it, then AES-256-GCM. Pure but for randomness.

scrypt (RFC 7914) asks for 128 MiB of memory, which is what a guess costs too; profile `fips` takes PBKDF2
with HMAC-SHA-256 (SP 800-132), since NIST approves no other. Passphrases are normalised to NFKC and never
cut (SP 800-63B-4 §3.1.1.2, which also asks for 15 characters where nothing else is asked for).
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from appliance.config import CryptoProfile
from appliance.errors import RequestError, VerificationError

SCRYPT: Final = "scrypt n=131072 r=8 p=1"
PBKDF2: Final = "pbkdf2-hmac-sha256 iterations=600000"
MIN_CHARACTERS: Final = {"standard": 12, "fips": 15}
MAX_CHARACTERS: Final = 256
SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
# What stands in a row decides what an attempt costs us: no row may ask for more than these.
_MAX_SCRYPT_N, _MAX_PBKDF2 = 1 << 20, 10_000_000
_SCRYPT = re.compile(r"scrypt n=([1-9][0-9]{0,7}) r=8 p=1", re.ASCII)
_PBKDF2 = re.compile(r"pbkdf2-hmac-sha256 iterations=([1-9][0-9]{0,7})", re.ASCII)


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
    if not least <= len(normal) <= MAX_CHARACTERS:
        raise RequestError(
            f"a passphrase has {least} to {MAX_CHARACTERS} characters",
            code="weak_passphrase",
            param="passphrase",
            hint="five or six words that nobody would put together",
        )
    if len(set(normal.casefold())) < 5:
        raise RequestError(
            "a passphrase has at least five different characters", code="weak_passphrase", param="passphrase"
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
    material = unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogatepass")
    if (
        (match := _SCRYPT.fullmatch(kdf))
        and _is_power_of_two(cost := int(match[1]))
        and cost <= _MAX_SCRYPT_N
    ):
        return Scrypt(salt=salt, length=_KEY_BYTES, n=cost, r=8, p=1).derive(material)
    if (match := _PBKDF2.fullmatch(kdf)) and (rounds := int(match[1])) <= _MAX_PBKDF2:
        return PBKDF2HMAC(SHA256(), _KEY_BYTES, salt, rounds).derive(material)
    raise VerificationError("a sealed identity names a key derivation that this release does not know")


def _is_power_of_two(number: int) -> bool:
    return number > 1 and number & (number - 1) == 0
