"""API keys: form, check, expiry."""

from __future__ import annotations

import re

import pytest

from appliance.accounts import keys
from appliance.core import Role

NOW_US = 1_790_000_000_000_000


def test_token_is_found_again_by_its_parts() -> None:
    """A fresh token parses into its key's id and matches that key."""
    made = keys.generate("lobby", Role.KIOSK, now_us=NOW_US)
    presented = keys.parse(made.token)

    assert presented is not None
    assert presented.id == made.key.id
    assert keys.matches(presented, made.key)


def test_wrong_secret_does_not_match() -> None:
    """The secret of one key does not open another."""
    mine = keys.generate("mine", Role.KIOSK, now_us=NOW_US)
    other = keys.generate("other", Role.KIOSK, now_us=NOW_US)
    presented = keys.parse(mine.token)

    assert presented is not None
    assert not keys.matches(presented, other.key)


def test_unknown_id_never_matches() -> None:
    """A well-formed token without a key is refused, even where its digest could be all zeros."""
    presented = keys.parse(keys.generate("ghost", Role.KIOSK, now_us=NOW_US).token)

    assert presented is not None
    assert not keys.matches(presented, None)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "apk_",
        "sk-1234567890",
        "apk_abcdefghij_",
        "apk_ABCDEFGHIJ_" + "a" * 52,
        "apk_abcdefghij_" + "a" * 53,
        "apk_abcdefghij_" + "a" * 52 + "\n",
        "apk_abcdefghij_" + "ä" * 52,
    ],
)
def test_foreign_tokens_do_not_parse(token: str) -> None:
    """Anything that is not exactly of our form is no key."""
    assert keys.parse(token) is None


def test_key_is_active_until_the_microsecond_of_its_expiry() -> None:
    """Expiry and revocation end a key at once."""
    made = keys.generate("short", Role.KIOSK, now_us=NOW_US, expires_us=NOW_US + 10)

    assert made.key.is_active(NOW_US + 9)
    assert not made.key.is_active(NOW_US + 10)


def test_repr_of_a_new_key_hides_token_and_digest() -> None:
    """No log line can show a secret by printing the value that holds it."""
    made = keys.generate("lobby", Role.KIOSK, now_us=NOW_US)
    shown = repr(made) + repr(keys.parse(made.token))

    assert made.token not in shown
    assert not re.search(r"[a-z2-7]{52}", shown)
    assert "sha256" not in shown
