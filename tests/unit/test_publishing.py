"""Documents: each version on the record with its row, in force with the commit, never changed."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from appliance import config, db, performing
from appliance.accounts.documents import Library
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import Done, ListDocuments, Problem, PublishDocument, ShowDocument, WithdrawDocument
from appliance.config import Home
from appliance.core import Genre, Role
from appliance.errors import RequestError
from appliance.terms import Terms
from tests.clocks import ManualClock
from tests.verifying import verify

RULES = '[[rules]]\nid = "a"\non = "both"\naction = "flag"\npattern = "x"\n'


async def test_versions_count_up_and_stay(home: Home, clock: ManualClock) -> None:
    """Another text is another version; what was published reads as it was, and is known after a start."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await asyncio.gather(
            *(alone.publishing.publish(Genre.PROMPT, "lobby", f"Text {number}.") for number in range(3))
        )
        again = await alone.publishing.publish(
            Genre.PROMPT, "lobby", alone.publishing.show(Genre.PROMPT, "lobby").text
        )
        before = alone.publishing.library.all(Genre.PROMPT)
        assert again.receipt is None
    with open_log_alone(home, config.load(home), clock) as alone:
        after = alone.publishing.library.all(Genre.PROMPT)
        assert alone.publishing.library.all(Genre.GUARDRAILS) == []

    assert after == before
    assert [each.reference for each in after] == ["lobby@1", "lobby@2", "lobby@3"]
    assert {each.text for each in after} == {"Text 0.", "Text 1.", "Text 2."}
    published = query.search(home.database, kind=Kind.DOCUMENT_PUBLISHED, limit=9)
    assert [(each.public["document"], each.public["version"]) for each in published] == [
        ("prompt", 3), ("prompt", 2), ("prompt", 1),
    ]  # fmt: skip


async def test_a_reference_finds_what_is_in_force(home: Home, clock: ManualClock) -> None:
    """A name is its latest version in force, a pinned one exactly that, or nothing."""
    with open_log_alone(home, config.load(home), clock) as alone:
        library, publishing = alone.publishing.library, alone.publishing
        for number in range(3):
            await publishing.publish(Genre.GUARDRAILS, "desk", RULES + f"# {number}\n")
        await publishing.withdraw(Genre.GUARDRAILS, "desk@3")

        def found(reference: str) -> int | None:
            known = library.find(Genre.GUARDRAILS, reference)
            return known.version if known is not None else None

        names = ("desk", "desk@1", "desk@3", "desk@9", "desk@0", "desk@01", "desk@", "DESK", "", "other")
        assert [found(each) for each in names] == [2, 1, *[None] * 8]
        assert library.find(Genre.PROMPT, "desk") is None
        assert publishing.show(Genre.GUARDRAILS, "desk@3").withdrawn_us is not None
        # The next version takes a number that nobody had.
        assert (await publishing.publish(Genre.GUARDRAILS, "desk", RULES)).document.version == 4
        await publishing.withdraw(Genre.GUARDRAILS, "desk")
        assert found("desk") is None
        with pytest.raises(RequestError) as refused:
            await publishing.withdraw(Genre.GUARDRAILS, "desk")
        assert refused.value.code == "document_not_found"


@pytest.mark.parametrize(
    ("genre", "name", "content", "code"),
    [
        (Genre.PROMPT, "Lobby", "x", "invalid_name"),
        (Genre.PROMPT, "../x", "x", "invalid_name"),
        (Genre.PROMPT, "a@1", "x", "invalid_name"),
        (Genre.PROMPT, "a" * 49, "x", "invalid_name"),
        (Genre.PROMPT, "a", " \n", "invalid_document"),
        (Genre.PROMPT, "a", "x" * 65_537, "invalid_document"),
        (Genre.PROMPT, "a", "x\0", "invalid_document"),
        (Genre.GUARDRAILS, "a", "x", "invalid_guardrails"),
        (Genre.GUARDRAILS, "a", RULES.replace("x", "x+"), "invalid_guardrails"),
    ],
)
async def test_what_can_not_be_kept_is_refused(
    home: Home, clock: ManualClock, genre: Genre, name: str, content: str, code: str
) -> None:
    """Nothing is published that could not be found, read or used; nothing is on the record of it."""
    with open_log_alone(home, config.load(home), clock) as alone:
        answer = await performing.perform(PublishDocument(document=genre, name=name, text=content), alone)

    assert isinstance(answer, Problem)
    assert answer.code == code
    assert query.search(home.database, kind=Kind.DOCUMENT_PUBLISHED, limit=1) == []


