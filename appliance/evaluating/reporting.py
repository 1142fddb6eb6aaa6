"""What an evaluation came to: in figures, and with every answer for whoever asked for them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from appliance.evaluating import scores
from appliance.evaluating.cases import Suite
from appliance.evaluating.running import Run
from appliance.evaluating.scores import Change, Score


@dataclass(frozen=True, slots=True)
class Outcome:
    """A suite's run with a model, beside one with another model where there was any. Thousandths."""

    suite: Suite = field(repr=False)
    new: Run = field(repr=False)
    old: Run | None = field(repr=False)
    floor: int  # that holds: the one that was asked for, or the other model's score less the tolerance

    @property
    def score(self) -> Score:
        return scores.score(self.new.marks)

    @property
    def old_score(self) -> Score | None:
        return scores.score(self.old.marks) if self.old is not None else None

    @property
    def is_good_enough(self) -> bool:
        return self.score.thousandths >= self.floor

    @property
    def changes(self) -> list[Change]:
        """Cases that came out otherwise than with the other model."""
        return scores.changes(self.old.marks, self.new.marks) if self.old is not None else []


def outcome(suite: Suite, new: Run, old: Run | None, *, floor: int, tolerance: int) -> Outcome:
    """What two runs come to. `floor` and `tolerance` in thousandths."""
    beside = scores.score(old.marks) if old is not None else None
    return Outcome(suite, new, old, scores.floor(floor, old=beside, tolerance=tolerance))


def told(found: Outcome) -> dict[str, Any]:
    """As JSON's own values, without a word of question or answer."""
    result: dict[str, Any] = {
        "suite": found.suite.name,
        "suite_sha256": found.suite.sha256,
        **_run(found.new),
        "floor": _share(found.floor),
        "is_good_enough": found.is_good_enough,
        "failed": [
            {"case": each.case, "checks": list(each.failures), "record": each.record}
            for each in found.new.marks
            if not each.has_passed
        ],
        "against": None,
    }
    if found.old is not None:
        result["against"] = _run(found.old) | {
            "lost": [each.case for each in found.changes if not each.is_gained],
            "gained": [each.case for each in found.changes if each.is_gained],
        }
    return result


def whole(found: Outcome) -> dict[str, Any]:
    """With every question and answer: content, for a file of whoever asked for it."""
    runs = [found.new] if found.old is None else [found.old, found.new]
    return told(found) | {
        "cases": [
            {
                "case": case.id,
                "messages": [{"role": each.role, "content": each.content} for each in case.question.messages],
                "answers": [
                    {
                        "model": run.model.id,
                        "text": run.replies[at].text,
                        "refused": run.replies[at].refused,
                        "error": run.replies[at].error,
                        "failed": list(run.marks[at].failures),
                        "record": run.replies[at].record,
                    }
                    for run in runs
                ],
            }
            for at, case in enumerate(found.suite.cases)
        ]
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "model": run.model.id,
        "model_sha256": run.model.sha256,
        "adapter": run.model.adapter or None,
        "adapter_sha256": run.model.adapter_sha256 or None,
        **_score(scores.score(run.marks)),
        "tags": {tag: _score(each) for tag, each in scores.by_tag(run.marks).items()},
        "embeddings": None if run.judge is None else {"model": run.judge.id, "sha256": run.judge.sha256},
    }


def _score(found: Score) -> dict[str, Any]:
    return {
        "num_cases": found.num_cases,
        "num_passed": found.num_passed,
        "score": _share(found.thousandths),
    }


def _share(thousandths: int) -> float:
    return thousandths / scores.FULL
