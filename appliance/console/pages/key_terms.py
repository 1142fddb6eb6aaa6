"""A key's terms as the fields of a form, and back. What was typed is there when a form comes again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from appliance.catalog import Catalog
from appliance.console.frame import Call
from appliance.errors import RequestError
from appliance.terms import Capture, Endpoint, Limits, Terms

_MAX_LIST: Final = 10_000  # characters
_MAX_NUMBER: Final = 13
LIMITS: Final = (
    ("requests_per_minute", "Requests a minute"),
    ("tokens_per_minute", "Tokens a minute"),
    ("concurrency", "Answers at once"),
    ("requests_per_day", "Requests a day (UTC)"),
    ("tokens_per_day", "Tokens a day (UTC)"),
    ("priority", "Priority, 0 to 9"),
)
ENDPOINTS: Final = {
    Endpoint.CHAT: "chats",
    Endpoint.COMPLETIONS: "texts to go on with",
    Endpoint.RESPONSES: "OpenAI's newer shape",
    Endpoint.MESSAGES: "Anthropic's shape",
    Endpoint.EMBEDDINGS: "vectors of texts",
    Endpoint.RERANK: "ranking documents",
    Endpoint.TOKENIZE: "tokens of a text",
    Endpoint.DETOKENIZE: "the text of tokens",
    Endpoint.INPUT_TOKENS: "counting tokens",
}


@dataclass(frozen=True, slots=True)
class Fields:
    """What stands in the form, as text."""

    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    addresses: str = ""  # one a line
    capture: str = str(Capture.FULL)
    capture_basis: str = ""
    prompt: str = ""
    guardrails: str = ""
    prefix_profile: str = ""
    certificates: str = ""  # one a line
    limits: Mapping[str, str] | None = None

    @property
    def says_something(self) -> bool:
        """Whether the part of the form that is folded away has anything in it."""
        return self != Fields(limits=self.limits) or any((self.limits or {}).values())


def of_terms(terms: Terms) -> Fields:
    """The form with a key's terms in it."""
    said = {each.name: getattr(terms.limits, each.name) for each in fields(Limits)}
    return Fields(
        models=terms.models,
        endpoints=tuple(map(str, terms.endpoints)),
        addresses="\n".join(terms.addresses),
        capture=str(terms.capture),
        capture_basis=terms.capture_basis,
        prompt=terms.prompt,
        guardrails=terms.guardrails,
        prefix_profile=terms.prefix_profile,
        certificates="\n".join(terms.certificates),
        limits={name: "" if value is None else str(value) for name, value in said.items()},
    )


def typed(call: Call) -> Fields:
    """What was sent with a form."""
    return Fields(
        models=_chosen(call, "models"),
        endpoints=_chosen(call, "endpoints"),
        addresses=call.text("addresses", limit=_MAX_LIST).replace("\r", ""),
        capture=call.text("capture", limit=20) or str(Capture.FULL),
        capture_basis=call.text("capture_basis", limit=2000).strip(),
        prompt=call.text("prompt", limit=200).strip(),
        guardrails=call.text("guardrails", limit=200).strip(),
        prefix_profile=call.text("prefix_profile", limit=200).strip(),
        certificates=call.text("certificates", limit=_MAX_LIST).replace("\r", ""),
        limits={name: call.text(name, limit=_MAX_NUMBER).strip() for name, _ in LIMITS},
    )


def terms_of(said: Fields) -> Terms:
    """The terms of a form. RequestError where they can not be kept."""
    try:
        endpoints = tuple(Endpoint(each) for each in said.endpoints)
        capture = Capture(said.capture)
    except ValueError as error:
        raise RequestError("this is not one of the choices of the form", code="invalid_terms") from error
    return Terms(
        models=said.models,
        endpoints=endpoints,
        addresses=_lines(said.addresses),
        capture=capture,
        capture_basis=said.capture_basis,
        prompt=said.prompt,
        guardrails=said.guardrails,
        prefix_profile=said.prefix_profile,
        certificates=tuple(each.replace(":", "").lower() for each in _lines(said.certificates)),
        limits=Limits(**{name: _number(name, value) for name, value in (said.limits or {}).items()}),
    )


def choices(catalog: Catalog, said: Fields) -> dict[str, Any]:
    """What the form offers; a model that has left the catalogue is offered where the key has it."""
    names = {spec.id: "" for spec in catalog.list()} | {
        alias: f"now {spec.id}" for alias, spec in catalog.names().items()
    }
    gone = {each: "not in the catalogue" for each in said.models if each not in names}
    return {
        "offered_models": names | gone,
        "offered_endpoints": {str(each): word for each, word in ENDPOINTS.items()},
        "limits": LIMITS,
        "typed": said,
    }


def _chosen(call: Call, name: str) -> tuple[str, ...]:
    found = [each for each in call.form.getlist(name) if isinstance(each, str) and len(each) <= _MAX_LIST]
    return tuple(dict.fromkeys(found))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.strip() for each in text.splitlines() if each.strip()))


def _number(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise RequestError("a limit is a number", code="invalid_terms", param=name)
    return int(text)
