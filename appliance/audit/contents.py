"""What was asked and answered, put together again from the contents of an exchange's entries. Pure.

One place for everybody who reads: the console, the program, searches, replays. Contents of earlier
releases read the same: they have one choice, and nothing of what came later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.audit.kinds import Kind
from appliance.audit.query import Opened, Record
from appliance.terms import Capture, Endpoint

Content = Mapping[str, Any]

# Fields that `pieces` and `logprobs` read, and the answer once more in numbers: no words of their own.
STREAMED: Final = frozenset({"text", "output", "outputs", "choice", "logprobs", "tokens", "logits"})
_ANSWERING: Final = frozenset({Kind.REQUEST_SEGMENT, Kind.REQUEST_CLOSED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule met its words: in which text of the question or the answer, and where there."""

    side: str
    rule: str
    action: str
    at: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that was said to the model, and by whom."""

    role: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token that was chosen, its log-probability, and the likeliest ones in its place."""

    token: str = field(repr=False)
    logprob: float
    top: tuple[tuple[str, float], ...] = field(default=(), repr=False)


def pieces(content: Content) -> Iterator[tuple[int, str]]:
    """(choice, text) of what a content holds of answers: a segment's, or what a closing adds to them."""
    if "text" in content:
        yield int(content.get("choice", 0)), str(content["text"])
    if "output" in content:
        yield 0, str(content["output"])
    for each in content.get("outputs", ()):
        yield int(each["choice"]), str(each["text"])


def answers(contents: Iterable[Content | None]) -> dict[int, str]:
    """Each choice's text as the model wrote it, in the order of the choices; empty where there is none."""
    found: dict[int, list[str]] = {}
    for content in contents:
        for choice, text in pieces(content or {}):
            found.setdefault(choice, []).append(text)
    return {choice: "".join(texts) for choice, texts in sorted(found.items())}


def answer_of(records: Iterable[Opened]) -> dict[int, str]:
    """The same, of an exchange's entries: of its segments and its closing only."""
    return answers(each.content for each in records if each.record.kind in _ANSWERING)


def logprobs(contents: Iterable[Content | None]) -> dict[int, list[Logprob]]:
    """Each choice's log-probabilities, where they were asked for."""
    found: dict[int, list[Logprob]] = {}
    for content in contents:
        for each in [content or {}, *(content or {}).get("outputs", ())]:
            for token, logprob, top in each.get("logprobs", ()):
                alternatives = tuple((_spelt(other), float(its)) for other, its in top)
                said = Logprob(_spelt(token), float(logprob), alternatives)
                found.setdefault(int(each.get("choice", 0)), []).append(said)
    return dict(sorted(found.items()))


def are_words_kept(records: Iterable[Record]) -> bool:
    """Whether the record holds what was said in these entries of an exchange: of some keys it never does."""
    return not any(each.public.get("capture") == Capture.METADATA for each in records)


def matches_digest(records: Sequence[Opened]) -> bool | None:
    """Whether the answers are what the closing's `output_sha256` is over: all choices one after the other.

    None where that can not be said: not closed, not all of it open, or a digest of what is not kept.
    """
    opening = next((each for each in records if each.record.kind is Kind.REQUEST_OPENED), None)
    closing = next((each for each in records if each.record.kind is Kind.REQUEST_CLOSED), None)
    if opening is None or closing is None or opening.content is None:
        return None
    said = [each for each in records if each.record.kind in _ANSWERING]
    digest = closing.record.public.get("output_sha256", "")
    num_segments = closing.record.public.get("num_segments", len(said) - 1)
    is_whole = len(said) - 1 == num_segments and not any(
        each.content is None and each.record.header.ct is not None for each in said
    )
    # The digest of vectors is over their bytes, which are not kept.
    if not digest or not is_whole or opening.record.public.get("endpoint") == Endpoint.EMBEDDINGS:
        return None
    whole = "".join(answer_of(records).values())
    return hashlib.sha256(whole.encode("utf-8")).hexdigest() == digest


def turns(content: Content) -> list[Turn]:
    """A question in the order in which the model was told it."""
    found: list[Turn] = []
    for message in content.get("messages", ()):
        role = str(message["role"])
        if thought := message.get("reasoning"):
            found.append(Turn(f"{role}, thinking", str(thought)))
        answered = message.get("tool_call_id")
        calls = message.get("tool_calls", ())
        if message["content"] or not (thought or calls):
            found.append(Turn(f"{role}, for {answered}" if answered else role, str(message["content"])))
        found += [
            Turn(f"{role}, calls {each['name']} ({each['id']})", str(each["arguments"])) for each in calls
        ]
    for name, label in (("prompts", "prompt"), ("inputs", "input"), ("documents", "document")):
        found += [Turn(label, _plain(each)) for each in content.get(name, ())]
    if "query" in content:
        found.append(Turn("query", str(content["query"])))
    return found


def tools(content: Content) -> list[Turn]:
    """What the model might call: each tool's name, its description and its parameters."""
    offered = content.get("tooling") or {}
    return [
        Turn(str(each["name"]), "\n".join(filter(None, (each["description"], each["parameters"]))))
        for each in offered.get("tools", ())
    ]


def terms(content: Content) -> dict[str, str]:
    """What was asked for besides the words: how many answers, how tools are chosen, how long it may take."""
    offered = content.get("tooling") or {}
    found = {
        "answers": content.get("n"),
        "tool choice": offered.get("choice"),
        "parallel calls": {True: "yes", False: "no"}.get(offered.get("parallel", "")),
        "reasoning effort": content.get("effort"),
        "time limit in seconds": content.get("timeout_seconds"),
    }
    return {name: str(value) for name, value in found.items() if value}


def verdicts(contents: Iterable[Content | None]) -> list[Verdict]:
    """What rules decided on the question, then on the answer."""
    found = []
    for content in contents:
        held = content or {}
        rules = held.get("guardrails") or {}
        for side, given in (("question", rules.get("verdicts", ())), ("answer", held.get("verdicts", ()))):
            found += [
                Verdict(
                    side=side,
                    rule=str(each["rule"]),
                    action=str(each["action"]),
                    at=str(each["at"]),
                    begin=int(each["begin"]),
                    end=int(each["end"]),
                )
                for each in given
            ]
    return found


def documents(content: Content) -> dict[str, str]:
    """The locked prompt and the rules that held, by name and version."""
    names = (("locked prompt", "locked_prompt"), ("rules", "guardrails"))
    held = {label: content.get(name) for label, name in names}
    return {label: f"{each['name']}@{each['version']}" for label, each in held.items() if each}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "tokens " + json.dumps(value)


def _spelt(token: Any) -> str:
    """A token's bytes, which the record holds as Latin-1; half characters are U+FFFD."""
    return str(token).encode("latin-1", "replace").decode("utf-8", "replace")
