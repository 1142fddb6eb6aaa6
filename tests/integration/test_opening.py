"""`appliance audit open` on another machine, the API's export, and the redacted variant: real processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.audit import archive, casefile, evidence, files, query
from appliance.audit.kinds import Kind
from appliance.core import Role
from tests.cases import HOSTILE
from tests.harness import Gateway, appliance, gateway
from tests.records import place

pytestmark = pytest.mark.integration
WHY = {"purpose": "a parliamentary question", "case": "2026-17"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("opening") / "home") as started:
        started.chat("echo: the canary sings", user=f"citizen {HOSTILE}")
        started.chat(f"echo: {HOSTILE}")
        yield started


@pytest.fixture(scope="module")
def case(running: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder on "another machine": a sealed case from the API, the identity, the log's key."""
    folder = tmp_path_factory.mktemp("elsewhere")
    requests = [each.request_id for each in query.search(place(running.home), kind=Kind.REQUEST_OPENED)]
    with running.client(Role.AUDITOR) as client:
        answer = client.post("/v1/audit/export", json={"request_ids": requests, **WHY})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    (folder / "case.zip").write_bytes(answer.content)
    shutil.copy(running.home.keys / "dev-auditor.identity", folder)
    shutil.copy(running.home.keys / "log.vkey", folder)
    return folder


def opened(case: Path, *options: str, check: bool = True) -> tuple[int, str, str]:
    identity = ("--identity", str(case / "dev-auditor.identity"))
    done = appliance("audit", "open", str(case / "case.zip"), *identity, *options, check=check)
    return done.returncode, done.stdout, done.stderr


def test_a_case_from_the_api_opens_without_an_appliance(case: Path) -> None:
    """Question and answer, who asked, what for: from the file, the identity and the log's key alone."""
    vkey = str(case / "log.vkey")
    _, shown, warned = opened(case, "--vkey", vkey)
    assert "the canary sings" in shown
    assert "case 2026-17" in shown
    assert "a parliamentary question" in shown
    assert warned == ""
    _, told, _ = opened(case, "--vkey", vkey, "--json")
    result = json.loads(told)
    assert result["vkey_given"] is True
    assert [each["kind"] for each in result["records"]][:2] == ["request:opened", "request:closed"]
    assert result["records"][0]["content"]["messages"][0]["content"] == "echo: the canary sings"


def test_a_key_that_was_not_given_is_said(case: Path) -> None:
    """Everything hangs together, but whose log it is nobody has checked."""
    _, shown, warned = opened(case)
    assert "the canary sings" in shown
    assert "no --vkey" in warned


def test_text_finds_its_exchange_only(case: Path) -> None:
    """In any letters; what is not there is said to be nowhere."""
    _, shown, _ = opened(case, "--text", "THE CANARY", "--json")
    assert len({each["request_id"] for each in json.loads(shown)["records"]}) == 1
    _, shown, _ = opened(case, "--text", "nobody said this")
    assert "found in 0 exchanges" in shown


def test_contents_can_not_steer_a_terminal(case: Path) -> None:
    """CR, ESC, NUL and marks of direction come out as text, in lines, in JSON and in the check."""
    out = case / "hostile.zip"
    _, shown, _ = opened(case, "--vkey", str(case / "log.vkey"), "--out", str(out))
    _, told, _ = opened(case, "--json")
    checked = appliance("audit", "check-evidence", str(out), "--vkey", str(case / "log.vkey")).stdout
    for text in (shown, told, checked):
        assert "red" in text
        assert not {"\r", "\x1b", "\x00", "\u202e", "\u2066"} & set(text)


def test_what_is_written_is_evidence(case: Path, running: Gateway) -> None:
    """Keys of exactly the found records; shares and other exchanges are not in it; it checks."""
    out = case / "evidence.zip"
    opened(case, "--vkey", str(case / "log.vkey"), "--text", "canary", "--out", str(out))
    checked = appliance("audit", "check-evidence", str(out), "--vkey", str(case / "log.vkey"), "--json")
    told = json.loads(checked.stdout)
    whole = b"".join(archive.read(out).values())

    assert len(told["records"]) == 2
    assert "the canary sings" in told["records"][0]["content"]
    for secret in casefile.decode(archive.read(case / "case.zip")).shares.values():
        assert secret.hex().encode() not in whole
    refused = opened(case, "--vkey", str(case / "log.vkey"), "--out", str(out), check=False)
    assert refused[0] == 2  # a file that is there is not written over
    assert evidence.check(archive.read(out), files.read_verifier(running.home)).is_opened_elsewhere


