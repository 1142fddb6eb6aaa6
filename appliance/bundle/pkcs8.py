"""A secret key in PEM under a passphrase that costs a guesser something (PKCS#8, PBES2: RFC 8018).

`cryptography` writes such files with 2,048 rounds of PBKDF2 and offers no other number; here it is 600,000
rounds of PBKDF2-HMAC-SHA256 (SP 800-132, approved in FIPS mode) and AES-256-CBC. openssl and `cryptography`
open it.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

ROUNDS: Final = 600_000
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256: Final = bytes.fromhex("300c06082a864886f70d02090500")
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")
_BLOCK_BITS: Final = 128


def seal(der: bytes, passphrase: str) -> bytes:
    """`ENCRYPTED PRIVATE KEY` in PEM, of a key's unencrypted PKCS#8 form."""
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(16)
    key = PBKDF2HMAC(hashes.SHA256(), 32, salt, ROUNDS).derive(passphrase.encode())
    padder = padding.PKCS7(_BLOCK_BITS).padder()
    encryptor = Cipher(AES256(key), CBC(nonce)).encryptor()
    sealed = encryptor.update(padder.update(der) + padder.finalize()) + encryptor.finalize()
    rounds = _tlv(0x02, ROUNDS.to_bytes(3, "big"))
    derivation = _sequence(_PBKDF2, _sequence(_tlv(0x04, salt), rounds, _HMAC_SHA256))
    scheme = _sequence(_PBES2, _sequence(derivation, _sequence(_AES_256_CBC, _tlv(0x04, nonce))))
    text = base64.b64encode(_sequence(scheme, _tlv(0x04, sealed)))
    lines = b"".join(text[i : i + 64] + b"\n" for i in range(0, len(text), 64))
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + lines + b"-----END ENCRYPTED PRIVATE KEY-----\n"


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _tlv(tag: int, content: bytes) -> bytes:
    """One DER element of up to 65,535 bytes (X.690 §8.1)."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
