"""Vaults: the parameters that were promised, and a secret that only its passphrase and its place open."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.accounts import vault
from appliance.accounts.vault import Vault
from appliance.config import CryptoProfile
from appliance.errors import RequestError, VerificationError

CHEAP = "scrypt$10,8,1"
WORDS = "correct horse battery"


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not about the costs."""
    monkeypatch.setattr(vault, "KNOWN", vault.KNOWN | {CHEAP})


@pytest.mark.parametrize("profile", ["standard", "fips"])
def test_the_key_is_what_python_derives(profile: CryptoProfile) -> None:
    """Scrypt N=2^17, r=8, p=1, or 600,000 rounds of PBKDF2: hashlib's own give the key that opens it."""
    sealed = vault.seal(b"seed", WORDS, kdf=vault.kdf_of(profile), bound=b"acc_1")
    if profile == "fips":
        key = hashlib.pbkdf2_hmac("sha256", WORDS.encode(), sealed.salt, 600_000)
    else:
        key = hashlib.scrypt(WORDS.encode(), salt=sealed.salt, n=1 << 17, r=8, p=1, maxmem=1 << 28, dklen=32)
    bound = b"appliance/vault/1\n" + sealed.kdf.encode() + b"\nacc_1"

    assert AESGCM(key).decrypt(sealed.sealed[:12], sealed.sealed[12:], bound) == b"seed"
    assert vault.open_(sealed, WORDS, bound=b"acc_1") == b"seed"


@pytest.mark.usefixtures("cheap")
def test_only_passphrase_and_place_open_it() -> None:
    """Another passphrase, another account's row, a changed salt or a flipped bit: nothing."""
    sealed = vault.seal(b"seed", WORDS, kdf=CHEAP, bound=b"acc_1")
    flipped = sealed.sealed[:-1] + bytes([sealed.sealed[-1] ^ 1])

    assert vault.open_(sealed, WORDS + " ", bound=b"acc_1") is None
    assert vault.open_(sealed, WORDS, bound=b"acc_2") is None
    assert vault.open_(dataclasses.replace(sealed, salt=bytes(16)), WORDS, bound=b"acc_1") is None
    assert vault.open_(dataclasses.replace(sealed, sealed=flipped), WORDS, bound=b"acc_1") is None
    assert vault.open_(dataclasses.replace(sealed, sealed=b""), WORDS, bound=b"acc_1") is None
    assert vault.seal(b"seed", WORDS, kdf=CHEAP, bound=b"acc_1").salt != sealed.salt


@pytest.mark.usefixtures("cheap")
def test_one_passphrase_has_one_form() -> None:
    """Composed or decomposed, as two keyboards write it."""
    sealed = vault.seal(b"seed", "Käse und Brötchen", kdf=CHEAP, bound=b"")

    assert vault.open_(sealed, "Ka\u0308se und Bro\u0308tchen", bound=b"") == b"seed"


@pytest.mark.parametrize(
    "kdf",
    ["", "scrypt", "scrypt$10,8,1", "scrypt$30,8,1", "scrypt$17,8,1 ", "pbkdf2-sha256$99999999",
     "pbkdf2-sha256$1"],
)  # fmt: skip
def test_a_row_asks_for_nothing_else(kdf: str) -> None:
    """Whoever changes a row can not make an attempt cost gigabytes."""
    with pytest.raises(VerificationError):
        vault.open_(Vault(kdf, bytes(16), bytes(64)), WORDS, bound=b"")


@pytest.mark.parametrize(("profile", "least"), [("standard", 12), ("fips", 15)])
def test_passphrases_are_long_enough(profile: CryptoProfile, least: int) -> None:
    """One character less is refused, as are one letter again and again and what is longer than 256."""
    words = "abcdefghijklmnopq"
    assert vault.checked_passphrase(words[:least], profile)
    for weak in (words[: least - 1], "a" * 40, "abab" * 10, "x" * 257):
        with pytest.raises(RequestError) as caught:
            vault.checked_passphrase(weak, profile)
        assert caught.value.code == "invalid_passphrase"


@pytest.mark.usefixtures("cheap")
def test_nothing_secret_is_in_a_repr() -> None:
    """A traceback that shows a vault shows its parameters."""
    shown = repr(vault.seal(b"seed", WORDS, kdf=CHEAP, bound=b""))
    assert "salt" not in shown
    assert "sealed" not in shown
