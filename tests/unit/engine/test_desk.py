"""The desk over the fake backend: what is answered at once, what becomes a job, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from appliance.engine.messages import (
    Count,
    Counted,
    Detokenize,
    Detokenized,
    Embed,
    LoadModel,
    Rank,
    Rejected,
    TaskMessage,
    Tokenize,
    Tokenized,
)
from appliance.engine.question import Turn
from appliance.engine.worker import ranking
from appliance.engine.worker.desk import Desk
from appliance.engine.worker.embedder import EmbeddingShape, RerankShape
from appliance.engine.worker.embedding import Job
from appliance.engine.worker.prompt import PromptBuilder
from tests.fakes.fake_backend import ASSISTANT, END, SYSTEM, USER, FakeBackend

LOAD = LoadModel("fake", "", 4096, 4, 64, 1, 1, 0, 8, 150_000, 512, embedding_n_ctx=100)


def desk(**shape: object) -> Desk:
    backend = FakeBackend(LOAD)
    changed = dataclasses.replace(backend.model.embedding, **shape)  # type: ignore[arg-type]
    backend.model = dataclasses.replace(backend.model, embedding=changed)
    return Desk(backend, PromptBuilder(backend))


def job(message: TaskMessage, **shape: object) -> Job:
    taken = desk(**shape).take(message)
    assert isinstance(taken, Job), taken
    return taken


def refusal(message: TaskMessage, **shape: object) -> tuple[str, str | None]:
    taken = desk(**shape).take(message)
    assert isinstance(taken, Rejected), taken
    return taken.code, taken.param


def test_texts_and_token_arrays_become_inputs() -> None:
    """Texts get what the vocabulary adds, arrays are taken as they are."""
    assert job(Embed("a", ("hi", (1, 2)))).inputs == [[*b"hi", END], [1, 2]]


def test_control_tokens_of_a_caller_stay_text() -> None:
    """Only an explicit `parse_special` of /tokenize reads them."""
    assert job(Embed("a", ("<|end|>",))).inputs == [[*b"<|end|>", END]]
    plain, parsed = (
        desk().take(Tokenize("a", "<|end|>", parse_special=parse_special)) for parse_special in (False, True)
    )
    assert isinstance(plain, Tokenized)
    assert isinstance(parsed, Tokenized)
    assert plain.tokens == tuple(b"<|end|>")
    assert parsed.tokens == (END,)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Embed("a", ("ok", (3, 261))), ("invalid_value", "input[1]")),
        (Embed("a", ((-1,),)), ("invalid_value", "input[0]")),
        (Embed("a", ((),)), ("invalid_value", "input[0]")),
        (Embed("a", ("ok", "x" * 100)), ("context_length_exceeded", "input[1]")),
        (Embed("a", ("ok",), dimensions=63), ("unsupported_parameter", "dimensions")),
        (Rank("a", "q" * 100, ("d",)), ("context_length_exceeded", "query")),
        (Rank("a", "q", ("d", "d" * 100)), ("context_length_exceeded", "documents[1]")),
        (Detokenize("a", (0, 261)), ("invalid_value", "tokens")),
        (Detokenize("a", (-5,)), ("invalid_value", "tokens")),
        (Tokenize("a", (Turn("user", "a"), Turn("system", "b"))), ("template_error", "messages")),
        (Count("a", (Turn("user", "a"), Turn("system", "b"))), ("template_error", "input")),
    ],
)
def test_what_the_library_would_not_survive_is_refused(
    message: TaskMessage, expected: tuple[str, str | None]
) -> None:
    """Each refusal has a code, and the place in the caller's own words."""
    assert refusal(message) == expected


def test_answers_that_no_frame_holds_are_refused() -> None:
    """Many inputs of a very wide model: refused before anything is computed."""
    assert refusal(Embed("a", ("x",) * 2048), n_embd=8192) == ("invalid_value", "input")


def test_the_models_own_dimensions_are_taken() -> None:
    """Clients that name the size they know of are served."""
    assert job(Embed("a", ("x",), dimensions=64)).answers == "vectors"


def test_ranking_without_a_head_is_by_cosine() -> None:
    """The query is the first input, the documents follow."""
    taken = job(Rank("a", "q", ("d", "e")))

    assert taken.answers == "cosine"
    assert taken.inputs == [[*b"q", END], [*b"d", END], [*b"e", END]]


def test_ranking_heads_read_pairs_and_embed_nothing() -> None:
    """A model with a head gets each pair as one input, and no embeddings are asked of it."""
    taken = job(Rank("a", "q", ("d", "e")), pooling="rank")

    assert taken.answers == "rank"
    assert taken.inputs == [[*b"q", END, *b"d", END], [*b"q", END, *b"e", END]]
    assert refusal(Embed("a", ("x",)), pooling="rank") == ("unsupported_model", "model")
    long = Rank("a", "q" * 60, ("d", "d" * 60))
    assert refusal(long, pooling="rank") == ("context_length_exceeded", "documents[1]")


def test_rerank_templates_are_filled_with_plain_text() -> None:
    """The template's control tokens count; those in query or document stay text, holes in them too."""
    shape = RerankShape(template="<|system|>Judge.<|user|>{query} | {document}<|end|>")
    backend = FakeBackend(LOAD)

    def tokenize(text: str, parse_special: bool) -> list[int]:  # noqa: FBT001
        return backend.encode(text, add_special=False, parse_special=parse_special)

    pair = ranking.pair(shape, "a{document}", "<|end|>", tokenize)
    assert pair == [SYSTEM, *b"Judge.", USER, *b"a{document}", *b" | ", *b"<|end|>", END]
    assert EmbeddingShape(1, 1, "rank").rerank == RerankShape()


def test_tokens_there_and_back() -> None:
    """Token ids spell the text again; control tokens are spelt out; half characters are marked."""
    text = "grüß 東京 <|user|>"
    there = desk().take(Tokenize("a", text, with_pieces=True))
    assert isinstance(there, Tokenized)
    back = desk().take(Detokenize("a", there.tokens))
    half = desk().take(Detokenize("a", (USER, 0xC3)))

    assert there.pieces == tuple(bytes([each]) for each in text.encode())
    assert there.n_ctx == 4096
    assert back == Detokenized("a", text)
    assert half == Detokenized("a", "<|user|>\ufffd")


def test_conversations_are_counted_in_the_models_template() -> None:
    """The count is the prompt's, up to where the answer begins."""
    turns = (Turn("system", "be brief"), Turn("user", "hi"))
    tokens = desk().take(Tokenize("a", turns))
    assert isinstance(tokens, Tokenized)

    assert tokens.tokens == (SYSTEM, *b"be brief", END, USER, *b"hi", END, ASSISTANT)
    assert tokens.pieces == ()
    assert desk().take(Count("a", turns)) == Counted("a", len(tokens.tokens))
