"""Passphrases: what is kept opens nothing, what people type is the same words, and nobody is told apart."""

from __future__ import annotations

import base64
import hashlib

import pytest

from appliance.accounts import passphrases
from appliance.errors import InternalError, RequestError

WORDS = "correct horse battery"


@pytest.mark.parametrize(
    ("profile", "begin"), [("standard", "scrypt$17,8,1$"), ("fips", "pbkdf2-sha256$600000$")]
)
def test_what_is_kept_is_checked_by_its_own_function(profile: str, begin: str) -> None:
    """Made in one profile, a passphrase opens in the other as well, and a wrong one in neither."""
    kept = passphrases.make(WORDS, fips=profile == "fips")

    assert kept.startswith(begin)
    assert len(kept) <= 200
    assert WORDS not in kept
    for fips in (False, True):
        assert passphrases.matches(WORDS, kept, fips=fips)
        assert not passphrases.matches(WORDS + " ", kept, fips=fips)


def test_functions_are_the_standards_own() -> None:
    """The digests are those of Python's own scrypt (RFC 7914) and PBKDF2 (SP 800-132)."""
    salt = bytes(range(16))
    scrypt = hashlib.scrypt(WORDS.encode(), salt=salt, n=1 << 17, r=8, p=1, maxmem=1 << 28, dklen=32)
    pbkdf2 = hashlib.pbkdf2_hmac("sha256", WORDS.encode(), salt, 600_000, 32)

    assert passphrases.derive(WORDS, "scrypt$17,8,1", salt) == scrypt
    assert passphrases.derive(WORDS, "pbkdf2-sha256$600000", salt) == pbkdf2
    with pytest.raises(InternalError):
        passphrases.derive(WORDS, "md5$1", salt)


def test_one_passphrase_is_never_kept_twice_the_same_way() -> None:
    """Each has a salt of its own."""
    kept = {passphrases.make(WORDS, fips=True) for _ in range(2)}

    assert len(kept) == 2
    assert {len(base64.b64decode(each.split("$")[2])) for each in kept} == {16}


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        ("r\u00e9sum\u00e9 on paper", "re\u0301sume\u0301 on paper"),  # one key, or two
        (
            "four words enough",
            "\uff46\uff4f\uff55\uff52 words\u3000enough",
        ),  # a keyboard for full-width letters
    ],
)
def test_another_keyboard_types_the_same_words(chosen: str, typed: str) -> None:
    """What is composed differently and read the same is the same passphrase."""
    kept = passphrases.make(chosen, fips=True)

    assert passphrases.check_new(typed) == typed
    assert passphrases.matches(typed, kept, fips=True)


@pytest.mark.parametrize(
    "bad",
    ["", "fourteen chars", "a" * 257, "fifteen  chars\n", "fifteen \x00 chars", "\ufdfa", "\ud800" * 15],
)
def test_passphrases_that_are_none_are_refused(bad: str) -> None:
    """Too short, too long, not text; one ligature that unfolds to eighteen letters is one letter."""
    with pytest.raises(RequestError) as refused:
        passphrases.check_new(bad)

    assert refused.value.code == "invalid_passphrase"
    assert not bad or bad not in refused.value.message


@pytest.mark.parametrize("good", ["a" * 15, "a" * 256, "\u00e4 few m\u00f6re w\u00f6rds", "e\u0301" * 256])
def test_bounds_of_a_passphrase_are_inclusive(good: str) -> None:
    """15 to 256 characters, counted as they are read; 8 where something else is asked for too."""
    assert passphrases.check_new(good) == good
    assert passphrases.check_new("eight ch", least=passphrases.MIN_WITH_FACTOR) == "eight ch"
    with pytest.raises(RequestError):
        passphrases.check_new("seven c", least=passphrases.MIN_WITH_FACTOR)


def test_passphrase_kept_for_less_work_is_outdated() -> None:
    """Other parameters or another function than those of today; the same ones are not."""
    for fips in (False, True):
        assert not passphrases.is_outdated(f"{passphrases.function_of(fips=fips)}$AA==$AA==", fips=fips)
        assert passphrases.is_outdated(f"{passphrases.function_of(fips=not fips)}$AA==$AA==", fips=fips)
    assert passphrases.is_outdated("scrypt$16,8,1$AA==$AA==", fips=False)
    assert passphrases.is_outdated("pbkdf2-sha256$60000$AA==$AA==", fips=True)


def test_endless_input_is_cut_and_not_computed() -> None:
    """What is longer than any passphrase costs no more, and can not be one by accident."""
    longest = "e\u0301" * 256
    kept = passphrases.make(longest, fips=True)

    assert passphrases.matches(longest, kept, fips=True)
    assert not passphrases.matches(longest + "x", kept, fips=True)


@pytest.mark.parametrize("profile", ["standard", "fips"])
def test_nobody_costs_the_same_work_as_somebody(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a name that nobody has the same function runs with the same parameters, and never matches."""
    fips = profile == "fips"
    asked: list[tuple[str, int]] = []

    def derive(_passphrase: str, function: str, salt: bytes) -> bytes:
        asked.append((function, len(salt)))
        return bytes(32)  # what stands for nobody: even a hit is none

    kept = passphrases.make(WORDS, fips=fips)
    monkeypatch.setattr(passphrases, "derive", derive)
    passphrases.matches(WORDS, kept, fips=fips)

    assert not passphrases.matches(WORDS, None, fips=fips)
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_passphrases_for_the_first_time_are_strong_and_legible() -> None:
    """Five groups of four letters that nobody confuses, never twice the same."""
    made = {passphrases.one_time() for _ in range(50)}

    assert len(made) == 50
    assert all(passphrases.check_new(each) for each in made)
    assert not set("".join(made)) & set("il1o0")
    assert all([len(group) for group in each.split("-")] == [4] * 5 for each in made)
