"""Documents that keys refer to: locked system prompts and sets of rules. The table, and which one is meant.

A published version never changes and is never deleted; another text is another version. A withdrawn one is in
force no more. Rows never leave this package; `Document` does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, Text, select

from appliance.core import Genre
from appliance.db import Row, metadata
from appliance.errors import RequestError

TABLE: Final = "document"
DEFAULT: Final = "default"  # the rules of every key that names none, where there are any
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")
_REFERENCE: Final = re.compile(r"([a-z0-9][a-z0-9._-]{0,47})(?:@([1-9][0-9]{0,8}))?")


MAX_CHARACTERS: Final = {Genre.PROMPT: 65_536, Genre.GUARDRAILS: 262_144}

document = Table(
    TABLE,
    metadata,
    Column("id", String(80), primary_key=True),
    Column("genre", String(16), nullable=False),
    Column("name", String(48), nullable=False),
    Column("version", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("published_us", BigInteger, nullable=False),
    Column("published_by", String(64), nullable=False),  # an account's id, or the program's word
    Column("withdrawn_us", BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class Document:
    """One version. `sha256` is over the text in UTF-8, hex; times in microseconds, UTC."""

    genre: Genre
    name: str
    version: int
    text: str = field(repr=False)
    sha256: str
    published_us: int
    published_by: str
    withdrawn_us: int | None = None

    @property
    def id(self) -> str:
        """Of its row: `prompt:lobby@3`."""
        return f"{self.genre}:{self.reference}"

    @property
    def reference(self) -> str:
        """How a key refers to exactly this version: `lobby@3`."""
        return f"{self.name}@{self.version}"

    @property
    def is_in_force(self) -> bool:
        return self.withdrawn_us is None

    def named(self) -> dict[str, str | int]:
        """As the record names it."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


def check_name(name: str) -> str:
    """A document's name. RequestError otherwise."""
    if _NAME.fullmatch(name) is None:
        raise RequestError(
            "a document's name has 1 to 48 of a-z, 0-9, '.', '_' and '-', a letter or a digit first",
            code="invalid_name",
            param="name",
        )
    return name


def new(genre: Genre, name: str, version: int, text: str, *, now_us: int, by: str) -> Document:
    """A version at its birth."""
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return Document(genre, check_name(name), version, text, digest, now_us, by)


def withdrawn(known: Document, *, now_us: int) -> Document:
    """The same version, no longer in force."""
    return dataclasses.replace(known, withdrawn_us=now_us)


def row_of(known: Document) -> Row:
    """The version as the table holds it, column by column."""
    return {
        "id": known.id,
        "genre": str(known.genre),
        "name": known.name,
        "version": known.version,
        "text": known.text,
        "sha256": known.sha256,
        "published_us": known.published_us,
        "published_by": known.published_by,
        "withdrawn_us": known.withdrawn_us,
    }


def load(connection: Connection) -> list[Document]:
    """Every version ever published, oldest first."""
    rows = connection.execute(select(document).order_by(document.c.published_us, document.c.id))
    return [
        Document(
            genre=Genre(row.genre),
            name=row.name,
            version=row.version,
            text=row.text,
            sha256=row.sha256,
            published_us=row.published_us,
            published_by=row.published_by,
            withdrawn_us=row.withdrawn_us,
        )
        for row in rows
    ]


class Library:
    """Documents in memory, as the database holds them. Owner: the event loop's thread."""

    def __init__(self, known: Iterable[Document] = ()) -> None:
        self._documents = {each.id: each for each in known}

    def put(self, known: Document) -> None:
        """Take over a version as it now stands in the database."""
        self._documents[known.id] = known

    def replace(self, known: Iterable[Document]) -> None:
        """Take over every version as the database holds them."""
        self._documents = {each.id: each for each in known}

    def all(self, genre: Genre) -> list[Document]:
        """Every version, by name and number."""
        found = [each for each in self._documents.values() if each.genre is genre]
        return sorted(found, key=lambda each: (each.name, each.version))

    def versions(self, genre: Genre, name: str) -> list[Document]:
        """Every version of one name, the first one first."""
        return [each for each in self.all(genre) if each.name == name]

    def find(self, genre: Genre, reference: str) -> Document | None:
        """What is in force: exactly the version that is named, else the latest; None where there is none."""
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            return None
        versions = self.versions(genre, found[1])
        if found[2] is not None:
            versions = [each for each in versions if each.version == int(found[2])]
        return next((each for each in reversed(versions) if each.is_in_force), None)
