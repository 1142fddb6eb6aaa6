"""What the auditor's pages make of a form, of the record and of numbers, without a browser."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import pytest
import segno
from starlette.datastructures import FormData

from appliance.audit.header import Header
from appliance.audit.kinds import Kind
from appliance.audit.query import Opened, Record
from appliance.audit.timeline import Timeline
from appliance.auditing import Exchange
from appliance.console.pages.auditor import drawing, words
from appliance.console.pages.auditor.asking import Asked
from appliance.console.pages.auditor.exchange import shown
from appliance.core import Outcome
from appliance.errors import RequestError

NOW = 1_800_000_000_123_456


def test_every_kind_and_outcome_has_words() -> None:
    """Nothing on the record is without a name for people, and no two have one."""
    assert set(words.KINDS) == set(Kind)
    assert set(words.OUTCOMES) == set(Outcome)
    assert len(set(words.KINDS.values())) == len(Kind)
    assert all(kinds or name == "everything" for name, (_, kinds) in words.GROUPS.items())


def test_a_saved_search_comes_back_without_names() -> None:
    """Every field but the person, the conversation and the address."""
    form = FormData(
        [
            ("look", "refusals"),
            ("time", "week"),
            ("outcomes", "failed"),
            ("outcomes", "client_gone"),
            ("codes", "a, b"),
            ("key", "k_1"),
            ("user", "Maria"),
            ("session", "visit 4"),
            ("address", "10.0.0.1"),
            ("min_prompt_tokens", "7"),
            ("csrf", "x"),
        ]
    )
    asked = Asked.of(form)
    saved = asked.to_save()
    again = Asked.from_saved(saved)

    assert not any(each in saved for each in ("Maria", "visit", "10.0"))
    assert again == Asked(
        look="refusals",
        time="week",
        outcomes=("failed", "client_gone"),
        codes="a, b",
        key="k_1",
        min_prompt_tokens="7",
    )
    found = again.filters(NOW)
    assert (found.kinds, found.codes, found.key) == ((Kind.REQUEST_REFUSED,), ("a", "b"), "k_1")
    assert found.since_us == NOW - 7 * 86_400_000_000


def test_a_saved_search_of_another_release_is_read_as_far_as_it_is_known() -> None:
    """What this release has no field for is left out."""
    assert Asked.from_saved('{"look": "everything", "colour": "red"}') == Asked(look="everything")


@pytest.mark.parametrize(
    "asked",
    [
        Asked(look="nothing"),
        Asked(time="yesterday"),
        Asked(time="span", since="yesterday"),
        Asked(time="span", since="2026-13-01T00:00"),
        Asked(time="span", since="٢026-11-01T00:00"),
        Asked(time="span", since="2026-11-02T00:00", until="2026-11-01T00:00"),
        Asked(outcomes=("well",)),
        Asked(kinds=("request:eaten",)),
        Asked(min_prompt_tokens="-1"),
        Asked(min_prompt_tokens="٣"),
        Asked(min_completion_tokens="9", max_completion_tokens="3"),
    ],
    ids=str,
)
def test_a_form_that_no_page_of_ours_sends_is_refused(asked: Asked) -> None:
    """With a reason, and not with a crash."""
    with pytest.raises(RequestError):
        asked.filters(NOW)


def test_a_field_that_is_too_long_is_refused() -> None:
    """Before anything is done with it."""
    with pytest.raises(RequestError):
        Asked.of(FormData([("user", "x" * 513)]))


@pytest.mark.parametrize(("begin", "end"), [(NOW, NOW + 1), (0, 999), (NOW, NOW + 86_400_000_001)])
def test_a_narrowed_search_holds_the_whole_bar(begin: int, end: int) -> None:
    """Forms hold milliseconds; rounding never leaves an entry out."""
    found = Asked().narrowed(begin, end).filters(NOW)

    assert found.since_us is not None
    assert found.until_us is not None
    assert begin - 1000 < found.since_us <= begin
    assert end <= found.until_us < end + 1000


def test_bars_stand_inside_the_picture_and_one_of_a_million_is_seen() -> None:
    """Parts lie on one another without a gap, in the order of the legend."""
    counts: tuple[dict[str, int], ...] = (
        {"stop": 1_000_000, "failed": 1},
        {},
        {"request:refused": 5, "audit:read": 2},
    )
    found = drawing.chart(Timeline(0, 3_000_000, 1_000_000, counts, complete=True, counted_from_us=0))
    first, empty, last = found.bars

    assert [each.series for each in first.parts] == ["answered", "failed"]
    assert [each.series for each in last.parts] == ["refused", "other"]
    assert first.parts[1].height >= 1
    assert first.parts[1].y + first.parts[1].height == pytest.approx(first.parts[0].y, abs=0.02)
    assert all(0 <= part.y <= drawing.HEIGHT for bar in found.bars for part in bar.parts)
    assert (empty.total, first.total, found.total) == (0, 1_000_001, 1_000_008)
    assert found.unseen_width == 0


def test_what_was_not_counted_is_hatched() -> None:
    """A third of the time, a third of the width."""
    found = drawing.chart(
        Timeline(0, 3_000_000, 1_000_000, ({}, {}, {}), complete=False, counted_from_us=1_000_000)
    )

    assert found.unseen_width == pytest.approx((drawing.WIDTH - drawing.LEFT) / 3, abs=0.01)


def test_the_qr_code_is_the_librarys_own() -> None:
    """Its one path covers exactly the dark modules, with a quiet zone of four around them."""
    text = "old 0\n\norigin\n5\n" + "A" * 300
    found = drawing.qr(text)
    assert found is not None
    dark = set()
    for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", found.path):
        dark |= {(int(x) + step - 4, int(y) - 4) for step in range(int(length))}
    matrix = segno.make_qr(text.encode(), error="m").matrix

    assert dark == {(x, y) for y, row in enumerate(matrix) for x, cell in enumerate(row) if cell}
    assert found.size == len(matrix) + 8
    assert drawing.qr("x" * 5000) is None


def record(seq: int, kind: Kind, **public: Any) -> Record:
    header = Header(
        v=1, log="a/1", seq=seq, ts=1_000 * seq, mono=0, boot="b", kind=str(kind), pub=public, req="req_1"
    )
    return Record(seq, 1_000 * seq, kind, "req_1", public, bytes(32), header)


def exchange(*answer: str, digest: str | None = None, verified: bool = True) -> Exchange:
    """A streamed exchange; its last piece stands in the closing."""
    whole = hashlib.sha256("".join(answer).encode()).hexdigest()
    *pieces, end = answer
    content = {"messages": [{"role": "user", "content": "q"}], "sampling": {"top_k": 4, "seed": None}}
    opened = [
        Opened(
            record(5, Kind.REQUEST_OPENED, endpoint="chat", model="m", model_sha256="0", stream=1), content
        ),
        *(
            Opened(record(6 + at, Kind.REQUEST_SEGMENT, index=at, num_tokens=1), {"text": each})
            for at, each in enumerate(pieces)
        ),
        Opened(
            record(
                9,
                Kind.REQUEST_CLOSED,
                outcome="stop",
                prompt_tokens=3,
                queue_us=1_000,
                output_sha256=whole if digest is None else digest,
            ),
            {"output": end},
        ),
    ]
    return Exchange(tuple(opened), {each.record.seq: (20, verified) for each in opened})


TOOLING = {
    "tools": [{"name": "weather", "description": "of a place", "parameters": "{}"}],
    "choice": "auto",
    "parallel": True,
}


def test_pieces_and_end_are_one_answer() -> None:
    """Joined in order, and compared with the digest that its header commits to."""
    page = shown(9, exchange("It is ", "blue", "."))

    assert ([each.text for each in page.answers], page.answer_matches) == (["It is blue."], True)
    assert [(each.role, each.text) for each in page.asked] == [("user", "q")]
    assert page.settings == {"top k": "4"}
    assert page.took_us == 4_000
    assert sum(each.us for each in page.stretches) == 4_000


def test_an_answer_that_is_not_its_digests_is_marked() -> None:
    """Red, and never silently."""
    assert shown(9, exchange("It is ", "blue", ".", digest="0" * 64)).answer_matches is False


def test_one_entry_without_a_proof_marks_the_whole_exchange() -> None:
    """Verified means every entry of it."""
    assert not shown(9, exchange("a", "b", verified=False)).verified


def test_an_exchange_without_its_end_is_open() -> None:
    """Nothing is claimed about an answer that has not ended."""
    found = exchange("a", "b")
    page = shown(5, Exchange(found.records[:2], found.proofs))

    assert page.mark.text == "Still open"
    assert ([each.text for each in page.answers], page.answer_matches, page.took_us) == (["a"], None, None)


def test_erased_content_names_the_entry_that_erased_it() -> None:
    """Each once, and the page holds nothing in its place."""
    found = exchange("a", "b")
    gone = tuple(Opened(each.record, None, erased_by=12) for each in found.records)
    page = shown(5, Exchange(gone, found.proofs))

    assert (page.erased_by, page.is_open, list(page.answers), list(page.asked)) == ([12], False, [], [])


def test_several_answers_stand_apart_and_are_one_digest() -> None:
    """Each choice with its own label and prompt; the digest is over them one after the other."""
    found = exchange("Rome", "", digest=hashlib.sha256(b"Rome.Oslo").hexdigest())
    asked = {"prompts": ["Italy:", "Norway:"], "sampling": {}, "tooling": TOOLING}
    closed = {"output": ".", "outputs": [{"text": "slo", "choice": 1}]}
    records = [
        Opened(found.records[0].record, asked),
        found.records[1],
        Opened(record(7, Kind.REQUEST_SEGMENT, index=1, num_tokens=1), {"text": "O", "choice": 1}),
        Opened(found.records[-1].record, closed),
    ]
    page = shown(9, Exchange(tuple(records), {each.record.seq: (20, True) for each in records}))

    assert [(each.label, each.text) for each in page.answers] == [
        ("Answer 1, to prompt 1", "Rome."),
        ("Answer 2, to prompt 2", "Oslo"),
    ]
    assert page.answer_matches is True
    assert [(each.role, each.text) for each in page.asked] == [("prompt", "Italy:"), ("prompt", "Norway:")]
    assert [each.role for each in page.tools] == ["weather"]
    assert page.settings["tool choice"] == "auto"
    assert page.rest == []


def test_an_exchange_without_words_says_so_and_why() -> None:
    """Nothing is missing there: the key's words are not kept, and the ground stands on the page."""
    found = exchange("a", "b", digest="")
    opening = {"sampling": {"top_k": 4}, "annotations": {"user": "u"}, "capture_basis": "agreement 7"}
    wordless = tuple(
        Opened(
            dataclasses.replace(each.record, public=each.record.public | {"capture": "metadata"}),
            opening if each.record.kind is Kind.REQUEST_OPENED else None,
        )
        for each in found.records
    )
    page = shown(5, Exchange(wordless, found.proofs))

    assert (page.has_words, page.basis, page.answer_matches) == (False, "agreement 7", None)
    assert (list(page.asked), list(page.answers), page.rest) == ([], [], [])
    assert page.people["Caller said: user"] == "u"
    assert shown(9, found).has_words


def test_what_rules_decided_stands_in_a_place_of_its_own() -> None:
    """On the question and on the answer; what held is named by its version."""
    placed = {"rule": "phone", "action": "redact", "begin": 3, "end": 11}
    found = exchange("a", "b")
    held = {
        **(found.records[0].content or {}),
        "locked_prompt": {"name": "lobby", "version": 2, "sha256": "0"},
        "guardrails": {"name": "strict", "version": 1, "sha256": "0",
                       "verdicts": [{**placed, "at": "messages[1].content"}]},
    }  # fmt: skip
    closed = {**(found.records[-1].content or {}), "verdicts": [{**placed, "at": "text"}]}
    records = (
        Opened(found.records[0].record, held),
        *found.records[1:-1],
        Opened(found.records[-1].record, closed),
    )
    page = shown(9, Exchange(records, found.proofs))

    assert [(each.side, each.rule, each.at) for each in page.verdicts] == [
        ("question", "phone", "messages[1].content"),
        ("answer", "phone", "text"),
    ]
    assert (page.settings["locked prompt"], page.settings["rules"]) == ("lobby@2", "strict@1")
    assert [seq for seq, _ in page.rest] == [5]
    assert shown(9, found).verdicts == []
