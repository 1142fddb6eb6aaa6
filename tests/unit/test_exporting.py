"""Exports: on the record with who and why, each form what it promises, and nothing that it does not."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.alone import Alone
from appliance.audit import archive, casefile, evidence, query, ranges, shares
from appliance.audit.checkpoint import Checkpoint, Signer
from appliance.audit.kinds import Kind
from appliance.audit.policy import Reading
from appliance.audit.recipients import Identity
from appliance.audit.redaction import MARK, Part, Redaction
from appliance.errors import AuditUnavailable, RequestError, VerificationError
from appliance.exporting import Exported, Form
from appliance.why import Why
from tests.acts import erase, signed, with_member
from tests.cases import AUDITOR, CALLER, WHY, Place, exchange, make_place, sealed
from tests.records import assert_verified, place


@pytest.fixture
def box(tmp_path: Path) -> Place:
    return make_place(tmp_path / "home")


async def export(alone: Alone, seqs: list[int], **options: object) -> Exported:
    made: Exported = await alone.exporting.export(AUDITOR, CALLER, WHY, seqs=seqs, **options)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("crypto", ["standard", "fips"])
@pytest.mark.parametrize("reading", list(Reading))
async def test_a_sealed_case_opens_elsewhere(tmp_path: Path, crypto: str, reading: Reading) -> None:
    """Zip bytes, the log's key and the identities are enough; the contents are the ones that were sealed."""
    box = make_place(tmp_path / "home", crypto=crypto, reading=reading)  # type: ignore[arg-type]
    made = await sealed(box)
    found = archive.unpack(made.zip())
    opened = casefile.open_case(found, box.log, box.readers)

    assert made.form is Form.SEALED
    assert [each.checked.header.kind for each in opened] == [
        "request:opened", "request:segment", "request:segment", "request:closed",
    ]  # fmt: skip
    assert (opened[0].content or {})["messages"][0]["content"] == "what colour is the sky?"
    assert [(each.content or {}).get("text") for each in opened[1:3]] == ["It is ", "blue."]
    assert opened[3].content is None
    _, case = casefile.check(found, box.log)
    assert case.why == WHY
    assert_verified(box.home)


async def test_one_of_two_readers_opens_nothing(tmp_path: Path) -> None:
    """Where the policy says 2-of-n, one identity alone fails, and says what is missing."""
    box = make_place(tmp_path / "home", reading=Reading.TWO)
    found = (await sealed(box)).files
    for alone in ([box.readers[0]], [box.readers[1]], [box.readers[0], box.readers[0]]):
        with pytest.raises(VerificationError, match="two of its readers together"):
            casefile.open_case(found, box.log, alone)


async def test_a_strangers_identity_opens_nothing(box: Place) -> None:
    """Nor does one of the same name."""
    found = (await sealed(box)).files
    for stranger in (Identity.generate("alice"), Identity.generate("mallory")):
        with pytest.raises(VerificationError, match="not a recipient"):
            casefile.open_case(found, box.log, [stranger])


async def test_an_opened_case_is_evidence_with_keys_of_these_records_only(box: Place) -> None:
    """Shares and wraps stay behind; what is written is proved, and checked as all evidence is."""
    made = await sealed(box)
    opened = casefile.open_case(made.files, box.log, box.readers[:1])
    written = archive.unpack(archive.pack(casefile.disclosed(made.files, opened)))
    report = evidence.check(written, box.log)
    secrets = casefile.decode(made.files).shares

    assert report.is_opened_elsewhere
    assert [json.loads(each.content)["text"] for each in report.records[1:3] if each.content] == [
        "It is ",
        "blue.",
    ]
    assert not any(name.startswith(("epoch-", "case.json")) for name in written)
    everything = b"".join(written.values())
    assert secrets
    for secret in secrets.values():
        assert secret not in everything
        assert secret.hex().encode() not in everything


