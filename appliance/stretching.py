"""Slow functions of passphrases: scrypt (RFC 7914, N=2^17, r=8, p=1: 128 MiB and some hundred milliseconds a
try), or with `crypto.profile = "fips"` PBKDF2-HMAC-SHA256 with 600,000 rounds (SP 800-132).

A passphrase is normalised (NFKC) first, so that the same keys on another keyboard are the same words
(SP 800-63B §5.1.1.2).
"""

from __future__ import annotations

import unicodedata
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from appliance.errors import InternalError

SCRYPT: Final = "scrypt$17,8,1"  # log2 N, r, p
PBKDF2: Final = "pbkdf2-sha256$600000"
KNOWN: Final = frozenset({SCRYPT, PBKDF2})  # what is stored decides what a try costs us: nothing else
MAX_CHARACTERS: Final = 256
DIGEST_BYTES: Final = 32


def function_of(*, fips: bool) -> str:
    """The function that a profile uses from now on."""
    return PBKDF2 if fips else SCRYPT


def derive(passphrase: str, function: str, salt: bytes) -> bytes:
    """32 bytes from a passphrase by a named function: `scrypt$17,8,1` or `pbkdf2-sha256$600000`."""
    name, _, parameters = function.partition("$")
    secret = normal(passphrase[: 4 * MAX_CHARACTERS]).encode("utf-8", "surrogatepass")
    if name == "scrypt":
        log_n, r, p = map(int, parameters.split(","))
        return Scrypt(salt=salt, length=DIGEST_BYTES, n=1 << log_n, r=r, p=p).derive(secret)
    if name == "pbkdf2-sha256":
        kdf = PBKDF2HMAC(
            algorithm=hashes.SHA256(), length=DIGEST_BYTES, salt=salt, iterations=int(parameters)
        )
        return kdf.derive(secret)
    raise InternalError("a passphrase is kept by a function that this release does not know")


def normal(passphrase: str) -> str:
    """The characters that count."""
    return unicodedata.normalize("NFKC", passphrase)
