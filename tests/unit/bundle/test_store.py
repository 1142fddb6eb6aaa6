"""The store: nothing bears a name that is not its digest, joins survive a crash, and what is kept stays."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bundle import copying, layout, manifest, store
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Blob, Manifest
from appliance.bundle.refusals import BundleRefused, Exit
from tests import bundles
from tests import volumes as made


def staged(site: Site, tmp_path: Path, **options: object) -> tuple[Path, Manifest]:
    taken = copying.take([made.signed(tmp_path / f"bundle-{options.get('serial', 1)}", **options)], site)
    assert taken.manifest is not None
    return taken.staging, taken.manifest


def refused(exit_code: Exit) -> pytest.RaisesExc[BundleRefused]:
    return pytest.raises(BundleRefused, check=lambda error: error.exit is exit_code)


def keep_release(site: Site, of: Manifest) -> Path:
    """A release folder as the installer leaves it, as far as the store looks at it."""
    folder = site.release(of.serial, of.release)
    folder.mkdir(parents=True)
    (folder / layout.MANIFEST).write_bytes(manifest.dump(of))
    (folder / ".complete").touch()
    return folder


def test_verified_bundle_goes_into_the_store(site: Site, tmp_path: Path) -> None:
    """Models as one file each, wheels under their digests, readable by everybody; parts leave staging."""
    staging, of = staged(site, tmp_path)
    store.adopt(site, staging, of)

    assert store.held(site) == store.needed(of)
    (blob,) = of.blobs
    assert store.place(site, blob.sha256).read_bytes() == made.model()
    assert not list(staging.rglob("*.p0*"))
    for digest in store.needed(of):
        store.verify(site, digest)
        assert store.place(site, digest).stat().st_mode & 0o777 == 0o644


def test_adopting_again_changes_nothing(site: Site, tmp_path: Path) -> None:
    """Also where the parts are there once more."""
    staging, of = staged(site, tmp_path)
    store.adopt(site, staging, of)
    before = made.files(site.store)
    store.adopt(site, staging, of)
    copying.take([tmp_path / "bundle-1"], site)
    store.adopt(site, staging, of)

    assert made.files(site.store) == before


def test_small_model_without_parts_is_taken_whole(site: Site, tmp_path: Path) -> None:
    """One file of a bundle, one of the store."""
    staging, of = staged(site, tmp_path, model=b"GGUF tiny")
    assert of.blobs[0].parts == ()
    store.adopt(site, staging, of)

    assert store.place(site, of.blobs[0].sha256).read_bytes() == b"GGUF tiny"


@pytest.mark.parametrize("point", range(6))
def test_join_that_was_cut_off_goes_on(point: int, site: Site, tmp_path: Path) -> None:
    """After n parts were put in, whose files are gone, and the next one was half written."""
    staging, of = staged(site, tmp_path)
    (blob,) = of.blobs
    joining = store.place(site, blob.sha256).with_name(f".{blob.sha256}.joining")
    joining.parent.mkdir(parents=True)
    done = made.model()[: point * blob.part_size]
    joining.write_bytes(done + b"torn" * 10)
    for path in blob.paths[:point]:
        (staging / path).unlink()
    store.adopt(site, staging, of)

    store.verify(site, blob.sha256)
    assert not joining.exists()


def test_part_that_is_missing_is_named(site: Site, tmp_path: Path) -> None:
    """And the join can go on once it is there."""
    staging, of = staged(site, tmp_path)
    path = staging / of.blobs[0].paths[2]
    kept = path.read_bytes()
    path.unlink()
    with refused(Exit.MISSING):
        store.adopt(site, staging, of)

    path.write_bytes(kept)
    store.adopt(site, staging, of)
    store.verify(site, of.blobs[0].sha256)


def test_parts_that_make_up_another_whole_are_refused(site: Site, tmp_path: Path) -> None:
    """A manifest may list parts that are right and a whole that is not: the whole is hashed, too."""
    staging, of = staged(site, tmp_path)
    (blob,) = of.blobs
    (staging / blob.paths[0]).write_bytes(bytes(blob.part_size))
    with refused(Exit.WRONG_DIGEST):
        store.join(site, blob, staging)

    assert store.held(site) == {}


def test_model_needs_its_room_once(site: Site, tmp_path: Path) -> None:
    """While it is joined, parts leave as their bytes arrive: at most one part more than the model."""
    staging, of = staged(site, tmp_path)
    (blob,) = of.blobs
    highest = 0
    unlink = Path.unlink

    def seen(path: Path, *, missing_ok: bool = False) -> None:
        nonlocal highest
        here = [
            each for root in (staging / "blobs", site.store) for each in root.rglob("*") if each.is_file()
        ]
        highest = max(highest, sum(each.stat().st_size for each in here))
        unlink(path, missing_ok=missing_ok)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "unlink", seen)
        store.join(site, blob, staging)

    assert blob.size < highest <= blob.size + blob.part_size


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_file_systems_without_ranges_are_copied_on(
    code: int, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's refusal to copy between files costs time, not the model."""

    def fails(*_arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", fails)
    staging, of = staged(site, tmp_path)
    store.adopt(site, staging, of)

    store.verify(site, of.blobs[0].sha256)


def test_put_hashes_where_it_lies(site: Site, tmp_path: Path) -> None:
    """Other bytes get no name; an altered file of that name is replaced."""
    source = tmp_path / "file"
    source.write_bytes(b"good")
    digest = made.digest(b"good")
    with refused(Exit.WRONG_DIGEST):
        store.put(site, "a" * 64, source)
    assert store.held(site) == {}

    store.put(site, digest, source)
    place = store.place(site, digest)
    place.unlink()
    place.write_bytes(b"evil")
    with refused(Exit.WRONG_DIGEST):
        store.verify(site, digest)
    store.put(site, digest, source)
    store.verify(site, digest)
    with refused(Exit.MISSING):
        store.verify(site, "b" * 64)


def test_link_in_the_store_is_not_followed(site: Site, tmp_path: Path) -> None:
    """A name that leads elsewhere is altered, whatever lies there."""
    source = tmp_path / "file"
    source.write_bytes(b"good")
    place = store.place(site, made.digest(b"good"))
    place.parent.mkdir(parents=True)
    place.symlink_to(source)

    assert not store.is_whole(site, made.digest(b"good"))


def test_collection_keeps_releases_and_what_is_on_its_way(site: Site, tmp_path: Path) -> None:
    """Current, previous, and the bundle in staging; the rest goes, with what crashes left."""
    manifests = []
    for serial in (1, 2, 3):
        wheel = {"files": {bundles.TINY_WHEEL: b"wheel %d" % serial}}
        staging, of = staged(site, tmp_path, serial=serial, model=made.model(serial), **wheel)
        store.adopt(site, staging, of)
        manifests.append(of)
        if serial < 3:
            keep_release(site, of)
            staging.rename(tmp_path / f"gone-{serial}")
    litter = store.place(site, "c" * 64).with_name(f".{'c' * 64}.joining")
    litter.parent.mkdir(parents=True, exist_ok=True)
    litter.write_bytes(b"torn")
    half = store.place(site, manifests[2].blobs[0].sha256).with_name(
        f".{manifests[2].blobs[0].sha256}.joining"
    )
    half.write_bytes(b"half")
    assert set(store.collect(site).removed) == {litter.name}
    assert half.exists()

    folder = site.release(1, "1.0.0")
    (folder / layout.MANIFEST).rename(tmp_path / "manifest-1")
    with refused(Exit.BAD_METADATA):  # what it needs is not known, so nothing is removed
        store.collect(site)
    (folder / ".complete").unlink()
    folder.rmdir()
    removed = store.collect(site)
    assert set(removed.removed) == store.needed(manifests[0]).keys() - store.needed(manifests[1]).keys()
    assert store.held(site).keys() == store.needed(manifests[1]).keys() | store.needed(manifests[2]).keys()


def test_manifest_that_can_not_be_read_keeps_everything(site: Site, tmp_path: Path) -> None:
    """A collection that guesses would take the release to go back to."""
    staging, of = staged(site, tmp_path)
    store.adopt(site, staging, of)
    folder = keep_release(site, of)
    (folder / layout.MANIFEST).write_bytes(b"{}")
    with refused(Exit.BAD_METADATA):
        store.collect(site)

    assert store.held(site) == store.needed(of)


DIGESTS = [made.digest(bytes([number])) for number in range(8)]
SETS = st.lists(st.sets(st.integers(0, 7), max_size=4), max_size=3)


@settings(max_examples=40, deadline=None)
@given(released=SETS, on_its_way=SETS, stored=st.sets(st.integers(0, 7)))
def test_collection_removes_exactly_what_nobody_needs(
    released: list[set[int]], on_its_way: list[set[int]], stored: set[int]
) -> None:
    """For any releases, any staged bundles, and any contents of the store."""
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(Path(scratch))
        for number in stored:
            source = site.root / "source"
            source.write_bytes(bytes([number]))
            store.put(site, DIGESTS[number], source)
        for serial, needed in enumerate([*released, *on_its_way], start=1):
            of = _needing(serial, needed)
            folder = site.release(serial, "1.0.0") if serial <= len(released) else site.staging / str(serial)
            folder.mkdir(parents=True)
            (folder / layout.MANIFEST).write_bytes(manifest.dump(of))
        found = store.collect(site)

        wanted = set().union(*released, *on_its_way)
        assert store.held(site).keys() == {DIGESTS[number] for number in stored & wanted}
        assert set(found.removed) == {DIGESTS[number] for number in stored - wanted}


def _needing(serial: int, numbers: set[int]) -> Manifest:
    return Manifest(
        format=manifest.FORMAT,
        product="appliance",
        release="1.0.0",
        serial=serial,
        built=bundles.BUILT,
        git_commit=bundles.COMMIT,
        platform=manifest.Platform(),
        upgrade_from=manifest.UpgradeFrom(),
        db=manifest.Database("1", "1"),
        needs=manifest.Needs(1, 1, 1),
        kind="full",
        files=(),
        blobs=tuple(Blob(DIGESTS[number], 1, f"model-{number}") for number in sorted(numbers)),
    )