async def test_the_record_says_who_and_what_for(box: Place) -> None:
    """Purpose, case, person, place and records are sealed; form and counts are plain."""
    made = await sealed(box)
    (said,) = query.search(place(box.home), kind=Kind.AUDIT_EXPORTED)
    with box.open() as alone:
        again = await export(alone, [said.seq], identities=box.readers[:1])
    content = json.loads(again.files[f"record-{said.seq}.plain.json"])

    assert said.public == {"form": "sealed", "num_records": 4, "num_shares": 1}
    assert (content["purpose"], content["case"]) == (WHY.purpose, WHY.case)
    assert content["principal"]["name"] == "alice"
    assert content["caller"]["address"] == CALLER.address
    assert content["seqs"] == [json.loads(made.files[casefile.CASE])["seqs"]][0]


async def test_nothing_leaves_where_nothing_can_be_recorded(box: Place) -> None:
    """A latched log answers with an error, and no share is released."""
    with box.open() as alone:
        seqs = exchange(alone, "req_1", "q", ["a"])
        alone.audit.latch("a test")
        for form in (Form.PROOFS, Form.SEALED, Form.OPENED):
            with pytest.raises(AuditUnavailable):
                await export(
                    alone, seqs, identities=box.readers[:1] if form is Form.OPENED else (), form=form
                )
        with pytest.raises(AuditUnavailable):
            await alone.exporting.export_range(AUDITOR, CALLER, WHY, begin=0, end=2)


async def test_an_erased_content_is_told_as_erased(box: Place) -> None:
    """The case names the entry that says why; the rest of it opens."""
    privacy = Identity.generate("carol")
    with box.open() as alone:
        draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
        await alone.custody.change_policy(signed(draft, *box.readers))
        gone = exchange(alone, "req_1", "q", ["gone"], user="erased")
        kept = exchange(alone, "req_2", "q", ["kept"], user="kept")
        await erase(alone, box.readers[0], privacy, key="key_1", user="erased")
        (why,) = query.search(place(box.home), kind=Kind.CONTENT_ERASED)
        made = await export(alone, gone + kept)
        plain = await export(alone, gone + kept, identities=box.readers[:1])
    opened = {each.checked.header.seq: each for each in casefile.open_case(made.files, box.log, box.readers)}

    assert [opened[seq].erased_by for seq in gone] == [why.seq, why.seq, None]
    assert [opened[seq].content for seq in gone] == [None, None, None]
    assert (opened[kept[1]].content or {})["text"] == "kept"
    assert f"record-{gone[1]}.key" not in plain.files
    assert f"record-{kept[1]}.key" in plain.files


async def test_the_same_case_is_the_same_file(box: Place) -> None:
    """At one checkpoint, which a witness has cosigned, not a byte differs."""
    with box.open() as alone:
        seqs = exchange(alone, "req_1", "q", ["a"])
        first = alone.exporting._made(Form.SEALED, WHY, *_prepared(alone, seqs), (), None)
        again = alone.exporting._made(Form.SEALED, WHY, *_prepared(alone, seqs), (), None)

    assert archive.pack(first[0]) == archive.pack(again[0])


def _prepared(alone: Alone, seqs: list[int]) -> tuple[list[query.Record], dict[str, bytes]]:
    chosen = alone.exporting._chosen(seqs, (), Form.SEALED)
    home = alone.exporting._home
    found = shares.release(home, [bytes.fromhex(each) for each in query.shares_of(chosen)])
    return chosen, {name.hex(): secret for name, secret in found.items()}


async def test_a_request_is_exported_whole(box: Place) -> None:
    """By its id: every record of it, and an unknown id is refused before anything is recorded."""
    with box.open() as alone:
        seqs = exchange(alone, "req_1", "q", ["a", "b"])
        made = await alone.exporting.export(AUDITOR, CALLER, WHY, request_ids=["req_1"])
        for wrong in ({"request_ids": ["req_9"]}, {"seqs": [10**6]}, {}):
            with pytest.raises(RequestError):
                await alone.exporting.export(AUDITOR, CALLER, WHY, **wrong)

    assert casefile.decode(made.files).seqs == tuple(seqs)
    assert len(query.search(place(box.home), kind=Kind.AUDIT_EXPORTED)) == 1


