"""What came of a suite: points, by tag, and beside what came of it with another model. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.errors import InternalError

MAX_CASES: Final = 2000  # of a suite
FULL: Final = 1000  # of a score: thousandths, rounded down, so that no score is better than it is


@dataclass(frozen=True, slots=True)
class Mark:
    """What came of one case. `failures` are names of checks; none: it passed."""

    case: str
    weight: int
    tags: tuple[str, ...]
    failures: tuple[str, ...]
    record: str = ""

    @property
    def has_passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True)
class Score:
    """Cases and their weights, and those that passed."""

    num_cases: int
    num_passed: int
    weight: int
    weight_passed: int

    @property
    def thousandths(self) -> int:
        """The share of the weights that passed; 0 of nothing."""
        return FULL * self.weight_passed // self.weight if self.weight else 0


@dataclass(frozen=True, slots=True)
class Change:
    """A case that came out otherwise than with the other model."""

    case: str
    is_gained: bool  # it failed with the other one
    failures: tuple[str, ...]  # of whichever failed


def score(marks: Sequence[Mark]) -> Score:
    """Of all of them together."""
    passed = [each for each in marks if each.has_passed]
    return Score(
        len(marks), len(passed), sum(each.weight for each in marks), sum(each.weight for each in passed)
    )


def by_tag(marks: Sequence[Mark]) -> dict[str, Score]:
    """Of each tag's cases, in the order in which tags come up."""
    tags = dict.fromkeys(tag for each in marks for tag in each.tags)
    return {tag: score([each for each in marks if tag in each.tags]) for tag in tags}


def changes(old: Sequence[Mark], new: Sequence[Mark]) -> list[Change]:
    """What the new one lost, then what it gained, in the suite's order."""
    if [each.case for each in old] != [each.case for each in new]:
        raise InternalError("two models were asked different cases")
    pairs = [pair for pair in zip(old, new, strict=True) if pair[0].has_passed != pair[1].has_passed]
    found = [
        Change(after.case, after.has_passed, before.failures or after.failures) for before, after in pairs
    ]
    return sorted(found, key=lambda each: each.is_gained)


def floor(wanted: int, *, old: Score | None, tolerance: int) -> int:
    """The score that has to be reached, in thousandths: the floor that was asked for, and, beside another
    model, no more than `tolerance` below that one.
    """
    return wanted if old is None else max(wanted, old.thousandths - tolerance)
