"""Sealing: who can read, and who can not any more."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import sealing
from appliance.audit.policy import KeyPolicy, Reading, first_policy
from appliance.audit.recipients import Algorithms, Identity, parse_identity, parse_recipient
from appliance.audit.sealing import Epoch, Opener, Place, Sealed, padme
from appliance.errors import VerificationError

ALICE = Identity.generate("alice")
BOB = Identity.generate("bob")
CAROL = Identity.generate("carol", Algorithms.P256)
POLICY = first_policy([ALICE.recipient, BOB.recipient, CAROL.recipient])
TWO = first_policy([ALICE.recipient, BOB.recipient, CAROL.recipient], reading=Reading.TWO)
SHARE = bytes(range(32))
ORIGIN = "test/audit/1"


def opener(sealer: Epoch, *identities: Identity, **changes: Any) -> Opener:
    options: dict[str, Any] = {
        "origin": ORIGIN,
        "epoch": sealer.number,
        "policy": POLICY,
        "secret_sha256": sealer.secret_sha256,
        "wraps": {wrap.recipient: wrap.data for wrap in sealer.wraps},
    }
    return Opener(identities, **(options | changes))


def sealed_three(policy: KeyPolicy = POLICY) -> tuple[Epoch, list[tuple[int, Sealed]]]:
    epoch = Epoch(1, ORIGIN, policy)
    return epoch, [epoch.seal({"n": n}, share=SHARE, seq=10 + n, kind="request:opened") for n in range(3)]


def read(found: Opener, at: int, step: int, sealed: Sealed, share: bytes = SHARE) -> dict[str, Any]:
    return found.open(
        sealed,
        share=share,
        seq=10 + at,
        step=step,
        kind="request:opened",
        key_commitment=sealed.key_commitment.hex(),
    )


@pytest.mark.parametrize("identity", [ALICE, BOB, CAROL])
def test_every_recipient_reads_in_any_order(identity: Identity) -> None:
    """Each auditor of the policy opens every record, forwards and backwards."""
    epoch, records = sealed_three()
    found = opener(epoch, identity)

    assert [read(found, n, *records[n])["n"] for n in (2, 0, 1)] == [2, 0, 1]


def test_strangers_read_nothing() -> None:
    """An identity that is not in the policy finds no wrap; a foreign wrap does not open."""
    epoch, _ = sealed_three()
    mallory = Identity.generate("mallory")
    with pytest.raises(VerificationError, match="not a recipient"):
        opener(epoch, mallory)
    stolen = {mallory.recipient.fingerprint: epoch.wraps[0].data}
    with pytest.raises(VerificationError, match="not a recipient"):
        opener(epoch, mallory, wraps=stolen)
    with pytest.raises(VerificationError, match="does not open"):
        opener(epoch, ALICE, wraps={ALICE.recipient.fingerprint: epoch.wraps[1].data})


def test_wraps_belong_to_their_log_epoch_and_policy() -> None:
    """A wrap carried to another place does not open there."""
    epoch, _ = sealed_three()
    for change in ({"origin": "other/audit/1"}, {"epoch": 2}, {"policy": TWO}):
        with pytest.raises(VerificationError):
            opener(epoch, ALICE, **change)


def test_sealer_that_wraps_garbage_is_caught() -> None:
    """The secret's committed hash tells an auditor that theirs is not the one in use."""
    epoch, _ = sealed_three()
    with pytest.raises(VerificationError, match="committed"):
        opener(epoch, ALICE, secret_sha256="0" * 64)


def test_ciphertexts_can_not_be_swapped() -> None:
    """A record's place is bound into its encryption."""
    epoch, records = sealed_three()
    step, sealed = records[0]
    found = opener(epoch, ALICE)
    with pytest.raises(VerificationError):
        read(found, 1, step, sealed)
    with pytest.raises(VerificationError):
        read(found, 0, 1, sealed)
    damaged = dataclasses.replace(
        sealed, ciphertext=bytes([sealed.ciphertext[0] ^ 1]) + sealed.ciphertext[1:]
    )
    with pytest.raises(VerificationError, match="does not open"):
        read(found, 0, step, damaged)


