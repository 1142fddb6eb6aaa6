"""A bundle's folder: what lies in it is what is listed, and models are cut by content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import blobs, folder, layout, manifest, sums
from appliance.bundle.refusals import BundleRefused, Exit
from tests.bundles import TINY_FILES, tiny


def test_what_signers_add_is_listed_when_it_is_sealed_again(tmp_path: Path) -> None:
    """Keys and roots stand in the list; signatures and this release's metadata do not."""
    bundle = tiny(tmp_path / "bundle")
    before = sums.parse((bundle / layout.SUMS).read_bytes())
    for path in (
        "keys/0123456789abcdef.ed25519.pem",
        "metadata/1.root.json",
        "metadata/1.targets.json",
        "metadata/timestamp.json",
        "SHA256SUMS.0123456789abcdef.p384.sig",
    ):
        (bundle / path).parent.mkdir(exist_ok=True)
        (bundle / path).write_bytes(path.encode())

    after = folder.seal(bundle)

    assert sums.parse((bundle / layout.SUMS).read_bytes()) == after
    assert after.keys() - before.keys() == {"keys/0123456789abcdef.ed25519.pem", "metadata/1.root.json"}
    assert {path: after[path] for path in before} == before


def test_sealing_twice_changes_nothing(tmp_path: Path) -> None:
    """The list's bytes, mode and time are those of the first time."""
    bundle = tiny(tmp_path / "bundle")
    os.utime(bundle / layout.MANIFEST, (1_000_000_000, 1_000_000_000))
    folder.seal(bundle)
    before = (bundle / layout.SUMS).read_bytes(), (bundle / layout.SUMS).stat()
    folder.seal(bundle)
    after = (bundle / layout.SUMS).read_bytes(), (bundle / layout.SUMS).stat()

    assert before[0] == after[0]
    assert before[1].st_mtime == after[1].st_mtime == 1_000_000_000
    assert after[1].st_mode & 0o7777 == 0o644


def test_sealing_tells_how_far_it_is(tmp_path: Path) -> None:
    """Bytes done of bytes in all, up to all of them."""
    bundle = tiny(tmp_path / "bundle")
    told: list[tuple[int, int]] = []

    folder.seal(bundle, lambda done, total: told.append((done, total)))

    assert (
        told[-1][0]
        == told[-1][1]
        == sum((bundle / path).stat().st_size for path in folder.paths(bundle) if path != layout.SUMS)
    )


@pytest.mark.parametrize("name", [".hidden", "a b", "-rf", "ä", "a\nb"])
def test_a_name_that_no_bundle_has_is_refused(name: str, tmp_path: Path) -> None:
    """It is found when the folder is walked, before it is listed anywhere."""
    bundle = tiny(tmp_path / "bundle")
    (bundle / "app" / name).write_bytes(b"")

    with pytest.raises(BundleRefused, match="can not hold this name") as refused:
        folder.seal(bundle)

    assert refused.value.exit is Exit.BAD_METADATA


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    """A link to a file, a link to a folder, a broken link and a pipe."""
    bundle = tiny(tmp_path / "bundle")
    odd = bundle / "app" / "odd"
    for target in ("/etc/passwd", "/etc", "nowhere"):
        odd.symlink_to(target)
        with pytest.raises(BundleRefused, match="neither a file nor a folder: app/odd"):
            folder.paths(bundle)
        odd.unlink()
    os.mkfifo(odd)

    with pytest.raises(BundleRefused, match="neither a file nor a folder: app/odd"):
        folder.paths(bundle)


def test_a_wheel_is_described_with_its_tags(tmp_path: Path) -> None:
    """And what is called a wheel and is none is refused."""
    (tmp_path / "wheels").mkdir()
    name = "wheels/p-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    for path in (name, "wheels/p.whl"):
        (tmp_path / path).write_bytes(b"a")

    assert folder.describe(tmp_path, name) == manifest.File(
        path=name,
        size=1,
        sha256=hashlib.sha256(b"a").hexdigest(),
        role="wheel",
        tags=("cp312-cp312-manylinux2014_x86_64", "cp312-cp312-manylinux_2_17_x86_64"),
    )
    with pytest.raises(BundleRefused, match="not the name of a wheel"):
        folder.describe(tmp_path, "wheels/p.whl")


def test_a_manifest_lists_neither_itself_nor_what_signers_add(tmp_path: Path) -> None:
    """All else is in it."""
    bundle = tiny(tmp_path / "bundle")
    (bundle / "keys").mkdir()
    (bundle / "keys/0123456789abcdef.p384.pem").write_bytes(b"")
    listed = {each.path for each in folder.describe_all(bundle)}

    assert set(TINY_FILES) < listed
    assert not {path for path in listed if path.startswith(("keys/", "blobs/", "SHA256SUMS", "manifest"))}


@given(size=st.integers(min_value=0, max_value=50), part_bytes=st.integers(min_value=1, max_value=20))
def test_parts_make_up_the_whole(
    size: int, part_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each part has its size and its digest, and together they are the file; a small one stays whole."""
    place = tmp_path_factory.mktemp("cut")
    data = bytes(range(size))
    (place / "source").write_bytes(data)
    told: list[int] = []

    cut = blobs.cut(place / "source", place / "bundle", part_bytes=part_bytes, told=told.append)
    blob = manifest.Blob(sha256=cut.sha256, size=cut.size, name="a", part_size=cut.part_size, parts=cut.parts)
    contents = [(place / "bundle" / path).read_bytes() for path in blob.paths]

    assert b"".join(contents) == data
    assert (cut.sha256, cut.size, sum(told)) == (hashlib.sha256(data).hexdigest(), size, size)
    assert [hashlib.sha256(each).hexdigest() for each in contents] == list(cut.parts or (cut.sha256,))
    assert all(len(each) == part_bytes for each in contents[:-1])
    assert sorted(folder.paths(place / "bundle")) == sorted(blob.paths)
    assert (len(cut.parts) > 1) == (size > part_bytes)
    assert len(cut.parts) != 1
