"""`/v1/audit` over real HTTP: roles, filters, pages, streams, limits, and the record behind each."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.audit import files, query, shares
from appliance.audit.checkpoint import open_checkpoint
from appliance.audit.files import Latch
from appliance.audit.kinds import Kind
from appliance.audit.recipients import parse_identity
from appliance.cli.init import DEV_IDENTITY
from appliance.config import Home
from appliance.core import Role
from tests.harness import Gateway, gateway
from tests.homes import make_home

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parent.parent.parent
WHY = {"purpose": "a test", "case": "2026-17"}
EVENTS = "/v1/audit/events"


def ask(
    running: Gateway, path: str = EVENTS, *, role: Role | None = Role.AUDITOR, **body: Any
) -> httpx.Response:
    """A search with a purpose, by a key of a role."""
    with running.client(role) as client:
        return client.post(path, json={**WHY, **body})


def newest(home: Home, kind: Kind) -> dict[str, Any]:
    """The content of the newest entry of a kind, opened by the home's auditor."""
    (record,) = query.search(home.database, kind=kind, limit=1)
    identity = parse_identity((home.keys / DEV_IDENTITY).read_text())
    released = {each.hex(): secret for each, secret in shares.release(home, shares.ids(home)).items()}
    (opened,) = query.open_records(home.database, [record], [identity], released)
    assert opened.content is not None
    return opened.content


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Three exchanges of a person, in one session, and one of nobody."""
    with gateway(tmp_path_factory.mktemp("audit-api") / "home") as started:
        for _ in range(3):
            started.chat("echo: x", user="citizen-17", metadata={"session_id": "visit-1"})
        started.chat("echo: y")
        yield started


def test_a_person_is_found_and_the_search_is_on_the_record(running: Gateway) -> None:
    """By name, session, address; the filters, the purpose and the case are sealed."""
    for filters in (
        {"user": "citizen-17"},
        {"session": "visit-1"},
        {"user": "citizen-17", "address": "127.0.0.1", "kinds": ["request:opened"]},
    ):
        answer = ask(running, **filters)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert [each["kind"] for each in found["events"]] == ["request:opened"] * 3
        assert (found["next_cursor"], found["searched_to"], found["names_since"]) == (None, None, None)
    ended = ask(running, user="citizen-17", outcomes=["stop"]).json()["events"]
    assert [each["kind"] for each in ended] == ["request:closed"] * 3
    said = newest(running.home, Kind.AUDIT_SEARCHED)
    assert said["filters"] == {"user": "citizen-17", "outcomes": ["stop"]}
    assert (said["purpose"], said["case"]) == ("a test", "2026-17")
    assert said["principal"]["role"] == "auditor"
    assert said["caller"]["address"] == "127.0.0.1"


def test_pages_follow_each_other_in_both_orders(running: Gateway) -> None:
    """Every entry once, although each page adds one."""
    for order in ("newest", "oldest"):
        seqs: list[int] = []
        cursor = None
        for _ in range(200):
            page = ask(running, order=order, limit=5, kinds=["request:opened"], cursor=cursor).json()
            seqs += [each["seq"] for each in page["events"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seqs) == len(set(seqs)) >= 4
        assert seqs == sorted(seqs, reverse=order == "newest")


def test_timeline_counts_exchanges(running: Gateway) -> None:
    """By outcome, within the parts that were asked for."""
    answer = ask(running, EVENTS + "/timeline", user="citizen-17", buckets=3).json()

    assert answer["total"] == {"stop": 3}
    assert len(answer["counts"]) == 3
    assert answer["complete"] is True


def test_streams_hold_everything_and_what_was_handed_out_is_on_the_record(running: Gateway) -> None:
    """JSON lines and CSV of the whole record as it stood; the number stands behind it."""
    for form in ("jsonl", "csv"):
        answer = ask(running, format=form, order="oldest")
        assert answer.status_code == 200
        if form == "csv":
            rows = list(csv.reader(io.StringIO(answer.text)))
            seqs = [int(row[0]) for row in rows[1:]]
            assert rows[0][:3] == ["seq", "time", "kind"]
        else:
            seqs = [json.loads(line)["seq"] for line in answer.text.splitlines()]
        (exported,) = query.search(running.home.database, kind=Kind.AUDIT_EXPORTED, limit=1)
        assert exported.public["num_records"] == len(seqs)
        assert seqs == list(range(len(seqs)))
        assert seqs[-1] + 1 == exported.public["end"]
        assert "attachment" in answer.headers["content-disposition"]


def test_one_entry_comes_with_its_proof(running: Gateway) -> None:
    """The header's own bytes hash to the leaf; the reading is on the record."""
    with running.client(Role.AUDITOR) as client:
        why = [(b"x-audit-purpose", "prüfung".encode()), (b"x-audit-case", b"7")]
        answer = client.get(f"{EVENTS}/0", headers=why)
        missing = client.get(f"{EVENTS}/99999999", headers=why)
        odd = client.get(f"{EVENTS}/0x1", headers=why)
        silent = client.get(f"{EVENTS}/0")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["verified"] is True
    assert found["proof"].startswith("c2sp.org/tlog-proof@v1\n")
    assert json.loads(found["header"])["seq"] == 0
    assert [each.status_code for each in (missing, odd, silent)] == [404, 404, 400]
    assert silent.json()["error"]["code"] == "invalid_purpose"
    (read,) = query.search(running.home.database, kind=Kind.AUDIT_READ, limit=1)
    assert read.public["target"] == 0
    assert newest(running.home, Kind.AUDIT_READ)["purpose"] == "prüfung"


