"""Passphrases of people: how they are made, kept and checked. Pure but for randomness.

A passphrase is kept as what a slow function makes of it: scrypt (RFC 7914, N=2^17, r=8, p=1: 128 MiB and
some hundred milliseconds a try), or with `crypto.profile = "fips"` PBKDF2-HMAC-SHA256 with 600,000 rounds
(SP 800-132). It is normalised (NFKC) first, so that the same keys on another keyboard are the same words
(SP 800-63B §5.1.1.2).
"""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import Final

from appliance import stretching
from appliance.errors import RequestError

MIN_ALONE: Final = 15  # characters, where nothing else is asked for (SP 800-63B-4 §3.1.1.2)
MIN_WITH_FACTOR: Final = 8  # where a second factor is
MAX_CHARACTERS: Final = 256
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = stretching.DIGEST_BYTES
_SCRYPT: Final = (17, 8, 1)  # log2 N, r, p
_PBKDF2_ROUNDS: Final = 600_000
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read as something else
_GROUPS: Final = 5


def one_time() -> str:
    """A passphrase for the first log-in: five groups of four letters, 99 bits."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(_GROUPS))


def check_new(passphrase: str, *, least: int = MIN_ALONE) -> str:
    """A passphrase that a person chose. RequestError where it is too short, too long or not text."""
    normal = _normal(passphrase)  # one ligature can stand for eighteen letters: what was typed counts too
    lengths = (len(passphrase), len(normal))
    if min(lengths) < least or len(normal) > MAX_CHARACTERS or not normal.isprintable():
        raise RequestError(
            f"a passphrase has {least} to {MAX_CHARACTERS} printable characters",
            code="invalid_passphrase",
            param="passphrase",
            hint="several words are easier to remember and harder to guess than one with signs in it",
        )
    return passphrase


def make(passphrase: str, *, fips: bool) -> str:
    """What is kept of a passphrase: the function, its parameters, salt and digest. Slow on purpose."""
    salt = secrets.token_bytes(_SALT_BYTES)
    name = function_of(fips=fips)
    return f"{name}${_text(salt)}${_text(derive(passphrase, name, salt))}"


def matches(passphrase: str, kept: str | None, *, fips: bool) -> bool:
    """Whether this is the passphrase. None (nobody of that name) costs the same and is never true."""
    function, parameters, salt, digest = (kept or _NOBODY[fips]).split("$")
    found = derive(passphrase, f"{function}${parameters}", base64.b64decode(salt))
    return hmac.compare_digest(found, base64.b64decode(digest)) and kept is not None


def is_outdated(kept: str, *, fips: bool) -> bool:
    """Whether it was kept by another function, or for less work, than new ones are."""
    return not kept.startswith(f"{function_of(fips=fips)}$")


def function_of(*, fips: bool) -> str:
    """The function that a profile makes new passphrases with."""
    return f"pbkdf2-sha256${_PBKDF2_ROUNDS}" if fips else "scrypt$" + ",".join(map(str, _SCRYPT))


def derive(passphrase: str, function: str, salt: bytes) -> bytes:
    """32 bytes from a passphrase by a named function: `scrypt$17,8,1` or `pbkdf2-sha256$600000`."""
    return stretching.derive(passphrase, function, salt)


def _normal(passphrase: str) -> str:
    return stretching.normal(passphrase)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_NOBODY: Final = {
    fips: f"{function_of(fips=fips)}${_text(bytes(_SALT_BYTES))}${_text(bytes(_DIGEST_BYTES))}"
    for fips in (False, True)
}
