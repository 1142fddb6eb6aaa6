"""Embeddings, rerank and tokens through a whole gateway: answers, mistakes, and their records."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.fakes.fake_backend import END
from tests.fakes.fake_embedder import N_EMBD
from tests.harness import Gateway, appliance, gateway
from tests.records import closing_of

pytestmark = pytest.mark.integration

MODEL = "smollm2-135m-instruct"
EMBED = "/v1/embeddings"
ROUTES: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/embeddings": ({"model": "default", "input": "hello"}, "embeddings"),
    "/v1/rerank": ({"query": "tax", "documents": ["a cat", "a tax form"]}, "rerank"),
    "/tokenize": ({"content": "hello"}, "tokenize"),
    "/detokenize": ({"tokens": [104, 105]}, "detokenize"),
    "/v1/responses/input_tokens": ({"input": "hello"}, "input_tokens"),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(
        tmp_path_factory.mktemp("tasks") / "home", toml="[audit]\nrefusal_burst = 1000\n"
    ) as started:
        yield started


def post(
    running: Gateway, path: str, body: dict[str, Any], *, role: Role | None = Role.KIOSK
) -> httpx.Response:
    with running.client(role) as client:
        return client.post(path, json=body)


def good(running: Gateway, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = post(running, path, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def records(running: Gateway, request_id: str) -> list[query.Record]:
    return query.by_request(running.home.database, request_id)


def contents(running: Gateway, request_id: str) -> list[dict[str, Any]]:
    """What an auditor decrypts, entry by entry."""
    shown = appliance("audit", "show", request_id, "--json", home=running.home)
    return [record["content"] or {} for record in json.loads(shown.stdout)["records"]]


@pytest.mark.parametrize("path", ROUTES)
def test_every_task_has_an_opening_and_a_closing(running: Gateway, path: str) -> None:
    """One exchange each on the record, its endpoint in the header; the answer carries the receipt."""
    body, endpoint = ROUTES[path]
    answer = post(running, path, body)
    found = records(running, answer.headers["x-request-id"])

    assert answer.status_code == 200, answer.text
    assert [each.kind for each in found] == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED]
    assert found[0].public["endpoint"] == endpoint
    assert found[1].public["outcome"] == "stop"
    assert answer.headers["x-audit-record"].endswith(f"/{found[0].seq}")
    assert answer.headers["x-audit-leaf"] == found[0].leaf.hex()


def test_chats_name_their_endpoint_too(running: Gateway) -> None:
    """The same field tells them apart."""
    answer = running.chat("echo: x")
    assert records(running, answer.headers["x-request-id"])[0].public["endpoint"] == "chat"


def test_embeddings_in_both_formats_and_on_the_record(running: Gateway) -> None:
    """Numbers and base64 are the same vectors; the closing holds the digest of exactly these bytes."""
    body = {"model": "default", "input": ["one text", "another"], "user": "desk-3"}
    floats = good(running, "/v1/embeddings", body | {"encoding_format": "float"})
    answer = post(running, "/v1/embeddings", body | {"encoding_format": "base64", "dimensions": N_EMBD})
    data = b"".join(base64.b64decode(each["embedding"]) for each in answer.json()["data"])
    request_id = answer.headers["x-request-id"]
    opened, closed = contents(running, request_id)

    assert np.frombuffer(data, "<f4").tolist() == [x for each in floats["data"] for x in each["embedding"]]
    assert [each["index"] for each in floats["data"]] == [0, 1]
    assert floats["usage"] == {"prompt_tokens": 17, "total_tokens": 17}
    assert floats["model"] == MODEL
    assert opened["inputs"] == ["one text", "another"]
    assert opened["annotations"] == {"user": "desk-3"}
    assert closed == {}
    closing = closing_of(running.home, request_id)
    assert closing.public["output_sha256"] == hashlib.sha256(data).hexdigest()
    assert closing.public["prompt_tokens"] == 17


def test_token_arrays_are_the_texts_they_spell(running: Gateway) -> None:
    """One array, many arrays and texts give the same vectors."""
    tokens = good(running, "/tokenize", {"prompt": "hello"})["tokens"]
    forms = ["hello", ["hello"], tokens, [tokens]]
    vectors = [
        good(running, "/v1/embeddings", {"model": "default", "input": each})["data"][0]["embedding"]
        for each in forms
    ]

    assert all(each == vectors[0] for each in vectors)


def test_many_inputs_come_back_in_their_order(running: Gateway) -> None:
    """As many as may be sent at once, in the order they were sent."""
    texts = [f"text {n % 50}" for n in range(2048)]
    data = good(running, "/v1/embeddings", {"model": "default", "input": texts})["data"]

    assert [each["index"] for each in data] == list(range(2048))
    assert data[7]["embedding"] == data[57]["embedding"] != data[8]["embedding"]


def test_rerank_puts_the_best_first_and_says_how(running: Gateway) -> None:
    """Documents as texts and objects; `top_n` cuts; documents come back where asked for."""
    body = {
        "model": "default",
        "query": "the tax form",
        "documents": ["zebras", {"text": "the tax form"}, "a tax law"],
    }
    whole = good(running, "/v1/rerank", body)
    cut = good(running, "/v1/rerank", body | {"top_n": 1, "return_documents": True})

    assert whole["method"] == "cosine"
    assert [each["index"] for each in whole["results"]] == [1, 2, 0]
    assert whole["results"][0]["relevance_score"] == pytest.approx(1, abs=1e-6)
    assert "document" not in whole["results"][0]
    assert whole["usage"]["total_tokens"] > 0
    assert [each["document"] for each in cut["results"]] == [{"text": "the tax form"}]


def test_tokenize_speaks_both_dialects(running: Gateway) -> None:
    """llama-server's words and vLLM's, each with its own defaults and its own answer."""
    assert good(running, "/tokenize", {"content": "hi"}) == {"tokens": [104, 105]}
    assert good(running, "/tokenize", {"content": "hi", "add_special": True}) == {"tokens": [104, 105, END]}
    assert good(running, "/tokenize", {"content": "ü", "with_pieces": True}) == {
        "tokens": [{"id": 0xC3, "piece": [0xC3]}, {"id": 0xBC, "piece": [0xBC]}]
    }
    prompt = good(running, "/tokenize", {"model": "default", "prompt": "hi", "return_token_strs": True})
    assert prompt["count"] == 3
    assert prompt["tokens"] == [104, 105, END]
    assert prompt["token_strs"] == ["h", "i", "<|end|>"]
    assert prompt["max_model_len"] == 8192
    assert good(running, "/tokenize", {"prompt": "hi", "add_special_tokens": False})["count"] == 2
    turns = [{"role": "user", "content": "hi"}]
    assert good(running, "/tokenize", {"messages": turns})["count"] == 5


def test_control_tokens_need_an_explicit_wish(running: Gateway) -> None:
    """A caller's text becomes a control token only with `parse_special: true`."""
    text = "<|end|>"
    assert good(running, "/tokenize", {"content": text})["tokens"] == list(text.encode())
    assert good(running, "/tokenize", {"content": text, "parse_special": True})["tokens"] == [END]
    assert good(running, "/detokenize", {"tokens": [104, END]}) == {
        "content": "h<|end|>",
        "prompt": "h<|end|>",
    }


