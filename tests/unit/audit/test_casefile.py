"""Sealed cases as bytes: the golden file opens for ever, no change goes unseen, no zip hurts its reader."""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit import archive, casefile, evidence
from appliance.audit.checkpoint import Verifier
from appliance.audit.recipients import Identity, parse_identity
from appliance.errors import VerificationError

VECTORS = Path(__file__).parents[2] / "vectors" / "case"
LOG = Verifier.parse((VECTORS / "log.vkey").read_text().strip())
WHOLE = (VECTORS / "case.zip").read_bytes()
FILES = archive.unpack(WHOLE)


def alice() -> Identity:
    return parse_identity((VECTORS / "alice.identity").read_text())


def test_the_golden_case_opens() -> None:
    """Format 1: the contents, and the evidence to the byte."""
    opened = casefile.open_case(FILES, LOG, [alice()])
    contents = {str(each.checked.header.seq): each.content for each in opened}
    written = archive.pack(casefile.disclosed(FILES, opened))

    assert contents == json.loads((VECTORS / "contents.json").read_text())
    assert hashlib.sha256(written).hexdigest() == (VECTORS / "evidence.sha256").read_text().strip()


def test_the_golden_case_is_written_again_as_it_is() -> None:
    """Decoding and encoding are each other's inverse, and so are the zip's."""
    case = casefile.decode(FILES)
    encoded = case.encode()

    assert encoded == {name: FILES[name] for name in encoded}
    assert archive.pack(FILES) == WHOLE


def changes(data: bytes) -> Iterator[bytes]:
    """One bit flipped in five places, one byte more, one less, nothing."""
    chosen = random.Random(len(data))
    for _ in range(5):
        at = chosen.randrange(len(data))
        yield data[:at] + bytes([data[at] ^ 1 << chosen.randrange(8)]) + data[at + 1 :]
    yield data + b"\n"
    yield data[:-1]
    yield b""


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_change_of_a_file_goes_unseen(name: str) -> None:
    """Changed, dropped or doubled under another name: nothing is opened."""
    for changed in (
        *({**FILES, name: data} for data in changes(FILES[name])),
        {each: data for each, data in FILES.items() if each != name},
        {**FILES, f"{name}x": FILES[name]},
        {**FILES, "record-999.json": FILES[name]},
    ):
        with pytest.raises(VerificationError):
            casefile.open_case(changed, LOG, [alice()])


@pytest.mark.parametrize("name", sorted(each for each in FILES if each not in evidence.RECIPE_FILES))
def test_what_proves_is_proved_even_under_a_fresh_list(name: str) -> None:
    """Where the list of digests fits and the signature is another log's, what is changed still fails."""
    if name in {evidence.SUMS, evidence.SUMS_NOTE, evidence.POLICY}:
        return
    for data in changes(FILES[name]):
        changed = {**FILES, name: data}
        with pytest.raises(VerificationError):
            case = casefile.decode(changed)
            for each in case.epochs:
                casefile._check_epoch(each, LOG)
            for seq in case.seqs:
                evidence._check_record(changed, seq, LOG, ())
            _open_unlisted(changed)


def _open_unlisted(changed: dict[str, bytes]) -> None:
    """As `open_case`, where the list is believed: what is left has to find it."""
    unsigned = {
        name: data for name, data in changed.items() if name not in {evidence.SUMS, evidence.SUMS_NOTE}
    }
    believed = pytest.MonkeyPatch()
    with believed.context() as patch:
        patch.setattr(evidence, "_check_sums", lambda *_: ())
        casefile.open_case(unsigned, LOG, [alice()])
        if casefile.decode(changed) != casefile.decode(FILES):
            raise VerificationError("purpose and case are words: only the list signs them")


def test_another_log_vouches_for_nothing() -> None:
    """The key that somebody trusts decides, not the one that lies in the case."""
    other = Verifier(LOG.name, bytes([LOG.public[0] ^ 1]) + LOG.public[1:])
    assert evidence.log_of(FILES) == LOG
    with pytest.raises(VerificationError):
        casefile.check(FILES, other)


