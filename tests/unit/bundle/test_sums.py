"""The list of digests: one content is one list of bytes, and nothing in it can lead out of the bundle."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import layout, sums
from appliance.bundle.refusals import BundleRefused, Exit

A = "a" * 64
B = "b" * 64

paths = st.from_regex(layout.PATH, fullmatch=True).filter(
    lambda path: len(path) <= layout.MAX_PATH_CHARACTERS and not layout.UNLISTED.fullmatch(path)
)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


def tried(function: Callable[..., Any], given: object) -> Any:
    try:
        return function(given)
    except BundleRefused as error:
        return error.exit


def test_a_list_is_what_sha256sum_checks(tmp_path: Path) -> None:
    """Coreutils finds every file right by our list, and names the one that was altered."""
    (tmp_path / "wheels").mkdir()
    contents = {"README.txt": b"read me\n", "wheels/a-1-py3-none-any.whl": b"\0" * 100}
    for path, content in contents.items():
        (tmp_path / path).write_bytes(content)
    listed = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    (tmp_path / layout.SUMS).write_bytes(sums.dump(listed))
    check = ["sha256sum", "--check", "--strict", "--quiet", layout.SUMS]

    whole = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    (tmp_path / "README.txt").write_bytes(b"read mE\n")
    altered = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (whole.returncode, whole.stdout) == (0, "")
    assert (altered.returncode, altered.stdout) == (1, "README.txt: FAILED\n")


@given(st.dictionaries(paths, digests, min_size=1, max_size=20))
def test_what_is_written_is_read_again(listed: dict[str, str]) -> None:
    """Every list that can be written at all reads as the digests it was made of, sorted."""
    data = tried(sums.dump, listed)

    assert data is Exit.BAD_METADATA or list(sums.parse(data).items()) == sorted(listed.items())


@given(st.binary(max_size=400) | st.text(alphabet="ab0/. \n\r*-A\\", max_size=400).map(str.encode))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    """Nothing but a refusal comes of bytes that are no list, and a list has one form only."""
    found = tried(sums.parse, data)

    assert found is Exit.BAD_METADATA or sums.dump(found) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n", "line 1"),
        (f"{A}  a".encode(), "empty or was cut"),
        (f"{A}  a\n\n".encode(), "line 2"),
        (f"{A}  a\r\n".encode(), "line 1"),
        (f"{A} *a\n".encode(), "line 1"),
        (f"{A} a\n".encode(), "line 1"),
        (f"{A}  a\t\n".encode(), "line 1"),
        (f"{'A' * 64}  a\n".encode(), "line 1"),
        (f"{'a' * 63}  a\n".encode(), "line 1"),
        (f"{'a' * 65}  a\n".encode(), "line 1"),
        (f"{A}  ../a\n".encode(), "line 1"),
        (f"{A}  b/../../a\n".encode(), "line 1"),
        (f"{A}  /etc/passwd\n".encode(), "line 1"),
        (f"{A}  -rf\n".encode(), "line 1"),
        (f"{A}  .hidden\n".encode(), "line 1"),
        (f"{A}  a/.hidden\n".encode(), "line 1"),
        (f"{A}  a//b\n".encode(), "line 1"),
        (f"{A}  a/\n".encode(), "line 1"),
        (f"{A}  a b\n".encode(), "line 1"),
        (f"\\{A}  a\\nb\n".encode(), "line 1"),
        (f"{A}  {'a' * 241}\n".encode(), "line 1"),
        (f"{A}  \u00e4\n".encode(), "not plain ASCII"),
        (f"{A}  a\0\n".encode(), "line 1"),
        (f"# a comment\n{A}  a\n".encode(), "line 1"),
        (f"{A}  a\n{A}  a\n".encode(), "names a path twice"),
        (f"{A}  a\n{B}  a\n".encode(), "names a path twice"),
        (f"{A}  b\n{A}  a\n".encode(), "not sorted"),
        (f"{A}  A\n{B}  a\n".encode(), "differ by case only"),
        (f"{A}  a\n{B}  a/b\n".encode(), "its folder"),
        (f"{A}  A\n{B}  a/b\n".encode(), "its folder"),
        (f"{A}  SHA256SUMS\n".encode(), "made after it"),
        (f"{A}  SHA256SUMS.0123456789abcdef.p384.sig\n".encode(), "made after it"),
        (f"{A}  metadata/timestamp.json\n".encode(), "made after it"),
        (f"{A}  metadata/7.targets.json\n".encode(), "made after it"),
    ],
)
def test_a_hostile_list_is_refused(data: bytes, words: str) -> None:
    """Each is refused as bad metadata, and the words say which rule it breaks."""
    with pytest.raises(BundleRefused, match=words) as refused:
        sums.parse(data)

    assert refused.value.exit is Exit.BAD_METADATA


def test_roots_of_trust_stand_in_the_list() -> None:
    """A root's metadata and a signer's key can be listed: they are there before anybody signs."""
    listed = {"metadata/1.root.json": A, "keys/0123456789abcdef.ed25519.pem": B}

    assert sums.parse(sums.dump(listed)) == listed


def test_a_list_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is checked before the bytes are."""
    monkeypatch.setattr(layout, "MAX_SUMS_BYTES", 67)

    with pytest.raises(BundleRefused, match="over 67 bytes"):
        sums.parse(b"\xff" * 68)
