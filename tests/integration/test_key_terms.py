"""A key's terms on a running appliance: what is not allowed is refused, on the record, and at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import config
from appliance.accounts.terms_form import form_of
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.query import Record
from appliance.catalog import Catalog
from appliance.commands import ChangeKey, CreateKey, ListKeys, PublishDocument, RotateKey
from appliance.core import Genre, Role
from appliance.terms import Endpoint, Limits, Terms
from tests.harness import Gateway, appliance, gateway, question
from tests.homes import make_home
from tests.records import assert_verified

pytestmark = pytest.mark.integration
CHAT = "/v1/chat/completions"
DEFAULT = config.Settings().default_model


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("terms") / "home") as started:
        yield started


def client_of(running: Gateway, token: str) -> httpx.Client:
    return running.client(None, headers={"authorization": f"Bearer {token}"})


def newest(running: Gateway) -> Record:
    return query.search(running.home.database, limit=1)[0]


def error_of(answer: httpx.Response) -> tuple[int, str, str | None]:
    said = answer.json()["error"]
    return answer.status_code, said["code"], said["param"]


# path → a body, and the kind of question that it is
QUESTIONS: list[tuple[str, Any, Endpoint]] = [
    (CHAT, question("echo: x"), Endpoint.CHAT),
    ("/v1/completions", {"model": "default", "prompt": "echo: x"}, Endpoint.COMPLETIONS),
    ("/v1/responses", {"model": "default", "input": "echo: x"}, Endpoint.RESPONSES),
    ("/v1/messages", question("echo: x", max_tokens=9), Endpoint.MESSAGES),
    ("/v1/embeddings", {"model": "default", "input": "x"}, Endpoint.EMBEDDINGS),
    ("/v1/rerank", {"model": "default", "query": "x", "documents": ["y"]}, Endpoint.RERANK),
    ("/tokenize", {"content": "x"}, Endpoint.TOKENIZE),
    ("/detokenize", {"tokens": [1]}, Endpoint.DETOKENIZE),
    ("/v1/responses/input_tokens", {"model": "default", "input": "x"}, Endpoint.INPUT_TOKENS),
    ("/v1/messages/count_tokens", question("echo: x"), Endpoint.INPUT_TOKENS),
]


@pytest.mark.parametrize(("path", "body", "endpoint"), QUESTIONS, ids=[each[0] for each in QUESTIONS])
def test_key_asks_its_kinds_of_question_and_no_other(
    running: Gateway, path: str, body: Any, endpoint: Endpoint
) -> None:
    """One key may ask this kind and is answered; one for every other kind is refused, on the record."""
    only = running.key(terms=Terms(endpoints=(endpoint,)))
    others = running.key(terms=Terms(endpoints=tuple(each for each in Endpoint if each is not endpoint)))
    with client_of(running, only) as client:
        assert client.post(path, json=body).status_code == 200
    with client_of(running, others) as client:
        refused = client.post(path, json=body)

    said = refused.json()["error"]
    assert refused.status_code == 403
    assert (said.get("code") or said["type"]) in {"endpoint_not_allowed", "permission_error"}
    assert newest(running).kind is Kind.REQUEST_REFUSED
    assert newest(running).public["code"] == "endpoint_not_allowed"


def test_no_kind_of_question_is_forgotten() -> None:
    """Every word of the list has a route in the table above."""
    assert {endpoint for _, _, endpoint in QUESTIONS} == set(Endpoint)


def test_model_is_the_same_under_all_of_its_names(running: Gateway) -> None:
    """A key for an alias may use the id behind it, and a key for the id may use its aliases."""
    with running.client() as client:
        listed = client.get("/v1/models").json()["data"]
    names = sorted(each["id"] for each in listed)
    assert len(names) > 1
    for name in names:
        with client_of(running, running.key(terms=Terms(models=(name,)))) as client:
            assert sorted(each["id"] for each in client.get("/v1/models").json()["data"]) == names
            for each in names:
                assert client.post(CHAT, json=question("echo: x") | {"model": each}).status_code == 200


def test_key_for_another_model_has_none_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model has left the catalogue: it may use no other, under no name, and sees none."""
    home = make_home(tmp_path / "home")
    with monkeypatch.context() as patched, open_log_alone(home, config.load(home)) as alone:
        patched.setattr(Catalog, "resolve", lambda *_: True)
        made = alone.administration.create_key("gone", Role.KIOSK, terms=Terms(models=("gone",)))
        token = asyncio.run(made).new.token
    running = Gateway(home).start()
    try:
        with client_of(running, token) as client:
            assert client.get("/v1/models").json()["data"] == []
            for name in [each for spec in Catalog.load(home=home, default_model=DEFAULT).list()
                         for each in (spec.id, *spec.aliases)]:  # fmt: skip
                answer = client.post(CHAT, json=question("echo: x") | {"model": name})
                assert error_of(answer) == (403, "model_not_allowed", "model")
                assert newest(running).public["code"] == "model_not_allowed"
                assert error_of(client.get(f"/v1/models/{name}")) == (403, "model_not_allowed", "model")
            unknown = client.post(CHAT, json=question("echo: x") | {"model": "nowhere"})
            assert error_of(unknown) == (404, "model_not_found", "model")
    finally:
        running.stop()


