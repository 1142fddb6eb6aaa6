"""Numbers that check themselves: what they look like, and the check of python-stdnum. Pure.

A rule names a module of python-stdnum, such as `us.ssn`. The library says whether a number is genuine; where
in a text a candidate stands says the shape here, or the rule's own `shape`; case does not matter.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from appliance.errors import RequestError

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}(?:\.[a-z][a-z0-9_]{0,30})?")
_SEPARATORS: Final = str.maketrans("", "", " ./-")
_D: Final = "[0-9]"
_GROUPS_OF_FOUR: Final = "[0-9]{4}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,4}(?:[ -]?[0-9]{1,3})?"

SHAPES: Final[Mapping[str, str]] = {
    "at.tin": f"{_D}{{2}}-?{_D}{{3}}/?{_D}{{4}}",
    "at.vnr": f"{_D}{{4}} ?{_D}{{6}}",
    "be.nn": f"{_D}{{2}}[. ]?{_D}{{2}}[. ]?{_D}{{2}}[ -]?{_D}{{3}}[. ]?{_D}{{2}}",
    "bg.egn": f"{_D}{{10}}",
    "br.cpf": f"{_D}{{3}}[.]?{_D}{{3}}[.]?{_D}{{3}}-?{_D}{{2}}",
    "ca.sin": f"{_D}{{3}}[ -]?{_D}{{3}}[ -]?{_D}{{3}}",
    "ch.ssn": f"756[.]?{_D}{{4}}[.]?{_D}{{4}}[.]?{_D}{{2}}",
    "cz.rc": f"{_D}{{6}}/?{_D}{{3,4}}",
    "de.idnr": f"{_D}{{2}} ?{_D}{{3}} ?{_D}{{3}} ?{_D}{{3}}",
    "dk.cpr": f"{_D}{{6}}-?{_D}{{4}}",
    "ee.ik": f"{_D}{{11}}",
    "es.dni": f"{_D}{{8}}[ -]?[A-Z]",
    "es.nie": f"[XYZ][ -]?{_D}{{7}}[ -]?[A-Z]",
    "fi.hetu": f"{_D}{{6}}[A-FU-Y+-]{_D}{{3}}[0-9A-Y]",
    "fr.nif": f"[0-3]{_D} ?{_D}{{2}} ?{_D}{{3}} ?{_D}{{3}} ?{_D}{{3}}",
    "fr.nir": f"[1-478] ?{_D}{{2}} ?{_D}{{2}} ?[0-9][0-9AB] ?{_D}{{3}} ?{_D}{{3}} ?{_D}{{2}}",
    "gb.nhs": f"{_D}{{3}}[ -]?{_D}{{3}}[ -]?{_D}{{4}}",
    "gr.amka": f"{_D}{{11}}",
    "hr.oib": f"(?:HR ?)?{_D}{{11}}",
    "iban": "[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?",
    "ie.pps": f"{_D}{{7}}[A-W][A-IT-X]?",
    "imei": f"{_D}{{2}}-?{_D}{{6}}-?{_D}{{6}}-?{_D}(?:{_D})?",
    "it.codicefiscale": "[A-Z]{3} ?[A-Z]{3} ?[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2} ?"
    "[A-Z][0-9LMNP-V]{3}[A-Z]",
    "lt.asmens": f"{_D}{{11}}",
    "luhn": _GROUPS_OF_FOUR,
    "nl.bsn": f"{_D}{{4}}[. ]?{_D}{{2}}[. ]?{_D}{{3}}",
    "no.fodselsnummer": f"{_D}{{6}} ?{_D}{{5}}",
    "pl.pesel": f"{_D}{{11}}",
    "pt.nif": f"(?:PT ?)?{_D}{{3}} ?{_D}{{3}} ?{_D}{{3}}",
    "ro.cnp": f"{_D}{{13}}",
    "se.personnummer": f"(?:{_D}{{2}})?{_D}{{6}}[+-]?{_D}{{4}}",
    "si.emso": f"{_D}{{13}}",
    "sk.rc": f"{_D}{{6}}/?{_D}{{3,4}}",
    "us.ein": f"{_D}{{2}}-{_D}{{7}}",
    "us.itin": f"9{_D}{{2}}-?{_D}{{2}}-?{_D}{{4}}",
    "us.ssn": f"{_D}{{3}}[ -]?{_D}{{2}}[ -]?{_D}{{4}}",
}


def check_of(name: str) -> Callable[[str], bool]:
    """Whether a number is a genuine one of this kind. RequestError where python-stdnum has no such module."""
    if _NAME.fullmatch(name) is None:
        raise _unknown()
    return _check_of(name)


@cache
def _check_of(name: str) -> Callable[[str], bool]:
    try:
        module: Any = importlib.import_module(f"stdnum.{name}")
        is_valid = module.is_valid
    except (ImportError, AttributeError):
        raise _unknown() from None

    def is_genuine(candidate: str) -> bool:
        said = candidate.upper()
        return bool(is_valid(said) or is_valid(said.translate(_SEPARATORS)))  # not every module takes spaces

    return is_genuine


def _unknown() -> RequestError:
    return RequestError(
        "python-stdnum has no check of this name",
        code="invalid_guardrails",
        hint="a name is a module of it, such as us.ssn, iban or luhn",
    )
