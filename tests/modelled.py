"""Models as tests put them on the record: imported, named by an alias, evaluated."""

from __future__ import annotations

from typing import Any

from appliance import db
from appliance.alone import Alone
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.commands import ImportModel
from appliance.core import Principal, Purpose, Role
from appliance.models import tables
from appliance.models.cards import Card, File, Pointed
from appliance.models.tables import Alias, Evaluation, Imported

ADA = Principal("p_ada", "Ada Kim", Role.OPERATOR)
CARD = Card(architecture="llama", name="made for a test", quantization="Q4_1", n_ctx_train=2048)


def imported(name: str, **changes: Any) -> Imported:
    """A model that nobody has imported yet."""
    fields: dict[str, Any] = {
        "id": name,
        "sha256": name.encode().hex()[:2].ljust(64, "a"),
        "size_bytes": 1000,
        "purpose": Purpose.CHAT,
        "file": f"{name}.gguf",
        "licence": "Apache-2.0",
        "origin": "a test",
        "card": CARD,
    }
    return Imported(**fields | changes)


def offered(name: str, sha256: str, size_bytes: int) -> ImportModel:
    """The command that takes a model on the record; its file lies in the store."""
    known = imported(name)
    return ImportModel(
        id=name,
        sha256=sha256,
        size_bytes=size_bytes,
        purpose=known.purpose,
        file=known.file,
        licence=known.licence,
        origin=known.origin,
        card=known.card,
    )


def split(name: str) -> Imported:
    """One of two files."""
    parts = tuple(File(f"{name}-0000{each}-of-00002.gguf", str(each) * 64, 500) for each in (1, 2))
    return imported(name, parts=parts, file=parts[0].name)


def alias(name: str, now: Imported, *previous: Imported, **changes: Any) -> Alias:
    """A name for a model, and for what it stood before."""
    known = Alias(
        name=name,
        now=Pointed(now.id, now.sha256),
        previous=tuple(Pointed(each.id, each.sha256) for each in previous),
        changed_us=1,
        changed_by="program",
        why="a test",
    )
    return Alias(**{each: getattr(known, each) for each in Alias.__slots__} | changes)


def evaluation(of: Imported, number: int = 1) -> Evaluation:
    """A model that passed one of two cases."""
    return Evaluation(
        id=f"eval_{number}",
        model=of.id,
        sha256=of.sha256,
        suite="desk",
        suite_sha256="5" * 64,
        num_cases=2,
        num_passed=1,
        score_thousandths=500,
        floor_thousandths=900,
        report='{"cases": []}',
        evaluated_us=1,
        evaluated_by="program",
    )


async def put_alias(alone: Alone, known: Alias) -> None:
    """An alias on the record, whatever the rules for aliases are."""
    row = tables.alias_row(known)
    await alone.audit.append(
        entry.state_changed(
            Kind.ALIAS_ACTIVATED,
            table=tables.ALIAS,
            row_id=known.name,
            row=row,
            public={"alias": known.name, "model": known.now.model, "model_sha256": known.now.sha256},
            content={"why": known.why},
            effects=lambda connection, _seq: db.put_row(connection, tables.alias, row),
        )
    )


async def put_evaluation(alone: Alone, known: Evaluation) -> None:
    """An evaluation on the record."""
    row = tables.evaluation_row(known)
    await alone.audit.append(
        entry.state_changed(
            Kind.MODEL_EVALUATED,
            table=tables.EVALUATION,
            row_id=known.id,
            row=row,
            public={"model": known.model, "model_sha256": known.sha256},
            content={"suite": known.suite},
            effects=lambda connection, _seq: db.put_row(connection, tables.evaluation, row),
        )
    )


async def put_everything(alone: Alone) -> None:
    """Something in each of the three tables, imported, removed, named, evaluated."""
    first, second, gone = imported("first"), split("second"), imported("gone")
    await alone.modelling.import_model(first)
    await alone.modelling.import_model(second, accepted_by=ADA)
    await alone.modelling.import_model(gone)
    await alone.modelling.remove_model("gone", why="a test")
    await put_alias(alone, alias("lobby", second, first))
    await put_alias(alone, alias("desk", first))
    await put_evaluation(alone, evaluation(first))
    await put_evaluation(alone, evaluation(second, 2))
