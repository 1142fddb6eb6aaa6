"""A suite put to a model: every question in the file's order, then what the answers mean, then the marks.

Who answers is behind a port: a running gateway, or the appliance without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from appliance.errors import RequestError, Unavailable, VerificationError
from appliance.evaluating.cases import Suite
from appliance.evaluating.checks import failures
from appliance.evaluating.questions import Answering, Named, Reply, Texts
from appliance.evaluating.scores import Mark

MAX_TRIES: Final = 60  # of one question, while others go first or the model is being loaded
PAUSE_SECONDS: Final = 2.0
_PASSING: Final = frozenset({"busy", "model_not_ready"})  # they pass by themselves

_TOO_LONG: Final = "context_length_exceeded"

Progress = Callable[[int, int], None]
_T = TypeVar("_T")
_Q = TypeVar("_Q")


@dataclass(frozen=True, slots=True)
class Run:
    """A suite's answers from one model. `judge`: whose embeddings were compared, where any were."""

    model: Named
    marks: tuple[Mark, ...]
    replies: tuple[Reply, ...] = field(repr=False)
    judge: Named | None = None


async def run(
    suite: Suite,
    model: str,
    answering: Answering,
    *,
    judge: str,
    progress: Progress | None = None,
    pause_seconds: float = PAUSE_SECONDS,
) -> Run:
    """Ask everything, one question at a time. VerificationError where another model answers in its midst.

    Embeddings come last: a box with room for one model loads each of the two once.
    """
    told = progress or _untold
    named: Named | None = None
    replies: list[Reply] = []
    for number, case in enumerate(suite.cases):
        told(number, len(suite.cases))
        reply = await _patiently(answering.ask, model, case.question, pause_seconds)
        named = _same(named, reply.model)
        replies.append(reply)
    told(len(suite.cases), len(suite.cases))
    cosines: dict[str, float] = {}
    judged_by: Named | None = None
    for case, reply in zip(suite.cases, replies, strict=True):
        if case.expected.similar and reply.text:
            texts = Texts(suite.sha256, case.id, (reply.text, *case.expected.similar))
            try:
                embedded = await _patiently(answering.embed, judge, texts, pause_seconds)
            except RequestError as error:
                if error.code != _TOO_LONG:
                    raise
                continue  # more than the judge can read: there is nothing to compare
            judged_by = _same(judged_by, embedded.model)
            cosines[case.id] = nearest(embedded.vectors[0], embedded.vectors[1:])
    if named is None:
        raise VerificationError("a suite without cases has no answers")
    marks = tuple(
        Mark(
            case.id,
            case.weight,
            case.tags,
            failures(case.expected, reply, cosines.get(case.id)),
            reply.record,
        )
        for case, reply in zip(suite.cases, replies, strict=True)
    )
    return Run(named, marks, tuple(replies), judged_by)


def nearest(vector: bytes, others: Sequence[bytes]) -> float:
    """The highest cosine of a vector with any of the others; all of them have length 1."""
    one = np.frombuffer(vector, "<f4")
    return max(float(np.dot(one, np.frombuffer(each, "<f4"))) for each in others)


async def _patiently(
    ask: Callable[[str, _Q], Awaitable[_T]], model: str, question: _Q, pause_seconds: float
) -> _T:
    """The answer, however often others go first. Unavailable where that does not end."""
    tries = 1
    while True:
        try:
            return await ask(model, question)
        except Unavailable as error:
            if error.code not in _PASSING or tries == MAX_TRIES:
                raise
        tries += 1
        await asyncio.sleep(pause_seconds)


def _same(known: Named | None, named: Named) -> Named:
    """An alias may be moved while a suite runs: such a score would be nobody's."""
    if known is not None and known != named:
        raise VerificationError(
            "another model answers than at the beginning of the evaluation",
            code="model_changed",
            hint="an alias was moved meanwhile: evaluate again, or name the model itself",
        )
    return named


def _untold(_done: int, _total: int) -> None:
    """Nobody looks."""
