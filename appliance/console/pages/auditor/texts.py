"""Search through contents: it runs beside the pages, within limits, while an identity is unlocked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from appliance.accounts.roles import Permission
from appliance.audit import text
from appliance.audit.text import Found, Match
from appliance.console.frame import call_of, render, route, see
from appliance.console.pages.auditor import words
from appliance.console.pages.auditor.searching import kept
from appliance.console.sessions import Session
from appliance.errors import ApplianceError, RequestError
from appliance.log import get_logger

MAX_MATCHES: Final = 100  # then it waits until somebody wants more
MAX_EXCHANGES: Final = 10_000  # of one stretch
_FIRST_LOOK_SECONDS: Final = 0.5

log = get_logger(__name__)


@dataclass(slots=True)
class TextSearch:
    """One search through contents. Owner of every field: the event loop's thread."""

    session: Session
    wanted: str = field(repr=False)
    search: str  # the name of the search whose filters narrow it
    batches: AsyncGenerator[Found] = field(repr=False)
    matches: list[Match] = field(default_factory=list, repr=False)
    num_searched: int = 0
    num_sealed: int = 0
    num_wordless: int = 0
    searched_to_us: int | None = None
    is_over: bool = False
    problem: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        return self.task is not None and not self.task.done()

    def go_on(self) -> None:
        """Another stretch, unless one runs."""
        if not self.is_over and not self.is_running:
            self.problem = ""
            self.task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the stretch that runs."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        await self._end()

    async def _run(self) -> None:
        matches, searched = len(self.matches) + MAX_MATCHES, self.num_searched + MAX_EXCHANGES
        try:
            async for found in self.batches:
                self.matches += found.matches
                self.num_searched += found.num_searched
                self.num_sealed += found.num_sealed
                self.num_wordless += found.num_wordless
                self.searched_to_us = found.searched_to_us
                if not self.session.identities:
                    self.matches.clear()
                    self.problem = "the identity was locked"
                    await self._end()
                    return
                if len(self.matches) >= matches or self.num_searched >= searched:
                    return
            self.is_over = True
        except ApplianceError as problem:  # the reader's limit, a closed log, a content that does not open
            self.problem = f"{problem.message} ({problem.code})"
            await self._end()
        except Exception as error:  # the task's edge: nobody waits for it, the page tells
            if self.session.identities:
                log.exception("text_search_crashed", error=type(error).__name__)
            self.matches.clear()
            self.problem = "the search failed" if self.session.identities else "the identity was locked"
            await self._end()

    async def _end(self) -> None:
        self.is_over = True
        await self.batches.aclose()


async def begin(request: Request) -> Response:
    """Look for a text in what a search finds."""
    call = call_of(request)
    name = call.text("search", limit=100)
    search = kept(call, name)
    wanted = call.text("text", limit=2000).strip()
    text.check(wanted)
    if not call.known.identities:
        call.known.notice = "Unlock your identity first: a text is looked for in opened contents."
        return see("/identity")
    batches = call.services.auditing.find_text(
        call.principal,
        call.caller,
        wanted,
        search.asked.filters(search.now_us),
        search.why,
        tuple(call.known.identities),
    )
    found = TextSearch(call.known, wanted, name, batches)
    kept_as = call.known.keep(found)
    found.go_on()
    if found.task is not None:  # what is soon found is on the first page
        await asyncio.wait({found.task}, timeout=_FIRST_LOOK_SECONDS)
    return see(f"/text/{kept_as}")


async def show(request: Request) -> Response:
    """What was found so far."""
    found = _kept(request)
    return render(
        request,
        "auditor/text.html",
        active="/search",
        name=request.path_params["name"],
        found=found,
        rows=[(each, _mark(each)) for each in found.matches],
        folded=text.folded(found.wanted),
    )


async def progress(request: Request) -> Response:
    """How far it has come, for the page's script."""
    found = _kept(request)
    return JSONResponse(
        {
            "running": found.is_running,
            "done": found.num_searched,
            "matches": len(found.matches),
        }
    )


async def more(request: Request) -> Response:
    """Another stretch of the same search."""
    found = _kept(request)
    found.go_on()
    return see(f"/text/{request.path_params['name']}")


async def stop(request: Request) -> Response:
    """No further."""
    found = _kept(request)
    await found.stop()
    return see(f"/text/{request.path_params['name']}")


def _kept(request: Request) -> TextSearch:
    found = call_of(request).known.kept(request.path_params["name"])
    if not isinstance(found, TextSearch):
        raise RequestError(
            "this search is not kept any more",
            code="not_found",
            hint="what was found is forgotten when the identity is locked; search again",
        )
    return found


def _mark(match: Match) -> words.Mark:
    return words.mark_of(match.records[-1])


ROUTES = [
    route("/text", begin, Permission.READ_AUDIT, methods=("POST",)),
    route("/text/{name}", show, Permission.READ_AUDIT),
    route("/text/{name}/progress", progress, Permission.READ_AUDIT),
    route("/text/{name}/more", more, Permission.READ_AUDIT, methods=("POST",)),
    route("/text/{name}/stop", stop, Permission.READ_AUDIT, methods=("POST",)),
]
