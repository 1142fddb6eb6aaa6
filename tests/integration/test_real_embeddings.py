"""Vectors of the starter model itself: near texts are near, batches are what their inputs are alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from appliance.clock import SystemClock
from appliance.engine.messages import (
    Embed,
    Embedded,
    LoadModel,
    Rank,
    Ranked,
    Rejected,
    TaskMessage,
    ToGateway,
    Tokenize,
    Tokenized,
    Tuning,
)
from appliance.engine.worker.desk import Desk
from appliance.engine.worker.embedder import Slice, Vector
from appliance.engine.worker.embedding import EmbeddingCore, Job
from appliance.engine.worker.llama import LlamaBackend
from appliance.engine.worker.llama.embedding import EmbeddingContext, EmbeddingLimits
from appliance.engine.worker.prompt import PromptBuilder
from appliance.engine.worker.vectors import unit
from tests.harness import gateway
from tests.records import closing_of

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

NEAR = ("The cat sits on the mat.", "A kitten is sitting on a rug.")
FAR = ("Quarterly tax returns are due in April.", "Taxes must be filed every spring quarter.")


class Bench:
    """Desk and jobs over one loaded model, without threads and sockets."""

    def __init__(self, backend: LlamaBackend) -> None:
        self.said: list[ToGateway] = []
        self.desk = Desk(backend, PromptBuilder(backend))
        self.core = EmbeddingCore(
            backend, max_waiting=8, step_target_us=150_000, clock=SystemClock(), emit=self.said.extend
        )

    def ask(self, message: TaskMessage) -> ToGateway:
        taken = self.desk.take(message)
        if not isinstance(taken, Job):
            return taken
        self.core.add(taken)
        while self.core.has_work:
            self.core.step(is_shared=False)
        return self.said[-1]

    def embed(self, *inputs: str | tuple[int, ...]) -> list[Vector]:
        answer = self.ask(Embed("a", inputs))
        assert isinstance(answer, Embedded), answer
        return list(np.frombuffer(answer.vectors, "<f4").reshape(-1, answer.n_embd))


@pytest.fixture(scope="module")
def backend(starter_model_path: Path) -> Iterator[LlamaBackend]:
    load = LoadModel(
        "starter", str(starter_model_path), 512, 2, 64, 1, 1, 0, 32, 150_000, 0,
        embedding_n_ctx=300, embedding_n_batch=64,
        tuning=Tuning(flash_attn=True, n_threads=1, n_threads_batch=1),
    )  # fmt: skip
    made = LlamaBackend(load)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bench(backend: LlamaBackend) -> Iterator[Bench]:
    made = Bench(backend)
    yield made
    made.core._give_up()  # the context goes before its model


def test_similar_sentences_are_nearer_than_unrelated_ones(bench: Bench) -> None:
    """Within a subject the cosine is higher than across, and every vector has length 1."""
    one, two, three, four = bench.embed(*NEAR, *FAR)

    assert min(one @ two, three @ four) > max(a @ b for a in (one, two) for b in (three, four)) + 0.1
    assert all(np.linalg.norm(each) == pytest.approx(1, abs=1e-5) for each in (one, two, three, four))


def test_many_together_are_what_each_is_alone(bench: Bench) -> None:
    """Inputs in one batch do not see each other; nor does it matter where a long one was split."""
    texts = [*NEAR, *FAR, "x", "A longer text about forms, offices and opening hours. " * 8]
    together = bench.embed(*texts)
    alone = [bench.embed(text)[0] for text in texts]

    assert max(float(abs(a - b).max()) for a, b in zip(together, alone, strict=True)) < 1e-3


def test_token_arrays_are_their_texts(bench: Bench) -> None:
    """What /tokenize says can be sent instead of the text."""
    tokens = bench.ask(Tokenize("t", NEAR[0], add_special=True))
    assert isinstance(tokens, Tokenized)
    by_text, by_tokens = bench.embed(NEAR[0]), bench.embed(tokens.tokens)

    assert float(abs(by_text[0] - by_tokens[0]).max()) < 1e-6


def test_own_pooling_is_the_librarys(backend: LlamaBackend, bench: Bench) -> None:
    """A context that sees whole inputs and lets the library take the mean gives the same vectors."""
    limits = EmbeddingLimits(64, 64, 1, 1, flash_attn=False, has_cache=False)
    whole = EmbeddingContext(backend._loaded, "mean", limits)
    try:
        assert not whole.splits
        tokens = [backend.encode(text, add_special=True, parse_special=False) for text in (*NEAR, *FAR)]
        found = whole.compute([Slice("j", n, n, 0, each, ends=True) for n, each in enumerate(tokens)])
    finally:
        whole.close()
    own = bench.embed(*NEAR, *FAR)

    for a, b in zip(found, own, strict=True):
        assert a is not None
        assert float(abs(unit(a) - b).max()) < 1e-3


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_first_and_last_rows_do_not_depend_on_where_an_input_is_split(
    backend: LlamaBackend, pooling: str
) -> None:
    """In one part or in three: the vector is the same, and it is not the mean's."""
    limits = EmbeddingLimits(64, 64, 1, 1, flash_attn=False, has_cache=True)
    context = EmbeddingContext(backend._loaded, pooling, limits)  # type: ignore[arg-type]
    tokens = backend.encode(NEAR[0], add_special=True, parse_special=False)
    try:
        whole = context.compute([Slice("j", 0, 0, 0, tokens, ends=True)])[0]
        context.compute([Slice("j", 0, 0, 0, tokens[:2], ends=False)])
        context.compute([Slice("j", 0, 0, 2, tokens[2:4], ends=False)])
        split = context.compute([Slice("j", 0, 0, 4, tokens[4:], ends=True)])[0]
    finally:
        context.close()

    assert whole is not None
    assert split is not None
    assert float(abs(unit(whole) - unit(split)).max()) < 1e-3


