"""Prompts and rules are published, shown and withdrawn; each act and its record are one transaction."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from appliance import db
from appliance.accounts import documents
from appliance.accounts.directory import Directory
from appliance.accounts.documents import DEFAULT, Document, Library
from appliance.audit import entry
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.clock import Clock
from appliance.commands import (
    DocumentCommand,
    ListDocuments,
    PublishDocument,
    ShowDocument,
    WithdrawDocument,
)
from appliance.core import Genre, Principal, Receipt
from appliance.databases.base import Database
from appliance.errors import RequestError
from appliance.policy import rules

PROGRAM: Final = "program"  # who published, where this host's own program did


@dataclass(frozen=True, slots=True)
class Published:
    """A version, and its record; None where the latest version in force says the same already."""

    document: Document
    receipt: Receipt | None
    notes: tuple[str, ...] = ()


class Publishing:
    """Changes documents. Owner of `_changing`: what was looked up must still hold when it is committed."""

    def __init__(
        self,
        *,
        audit: AuditLog,
        database: Database,
        directory: Directory,
        clock: Clock,
    ) -> None:
        self.library = Library()
        self._audit = audit
        self._database = database
        self._directory = directory
        self._clock = clock
        self._changing = asyncio.Lock()
        self.relearn()

    async def publish(self, genre: Genre, name: str, text: str, *, by: Principal | None = None) -> Published:
        """The next version of a name, in force with the commit. RequestError for a text that is none."""
        documents.check_name(name)
        notes = _check(genre, text)
        async with self._changing:
            earlier = self.library.versions(genre, name)
            known = self.library.find(genre, name)
            if known is not None and known.text == text:
                return Published(known, None, notes)
            made = documents.new(
                genre,
                name,
                len(earlier) + 1,
                text,
                now_us=self._clock.now_us(),
                by=by.key_id if by is not None else PROGRAM,
            )
            receipt = await self._store(Kind.DOCUMENT_PUBLISHED, made, {"text": text}, by)
        return Published(made, receipt, notes)

    async def withdraw(
        self, genre: Genre, reference: str, *, by: Principal | None = None
    ) -> list[tuple[Document, Receipt]]:
        """Put a version out of force; all of them where only a name is given. RequestError where none is."""
        async with self._changing:
            named = [
                each
                for each in self.library.all(genre)
                if reference in {each.name, each.reference} and each.is_in_force
            ]
            if not named:
                raise _not_found(genre)
            done = []
            for each in named:
                gone = documents.withdrawn(each, now_us=self._clock.now_us())
                done.append((gone, await self._store(Kind.DOCUMENT_WITHDRAWN, gone, {}, by)))
            return done

    def show(self, genre: Genre, reference: str) -> Document:
        """A version, withdrawn or not; the latest where only a name is given. RequestError for none."""
        named = [each for each in self.library.all(genre) if reference in {each.name, each.reference}]
        if not named:
            raise _not_found(genre)
        return named[-1]

    def used_by(self, known: Document) -> list[str]:
        """Ids of the keys in force whose questions get exactly this version now."""
        if self.library.find(known.genre, known.reference) is None:
            return []
        found = []
        for each in self._directory.all():
            said = each.terms.prompt if known.genre is Genre.PROMPT else each.terms.guardrails or DEFAULT
            meant = self.library.find(known.genre, said) if said else None
            if each.is_active(self._clock.now_us()) and meant is not None and meant.id == known.id:
                found.append(each.id)
        return found

    def relearn(self) -> None:
        """Take over what the database holds: at the start, and when the log was opened again."""
        with db.reading(self._database) as connection:
            self.library.replace(documents.load(connection))

    async def _store(
        self, kind: Kind, known: Document, content: dict[str, Any], by: Principal | None
    ) -> Receipt:
        row = documents.row_of(known)
        receipt = await self._audit.append(
            entry.state_changed(
                kind,
                table=documents.TABLE,
                row_id=known.id,
                row=row,
                public={"document": str(known.genre), **known.named()},
                content=content,
                effects=lambda connection, _seq: db.put_row(connection, documents.document, row),
                by=by,
            )
        )
        self.library.put(known)  # after the commit: what is not on the record is in force for nobody
        return receipt


async def perform(command: DocumentCommand, publishing: Publishing) -> dict[str, Any]:
    """Carry out what the host's program asks."""
    match command:
        case PublishDocument():
            done = await publishing.publish(command.document, command.name, command.text)
            return {
                **_told(publishing, done.document),
                "is_new": done.receipt is not None,
                "record": done.receipt.record if done.receipt is not None else None,
                "notes": list(done.notes),
            }
        case WithdrawDocument():
            gone = await publishing.withdraw(command.document, command.reference)
            return {
                "withdrawn": [
                    {"reference": each.reference, "record": receipt.record} for each, receipt in gone
                ]
            }
        case ListDocuments():
            return {
                "documents": [_told(publishing, each) for each in publishing.library.all(command.document)]
            }
        case ShowDocument():
            known = publishing.show(command.document, command.reference)
            return {**_told(publishing, known), "text": known.text}


def _told(publishing: Publishing, known: Document) -> dict[str, Any]:
    return {
        **known.named(),
        "reference": known.reference,
        "published_us": known.published_us,
        "published_by": known.published_by,
        "withdrawn_us": known.withdrawn_us,
        "keys": publishing.used_by(known),
    }


def _check(genre: Genre, text: str) -> tuple[str, ...]:
    most = documents.MAX_CHARACTERS[genre]
    if not text.strip() or len(text) > most or "\0" in text:
        raise RequestError(
            f"a {genre} document has 1 to {most} characters, and no zero character", code="invalid_document"
        )
    return rules.parse(text).notes if genre is Genre.GUARDRAILS else ()


def _not_found(genre: Genre) -> RequestError:
    return RequestError(
        "no such document is in force",
        code="document_not_found",
        hint=f"appliance {'prompt' if genre is Genre.PROMPT else 'policy'} list shows names and versions",
    )