def test_counts_are_those_of_the_chat(running: Gateway) -> None:
    """What the count says is what a chat's usage says."""
    chat = running.chat("how many?").json()["usage"]["prompt_tokens"]
    text = good(running, "/v1/responses/input_tokens", {"model": "default", "input": "how many?"})
    items = good(
        running,
        "/v1/responses/input_tokens",
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "how many?"}]}]},
    )

    assert text == items == {"object": "response.input_tokens", "input_tokens": chat}
    longer = {"input": "how many?", "instructions": "be brief"}
    assert good(running, "/v1/responses/input_tokens", longer)["input_tokens"] > chat


def embed(**body: Any) -> tuple[str, dict[str, Any]]:
    return EMBED, {"model": "default", **body}


def rerank(**body: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/rerank", {"query": "q", "documents": ["d"], **body}


def count(**body: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/responses/input_tokens", body


REFUSED: dict[str, tuple[tuple[str, dict[str, Any]], str, str | None]] = {
    "empty text": (embed(input=""), "invalid_value", "input"),
    "empty text in a list": (embed(input=["a", ""]), "invalid_value", "input[1]"),
    "empty array": (embed(input=[[1], []]), "invalid_value", "input[1]"),
    "nothing": (embed(input=[]), "invalid_value", "input"),
    "too many": (embed(input=["a"] * 2049), "invalid_value", "input"),
    "mixed": (embed(input=["a", [1]]), "invalid_type", "input"),
    "number": (embed(input=5), "invalid_type", "input"),
    "fraction": (embed(input=[1.5]), "invalid_type", "input[0]"),
    "negative token": (embed(input=[-1]), "invalid_value", "input[0]"),
    "huge token": (embed(input=[2**80]), "invalid_value", "input[0]"),
    "format": (embed(input="a", encoding_format="int8"), "invalid_value", "encoding_format"),
    "no model": ((EMBED, {"input": "a"}), "missing_required_parameter", "model"),
    "unknown model": (embed(input="a", model="gpt-9"), "model_not_found", "model"),
    "unknown word": (embed(input="a", colour=1), "unknown_parameter", "colour"),
    "no documents": (rerank(documents=[]), "invalid_value", "documents"),
    "empty query": (rerank(query=""), "invalid_value", "query"),
    "empty document": (rerank(documents=["d", ""]), "invalid_value", "documents[1]"),
    "top 0": (rerank(top_n=0), "invalid_value", "top_n"),
    "many documents": (rerank(documents=["d"] * 1001), "invalid_value", "documents"),
    "no source": (("/tokenize", {}), "missing_required_parameter", "content"),
    "special messages": (
        ("/tokenize", {"messages": [{"role": "user", "content": "a"}], "parse_special": True}),
        "unsupported_parameter",
        "parse_special",
    ),
    "two sources": (("/tokenize", {"content": "a", "prompt": "b"}), "invalid_value", "prompt"),
    "no tokens": (("/detokenize", {}), "missing_required_parameter", "tokens"),
    "text for tokens": (("/detokenize", {"tokens": "abc"}), "invalid_type", "tokens"),
    "huge detokenize": (("/detokenize", {"tokens": [2**31]}), "invalid_value", "tokens[0]"),
    "tools": (count(input="a", tools=[{"type": "mcp"}]), "unsupported_parameter", "tools[0].type"),
    "no input": (count(model="default"), "missing_required_parameter", "input"),
}
TURNS = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
AFTER_THE_OPENING: dict[str, tuple[tuple[str, dict[str, Any]], str, str | None]] = {
    "token not there": (embed(input=[[1], [9999]]), "invalid_value", "input[1]"),
    "too long": (embed(input=["a", "x" * 3000]), "context_length_exceeded", "input[1]"),
    "dimensions": (embed(input="a", dimensions=8), "unsupported_parameter", "dimensions"),
    "long document": (rerank(documents=["x" * 3000]), "context_length_exceeded", "documents[0]"),
    "detokenize not there": (("/detokenize", {"tokens": [9999]}), "invalid_value", "tokens"),
    "template": (count(input=TURNS), "template_error", "input"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_opening(running: Gateway, case: str) -> None:
    """Each mistake: its status, code and place, and one `request:refused` on the record."""
    (path, body), code, param = REFUSED[case]
    answer = post(running, path, body)
    status = 404 if code == "model_not_found" else 400

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["error"]["param"] == param
    found = records(running, answer.headers["x-request-id"])
    assert [(each.kind, each.public["code"], each.public["route"]) for each in found] == [
        (Kind.REQUEST_REFUSED, code, path)
    ]


@pytest.mark.parametrize("case", AFTER_THE_OPENING)
def test_refused_by_the_worker(running: Gateway, case: str) -> None:
    """What only the worker can know has an opening, a closing that says why, and kills nobody."""
    (path, body), code, param = AFTER_THE_OPENING[case]
    worker = running.worker_pid
    answer = post(running, path, body)

    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    closing = closing_of(running.home, answer.headers["x-request-id"])
    assert (closing.public["outcome"], closing.public["code"]) == ("failed", code)
    assert running.worker_pid == worker


@pytest.mark.parametrize("path", ROUTES)
def test_only_kiosks_ask(running: Gateway, path: str) -> None:
    """No key is 401, another role 403; both before the body is read."""
    body, _ = ROUTES[path]
    assert post(running, path, body, role=None).status_code == 401
    assert post(running, path, body, role=Role.AUDITOR).status_code == 403


def test_audit_show_tells_what_was_asked(running: Gateway) -> None:
    """An auditor reads inputs line by line, and learns why there are no vectors."""
    embedded = post(running, EMBED, {"model": "default", "input": ["first text", "second text"]})
    counted = post(running, "/v1/responses/input_tokens", {"input": "hello"})
    ranked = post(running, "/v1/rerank", {"query": "which?", "documents": ["this"]})
    told = [
        appliance("audit", "show", each.headers["x-request-id"], home=running.home).stdout
        for each in (embedded, counted, ranked)
    ]

    assert "input[0]> first text\n" in told[0]
    assert "input[1]> second text\n" in told[0]
    assert "vectors, not kept" in told[0]
    assert "user> hello\n" in told[1]
    assert "query> which?" in told[2]
    assert "document[0]> this" in told[2]
    assert '"method": "cosine"' in told[2]
