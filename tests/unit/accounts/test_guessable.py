"""The first guesses: refused whatever stands around them, and nothing else is."""

from __future__ import annotations

import pytest

from appliance.accounts.guessable import require_unlikely
from appliance.errors import RequestError


@pytest.mark.parametrize(
    "first",
    [
        "password", "Password123!", "p4$$w0rd2026", "PassWordPassWord", "passphrase-passphrase",
        "correct horse battery staple", "letmein letmein", "welcome2026!!!!!", "qwertyuiop123456",
        "1q2w3e4r5t6y7u8i", "123456789012345", "111111111111111", "abcabcabcabcabcabc", "abcdefghijklmnop",
        "zyxwvutsrqponmlk", "asdfghjkl;asdfghjkl", "Ada.Kim.2026.Ada", "adakimadakim123", "qazwsxedcrfvtgb",
        "iloveyou iloveyou", "changeme-changeme", "admin-inference-appliance", "---------------",
        "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44", "thisismypassword",
    ],
)  # fmt: skip
def test_first_guesses_are_refused(first: str) -> None:
    """The words of every list, the person's own name, rows of keys, one piece again and again."""
    with pytest.raises(RequestError) as refused:
        require_unlikely(first, name="Ada Kim")

    assert refused.value.code == "invalid_passphrase"
    assert first not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    "own",
    [
        "four words are enough", "five words are surely plenty", "the blue password lamp",
        "kim's green kettle",
        "tr0ub4dor&3 gravel", "\u00fcber sieben Br\u00fccken",
        "\u4e94\u4e2a\u8bcd\u8bed\u4e0d\u4f1a\u6709\u4eba\u60f3\u5230\u7684",
        "k7Qz-m2Xw-p9Rt-b4Vn", "abcd-2345-wxyz-6789-mnpr",
    ],
)  # fmt: skip
def test_nothing_else_is_refused(own: str) -> None:
    """A common word among others, another script, what a program drew by chance."""
    assert require_unlikely(own, name="Ada Kim") == own


def test_short_parts_of_a_name_are_in_too_many_words() -> None:
    """Bo may write about a robot."""
    assert require_unlikely("bottles of robots", name="Bo Li")