def test_checkpoint_and_status_say_how_the_record_stands(running: Gateway) -> None:
    """The note opens with the log's key; operators see the state and no volume of reading."""
    with running.client(Role.OPERATOR) as client:
        note = client.get("/v1/audit/checkpoint")
        status = client.get("/v1/audit/status").json()
    assert open_checkpoint(note.text, files.read_verifier(running.home)).size > 0
    assert (status["state"], status["reading"]) == ("ready", None)
    assert status["review_due"] is True  # nobody has recorded one
    with running.client(Role.AUDITOR) as client:
        assert client.get("/v1/audit/status").json()["reading"]["searches_left"] < 1000


@pytest.mark.parametrize("role", [Role.KIOSK, Role.OPERATOR, Role.ADMIN, Role.PRIVACY, None])
def test_only_auditors_search_and_read(running: Gateway, role: Role | None) -> None:
    """Everybody else is refused, on the record, and learns nothing."""
    wanted = 401 if role is None else 403
    assert ask(running, role=role).status_code == wanted
    assert ask(running, EVENTS + "/timeline", role=role).status_code == wanted
    with running.client(role) as client:
        assert client.get(f"{EVENTS}/0", headers={"x-audit-purpose": "a test"}).status_code == wanted
        for path in ("/v1/audit/checkpoint", "/v1/audit/status"):
            sees = role in {Role.OPERATOR, Role.ADMIN}
            assert client.get(path).status_code == (200 if sees else wanted)


