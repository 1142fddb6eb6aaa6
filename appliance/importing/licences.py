"""Licences of models: which of them ask nobody, and which ask for somebody's yes. Pure.

A model's header names its licence as Hugging Face does: an SPDX identifier in small letters, or the name of a
licence of the vendor's own, whose terms bind whoever uses the model.
"""

from __future__ import annotations

from typing import Final

from appliance.gguf.header import Header
from appliance.importing.refusals import FileRefused

MAX_LICENCE: Final = 100
# They ask for nothing before use. Everything else does, or nobody here has read it.
FREE: Final = (
    *("Apache-2.0", "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD", "Unlicense", "Zlib"),
    *("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CDLA-Permissive-2.0", "MPL-2.0", "BSL-1.0", "PDDL-1.0"),
)
_CANONICAL: Final = {each.casefold(): each for each in FREE}
_UNSAID: Final = frozenset({"", "other", "unknown", "none", "n/a"})


def canonical(name: str) -> str:
    """A licence's name in one form: SPDX's where it is one of the free ones; empty where it says nothing."""
    plain = " ".join(name.split())[:MAX_LICENCE]
    if plain.casefold() in _UNSAID or not plain.isprintable():
        return ""
    return _CANONICAL.get(plain.casefold().replace(" ", "-"), plain)


def said_by(header: Header) -> str:
    """What a file says of its licence; empty where it says nothing."""
    return canonical(header.text("general.license")) or canonical(header.text("general.license.name"))


def settle(said: str, given: str, *, is_accepted: bool) -> str:
    """The licence that stands on the record. FileRefused where none is known, or nobody has accepted it.

    `given` is what the operator says, for files that say nothing; it never stands against the file's word.
    """
    wanted = canonical(given)
    if said and wanted and wanted.casefold() != said.casefold():
        raise FileRefused(
            "licence_differs",
            f"the file says that its licence is {said}",
            hint="leave --licence out: what the file says holds",
        )
    licence = said or wanted
    if not licence:
        raise FileRefused(
            "licence_unknown",
            "the file says nothing of its licence",
            hint="find it where the model came from, and name it: --licence Apache-2.0",
        )
    if licence not in FREE and not is_accepted:
        raise FileRefused(
            "licence_not_accepted",
            f"the licence {licence} binds whoever uses the model, and nobody has accepted it",
            hint="read it; then somebody who may accepts it: --accept-licence --as ACCOUNT",
        )
    return licence