BROKEN = [
    b"", b"null", b"[]", b"{}", b'{"v":1}', b"\xff\xfe", b"[" * 1_000_000, b'{"v":' + b"9" * 10_000 + b"}",
    FILES["case.json"] + FILES["case.json"],
    FILES["case.json"].replace(b'"v":1', b'"v":2'),
    FILES["case.json"].replace(b'"v":1', b'"v":1,"v":1'),
    FILES["case.json"].replace(b'"v":1', b'"v":1.0'),
    FILES["case.json"].replace(b'"seqs":[', b'"seqs":[9007199254740992,'),
    FILES["case.json"].replace(b'"seqs":[', b'"seqs":[-1,'),
    FILES["case.json"].replace(b'"purpose":"', b'"purpose":"\\u001b[31m'),
    FILES["case.json"].replace(b'"erased":{', b'"extra":0,"erased":{'),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_broken_case_files_are_refused(number: int) -> None:
    """Each with the one error, whatever is wrong with it."""
    assert BROKEN[number] != FILES["case.json"]
    with pytest.raises(VerificationError):
        casefile.decode({**FILES, "case.json": BROKEN[number]})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(json.loads(FILES["case.json"]))), JSON)
def test_any_value_in_any_field_is_refused_or_right(field: str, value: object) -> None:
    """Fuzzed JSON: no other exception, and nothing but the form is taken."""
    told = json.loads(FILES["case.json"])
    told[field] = value
    try:
        found = casefile.decode(
            {**FILES, "case.json": json.dumps(told, separators=(",", ":")).encode() + b"\n"}
        )
    except VerificationError:
        return
    if found != casefile.decode(FILES):
        with pytest.raises(VerificationError):
            casefile.check({**FILES, **found.encode()}, LOG)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.tuples(st.integers(0, len(WHOLE)), st.binary(min_size=1, max_size=8)).map(
    lambda change: WHOLE[: change[0]] + change[1] + WHOLE[change[0] + len(change[1]) :]
))  # fmt: skip
def test_any_bytes_are_refused_or_the_case(data: bytes) -> None:
    """Fuzzed zips: one kind of error, or exactly the files that are proved."""
    try:
        found = archive.unpack(data)
        casefile.check(found, LOG)
    except VerificationError:
        return
    assert found == FILES


def zip_of(*names: str, method: int = zipfile.ZIP_STORED, data: bytes = b"x") -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name in names:
            made.writestr(zipfile.ZipInfo(name), data, method)
    return whole.getvalue()


def lying(size: int) -> bytes:
    """A zip whose directory says that its one file has this size."""
    data = bytearray(zip_of("policy"))
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", size, size)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [zip_of("a", "a"), zip_of("../a"), zip_of("/a"), zip_of("a/../b"), zip_of("a\\b"), zip_of("a\x1b[31m"),
     zip_of("caf\u00e9"), zip_of("x" * 201), zip_of("a", method=zipfile.ZIP_DEFLATED, data=bytes(10**6)),
     lying(10), lying(0), lying(0xFFFFFFF0), WHOLE[:-1], WHOLE[100:], zip_of("a")[:-22]],
)  # fmt: skip
def test_hostile_zips_are_refused(data: bytes) -> None:
    """Twice one name, names that lead elsewhere, bombs, sizes that lie, cut ones: refused, unread."""
    with pytest.raises(VerificationError):
        archive.unpack(data)


def test_sizes_and_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the directory says, before anything is read."""
    monkeypatch.setattr(archive, "MAX_BYTES", len(WHOLE) // 2)
    with pytest.raises(VerificationError, match="too large"):
        archive.unpack(WHOLE)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_FILES", len(FILES) - 1)
    with pytest.raises(VerificationError, match="too many"):
        archive.unpack(WHOLE)
