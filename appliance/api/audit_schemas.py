"""The wire shapes of `/v1/audit`: filters in a body, so that no name is in a URL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from appliance.api.body import Body
from appliance.audit import rows
from appliance.audit.kinds import Kind
from appliance.audit.search import MAX_CHARACTERS, MAX_CHOICES, MAX_LIMIT, Filters, Page
from appliance.audit.timeline import MAX_BUCKETS, Timeline
from appliance.auditing import Proven
from appliance.core import Outcome
from appliance.errors import RequestError
from appliance.why import Why

_Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
_Many = Annotated[tuple[_Text, ...], Field(max_length=MAX_CHOICES, strict=False)]
_Tokens = Annotated[int, Field(ge=0, lt=1 << 53)]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FilterBody(Body):
    """What is looked for, why, and for which case. Everything that is given must hold."""

    purpose: str
    case: str = ""
    since: _Text | None = None  # RFC 3339
    until: _Text | None = None
    kinds: Annotated[tuple[Kind, ...], Field(max_length=MAX_CHOICES, strict=False)] = ()
    outcomes: Annotated[tuple[Outcome, ...], Field(max_length=MAX_CHOICES, strict=False)] = ()
    models: _Many = ()
    codes: _Many = ()
    request_id: _Text | None = None
    key: _Text | None = None
    user: _Text | None = None
    session: _Text | None = None
    address: _Text | None = None
    min_prompt_tokens: _Tokens | None = None
    max_prompt_tokens: _Tokens | None = None
    min_completion_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None

    def why(self) -> Why:
        """RequestError where the purpose or the case is not fit for the record."""
        return Why(self.purpose, self.case)

    def filters(self) -> Filters:
        """RequestError names what can not be searched for."""
        return Filters(
            since_us=_microseconds(self.since, "since"),
            until_us=_microseconds(self.until, "until"),
            kinds=self.kinds,
            outcomes=self.outcomes,
            models=self.models,
            codes=self.codes,
            request_id=self.request_id,
            key=self.key,
            user=self.user,
            session=self.session,
            address=self.address,
            min_prompt_tokens=self.min_prompt_tokens,
            max_prompt_tokens=self.max_prompt_tokens,
            min_completion_tokens=self.min_completion_tokens,
            max_completion_tokens=self.max_completion_tokens,
        )


class EventsBody(FilterBody):
    """`POST /v1/audit/events`."""

    order: Literal["newest", "oldest"] = "newest"
    format: Literal["json", "jsonl", "csv"] = "json"
    cursor: Annotated[str, StringConstraints(max_length=64)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None = None

    def require_whole(self) -> None:
        """RequestError where a stream of everything is asked for a part."""
        for name in ("cursor", "limit"):
            if getattr(self, name) is not None:
                raise RequestError(
                    f"{name} goes with format json; {self.format} has everything that is found",
                    code="unsupported_parameter",
                    param=name,
                )


class TimelineBody(FilterBody):
    """`POST /v1/audit/events/timeline`."""

    buckets: Annotated[int, Field(ge=1, le=MAX_BUCKETS)] = 60


def page_body(page: Page) -> dict[str, Any]:
    """A page. Times are RFC 3339; null where everything was searched."""
    return {
        "object": "list",
        "events": [rows.plain(each) for each in page.records],
        "next_cursor": page.next_cursor,
        "searched_to": _moment(page.searched_to_us),
        "names_since": _moment(page.names_since_us),
    }


def timeline_body(found: Timeline) -> dict[str, Any]:
    """Counts in equal parts of time: by outcome for exchanges, by kind for the rest."""
    return {
        "begin": _moment(found.begin_us),
        "end": _moment(found.end_us),
        "bucket_us": found.bucket_us,
        "complete": found.complete,
        "counted_from": _moment(found.counted_from_us),
        "total": found.total,
        "counts": list(found.counts),
    }


def proven_body(found: Proven) -> dict[str, Any]:
    """One entry: its header's own text, and where it stands in the tree."""
    return {
        **rows.plain(found.record),
        "header": found.record.header.encode().decode(),
        "verified": found.verified,
        "tree_size": found.tree_size,
        "proof": None if found.proof is None else found.proof.encode().decode(),
    }


def _moment(microseconds: int | None) -> str | None:
    return None if microseconds is None else rows.moment(microseconds)


def _microseconds(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment < _EPOCH:
        raise RequestError(f"{name} is not a moment with a zone (RFC 3339)", code="invalid_value", param=name)
    return (moment - _EPOCH) // timedelta(microseconds=1)
