"""Headers of model files: the starter model's, made ones, and more than 300 that are refused."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.gguf import header
from appliance.gguf.header import Header
from appliance.gguf.reading import MAX_KEPT_ITEMS, Array, Malformed
from tests import ggufs
from tests.ggufs import SMALL, TENSORS, Weights
from tests.starter import starter_model

GOOD = ggufs.make()


def parsed(data: bytes | bytearray) -> Header:
    return header.parse(io.BytesIO(data), len(data))


def test_starter_model_is_read() -> None:
    """Its own words, and its tensors fill the file to the last byte."""
    path = starter_model()
    found = header.read(path)
    last = found.tensors[-1]

    assert (found.arch, found.quant, found.version) == ("llama", "Q4_1", 3)
    assert found.own("block_count") == 30
    assert found.length("tokenizer.ggml.tokens") == 49_152
    assert found.text("tokenizer.chat_template").startswith("{%")
    assert len(found.tensors) == 272
    assert sum(each.num_elements for each in found.tensors) == 134_515_008
    assert found.data_at + last.offset + last.num_bytes == path.stat().st_size


def test_made_file_is_read_as_it_was_made() -> None:
    """Every kind of value, and each tensor with its shape, type and bytes."""
    found = parsed(GOOD.data)

    assert found.keys["llama.attention.head_count_kv"] == Array(4, 2, (1, 1))
    assert found.keys["llama.rope.freq_base"] == 10000.0
    assert found.keys["tokenizer.ggml.add_bos_token"] is True
    assert found.keys["tokenizer.ggml.tokens"] == Array(8, 3)
    assert [(each.name, each.shape, each.type) for each in found.tensors] == [
        (each.name, each.shape, each.type) for each in TENSORS
    ]
    assert [each.num_bytes for each in found.tensors] == [each.num_bytes for each in TENSORS]
    assert (found.alignment, found.data_at % 32) == (32, 0)
    assert found.integer("tokenizer.ggml.add_bos_token") is None


def test_second_version_is_read_as_well() -> None:
    """Versions 2 and 3 differ in nothing that a little-endian file shows."""
    assert parsed(ggufs.make(version=2).data).version == 2


def test_long_arrays_are_counted_and_not_kept() -> None:
    """A score for each token is nothing that we need in memory."""
    scores = [0.5] * (MAX_KEPT_ITEMS + 1)
    found = parsed(ggufs.make({"general.architecture": "x", "tokenizer.ggml.scores": scores}).data)

    assert found.keys["tokenizer.ggml.scores"] == Array(6, MAX_KEPT_ITEMS + 1)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"general.architecture": "qwen3", "general.file_type": 15}, ("qwen3", "Q4_K_M")),
        ({"general.architecture": "qwen3", "general.file_type": 999}, ("qwen3", "file type 999")),
        ({"general.file_type": 7}, ("unknown", "Q8_0")),
        ({"general.architecture": 7, "general.file_type": True}, ("unknown", "unknown")),
        ({}, ("unknown", "unknown")),
    ],
)
def test_what_a_file_does_not_say_is_unknown(keys: dict[str, ggufs.Value], expected: tuple[str, str]) -> None:
    """A header without words is a header."""
    found = parsed(ggufs.make(keys, ()).data)

    assert (found.arch, found.quant) == expected


def spoilt() -> Iterator[tuple[str, bytes]]:
    """The good file, made wrong in one place: cut at every field, and each field that has a wrong value."""
    good = bytes(GOOD.data)
    for each in GOOD.fields:
        yield f"cut at {each.at}, before the {each.what} {each.of}", good[: each.at]
    for at in range(1, 9):
        yield f"{at} bytes short", good[:-at]
    for each in GOOD.fields:
        for wrong in _wrong(each, good):
            yield f"{each.what} {each.of} at {each.at} is {wrong.hex()}", _with(good, each, wrong)
    yield "another magic", b"GGML" + good[4:]
    yield "big-endian", good[:4] + struct.pack(">I", 3) + good[8:]
    yield "one key twice", bytes(ggufs.make({"a.b": 1, "a.c": 1}).data).replace(b"a.c", b"a.b")
    twins = (Weights("one.weight", (32,)), Weights("two.weight", (32,)))
    yield "one tensor twice", bytes(ggufs.make(tensors=twins).data).replace(b"two.", b"one.")
    for alignment in (0, 1, 4, 24, 33, 2**21, "32", True, 32.0):
        yield f"alignment {alignment!r}", bytes(ggufs.make({**SMALL, "general.alignment": alignment}).data)


def _wrong(each: ggufs.Field, good: bytes) -> list[bytes]:
    huge = [struct.pack("<Q", value) for value in (2**64 - 1, 2**63, 2**60, 2**40, 2**31)]
    (number,) = struct.unpack_from("<Q", good.ljust(each.at + 8, b"\0"), each.at)
    match each.what:
        case "version":
            return [struct.pack("<I", value) for value in (0, 1, 4, 255, 2**32 - 1)]
        case "count" | "length":
            return huge
        case "kind" | "item kind":
            return [struct.pack("<I", value) for value in (13, 99, 2**31, 2**32 - 1)]
        case "truth":
            return [b"\2", b"\xff"]
        case "tensor type":
            return [struct.pack("<I", value) for value in (4, 5, 31, 33, 38, 43, 2**32 - 1)]
        case "dimensions":
            return [struct.pack("<I", value) for value in (0, 5, 2**32 - 1)]
        case "dimension":
            return [struct.pack("<Q", 0), *huge]
        case "offset":
            return [struct.pack("<Q", value) for value in (number + 1, number + 32, 2**63, 2**64 - 32)]
        case "text" if each.of in {"a key", "a tensor"}:
            return [b"\0" * each.size, b"\xff" * each.size, b"\n" * each.size]
    return []


def _with(good: bytes, each: ggufs.Field, wrong: bytes) -> bytes:
    return good[: each.at] + wrong + good[each.at + each.size :]


SPOILT = dict(spoilt())


def test_good_file_is_good() -> None:
    """The control of the table below, which is as long as it should be."""
    assert parsed(bytes(GOOD.data)).arch == "llama"
    assert len(SPOILT) >= 300


@pytest.mark.parametrize("data", SPOILT.values(), ids=SPOILT)
def test_spoilt_file_is_refused_with_a_reason(data: bytes) -> None:
    """Cut, lengths that no file has, unknown types, tensors that lie elsewhere."""
    with pytest.raises(Malformed, match=r"\w+ \w+"):
        parsed(data)


def test_refusal_names_the_file_and_the_reason(tmp_path: Path) -> None:
    """An operator reads which file it was, and what is wrong with it."""
    (tmp_path / "a.gguf").write_bytes(GOOD.data[:-1])
    with pytest.raises(RequestError, match=r"a\.gguf is not a whole GGUF file: .* behind the end"):
        header.read(tmp_path / "a.gguf")
    with pytest.raises(RequestError, match=r"b\.gguf can not be read: No such file"):
        header.read(tmp_path / "b.gguf")


@given(cut=st.integers(min_value=0, max_value=len(GOOD.data)), more=st.binary(max_size=80))
def test_any_bytes_are_a_header_or_refused(cut: int, more: bytes) -> None:
    """Nothing but a refusal comes of a header that was altered."""
    try:
        found = parsed(bytes(GOOD.data[:cut]) + more)
    except Malformed:
        return
    assert isinstance(found, Header)


@given(st.data())
def test_any_altered_field_is_a_header_or_refused(data: st.DataObject) -> None:
    """Fields take any bytes of their size; the rest of the file stays."""
    each = data.draw(st.sampled_from(GOOD.fields))
    wrong = data.draw(st.binary(min_size=each.size, max_size=each.size))
    try:
        found = parsed(_with(bytes(GOOD.data), each, wrong))
    except Malformed:
        return
    assert isinstance(found, Header)
