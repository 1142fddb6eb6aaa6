"""Locked prompts and rules: every version, whose keys get it, and what one changed of another.

For reading only: they are published by the host's own program.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from appliance.accounts.documents import Document
from appliance.accounts.roles import Permission
from appliance.console.frame import Call, call_of, render, route
from appliance.console.render import NavItem
from appliance.core import Genre
from appliance.errors import RequestError
from appliance.publishing import PROGRAM

_AROUND: Final = 3  # lines that stay the same, shown around what changed
_MARKS: Final = {"+": "added", "-": "removed", "@": "place", " ": "same"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One version as a list shows it."""

    document: Document
    is_latest: bool  # what a key gets that names no version
    by: str
    keys: Sequence[str]  # names


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a difference."""

    mark: str  # added, removed, same, or place: where in the text it is
    text: str = field(repr=False)


async def page(request: Request) -> Response:
    """Both lists."""
    call = call_of(request)
    return render(
        request,
        "operator/documents.html",
        active="/documents",
        prompts=_listed(call, Genre.PROMPT),
        rules=_listed(call, Genre.GUARDRAILS),
    )


async def one(request: Request) -> Response:
    """A version's text, and what it changed of the one before, or of another that is named."""
    call = call_of(request)
    name, _, version = request.path_params["reference"].partition("@")
    versions = call.services.publishing.library.versions(_genre(request), name)
    known = _version(versions, version)
    others = [each for each in versions if each.version != known.version]
    against = request.query_params.get("against", "")
    before = (each for each in reversed(others) if each.version < known.version)
    other = _version(versions, against) if against else next(before, None)
    return render(
        request,
        "operator/document.html",
        active="/documents",
        shown=_shown(call, known),
        other=other,
        others=others,
        lines=list(difference(other.text, known.text)) if other is not None else [],
    )


def difference(old: str, new: str) -> Iterator[Line]:
    """What changed, line by line."""
    found = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=_AROUND)
    for number, each in enumerate(found):
        if number >= 2:  # behind the names of the files, which there are none of
            mark = _MARKS[each[0]]
            yield Line(mark, each if mark == "place" else each[1:])


def _listed(call: Call, genre: Genre) -> list[Shown]:
    """The newest version first, name by name."""
    found = call.services.publishing.library.all(genre)
    found.sort(key=lambda each: (each.name, -each.version))
    return [_shown(call, each) for each in found]


def _shown(call: Call, known: Document) -> Shown:
    publishing = call.services.publishing
    latest = publishing.library.find(known.genre, known.name)
    names = {each.id: each.name for each in call.services.directory.all()}
    return Shown(
        document=known,
        is_latest=latest is not None and latest.id == known.id,
        by=person(call, known.published_by),
        keys=sorted({names[each] for each in publishing.used_by(known)}),
    )


def person(call: Call, by: str) -> str:
    """Who did it: a name, or the program on the host."""
    if by == PROGRAM:
        return "the program on the host"
    return next((each.name for each in call.services.people.list() if each.id == by), by)


def _genre(request: Request) -> Genre:
    try:
        return Genre(request.path_params["genre"])
    except ValueError as error:
        raise _not_found() from error


def _version(versions: Sequence[Document], number: str) -> Document:
    found = next((each for each in versions if str(each.version) == number), None)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> RequestError:
    return RequestError("there is no such version", code="not_found")


ROUTES = [
    route("/documents", page, Permission.MANAGE_KEYS),
    route("/documents/{genre}/{reference}", one, Permission.MANAGE_KEYS),
]
MENU = [NavItem("Prompts and rules", "/documents", Permission.MANAGE_KEYS)]
