"""One-time codes: the standards' own numbers, each good once, and nothing opens without the home's key."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from appliance.accounts import codes
from appliance.accounts.codes import DIGEST_BYTES, NUM_RECOVERY, STEP_SECONDS, Seals
from appliance.config import Home
from appliance.errors import VerificationError

SECRET = b"12345678901234567890"
NOW_US = 1_790_000_000_000_000
HERE = codes.step_of(NOW_US)
# RFC 6238 appendix B: seconds → codes of eight digits with SHA-1, SHA-256 and SHA-512, whose seeds are the
# digits again and again, as long as the hash.
VECTORS = {
    59: ("94287082", "46119246", "90693936"),
    1111111109: ("07081804", "68084774", "25091201"),
    1111111111: ("14050471", "67062674", "99943326"),
    1234567890: ("89005924", "91819424", "93441116"),
    2000000000: ("69279037", "90698825", "38618901"),
    20000000000: ("65353130", "77737706", "47863826"),
}
# RFC 4226 appendix D: counters 0 to 9.
COUNTED = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]


@pytest.mark.parametrize("seconds", VECTORS)
@pytest.mark.parametrize(("at", "algorithm", "size"), [(0, "sha1", 20), (1, "sha256", 32), (2, "sha512", 64)])
def test_codes_are_those_of_rfc_6238(seconds: int, at: int, algorithm: str, size: int) -> None:
    """Appendix B, all eighteen."""
    seed = (SECRET * 4)[:size]
    step = codes.step_of(seconds * 1_000_000)

    assert codes.code_at(seed, algorithm, step, digits=8) == VECTORS[seconds][at]


def test_codes_are_those_of_rfc_4226() -> None:
    """Six digits, with the zeros in front."""
    assert [codes.code_at(SECRET, "sha1", step) for step in range(10)] == COUNTED


@pytest.mark.parametrize("drift", [-2, -1, 0, 1, 2])
def test_clocks_may_differ_by_one_step(drift: int) -> None:
    """Half a minute early or late is right, a whole minute is not."""
    code = codes.code_at(SECRET, "sha1", HERE + drift)
    found = codes.matching_step(SECRET, "sha1", code, now_us=NOW_US, after=0)

    assert found == (HERE + drift if abs(drift) <= codes.WINDOW else None)


@pytest.mark.parametrize("used", [-1, 0, 1])
def test_code_counts_once_and_so_do_those_before_it(used: int) -> None:
    """Whoever looked over a shoulder is late, and an older code of the window is over as well."""
    for step in (-1, 0, 1):
        code = codes.code_at(SECRET, "sha1", HERE + step)
        found = codes.matching_step(SECRET, "sha1", code, now_us=NOW_US, after=HERE + used)
        assert (found is not None) == (step > used)


@pytest.mark.parametrize("typed", ["{} {}", "{}-{}", " {}{} ", "{}\u00a0{}"])
def test_code_may_be_typed_as_it_is_shown(typed: str) -> None:
    """Authenticators put a space in the middle."""
    code = codes.code_at(SECRET, "sha1", HERE)
    shown = typed.format(code[:3], code[3:])

    assert codes.is_of_authenticator(shown)
    assert codes.matching_step(SECRET, "sha1", shown, now_us=NOW_US, after=0) == HERE


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567", "12345a", "\uff11\uff12\uff13\uff14\uff15\uff16", "\ud800", "-" * 50]
)
def test_what_is_no_code_matches_nothing(typed: str) -> None:
    """Too short, too long, letters, digits of another script, half a character."""
    assert not codes.is_of_authenticator(typed)
    assert codes.matching_step(SECRET, "sha1", typed, now_us=NOW_US, after=0) is None


@pytest.mark.parametrize(("profile", "algorithm", "size"), [("standard", "sha1", 20), ("fips", "sha256", 32)])
def test_offer_says_what_an_authenticator_needs(profile: str, algorithm: str, size: int) -> None:
    """Secret, name, issuer, and each parameter; the text for fingers is the same secret; no line shows it."""
    made = codes.offer("p_1", "Ada: K\u00f6hler", profile=profile, issuer="box/audit/1")  # type: ignore[arg-type]
    parts = urlsplit(made.uri)
    asked = {name: each[0] for name, each in parse_qs(parts.query).items()}

    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/box/audit/1:Ada: K\u00f6hler"
    assert asked["issuer"] == "box/audit/1"
    assert (asked["digits"], asked["period"]) == ("6", "30")
    assert asked["algorithm"].lower() == algorithm == made.algorithm
    assert _decoded(made.text.replace(" ", "")) == made.secret == _decoded(asked["secret"])
    assert len(made.secret) == size
    assert asked["secret"] not in repr(made)
    assert str(made.secret) not in repr(made)


def _decoded(letters: str) -> bytes:
    return base64.b32decode(letters + "=" * (-len(letters) % 8))


def test_secret_opens_at_its_own_place_only() -> None:
    """Another home's key, another account, another algorithm, a changed bit: none of them."""
    seals = Seals(bytes(32))
    sealed = seals.seal(SECRET, "p_1", "sha1")
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])

    assert seals.open(sealed, "p_1", "sha1") == SECRET
    assert SECRET not in sealed
    assert sealed != seals.seal(SECRET, "p_1", "sha1")
    for other, bytes_, account, algorithm in (
        (Seals(b"\1" * 32), sealed, "p_1", "sha1"),
        (seals, sealed, "p_2", "sha1"),
        (seals, sealed, "p_1", "sha256"),
        (seals, flipped, "p_1", "sha1"),
        (seals, b"", "p_1", "sha1"),
    ):
        with pytest.raises(VerificationError) as unreadable:
            other.open(bytes_, account, algorithm)
        assert unreadable.value.code == "factor_unreadable"


