"""The tables of models: what was imported, which name stands for what, how models did in evaluations.

Rows never leave this package; the frozen values below do. JSON in a column is what msgspec makes of a struct.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, Text, select

from appliance.core import Purpose
from appliance.db import Row, metadata
from appliance.errors import VerificationError
from appliance.models.cards import Card, File, Pointed

MODEL: Final = "model"
ALIAS: Final = "alias"
EVALUATION: Final = "evaluation"

_T = TypeVar("_T")

model = Table(
    MODEL,
    metadata,
    Column("id", String(100), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("file", String(255), nullable=False),
    Column("parts", Text, nullable=False),
    Column("licence", String(100), nullable=False),
    Column("origin", Text, nullable=False),
    Column("card", Text, nullable=False),
    Column("signed_by", String(255), nullable=True),
    Column("accepted_by", String(64), nullable=True),
    Column("accepted_us", BigInteger, nullable=True),
    Column("imported_us", BigInteger, nullable=False),
    Column("imported_by", String(64), nullable=False),  # an account's id, or the program's word
    Column("removed_us", BigInteger, nullable=True),
)
alias = Table(
    ALIAS,
    metadata,
    Column("name", String(100), primary_key=True),
    Column("model", String(100), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("adapter", String(100), nullable=True),
    Column("adapter_sha256", String(64), nullable=True),
    Column("scale_thousandths", Integer, nullable=False),
    Column("previous", Text, nullable=False),
    Column("pinned", Integer, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("changed_by", String(64), nullable=False),
    Column("why", Text, nullable=False),
)
evaluation = Table(
    EVALUATION,
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", String(100), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("suite", String(100), nullable=False),
    Column("suite_sha256", String(64), nullable=False),
    Column("num_cases", Integer, nullable=False),
    Column("num_passed", Integer, nullable=False),
    Column("score_thousandths", Integer, nullable=False),
    Column("floor_thousandths", Integer, nullable=False),
    Column("report", Text, nullable=False),
    Column("evaluated_us", BigInteger, nullable=False),
    Column("evaluated_by", String(64), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A model that was taken into the store. Times in microseconds, UTC; `removed_us`: it has left it."""

    id: str
    sha256: str
    size_bytes: int  # of all its files together
    purpose: Purpose
    file: str  # its name as it was given; of a split model, the first one's
    licence: str  # an SPDX identifier, or the licence's own name
    origin: str
    card: Card
    imported_us: int = 0
    imported_by: str = ""
    parts: tuple[File, ...] = ()  # of a split model, in order
    signed_by: str | None = None
    accepted_by: str | None = None  # the account that accepted its licence
    accepted_us: int | None = None
    removed_us: int | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that callers use, what it stands for, and what it stood for before, the latest first."""

    name: str
    now: Pointed
    changed_us: int
    changed_by: str
    why: str
    previous: tuple[Pointed, ...] = ()
    pinned: bool = False  # its model stays loaded


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model answered a suite of cases. `report` is JSON text."""

    id: str
    model: str
    sha256: str
    suite: str
    suite_sha256: str
    num_cases: int
    num_passed: int
    score_thousandths: int
    floor_thousandths: int
    report: str = field(repr=False)
    evaluated_us: int
    evaluated_by: str


def model_row(known: Imported) -> Row:
    """The model as its table holds it, column by column."""
    return {
        "id": known.id,
        "sha256": known.sha256,
        "size_bytes": known.size_bytes,
        "purpose": str(known.purpose),
        "file": known.file,
        "parts": _dumps(known.parts),
        "licence": known.licence,
        "origin": known.origin,
        "card": _dumps(known.card),
        "signed_by": known.signed_by,
        "accepted_by": known.accepted_by,
        "accepted_us": known.accepted_us,
        "imported_us": known.imported_us,
        "imported_by": known.imported_by,
        "removed_us": known.removed_us,
    }


def plain(known: Imported) -> dict[str, Any]:
    """The model as JSON's own values, for people and for sealed content."""
    told: dict[str, Any] = msgspec.to_builtins(known)
    return told


def alias_row(known: Alias) -> Row:
    """The alias as its table holds it, column by column."""
    return {
        "name": known.name,
        "model": known.now.model,
        "sha256": known.now.sha256,
        "adapter": known.now.adapter or None,
        "adapter_sha256": known.now.adapter_sha256 or None,
        "scale_thousandths": known.now.scale_thousandths,
        "previous": _dumps(known.previous),
        "pinned": int(known.pinned),
        "changed_us": known.changed_us,
        "changed_by": known.changed_by,
        "why": known.why,
    }


def evaluation_row(known: Evaluation) -> Row:
    """The evaluation as its table holds it, column by column."""
    return {
        "id": known.id,
        "model": known.model,
        "sha256": known.sha256,
        "suite": known.suite,
        "suite_sha256": known.suite_sha256,
        "num_cases": known.num_cases,
        "num_passed": known.num_passed,
        "score_thousandths": known.score_thousandths,
        "floor_thousandths": known.floor_thousandths,
        "report": known.report,
        "evaluated_us": known.evaluated_us,
        "evaluated_by": known.evaluated_by,
    }


def load_models(connection: Connection) -> list[Imported]:
    """Every model ever imported, oldest first. VerificationError names the row that is none."""
    return [
        Imported(
            id=row.id,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            purpose=_purpose(row.purpose, row.id),
            file=row.file,
            parts=_loads(row.parts, tuple[File, ...], row.id),
            licence=row.licence,
            origin=row.origin,
            card=_loads(row.card, Card, row.id),
            signed_by=row.signed_by,
            accepted_by=row.accepted_by,
            accepted_us=row.accepted_us,
            imported_us=row.imported_us,
            imported_by=row.imported_by,
            removed_us=row.removed_us,
        )
        for row in connection.execute(select(model).order_by(model.c.imported_us, model.c.id))
    ]


def load_aliases(connection: Connection) -> list[Alias]:
    """Every alias that was ever given a model. VerificationError names the row that is none."""
    return [
        Alias(
            name=row.name,
            now=Pointed(
                row.model, row.sha256, row.adapter or "", row.adapter_sha256 or "", row.scale_thousandths
            ),
            previous=_loads(row.previous, tuple[Pointed, ...], row.name),
            pinned=bool(row.pinned),
            changed_us=row.changed_us,
            changed_by=row.changed_by,
            why=row.why,
        )
        for row in connection.execute(select(alias).order_by(alias.c.name))
    ]


def load_evaluations(connection: Connection) -> list[Evaluation]:
    """Every evaluation, oldest first."""
    rows = connection.execute(select(evaluation).order_by(evaluation.c.evaluated_us, evaluation.c.id))
    return [Evaluation(**row) for row in rows.mappings()]


def _dumps(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _loads(text: str, form: type[_T], name: str) -> _T:
    try:
        return msgspec.json.decode(text, type=form)
    except msgspec.MsgspecError as error:
        raise VerificationError(f"the row of {name} is not understood", code="bad_model_row") from error


def _purpose(text: str, name: str) -> Purpose:
    if text not in list(Purpose):
        raise VerificationError(
            f"{name} is for something that this release does not know", code="bad_model_row"
        )
    return Purpose(text)
