"""The search form: its fields as a person filled them in, and what they mean as filters."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette.datastructures import FormData

from appliance.audit.kinds import Kind
from appliance.audit.search import Filters
from appliance.console.pages.auditor.words import GROUPS
from appliance.core import Outcome
from appliance.errors import RequestError

MAX_FIELD: Final = 512
_HOUR_US: Final = 3_600_000_000
TIMES: Final[Mapping[str, tuple[str, int | None]]] = {
    "any": ("Any time", None),
    "hour": ("The last hour", _HOUR_US),
    "day": ("The last 24 hours", 24 * _HOUR_US),
    "week": ("The last 7 days", 7 * 24 * _HOUR_US),
    "month": ("The last 30 days", 30 * 24 * _HOUR_US),
    "span": ("From … to …", None),
}
_NUMBERS: Final = (
    "min_prompt_tokens",
    "max_prompt_tokens",
    "min_completion_tokens",
    "max_completion_tokens",
)
NAMES: Final = ("user", "session", "address")  # never in a saved search
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?", re.ASCII)
_LABELS: Final = {
    "models": "model",
    "codes": "code",
    "request_id": "request",
    "key": "API key",
    "user": "person",
    "session": "conversation",
    "address": "address",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields, as text. Times are UTC, as `datetime-local` writes them."""

    look: str = "exchanges"
    time: str = "any"
    since: str = ""
    until: str = ""
    kinds: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    models: str = ""
    codes: str = ""
    request_id: str = ""
    key: str = ""
    user: str = field(default="", repr=False)
    session: str = field(default="", repr=False)
    address: str = field(default="", repr=False)
    min_prompt_tokens: str = ""
    max_prompt_tokens: str = ""
    min_completion_tokens: str = ""
    max_completion_tokens: str = ""
    order: str = "newest"

    @classmethod
    def of(cls, form: FormData) -> Asked:
        """From a form. RequestError for a field that no form of ours sends."""
        values: dict[str, Any] = {}
        for each in dataclasses.fields(cls):
            sent = [value for value in form.getlist(each.name) if isinstance(value, str)]
            if any(len(value) > MAX_FIELD for value in sent):
                raise RequestError(f"the field {each.name} is too long", code="invalid_search")
            if each.name in {"kinds", "outcomes"}:
                values[each.name] = tuple(value for value in sent if value)
            elif sent:
                values[each.name] = sent[-1].strip()
        return cls(**values)

    @classmethod
    def from_saved(cls, text: str) -> Asked:
        """From a saved search, whichever release saved it."""
        known = {each.name for each in dataclasses.fields(cls)}
        found: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(text).items()
            if name in known
        }
        return cls(**found)

    def to_save(self) -> str:
        """JSON without anybody's name: only what differs from an empty form."""
        empty = Asked()
        said = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if value != getattr(empty, name) and name not in NAMES
        }
        return json.dumps(said, sort_keys=True)

    @property
    def has_names(self) -> bool:
        """Whether it names somebody: that is not saved."""
        return any(getattr(self, each) for each in NAMES)

    @property
    def oldest_first(self) -> bool:
        return self.order == "oldest"

    @property
    def is_detailed(self) -> bool:
        """Whether a field is filled in that the form hides at first."""
        return any(getattr(self, each) for each in (*_NUMBERS, "kinds", "codes", "session", "address"))

    def narrowed(self, since_us: int, until_us: int) -> Asked:
        """The same within a span of time."""
        until_us = -(-until_us // 1000) * 1000  # up to the next millisecond, which is all that a form holds
        return dataclasses.replace(self, time="span", since=_text(since_us), until=_text(until_us))

    def filters(self, now_us: int) -> Filters:
        """What the fields mean at this moment. RequestError for what nothing can be found with."""
        if self.look not in GROUPS or self.time not in TIMES:
            raise RequestError("the form is not as it must be", code="invalid_search")
        length_us = TIMES[self.time][1]
        is_span = self.time == "span"
        since = now_us - length_us if length_us is not None else None
        return Filters(
            since_us=_moment(self.since, "since") if is_span else since,
            until_us=_moment(self.until, "until") if is_span else None,
            kinds=self._kinds(),
            outcomes=tuple(_choice(each) for each in self.outcomes),
            models=_several(self.models),
            codes=_several(self.codes),
            request_id=self.request_id or None,
            key=self.key or None,
            user=self.user or None,
            session=self.session or None,
            address=self.address or None,
            **{name: _number(getattr(self, name), name) for name in _NUMBERS},
        )

    def said(self) -> list[tuple[str, str]]:
        """What is looked for, as labels and values, to be shown above the result."""
        found = [("time", TIMES[self.time][0])] if self.time not in {"any", "span"} else []
        if self.time == "span":
            found += [
                (label, value.replace("T", " ") + " UTC")
                for label, value in (("from", self.since), ("before", self.until))
                if value
            ]
        look = ", ".join(self.kinds) if self.kinds else GROUPS[self.look][0]
        found.append(("look at", look))
        if self.outcomes:
            found.append(("outcome", ", ".join(self.outcomes)))
        found += [(label, getattr(self, name)) for name, label in _LABELS.items() if getattr(self, name)]
        found += [(name.replace("_", " "), getattr(self, name)) for name in _NUMBERS if getattr(self, name)]
        return found

    def _kinds(self) -> tuple[Kind, ...]:
        if not self.kinds:
            return GROUPS[self.look][1]
        try:
            return tuple(Kind(each) for each in self.kinds)
        except ValueError as error:
            raise RequestError("there is no such kind of entry", code="invalid_search") from error


def _moment(text: str, name: str) -> int | None:
    if not text:
        return None
    try:
        if _MOMENT.fullmatch(text) is None:
            raise ValueError(text)
        at = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise RequestError(
            f"{name} is a moment like 2026-11-21T14:30", code="invalid_search", param=name
        ) from error
    return int(at.timestamp()) * 1_000_000 + at.microsecond


def _text(microseconds: int) -> str:
    """As `datetime-local` takes it, to the millisecond."""
    at = datetime.fromtimestamp(microseconds // 1_000_000, tz=UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S") + f".{microseconds // 1000 % 1000:03d}"


def _choice(outcome: str) -> str:
    try:
        return str(Outcome(outcome))
    except ValueError as error:
        raise RequestError("there is no such outcome", code="invalid_search", param="outcomes") from error


def _several(text: str) -> tuple[str, ...]:
    return tuple(each for each in re.split(r"[,\s]+", text) if each)


def _number(text: str, name: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise RequestError(f"{name.replace('_', ' ')} is a number", code="invalid_search", param=name)
    return int(text)
