"""A caller's receipt becomes a proof that anybody checks, and nobody gets another's."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import httpx
import pytest

from appliance.audit import files, proof, proving, query
from appliance.audit.kinds import Kind
from appliance.audit.merkle import leaf_hash
from appliance.commands import CreateKey
from appliance.core import Role
from tests.harness import Gateway, gateway, question
from tests.records import assert_verified

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("proofs") / "home") as started:
        yield started


def ask(running: Gateway) -> tuple[int, str, str]:
    """One answered question: the opening's place, its leaf, the request's id."""
    with running.client() as client:
        answer = client.post("/v1/chat/completions", json=question("echo: hello"))
    assert answer.status_code == 200, answer.text
    seq = int(answer.headers["x-audit-record"].rpartition("/")[2])
    return seq, answer.headers["x-audit-leaf"], answer.headers["x-request-id"]


def fetch(running: Gateway, seq: object, *, token: str = "", leaf: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {token or running.key()}"}
    return httpx.get(
        f"{running.url}/v1/audit/proof/{seq}", headers=headers, params={"leaf": leaf} if leaf else {}
    )


def test_own_records_are_proved_and_the_giving_is_on_the_record(running: Gateway) -> None:
    """Opening and closing of one's own request; the proof holds against the log's public key alone."""
    seq, leaf, request_id = ask(running)
    log = files.read_verifier(running.home)
    closing = query.by_request(running.home.database, request_id)[-1]
    for target, expected in ((seq, bytes.fromhex(leaf)), (closing.seq, closing.leaf)):
        answer = fetch(running, target)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        found = proof.parse(answer.content)
        assert proof.verify(found, expected, log).size > target
        with pytest.raises(Exception, match="does not lead"):
            proof.verify(found, leaf_hash(b"another"), log)
        (given,) = query.by_request(running.home.database, answer.headers["x-request-id"])
        assert (given.kind, given.public["target"]) == (Kind.PROOF_GIVEN, target)


def test_others_and_missing_records_have_one_answer(running: Gateway) -> None:
    """Another key's record, an appliance's own, one that is not there, no number: 404, word for word."""
    seq, leaf, _ = ask(running)
    other = running.command(CreateKey(name="other", role=Role.KIOSK))["token"]
    refused = [
        fetch(running, seq, token=other),
        fetch(running, 0),
        fetch(running, 10_000_000),
        fetch(running, "9" * 30),
        fetch(running, "-1"),
        fetch(running, "x"),
        fetch(running, seq, token=other, leaf=leaf[:-1]),
    ]

    assert {answer.status_code for answer in refused} == {404}
    assert len({answer.content for answer in refused}) == 1
    assert fetch(running, seq, token=other, leaf=leaf).status_code == 200  # who holds the receipt
    with running.client(Role.AUDITOR) as client:
        assert client.get(f"/v1/audit/proof/{seq}").status_code == 403
    with contextlib.closing(sqlite3.connect(running.home.database)) as sql:
        (hdr,) = sql.execute("SELECT hdr FROM log_entry WHERE seq = ?", [seq]).fetchone()
    assert leaf_hash(hdr).hex() == leaf


def test_a_receipt_outlives_the_month_of_its_index_key(running: Gateway) -> None:
    """Once the index key is the auditors' alone, the receipt is what says whose a record is."""
    seq, leaf, _ = ask(running)
    (path,) = running.home.keys.glob("index-*.key")
    hidden = path.rename(path.with_name("hidden"))
    try:
        assert fetch(running, seq).status_code == 404
        assert fetch(running, seq, leaf=leaf).status_code == 200
    finally:
        hidden.rename(path)
    assert proving.proof_at(running.home.database, seq)[1].index == seq
    running.stop()
    assert_verified(running.home)
