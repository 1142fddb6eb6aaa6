"""Signing only adds: any order, twice, never a list that is not true, and nobody but the root's signers."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.bundle import layout, manifest, signing
from appliance.bundle.keys import Kind
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.errors import RequestError
from tests import signed
from tests.signed import Office


@pytest.fixture
def begun(office: Office, tmp_path: Path) -> Path:
    bundle = signed.build(tmp_path / "b", 4)
    signing.start(bundle, office.folder, 300)
    return bundle


def contents(bundle: Path) -> dict[str, bytes]:
    return {str(each.relative_to(bundle)): each.read_bytes() for each in bundle.rglob("*") if each.is_file()}


def test_start_is_the_same_each_time(begun: Path, office: Office) -> None:
    """Two builds of one commit are one list; earlier signatures and keys are gone."""
    before = contents(begun)
    signing.sign(begun, office.some[0])
    (begun / "keys/0000000000000000.p384.pem").write_bytes(b"left over")
    signing.start(begun, office.folder, 300)

    assert contents(begun) == before
    assert signing.signed_by(begun) == {
        "4000.targets.json": [], "4000.snapshot.json": [], "timestamp.json": []
    }  # fmt: skip


def test_order_does_not_matter_and_twice_does_no_harm(begun: Path, office: Office) -> None:
    """All three sign; the second time nothing is written."""
    tara, theo, tomo = office.targets_keys.values()
    written = [signing.sign(begun, key) for key in (tomo, tara, theo)]
    after = contents(begun)

    assert [len(each) for each in written] == [5, 5, 5]
    assert [signing.sign(begun, key) for key in (theo, tomo, tara)] == [[], [], []]
    assert contents(begun) == after
    assert set(map(tuple, signing.signed_by(begun).values())) == {("tara", "theo", "tomo")}


def test_signatures_in_copies_are_gathered(begun: Path, office: Office, tmp_path: Path) -> None:
    """Two sign at the same time; a stranger's and a bad signature stay behind; another list is refused."""
    tara, theo = office.some
    copy = signed.copy(begun, tmp_path / "copy")
    signing.sign(begun, tara)
    signing.sign(copy, theo)
    bad = signed.copy(copy, tmp_path / "bad")
    for each in bad.glob("*.sig"):
        each.write_bytes(bytes(64))
    (bad / "SHA256SUMS.0000000000000000.p384.sig").write_bytes(b"x")
    documents = {path: path.read_text() for path in (bad / "metadata").glob("4000.*")}
    for path, text in documents.items():
        path.write_text(text.replace('"sig": "', '"sig": "00'))

    assert signing.gather(begun, bad) == ["metadata/timestamp.json"]
    assert len(signing.gather(begun, copy)) == 4
    assert signing.gather(begun, copy) == []
    assert set(map(tuple, signing.signed_by(begun).values())) == {("tara", "theo")}
    assert len(list(begun.glob("*.sig"))) == 4
    other = signed.build(tmp_path / "other", 5)
    signing.start(other, office.folder, 300)
    with pytest.raises(BundleRefused) as refused:
        signing.gather(begun, other)
    assert refused.value.exit is Exit.BAD_METADATA


def test_who_is_not_in_the_root_is_refused(begun: Path, office: Office) -> None:
    """15, and nothing is written: a stranger, a stranger of the same name, a signer of roots."""
    before = contents(begun)
    for key in (*signed.people("eve", "tara").values(), office.root_keys["ruth"]):
        with pytest.raises(BundleRefused) as refused:
            signing.sign(begun, key)
        assert refused.value.exit is Exit.BAD_SIGNATURE

    assert contents(begun) == before


def test_nobody_signs_a_folder_with_other_roots(begun: Path, office: Office, tmp_path: Path) -> None:
    """A usurper's root names the real signers of bundles, so that their signatures would bring it in."""
    usurper = Office(tmp_path / "usurper", targets_keys=office.targets_keys).publish()
    tara, theo = office.some
    assert len(signing.sign(begun, tara, root=office.folder)) == 5
    signing.start(begun, usurper.folder, 300)

    with pytest.raises(BundleRefused, match="the roots in") as refused:
        signing.sign(begun, tara, root=office.folder)
    assert refused.value.exit is Exit.BAD_SIGNATURE
    old_copy = signed.copy(office.folder, tmp_path / "old")
    office.publish()
    signing.start(begun, office.folder, 300)
    assert len(signing.sign(begun, theo, root=old_copy)) == 5  # the next root follows from the signer's
    signing.start(begun, old_copy, 300)
    with pytest.raises(BundleRefused, match="the roots in"):
        signing.sign(begun, theo, root=office.folder)


