"""A key's terms as JSON: stored, carried by a command, sealed on the record. Pure.

What is as it is by default is left out, so that a term that comes with a later release changes no form of
before. A field that nobody knows is refused: a term that is not understood would be one that is not kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, Final, Literal

import msgspec
import rfc8785

from appliance.errors import RequestError, VerificationError
from appliance.terms import Capture, Endpoint, Limits, Terms

VERSION: Final = 1


class LimitsForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`terms.Limits`, field by field."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    priority: int | None = None


_NO_LIMITS: Final = LimitsForm()


class TermsForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`terms.Terms`, field by field."""

    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[str, ...] = ()
    capture: Capture = Capture.FULL
    capture_basis: str = ""
    prompt: str = ""
    guardrails: str = ""
    prefix_profile: str = ""
    certificates: tuple[str, ...] = ()
    limits: LimitsForm = _NO_LIMITS


class _Stored(TermsForm, frozen=True, kw_only=True):
    version: Literal[1]


# What can be taken back one by one; the ground of a capture goes with it.
NAMES: Final = (*(each for each in TermsForm.__struct_fields__ if each not in {"capture_basis", "limits"}),)
LIMIT_NAMES: Final = LimitsForm.__struct_fields__


def form_of(terms: Terms) -> TermsForm:
    """The terms, to be written."""
    limits = LimitsForm(**dataclasses.asdict(terms.limits)) if terms.limits != Limits() else _NO_LIMITS
    said = {each.name: getattr(terms, each.name) for each in dataclasses.fields(terms)}
    return TermsForm(**{**said, "limits": limits})


def terms_of(form: TermsForm) -> Terms:
    """The terms of a form. RequestError where they can not be kept."""
    said = {each: getattr(form, each) for each in TermsForm.__struct_fields__}
    return Terms(**{**said, "limits": Limits(**msgspec.structs.asdict(form.limits))})


def plain(terms: Terms) -> dict[str, Any]:
    """As JSON's own values, for records and programs."""
    said: dict[str, Any] = msgspec.to_builtins(form_of(terms))
    return said


def dumps(terms: Terms) -> str:
    """As they are stored: canonical JSON (RFC 8785)."""
    return rfc8785.dumps({**plain(terms), "version": VERSION}).decode("utf-8")


def loads(text: str, *, key_id: str) -> Terms:
    """From what was stored. VerificationError names the key, and never what stands there."""
    try:
        return terms_of(msgspec.json.decode(text, type=_Stored))
    except (msgspec.MsgspecError, ValueError, RequestError) as error:
        raise VerificationError(
            f"the terms of the key {key_id} are not such as this release keeps",
            code="bad_key_terms",
            hint="appliance audit verify tells whether its row was changed",
        ) from error


def amended(terms: Terms, named: TermsForm, unset: Collection[str]) -> Terms:
    """Terms with what `named` says instead, and without what `unset` names. RequestError as `Terms`."""
    unknown = set(unset) - {*NAMES, *LIMIT_NAMES}
    if unknown:
        raise RequestError("there is no such term", code="invalid_terms", param="unset")
    now = msgspec.to_builtins(form_of(terms))
    limits = {**now.pop("limits", {}), **msgspec.to_builtins(named.limits)}
    now |= {name: value for name, value in msgspec.to_builtins(named).items() if name != "limits"}
    gone = {*unset, "capture_basis"} if "capture" in unset else set(unset)
    kept = {name: value for name, value in now.items() if name not in gone}
    kept["limits"] = {name: value for name, value in limits.items() if name not in gone}
    return terms_of(msgspec.convert(kept, TermsForm))
