"""Points: by weight, by tag, beside another model's."""

from __future__ import annotations

import pytest

from appliance.errors import InternalError
from appliance.evaluating import scores
from appliance.evaluating.scores import Change, Mark, Score


def mark(case: str, *failures: str, weight: int = 1, tags: tuple[str, ...] = ()) -> Mark:
    return Mark(case, weight, tags, failures)


def test_weights_count_and_scores_are_rounded_down() -> None:
    """Two of three thirds are 0.666: a score that is rounded up would reach a floor that it does not."""
    marks = [mark("a"), mark("b"), mark("c", "exact")]

    assert scores.score(marks) == Score(3, 2, 3, 2)
    assert scores.score(marks).thousandths == 666
    assert scores.score([mark("a", weight=9), mark("b", "exact")]).thousandths == 900
    assert scores.score([]).thousandths == 0


def test_each_tag_has_its_points() -> None:
    """A case counts for each of its tags."""
    marks = [mark("a", tags=("x", "y")), mark("b", "exact", tags=("y",)), mark("c")]

    assert scores.by_tag(marks) == {"x": Score(1, 1, 1, 1), "y": Score(2, 1, 2, 1)}


def test_changes_name_what_was_lost_before_what_was_gained() -> None:
    """With the checks that failed, then or now."""
    old = [mark("a", "regex"), mark("b"), mark("c"), mark("d", "exact")]
    new = [mark("a"), mark("b", "schema"), mark("c"), mark("d", "regex")]

    assert scores.changes(old, new) == [
        Change("b", is_gained=False, failures=("schema",)),
        Change("a", is_gained=True, failures=("regex",)),
    ]
    with pytest.raises(InternalError):
        scores.changes(old, new[1:])


def test_the_floor_rises_with_the_other_model_s_score() -> None:
    """No more than the tolerance below it; never below what was asked for."""
    good, bad = Score(10, 10, 10, 10), Score(10, 5, 10, 5)

    assert scores.floor(900, old=None, tolerance=50) == 900
    assert scores.floor(900, old=good, tolerance=50) == 950
    assert scores.floor(900, old=bad, tolerance=50) == 900
