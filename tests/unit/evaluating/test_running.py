"""A suite put to a model: in order, patiently, and to one model only."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from appliance.errors import RequestError, Unavailable, VerificationError
from appliance.evaluating import cases, running
from appliance.evaluating.questions import Embedded, Named, Question, Reply, Texts

NEW, JUDGE = Named("new", "1" * 64), Named("judge", "2" * 64)


def suite(*lines: dict[str, Any]) -> cases.Suite:
    return cases.parse("\n".join(map(json.dumps, lines)).encode(), name="suite")


SUITE = suite(
    {"id": "one", "prompt": "1", "checks": {"exact": "1"}, "tags": ["digits"]},
    {"id": "two", "prompt": "two", "checks": {"similarity": {"to": ["zwei", "deux"], "at_least": 0.9}}},
    {"id": "three", "prompt": "3", "checks": {"exact": "4"}},
)


class Parrot:
    """Says each question again; knows what means the same. `problems` come first, one a question."""

    def __init__(self, *problems: Exception, models: tuple[Named, ...] = (NEW,)) -> None:
        self.problems = list(problems)
        self.models = models
        self.asked: list[str] = []

    async def ask(self, model: str, question: Question) -> Reply:
        assert model == "candidate"
        self.asked.append(question.case)
        if self.problems:
            raise self.problems.pop(0)
        answered = self.models[min(len(self.asked), len(self.models)) - 1]
        return Reply(answered, question.messages[-1].content, record=f"box/{len(self.asked)}")

    async def embed(self, model: str, texts: Texts) -> Embedded:
        assert model == "judge"
        self.asked.append(f"embed {texts.case}")
        angles = {"two": (1.0, 0.0), "zwei": (0.0, 1.0), "deux": (0.96, 0.28)}
        return Embedded(JUDGE, tuple(struct.pack("<2f", *angles[each]) for each in texts.texts))


async def run(parrot: Parrot, asked: cases.Suite = SUITE) -> running.Run:
    return await running.run(asked, "candidate", parrot, judge="judge", pause_seconds=0)


async def test_questions_in_order_then_meanings_then_marks() -> None:
    """The nearest text counts; each mark says where its question stands on the record."""
    parrot, seen = Parrot(), list[tuple[int, int]]()
    done = await running.run(
        SUITE, "candidate", parrot, judge="judge", progress=lambda *told: seen.append(told)
    )

    assert parrot.asked == ["one", "two", "three", "embed two"]
    assert [(each.case, each.failures, each.record) for each in done.marks] == [
        ("one", (), "box/1"),
        ("two", (), "box/2"),
        ("three", ("exact",), "box/3"),
    ]
    assert (done.model, done.judge) == (NEW, JUDGE)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


async def test_who_is_told_to_wait_asks_again() -> None:
    """Others go first, or the model is being loaded; the case is asked until it is answered."""
    parrot = Parrot(Unavailable("x", code="busy"), Unavailable("x", code="model_not_ready"))
    done = await run(parrot)

    assert parrot.asked[:3] == ["one", "one", "one"]
    assert done.marks[0].has_passed


@pytest.mark.parametrize(
    "error", [Unavailable("x", code="engine_failed"), Unavailable("x", code="stopped"), RequestError("x")]
)
async def test_what_does_not_pass_by_itself_ends_the_evaluation(error: Exception) -> None:
    """A score of what was asked until then would say nothing."""
    parrot = Parrot(error)
    with pytest.raises(type(error)):
        await run(parrot)

    assert parrot.asked == ["one"]


async def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others go first for ever."""
    monkeypatch.setattr(running, "MAX_TRIES", 3)
    parrot = Parrot(*[Unavailable("x", code="busy")] * 9)
    with pytest.raises(Unavailable):
        await run(parrot)

    assert len(parrot.asked) == 3


async def test_an_alias_that_is_moved_ends_the_evaluation() -> None:
    """Half a score of each model is a score of none."""
    with pytest.raises(VerificationError, match="another model answers"):
        await run(Parrot(models=(NEW, Named("newer", "3" * 64))))


async def test_what_is_too_long_to_be_compared_has_failed() -> None:
    """The judge reads less than the model writes: that case fails, and the others go on."""

    class Short(Parrot):
        async def embed(self, model: str, texts: Texts) -> Embedded:
            del model, texts
            raise RequestError("too long", code="context_length_exceeded")

    done = await run(Short())

    assert [each.failures for each in done.marks] == [
        (),
        ("similarity (nothing to compare, at least 0.90)",),
        ("exact",),
    ]
