"""Pictures in guides: each is there, is shown by a guide, and is taken by a test of its page."""

from __future__ import annotations

from pathlib import Path

from tests.browser.pictures import KEPT, named

TESTS = Path(__file__).resolve().parent.parent / "browser"
MAX_BYTES = 1_500_000


def test_pictures_of_guides_are_there_and_each_is_shown() -> None:
    """`make pictures` takes what is missing and removes what no guide names; all of them stay light."""
    there = {path.stem: path.stat().st_size for path in KEPT.glob("*")}

    assert set(there) == set(named())
    assert there
    assert sum(there.values()) < MAX_BYTES


def test_every_picture_is_taken_by_a_test() -> None:
    """A picture that no test takes would show what the console was once."""
    taken = "".join(path.read_text() for path in TESTS.glob("*.py"))

    assert [name for name in named() if f'picture("{name}"' not in taken] == []
