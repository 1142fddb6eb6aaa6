"""Every route and every command leaves exactly the record that the catalogue promises.

The tables below name each route and each command of the program once, with what it leaves. A route or
command that is missing here, or one that does not exist any more, fails the first two tests; one that
leaves another record fails the last two.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from fastapi.routing import APIRoute

from appliance.api import app as api_app
from appliance.audit import query
from appliance.audit.kinds import PUBLIC_FIELDS, Kind
from appliance.cli import program
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway, question, stored_response
from tests.hostile import on_medium

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "deploy" / "guardrails" / "lobby.toml"
# Written by themselves before or after an act, not by it.
SURROUNDINGS = frozenset({Kind.EPOCH_OPENED, Kind.INDEX_OPENED, Kind.LOG_STARTED, Kind.LOG_STOPPED})
ANSWER = [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED]


@dataclass
class Stage:
    """What a command needs: a gateway that has answered, people with keys, files to hand over."""

    running: Gateway
    folder: Path
    request_id: str = ""
    seq: str = ""  # of that request's opening
    response_id: str = ""  # of a response that is stored
    holds: list[str] = field(default_factory=list)

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def seen(self) -> int:
        return int(query.search(self.running.home.database, limit=1)[0].seq)

    def since(self, seq: int) -> list[Kind]:
        """The kinds of what was written behind an entry, in order."""
        found = query.search(self.running.home.database, limit=1000)
        return [each.kind for each in reversed(found) if each.seq > seq and each.kind not in SURROUNDINGS]


# (method, path) → body or None, role, the records that it leaves
ROUTES: Mapping[tuple[str, str], tuple[Any, Role | None, list[Kind]]] = {
    ("POST", "/v1/chat/completions"): (question("echo: x"), Role.KIOSK, ANSWER),
    ("POST", "/v1/messages"): (question("echo: x", max_tokens=9), Role.KIOSK, ANSWER),
    ("POST", "/v1/messages/count_tokens"): (question("echo: x"), Role.KIOSK, ANSWER),
    ("POST", "/v1/completions"): ({"model": "default", "prompt": "echo: x"}, Role.KIOSK, ANSWER),
    ("POST", "/v1/embeddings"): ({"model": "default", "input": "x"}, Role.KIOSK, ANSWER),
    ("POST", "/v1/rerank"): ({"model": "default", "query": "x", "documents": ["y"]}, Role.KIOSK, ANSWER),
    ("POST", "/tokenize"): ({"content": "x"}, Role.KIOSK, ANSWER),
    ("POST", "/detokenize"): ({"tokens": [1]}, Role.KIOSK, ANSWER),
    ("POST", "/v1/responses"): (
        {"model": "default", "input": "echo: x", "store": True},
        Role.KIOSK,
        [*ANSWER, Kind.RESPONSE_STORED],
    ),
    ("GET", "/v1/responses/{response_id}"): (None, Role.KIOSK, [Kind.RESPONSE_READ]),
    ("GET", "/v1/responses/{response_id}/input_items"): (None, Role.KIOSK, [Kind.RESPONSE_READ]),
    ("DELETE", "/v1/responses/{response_id}"): (None, Role.KIOSK, [Kind.RESPONSE_DELETED]),
    ("POST", "/v1/responses/input_tokens"): ({"model": "default", "input": "x"}, Role.KIOSK, ANSWER),
    ("GET", "/v1/models"): (None, Role.KIOSK, []),
    ("GET", "/v1/models/{name:path}"): (None, Role.KIOSK, []),
    ("GET", "/v1/audit/proof/{seq}"): (None, Role.KIOSK, [Kind.PROOF_GIVEN]),
    ("POST", "/v1/audit/events"): ({"purpose": "a test"}, Role.AUDITOR, [Kind.AUDIT_SEARCHED]),
    ("POST", "/v1/audit/events/timeline"): ({"purpose": "a test"}, Role.AUDITOR, [Kind.AUDIT_SEARCHED]),
    ("GET", "/v1/audit/events/{seq}"): (None, Role.AUDITOR, [Kind.AUDIT_READ]),
    ("GET", "/v1/audit/checkpoint"): (None, Role.OPERATOR, []),
    ("GET", "/v1/audit/status"): (None, Role.OPERATOR, []),
    ("POST", "/v1/audit/export"): (
        {"seqs": [1], "purpose": "a test", "case": "2026-17"},
        Role.AUDITOR,
        [Kind.AUDIT_EXPORTED],
    ),
    ("GET", "/healthz"): (None, None, []),
    ("GET", "/readyz"): (None, Role.KIOSK, []),
    ("GET", "/metrics"): (None, Role.OPERATOR, []),
    ("GET", "/openapi.json"): (None, Role.KIOSK, []),
}


def _act(stage: Stage, name: str, *draft: str) -> str:
    """A draft that both members have signed."""
    path = stage.file(name)
    appliance(*draft, "--out", path, home=stage.running.home)
    for who in ("dev-auditor", "paul"):
        appliance("auditor", "sign", path, "--identity", stage.file(f"{who}.identity"))
    return path


def _erasure(stage: Stage) -> list[str]:
    return ["auditor", "apply", _act(stage, "erase.act", "audit", "erase", "--user", "someone",
                                     "--reason", "r", "--basis", "b")]  # fmt: skip


def _draft(*words: str) -> Callable[[Stage], list[str]]:
    return lambda stage: [*words, "--out", stage.file("-".join(words[:3]).replace("/", "") + ".draft")]


def _plain(*words: str) -> Callable[[Stage], list[str]]:
    return lambda _stage: list(words)


# command → its arguments (None: see below), and the records that it leaves beside a running gateway
COMMANDS: Mapping[str, tuple[Callable[[Stage], list[str]] | None, list[Kind]]] = {
    "init": (None, []),  # leaf 0: test_migrations
    "serve": (None, []),  # log:started, model:loaded, log:stopped: below
    "bench": (None, []),  # measures; test_real_appliance
    "db upgrade": (None, []),  # database:upgraded: test_migrations
    "audit replay": (None, []),  # audit:replayed: test_replay
    "audit recover": (_plain("audit", "recover"), []),  # of an open log: nothing to do
    "key create": (_plain("key", "create", "desk", "--role", "kiosk", "--store-responses"),
                   [Kind.KEY_CREATED, Kind.KEY_GRANTED]),
    "key list": (_plain("key", "list"), []),
    "key change": (_plain("key", "change", "desk", "--rpm", "60"), [Kind.KEY_CHANGED]),
    "key show": (_plain("key", "show", "desk"), []),
    "key rotate": (_plain("key", "rotate", "test-operator"), [Kind.KEY_CREATED, Kind.KEY_ROTATED]),
    "key revoke": (_plain("key", "revoke", "desk"), [Kind.KEY_REVOKED]),
    "prompt publish": (_plain("prompt", "publish", "lobby", str(ROOT / "README.md")),
                       [Kind.DOCUMENT_PUBLISHED]),
    "prompt list": (_plain("prompt", "list"), []),
    "prompt show": (_plain("prompt", "show", "lobby"), []),
    "prompt withdraw": (_plain("prompt", "withdraw", "lobby"), [Kind.DOCUMENT_WITHDRAWN]),
    "policy check": (_plain("policy", "check", str(RULES)), []),
    "policy test": (_plain("policy", "test", str(RULES.with_suffix(".cases.toml"))), []),
    "policy publish": (_plain("policy", "publish", "lobby", str(RULES)), [Kind.DOCUMENT_PUBLISHED]),
    "policy list": (_plain("policy", "list"), []),
    "policy show": (_plain("policy", "show", "lobby@1"), []),
    "policy withdraw": (_plain("policy", "withdraw", "lobby@1"), [Kind.DOCUMENT_WITHDRAWN]),
    "account create": (_plain("account", "create", "Ada Kim", "--role", "operator"), [Kind.ACCOUNT_CREATED]),
    "account list": (_plain("account", "list"), []),
    "account reset": (_plain("account", "reset", "Ada Kim"), [Kind.ACCOUNT_CHANGED]),
    "account disable": (_plain("account", "disable", "Ada Kim"), [Kind.ACCOUNT_CHANGED]),
    "auditor keygen": (lambda stage: ["auditor", "keygen", "bob", "--out", str(stage.folder)], []),
    "auditor list": (_plain("auditor", "list"), []),
    "auditor add": (lambda stage: ["auditor", "add", stage.file("bob.recipient"), "--out",
                                   stage.file("bob.act")], []),
    "auditor remove": (_draft("auditor", "remove", "paul"), []),
    "auditor sign": (lambda stage: ["auditor", "sign", stage.file("bob.act"), "--identity",
                                    stage.file("dev-auditor.identity")], []),
    "auditor apply": (_erasure, [Kind.CONTENT_ERASED]),
    "model list": (_plain("model", "list"), []),
    "model show": (_plain("model", "show"), []),
    "model import": (lambda stage: ["model", "import", str(on_medium(stage.folder))], [Kind.MODEL_IMPORTED]),
    "model remove": (_plain("model", "remove", "tiny"), [Kind.MODEL_REMOVED]),
    "model eval": (None, []),  # model:evaluated: test_evaluating
    "model bench": (None, []),  # measures numbers that it counts up
    "model verify": (_plain("model", "verify", "default"), []),
    "model activate": (_plain("model", "activate", "smollm2-135m-instruct", "--alias", "desk",
                              "--why", "a test"), [Kind.ALIAS_ACTIVATED]),
    "model rollback": (None, []),  # alias:rolled_back: test_activation
    "model alias list": (_plain("model", "alias", "list"), []),
    "model alias pin": (_plain("model", "alias", "pin", "default", "--why", "a test"), [Kind.ALIAS_CHANGED]),
    "model alias unpin": (_plain("model", "alias", "unpin", "default", "--why", "a test"),
                          [Kind.ALIAS_CHANGED]),
    "model alias remove": (_plain("model", "alias", "remove", "desk", "--why", "a test"),
                           [Kind.ALIAS_CHANGED]),
    "audit search": (_plain("audit", "search", "--limit", "1"), [Kind.AUDIT_SEARCHED]),
    "audit show": (lambda stage: ["audit", "show", stage.request_id], [Kind.AUDIT_READ]),
    "audit release": (lambda stage: ["audit", "release", stage.request_id, "--purpose", "case", "--out",
                                     stage.file("a.release")], [Kind.AUDIT_RELEASED]),
    "audit verify": (_plain("audit", "verify"), [Kind.LOG_VERIFIED]),
    "audit erase": (_draft("audit", "erase", "--user", "x", "--reason", "r", "--basis", "b"), []),
    "audit hold place": (_plain("audit", "hold", "place", "--user", "else", "--reason", "r"),
                         [Kind.HOLD_PLACED]),
    "audit hold list": (_plain("audit", "hold", "list"), []),
    "audit hold lift": (lambda stage: ["audit", "hold", "lift", stage.holds[0], "--reason", "r", "--out",
                                       stage.file("lift.act")], []),
    "audit export": (lambda stage: ["audit", "export", stage.seq, "--sealed", "--purpose", "case",
                                      "--out", stage.file("case.zip")],
                     [Kind.AUDIT_EXPORTED]),
    "audit check-evidence": (lambda stage: ["audit", "check-evidence", stage.file("case.zip"), "--vkey",
                                            str(stage.running.home.keys / "log.vkey")], []),
    "audit open": (lambda stage: ["audit", "open", stage.file("case.zip"), "--identity",
                                  stage.file("dev-auditor.identity")], []),
    "audit witness keygen": (lambda stage: ["audit", "witness", "keygen", "w", "--out",
                                            str(stage.folder)], []),
    "audit witness add": (lambda stage: ["audit", "witness", "add", stage.file("w.vkey")],
                          [Kind.WITNESS_ADDED] * 2),
    "audit witness export": (lambda stage: ["audit", "witness", "export", "--out",
                                            stage.file("request")], []),
    "audit witness cosign": (lambda stage: ["audit", "witness", "cosign", stage.file("request"), "--key",
                                            stage.file("w.witness"), "--log",
                                            str(stage.running.home.keys / "log.vkey"), "--out",
                                            stage.file("answer")], []),
    "audit witness import": (lambda stage: ["audit", "witness", "import", stage.file("answer")],
                             [Kind.WITNESS_COSIGNED] * 2),
    "audit witness status": (_plain("audit", "witness", "status"), []),
    "audit retain": (_plain("audit", "retain"), []),  # nothing is configured to go; test_custody
    "db backup": (_plain("db", "backup"), [Kind.DATABASE_BACKED_UP, Kind.SHARES_BACKED_UP,
                                                Kind.BOX_BACKED_UP]),
    "db restore": (None, []),  # database:restored: test_restore
    "db restore-box": (None, []),  # box:restored: test_boxes
    "db restore-shares": (None, []),  # shares:restored: test_restore
    "audit begin-anew": (None, []),  # log:restored, state:carried: test_anew
    "db status": (_plain("db", "status"), []),
    "doctor": (_plain("doctor", "--live"), ANSWER),
    "tls init": (_plain("tls", "init", "--permit", "localhost"), [Kind.CERTIFICATE_ISSUED]),
    "tls issue": (_plain("tls", "issue", "--name", "localhost"), [Kind.CERTIFICATE_ISSUED]),
    "tls renew": (_plain("tls", "renew", "--force"), [Kind.CERTIFICATE_ISSUED]),
    "tls show": (_plain("tls", "show"), []),
    "secrets status": (_plain("secrets", "status"), []),
    "secrets credential": (lambda _stage: ["secrets", "credential"], []),
    "secrets seal": (None, []),  # secrets:changed: test_sealed_home, as are the others
    "secrets add": (None, []),
    "secrets remove": (None, []),
    "secrets rotate": (None, []),
    "secrets unseal": (None, []),
    "secrets finish": (None, []),  # what was begun is on the record
    "bundle build": (None, []),  # about media and hosts: no home
    "bundle delta": (None, []),
    "bundle import": (None, []),
    "bundle inventory": (None, []),
    "bundle keys ceremony": (None, []),
    "bundle keys create": (None, []),
    "bundle keys rotate": (None, []),
    "bundle keys show": (None, []),
    "bundle keys sign": (None, []),
    "bundle receipts": (None, []),
    "bundle refresh": (None, []),
    "bundle sign": (None, []),
    "bundle split": (None, []),
    "bundle verify": (None, []),
    "bundle install": (None, []),  # bundle:verified, bundle:installed: test_machine
    "bundle upgrade": (None, []),  # the same, bundle:refused, bundle:rolled_back: test_machine
    "bundle rollback": (None, []),  # bundle:installed: test_machine
    "bundle repair": (None, []),  # bundle:repaired: test_repair
    "bundle uninstall": (None, []),  # bundle:uninstalled: test_machine
    "bundle list": (None, []),
    "bundle settle": (None, []),  # bundle:rolled_back: test_kill
    "bundle tell": (None, []),  # whichever it is given: test_doors
    "bundle open": (_plain("bundle", "open"), []),
}  # fmt: skip


# They run on machines of auditors, witnesses and courts, which have no home.
ELSEWHERE = {
    "auditor keygen", "auditor sign", "audit witness keygen", "audit witness cosign", "audit check-evidence",
    "audit open", "secrets credential",
}  # fmt: skip


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield " ".join((*path, name))


def all_routes() -> set[tuple[str, str]]:
    routers = [getattr(each, "router", None) for each in vars(api_app).values()]
    return {
        (method, route.path)
        for router in routers
        if router is not None
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }


def test_no_route_and_no_command_is_forgotten() -> None:
    """Whoever adds one says here what it leaves on the record."""
    assert all_routes() == set(ROUTES)
    assert set(all_commands(program)) == set(COMMANDS)


def test_catalogue_lists_every_kind_with_its_plaintext() -> None:
    """The guide's table and the code agree: each kind, and each field that a header may say."""
    text = (ROOT / "deploy" / "guides" / "events.md").read_text()
    rows = re.findall(r"^\| `([a-z]+:[a-z_]+)` \| ([^|]+) \| ([^|]*) \|", text, re.MULTILINE)
    told = {kind: set(re.findall(r"`([a-z0-9_]+)`", fields)) for kind, _, fields in rows}

    assert told == {str(kind): set(fields) for kind, fields in PUBLIC_FIELDS.items()}
    assert all(len(when.split()) > 2 for _, when, _ in rows)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("events")
    with gateway(folder / "home") as running:
        shutil.copy(running.home.keys / "dev-auditor.identity", folder / "dev-auditor.identity")
        appliance("auditor", "keygen", "paul", "--out", str(folder))
        made = Stage(running, folder)
        add = made.file("paul.act")
        appliance("auditor", "add", made.file("paul.recipient"), "--role", "privacy", "--out", add,
                  home=running.home)  # fmt: skip
        appliance("auditor", "sign", add, "--identity", made.file("dev-auditor.identity"))
        appliance("auditor", "apply", add, home=running.home)
        running.key(Role.KIOSK, stores_responses=True)
        for role in (Role.OPERATOR, Role.AUDITOR):
            running.key(role)
        answered = running.chat("echo: x").headers
        made.request_id = answered["x-request-id"]
        made.seq = answered["x-audit-record"].rpartition("/")[2]
        running.chat("echo: x", user="someone")
        made.response_id = stored_response(running)
        yield made


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_route_leaves_its_record(stage: Stage, route: tuple[str, str]) -> None:
    """Answered, it leaves what the table says; without a key, one refusal and nothing else."""
    method, path = route
    body, role, expected = ROUTES[route]
    address = path.replace("{name:path}", "default").replace("{seq}", stage.seq)
    address = address.replace("{response_id}", stage.response_id)
    before = stage.seen()
    with stage.running.client(role) as client:
        why = {"x-audit-purpose": "a test"}
        answer = client.request(method, address, json=body, headers=why)
    assert answer.status_code == 200, answer.text
    assert stage.since(before) == expected
    if role is not None:
        before = stage.seen()
        with stage.running.client(None) as client:
            refused = client.request(method, address, json=body)
        assert refused.status_code == 401
        assert stage.since(before) == [Kind.REQUEST_REFUSED]


def test_commands_leave_their_records(stage: Stage) -> None:
    """Each command in turn, beside the running gateway."""
    home = stage.running.home
    wrong = {}
    for name, (arguments, expected) in COMMANDS.items():
        if arguments is None:
            continue
        if name == "audit hold lift":
            listed = appliance("audit", "hold", "list", home=home).stdout.splitlines()
            stage.holds = [line.split()[0] for line in listed if "in force" in line]
        words = arguments(stage)
        before = stage.seen()
        appliance(*words, home=None if name in ELSEWHERE else home)
        if (found := stage.since(before)) != expected:
            wrong[name] = found

    assert wrong == {}


def test_life_of_a_gateway_is_on_the_record(tmp_path: Path) -> None:
    """Start, load, unload, stop: in this order, each once."""
    with gateway(tmp_path / "home") as running:
        running.wait_ready()
    found = [each.kind for each in reversed(query.search(running.home.database, limit=1000))]
    life = [Kind.LOG_STARTED, Kind.CONFIG_CHANGED, Kind.MODEL_LOADED, Kind.MODEL_UNLOADED, Kind.LOG_STOPPED]

    assert [each for each in found if each in life][-5:] == life
