"""A key's terms as options, which making and changing share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from appliance.accounts.terms_form import LimitsForm, TermsForm
from appliance.errors import RequestError
from appliance.terms import PRIORITIES, Capture, Endpoint

_F = TypeVar("_F", bound=Callable[..., Any])

# What `--unset` takes → the term. The options' own names.
UNSET: Final = {
    "models": "models",
    "endpoints": "endpoints",
    "from": "addresses",
    "capture": "capture",
    "prompt": "prompt",
    "guardrails": "guardrails",
    "prefix-profile": "prefix_profile",
    "client-certificate": "certificates",
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "concurrency": "concurrency",
    "requests-per-day": "requests_per_day",
    "tokens-per-day": "tokens_per_day",
    "priority": "priority",
}


class _Listed(click.ParamType[tuple[str, ...]]):
    """`a,b` → ("a", "b")."""

    name = "names"

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._known = known

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(dict.fromkeys(each.strip() for each in value.split(",") if each.strip()))
        if not found or (self._known and not set(found) <= set(self._known)):
            self.fail(
                "a list such as a,b" + (f" of {', '.join(self._known)}" if self._known else ""), param, ctx
            )
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """The terms that a command line names. `back`: the ones that it names with their default."""

    form: TermsForm
    back: tuple[str, ...] = ()


_OPTIONS: Final = (
    click.option("--models", type=_Listed(), help="Only these models, by id or alias: a,b."),
    click.option(
        "--endpoints",
        type=_Listed([str(each) for each in Endpoint]),
        help="Only these kinds of question: chat,embeddings.",
    ),
    click.option(
        "--from",
        "addresses",
        multiple=True,
        metavar="NETWORK",
        help="Only from this network, such as 10.1.0.0/16; may be repeated.",
    ),
    click.option(
        "--capture",
        type=click.Choice([str(each) for each in Capture]),
        help="What the record keeps: every word, or metadata only.",
    ),
    click.option(
        "--capture-basis", default="", help="Why no words are kept, and who said so; it is recorded."
    ),
    click.option("--prompt", default="", help="Its locked system prompt: NAME or NAME@VERSION."),
    click.option("--guardrails", default="", help="The rules of its questions: NAME or NAME@VERSION."),
    click.option(
        "--prefix-profile",
        default="",
        help="Keys of one profile share computed prefixes; by the time an answer takes, one of them can "
        "tell what another asked.",
    ),
    click.option("--rpm", type=click.IntRange(min=1), help="Requests a minute."),
    click.option("--tpm", type=click.IntRange(min=1), help="Tokens a minute, of prompts and answers."),
    click.option("--concurrency", type=click.IntRange(min=1), help="Answers at once, running and waiting."),
    click.option("--requests-per-day", type=click.IntRange(min=1), help="Requests a day; days are UTC's."),
    click.option("--tokens-per-day", type=click.IntRange(min=1), help="Tokens a day; days are UTC's."),
    click.option(
        "--priority", type=click.IntRange(*PRIORITIES), help="0 (waits longest) to 9 (waits least)."
    ),
    click.option(
        "--client-certificate",
        "certificates",
        multiple=True,
        metavar="SHA256",
        help="A client certificate that stands for this key; without one of them it opens nothing.",
    ),
)


def terms_options(function: _F) -> _F:
    """The options of a key's terms; the command takes what `asked_of` reads."""
    for each in reversed(_OPTIONS):
        function = each(function)
    return function


def asked_of(options: Mapping[str, Any]) -> Asked:
    """What the options name. RequestError where they contradict each other."""
    capture = options["capture"]
    if capture == Capture.FULL and options["capture_basis"]:
        raise RequestError("a basis is for metadata only", code="invalid_terms", param="capture_basis")
    limits = LimitsForm(
        requests_per_minute=options["rpm"],
        tokens_per_minute=options["tpm"],
        concurrency=options["concurrency"],
        requests_per_day=options["requests_per_day"],
        tokens_per_day=options["tokens_per_day"],
        priority=options["priority"],
    )
    form = TermsForm(
        models=options["models"] or (),
        endpoints=tuple(Endpoint(each) for each in options["endpoints"] or ()),
        addresses=tuple(dict.fromkeys(options["addresses"])),
        capture=Capture(capture or Capture.FULL),
        capture_basis=options["capture_basis"],
        prompt=options["prompt"],
        guardrails=options["guardrails"],
        prefix_profile=options["prefix_profile"],
        certificates=tuple(dict.fromkeys(each.replace(":", "").lower() for each in options["certificates"])),
        limits=limits,
    )
    return Asked(form, ("capture",) if capture == Capture.FULL else ())
