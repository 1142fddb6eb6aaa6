"""Responses that a key has stored: for that key only, on the record, and gone with their person."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import CreateKey
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway, stored_response
from tests.integration.test_ceremonies import approve, identity
from tests.records import assert_verified

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("stored") / "home") as started:
        started.key(Role.KIOSK, stores_responses=True)
        yield started
        started.stop()
        assert_verified(started.home)


@contextlib.contextmanager
def client_of(running: Gateway, token: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{running.url}/v1", api_key=token, max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


@pytest.fixture
def client(running: Gateway) -> Iterator[openai.OpenAI]:
    with client_of(running, running.key()) as made:
        yield made


def another(running: Gateway, name: str, *, stores: bool) -> str:
    """A fresh key."""
    made = running.command(CreateKey(name=name, role=Role.KIOSK, stores_responses=stores))
    token: str = made["token"]
    return token


def kinds_since(running: Gateway, seq: int) -> list[Kind]:
    found = query.search(running.home.database, limit=1000)
    surroundings = {Kind.EPOCH_OPENED, Kind.INDEX_OPENED, Kind.LOG_HEARTBEAT}
    return [each.kind for each in reversed(found) if each.seq > seq and each.kind not in surroundings]


def newest(running: Gateway) -> int:
    return int(query.search(running.home.database, limit=1)[0].seq)


def test_a_conversation_goes_on_from_what_was_stored(running: Gateway, client: openai.OpenAI) -> None:
    """The model is told everything that was said; instructions are not carried along."""
    first = client.responses.create(
        model="default", input="echo: one", instructions="be brief", store=True, stream=False
    )
    before = newest(running)
    with client.responses.stream(
        model="default", input="echo: two", previous_response_id=first.id, store=True
    ) as stream:
        second = stream.get_final_response()
    third = client.responses.create(model="default", input="echo: three", previous_response_id=second.id)
    same = client.responses.create(
        model="default",
        input=[
            {"role": "user", "content": "echo: one"},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "echo: two"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "echo: three"},
        ],
    )

    assert (second.output_text, third.output_text) == ("two", "three")
    assert third.previous_response_id == second.id
    assert third.usage is not None
    assert same.usage is not None
    assert third.usage.input_tokens == same.usage.input_tokens
    counted = client.responses.input_tokens.count(
        model="default", input="echo: three", previous_response_id=second.id
    )
    assert counted.input_tokens == third.usage.input_tokens
    left = [each for each in kinds_since(running, before) if each is not Kind.REQUEST_SEGMENT]
    assert left[:4] == [
        Kind.RESPONSE_READ,
        Kind.REQUEST_OPENED,
        Kind.REQUEST_CLOSED,
        Kind.RESPONSE_STORED,
    ]


def test_what_was_stored_is_shown_listed_and_removed(running: Gateway, client: openai.OpenAI) -> None:
    """As it was answered; its conversation in pages, the newest first; and then not found."""
    asked: list[Any] = [
        {"role": "developer", "content": "rules"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"role": "user", "content": "echo: x"},
    ]
    made = client.responses.create(model="default", input=asked, store=True, metadata={"a": "b"})
    before = newest(running)
    again = client.responses.retrieve(made.id)
    page = client.responses.input_items.list(made.id, limit=2)
    everything = list(client.responses.input_items.list(made.id, order="asc", limit=2))
    shown = kinds_since(running, before)
    client.responses.delete(made.id)

    assert again.to_dict() == made.to_dict()
    assert made.to_dict()["store"] is True
    assert [each.type for each in page.data] == ["message", "function_call_output"]
    assert page.has_more
    assert [each.type for each in everything] == [
        "message", "reasoning", "function_call", "function_call_output", "message",
    ]  # fmt: skip
    assert len({each.id for each in everything}) == 5
    assert set(shown) == {Kind.RESPONSE_READ}
    assert kinds_since(running, before)[-1] is Kind.RESPONSE_DELETED
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.retrieve(made.id)
    assert gone.value.code == "not_found"


def test_another_key_finds_nothing(running: Gateway, client: openai.OpenAI) -> None:
    """With the permission and the id, and still not its own."""
    made = client.responses.create(model="default", input="echo: x", store=True)
    with client_of(running, another(running, "neighbour", stores=True)) as other:
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.delete(made.id)
        with pytest.raises(openai.BadRequestError) as unknown:
            other.responses.create(model="default", input="x", previous_response_id=made.id)
    assert (unknown.value.code, unknown.value.param) == (
        "previous_response_not_found",
        "previous_response_id",
    )
    assert client.responses.retrieve(made.id).output_text == "x"


def test_without_the_permission_nothing_is_stored(running: Gateway) -> None:
    """Refused clearly and on the record; left out, `store` is false."""
    with client_of(running, another(running, "stateless", stores=False)) as other:
        for asked in ({"store": True}, {"previous_response_id": "resp_1"}):
            before = newest(running)
            with pytest.raises(openai.PermissionDeniedError) as refused:
                other.responses.create(model="default", input="x", **asked)
            assert (refused.value.code, refused.value.param) == ("store_not_allowed", next(iter(asked)))
            assert kinds_since(running, before) == [Kind.REQUEST_REFUSED]
        with pytest.raises(openai.PermissionDeniedError):
            other.responses.retrieve("resp_1")
        assert other.responses.create(model="default", input="x").to_dict()["store"] is False


@pytest.mark.parametrize(
    ("query_string", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=x", "after"),
        ("colour=red", None),
    ],
)
def test_mistakes_in_the_query_are_named(running: Gateway, query_string: str, param: str | None) -> None:
    """By parameter, and one that is not known is refused."""
    made = stored_response(running)
    with running.client() as client:
        answer = client.get(f"/v1/responses/{made}/input_items?{query_string}")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_what_is_stored_outlives_a_restart_and_holds_no_words(tmp_path: Path) -> None:
    """No file of the home shows what was said; with the key it is there again."""
    with gateway(tmp_path / "home") as running:
        running.key(Role.KIOSK, stores_responses=True)
        made = stored_response(running, "echo: canary-4711", user="canary-person")
        running.stop()
        held = b"".join(path.read_bytes() for path in running.home.root.glob("*") if path.is_file())
        assert b"canary" not in held
        running.start()
        running.wait_ready()
        with client_of(running, running.key()) as client:
            assert client.responses.retrieve(made).output_text == "canary-4711"


def test_erasing_a_person_removes_their_stored_responses(tmp_path: Path) -> None:
    """Also where another's question goes on from theirs; what others stored stays."""
    with gateway(tmp_path / "home") as running:
        running.key(Role.KIOSK, stores_responses=True)
        dev = str(running.home.keys / "dev-auditor.identity")
        paul = identity(tmp_path, "paul")
        add, act = tmp_path / "add.act", tmp_path / "erase.act"
        appliance("auditor", "add", str(tmp_path / "paul.recipient"), "--role", "privacy", "--out", str(add),
                  home=running.home)  # fmt: skip
        approve(running, add, dev)
        doomed = stored_response(running, user="citizen-17")
        goes_on = stored_response(running, user="citizen-18", previous_response_id=doomed)
        stays = stored_response(running, user="citizen-18")
        appliance("audit", "erase", "--user", "citizen-17", "--reason", "asked", "--basis", "law",
                  "--out", str(act), home=running.home)  # fmt: skip
        approve(running, act, paul, dev)

        with running.client() as client:
            found = {
                each: client.get(f"/v1/responses/{each}").status_code for each in (doomed, goes_on, stays)
            }
        assert found == {doomed: 404, goes_on: 404, stays: 200}
        assert_verified(running.home)


def test_keys_are_listed_with_what_they_may(running: Gateway) -> None:
    """`key create --store-responses`, `key list`; for a key that asks nothing it is refused."""
    made = appliance(
        "key", "create", "shelf", "--role", "kiosk", "--store-responses", home=running.home
    ).stdout
    plain = appliance("key", "create", "plain", "--role", "kiosk", "--json", home=running.home).stdout
    listed = json.loads(appliance("key", "list", "--json", home=running.home).stdout)["keys"]
    wrong = appliance("key", "create", "w", "--role", "operator", "--store-responses", home=running.home,
                      check=False)  # fmt: skip

    assert "may store responses" in made
    assert json.loads(plain)["stores_responses"] is False
    assert {
        each["name"]: each["stores_responses"] for each in listed if each["name"] in {"shelf", "plain"}
    } == {
        "shelf": True,
        "plain": False,
    }
    assert wrong.returncode != 0
    assert "only a key that asks" in wrong.stderr