@pytest.mark.parametrize("role", [Role.KIOSK, Role.OPERATOR, Role.AUDITOR])
def test_key_is_of_use_from_its_addresses_only(running: Gateway, role: Role) -> None:
    """On no route at all; refused as itself, so that the record says whose key was used from elsewhere."""
    here = running.key(role, terms=Terms(addresses=("127.0.0.0/8", "::1/128")))
    elsewhere = running.key(role, terms=Terms(addresses=("10.1.0.0/16",)))
    with client_of(running, here) as client:
        assert client.get("/readyz").status_code == 200
    with client_of(running, elsewhere) as client:
        for path in ("/readyz", "/v1/models", "/metrics", "/v1/audit/status", "/nowhere"):
            assert error_of(client.get(path)) == (403, "address_not_allowed", None)
        assert client.get("/healthz").status_code == 200

    told = newest(running)
    assert (told.kind, told.public["code"]) == (Kind.REQUEST_REFUSED, "address_not_allowed")
    id_of = elsewhere.split("_")[1]
    shown = appliance("audit", "show", str(told.seq), home=running.home).stdout
    assert id_of in shown


def test_change_holds_for_the_next_request(running: Gateway) -> None:
    """No restart, and the same token: it may, it may not, it may again."""
    made = running.command(CreateKey(name="changing", role=Role.KIOSK))
    with client_of(running, made["token"]) as client:
        assert client.get("/v1/models").status_code == 200
        running.command(ChangeKey(name_or_id="changing", terms=form_of(Terms(addresses=("10.1.0.0/16",)))))
        assert client.get("/v1/models").status_code == 403
        running.command(ChangeKey(name_or_id="changing", unset=["addresses"]))
        assert client.get("/v1/models").status_code == 200


def test_rotation_lets_both_secrets_in_until_its_end(running: Gateway) -> None:
    """The new one at once, the old one for the overlap, and the program is told until when."""
    old = running.command(CreateKey(name="turning", role=Role.KIOSK, terms=form_of(Terms(limits=Limits(9)))))
    new = running.command(RotateKey(name_or_id="turning", overlap_seconds=3600))
    for each in (old, new):
        with client_of(running, each["token"]) as client:
            assert client.get("/v1/models").status_code == 200
    assert new["terms"] == old["terms"] == {"limits": {"requests_per_minute": 9}}
    listed = {each["id"]: each for each in running.command(ListKeys())["keys"]}
    assert listed[old["id"]]["expires_us"] == new["replaced_until_us"]

    running.command(ChangeKey(name_or_id="turning", unset=["requests_per_minute"]))
    assert {each["id"] for each in running.command(ListKeys())["keys"] if not each["terms"]} >= {
        old["id"],
        new["id"],
    }


def test_program_says_everything_about_a_key(running: Gateway) -> None:
    """Made, changed, taken back, rotated and listed by the host's program, in words."""
    home = running.home
    for text in ("Answer at the counter.", "Answer at the counter, briefly."):
        running.command(PublishDocument(document=Genre.PROMPT, name="counter", text=text))
    appliance(
        "key", "create", "desk", "--role", "kiosk", "--models", "default", "--endpoints", "chat,embeddings",
        "--from", "10.1.0.0/16", "--from", "127.0.0.0/8", "--capture", "metadata", "--capture-basis",
        "agreement 7, approved by the works council", "--prompt", "counter@2", "--prefix-profile", "lobby",
        "--rpm", "60", "--priority", "0", "--client-certificate", ":".join(["AB"] * 32), home=home,
    )  # fmt: skip
    shown = appliance("key", "show", "desk", home=home).stdout
    for said in (
        "chat, embeddings", "10.1.0.0/16, 127.0.0.0/8", "no word of question or answer",
        "agreement 7, approved by the works council", "counter@2", "profile lobby",
        "60 requests a minute, priority 0", "ab" * 32, "not known",
    ):  # fmt: skip
        assert said in shown

    appliance(
        "key", "change", "desk", "--unset", "from", "--unset", "rpm", "--capture", "full", "--tpm", "900",
        home=home,
    )  # fmt: skip
    shown = appliance("key", "show", "desk", home=home).stdout
    assert "anywhere" in shown
    assert "every word, sealed" in shown
    assert "900 tokens a minute, priority 0" in shown
    told = appliance("key", "rotate", "desk", "--overlap", "12h", home=home).stdout
    assert "goes on until" in told
    assert appliance("key", "show", "desk", home=home).stdout.count("chat, embeddings") == 2
    assert "LAST USE" in appliance("key", "list", home=home).stdout


@pytest.mark.parametrize(
    "options",
    [
        ("--models", "nope"),
        ("--endpoints", "telepathy"),
        ("--from", "10.1.0.1/16"),
        ("--capture", "metadata"),
        ("--capture-basis", "why not"),
        ("--capture", "full", "--capture-basis", "why not"),
        ("--store-responses", "--capture", "metadata", "--capture-basis", "agreement 7"),
        ("--priority", "10"),
        ("--rpm", "0"),
        ("--client-certificate", "AB"),
    ],
)
def test_program_refuses_terms_that_can_not_be_kept(running: Gateway, options: tuple[str, ...]) -> None:
    """No key is made, and the reason is said."""
    done = appliance(
        "key", "create", "senseless", "--role", "kiosk", *options, home=running.home, check=False
    )

    assert done.returncode == 2
    assert "rror" in done.stderr
    assert [each for each in running.command(ListKeys())["keys"] if each["name"] == "senseless"] == []


def test_last_use_is_known_after_a_restart(tmp_path: Path) -> None:
    """What the list and the page of keys say of yesterday."""
    with gateway(tmp_path / "home") as started:
        with client_of(started, started.command(CreateKey(name="used", role=Role.KIOSK))["token"]) as client:
            assert client.get("/v1/models").status_code == 200
        started.command(CreateKey(name="unused", role=Role.KIOSK))
        assert started.stop() == 0
        started.start()
        used = {each["name"]: each["last_use_us"] for each in started.command(ListKeys())["keys"]}
        assert started.stop() == 0
        assert_verified(started.home)

    assert used["unused"] is None
    assert abs(used["used"] - newest(started).ts) < 600 * 1_000_000