def test_a_changed_case_and_a_stranger_open_nothing(case: Path, tmp_path: Path) -> None:
    """Exit code 1, a sentence, no content."""
    appliance("auditor", "keygen", "mallory", "--out", str(tmp_path))
    stranger = appliance("audit", "open", str(case / "case.zip"), "--identity",
                         str(tmp_path / "mallory.identity"), check=False)  # fmt: skip
    data = (case / "case.zip").read_bytes()
    (tmp_path / "case.zip").write_bytes(data.replace(b'"purpose":"a p', b'"purpose":"b p'))
    changed = appliance("audit", "open", str(tmp_path / "case.zip"), "--identity",
                        str(case / "dev-auditor.identity"), check=False)  # fmt: skip
    for done in (stranger, changed):
        assert done.returncode == 1
        assert done.stdout == ""
        assert "appliance: error:" in done.stderr
        assert "Traceback" not in done.stderr


def test_redacted_elsewhere_bears_the_auditors_word(case: Path, tmp_path: Path) -> None:
    """The appliance's signature is not there to be had: the identity signs, and its public half checks it."""
    (tmp_path / "words").write_text("canary\n")
    out = tmp_path / "press.zip"
    opened(case, "--text", "canary", "--out", str(out), "--words", str(tmp_path / "words"), "--redact", "who",
           "--reason", "personal data")  # fmt: skip
    found = archive.read(out)
    assert b"canary" not in b"".join(found.values())
    check = ("audit", "check-evidence", str(out), "--vkey", str(case / "log.vkey"))
    assert "nobody whom you named" in appliance(*check).stdout
    appliance("auditor", "keygen", "dev-auditor", "--out", str(tmp_path))
    other = appliance(*check, "--auditor", str(tmp_path / "dev-auditor.recipient"), check=False)
    assert other.returncode == 1


def test_redacted_on_the_appliance_bears_its_word(running: Gateway, tmp_path: Path) -> None:
    """The command reads with an identity, and hands out no key; the record names what was withheld."""
    seq = str(query.search(place(running.home), kind=Kind.REQUEST_OPENED)[-1].seq)
    out = tmp_path / "press.zip"
    arguments = ("audit", "export", seq, "--purpose", "press", "--redact", "question", "--redact", "answer")
    appliance(*arguments, "--reason", "privacy", "--out", str(out), home=running.home)
    checked = appliance("audit", "check-evidence", str(out), "--vkey", str(running.home.keys / "log.vkey"))
    assert "canary" not in checked.stdout
    assert "[withheld]" in checked.stdout
    assert f"{files.read_verifier(running.home).name} vouches" in checked.stdout
    assert query.search(place(running.home), kind=Kind.AUDIT_EXPORTED)[0].public["form"] == "redacted"


@pytest.mark.parametrize(
    ("body", "status"),
    [({"seqs": [1], "purpose": "ok"}, 400), ({"seqs": [1]}, 400), ({"purpose": "a test"}, 400),
     ({"seqs": [1], "range": [0, 1], "purpose": "a test"}, 400),
     ({"seqs": [10**9], "purpose": "a test"}, 404),
     ({"seqs": ["1"], "purpose": "a test"}, 400), ({"range": [5, 1], "purpose": "a test"}, 400),
     ({"seqs": [1], "purpose": "a\u202etest"}, 400), ({"seqs": [1] * 1001, "purpose": "a test"}, 400),
     ({"seqs": [1], "purpose": "a test", "extra": 1}, 400)],
)  # fmt: skip
def test_what_the_api_refuses(running: Gateway, body: dict[str, object], status: int) -> None:
    """One refusal on the record, no export."""
    before = len(query.search(place(running.home), kind=Kind.AUDIT_EXPORTED))
    with running.client(Role.AUDITOR) as client:
        answer = client.post("/v1/audit/export", json=body)
    assert answer.status_code == status, answer.text
    assert len(query.search(place(running.home), kind=Kind.AUDIT_EXPORTED)) == before


@pytest.mark.parametrize("role", [Role.KIOSK, Role.OPERATOR, Role.ADMIN, Role.PRIVACY])
def test_other_roles_export_nothing(running: Gateway, role: Role) -> None:
    """403 for everybody but auditors."""
    with running.client(role) as client:
        assert client.post("/v1/audit/export", json={"seqs": [1], **WHY}).status_code == 403


def test_a_range_comes_over_the_api(running: Gateway) -> None:
    """Streamed, whole, and it checks."""
    with running.client(Role.AUDITOR) as client:
        answer = client.post("/v1/audit/export", json={"range": [0, 4], **WHY})
    report = evidence.check(archive.unpack(answer.content), files.read_verifier(running.home))
    assert (report.begin, report.end) == (0, 4)


def test_nothing_unsealed_is_written_by_an_export(running: Gateway, case: Path) -> None:
    """No share and no content in any file of the home, nor in the program's log."""
    secrets = casefile.decode(archive.read(case / "case.zip")).shares.values()
    canaries = [b"the canary sings", *secrets, *(each.hex().encode() for each in secrets)]
    looked = [each for each in running.home.root.rglob("*") if each.is_file()] + [running.log_file]
    assert len(looked) > 5
    for path in looked:
        data = path.read_bytes()
        assert not [1 for canary in canaries if canary in data], path
