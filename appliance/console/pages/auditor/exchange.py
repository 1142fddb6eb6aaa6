"""An exchange as its page shows it: put together from the entries of one request, or one entry alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.audit import contents
from appliance.audit.contents import Logprob, Turn, Verdict
from appliance.audit.kinds import Kind
from appliance.audit.query import Opened
from appliance.auditing import Exchange
from appliance.console.pages.auditor import drawing
from appliance.console.pages.auditor.drawing import Stretch
from appliance.console.pages.auditor.words import KINDS, Mark, mark_of
from appliance.terms import Endpoint

# Shown in places of their own; whatever else a content holds is shown as it is.
_SHOWN: Final = frozenset(
    {
        "messages",
        "prompts",
        "inputs",
        "query",
        "documents",
        "tooling",
        "n",
        "effort",
        "timeout_seconds",
        "sampling",
        "setup",
        "annotations",
        "capture_basis",
        "principal",
        "caller",
        "verdicts",
        *contents.STREAMED,
    }
)
_MAX_LOGPROBS: Final = 500  # tokens on a page; the record and its evidence have all of them


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the exchange: its header, its place in the tree, what became of its content."""

    opened: Opened
    label: str
    mark: Mark
    tree_size: int
    verified: bool

    @property
    def is_sealed(self) -> bool:
        return self.opened.record.header.ct is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice's answer, as the model wrote it."""

    label: str  # empty where there is one answer only
    text: str = field(repr=False)
    logprobs: Sequence[Logprob] = field(default=(), repr=False)
    num_logprobs: int = 0  # of which so many are shown


@dataclass(frozen=True, slots=True)
class Shown:
    """What stands on the page. Contents only where `is_open`."""

    seq: int
    request_id: str | None
    title: str
    mark: Mark
    verified: bool
    tree_size: int
    lines: Sequence[Line]
    facts: Mapping[str, str]
    stretches: Sequence[Stretch]
    took_us: int | None
    tokens: Mapping[str, int]
    is_open: bool
    erased_by: Sequence[int]
    has_words: bool  # of some keys none are kept
    basis: str  # on which ground they are not
    asked: Sequence[Turn] = field(repr=False)
    tools: Sequence[Turn] = field(repr=False)  # that were offered
    answers: Sequence[Answer] = field(repr=False)
    answer_matches: bool | None  # against the digest in the closing's header; None: nothing to compare
    verdicts: Sequence[Verdict]  # of rules
    settings: Mapping[str, str] = field(repr=False)
    people: Mapping[str, str] = field(repr=False)
    rest: Sequence[tuple[int, str]] = field(repr=False)  # seq, JSON


def shown(seq: int, found: Exchange) -> Shown:
    """The page's values for the entry that was asked for and those that belong to it."""
    lines = [
        Line(each, KINDS[each.record.kind], mark_of(each.record), *found.proofs[each.record.seq])
        for each in found.records
    ]
    opening = _first(found.records, Kind.REQUEST_OPENED)
    closing = _first(found.records, Kind.REQUEST_CLOSED)
    chosen = next((each for each in lines if each.opened.record.seq == seq), lines[0])
    head = closing or opening or chosen.opened
    parts = _parts(opening, closing)
    said = closing.record.public if closing is not None else {}
    return Shown(
        seq=seq,
        request_id=head.record.request_id,
        title=_title(opening, chosen),
        mark=_mark(opening, closing, chosen),
        verified=found.verified,
        tree_size=max(each.tree_size for each in lines),
        lines=lines,
        facts=_facts(opening, closing),
        stretches=drawing.stretches(parts),
        took_us=sum(us for _, _, us in parts) if opening and closing else None,
        tokens={
            name: int(said[field])
            for name, field in (
                ("read", "prompt_tokens"),
                ("written", "completion_tokens"),
                ("from the cache", "cached_tokens"),
            )
            if field in said
        },
        is_open=any(each.content is not None for each in found.records),
        erased_by=sorted({each.erased_by for each in found.records if each.erased_by is not None}),
        has_words=contents.are_words_kept([each.record for each in found.records]),
        basis=str(_content(opening).get("capture_basis", "")),
        asked=contents.turns(_content(opening)),
        tools=contents.tools(_content(opening)),
        answers=_answers(_content(opening), found.records),
        answer_matches=contents.matches_digest(found.records),
        verdicts=contents.verdicts(each.content for each in found.records),
        settings=_settings(opening),
        people=_people(found.records),
        rest=_rest(found.records),
    )


