"""The envelope of secret files and the slots of a home's key: forms that stay readable; every way to lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance import keyslots, stretching
from appliance.errors import RequestError, SetupError, VerificationError
from appliance.keyslots import HomeKey, Slots

VECTORS = Path(__file__).parent.parent / "vectors/sealed"
KEY = HomeKey(bytes(range(32)))
NAME = "keys/log.ed25519"
PASSPHRASE = "correct horse battery staple"
CREDENTIAL = "apphome1-" + "0f" * 32


def slots(*secrets: str, fips: bool = False) -> Slots:
    made: list[keyslots.Slot] = []
    for secret in secrets:
        name = keyslots.free_name(made, keyslots.way_of(secret))
        made.append(keyslots.new_slot(KEY, name, secret, fips=fips))
    return keyslots.made(KEY, made)


def refused(found: Slots, secret: str) -> str:
    """How slots do not open for a secret: closed, or the error's code; empty where they do."""
    try:
        return "" if keyslots.open_slots(found, secret) else "closed"
    except VerificationError as error:
        return error.code


def test_what_the_first_release_sealed_is_read() -> None:
    """Golden files: an envelope, and slots of a passphrase in both profiles and of a credential."""
    data = (VECTORS / "log.ed25519").read_bytes()
    assert keyslots.open_({KEY.id: KEY.secret}, NAME, data) == b"a secret of thirty-two bytes ...."
    found = keyslots.parse((VECTORS / "home.slots").read_bytes())
    assert [(each.name, each.way, each.kdf) for each in found.ways] == [
        ("passphrase-1", "passphrase", "scrypt$17,8,1"),
        ("passphrase-2", "passphrase", "pbkdf2-sha256$600000"),
        ("credential-1", "credential", "hkdf-sha256"),
    ]
    for secret in (PASSPHRASE, "another horse", CREDENTIAL):
        assert keyslots.open_slots(found, secret) == KEY
    assert keyslots.encode(found) == (VECTORS / "home.slots").read_bytes()


def test_any_slot_opens_and_nothing_else_does() -> None:
    """Each secret opens its own slot; a wrong one, an empty one and a cut one open none, and say no more."""
    found = slots(CREDENTIAL, "apphome1-" + "1e" * 32)
    assert keyslots.open_slots(found, CREDENTIAL) == KEY
    assert keyslots.open_slots(found, "apphome1-" + "1e" * 32) == KEY
    for wrong in ("apphome1-" + "2d" * 32, CREDENTIAL[:-1], CREDENTIAL + " ", "apphome1-", "", "words"):
        assert keyslots.open_slots(found, wrong) is None


@pytest.mark.parametrize("fips", [False, True])
def test_a_passphrase_is_stretched_by_profile(*, fips: bool) -> None:
    """scrypt, or PBKDF2 in profile fips; the same words on another keyboard are the same passphrase."""
    found = slots("pässword of six words", fips=fips)
    assert found.ways[0].kdf == (stretching.PBKDF2 if fips else stretching.SCRYPT)
    assert keyslots.open_slots(found, "pa\u0308ssword of six words") == KEY
    assert keyslots.open_slots(found, "password of six words") is None


@pytest.mark.parametrize(
    "change",
    [
        {"state": "opening"},  # the next start would write every secret in the clear
        {"earlier": "AAAA"},
        {"mac": "00"},
        {"key": "0011223344556677"},
        {"ways": 0},  # without the second slot
    ],
    ids=["state", "earlier", "mac", "key", "slot removed"],
)
def test_changed_slots_are_not_believed(change: dict[str, Any]) -> None:
    """Whoever can write to the disk, and does not open the home, changes nothing that is believed."""
    told = json.loads(keyslots.encode(slots(CREDENTIAL, "apphome1-" + "1e" * 32)))
    told |= change if change != {"ways": 0} else {"ways": told["ways"][:1]}
    assert refused(keyslots.parse(json.dumps(told).encode()), CREDENTIAL) in {"closed", "slots_changed"}


def test_a_slot_is_bound_to_its_home_and_name() -> None:
    """A slot under another name, of another kind of function, or of another home does not open."""
    slot = slots(CREDENTIAL).ways[0]
    for change in ({"name": "other"}, {"kdf": stretching.SCRYPT}, {"salt": "AAAAAAAAAAAAAAAAAAAAAA=="}):
        found = keyslots.made(KEY, [msgspec.structs.replace(slot, **change)])
        assert refused(found, CREDENTIAL) in {"closed", "slots_damaged"}
    other = keyslots.made(HomeKey(bytes(32)), [slot])
    assert keyslots.open_slots(other, CREDENTIAL) is None


