"""The page of prompts and rules: what one version changed of another."""

from __future__ import annotations

from appliance.console.pages.documents import Line, difference


def test_a_difference_shows_lines_with_what_became_of_them() -> None:
    """Added and removed lines, those around them, and where in the text it is; no names of files."""
    old, new = "a\nb\nc\n-d\n", "a\nB\nc\n-d\n+e\n"

    assert list(difference(old, new)) == [
        Line("place", "@@ -1,4 +1,5 @@"),
        Line("same", "a"),
        Line("removed", "b"),
        Line("added", "B"),
        Line("same", "c"),
        Line("same", "-d"),
        Line("added", "+e"),
    ]


def test_equal_texts_have_no_difference() -> None:
    """Nothing is shown where nothing changed."""
    assert list(difference("a\nb", "a\nb\n")) == []
