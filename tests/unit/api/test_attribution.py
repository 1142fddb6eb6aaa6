"""Tokens find the part of an answer that they spell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from appliance.api.attribution import Tokens
from appliance.core import TokenLogprob


def tokens(*texts: bytes) -> Sequence[TokenLogprob]:
    return [TokenLogprob(each, -1.0) for each in texts]


def spelt(found: Sequence[TokenLogprob]) -> list[bytes]:
    return [each.token for each in found]


@pytest.mark.parametrize(
    ("given", "takes"),
    [
        ((b"ab", b"c"), [("abc", [b"ab", b"c"])]),
        ((b"ab", b"c"), [("a", [b"ab"]), ("bc", [b"c"])]),
        ((b"<t>", b"hm", b"</t>", b"yes"), [("hm", [b"hm"]), ("yes", [b"yes"])]),
        ((b"\xc3", b"\xbc", b"x"), [("ü", [b"\xc3", b"\xbc"]), ("x", [b"x"])]),
        ((b"a", b"", b"b"), [("a", [b"a"]), ("b", [b"b"])]),
        ((b"a",), [("z", []), ("a", [b"a"])]),
        ((b"aa", b"aa"), [("aa", [b"aa"]), ("aa", [b"aa"]), ("aa", [])]),
    ],
)
def test_tokens_go_to_the_first_part_that_they_touch(
    given: Sequence[bytes], takes: Sequence[tuple[str, list[bytes]]]
) -> None:
    """Whole parts, parts that share a token, marks in between, characters in halves, text told anew."""
    waiting = Tokens()
    waiting.add(tokens(*given))

    assert [spelt(waiting.take(text)) for text, _ in takes] == [expected for _, expected in takes]


def test_tokens_may_be_ahead_of_the_text() -> None:
    """What was counted before its text was sent waits for it."""
    waiting = Tokens()
    waiting.add(tokens(b"a", b"b"))
    first = spelt(waiting.take("a"))
    waiting.add(tokens(b"c"))

    assert (first, spelt(waiting.take("bc"))) == ([b"a"], [b"b", b"c"])
