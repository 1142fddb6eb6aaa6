"""Digests of many files: all that is wrong is named, with the worst code, and each byte is read once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appliance.bundle import hashing
from appliance.bundle.hashing import Wanted
from appliance.bundle.refusals import BundleRefused, Exit


def wanted(place: Path, name: str, data: bytes) -> Wanted:
    (place / name).write_bytes(data)
    return Wanted(name, place / name, hashlib.sha256(data).hexdigest(), len(data))


def test_good_files_are_read_once(tmp_path: Path) -> None:
    """Empty ones, ones of a buffer's size, and ones with a byte more."""
    sizes = (0, 1, 1 << 20, (1 << 20) + 1, 5_000_000)
    files = [wanted(tmp_path, str(size), b"x" * size) for size in sizes]
    told: list[int] = []

    hashing.check(files, lambda done, total: told.append(done) if total == sum(sizes) else None)

    assert told[0] == 0
    assert told == sorted(told)
    assert told[-1] == sum(sizes)
    assert hashing.digest(tmp_path / "1") == (hashlib.sha256(b"x").hexdigest(), 1)


def test_everything_wrong_is_named(tmp_path: Path) -> None:
    """One missing, one changed, one longer; a missing file is worse than a changed one."""
    good, gone, changed, longer = (wanted(tmp_path, name, name.encode() * 9) for name in "abcd")
    gone.place.unlink()
    changed.place.write_bytes(b"C" * 9)
    longer.place.write_bytes(b"d" * 10)

    with pytest.raises(BundleRefused, match=r"b, c, d$") as refused:
        hashing.check([longer, good, changed, gone])
    assert refused.value.exit is Exit.MISSING
    with pytest.raises(BundleRefused, match=r"c, d$") as refused:
        hashing.check([longer, good, changed])
    assert refused.value.exit is Exit.WRONG_DIGEST
    hashing.check([good])


def test_many_wrong_files_are_counted(tmp_path: Path) -> None:
    """A line stays a line."""
    files = [wanted(tmp_path, f"f{number}", b"x") for number in range(9)]
    for each in files:
        each.place.write_bytes(b"y")

    with pytest.raises(BundleRefused, match=r"f0, f1, f2, f3, f4 and 4 more$"):
        hashing.check(files)


def test_links_and_folders_are_not_read(tmp_path: Path) -> None:
    """What was looked at before was a file; 22 where it can not be read as one."""
    each = wanted(tmp_path, "a", b"x")
    (tmp_path / "link").symlink_to(each.place)
    (tmp_path / "folder").mkdir()
    size = (tmp_path / "folder").stat().st_size

    with pytest.raises(OSError, match="symbolic links"):
        hashing.digest(tmp_path / "link")
    with pytest.raises(BundleRefused) as refused:
        hashing.check([Wanted("folder", tmp_path / "folder", each.sha256, size)])
    assert refused.value.exit is Exit.DISK


def test_file_that_is_longer_than_signed_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A sparse terabyte in a wheel's place costs nothing."""
    each = wanted(tmp_path, "a", b"x" * 10)
    with each.place.open("r+b") as file:
        file.truncate(1 << 40)

    with pytest.raises(BundleRefused) as refused:
        hashing.check([each])
    assert refused.value.exit is Exit.WRONG_DIGEST
