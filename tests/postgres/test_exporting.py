"""Exports of a record on a server: each form opens and proves itself as it does from a file."""

from __future__ import annotations

import pytest

from appliance.audit import archive, casefile, evidence, query
from appliance.audit.kinds import Kind
from appliance.audit.redaction import MARK, Part, Redaction
from appliance.config import Home
from appliance.exporting import Form
from tests.acts import dev_auditor
from tests.cases import AUDITOR, CALLER, WHY, Place, exchange
from tests.records import assert_verified, place


@pytest.fixture
def box(home: Home) -> Place:
    return Place(home, [dev_auditor(home)])


async def test_every_form_leaves_whole(box: Place) -> None:
    """Proofs, a sealed case, opened and redacted evidence, a range: checked with the log's key alone."""
    with box.open() as alone:
        seqs = exchange(alone, "req_1", "what colour is the sky?", ["It is ", "blue."])
        made = {
            form: await alone.exporting.export(
                AUDITOR,
                CALLER,
                WHY,
                seqs=seqs,
                identities=box.readers if form in {Form.OPENED, Form.REDACTED} else (),
                redact=Redaction(frozenset({Part.WHO}), ("blue",), "a test")
                if form is Form.REDACTED
                else None,
                form=None if form is Form.REDACTED else form,
            )
            for form in (Form.PROOFS, Form.SEALED, Form.OPENED, Form.REDACTED)
        }
        ready = await alone.exporting.export_range(AUDITOR, CALLER, WHY, begin=0, end=seqs[-1])
        found = archive.unpack(b"".join(ready.zipped()))

    assert {form: each.form for form, each in made.items()} == {form: form for form in made}
    opened = casefile.open_case(archive.unpack(made[Form.SEALED].zip()), box.log, box.readers)
    assert [(each.content or {}).get("text") for each in opened[1:3]] == ["It is ", "blue."]
    told = {
        form: evidence.check(archive.unpack(made[form].zip()), box.log)
        for form in (Form.PROOFS, Form.OPENED, Form.REDACTED)
    }
    assert all([each.header.seq for each in report.records] == seqs for report in told.values())
    assert [each.content for each in told[Form.PROOFS].records] == [None] * len(seqs)
    assert "blue." in (told[Form.OPENED].records[2].content or "")
    redacted = "".join(each.redacted or "" for each in told[Form.REDACTED].records)
    assert (MARK in redacted, "blue" in redacted) == (True, False)
    report = evidence.check(found, box.log)
    assert (report.begin, report.end) == (0, seqs[-1])
    exported = query.search(place(box.home), kind=Kind.AUDIT_EXPORTED)
    assert [each.public["form"] for each in reversed(exported)] == [*made, Form.RANGE]
    assert_verified(box.home)
