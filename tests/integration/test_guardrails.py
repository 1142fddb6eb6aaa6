"""Rules through a whole gateway: on every endpoint, on streams, on the record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import WithdrawDocument
from appliance.core import Genre, Role
from appliance.terms import Capture, Terms
from tests.guarded import RULES, USER, client_of, code_of, publish, recorded
from tests.harness import Gateway, gateway, question, sse

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with rules that no key has unless it says so."""
    with gateway(tmp_path_factory.mktemp("guarded") / "home") as running:
        publish(running, Genre.GUARDRAILS, "strict", RULES)
        yield running


@pytest.fixture(scope="module")
def ruled(guarded: Gateway) -> Iterator[httpx.Client]:
    with client_of(guarded, Terms(guardrails="strict")) as made:
        yield made


def test_default_rules_hold_for_keys_that_name_none(tmp_path: Path) -> None:
    """From their publication on; a key that names what was taken away is never served without."""
    with gateway(tmp_path / "home") as running:
        publish(running, Genre.GUARDRAILS, "gone", RULES)
        with client_of(running, Terms(guardrails="gone")) as lost:
            running.command(WithdrawDocument(document=Genre.GUARDRAILS, reference="gone"))
            assert running.chat("say larkspur").status_code == 200
            unavailable = lost.post("/v1/chat/completions", json=question("x"))
            assert code_of(unavailable) == (503, "guardrails_unavailable", None)
            publish(running, Genre.GUARDRAILS, "default", RULES)
            refused = running.chat("say larkspur")
            assert code_of(refused) == (400, "content_policy_violation", "messages[0].content")
            assert lost.post("/v1/chat/completions", json=question("x")).status_code == 503


INPUTS: Final = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "LARK\u200bSPUR"}]}),
    (
        "/v1/chat/completions",
        {
            "messages": USER,
            "tools": [{"type": "function", "function": {"name": "f", "description": "larkspur"}}],
        },
    ),
    ("/v1/completions", {"prompt": "about larkspur"}),
    ("/v1/responses", {"input": "about larkspur"}),
    ("/v1/responses", {"input": "x", "instructions": "about larkspur"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "larkspur"}], "max_tokens": 9}),
    ("/v1/embeddings", {"input": ["x", "larkspur"]}),
    ("/v1/rerank", {"query": "x", "documents": ["larkspur"]}),
    ("/tokenize", {"content": "larkspur"}),
]


@pytest.mark.parametrize(("path", "body"), INPUTS, ids=[each[0] for each in INPUTS])
def test_refused_words_reach_no_worker(
    guarded: Gateway, ruled: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    """400 with the rule's message and id; the record has the words, the verdict, and an end by the filter."""
    answer = ruled.post(path, json=body if path == "/tokenize" else {"model": "default", **body})

    assert answer.status_code == 400
    assert "Ask somebody else. (rule codename)" in answer.json()["error"]["message"]
    kept = recorded(guarded, answer)
    (verdict,) = kept[Kind.REQUEST_OPENED]["guardrails"]["verdicts"]
    assert (verdict["rule"], verdict["action"]) == ("codename", "refuse")
    closing = query.search(guarded.home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0]
    assert (closing.public["outcome"], closing.public["code"]) == (
        "content_filter", "content_policy_violation",
    )  # fmt: skip
    assert closing.public["prompt_tokens"] == 0


def test_redacted_words_are_on_the_record_only(guarded: Gateway, ruled: httpx.Client) -> None:
    """The model is told the replacement; what stood there is sealed beside the verdict, with its place."""
    answer = ruled.post("/v1/chat/completions", json=question("echo: call 555-0199 or 555-0100, odd"))

    assert answer.json()["choices"][0]["message"]["content"] == "call [number] or 555-0100, odd"
    opening = recorded(guarded, answer)[Kind.REQUEST_OPENED]
    assert opening["messages"][0]["content"] == "echo: call [number] or 555-0100, odd"
    assert opening["originals"] == {"messages[0].content": "echo: call 555-0199 or 555-0100, odd"}
    assert opening["guardrails"]["name"] == "strict"
    assert [(each["rule"], each["action"], each["begin"]) for each in opening["guardrails"]["verdicts"]] == [
        ("phone", "redact", 11), ("own", "allow", 23), ("odd", "flag", 33),
    ]  # fmt: skip


def test_token_ids_and_log_probabilities_go_past_no_rule(ruled: httpx.Client) -> None:
    """What rules can not read, or what would tell of what they keep in, is refused."""
    ids = ruled.post("/v1/completions", json={"model": "default", "prompt": [101, 102]})
    vectors = ruled.post("/v1/embeddings", json={"model": "default", "input": [101, 102]})
    logprobs = ruled.post("/v1/chat/completions", json=question("x", logprobs=True))

    assert code_of(ids) == (400, "unsupported_parameter", "prompt")
    assert code_of(vectors) == (400, "unsupported_parameter", "input")
    assert code_of(logprobs) == (400, "unsupported_parameter", "logprobs")


def streamed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, str, list[Any]]:
    """The text of a stream, why it ended, and its events."""
    with client.stream("POST", path, json={"model": "default", "stream": True, **body}) as answer:
        assert answer.status_code == 200, answer.read()
        events = [each for each in sse(answer.iter_lines()) if isinstance(each, dict)]
    text = reason = ""
    for each in events:
        for choice in each.get("choices", ()):
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
            reason = choice["finish_reason"] or reason
        if each.get("type") == "response.output_text.delta":
            text += each["delta"]
        if each.get("type") in {"response.completed", "response.incomplete"}:
            reason = (each["response"]["incomplete_details"] or {}).get("reason", "stop")
        if each.get("type") == "content_block_delta":
            text += each["delta"].get("text", "")
        if each.get("type") == "message_delta":
            reason = each["delta"]["stop_reason"]
    return text, reason, events


