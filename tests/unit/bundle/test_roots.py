"""The chain of roots: who may sign, and that nobody becomes a signer without enough of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle import keys, roots
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError
from tests import signed
from tests.signed import NOW_US


def publics(*names: str) -> list[keys.PublicSigner]:
    return [each.public for each in signed.people(*names).values()]


def test_ceremony_gives_two_of_three_and_keeps_the_sets_apart() -> None:
    """Roots 2 of 3; targets, snapshot and timestamp 2 of the other 3; P-384 keys stand beside, in no role."""
    r, t = publics("ruth", "rami", "rosa"), publics("tara", "theo", "tomo")
    root = roots.make(r, t, now_us=NOW_US, days=3650).signed

    assert {name: role.threshold for name, role in root.roles.items()} == dict.fromkeys(root.roles, 2)
    assert roots.signers(root, "root") == r
    assert all(roots.signers(root, role) == t for role in ("targets", "snapshot", "timestamp"))
    assert {root.keys[each].scheme for role in root.roles.values() for each in role.keyids} == {"ed25519"}
    assert len(root.keys) == 12


def test_fips_ceremony_counts_p384() -> None:
    """One key of each person counts, or somebody would be two."""
    r, t = publics("ruth", "rami", "rosa"), publics("tara", "theo", "tomo")
    root = roots.make(r, t, now_us=NOW_US, days=10, fips=True).signed
    acting = {root.keys[each].scheme for role in root.roles.values() for each in role.keyids}

    assert acting == {"ecdsa-sha2-nistp384"}


def test_ceremony_refuses_sets_that_are_no_sets() -> None:
    """Too few, the same person twice, somebody in both, one key under two names, a date that is none."""
    r, t = publics("ruth", "rami", "rosa"), publics("tara", "theo", "tomo")
    twin = keys.PublicSigner("twin", r[0].keys)
    for bad_r, bad_t, days in (
        (r[:2], t, 10),
        (r, t[:2], 10),
        ([*r[:2], r[0]], t, 10),
        (r, [*t[:2], r[0]], 10),
        (r, [*t[:2], twin], 10),
        (r, t, 0),
        (r, t, 9999),
        ([*r, keys.PublicSigner("none", ())], t, 10),
    ):
        with pytest.raises(RequestError):
            roots.make(bad_r, bad_t, now_us=NOW_US, days=days)


def test_root_is_in_force_with_two_signatures() -> None:
    """In any order; signing twice counts once; a stranger's and a bundle signer's are refused."""
    r, t = signed.people("ruth", "rami", "rosa"), signed.people("tara", "theo", "tomo")
    made = roots.make(
        [each.public for each in r.values()], [each.public for each in t.values()], now_us=NOW_US, days=10
    )
    data = roots.dump(made)
    assert [(each.num, each.names) for each in roots.missing(data, None)] == [(2, ("ruth", "rami", "rosa"))]

    once = roots.sign(roots.sign(data, r["rosa"], None), r["rosa"], None)
    assert [(each.num, each.names) for each in roots.missing(once, None)] == [(1, ("ruth", "rami"))]
    for stranger in (t["tara"], signed.people("eve")["eve"]):
        with pytest.raises(BundleRefused) as refused:
            roots.sign(once, stranger, None)
        assert refused.value.exit is Exit.BAD_SIGNATURE
    with pytest.raises(BundleRefused):
        roots.check([once])
    assert roots.check([roots.sign(once, r["ruth"], None)]).version == 1


def test_rotation_takes_old_and_new_signers() -> None:
    """Only the old, or only the new, are not enough."""
    old, new = signed.people("ruth", "rami", "rosa"), signed.people("rita", "ralf", "rudi")
    t = publics("tara", "theo", "tomo")

    def by(people: dict[str, keys.SignerKey], version: int) -> bytes:
        publics_of = [each.public for each in people.values()]
        return roots.dump(roots.make(publics_of, t, now_us=NOW_US, days=10, version=version))

    first = by(old, 1)
    for key in list(old.values())[:2]:
        first = roots.sign(first, key, None)
    second = by(new, 2)
    for number, key in enumerate([*list(old.values())[:2], *list(new.values())[:2]]):
        assert len(roots.missing(second, first)) == (2 if number < 2 else 1)
        with pytest.raises(BundleRefused):
            roots.check([first, second])
        second = roots.sign(second, key, first)

    assert roots.check([first, second]).version == 2
    with pytest.raises(BundleRefused) as refused:
        roots.check([second])
    assert refused.value.exit is Exit.BAD_METADATA


def test_folder_with_a_gap_or_another_document_is_refused(tmp_path: Path) -> None:
    """14 for a chain without its beginning, 11 for a file that is no root."""
    office = signed.office(tmp_path / "roots").publish().publish()
    assert len(roots.read(office.folder)) == 3

    (office.folder / "2.root.json").rename(tmp_path / "kept")
    with pytest.raises(BundleRefused) as refused:
        roots.read(office.folder)
    assert refused.value.exit is Exit.MISSING
    for bad in (b"", b"{}", b"[" * 100_000, (office.folder / "1.root.json").read_bytes()):
        (office.folder / "2.root.json").write_bytes(bad)
        with pytest.raises(BundleRefused) as refused:
            roots.read(office.folder)
        assert refused.value.exit is Exit.BAD_METADATA
    with pytest.raises(BundleRefused):
        roots.read(tmp_path / "nowhere")
