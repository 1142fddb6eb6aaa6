"""What `appliance prompt` and `appliance policy` share: documents are published, shown and withdrawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.cli.base import command_gateway, show, table, warn, when
from appliance.commands import ListDocuments, PublishDocument, ShowDocument, WithdrawDocument
from appliance.config import Home
from appliance.core import Genre
from appliance.errors import RequestError


def read_text(path: Path) -> str:
    """A document's text. RequestError where it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError("a document is UTF-8 text", code="invalid_document") from error


def publish(home: Home, genre: Genre, name: str, file: Path, *, as_json: bool) -> None:
    """The next version of a name."""
    done = command_gateway(home, PublishDocument(document=genre, name=name, text=read_text(file)))
    for note in () if as_json else done["notes"]:
        warn(note)
    said = "published" if done["is_new"] else "nothing new: in force is already"
    show(done, [f"{said} {done['reference']}, sha256 {done['sha256']}"], as_json=as_json)


def list_all(home: Home, genre: Genre, *, as_json: bool) -> None:
    """Every version."""
    result = command_gateway(home, ListDocuments(document=genre))
    rows = [
        (
            each["reference"],
            when(each["published_us"]),
            when(each["withdrawn_us"]) or "in force",
            ", ".join(each["keys"]),
            each["sha256"][:16],
        )
        for each in result["documents"]
    ]
    header = ("DOCUMENT", "PUBLISHED", "WITHDRAWN", "KEYS", "SHA256")
    show(result, table(header, rows), as_json=as_json)


def show_one(home: Home, genre: Genre, reference: str, *, as_json: bool) -> dict[str, Any]:
    """One version with its text."""
    result = command_gateway(home, ShowDocument(document=genre, reference=reference))
    show(result, result["text"].splitlines(), as_json=as_json)
    return result


def withdraw(home: Home, genre: Genre, reference: str, *, as_json: bool) -> None:
    """Versions go out of force."""
    result = command_gateway(home, WithdrawDocument(document=genre, reference=reference))
    lines = [f"withdrawn {each['reference']}: {each['record']}" for each in result["withdrawn"]]
    show(result, lines, as_json=as_json)
