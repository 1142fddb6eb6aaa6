"""The texts of the kiosk's page: one file of `languages/` for each language, each of them whole."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from appliance.config import Kiosk
from appliance.errors import SetupError

FOLDER: Final = Path(__file__).resolve().parent / "languages"

Text = Annotated[str, Meta(min_length=1, max_length=2000)]


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the page says. Every field is needed: a language with a gap does not load."""

    name: Text
    direction: Literal["ltr", "rtl"]
    title: Text
    welcome: Text
    machine: Text
    notice: Text
    notice_metadata: Text  # of a screen whose key keeps no words
    system: Text  # what the model is told before each conversation
    examples: Annotated[tuple[Text, ...], Meta(min_length=3, max_length=8)]
    examples_label: Text
    question: Text
    placeholder: Text
    ask: Text
    stop: Text
    done: Text
    larger: Text
    smaller: Text
    conversation: Text
    you: Text
    answer: Text
    writing: Text
    stopped: Text
    shortened: Text
    withheld: Text
    busy: Text
    unavailable: Text
    offline: Text
    impossible: Text
    too_long: Text
    full: Text
    again: Text
    record: Text
    staff_code: Text
    still: Text
    still_text: Text
    seconds: Text
    stay: Text
    leave: Text
    closed_title: Text
    closed_text: Text
    setup_title: Text
    setup_text: Text
    staff: Text
    no_script: Text
    code: str = ""  # ISO 639-1: the file's name


def codes() -> list[str]:
    """The languages that are here."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(code: str) -> Language:
    """A language's texts. SetupError where there is none of this code."""
    if code not in codes():
        raise SetupError(
            f"the kiosk's page has no texts in the language {code!r}",
            code="bad_config",
            hint=f"kiosk.language is one of: {', '.join(codes())}",
        )
    raw = tomllib.loads((FOLDER / f"{code}.toml").read_text(encoding="utf-8"))
    return msgspec.convert({**raw, "code": code}, Language)


def words_of(settings: Kiosk) -> Language:
    """The language of the configuration, with the agency's own words where it has some."""
    own = {
        "title": settings.title,
        "welcome": settings.welcome,
        "notice": settings.notice,
        "notice_metadata": settings.notice,  # the agency knows which screens it speaks of
        "system": settings.system_prompt,
        "examples": settings.examples,
    }
    return msgspec.structs.replace(
        load(settings.language), **{name: value for name, value in own.items() if value}
    )
