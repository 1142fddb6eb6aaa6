"""Models: each act on the record with its row, known with the commit, one file for each id for ever."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from appliance import config, db, performing
from appliance.alias_commands import Vouched
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import Answer, Done, ImportModel, ListModels, Problem, RefuseModel, RemoveModel
from appliance.config import Home
from appliance.core import Purpose, Role
from appliance.errors import RequestError
from tests.clocks import ManualClock
from tests.entered import OWN, person
from tests.modelled import CARD, alias, imported, put_alias, put_everything
from tests.slowness import quicken
from tests.verifying import verify


def asked(name: str, accepted_by: Vouched | None = None) -> ImportModel:
    """As the program asks for it when the files lie in the store."""
    return ImportModel(
        id=name,
        sha256=imported(name).sha256,
        size_bytes=1000,
        purpose=Purpose.CHAT,
        file=f"{name}.gguf",
        licence="Apache-2.0",
        origin="a test",
        card=CARD,
        accepted_by=accepted_by,
    )


async def test_what_was_imported_is_known_from_the_commit_on(home: Home, clock: ManualClock) -> None:
    """By its id, after another start too; what was removed is known no more, and may come back as it was."""
    with open_log_alone(home, config.load(home), clock) as alone:
        known, receipt = await alone.modelling.import_model(imported("first"))
        assert alone.modelling.catalog.resolve("first") is not None
        assert (known.imported_by, known.imported_us) == ("program", clock.now_us())
    with open_log_alone(home, config.load(home), clock) as alone:
        found = alone.modelling.catalog.resolve("first")
        assert found is not None
        assert found.sha256 == known.sha256
        await alone.modelling.remove_model("first", why="a test")
        assert alone.modelling.catalog.resolve("first") is None
        with pytest.raises(RequestError) as refused:
            await alone.modelling.remove_model("first", why="again")
        assert refused.value.code == "model_not_found"
        with pytest.raises(RequestError) as refused:
            await alone.modelling.import_model(imported("first", sha256="f" * 64))
        assert refused.value.code == "model_exists"
        await alone.modelling.import_model(imported("first"))
        assert alone.modelling.catalog.resolve("first") is not None

    written = query.search(home.database, kind=Kind.MODEL_IMPORTED, limit=9)
    assert [(each.public["model"], each.public["num_parts"]) for each in written] == [("first", 0)] * 2
    assert f"/{written[-1].seq}" in receipt.record
    assert verify(home).findings == []


@pytest.mark.parametrize("name", ["default", "smollm2-135m-instruct", "lobby"])
async def test_a_name_that_means_something_is_not_taken(home: Home, clock: ManualClock, name: str) -> None:
    """The release's own models, and aliases, keep theirs."""
    with open_log_alone(home, config.load(home), clock) as alone:
        first, _ = await alone.modelling.import_model(imported("first"))
        await put_alias(alone, alias("lobby", first))
        alone.modelling.relearn()
        with pytest.raises(RequestError) as refused:
            await alone.modelling.import_model(imported(name))

    assert refused.value.code == "model_exists"


async def test_a_model_in_use_stays(home: Home, clock: ManualClock) -> None:
    """Whoever removes it lets its aliases stand for another one first."""
    with open_log_alone(home, config.load(home), clock) as alone:
        first, _ = await alone.modelling.import_model(imported("first"))
        await put_alias(alone, alias("lobby", first))
        alone.modelling.relearn()
        with pytest.raises(RequestError) as refused:
            await alone.modelling.remove_model("first", why="a test")

    assert refused.value.code == "model_in_use"


async def test_a_licence_is_accepted_by_somebody_who_runs_the_box(
    home: Home, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator or an admin who proves to be the one that is named; with the moment."""
    quicken(monkeypatch)

    async def offered(by: Vouched) -> Answer:
        return await performing.perform(asked("first", by), alone)

    with open_log_alone(home, config.load(home), clock) as alone:
        ada = await person(alone, "Ada Kim", Role.OPERATOR)
        await person(alone, "Bo Lind", Role.PRIVACY)
        refusals = [
            await offered(Vouched(account="Bo Lind", passphrase=OWN)),
            await offered(Vouched(account="Nobody", passphrase=OWN)),
            await offered(Vouched(account="Ada Kim", passphrase="four other words here")),
        ]
        assert isinstance(await offered(Vouched(account="Ada Kim", passphrase=OWN)), Done)
        known = alone.modelling.register.model("first")

    codes = [each.code for each in refusals if isinstance(each, Problem)]
    assert codes == ["permission_denied", "account_not_found", "invalid_login"]
    assert known is not None
    assert (known.accepted_by, known.accepted_us) == (ada.id, clock.now_us())


async def test_the_program_asks_by_commands(home: Home, clock: ManualClock) -> None:
    """Importing, refusing, listing and removing answer with the record's number, or with a code."""
    import_ = asked("first")
    with open_log_alone(home, config.load(home), clock) as alone:
        done = await performing.perform(import_, alone)
        again = await performing.perform(import_, alone)
        listed = await performing.perform(ListModels(), alone)
        refusal = RefuseModel(code="bad_model", reason="it ends early", file="x.gguf")
        assert isinstance(await performing.perform(refusal, alone), Done)
        assert isinstance(await performing.perform(RemoveModel(id="first", why="old"), alone), Done)

    assert isinstance(done, Done)
    assert isinstance(again, Problem)
    assert again.code == "model_exists"
    assert isinstance(listed, Done)
    models = {each["id"]: each for each in listed.result["models"]}
    assert models["first"]["state"] == "staged"
    assert models["first"]["imported"]["card"]["architecture"] == "llama"
    assert models["smollm2-135m-instruct"]["imported"] is None
    assert models["smollm2-135m-instruct"]["state"] == "active"
    refused = query.search(home.database, kind=Kind.MODEL_REFUSED, limit=9)
    assert [each.public for each in refused] == [{"code": "bad_model", "model_sha256": ""}]


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE model SET sha256 = 'f'", "is not as its record left it"),
        ("UPDATE alias SET model = 'gone'", "is not as its record left it"),
        ("UPDATE evaluation SET num_passed = 2", "is not as its record left it"),
        ("DELETE FROM alias", "is missing"),
    ],
)
async def test_a_changed_row_is_found(home: Home, clock: ManualClock, statement: str, finding: str) -> None:
    """Whoever lets a name mean another file behind the record's back is found by verifying."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.people.create("Ada Kim", Role.OPERATOR)
        await put_everything(alone)
    assert verify(home).findings == []
    with db.at(home.database).migrator().begin() as connection:
        connection.execute(text(statement))

    assert [each for each in verify(home).findings if finding in each.message]
