"""The fast encoder against RFC 8785's reference: the same bytes, the same refusals."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit.header import FORMAT_VERSION, Header, SealedHash, decode_header, decode_headers
from appliance.audit.kinds import Kind
from appliance.errors import VerificationError

LARGEST = (1 << 53) - 1
integers = st.integers(-LARGEST, LARGEST)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
hashes = st.builds(SealedHash, alg=texts, kc=texts, len=integers, sha256=texts)
headers = st.builds(
    Header,
    bi=st.none() | st.dictionaries(texts, texts, max_size=3),
    boot=texts,
    ct=st.none() | hashes,
    epoch=st.none() | integers,
    kind=texts,
    log=texts,
    mono=integers,
    prev=st.none() | integers,
    pub=st.dictionaries(texts, texts | integers, max_size=5),
    req=st.none() | texts,
    seq=integers,
    step=st.none() | integers,
    subj=st.none() | texts,
    ts=integers,
    v=integers,
)


def reference(header: Header) -> bytes:
    return rfc8785.dumps(msgspec.to_builtins(header))


def plain(**changes: Any) -> Header:
    said: dict[str, Any] = {
        "boot": "b", "kind": str(Kind.LOG_STOPPED), "log": "l", "mono": 1, "pub": {"reason": "stop"},
        "seq": 0, "ts": 1, "v": FORMAT_VERSION,
    }  # fmt: skip
    return Header(**said | changes)


@given(headers)
def test_headers_encode_as_the_reference_does(header: Header) -> None:
    """Any text in any place, names of any alphabet, integers up to the edge."""
    assert header.encode() == reference(header)


@pytest.mark.parametrize("begin", range(0, 0x500, 0x40))
def test_every_character_is_escaped_as_the_reference_does(begin: int) -> None:
    """Controls, quotes, the backslash, DEL, and what lies behind ASCII, one by one."""
    for code in range(begin, begin + 0x40):
        header = plain(pub={"reason": f"<{chr(code)}>"}, req=chr(code))
        assert header.encode() == reference(header), code


@pytest.mark.parametrize("names", [("\ue000", "\U0001f600"), ("ﬀ", "\U00010000", "z"), ("é", "z")])
def test_names_sort_by_utf_16(names: tuple[str, ...]) -> None:
    """RFC 8785 §3.2.3: a character beyond the BMP comes before U+E000, though its code point is larger."""
    header = plain(bi=dict.fromkeys(sorted(names), "x"))

    assert header.encode() == reference(header)
    assert decode_header(header.encode()) == header


def test_fields_stand_in_canonical_order() -> None:
    """The encoder writes fields as they are declared: in the order of their names."""
    for struct in (Header, SealedHash):
        assert list(struct.__struct_fields__) == sorted(struct.__struct_fields__)


DISGUISES = {
    "space": b'{"boot":"b", "kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "order": b'{"kind":"log:stopped","boot":"b","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "twice": b'{"boot":"a","boot":"b","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "escape": b'{"boot":"\\u0062","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "slash": b'{"boot":"\\/","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "upper": b'{"boot":"\\u001F","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "null": b'{"boot":"b","kind":"log:stopped","log":"l","mono":1,"prev":null,"pub":{},"seq":0,"ts":1,"v":1}',
    "large": plain().encode().replace(b'"mono":1', b'"mono":9007199254740992'),
    "minus zero": b'{"boot":"b","kind":"log:stopped","log":"l","mono":-0,"pub":{},"seq":0,"ts":1,"v":1}',
    "float": b'{"boot":"b","kind":"log:stopped","log":"l","mono":1.0,"pub":{},"seq":0,"ts":1,"v":1}',
    "exponent": b'{"boot":"b","kind":"log:stopped","log":"l","mono":1e0,"pub":{},"seq":0,"ts":1,"v":1}',
    "true": b'{"boot":"b","kind":"log:stopped","log":"","mono":1,"pub":{"reason":true},"seq":0,"ts":1,"v":1}',
    "field": b'{"boot":"b","kind":"log:stopped","log":"l","mono":1,"pub":{"code":"x"},"seq":0,"ts":1,"v":1}',
    "kind": b'{"boot":"b","kind":"log:other","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "stranger": b'{"boot":"b","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1,"w":0}',
    "surrogate": b'{"boot":"\\ud800","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "not utf-8": b'{"boot":"\xff","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1}',
    "version": b'{"boot":"b","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":0}',
    "tail": b'{"boot":"b","kind":"log:stopped","log":"l","mono":1,"pub":{},"seq":0,"ts":1,"v":1} ',
    "empty": b"",
    "a list": b"[]",
}


@pytest.mark.parametrize("name", DISGUISES)
def test_what_is_not_canonical_is_refused_alone_and_in_a_block(name: str) -> None:
    """A second form of a header, or what no header says, hides behind nothing."""
    whole = plain().encode()

    with pytest.raises(VerificationError):
        decode_header(DISGUISES[name])
    assert decode_headers([whole, DISGUISES[name], whole]) is None
    assert decode_headers([whole, whole]) == [plain(), plain()]


@given(st.lists(headers, min_size=1, max_size=4))
def test_a_block_decodes_to_what_its_headers_do(many: list[Header]) -> None:
    """Whatever a block takes at once is what each header by itself is taken for."""
    known = [
        msgspec.structs.replace(each, kind=str(Kind.LOG_STOPPED), pub={"reason": each.boot}, v=FORMAT_VERSION)
        for each in many
    ]
    data = [each.encode() for each in known]

    found = decode_headers(data)

    assert found is None or found == known
    if all(each.isascii() for each in data):
        assert found == known
    assert [decode_header(each) for each in data] == known


def test_flipped_bits_of_a_header_are_refused_or_mean_something_else() -> None:
    """No bit of a header can change without its meaning."""
    header = plain(req="req_1", ct=SealedHash(alg="A256GCM", kc="0f", len=7, sha256="ab"), epoch=1, step=2)
    data = header.encode()
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        try:
            found = decode_header(bytes(flipped))
        except VerificationError:
            continue
        assert found != header
        assert json.loads(bytes(flipped)) != json.loads(data)


def test_a_clock_beyond_canonical_json_is_refused() -> None:
    """Microseconds from 2^53 on have no canonical form: the writer stops there."""
    for name in ("ts", "mono"):
        with pytest.raises(rfc8785.IntegerDomainError):
            plain(**{name: LARGEST + 1}).encode()