def test_what_a_try_costs_is_not_for_the_file_to_say() -> None:
    """A slot that asks for a million rounds, or for one, is damaged."""
    slot = msgspec.structs.replace(slots(PASSPHRASE).ways[0], kdf="scrypt$30,8,1")
    with pytest.raises(VerificationError):
        keyslots.open_slots(keyslots.made(KEY, [slot]), PASSPHRASE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"slots": 1',
        b"[]",
        b'{"slots": 2, "key": "", "state": "sealed", "ways": []}',
    ],
)
def test_slots_that_are_none(data: bytes) -> None:
    """What is no file of slots is said to be damaged, whatever it is."""
    with pytest.raises(VerificationError, match=r"home\.slots"):
        keyslots.parse(data)


def test_slots_of_a_later_release() -> None:
    """Another format is not guessed at."""
    told = json.loads(keyslots.encode(slots(CREDENTIAL))) | {"slots": 2}
    with pytest.raises(VerificationError):
        keyslots.parse(json.dumps(told).encode())


def test_every_byte_of_an_envelope_counts() -> None:
    """Changed anywhere, cut anywhere, longer, or under another name: it does not open."""
    keys = {KEY.id: KEY.secret}
    data = keyslots.seal(KEY, NAME, b"secret")
    assert keyslots.is_sealed(data)
    assert keyslots.open_(keys, NAME, data) == b"secret"
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for lie in (changed, data[:at]):
            with pytest.raises(VerificationError):
                keyslots.open_(keys, NAME, lie)
    for name, lie in (("keys/holds.key", data), (NAME, data + b"\0")):
        with pytest.raises(VerificationError):
            keyslots.open_(keys, name, lie)
    with pytest.raises(VerificationError):
        keyslots.open_({"00": bytes(32)}, NAME, data)


def test_two_files_never_look_alike() -> None:
    """The same secret twice, and under two names, is other bytes each time."""
    assert len({keyslots.seal(KEY, name, bytes(32)) for name in (NAME, NAME, "keys/holds.key")}) == 3


def test_the_key_before_is_there_for_the_key_only() -> None:
    """While files are sealed anew the earlier key opens with the new one, and with no other."""
    earlier = keyslots.new_key()
    slot = keyslots.new_slot(KEY, "credential-1", CREDENTIAL, fips=False)
    found = keyslots.made(KEY, [slot], "sealing", earlier=earlier)
    assert keyslots.earlier_of(found, KEY) == earlier
    assert earlier.secret.hex() not in keyslots.encode(found).decode()
    with pytest.raises(VerificationError):
        keyslots.earlier_of(found, keyslots.new_key())


def test_bounds_of_slots() -> None:
    """Nobody, two of one name, or seventeen are refused; the last slot stays."""
    found = slots(CREDENTIAL)
    slot = found.ways[0]
    many = [msgspec.structs.replace(slot, name=f"s{number}") for number in range(17)]
    for ways in ([], [slot, slot], many):
        with pytest.raises(SetupError):
            keyslots.made(KEY, ways)
    for name in ("credential-1", "unknown"):
        with pytest.raises(RequestError):
            keyslots.without(found, name)
    with pytest.raises(RequestError, match="credential"):
        keyslots.new_slot(KEY, "x", "apphome1-" + "zz" * 32, fips=False)


def test_nothing_shows_its_secrets() -> None:
    """Neither a key nor an error says what it holds."""
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)
    with pytest.raises(VerificationError) as told:
        keyslots.open_({KEY.id: bytes(range(1, 33))}, NAME, keyslots.seal(KEY, NAME, b"secret"))
    assert bytes(range(1, 33)).hex() not in f"{told.value.message} {told.value.hint}"


def test_credentials_are_drawn() -> None:
    """A credential is recognised by its form, and each is another."""
    one, two = keyslots.new_credential(), keyslots.new_credential()
    assert one != two
    assert keyslots.way_of(one) == "credential"
    assert keyslots.way_of(PASSPHRASE) == "passphrase"