def test_nobody_signs_what_is_not_true(begun: Path, office: Office) -> None:
    """A changed, a missing or an extra file, and lists that differ."""
    key = office.some[0]
    part = next(begun.glob("blobs/sha256/*/*.p0000"))
    data = part.read_bytes()
    for change, code in (
        (lambda: part.write_bytes(data[::-1]), Exit.WRONG_DIGEST),
        (part.unlink, Exit.MISSING),
        (lambda: (begun / "extra").write_bytes(b"x"), Exit.WRONG_DIGEST),
    ):
        change()
        with pytest.raises(BundleRefused) as refused:
            signing.sign(begun, key)
        assert refused.value.exit is code
        part.write_bytes(data)
    (begun / "extra").unlink()

    listed = (begun / layout.SUMS).read_text().splitlines()
    (begun / layout.SUMS).write_text("\n".join(each for each in listed if "README" not in each) + "\n")
    with pytest.raises(BundleRefused) as refused:
        signing.sign(begun, key)
    assert refused.value.exit is Exit.BAD_METADATA
    assert list(begun.glob("*.sig")) == []


def test_large_files_may_be_elsewhere(begun: Path, office: Office) -> None:
    """`partial` signs what their lists say; what is there is hashed all the same."""
    for part in begun.glob("blobs/sha256/*/*"):
        part.unlink()
    with pytest.raises(BundleRefused) as refused:
        signing.sign(begun, office.some[0])
    assert refused.value.exit is Exit.MISSING
    assert len(signing.sign(begun, office.some[0], partial=True)) == 5

    (begun / "README.txt").write_bytes(b"x")
    with pytest.raises(BundleRefused) as refused:
        signing.sign(begun, office.some[1], partial=True)
    assert refused.value.exit is Exit.WRONG_DIGEST


def test_delta_is_listed_whole_and_signed_without_what_it_leaves_out(office: Office, tmp_path: Path) -> None:
    """Its host holds the model: the lists name it, the folder does not have it."""
    bundle = signed.delta(tmp_path / "d", office, 5)
    blob = manifest.parse((bundle / layout.MANIFEST).read_bytes()).blobs[0]

    assert not any((bundle / path).exists() for path in blob.paths)
    assert all(path in (bundle / layout.SUMS).read_text() for path in blob.paths)


def test_root_that_ends_before_its_bundle_is_refused(begun: Path, office: Office) -> None:
    """Nobody finds out years later that it was the root."""
    with pytest.raises(RequestError, match="the root ends on"):
        signing.start(begun, office.folder, 3100)


def test_signatures_are_what_openssl_takes(begun: Path, office: Office) -> None:
    """64 raw bytes and DER, under the key's id; the public keys lie beside."""
    tara = office.targets_keys["tara"]
    signing.sign(begun, tara)
    ed25519, p384 = (tara.public.key(kind) for kind in Kind)
    assert ed25519 is not None
    assert p384 is not None

    assert len((begun / f"SHA256SUMS.{ed25519.key_id}.ed25519.sig").read_bytes()) == 64
    assert (begun / f"SHA256SUMS.{p384.key_id}.p384.sig").read_bytes()[0] == 0x30
    assert (begun / f"keys/{ed25519.key_id}.ed25519.pem").read_bytes() == ed25519.pem
    assert (begun / f"keys/{p384.key_id}.p384.pem").read_bytes() == p384.pem


def test_refresh_is_not_written_over_another(begun: Path, office: Office, tmp_path: Path) -> None:
    """A folder that is there stays as it is."""
    for key in office.some:
        signing.sign(begun, key)
    (tmp_path / "r").mkdir()

    with pytest.raises(RequestError, match="exists"):
        signing.refresh(begun, office.folder, tmp_path / "r", 30, signed.NOW_US)