def test_ranking_by_cosine_finds_the_subject(bench: Bench) -> None:
    """A model without a ranking head ranks by its embeddings, and says so."""
    answer = bench.ask(Rank("r", NEAR[0], (FAR[0], NEAR[1], FAR[1])))
    assert isinstance(answer, Ranked)

    assert answer.method == "cosine"
    assert np.argmax(answer.scores) == 1


@pytest.mark.parametrize(
    ("inputs", "code", "param"),
    [
        (("ok", "word " * 400), "context_length_exceeded", "input[1]"),
        (("ok", (1, 49_152)), "invalid_value", "input[1]"),
        (((-1,),), "invalid_value", "input[0]"),
        (((),), "invalid_value", "input[0]"),
        (("",), "invalid_value", "input[0]"),
    ],
)
def test_what_would_abort_is_refused(
    bench: Bench, inputs: tuple[str | tuple[int, ...], ...], code: str, param: str
) -> None:
    """Too long, not in the vocabulary, empty: refused before the library hears of it."""
    answer = bench.ask(Embed("bad", inputs))

    assert isinstance(answer, Rejected)
    assert (answer.code, answer.param) == (code, param)
    assert len(bench.embed("still here")) == 1


@pytest.mark.parametrize(
    "batch",
    [
        [],
        [Slice("j", 0, 0, 0, [1] * 65, ends=True)],
        [Slice("j", 0, 64, 0, [1], ends=True)],
        [Slice("j", 0, 0, 0, [49_152], ends=True)],
        [Slice("j", 0, 0, 0, [-1], ends=True)],
    ],
)
def test_misuse_of_the_context_is_an_error(
    backend: LlamaBackend, bench: Bench, batch: Sequence[Slice]
) -> None:
    """A bug of ours is an exception and not the end of the process."""
    assert backend.model.embedding.pooling == "mean"
    bench.embed("x")
    assert bench.core._made is not None
    with pytest.raises(RuntimeError):
        bench.core._made.embedder.compute(batch)


def test_as_many_inputs_as_may_be_sent(bench: Bench) -> None:
    """2048 short inputs: batch after batch, each with its own vector."""
    found = bench.embed(*((n % 40 + 100,) for n in range(2048)))

    assert len(found) == 2048
    assert float(abs(found[3] - found[43]).max()) < 1e-3
    assert float(abs(found[3] - found[4]).max()) > 1e-2


def test_whole_appliance_embeds_beside_its_chat(tmp_path: Path) -> None:
    """Through the real worker: vectors, a ranking, a chat, and their records."""
    toml = "[engine]\nn_threads_batch = 1\n"
    with gateway(tmp_path / "home", worker="model", toml=toml) as running, running.client() as client:
        embedded = client.post("/v1/embeddings", json={"model": "default", "input": [*NEAR, FAR[0]]})
        ranked = client.post("/v1/rerank", json={"query": NEAR[0], "documents": [FAR[0], NEAR[1]]})
        chat = running.chat("Hello", max_tokens=4)
        counted = client.post("/v1/responses/input_tokens", json={"input": "Hello"})

        assert len(embedded.json()["data"][0]["embedding"]) == 576
        assert ranked.json()["results"][0]["index"] == 1
        assert counted.json()["input_tokens"] == chat.json()["usage"]["prompt_tokens"]
        closing = closing_of(running.home, embedded.headers["x-request-id"])
        assert closing.public["prompt_tokens"] == embedded.json()["usage"]["prompt_tokens"]