async def test_the_program_is_told_who_gets_what(home: Home, clock: ManualClock) -> None:
    """The list names the keys in force that get a version now; the text comes when it is asked for."""
    with open_log_alone(home, config.load(home), clock) as alone:

        async def done(command: object) -> dict[str, object]:
            answer = await performing.perform(command, alone)  # type: ignore[arg-type]
            assert isinstance(answer, Done), answer
            return answer.result

        for number in (1, 2):
            await done(PublishDocument(document=Genre.PROMPT, name="lobby", text=f"Text {number}."))
        create = alone.administration.create_key
        latest = await create("a", Role.KIOSK, terms=Terms(prompt="lobby"))
        pinned = await create("b", Role.KIOSK, terms=Terms(prompt="lobby@1"))
        gone = await create("c", Role.KIOSK, terms=Terms(prompt="lobby"))
        await alone.administration.revoke_key(gone.new.key.id)
        listed = await done(ListDocuments(document=Genre.PROMPT))
        shown = await done(ShowDocument(document=Genre.PROMPT, reference="lobby"))

        assert [each["keys"] for each in listed["documents"]] == [[pinned.new.key.id], [latest.new.key.id]]  # type: ignore[attr-defined]
        assert (shown["text"], shown["reference"]) == ("Text 2.", "lobby@2")
        withdrawn = await done(WithdrawDocument(document=Genre.PROMPT, reference="lobby"))
        assert len(withdrawn["withdrawn"]) == 2  # type: ignore[arg-type]
        renamed = await alone.administration.change_key("a", Terms(prompt="lobby", prefix_profile="x"))
        assert [each.terms.prompt for each in renamed.keys] == ["lobby"]


@pytest.mark.parametrize("terms", [Terms(prompt="lobby"), Terms(prompt="desk@2"), Terms(guardrails="desk")])
async def test_a_key_names_what_is_in_force(home: Home, clock: ManualClock, terms: Terms) -> None:
    """A name that says nothing, a version that is not there, another kind of document: refused at once."""
    with open_log_alone(home, config.load(home), clock) as alone:
        publish = PublishDocument(document=Genre.PROMPT, name="desk", text="Be brief.")
        assert isinstance(await performing.perform(publish, alone), Done)
        with pytest.raises(RequestError) as refused:
            await alone.administration.create_key("lobby", Role.KIOSK, terms=terms)

    assert refused.value.code == "document_not_found"


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE document SET text = 'another'", "is not as its record left it"),
        ("UPDATE document SET withdrawn_us = NULL", "is not as its record left it"),
        ("DELETE FROM document", "is missing"),
    ],
)
async def test_a_changed_document_is_found(
    home: Home, clock: ManualClock, statement: str, finding: str
) -> None:
    """Whoever changes a published text behind the record's back is found by verifying."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.publishing.publish(Genre.PROMPT, "lobby", "x")
        await alone.publishing.withdraw(Genre.PROMPT, "lobby")
    assert verify(home).findings == []
    with db.at(home.database).migrator().begin() as connection:
        connection.execute(text(statement))

    assert [each for each in verify(home).findings if finding in each.message]


def test_a_library_without_documents_finds_none() -> None:
    """Deny by default: no name means anything before something is published."""
    assert Library().find(Genre.PROMPT, "default") is None
