"""What a medium says about itself: one form, and nothing in it that leads astray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import layout, volumes
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.bundle.volumes import Volume

A, B = "a" * 64, "b" * 64
GOOD = Volume(volumes.FORMAT, "2.4.0", 37, A, number=2, of=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=12,
)
FIELDS = st.dictionaries(st.sampled_from(Volume.__struct_fields__), JSON | st.just(A) | st.just(37))
PATHS = st.from_regex(layout.PATH, fullmatch=True).filter(
    lambda path: len(path) <= layout.MAX_PATH_CHARACTERS
)


def tried(function: Callable[[bytes], Any], data: bytes) -> Any:
    """What a parser gives, or the code of its refusal."""
    try:
        return function(data)
    except BundleRefused as error:
        return error.exit


def refused(data: bytes) -> Exit:
    with pytest.raises(BundleRefused) as caught:
        volumes.parse(data)
    return caught.value.exit


def test_volume_is_read_as_it_was_written() -> None:
    """And names its folder and its list."""
    assert volumes.parse(volumes.dump(GOOD)) == GOOD
    assert GOOD.folder == "appliance-2.4.0-linux-x86_64.vol02"
    assert volumes.FOLDER.fullmatch(GOOD.folder)
    assert GOOD.list == "VOLUME-02.SHA256SUMS"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        volumes.dump(GOOD) + b" " * volumes.MAX_BYTES,
        volumes.dump(GOOD).replace(b'"number":2', b'"number":6'),
        volumes.dump(GOOD).replace(b'"number":2', b'"number":0'),
        volumes.dump(GOOD).replace(b'"number":2', b'"number":2.0'),
        volumes.dump(GOOD).replace(b'"serial":37', b'"serial":-1'),
        volumes.dump(GOOD).replace(b'"serial":37', b'"serial":37,"serial":38'),
        volumes.dump(GOOD).replace(b'"serial":37', b'"serial":37,"path":"/etc"'),
        volumes.dump(GOOD).replace(b'"2.4.0"', b'"../../etc"'),
        volumes.dump(GOOD).replace(b'"2.4.0"', b'"2.4.0\\n"'),
        volumes.dump(GOOD).replace(b"{", b"{ "),
        volumes.dump(GOOD)[:-1],
    ],
)
def test_what_is_not_in_the_form_is_refused(data: bytes) -> None:
    """Too large, cut, contradictory, a key twice, a key too many, another spelling."""
    assert refused(data) is Exit.BAD_METADATA


@given(st.binary(max_size=400) | st.builds(msgspec.json.encode, FIELDS | JSON))
def test_whatever_lies_there_is_read_or_refused(data: bytes) -> None:
    """Nothing but a refusal leaves the parser; what it takes has one spelling."""
    found = tried(volumes.parse, data)

    if found is not Exit.BAD_METADATA:
        assert volumes.dump(found) == data
        assert 1 <= found.number <= found.of


@given(st.binary(max_size=400))
def test_whatever_a_list_holds_is_read_or_refused(data: bytes) -> None:
    """The same for a medium's list."""
    found = tried(lambda each: volumes.parse_list(each, "VOLUME-01.SHA256SUMS"), data)

    assert found is Exit.BAD_METADATA or all(layout.is_path(path) for path in found)


@given(st.dictionaries(PATHS, st.sampled_from([A, B]), max_size=5))
def test_list_is_read_as_it_was_written(digests: dict[str, str]) -> None:
    """Unless a FAT medium could not hold two of its names."""
    data = volumes.dump_list(digests)
    if len({path.casefold() for path in digests}) < len(digests):
        with pytest.raises(BundleRefused):
            volumes.parse_list(data, "list")
    else:
        assert volumes.parse_list(data, "list") == digests


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up", "a/../b", "a//b", ".hidden", "-rf", "a b", "a\\b", "é", "a\tb", "a" * 241],
)
def test_list_with_a_hostile_path_is_refused(path: str) -> None:
    """It could lead out of the staging folder."""
    with pytest.raises(BundleRefused) as caught:
        volumes.parse_list(f"{A}  {path}\n".encode(), "list")

    assert caught.value.exit is Exit.BAD_METADATA
