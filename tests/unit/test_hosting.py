"""Hosted identities: only under their passphrase, each act on the record, guesses counted and slowed down."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.accounts import vault
from appliance.alone import Alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Algorithms, Identity
from appliance.core import Role
from appliance.errors import ApplianceError, AuditUnavailable, Refused, RequestError, VerificationError
from appliance.hosting import forget
from tests.acts import signed, with_member
from tests.cases import CALLER, Place, make_place
from tests.records import assert_verified, place

CHEAP = "scrypt$10,8,1"
WORDS, OTHERS = "correct horse battery", "another horse entirely"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real costs are measured by test_vault."""
    monkeypatch.setattr(vault, "SCRYPT", CHEAP)
    monkeypatch.setattr(vault, "KNOWN", frozenset({CHEAP, vault.PBKDF2}))


@pytest.fixture
def box(tmp_path: Path) -> Place:
    return make_place(tmp_path / "home")


def said(box: Place, kind: Kind) -> list[int]:
    """How many failures each such entry tells, oldest first."""
    return [int(each.public["failures"]) for each in query.search(place(box.home), kind=kind)][::-1]


async def code_of(alone: Alone, words: str, account: str = "acc_1") -> str:
    try:
        await alone.hosted.unlock(account, Role.AUDITOR, words, CALLER)
    except ApplianceError as error:
        return error.code
    return ""


async def test_an_identity_comes_back_and_reads(box: Place) -> None:
    """Stored, unlocked, removed: each is an entry, rows and record agree, and afterwards nothing opens."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS, CALLER)
        assert await alone.hosted.unlock("acc_1", Role.AUDITOR, WORDS, CALLER) == box.readers[0]
        await alone.hosted.remove("acc_1", CALLER)
        assert await code_of(alone, WORDS) == "identity_not_found"
        assert alone.hosted.held("acc_1") is None
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[1], OTHERS, CALLER)
        assert (await alone.hosted.unlock("acc_1", Role.AUDITOR, OTHERS)).name == "bob"

    assert said(box, Kind.IDENTITY_HOSTED) == [0, 0]
    assert said(box, Kind.IDENTITY_UNLOCKED) == [0, 0]
    assert said(box, Kind.IDENTITY_REMOVED) == [0]
    assert_verified(box.home)


async def test_nothing_unsealed_lies_on_the_disk(box: Place) -> None:
    """Not the seed in any of its forms, and not the passphrase: in no file of the home."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS, CALLER)
        await alone.hosted.unlock("acc_1", Role.AUDITOR, WORDS, CALLER)
        held = {path: path.read_bytes() for path in box.home.root.rglob("*") if path.is_file()}
    seed = box.readers[0].seed
    secret = box.readers[0].text().split()[-1].encode()

    assert len(held) > 5
    for path, data in held.items():
        for canary in (seed, seed.hex().encode(), secret, WORDS.encode()):
            assert canary not in data, path


async def test_guesses_are_counted_and_slowed_down(box: Place) -> None:
    """Five wrong ones lock it, for longer each time, on the record; the right one opens in between only."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        assert [await code_of(alone, OTHERS) for _ in range(6)] == ["wrong_passphrase"] * 5 + [
            "identity_locked"
        ]
        assert await code_of(alone, WORDS) == "identity_locked"
        box.clock.advance(59)
        assert await code_of(alone, WORDS) == "identity_locked"
        box.clock.advance(1)
        assert await code_of(alone, "short") == "wrong_passphrase"
        box.clock.advance(119)
        assert await code_of(alone, WORDS) == "identity_locked"
    with box.open() as alone:  # a restart forgets nothing
        assert await code_of(alone, WORDS) == "identity_locked"
        box.clock.advance(1)
        assert await code_of(alone, WORDS) == ""
        assert await code_of(alone, OTHERS) == "wrong_passphrase"

    assert said(box, Kind.IDENTITY_REFUSED) == [1, 2, 3, 4, 5, 6, 1]
    assert said(box, Kind.IDENTITY_UNLOCKED) == [0]
    assert_verified(box.home)


async def test_guesses_at_once_are_counted_one_by_one(box: Place) -> None:
    """Twenty of them get five tries."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        codes = await asyncio.gather(*(code_of(alone, OTHERS) for _ in range(20)))

    assert sorted(codes) == ["identity_locked"] * 15 + ["wrong_passphrase"] * 5