ASKS: Final[Mapping[str, Callable[[str], dict[str, Any]]]] = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/completions": lambda text: {"prompt": text, "max_tokens": 200},
    "/v1/responses": lambda text: {"input": text},
    "/v1/messages": lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": 200},
}


@pytest.mark.parametrize("path", ASKS)
def test_an_answer_ends_before_what_a_rule_refuses(guarded: Gateway, ruled: httpx.Client, path: str) -> None:
    """On every endpoint that answers in words: nothing of the match leaves, and the end is a filter's."""
    asked = ASKS[path]("echo: it is BEGIN RSA KEY abc and much more")
    text, reason, events = streamed(ruled, path, asked)

    assert text == "it is \n\nNothing more."
    assert reason in {"content_filter", "refusal"}
    assert "BEGIN" not in json.dumps(events)
    closing = query.search(guarded.home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0]
    assert closing.public["outcome"] == "content_filter"


def test_whole_answers_say_what_streams_say(guarded: Gateway, ruled: httpx.Client) -> None:
    """The same text, the same end, and the verdict with its place in the closing."""
    asked = {"messages": [{"role": "user", "content": "echo: it is BEGIN RSA KEY abc"}]}
    text, _, _ = streamed(ruled, "/v1/chat/completions", asked)
    answer = ruled.post("/v1/chat/completions", json={"model": "default", **asked})

    (choice,) = answer.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "content_filter")
    closing = recorded(guarded, answer)[Kind.REQUEST_CLOSED]
    assert closing["verdicts"] == [{"at": "text", "rule": "key", "action": "refuse", "begin": 6, "end": 19}]
    assert "BEGIN RSA KEY" in closing["output"]


@pytest.mark.parametrize("path", ASKS)
def test_redacted_answers_are_whole_on_the_record(guarded: Gateway, ruled: httpx.Client, path: str) -> None:
    """Callers get the replacement, whatever pieces the worker sends; the record has what the model wrote."""
    asked = ASKS[path]("echo: take FORM-12, FORM-\u200b7788 and FORM-1")
    text, reason, events = streamed(ruled, path, asked)
    answer = ruled.post(path, json={"model": "default", **asked})
    kept = recorded(guarded, answer)[Kind.REQUEST_CLOSED]

    assert text == "take [form], [form] and FORM-1"
    assert reason in {"stop", "end_turn"}
    assert "FORM-12" not in json.dumps(events) + answer.text
    assert json.dumps(text)[1:-1] in answer.text
    assert kept["output"] == "take FORM-12, FORM-\u200b7788 and FORM-1"
    assert [(each["rule"], each["at"], each["begin"]) for each in kept["verdicts"]] == [
        ("form", "text", 5), ("form", "text", 14),
    ]  # fmt: skip


def test_of_several_choices_each_ends_by_itself(ruled: httpx.Client) -> None:
    """Every choice passes the rules on its own, streamed or not."""
    asked = question("echo: so BEGIN RSA KEY", n=3)
    whole = ruled.post("/v1/chat/completions", json=asked).json()["choices"]
    text, _, events = streamed(ruled, "/v1/chat/completions", asked)

    assert [(each["message"]["content"], each["finish_reason"]) for each in whole] == [
        ("so \n\nNothing more.", "content_filter")
    ] * 3
    assert len(text) == 3 * len("so \n\nNothing more.")
    assert "BEGIN" not in json.dumps(events)


def test_a_refused_answer_frees_the_worker(guarded: Gateway, ruled: httpx.Client) -> None:
    """The worker is told to stop: the record closes with a few tokens of many."""
    asked = {"messages": [{"role": "user", "content": "please be slow, echo: BEGIN RSA KEY " + "x" * 400}]}
    streamed(ruled, "/v1/chat/completions", asked)

    closing = query.search(guarded.home.database, kind=Kind.REQUEST_CLOSED, limit=1)[0]
    assert 0 < int(closing.public["completion_tokens"]) < 60


def test_the_same_question_again_is_told_the_same(guarded: Gateway, ruled: httpx.Client) -> None:
    """Under an idempotency key the redacted answer comes again, and what was refused is asked anew."""
    headers = {"idempotency-key": "k-1"}
    asked = question("echo: call 555-0199")
    answers = [ruled.post("/v1/chat/completions", json=asked, headers=headers) for _ in range(2)]
    refused = [
        ruled.post("/v1/chat/completions", json=question("larkspur"), headers={"idempotency-key": "k-2"})
        for _ in range(2)
    ]

    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert [each.status_code for each in refused] == [400, 400]
    del guarded


def test_metadata_only_keys_leave_no_word(guarded: Gateway) -> None:
    """Where no words are kept, none is kept of what rules took out; the verdicts are."""
    terms = Terms(guardrails="strict", capture=Capture.METADATA, capture_basis="decided by the board")
    with client_of(guarded, terms) as client:
        answer = client.post("/v1/chat/completions", json=question("echo: call 555-0199"))
    opening = recorded(guarded, answer)[Kind.REQUEST_OPENED]

    assert "originals" not in opening
    assert opening["guardrails"]["verdicts"][0]["rule"] == "phone"


def test_metrics_count_verdicts_by_action(guarded: Gateway, ruled: httpx.Client) -> None:
    """Sides and actions, and no word of any rule."""
    ruled.post("/v1/chat/completions", json=question("echo: call 555-0199"))
    with guarded.client(Role.OPERATOR) as operator:
        text = operator.get("/metrics").text

    assert 'appliance_guardrail_verdicts_total{action="redact",side="input"}' in text
    assert "phone" not in text