async def test_too_much_for_one_export_is_refused(box: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of records, and by the length of what they hold."""
    with box.open() as alone:
        seqs = exchange(alone, "req_1", "q", ["a" * 5000])
        with pytest.raises(RequestError, match="too much"):
            await export(alone, list(range(1001)))
        monkeypatch.setattr("appliance.exporting.MAX_CONTENT_BYTES", 5000)
        with pytest.raises(RequestError, match="too much"):
            await export(alone, seqs)


async def test_redacted_evidence_withholds_and_proves(box: Place) -> None:
    """Header and proof are there, no key and no ciphertext; the parts and the words are gone."""
    redact = Redaction(frozenset({Part.WHO, Part.ADDRESS}), ("Smith",), "personal data")
    with box.open() as alone:
        seqs = exchange(alone, "req_1", "is SMITH in?", ["Mrs Smi", "th is out."], user="citizen 17")
        made = await export(alone, [seqs[1]], identities=box.readers[:1], redact=redact)
    report = evidence.check(archive.unpack(made.zip()), box.log)
    everything = b"".join(made.files.values()).lower()

    assert [each.header.seq for each in report.records] == seqs  # the whole request was read
    assert report.vouched_by == (box.log.name,)
    assert not [name for name in made.files if name.endswith((".key", ".ct", ".plain.json"))]
    for canary in (b"smi", b"citizen 17", b"192.0.2.7", b"front desk"):
        assert canary not in everything
    told = json.loads(report.records[2].redacted or "")
    assert told["content"]["text"] == f"{MARK} is out."
    assert told["withheld"] == [{"at": "/text", "reason": "personal data"}]


async def test_a_range_holds_every_header(box: Place) -> None:
    """Written file by file, it checks as a whole; one header less does not."""
    with box.open() as alone:
        for number in range(100):
            exchange(alone, f"req_{number}", "q", ["a"])
        ready = await alone.exporting.export_range(AUDITOR, CALLER, WHY, begin=3, end=290)
        found = archive.unpack(b"".join(ready.zipped()))
        for begin, end in ((5, 5), (7, 3), (0, 10**6)):
            with pytest.raises(RequestError, match="outside the log"):
                await alone.exporting.export_range(AUDITOR, CALLER, WHY, begin=begin, end=end)
    report = evidence.check(found, box.log)

    assert (report.begin, report.end, len(report.records)) == (3, 290, 287)
    with pytest.raises(VerificationError):
        evidence.check({**found, "headers.jsonl": found["headers.jsonl"].split(b"\n", 1)[1]}, box.log)


@pytest.mark.parametrize("words", ["", "ab", "  \t ", "x" * 501, "line\nbreak", "esc\x1b[m", "bidi \u202e"])
def test_a_purpose_says_something(words: str) -> None:
    """Printable, and neither empty nor endless."""
    with pytest.raises(RequestError) as caught:
        Why(words)
    assert caught.value.code == "invalid_purpose"


def test_a_long_range_is_read_page_by_page() -> None:
    """A million headers: what was handed on is not kept, and what is not asked for is not read."""
    asked: list[tuple[int, int]] = []

    def headers(begin: int, end: int) -> list[bytes]:
        asked.append((begin, end))
        return [b"x" * 400] * (end - begin)

    head = Checkpoint("log.example/1", 1_000_000, bytes(32))
    signer = Signer("log.example/1", Ed25519PrivateKey.generate())
    chosen = ranges.Range(0, 1_000_000, signer.sign(head.text()), "policy\n")
    made = ranges.files(
        chosen, headers=headers, tile_of=lambda tile: bytes(32 * tile.width), recipe={}, signer=signer
    )
    pieces = archive.zipped(made)
    tracemalloc.start()
    length, before = 0, 0
    for number, piece in enumerate(pieces):
        length += len(piece)
        if number == 5:
            before = len(asked)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert length > 800_000_000
    assert before < 6
    assert max(end - begin for begin, end in asked) == 256
    assert peak < 32 << 20