async def test_waiting_grows_and_ends(box: Place) -> None:
    """A minute, doubled each time, a day at most."""
    waits = []
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        for _ in range(20):
            assert await code_of(alone, OTHERS) == "wrong_passphrase"
            held = alone.hosted.held("acc_1")
            assert held is not None
            waits.append(max(0, held.locked_until_us - box.clock.now_us()) // 1_000_000)
            box.clock.advance(waits[-1])

    assert waits == [0] * 4 + [60 << n for n in range(11)] + [86_400] * 5


async def test_only_members_of_the_right_role(box: Place) -> None:
    """Strangers, an auditor's key for a privacy account and the other way round: refused, nothing stored."""
    carol = Identity.generate("carol")
    with box.open() as alone:
        draft = with_member(alone.audit.policy, alone.audit.origin, carol)
        await alone.custody.change_policy(signed(draft, *box.readers))
        for identity, role in (
            (Identity.generate("alice"), Role.AUDITOR),
            (box.readers[0], Role.PRIVACY),
            (carol, Role.AUDITOR),
            (box.readers[0], Role.ADMIN),
        ):
            with pytest.raises(Refused) as caught:
                await alone.hosted.store("acc_1", role, identity, WORDS)
            assert caught.value.code == "not_a_member"
        await alone.hosted.store("acc_2", Role.PRIVACY, carol, WORDS)
        with pytest.raises(Refused):  # the account was given another role since
            await alone.hosted.unlock("acc_2", Role.AUDITOR, WORDS)
    assert said(box, Kind.IDENTITY_HOSTED) == [0]
    assert said(box, Kind.IDENTITY_UNLOCKED) == []


async def test_another_accounts_row_opens_nothing(box: Place) -> None:
    """The passphrase's owner can not have somebody else's identity by exchanging rows."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        held = alone.hosted.held("acc_1")
        assert held is not None
        assert vault.open_(held.vault, WORDS, bound=b"acc_2") is None
        with pytest.raises(RequestError):
            await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)


async def test_another_passphrase_takes_the_old_ones_place(box: Place) -> None:
    """The old one opens nothing any more; a wrong one changes nothing."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        with pytest.raises(Refused):
            await alone.hosted.change_passphrase("acc_1", Role.AUDITOR, OTHERS, OTHERS)
        await alone.hosted.change_passphrase("acc_1", Role.AUDITOR, WORDS, OTHERS)
        assert await code_of(alone, WORDS) == "wrong_passphrase"
        assert await code_of(alone, OTHERS) == ""
    assert_verified(box.home)


async def test_nothing_is_unlocked_where_nothing_can_be_recorded(box: Place) -> None:
    """Behind the latch the right passphrase opens nothing."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        alone.audit.latch("a test")
        with pytest.raises(AuditUnavailable):
            await alone.hosted.unlock("acc_1", Role.AUDITOR, WORDS)


async def test_profile_fips_takes_its_own_keys_only(tmp_path: Path) -> None:
    """P-256 identities, PBKDF2 and fifteen characters."""
    box = make_place(tmp_path / "home", crypto="fips")
    with box.open() as alone:
        with pytest.raises(RequestError):
            await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], "twelve chars")
        with pytest.raises(VerificationError):
            await alone.hosted.store("acc_1", Role.AUDITOR, Identity.generate("alice"), WORDS)
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        opened = await alone.hosted.unlock("acc_1", Role.AUDITOR, WORDS)
        held = alone.hosted.held("acc_1")
    assert opened.algorithms is Algorithms.P256
    assert held is not None
    assert held.vault.kdf == vault.PBKDF2


async def test_a_forgotten_identity_is_overwritten(box: Place) -> None:
    """Its seed is zeros: whoever kept the object holds nothing."""
    with box.open() as alone:
        await alone.hosted.store("acc_1", Role.AUDITOR, box.readers[0], WORDS)
        opened = await alone.hosted.unlock("acc_1", Role.AUDITOR, WORDS)
    forget(opened)

    assert opened.seed == bytes(32)
    assert "seed" not in repr(opened)
