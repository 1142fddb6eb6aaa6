"""Box files as bytes: the golden one opens for ever, no change goes unseen, nothing hurts their reader."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import boxes
from appliance.audit.boxes import Box, Part
from appliance.audit.recipients import Algorithms, Identity, parse_identity
from appliance.errors import SetupError, VerificationError

VECTORS = Path(__file__).parents[2] / "vectors" / "box"
GOLDEN = (VECTORS / "box.backup").read_bytes()
BODY = (VECTORS / "body.json").read_bytes()
BOX = Box(
    origin="box.example/audit/1",
    tree_size=3,
    made_us=1_700_000_000_000_000,
    files={name: f"{name}\n".encode() for name in boxes.REQUIRED},
    database=Part("appliance-x-manual.db", "0" * 64),
    shares=Part("shares-x.backup", "1" * 64),
)


def recovery() -> Identity:
    return parse_identity((VECTORS / "recovery.identity").read_text())


def test_the_golden_box_opens() -> None:
    """Format 1: what it holds, to the byte, in one form."""
    found = boxes.open_box(GOLDEN, recovery())

    assert found == BOX
    assert boxes.encode(found) == BODY
    assert set(json.loads(BODY)) == {"files", "database", "shares"}


@pytest.mark.parametrize("algorithms", Algorithms)
def test_it_opens_for_its_recipients_only(algorithms: Algorithms) -> None:
    """Each recipient opens it, nobody else does, and nothing of it can be read."""
    ours, stranger = (Identity.generate(name, algorithms) for name in ("ours", "stranger"))
    data = boxes.seal(BOX, [ours.recipient])

    assert boxes.open_box(data, ours) == BOX
    assert b"log.ed25519" not in data
    with pytest.raises(VerificationError, match="not sealed to this identity"):
        boxes.open_box(data, stranger)


@given(st.integers(0, len(GOLDEN) - 1), st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(at: int, bit: int) -> None:
    """Anywhere: first line, wrap, nonce, body, tag."""
    bent = GOLDEN[:at] + bytes([GOLDEN[at] ^ 1 << bit]) + GOLDEN[at + 1 :]
    with pytest.raises(VerificationError):
        boxes.open_box(bent, recovery())


@given(st.binary(max_size=300) | st.integers(0, len(GOLDEN) - 1).map(lambda size: GOLDEN[:size]))
def test_no_bytes_hurt_the_reader(data: bytes) -> None:
    """What is no box is refused, however it begins, and however short it is."""
    with pytest.raises(VerificationError):
        boxes.open_box(data, recovery())


@given(st.integers(0, len(BODY)), st.integers(0, 8), st.binary(max_size=8))
def test_a_body_is_read_or_refused(start: int, length: int, put: bytes) -> None:
    """Whoever seals a box may write anything: it is read to what is written again as it is, or refused."""
    data = BODY[:start] + put + BODY[start + length :]
    with contextlib.suppress(VerificationError):
        found = boxes.decode(data, origin="", tree_size=0, made_us=0)
        assert boxes.decode(boxes.encode(found), origin="", tree_size=0, made_us=0) == found


@pytest.mark.parametrize(
    "name",
    ["keys/shares-1.kek", "keys/recovery.identity", "../../etc/passwd", "/etc/passwd", "keys/act-1.key"],
)
def test_other_files_are_refused(name: str) -> None:
    """The list is closed: no path leads out of the home, and what must not outlive it is no part of a box."""
    reader = recovery()
    data = boxes.seal(replace(BOX, files={**BOX.files, name: b"x"}), [reader.recipient])
    with pytest.raises(VerificationError, match="other files"):
        boxes.open_box(data, reader)


@pytest.mark.parametrize("name", ["", "../copy.db", "/etc/passwd", "a/b", ".hidden", "x" * 201])
def test_copies_lie_beside_their_box(name: str) -> None:
    """What a box says was made with it has a plain name: no path leads elsewhere."""
    reader = recovery()
    for bad in (replace(BOX, database=Part(name, "0" * 64)), replace(BOX, shares=Part(name, "0" * 64))):
        with pytest.raises(VerificationError, match="something else"):
            boxes.open_box(boxes.seal(bad, [reader.recipient]), reader)


def test_missing_files_are_refused() -> None:
    """A box without a key is none."""
    reader = recovery()
    for name in boxes.REQUIRED:
        fewer = {each: data for each, data in BOX.files.items() if each != name}
        with pytest.raises(VerificationError, match="other files"):
            boxes.open_box(boxes.seal(replace(BOX, files=fewer), [reader.recipient]), reader)


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is too much written, nor read; another release's format is told."""
    reader = recovery()
    newer = GOLDEN.replace(b'{"box":1', b'{"box":2', 1)
    with pytest.raises(VerificationError, match="this release"):
        boxes.open_box(newer, reader)
    monkeypatch.setattr(boxes, "MAX_BYTES", len(GOLDEN) - 1)
    with pytest.raises(VerificationError):
        boxes.open_box(GOLDEN, reader)
    with pytest.raises(SetupError, match="at most"):
        boxes.seal(replace(BOX, files={**BOX.files, "head": bytes(10_000)}), [reader.recipient])
