"""Text from pieces: UTF-8 borders, stop strings, and the same answer however it was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.worker.detokenizer import Detokenizer


def run(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """What each piece released, the rest at the end, and whether a stop string was met."""
    detokenizer = Detokenizer(stop)
    out = []
    for piece in pieces:
        out.append(detokenizer.add(piece))
        if detokenizer.is_stopped:
            return out, True
    return [*out, detokenizer.finish()], False


def test_half_characters_wait_for_their_other_half() -> None:
    """No piece ever ends inside a character."""
    euro = "€".encode()

    assert run([b"5 ", euro[:1], euro[1:2], euro[2:], b"!"]) == (["5 ", "", "", "€", "!", ""], False)


def test_invalid_bytes_become_replacement_characters_at_their_end() -> None:
    """Garbage is shown as such, once it is certain."""
    assert "".join(run([b"a\xff", b"b\xe2\x82"])[0]) == "a\ufffdb\ufffd"


def test_stop_string_across_pieces_is_never_shown() -> None:
    """The beginning of a stop string is held back until it is one, or is not."""
    assert run([b"one EN", b"D two"], ("END",)) == (["one ", ""], True)
    assert run([b"one EN", b"TER"], ("END",)) == (["one ", "ENTER", ""], False)
    assert run([b"ends with E"], ("END",)) == (["ends with ", "E"], False)


def test_first_completed_stop_wins() -> None:
    """Of several stop strings the one that is complete first ends the text."""
    assert run([b"xabcx"], ("abc", "b")) == (["xa"], True)
    assert run([b"xabcx"], ("bc", "abc")) == (["x"], True)


@pytest.mark.parametrize("stop", [(), ("ab",), ("aab", "b"), ("aaa",), ("é", "ab")])
@given(data=st.data())
def test_splitting_changes_nothing(stop: tuple[str, ...], data: st.DataObject) -> None:
    """The same bytes, cut anywhere, give the same text and the same stop."""
    whole = data.draw(st.text(alphabet="abé€", max_size=24)).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    text, stopped = run([whole], stop)
    cut_text, cut_stopped = run(pieces, stop)
    assert ("".join(cut_text), cut_stopped) == ("".join(text), stopped)
    assert not any(each in "".join(text) for each in stop)