GOLDEN_SEALED = (
    "000000000000000000000000909661efbc86b88161e8312ed5fdfaf41706ca4c5fef16804c1d4d1cac1df306584cdecd"
)
GOLDEN_DIGEST = "6a561e07c71e88dc699b1405d615298550696deae7780764b9b5275dde7eb315"


def test_sealed_form_and_digests_stay_readable() -> None:
    """What an earlier release stored opens and counts in every later one."""
    seals = Seals(bytes(range(32)))
    sealed = bytes.fromhex(GOLDEN_SEALED)

    assert seals.open(sealed, "p_abcdefghij", "sha1") == SECRET
    assert seals.digest("p_abcdefghij", "abcd-efgh-jkmn-pqrs").hex() == GOLDEN_DIGEST


def test_recovery_code_is_good_once() -> None:
    """However it is spaced; the other nine stay, and of another account it is none."""
    seals, made = Seals(bytes(32)), codes.recovery()
    kept = seals.digests("p_1", made)
    typed = made[3].upper().replace("-", " ")
    left = seals.without("p_1", kept, typed)

    assert len(set(made)) == NUM_RECOVERY == len(kept) // DIGEST_BYTES
    assert left is not None
    assert left == kept.replace(seals.digest("p_1", made[3]), b"")
    assert seals.without("p_1", left, typed) is None
    assert seals.without("p_2", kept, made[0]) is None
    assert seals.without("p_1", kept, "") is None
    assert not any(each.encode() in kept for each in made)
    assert not any(codes.is_of_authenticator(each) for each in made)


def test_homes_key_is_made_once_and_missed(tmp_path: Path) -> None:
    """Only where something is to be sealed; a home without it says what helps."""
    home = Home(tmp_path)
    home.keys.mkdir()
    with pytest.raises(VerificationError) as missed:
        codes.seals_of(home)
    made = codes.seals_of(home, make=True)

    assert "--second-factor" in missed.value.hint
    assert codes.seals_of(home, make=True) == made == codes.seals_of(home)
    assert (home.keys / "people.key").stat().st_mode & 0o777 == 0o600
    assert len(made.key) == 32
    assert str(made.key) not in repr(made)


def test_algorithm_of_a_row_is_one_of_ours() -> None:
    """A row decides nothing else."""
    with pytest.raises(VerificationError):
        codes.code_at(SECRET, "md5", 1)
    assert STEP_SECONDS == 30
