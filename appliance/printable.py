"""Words of others, made safe to look at: what steers a terminal or turns text around is shown, not obeyed."""

from __future__ import annotations

import re
import unicodedata

# Control characters but line feed and tab; then bidirectional and invisible formatting (Unicode, general
# category Cf), surrogates, line and paragraph separators, and what has no meaning yet.
_KEPT = "\n\t"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co"})
_PLAIN = re.compile(r"[\x20-\x7e\n\t]*", re.ASCII)


def visible(text: str) -> str:
    """The same text with each such character as its number: U+202E becomes ⟨U+202E⟩."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(map(_shown, text))


def on_one_line(text: str) -> str:
    """`visible`, for what may not begin a line of its own."""
    return visible(text).replace("\n", "⟨U+000A⟩").replace("\t", "⟨U+0009⟩")


def _shown(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"
