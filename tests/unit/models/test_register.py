"""What the database holds of models is what the register and the catalogue say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from appliance import config, db
from appliance.alone import open_log_alone
from appliance.catalog import AliasOf, Catalog
from appliance.config import Home
from appliance.core import ModelSpec, Purpose, Role
from appliance.errors import VerificationError
from appliance.models import specs
from appliance.models.cards import File
from appliance.models.register import Register, State
from appliance.readiness import lost
from tests.clocks import ManualClock
from tests.modelled import alias, evaluation, imported, put_everything, split


def own(name: str, *aliases: str) -> ModelSpec:
    """A model of the release's own catalogue."""
    return ModelSpec(id=name, sha256="9" * 64, size_bytes=1, path=Path(name), aliases=aliases)


async def test_every_row_comes_back_as_it_was_written(home: Home, clock: ManualClock) -> None:
    """Models, aliases and evaluations are the same values behind the database; what was removed, too."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.people.create("Ada Kim", Role.OPERATOR)
        await put_everything(alone)
    with db.reading(home.database) as connection:
        read = Register.read(connection)

    assert [each.id for each in read.models()] == ["first", "second"]
    second, gone = read.model("second"), read.model("gone")
    assert second is not None
    assert gone is not None
    assert (second.accepted_by is not None, second.accepted_us) == (True, second.imported_us)
    assert replace(second, accepted_by=None, accepted_us=None, imported_us=0, imported_by="") == split(
        "second"
    )
    assert gone.removed_us is not None
    first = imported("first")
    assert read.alias("lobby") == alias("lobby", split("second"), first)
    assert read.evaluations("first", first.sha256) == [evaluation(first)]
    assert read.evaluations("first", "0" * 64) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE model SET purpose = 'poetry' WHERE id = 'first'",
        "UPDATE model SET card = '[]' WHERE id = 'first'",
        "UPDATE model SET parts = '[{}]' WHERE id = 'first'",
        "UPDATE alias SET previous = 'x' WHERE name = 'lobby'",
    ],
)
async def test_a_row_that_is_none_is_named(home: Home, clock: ManualClock, statement: str) -> None:
    """What was written past the program is not believed: the error names the row, never what stands there."""
    with open_log_alone(home, config.load(home), clock) as alone:
        await alone.people.create("Ada Kim", Role.OPERATOR)
        await put_everything(alone)
    with db.at(home.database).migrator().begin() as connection:
        connection.execute(text(statement))

    with db.reading(home.database) as connection, pytest.raises(VerificationError) as refused:
        Register.read(connection)
    assert refused.value.code == "bad_model_row"
    assert "poetry" not in refused.value.message


def test_a_model_is_staged_then_active_then_retired() -> None:
    """Its state follows from the names that stand for exactly this file, and did."""
    known = Register()
    first, second = imported("first"), imported("second")

    def states() -> list[State]:
        return [known.state(each.id, each.sha256) for each in (first, second)]

    assert states() == [State.STAGED, State.STAGED]
    known.put_alias(alias("lobby", first))
    assert states() == [State.ACTIVE, State.STAGED]
    known.put_alias(alias("lobby", second, first))
    assert states() == [State.RETIRED, State.ACTIVE]
    assert known.state("first", "0" * 64) is State.STAGED
    assert [each.name for each in known.aliases_of("second")] == ["lobby"]
    assert known.aliases_of("first") == []


def test_a_split_model_lies_in_a_folder_of_its_digest(tmp_path: Path) -> None:
    """Names stay, since llama.cpp derives them; the digest is of what sha256sum prints for the files."""
    home = Home(root=tmp_path)
    known = split("big")
    spec = specs.spec_of(known, home)

    assert [each.path for each in spec.parts] == [
        home.models / "split" / known.sha256 / each.name for each in known.parts
    ]
    assert spec.path == spec.parts[0].path
    assert spec.n_ctx == 2048
    # printf '%s  %s\n' 1111… a-00001-of-00001.gguf | sha256sum
    said = specs.digest_of_parts([File("a-00001-of-00001.gguf", "1" * 64, 1)])
    assert said == "eb81e49a018ea3a9019dd487aa4158722ee6ac4127d030d7d9f0a6ece3060ebe"


def test_an_alias_goes_before_the_release_and_only_for_its_digest() -> None:
    """`default` always means something: where what it stood for is not here, the configuration's model."""
    catalog = Catalog([own("starter", "default", "small"), own("other")])
    lora = ModelSpec("lora", "7" * 64, 5, Path("lora"), purpose=Purpose.ADAPTER)
    big = ModelSpec("big", "8" * 64, 5, Path("big"))

    def named(name: str) -> str | None:
        found = catalog.resolve(name)
        return found.id if found is not None else None

    catalog.learn([lora, big], [AliasOf("default", "big", "8" * 64), AliasOf("desk", "big", "1" * 64)])
    assert [each.name for each in catalog.lost] == ["desk"]
    [trouble] = lost(catalog)
    assert (trouble.code, trouble.stops) == ("alias_lost", False)
    assert "desk stands for big" in trouble.says
    assert "means nothing" in trouble.says
    assert [named(each) for each in ("default", "small", "big", "desk", "lora", "other")] == [
        "big", "starter", "big", None, None, "other",
    ]  # fmt: skip
    assert {each.id: each.aliases for each in catalog.list()} == {
        "starter": ("small",), "other": (), "lora": (), "big": ("default",),
    }  # fmt: skip
    assert catalog.find("lora") is not None
    assert catalog.find("default") is None

    laid = AliasOf("desk", "starter", "9" * 64, "lora", "7" * 64, 0.5)
    catalog.learn([lora], [AliasOf("default", "big", "8" * 64), laid, AliasOf("other", "starter", "9" * 64)])
    assert [named(each) for each in ("default", "desk", "big", "other")] == [
        "starter",
        "starter",
        None,
        "other",
    ]
    desk = catalog.resolve("desk")
    assert desk is not None
    assert desk.adapter is not None
    assert (desk.adapter.id, desk.adapter.scale, desk.adapter.path) == ("lora", 0.5, Path("lora"))
    catalog.learn([], [laid])
    assert named("desk") is None


def test_an_imported_model_never_hides_one_of_the_release() -> None:
    """A release may bring a model of a name that was imported before: its own goes first."""
    catalog = Catalog([own("starter", "default")])
    catalog.learn([ModelSpec("starter", "8" * 64, 5, Path("x"))], [AliasOf("desk", "starter", "8" * 64)])

    found = catalog.resolve("starter")
    assert found is not None
    assert found.sha256 == "9" * 64
    assert catalog.resolve("desk") is None
    assert [each.id for each in catalog.list()] == ["starter"]