def test_record_under_another_key_is_caught() -> None:
    """Key commitment: a ciphertext that opens under a crafted key is not the record."""
    epoch, records = sealed_three()
    step, sealed = records[0]
    place = Place(ORIGIN, 10, 1, step, "request:opened")
    crafted = AESGCM(bytes(32)).encrypt(sealed.nonce, b"another prompt", place.aad())
    found = opener(epoch, ALICE)
    with pytest.raises(VerificationError, match="another key"):
        found.open(
            Sealed(sealed.nonce, crafted, bytes(32)),
            share=SHARE,
            seq=10,
            step=step,
            kind="request:opened",
            key_commitment=bytes(32).hex(),
        )


def test_what_the_sealer_holds_opens_nothing_earlier() -> None:
    """Forward secrecy: no bytes reachable from the epoch derive the key of a record before."""
    epoch, records = sealed_three()
    gc.collect()
    held = {value for value in vars(epoch).values() if isinstance(value, bytes)} | {
        wrap.data for wrap in epoch.wraps
    }
    keys_from_held = set()
    for secret in held:
        chain = secret[:32]
        for _ in range(8):
            seed, chain = sealing.advance(chain)
            keys_from_held.add(sealing.commitment(sealing.combine(SHARE, seed)))
        keys_from_held.add(sealing.commitment(sealing.combine(SHARE, secret[:32])))
    earlier = {sealed.key_commitment for _, sealed in records}
    _, following = epoch.seal({"n": 3}, share=SHARE, seq=13, kind="request:opened")

    assert not earlier & keys_from_held
    assert following.key_commitment in keys_from_held  # the control: this search can find a key


def test_identity_and_recipient_files_round_trip() -> None:
    """What is written is read back; a damaged or foreign file is refused."""
    assert parse_identity(ALICE.text()) == ALICE
    assert parse_identity(CAROL.text()) == CAROL
    for each in (ALICE, CAROL):
        assert parse_recipient(each.recipient.text()) == each.recipient
    for bad in (
        "",
        "x",
        ALICE.recipient.text(),
        ALICE.text() + ALICE.text(),
        ALICE.text().replace("alice", "a b"),
    ):
        with pytest.raises(VerificationError):
            parse_identity(bad)


def test_neither_half_opens_alone() -> None:
    """An auditor without the share, or with another subject's, reads nothing."""
    epoch, records = sealed_three()
    found = opener(epoch, ALICE)
    for wrong in (bytes(32), SHARE[::-1]):
        with pytest.raises(VerificationError, match="another key"):
            read(found, 0, *records[0], share=wrong)


def test_two_readers_open_together_and_nobody_alone() -> None:
    """2-of-n: every two of three readers open, in either order; one of them, or one twice, does not."""
    epoch, records = sealed_three(TWO)
    for pair in itertools.permutations((ALICE, BOB, CAROL), 2):
        assert read(opener(epoch, *pair, policy=TWO), 1, *records[1]) == {"n": 1}
    for alone in ((ALICE,), (BOB, BOB), (CAROL, Identity.generate("mallory"))):
        with pytest.raises(VerificationError, match="two of its readers"):
            opener(epoch, *alone, policy=TWO)
    halves = {wrap.data for wrap in epoch.wraps}
    assert len(halves) == len(epoch.wraps) == 6


def test_evidence_discloses_one_record_only() -> None:
    """A disclosed record key opens its record and no neighbour."""
    epoch, records = sealed_three()
    disclosed = opener(epoch, ALICE).disclose(share=SHARE, seq=11, step=records[1][0], kind="request:opened")

    assert disclosed.open(records[1][1], key_commitment=records[1][1].key_commitment.hex()) == {"n": 1}
    with pytest.raises(VerificationError):
        disclosed.open(records[2][1], key_commitment=records[2][1].key_commitment.hex())


def test_secrets_are_in_no_repr() -> None:
    """Printing an identity, an epoch's wrap or a sealed record shows no key material."""
    epoch, records = sealed_three()
    shown = repr(ALICE) + repr(epoch.wraps[0]) + repr(records[0]) + repr(POLICY)

    assert ALICE.seed.hex() not in shown
    assert repr(ALICE.seed) not in shown
    assert repr(records[0][1].ciphertext) not in shown


@given(st.integers(2, 1 << 40))
def test_padding_hides_lengths_cheaply(size: int) -> None:
    """Padmé: never shorter, at most 12 % longer, and idempotent."""
    padded = padme(size)

    assert size <= padded <= size * 1.12 + 1
    assert padme(padded) == padded
