"""Headers of model files: the starter model's, made ones, and more than 300 that are refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.gguf import header
from appliance.gguf.header import Header
from appliance.gguf.reading import MAX_KEPT_ITEMS, Array, Malformed
from tests import ggufs
from tests.ggufs import SMALL, TENSORS
from tests.hostile import altered, spoilt
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


SPOILT = dict(spoilt(GOOD, SMALL))


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
        found = parsed(altered(bytes(GOOD.data), each, wrong))
    except Malformed:
        return
    assert isinstance(found, Header)
