"""A key's terms in words, for people: at the console and on a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from appliance.terms import Capture, Limits, Terms

LIMITS: Final = {
    "requests_per_minute": "{} requests a minute",
    "tokens_per_minute": "{} tokens a minute",
    "concurrency": "{} answers at once",
    "requests_per_day": "{} requests a day (UTC)",
    "tokens_per_day": "{} tokens a day (UTC)",
    "priority": "priority {}",
}


def in_words(terms: Terms) -> Iterator[tuple[str, str]]:
    """What each term says, also where it restricts nothing."""
    yield "models", ", ".join(terms.models) or "all"
    yield "endpoints", ", ".join(terms.endpoints) or "all"
    yield "used from", ", ".join(terms.addresses) or "anywhere"
    if terms.capture is Capture.METADATA:
        yield "recorded", "metadata only: no word of question or answer"
        yield "on the ground of", terms.capture_basis
    else:
        yield "recorded", "every word, sealed"
    yield "system prompt", terms.prompt or "the caller's own"
    yield "guardrails", terms.guardrails or "those of all keys"
    profile = terms.prefix_profile
    yield "prefixes", f"shared with the keys of profile {profile}" if profile else "its own"
    yield "client certificates", ", ".join(terms.certificates) or "none"
    yield "limits", ", ".join(limits_in_words(terms.limits)) or "those of its role"


def limits_in_words(limits: Limits) -> list[str]:
    """What is said of how much it may have."""
    said = {each.name: getattr(limits, each.name) for each in fields(limits)}
    return [LIMITS[name].format(value) for name, value in said.items() if value is not None]


def in_brief(terms: Terms) -> list[str]:
    """What is restricted, in a word each: for a list of keys."""
    found = []
    if terms.capture is Capture.METADATA:
        found.append("metadata only")
    for name, one, several in (
        ("models", "model", "models"),
        ("endpoints", "endpoint", "endpoints"),
        ("addresses", "network", "networks"),
        ("certificates", "certificate", "certificates"),
    ):
        number = len(getattr(terms, name))
        if number:
            found.append(f"{number} {one if number == 1 else several}")
    found += [
        word
        for word, said in (
            ("locked prompt", terms.prompt),
            ("guardrails", terms.guardrails),
            ("shared prefixes", terms.prefix_profile),
            ("limits", terms.limits != Limits()),
        )
        if said
    ]
    return found
