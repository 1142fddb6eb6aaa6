"""One-time codes: of an authenticator (TOTP, RFC 6238), and for the day that it is lost.

An authenticator's secret has to be there to check its codes, so it can not be kept as a digest: it lies
sealed (AES-256-GCM) under a key of the home, `keys/people.key`, bound to its account and algorithm. Of a
recovery code an HMAC under the same home's key is kept. Whoever has a copy of the database alone opens
neither, and can try no recovery code against it.

Profile `fips` takes HMAC-SHA-256. HMAC-SHA-1 would be approved there as well (SP 800-131A rev. 2, §10), but
only until the end of 2030. Every authenticator knows SHA-1, not every one SHA-256.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from appliance import keyring
from appliance.config import CryptoProfile, Home
from appliance.errors import VerificationError

DIGITS: Final = 6
STEP_SECONDS: Final = 30
WINDOW: Final = 1  # steps before and behind the clock's: phones and this host are not to the second alike
NUM_RECOVERY: Final = 10
DIGEST_BYTES: Final = 32
_ALGORITHMS: Final[dict[str, type[hashes.SHA1 | hashes.SHA256 | hashes.SHA512]]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha512": hashes.SHA512,
}
_ALGORITHM_OF: Final[dict[CryptoProfile, str]] = {"standard": "sha1", "fips": "sha256"}
_SECRET_BYTES: Final = {"sha1": 20, "sha256": 32}  # as long as the hash (RFC 4226 §4, R6)
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read as something else
_GROUPS: Final = 4
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Offer:
    """A secret that is shown once; in force once a code of it was typed."""

    account: str  # its id
    algorithm: str
    secret: bytes = field(repr=False)
    uri: str = field(repr=False)  # what the QR code says

    @property
    def text(self) -> str:
        """The secret for fingers: base32 in groups of four."""
        letters = base64.b32encode(self.secret).decode("ascii").rstrip("=")
        return " ".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def offer(account: str, name: str, *, profile: CryptoProfile, issuer: str) -> Offer:
    """A fresh secret for a person. `name` and `issuer` are what the authenticator shows."""
    algorithm = _ALGORITHM_OF[profile]
    secret = secrets.token_bytes(_SECRET_BYTES[algorithm])
    return Offer(account, algorithm, secret, _totp(secret, algorithm).get_provisioning_uri(name, issuer))


def code_at(secret: bytes, algorithm: str, step: int, *, digits: int = DIGITS) -> str:
    """The code of a time step. VerificationError for an algorithm that is none of ours."""
    return _totp(secret, algorithm, digits).generate(step * STEP_SECONDS).decode("ascii")


def step_of(now_us: int) -> int:
    """The time step of a moment (RFC 6238 §4.2, T0 = 0)."""
    return now_us // (STEP_SECONDS * 1_000_000)


def matching_step(secret: bytes, algorithm: str, code: str, *, now_us: int, after: int) -> int | None:
    """The step whose code this is, within the window and behind `after`: each code counts once."""
    here = step_of(now_us)
    found = None
    for step in range(here - WINDOW, here + WINDOW + 1):
        is_it = hmac.compare_digest(code_at(secret, algorithm, step).encode(), _plain(code).encode())
        if is_it and step > after:
            found = step
    return found


def is_of_authenticator(code: str) -> bool:
    """Whether this looks like an authenticator's code, and not like a recovery code."""
    plain = _plain(code)
    return len(plain) == DIGITS and plain.isdecimal()


def recovery() -> tuple[str, ...]:
    """Ten codes of 79 bits, each good for one log-in without the authenticator."""
    return tuple(
        "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(_GROUPS))
        for _ in range(NUM_RECOVERY)
    )


@dataclass(frozen=True, slots=True)
class Seals:
    """What the home's key does: seals secrets, and marks recovery codes."""

    key: bytes = field(repr=False)

    def seal(self, secret: bytes, account: str, algorithm: str) -> bytes:
        """Nonce || ciphertext || tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._derived(b"seal")).encrypt(nonce, secret, _bound(account, algorithm))

    def open(self, sealed: bytes, account: str, algorithm: str) -> bytes:
        """The secret. VerificationError where this home's key, account or algorithm is another."""
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return AESGCM(self._derived(b"seal")).decrypt(nonce, ciphertext, _bound(account, algorithm))
        except (InvalidTag, ValueError) as error:
            raise _unreadable() from error

    def digest(self, account: str, code: str) -> bytes:
        """What is kept of a recovery code, however it was spaced."""
        return hmac.digest(self._derived(b"recovery"), f"{account}\0{_plain(code)}".encode(), "sha256")

    def digests(self, account: str, codes: tuple[str, ...]) -> bytes:
        """What is kept of several, one behind the other."""
        return b"".join(self.digest(account, each) for each in codes)

    def without(self, account: str, kept: bytes, code: str) -> bytes | None:
        """What is left once this recovery code was used; None where it is none of them."""
        mine = self.digest(account, code)
        known = [kept[at : at + DIGEST_BYTES] for at in range(0, len(kept), DIGEST_BYTES)]
        hits = [hmac.compare_digest(each, mine) for each in known]  # all of them: time tells not which
        return (
            b"".join(each for each, is_it in zip(known, hits, strict=True) if not is_it)
            if any(hits)
            else None
        )

    def _derived(self, use: bytes) -> bytes:
        kdf = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=b"appliance/second-factor/1\n" + use)
        return kdf.derive(self.key)


def seals_of(home: Home, *, make: bool = False) -> Seals:
    """Under the home's own key. VerificationError where it is gone, unless it is to be made."""
    path = home.keys / "people.key"
    if make and not path.exists():
        keyring.write(home, path, secrets.token_bytes(_KEY_BYTES))
    try:
        return Seals(keyring.read(home, path))
    except OSError as error:
        raise _unreadable() from error


def _totp(secret: bytes, algorithm: str, digits: int = DIGITS) -> TOTP:
    if algorithm not in _ALGORITHMS:
        raise VerificationError("a second factor names an algorithm that this release does not know")
    made = _ALGORITHMS[algorithm]()
    return TOTP(secret, digits, made, STEP_SECONDS)


def _bound(account: str, algorithm: str) -> bytes:
    return f"appliance/second-factor/1\n{account}\n{algorithm}".encode()


def _plain(code: str) -> str:
    """A code without what people put between its parts; letters beyond ASCII are none of a code."""
    plain = "".join(each for each in code.lower() if each not in " -\u2010\u2011\u00a0\t")
    return plain if plain.isascii() else "?"


def _unreadable() -> VerificationError:
    return VerificationError(
        "the second factor does not open with this home's key",
        code="factor_unreadable",
        hint="appliance account reset NAME --second-factor, on the host; the person sets up another",
    )