def _first(records: Sequence[Opened], kind: Kind) -> Opened | None:
    return next((each for each in records if each.record.kind is kind), None)


def _title(opening: Opened | None, chosen: Line) -> str:
    if opening is None:
        return chosen.label
    endpoint = str(opening.record.public.get("endpoint", Endpoint.CHAT))
    return "Exchange" if endpoint == Endpoint.CHAT else f"Exchange ({endpoint})"


def _mark(opening: Opened | None, closing: Opened | None, chosen: Line) -> Mark:
    if closing is not None:
        return mark_of(closing.record)
    return Mark("Still open", "warn", "…") if opening is not None else chosen.mark


def _facts(opening: Opened | None, closing: Opened | None) -> dict[str, str]:
    """What the headers say about how it was computed."""
    public = {**(opening.record.public if opening else {}), **(closing.record.public if closing else {})}
    names = {
        "model": "Model",
        "model_sha256": "Model's SHA-256",
        "adapter": "Adapter",
        "adapter_sha256": "Adapter's SHA-256",
        "endpoint": "Endpoint",
        "code": "Code",
        "num_segments": "Pieces",
        "output_sha256": "Answer's SHA-256",
    }
    found = {label: str(public[name]) for name, label in names.items() if public.get(name) not in (None, "")}
    if "stream" in public:
        found["Streamed"] = "yes" if public["stream"] else "no"
    return found


def _parts(opening: Opened | None, closing: Opened | None) -> list[tuple[str, str, int]]:
    if opening is None or closing is None:
        return []
    said = closing.record.public
    known = [
        ("queue", "waiting", int(said.get("queue_us", 0))),
        ("prefill", "reading the question", int(said.get("prefill_us", 0))),
        ("decode", "writing the answer", int(said.get("decode_us", 0))),
    ]
    rest = closing.record.ts - opening.record.ts - sum(us for _, _, us in known)
    return [
        each for each in (*known, ("record", "the record and the way to the caller", rest)) if each[2] > 0
    ]


def _content(opened: Opened | None) -> Mapping[str, Any]:
    return (opened.content if opened else None) or {}


def _answers(asked: Mapping[str, Any], records: Sequence[Opened]) -> list[Answer]:
    """Each choice's; of several prompts the label says which one it answers."""
    texts = contents.answer_of(records)
    logprobs = contents.logprobs(each.content for each in records)
    num_prompts = len(asked.get("prompts", ()))
    found = []
    for choice in sorted(texts.keys() | logprobs.keys()):
        label = f"Answer {choice + 1}" if len(texts) > 1 else ""
        if label and num_prompts > 1:
            label += f", to prompt {choice // int(asked.get('n', 1)) + 1}"
        said = logprobs.get(choice, [])
        found.append(Answer(label, texts.get(choice, ""), said[:_MAX_LOGPROBS], len(said)))
    return [each for each in found if each.text or each.logprobs]


def _settings(opening: Opened | None) -> dict[str, str]:
    content = _content(opening)
    found: dict[str, Any] = {
        **contents.documents(content),
        **contents.terms(content),
        **content.get("sampling", {}),
        **content.get("setup", {}),
    }
    return {
        name.replace("_", " "): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in found.items()
        if value not in (None, "", [])
    }


def _people(records: Sequence[Opened]) -> dict[str, str]:
    """Who, from where, and for whom; of the first entry that says so."""
    found: dict[str, str] = {}
    for each in records:
        content = each.content or {}
        who, caller = content.get("principal") or {}, content.get("caller") or {}
        told = {
            "Key or account": " ".join(str(who[n]) for n in ("name", "key_id") if who.get(n)),
            "Role": who.get("role"),
            "Address": caller.get("address"),
            "Program": caller.get("user_agent"),
        }
        annotations = content.get("annotations") or {}
        told |= {
            f"Caller said: {name}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in annotations.items()
        }
        found |= {name: str(value) for name, value in told.items() if value and name not in found}
    return found


def _rest(records: Sequence[Opened]) -> list[tuple[int, str]]:
    found = []
    for each in records:
        left = {name: value for name, value in (each.content or {}).items() if name not in _SHOWN}
        if left:
            found.append((each.record.seq, json.dumps(left, indent=2, ensure_ascii=False)))
    return found
