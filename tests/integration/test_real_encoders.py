"""Models that only embed or rank, made on the spot and computed by llama.cpp: vectors, scores, no answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from appliance.catalog import file_digest
from appliance.clock import SystemClock
from appliance.core import ChatMessage, InferenceRequest, ModelPart, ModelSpec, Purpose, SamplingParams
from appliance.engine.messages import (
    AdapterFile,
    Count,
    Embed,
    Embedded,
    Generate,
    LoadModel,
    Rank,
    Ranked,
    Rejected,
    TaskMessage,
    ToGateway,
    Tokenize,
    Tokenized,
)
from appliance.engine.question import Turn
from appliance.engine.supervisor import Engine
from appliance.engine.worker import llama
from appliance.engine.worker.desk import Desk
from appliance.engine.worker.embedding import EmbeddingCore, Job
from appliance.engine.worker.llama import LoadError, VectorBackend
from appliance.engine.worker.prepare import Preparer
from appliance.engine.worker.prompt import PromptBuilder
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import RequestError
from appliance.tasks import EmbedTask, Vectors
from tests import weights
from tests.integration.real import GREEDY


def load_of(path: Path, purpose: str, **changes: Any) -> LoadModel:
    load = LoadModel("small", str(path), 512, 2, 64, 1, 1, 0, 8, 150_000, 0, embedding_n_ctx=48)
    return msgspec.structs.replace(load, purpose=purpose, **changes)


class Bench:
    """Desk, preparer and jobs over one loaded model."""

    def __init__(self, path: Path, purpose: str) -> None:
        backend = llama.loaded(load_of(path, purpose))
        assert isinstance(backend, VectorBackend)
        self.backend = backend
        self.said: list[ToGateway] = []
        self.builder = PromptBuilder(backend)
        self.desk = Desk(backend, self.builder)
        self.core = EmbeddingCore(
            backend, max_waiting=8, step_target_us=150_000, clock=SystemClock(), emit=self.said.extend
        )
        self.core.prepare()

    def ask(self, message: TaskMessage) -> ToGateway:
        taken = self.desk.take(message)
        if not isinstance(taken, Job):
            return taken
        self.core.add(taken)
        while self.core.has_work:
            self.core.step(is_shared=False)
        return self.said[-1]

    def close(self) -> None:
        self.core._give_up()
        self.backend.close()


@pytest.fixture(scope="module")
def embeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(weights.encoder(tmp_path_factory.mktemp("embeds") / "small.gguf"), "embedding")
    yield made
    made.close()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(weights.encoder(tmp_path_factory.mktemp("ranks") / "small.gguf", ranks=True), "rerank")
    yield made
    made.close()


def test_an_encoder_embeds(embeds: Bench) -> None:
    """Inputs of one batch are what each is alone, near texts are nearer, and every vector has length 1."""
    texts = ("the cat sits on a mat", "a cat sits on the mat", "the tax office is open", "dog")
    answer = embeds.ask(Embed("all", texts))
    assert isinstance(answer, Embedded)
    found = np.frombuffer(answer.vectors, "<f4").reshape(-1, answer.n_embd)
    for at, text in enumerate(texts):
        alone = embeds.ask(Embed("one", (text,)))
        assert isinstance(alone, Embedded)
        assert np.allclose(np.frombuffer(alone.vectors, "<f4"), found[at], atol=1e-4)

    assert answer.n_embd == 32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2]


def test_a_ranking_head_ranks(ranks: Bench) -> None:
    """Scores come from the head, in the order of the documents; the same document has the same score."""
    documents = ("a cat sits", "the office is open", "a cat sits")
    answer = ranks.ask(Rank("r", "the cat", documents))
    assert isinstance(answer, Ranked)

    assert answer.method == "rank"
    assert answer.scores[0] == pytest.approx(answer.scores[2], abs=1e-5)
    assert answer.scores[0] != pytest.approx(answer.scores[1], abs=1e-3)


def test_neither_writes_answers(embeds: Bench, ranks: Bench) -> None:
    """A question is refused with a code before anything is computed, and so is what needs a chat template."""
    for bench in (embeds, ranks):
        refused = Preparer(bench.builder, bench.backend).prepare(
            Generate("q", (Turn("user", "the cat"),), GREEDY)
        )
        assert isinstance(refused, Rejected)
        assert refused.code == "unsupported_model"
        counted = bench.ask(Count("c", (Turn("user", "the cat"),)))
        assert isinstance(counted, Rejected)
        assert counted.code == "unsupported_model"
    tokens = embeds.ask(Tokenize("t", "the cat", add_special=True))
    assert isinstance(tokens, Tokenized)
    assert (tokens.tokens, tokens.n_ctx) == ((2, 5, 6, 3), 48)
    embedded = ranks.ask(Embed("e", ("the cat",)))
    assert isinstance(embedded, Rejected)
    assert embedded.code == "unsupported_model"


def test_what_is_too_long_is_refused(embeds: Bench) -> None:
    """An input beyond what the model sees at once: a number, not an end of the process."""
    refused = embeds.ask(Embed("e", ("cat " * 60,)))

    assert isinstance(refused, Rejected)
    assert refused.code == "context_length_exceeded"
    assert "takes 48" in refused.message


def test_a_model_for_something_else_is_not_loaded(starter_model_path: Path, tmp_path: Path) -> None:
    """An encoder is no model for chat, a ranking head has no embeddings, adapters are for chat only."""
    plain = weights.encoder(tmp_path / "plain.gguf")
    ranking = weights.encoder(tmp_path / "ranking.gguf", ranks=True)
    with pytest.raises(LoadError, match="no model for chat"):
        llama.loaded(load_of(plain, "chat"))
    with pytest.raises(LoadError, match="no model for embedding"):
        llama.loaded(load_of(ranking, "embedding"))
    with pytest.raises(LoadError, match="for chat only"):
        llama.loaded(load_of(plain, "embedding", adapters=(AdapterFile("a", "a.gguf", 1.0),)))


@pytest.mark.model
def test_a_model_that_writes_can_be_loaded_to_embed_only(starter_model_path: Path) -> None:
    """Then it has no cells for answers, and reads what is longer than one of its batches."""
    made = Bench(starter_model_path, "embedding")
    try:
        answer = made.ask(Embed("e", ("A cat sits on the mat.", "word " * 46)))
    finally:
        made.close()

    assert isinstance(answer, Embedded)
    assert answer.n_embd == 576
    assert made.backend.model.n_ctx == 0


async def test_a_split_encoder_in_its_sandbox(tmp_path: Path) -> None:
    """The worker reads all parts, and nothing else; it says what it is for, embeds, and writes no answers."""
    whole = weights.encoder(tmp_path / "whole.gguf")
    paths = weights.split(whole, tmp_path, count=3, named="{at}{at}{at}")
    parts = tuple(ModelPart(each, file_digest(each), each.stat().st_size) for each in paths)
    spec = ModelSpec("small", "0" * 64, 1, paths[0], purpose=Purpose.EMBEDDING, parts=parts)
    settings = msgspec.structs.replace(EngineSettings(), sandbox="required")
    engine = Engine(spec, settings, clock=SystemClock(), on_event=lambda _event: None)
    await engine.start()
    try:
        assert await engine.wait_ready(60), engine.status.last_error
        (answer,) = [
            each
            async for each in engine.perform(
                EmbedTask(request_id="e", model="small", inputs=("the cat", "a dog"))
            )
        ]
        with pytest.raises(RequestError) as refused:
            _ = [
                each
                async for each in engine.generate(
                    InferenceRequest("q", "small", (ChatMessage("user", "the cat"),), SamplingParams())
                )
            ]
        ready = engine.status.ready
    finally:
        await engine.stop()

    assert isinstance(answer.result, Vectors)
    assert (answer.result.n_embd, len(answer.result.data)) == (32, 2 * 32 * 4)
    assert ready is not None
    assert (ready.purpose, ready.n_ctx, ready.n_cells) == ("embedding", 64, 0)
    assert refused.value.code == "unsupported_model"