BAD: list[tuple[dict[str, Any], str, str | None]] = [
    ({"purpose": ""}, "invalid_purpose", "purpose"),
    ({"purpose": "ab"}, "invalid_purpose", "purpose"),
    ({"purpose": "x" * 501}, "invalid_purpose", "purpose"),
    ({"purpose": "a\u202ebc"}, "invalid_purpose", "purpose"),
    ({"purpose": "a\nbc"}, "invalid_purpose", "purpose"),
    ({"case": "x" * 101}, "invalid_purpose", "case"),
    ({"purpose": None}, "missing_required_parameter", "purpose"),
    ({"since": "yesterday"}, "invalid_value", "since"),
    ({"since": "2026-01-01T00:00:00"}, "invalid_value", "since"),
    ({"since": 5}, "invalid_type", "since"),
    ({"until": "1950-01-01T00:00:00Z"}, "invalid_value", "until"),
    ({"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "invalid_search", "since_us"),
    ({"kinds": ["no:kind"]}, "invalid_value", "kinds[0]"),
    ({"outcomes": ["fine"]}, "invalid_value", "outcomes[0]"),
    ({"codes": "x"}, "invalid_type", "codes"),
    ({"models": [""]}, "invalid_value", "models[0]"),
    ({"key": ""}, "invalid_value", "key"),
    ({"user": "x" * 513}, "invalid_value", "user"),
    ({"min_prompt_tokens": -1}, "invalid_value", "min_prompt_tokens"),
    ({"min_prompt_tokens": "1"}, "invalid_type", "min_prompt_tokens"),
    ({"min_prompt_tokens": 2, "max_prompt_tokens": 1}, "invalid_search", "min_prompt_tokens"),
    ({"limit": 0}, "invalid_value", "limit"),
    ({"limit": 1001}, "invalid_value", "limit"),
    ({"cursor": "nonsense"}, "invalid_cursor", "cursor"),
    ({"cursor": "x" * 65}, "invalid_value", "cursor"),
    ({"order": "random"}, "invalid_value", "order"),
    ({"format": "xml"}, "invalid_value", "format"),
    ({"format": "csv", "limit": 5}, "unsupported_parameter", "limit"),
    ({"format": "jsonl", "cursor": "MW4x"}, "unsupported_parameter", "cursor"),
    ({"text": "x"}, "unknown_parameter", "text"),
]


@pytest.mark.parametrize(("body", "code", "param"), BAD, ids=lambda value: str(value)[:40])
def test_each_mistake_has_its_code_and_place(
    running: Gateway, body: dict[str, Any], code: str, param: str | None
) -> None:
    """Refused before anything is searched, and without the value in the message."""
    answer = ask(running, **body)

    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert "xxxx" not in error["message"]


def test_names_are_in_no_log_and_in_no_plaintext(running: Gateway) -> None:
    """The gateway's own log and the database's file hold no searched name."""
    ask(running, user="canary-person", session="canary-session", key="canary-key", address="canary-address")
    ask(running, user="canary-person", format="csv")

    for path in (running.log_file, *running.home.root.glob("appliance.db*")):
        assert b"canary" not in path.read_bytes(), path


def test_guide_examples_run_as_they_stand(running: Gateway) -> None:
    """Each curl of the guide's part for auditors is answered."""
    guide = (ROOT / "deploy" / "guides" / "api.md").read_text()
    part = guide.partition("## The record, for auditors' programs")[2].partition("```sh\n")[2]
    commands = part.partition("```")[0].replace("\\\n", " ").strip().splitlines()
    assert len(commands) == 5
    for command in commands:
        path = re.search(r"\$URL(\S+)", command)
        body = re.search(r"-d '(.*)'", command)
        headers = dict(each.split(": ", 1) for each in re.findall(r'-H "([^"$]+)"', command))
        assert path is not None
        with running.client(Role.AUDITOR, headers=headers) as client:
            answer = client.request("POST" if body else "GET", path[1], content=body[1] if body else None)
        assert answer.status_code == 200, answer.text


def test_volume_is_limited_told_and_survives_a_restart(tmp_path: Path) -> None:
    """429 with a time to come back; one alarm; another reader goes on; nothing is shown above the limit."""
    home = make_home(tmp_path / "home")
    limits = "searches_per_hour = 3\nreads_per_hour = 2\n"
    home.config.write_text(home.config.read_text().replace("[audit]\n", "[audit]\n" + limits, 1))
    with gateway(home.root) as running:
        key = running.key(Role.AUDITOR)
        assert [ask(running).status_code for _ in range(3)] == [200] * 3
        refused = ask(running)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "read_limit"
        assert 3000 < int(refused.headers["retry-after"]) <= 3600
        assert ask(running).status_code == 429
    with gateway(home.root) as again:
        with httpx.Client(base_url=again.url, headers={"authorization": f"Bearer {key}"}) as client:
            assert client.post(EVENTS, json=WHY).status_code == 429
            why = {"x-audit-purpose": "a test"}
            assert [client.get(f"{EVENTS}/0", headers=why).status_code for _ in range(3)] == [200, 200, 429]
        assert ask(again).status_code == 200  # another key
    alarms = query.search(home.database, kind=Kind.LOG_ALARM)
    assert [each.public["code"] for each in alarms] == ["reading_volume"]


def test_behind_the_latch_nothing_is_shown(tmp_path: Path) -> None:
    """What can not be recorded is not answered."""
    with gateway(tmp_path / "home") as running:
        assert ask(running).status_code == 200
        running.home.head.unlink()
        answers = [ask(running), ask(running, format="csv"), ask(running, EVENTS + "/timeline")]
        with running.client(Role.AUDITOR) as client:
            answers.append(client.get(f"{EVENTS}/0", headers={"x-audit-purpose": "a test"}))

    assert [each.status_code for each in answers] == [503] * 4
    assert {each.json()["error"]["code"] for each in answers} == {"audit_unavailable"}
    assert Latch(running.home.latch).reason()
