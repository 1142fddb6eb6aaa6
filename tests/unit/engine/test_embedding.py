"""Jobs over the fake embedder: one terminal message each, and nothing left behind."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from appliance.engine.messages import Embedded, Failed, LoadModel, Ranked, Rejected, ToGateway
from appliance.engine.worker import vectors
from appliance.engine.worker.embedder import CanNotEmbed, Vector
from appliance.engine.worker.embedding import EmbeddingCore, Job
from tests.clocks import ManualClock
from tests.fakes.fake_backend import FakeBackend
from tests.fakes.fake_embedder import N_EMBD, FakeEmbedder, vector_of

LOAD = LoadModel("fake", "", 4096, 4, 64, 1, 1, 0, 8, 150_000, 512, embedding_n_batch=64)


class Bench:
    """A core, its backend, and what it said."""

    def __init__(self, *, max_waiting: int = 8, splits: bool = True) -> None:
        self.said: list[ToGateway] = []
        self.made: list[FakeEmbedder] = []
        self.backend = FakeBackend(LOAD)
        self.refusal: CanNotEmbed | None = None
        self.clock = ManualClock()

        def new_embedder() -> FakeEmbedder:
            if self.refusal is not None:
                raise self.refusal
            self.made.append(FakeEmbedder(64, splits=splits))
            return self.made[-1]

        self.backend.new_embedder = new_embedder  # type: ignore[method-assign]
        self.core = EmbeddingCore(
            self.backend,
            max_waiting=max_waiting,
            step_target_us=150_000,
            clock=self.clock,
            emit=self.said.extend,
        )

    def run(self) -> list[ToGateway]:
        while self.core.has_work:
            self.core.step(is_shared=False)
        assert all(not made.held for made in self.made if not made.is_closed)
        return self.said


def job(name: str, *texts: str) -> Job:
    return Job(name, [list(text.encode()) for text in texts])


def rows(answer: Embedded) -> list[Vector]:
    return list(np.frombuffer(answer.vectors, "<f4").reshape(-1, answer.n_embd))


def test_vectors_are_those_of_each_input_with_length_one() -> None:
    """However the inputs are batched, each vector is that of its input alone."""
    texts = ["short", "a rather long text " * 12, "x", "another one, of middle length"] * 5
    bench = Bench()
    bench.core.add(job("a", *texts))
    bench.core.add(job("b", "the other job"))
    said = {message.request_id: message for message in bench.run() if isinstance(message, Embedded)}

    assert len(bench.said) == 2
    assert said["a"].n_embd == N_EMBD
    assert said["a"].prompt_tokens == sum(len(text) for text in texts)
    for row, text in zip(rows(said["a"]), texts, strict=True):
        assert np.allclose(row, vectors.unit(vector_of(list(text.encode()))))
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
    assert len(bench.made[0].batches) > 10


def test_a_small_job_ends_before_a_large_one() -> None:
    """Turns: who comes later with less is not held up."""
    bench = Bench()
    bench.core.add(job("large", *["text " * 8] * 100))
    bench.core.step(is_shared=False)
    bench.core.add(job("small", "text"))
    bench.run()

    assert [message.request_id for message in bench.said if isinstance(message, Embedded)] == [
        "small",
        "large",
    ]


def test_steps_beside_answers_keep_to_their_time() -> None:
    """Once a token's cost is known, a shared step holds only what the target allows."""
    bench = Bench()
    bench.core.add(job("a", "x" * 600))

    def slow(batch: object) -> list[Vector | None]:
        bench.clock.advance(1.0)
        return FakeEmbedder.compute(bench.made[0], batch)  # type: ignore[arg-type]

    bench.made[0].compute = slow  # type: ignore[method-assign]
    bench.core.step(is_shared=True)
    bench.core.step(is_shared=True)
    first, second = (sum(len(s.tokens) for s in batch) for batch in bench.made[0].batches)

    assert first == 64
    assert second < first


def test_ranks_and_cosines() -> None:
    """A ranking job gives its raw scores, a cosine job the angles to its first input."""
    bench = Bench()
    cosine = job("c", "the tax form", "the tax form", "zzz", "the tax law")
    cosine.answers = "cosine"
    rank = job("r", "one", "two")
    rank.answers = "rank"
    bench.core.add(cosine)
    bench.core.add(rank)
    said = {message.request_id: message for message in bench.run() if isinstance(message, Ranked)}

    same, unrelated, near = said["c"].scores
    assert said["c"].method == "cosine"
    assert same == pytest.approx(1, abs=1e-6)
    assert 1 > near > unrelated
    assert said["r"].method == "rank"
    assert said["r"].scores == tuple(float(vector_of(list(text))[0]) for text in (b"one", b"two"))


def test_aborts_free_what_is_unfinished() -> None:
    """In the middle of an input, before the first batch, and after the end: one message each."""
    bench = Bench()
    bench.core.add(job("half", "x" * 100))
    bench.core.add(job("waiting", "y"))
    bench.core.step(is_shared=False)
    for name in ("half", "waiting", "half", "unknown"):
        bench.core.abort(name)

    assert [(type(m), m.request_id) for m in bench.said if isinstance(m, Failed)] == [
        (Failed, "half"),
        (Failed, "waiting"),
    ]
    assert not bench.core.has_work
    assert bench.made[0].held == {}


def test_a_full_queue_is_overload() -> None:
    """Beyond the bound a job is failed at once, and the others are answered."""
    bench = Bench(max_waiting=1)
    bench.core.add(job("first", "x"))
    bench.core.add(job("second", "x"))
    said = {m.request_id: m for m in bench.run() if isinstance(m, Embedded | Failed)}

    assert isinstance(said["second"], Failed)
    assert said["second"].code == "overloaded"
    assert isinstance(said["first"], Embedded)


def test_contexts_are_made_at_the_first_job_and_again_after_a_failure() -> None:
    """A failed batch is told to whoever waits for it; the next job finds a new context."""
    bench = Bench()
    assert bench.made == []
    bench.core.add(job("bad", "please fail"))
    bench.core.add(job("beside", "y"))
    bench.core.step(is_shared=False)
    bench.core.add(job("good", "x"))
    bench.run()

    failed = [message for message in bench.said if isinstance(message, Failed)]
    assert {(each.request_id, each.code) for each in failed} == {
        ("bad", "out_of_memory"),
        ("beside", "out_of_memory"),
    }
    assert isinstance(bench.said[-1], Embedded)
    assert [made.is_closed for made in bench.made] == [True, False]


@pytest.mark.parametrize(("code", "kind"), [("out_of_memory", Failed), ("unsupported_model", Rejected)])
def test_no_context_is_said_as_what_it_is(code: str, kind: type[ToGateway]) -> None:
    """Memory is the worker's trouble and may pass; a model that can not is the caller's choice."""
    bench = Bench()
    bench.refusal = CanNotEmbed(code, "why")  # type: ignore[arg-type]
    bench.core.add(job("a", "x"))

    assert [type(message) for message in bench.said] == [kind]
    assert msgspec.to_builtins(bench.said[0])["code"] == code
    assert not bench.core.has_work


def test_numbers_that_are_none_are_a_failure_and_not_an_answer() -> None:
    """NaN has no place in JSON, nor in anybody's index."""
    bench = Bench()
    bench.core.add(job("a", "x"))
    bench.made[0].compute = lambda batch: [np.full(4, np.nan, np.float32) for _ in batch]  # type: ignore[method-assign]
    bench.core.step(is_shared=False)

    assert isinstance(bench.said[0], Failed)
    assert bench.said[0].code == "engine_failed"
