"""A key whose words are not kept: a question's whole life, and no word of it in what anybody can open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.accounts.terms_form import form_of
from appliance.audit import query, shares
from appliance.audit.kinds import Kind
from appliance.audit.query import Opened
from appliance.commands import ChangeKey, CreateKey
from appliance.core import Role
from appliance.terms import Capture, Terms
from tests.acts import dev_auditor
from tests.harness import Gateway, appliance, gateway, question, sse
from tests.records import assert_verified

pytestmark = pytest.mark.integration
WORD = "zebra-quartz-8842"
BASIS = "works agreement 7, approved by the data protection officer"
METADATA = Terms(capture=Capture.METADATA, capture_basis=BASIS)
CHAT = "/v1/chat/completions"
REQUEST_KINDS = (Kind.REQUEST_OPENED, Kind.REQUEST_SEGMENT, Kind.REQUEST_CLOSED)
SCHEMA = {
    "type": "object",
    "properties": {WORD: {"type": "boolean"}},
    "required": [WORD],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "lookup", "description": WORD, "parameters": SCHEMA}}
SAID = f"echo: {WORD}"
TURNS = [{"role": "system", "content": WORD}, {"role": "user", "content": SAID}]

# Everything that can carry words, by every way in.
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, question(SAID, n=2, logprobs=True, top_logprobs=2, stop=[f"x{WORD}"], logit_bias={"120": -1})),
    (CHAT, question(SAID, stream=True, metadata={"note": WORD})),
    (CHAT, question(SAID, tools=[TOOL], safety_identifier="citizen-17")),
    (CHAT, question("x", response_format={"type": "json_schema", "json_schema": {
        "name": "x", "description": WORD, "schema": SCHEMA}})),
    (CHAT, {"model": "default", "messages": TURNS, "prompt_cache_key": "talk-1", "temperature": 0.25}),
    ("/v1/completions", {"model": "default", "prompt": [SAID, WORD], "stream": True}),
    ("/v1/responses", {"model": "default", "input": SAID, "instructions": WORD, "metadata": {"a": WORD}}),
    ("/v1/messages", question(SAID, max_tokens=64, system=WORD, stream=True)),
    ("/v1/messages/count_tokens", question(SAID, system=WORD)),
    ("/v1/embeddings", {"model": "default", "input": [WORD, SAID]}),
    ("/v1/rerank", {"model": "default", "query": WORD, "documents": [WORD, "y"]}),
    ("/tokenize", {"content": WORD, "with_pieces": True}),
    ("/detokenize", {"tokens": list(WORD.encode())}),
    ("/v1/responses/input_tokens", {"model": "default", "input": WORD}),
    (CHAT, question(f"please fail {WORD} say 9 tokens")),
]  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("capture") / "home") as started:
        yield started


@pytest.fixture(scope="module")
def client(running: Gateway) -> Iterator[httpx.Client]:
    token = running.key(terms=METADATA)
    with running.client(None, headers={"authorization": f"Bearer {token}"}) as made:
        yield made


def opened(running: Gateway, since: int = -1) -> list[Opened]:
    """Every entry behind `since`, with what the auditor of this home can open of it; the oldest first."""
    place = running.home.database
    records = [each for each in query.search(place, limit=10_000) if each.seq > since][::-1]
    ids = [bytes.fromhex(each) for each in query.shares_of(records)]
    held = {each.hex(): secret for each, secret in shares.release(running.home, ids).items()}
    return query.open_records(place, records, [dev_auditor(running.home)], held)


def of(running: Gateway, answer: httpx.Response) -> list[Opened]:
    return [each for each in opened(running) if each.record.request_id == answer.headers["x-request-id"]]


def ask(client: httpx.Client, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    with client.stream("POST", path, json=body, headers=headers) as answer:
        answer.read()
    return answer


def test_no_word_is_in_anything_that_anybody_opens(running: Gateway, client: httpx.Client) -> None:
    """Asked in every way there is, streamed and not; the caller gets it all, the record has no word of it."""
    since = query.search(running.home.database, limit=1)[0].seq
    answers = [ask(client, path, body) for path, body in QUESTIONS]
    running.wait_ready()
    found = [each for each in opened(running, since) if each.record.kind in REQUEST_KINDS]

    assert [each.status_code for each in answers] == [200] * (len(QUESTIONS) - 1) + [503]
    assert sum(WORD in each.text for each in answers) >= 7
    assert {each.record.kind for each in found} == set(REQUEST_KINDS)
    kept = "\n".join(
        json.dumps([each.record.public, each.content], ensure_ascii=False, default=str) for each in found
    )
    assert WORD not in kept
    assert "lookup" not in kept
    assert "logit" not in kept
    digests = {hashlib.sha256(each.encode()).hexdigest() for each in (WORD, SAID, f"{WORD}{WORD}", "")}
    assert not any(each in kept for each in digests)
    assert all(each.record.public["capture"] == "metadata" for each in found)
    assert all(each.content is None for each in found if each.record.kind is not Kind.REQUEST_OPENED)


def test_who_when_and_how_much_is_kept(running: Gateway, client: httpx.Client) -> None:
    """The opening says who asked, in which numbers and why no words are here; tokens are as always."""
    slow = f"please be slow {SAID}"
    body = question(slow, stream=True, user="citizen-17", temperature=0.25, metadata={"a": WORD})
    answer = ask(client, CHAT, body | {"prompt_cache_key": "talk-1"})
    first, *segments, last = of(running, answer)

    assert [json.loads(x)["choices"] != [] for x in answer.text.split("data: ")[1:2]] == [True]
    content = first.content or {}
    assert content["capture_basis"] == BASIS
    assert content["principal"]["name"].startswith("test-kiosk")
    assert content["caller"]["address"] == "127.0.0.1"
    assert content["annotations"] == {"user": "citizen-17", "session": "talk-1"}
    assert content["sampling"]["temperature"] == "0.25"
    assert set(content) == {"sampling", "annotations", "capture_basis", "principal", "caller"}
    assert segments
    said = last.record.public
    pieces = [int(each.record.public["num_tokens"]) for each in segments]
    assert 0 < sum(pieces) <= int(said["completion_tokens"])
    assert (said["outcome"], said["output_sha256"], said["num_segments"]) == ("stop", "", len(segments))
    assert int(said["prompt_tokens"]) > 0
    assert int(said["completion_tokens"]) > len(WORD) // 2


def test_other_keys_keep_every_word(running: Gateway) -> None:
    """The control: the same question under another key is there, and says nothing of its capture."""
    with running.client() as client:
        answer = ask(client, CHAT, question(SAID, stream=True))
    found = of(running, answer)

    assert SAID in json.dumps(found[0].content)
    assert all("capture" not in each.record.public for each in found)
    assert len(str(found[-1].record.public["output_sha256"])) == 64


def test_what_would_need_words_is_refused_in_words(running: Gateway, client: httpx.Client) -> None:
    """Reproducible answers and stored ones; a replay of what was asked says why it can not be."""
    refused = client.post(CHAT, json=question(SAID, reproducible=True))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_reproducible")
    stored = client.post("/v1/responses", json={"model": "default", "input": SAID, "store": True})
    assert (stored.status_code, stored.json()["error"]["code"]) == (403, "store_not_allowed")
    answer = client.post(CHAT, json=question(SAID))

    again = appliance("audit", "replay", answer.headers["x-request-id"], home=running.home, check=False)

    assert again.returncode == 2
    assert "no words are kept" in again.stderr


def test_asked_again_it_is_told_again(running: Gateway, client: httpx.Client) -> None:
    """An idempotency key works as ever: what is told again comes from memory, and its record has no word."""
    header = {"idempotency-key": f"again-{WORD}"}
    first, second = (ask(client, CHAT, question(SAID), **header) for _ in range(2))

    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    kept = [*of(running, first), *of(running, second)]
    assert [each.record.kind for each in kept] == [
        Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED, Kind.REQUEST_REPLAYED,
    ]  # fmt: skip
    assert WORD not in json.dumps([each.content for each in kept])


def test_auditors_are_told_that_there_are_no_words(
    running: Gateway, client: httpx.Client, tmp_path: Path
) -> None:
    """Shown, looked for by its person, searched for a text, and handed out as evidence."""
    answer = client.post(CHAT, json=question(SAID, user="citizen-99"))
    home = running.home
    shown = appliance("audit", "show", answer.headers["x-request-id"], home=home).stdout
    assert "of this key no words are kept" in shown
    assert BASIS in shown
    named = appliance("audit", "search", "--user", "citizen-99", "--json", home=home).stdout
    assert answer.headers["x-request-id"] in named
    looked = appliance("audit", "search", "--text", "citizen-99", "--user", "citizen-99", "--json", home=home)
    told = json.loads(looked.stdout)
    assert (len(told["matches"]), told["num_without_words"]) == (1, 1)
    assert "no words are kept" in looked.stderr
    seq = answer.headers["x-audit-record"].rpartition("/")[2]
    case = tmp_path / "case.zip"
    appliance(
        "audit", "export", seq, "--purpose", "court order", "--identity",
        str(home.keys / "dev-auditor.identity"), "--out", str(case), home=home,
    )  # fmt: skip
    checked = appliance("audit", "check-evidence", str(case), "--vkey", str(home.keys / "log.vkey"))
    assert checked.returncode == 0


def test_a_change_of_capture_holds_from_the_next_question_on(running: Gateway) -> None:
    """What runs ends as it began; the record of the key says when, and on which ground."""
    made = running.command(CreateKey(name="turning", role=Role.KIOSK))
    with running.client(None, headers={"authorization": f"Bearer {made['token']}"}) as client:
        with client.stream("POST", CHAT, json=question(f"please be slow {SAID}", stream=True)) as before:
            lines = sse(before.iter_lines())
            next(lines)
            running.command(ChangeKey(name_or_id="turning", terms=form_of(METADATA)))
            assert "[DONE]" in list(lines)
        after = ask(client, CHAT, question(SAID))

    assert all("capture" not in each.record.public for each in of(running, before))
    assert all(each.record.public["capture"] == "metadata" for each in of(running, after))
    changed = [each for each in opened(running) if each.record.kind is Kind.KEY_CHANGED][-1]
    assert changed.record.public["capture"] == "metadata"
    assert (changed.content or {})["terms"] == {"capture": "metadata", "capture_basis": BASIS}


def test_the_record_is_whole(running: Gateway) -> None:
    """Entries without words are entries like any other."""
    assert_verified(running.home)
