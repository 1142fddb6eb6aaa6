"""Which algorithms a home uses, by its profile, and what stands behind them. Pure, but for a look at OpenSSL.

Profile `fips` names algorithms that NIST approves, and nothing more: whether a module is validated stands
in the module's certificate, and the wheels that carry OpenSSL for Python are none. A log has its profile
from its first entry on, since every checkpoint and every reader must follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from cryptography.hazmat.backends.openssl import backend

from appliance.audit.policy import KeyPolicy
from appliance.audit.recipients import Algorithms, Recipient
from appliance.config import CryptoProfile
from appliance.errors import SetupError, VerificationError

_COMMON: Final = {
    "content": "AES-256-GCM (SP 800-38D)",
    "digests": "SHA-256 (FIPS 180-4)",
    "key derivation": "HKDF with HMAC-SHA-256 (SP 800-56C)",
    "blind indexes": "HMAC-SHA-256 (FIPS 198-1)",
}
INVENTORY: Final[Mapping[CryptoProfile, Mapping[str, str]]] = {
    "standard": {
        **_COMMON,
        "wraps": "HPKE with X-Wing (ML-KEM-768 and X25519) or with ECDH P-256; HKDF-SHA-256, AES-256-GCM",
        "checkpoints": "Ed25519",
        "acts": "Ed25519 or ECDSA P-256 with SHA-256",
    },
    "fips": {
        **_COMMON,
        "wraps": "HPKE with ECDH P-256 (SP 800-56A); HKDF-SHA-256, AES-256-GCM",
        "checkpoints": "ECDSA P-256 with SHA-256 (FIPS 186-5), and Ed25519 beside it",
        "acts": "ECDSA P-256 with SHA-256 (FIPS 186-5)",
    },
}


def algorithms_of(profile: CryptoProfile) -> Algorithms:
    """Of the identities that `init` makes."""
    return Algorithms.P256 if profile == "fips" else Algorithms.XWING


def module() -> str:
    """Whether the module behind everything runs with a FIPS provider; its name and version: `openssl`."""
    return "with a FIPS provider" if backend._fips_enabled else "not a validated module"  # noqa: SLF001


def told(profile: CryptoProfile) -> str:
    """For the record: the profile, and what is said of the module."""
    return f"{profile}; {module()}"


def lines_of(profile: CryptoProfile) -> list[str]:
    """For people: what is used for what."""
    return [f"{purpose}: {algorithm}" for purpose, algorithm in INVENTORY[profile].items()]


def check_recipients(profile: CryptoProfile, recipients: Iterable[Recipient]) -> None:
    """VerificationError where a key has algorithms that the profile does not take."""
    names = [each.name for each in recipients if each.algorithms is not Algorithms.P256]
    if profile == "fips" and names:
        raise VerificationError(
            f"crypto.profile is fips, and these keys are not of P-256: {', '.join(names)}",
            code="crypto_profile",
            hint="appliance auditor keygen NAME --algorithms p256",
        )


def check_policy(profile: CryptoProfile, policy: KeyPolicy) -> None:
    """As `check_recipients`, for everybody in a policy."""
    check_recipients(profile, (each.recipient for each in policy.members))


def check_home(profile: CryptoProfile, policy: KeyPolicy, *, has_second_key: bool) -> None:
    """SetupError where configuration, keys and readers do not have one profile: such a log is not opened."""
    if (profile == "fips") != has_second_key:
        raise SetupError(
            f"crypto.profile is {profile}, and this log was begun under the other one",
            code="crypto_profile",
            hint="a log keeps its profile: put the old one back into appliance.toml",
        )
    try:
        check_policy(profile, policy)
    except VerificationError as error:
        raise SetupError(error.message, code=error.code, hint=error.hint) from error
