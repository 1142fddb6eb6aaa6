"""May an alias point to this model? A pure decision over what the model's evaluations found.

Of each suite the newest evaluation counts, of exactly this file: another one's says nothing about it.

Numbered decision tree:
1. an adapter, asked for as a model                       → wrong_purpose
2. a model for something else than the alias's until now  → wrong_purpose (its callers would be refused)
3. a suite's newest score is below its floor              → below_floor
4. there is no evaluation, and one is required            → not_evaluated
5. otherwise                                              → Allow; with a note where there is no evaluation

3 and 4 give way to an admin's override; what it went past is told, for the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.core import Purpose
from appliance.policy.admission import Refuse


@dataclass(frozen=True, slots=True)
class Scored:
    """One evaluation. Score and floor in thousandths, time in microseconds UTC."""

    id: str
    suite: str
    score: int
    floor: int
    evaluated_us: int

    @property
    def passes(self) -> bool:
        return self.score >= self.floor


@dataclass(frozen=True, slots=True)
class Allow:
    """The alias may move. `overridden`: what speaks against it, in words; empty where nothing does."""

    notes: tuple[str, ...] = ()
    overridden: str = ""


def newest(found: Iterable[Scored]) -> list[Scored]:
    """Of each suite the last evaluation, by the suites' names."""
    by_suite: dict[str, Scored] = {}
    for each in sorted(found, key=lambda each: (each.evaluated_us, each.id)):
        by_suite[each.suite] = each
    return [by_suite[suite] for suite in sorted(by_suite)]


def decide(
    purpose: Purpose,
    until_now: Purpose | None,
    found: Iterable[Scored],
    *,
    is_required: bool,
    is_overridden: bool,
) -> Allow | Refuse:
    """Walk the tree above. `until_now`: what the alias's model was for; None for a new alias."""
    if purpose is Purpose.ADAPTER:  # 1
        return Refuse("wrong_purpose", "an adapter runs beside a model; --adapter names it", param="model")
    if until_now is not None and purpose is not until_now:  # 2
        return Refuse(
            "wrong_purpose",
            f"this alias is for {until_now}, and the model is for {purpose}: its callers would be refused",
            param="model",
        )
    counted = newest(found)
    against = _against(counted, is_required=is_required)  # 3, 4
    if against is not None and not is_overridden:
        return against
    if against is not None:
        return Allow(overridden=against.reason)
    return Allow(() if counted else ("this model was never evaluated",))  # 5


def _against(counted: Sequence[Scored], *, is_required: bool) -> Refuse | None:
    low = [each for each in counted if not each.passes]
    if low:
        told = "; ".join(f"{each.suite}: {_plain(each.score)}, floor {_plain(each.floor)}" for each in low)
        return Refuse("below_floor", f"this model is below its floor ({told})", param="model")
    if is_required and not counted:
        return Refuse("not_evaluated", "this model was never evaluated, and models.require_evaluation is set")
    return None


def _plain(thousandths: int) -> str:
    return f"{thousandths / 1000:.3f}"
