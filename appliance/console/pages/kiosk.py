"""The page of a lobby's screen: questions and answers for everybody who stands in front of it.

There is no session here and nobody is known. What the browser may choose is the conversation; the model, its
instructions and the length of answers are the configuration's. Nothing of a conversation is kept in this
module: the page sends it along, and the record has it.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from appliance.console import screen
from appliance.console.frame import call_of, render, route, script_route
from appliance.console.language import Language
from appliance.errors import Refused, RequestError
from appliance.terms import Capture

_PATH: Final = "/v1/chat/completions"
_MAX_ANSWER_CHARACTERS: Final = 100_000
# Small models fall into loops; a visitor would watch one for half a minute.
_REPEAT_PENALTY: Final = 1.1


class _Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question of this conversation and what was answered."""

    question: str
    answer: Annotated[str, Meta(max_length=_MAX_ANSWER_CHARACTERS)]


class _Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the page sends. `conversation` is random: it tells auditors which records belong together."""

    conversation: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    question: str
    turns: list[_Turn] = []


async def show(request: Request) -> Response:
    """The page; or that the screen is being set up; or that somebody of the staff is still logged in."""
    call = call_of(request)
    words = _words(request)
    if call.session is not None:
        return render(request, "kiosk/staff.html", active="/kiosk/setup")
    held = screen.principal_of(request)
    if held is None:
        return render(request, "kiosk/waiting.html", words=words)
    page = render(
        request,
        "kiosk/page.html",
        words=words,
        recorded=words.notice if held.terms.capture is Capture.FULL else words.notice_metadata,
        settings=call.services.settings.kiosk,
        is_open=await _is_open(request),
    )
    screen.keep(page, call, screen.token_of(request))
    return page


async def state(request: Request) -> Response:
    """How the screen is: for the page's script, which finds back to work by itself."""
    call = call_of(request)
    if call.session is not None:
        told = "staff"
    elif screen.principal_of(request) is None:
        told = "setup"
    else:
        told = "ready" if await _is_open(request) else "closed"
    return JSONResponse({"state": told, "build": call.pages.static["kiosk.js"].path})


async def ask(request: Request) -> Response:
    """A question with what came before it in its conversation → the API's own answer, as it comes."""
    call = call_of(request)
    if call.session is not None:
        raise Refused("somebody is logged in at this screen", code="permission_denied")
    asked = _read(await request.body())
    settings = call.services.settings.kiosk
    if len(asked.turns) >= settings.max_turns:
        raise RequestError("the conversation is too long", code="conversation_too_long")
    if any(len(each) > settings.max_question_characters for each in _questions(asked)):
        raise RequestError("the question is too long", code="question_too_long")
    known = screen.principal_of(request)
    # A locked prompt stands there already, and no other one beside it.
    is_locked = known is not None and bool(known.terms.prompt)
    messages = [] if is_locked else [{"role": "system", "content": _words(request).system}]
    for turn in asked.turns:
        messages.append({"role": "user", "content": turn.question})
        messages.append({"role": "assistant", "content": turn.answer})
    messages.append({"role": "user", "content": asked.question})
    body = msgspec.json.encode(
        {
            "model": settings.model,
            "messages": messages,
            "max_tokens": settings.max_tokens,
            "repeat_penalty": _REPEAT_PENALTY,
            "stream": True,
            "metadata": {"session_id": asked.conversation},
        }
    )
    return screen.Asked(request.app.state.api, _PATH, screen.token_of(request), body)


def _read(body: bytes) -> _Question:
    try:
        asked = msgspec.json.decode(body, type=_Question)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Without the cause: it could quote what somebody typed.
        raise RequestError("the question is not as it must be", code="invalid_json") from None
    if not asked.question.strip():
        raise RequestError("the question is empty", code="invalid_value", param="question")
    return asked


def _questions(asked: _Question) -> list[str]:
    return [asked.question, *(each.question for each in asked.turns)]


def _words(request: Request) -> Language:
    words: Language = request.app.state.words
    return words


async def _is_open(request: Request) -> bool:
    """Whether a question would be answered: the log commits, its disk has room, the model is there."""
    services = call_of(request).services
    model = services.catalog.resolve(services.settings.kiosk.model)
    return (
        model is not None
        and services.fleet.is_known(model)
        and services.fleet.standing(model).can_be_asked
        and not services.audit.is_low
        and (await services.audit.checked()).is_ready
    )


ROUTES = [
    route("/kiosk", show, None),
    route("/kiosk/state", state, None),
    script_route("/kiosk/ask", ask),
]
