"""What holds for one question: the locked prompt before it, the rules that it and its answer pass.

Documents are taken when the question is admitted; what is published later holds for later ones. A key that
names a document which is not in force gets nothing: it is never served without.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.accounts.documents import DEFAULT, Document, Library
from appliance.core import ChatMessage, Genre, InferenceRequest, Principal
from appliance.errors import Refused, RequestError, Unavailable
from appliance.metrics import Metrics
from appliance.policy import places, rules
from appliance.policy.parts import Placed
from appliance.policy.places import Question
from appliance.policy.rules import RuleSet
from appliance.policy.streaming import check
from appliance.policy.verdicts import Action, Rule
from appliance.tasks import CountTask
from appliance.terms import Capture, Endpoint

REFUSED: Final = "content_policy_violation"
LOCKED: Final = "system_prompt_locked"
_RETRY_SECONDS: Final = 30
_LONG: Final = 20_000  # characters: longer questions are read beside the event loop
_MAX_RECORDED: Final = 200  # verdicts of one question or answer that the record holds one by one
# Where each endpoint's callers would write a system prompt of their own.
_PARAMS: Final[Mapping[Endpoint, str]] = {
    Endpoint.CHAT: "messages",
    Endpoint.MESSAGES: "system",
    Endpoint.RESPONSES: "instructions",
    Endpoint.INPUT_TOKENS: "instructions",
}


@dataclass(frozen=True, slots=True)
class Guarded:
    """A question with what holds for it. `request` is what the model is told."""

    request: Question
    prompt: Document | None = None
    document: Document | None = None  # of the rules
    rules: RuleSet | None = None
    placed: tuple[Placed, ...] = ()  # verdicts on the question
    originals: Mapping[str, str] = field(default_factory=dict, repr=False)  # of rewritten texts, by place
    refusal: RequestError | None = None

    @property
    def output(self) -> tuple[Rule, ...]:
        """The rules of its answer."""
        return self.rules.output if self.rules is not None else ()

    def record(self, capture: Capture) -> dict[str, Any]:
        """What the opening says of it besides; words only where the key's are kept."""
        said: dict[str, Any] = {}
        if self.prompt is not None:
            said["locked_prompt"] = self.prompt.named()
        if self.document is not None:
            said["guardrails"] = {**self.document.named(), **recorded(self.placed)}
        if self.originals and capture is Capture.FULL:
            said["originals"] = dict(self.originals)
        return said


def recorded(placed: tuple[Placed, ...] | list[Placed]) -> dict[str, Any]:
    """Verdicts as the record holds them; beyond the first ones, how many there were."""
    if not placed:
        return {}
    said: dict[str, Any] = {"verdicts": [each.record() for each in placed[:_MAX_RECORDED]]}
    if len(placed) > _MAX_RECORDED:
        said["num_verdicts"] = len(placed)
    return said


class Guarding:
    """Finds what holds for a key's question, and checks it. Owner of `_rules`: the event loop's thread."""

    def __init__(self, library: Library, metrics: Metrics) -> None:
        self._library = library
        self._metrics = metrics
        self._rules: dict[str, RuleSet] = {}  # by the document's id: a version never changes

    def begin(self, request: Question, principal: Principal) -> Guarded:
        """A question behind its locked prompt, not yet checked.

        Refused, RequestError where the caller brings a prompt of their own, or what rules can not see into;
        Unavailable where what the key names is not in force.
        """
        terms = principal.terms
        prompt = self._named(Genre.PROMPT, terms.prompt) if terms.prompt else None
        document = self._named(Genre.GUARDRAILS, terms.guardrails) if terms.guardrails else None
        document = document or self._library.find(Genre.GUARDRAILS, DEFAULT)
        found = self._rules_of(document)
        if found is not None:
            _require_readable(request, found)
        if prompt is not None:
            request = _locked(request, prompt)
        return Guarded(request, prompt, document, found)

    async def check(self, guarded: Guarded) -> Guarded:
        """The question behind its input rules."""
        if guarded.rules is None or not guarded.rules.input:
            return guarded
        skip = (
            1
            if guarded.prompt is not None and isinstance(guarded.request, InferenceRequest | CountTask)
            else 0
        )
        size = sum(len(each.text) for each in places.texts(guarded.request, skip=skip))
        if size > _LONG:
            checked = await asyncio.to_thread(_checked, guarded, guarded.rules.input, skip)
        else:
            checked = _checked(guarded, guarded.rules.input, skip)
        self.count("input", checked.placed)
        return checked

    def count(self, side: str, placed: tuple[Placed, ...] | list[Placed]) -> None:
        """Verdicts into the metrics."""
        for each in placed:
            self._metrics.verdict(side=side, action=str(each.verdict.action))

    def _named(self, genre: Genre, reference: str) -> Document:
        found = self._library.find(genre, reference)
        if found is None:
            kind, program = ("prompt", "prompt") if genre is Genre.PROMPT else ("rules", "policy")
            raise Unavailable(
                f"the {kind} that this key is bound to is not in force",
                code=f"{'prompt' if genre is Genre.PROMPT else 'guardrails'}_unavailable",
                hint=f"an operator publishes it: appliance {program} publish",
                retry_after_seconds=_RETRY_SECONDS,
            )
        return found

    def _rules_of(self, document: Document | None) -> RuleSet | None:
        if document is None:
            return None
        if document.id not in self._rules:
            self._rules[document.id] = rules.parse(document.text)
        return self._rules[document.id]


def _locked(request: Question, prompt: Document) -> Question:
    """With the prompt before the conversation, and no other one in it."""
    if isinstance(request, InferenceRequest) and request.prompts:
        raise Refused(
            "this key has a locked system prompt, which a raw completion would go past",
            code=LOCKED,
            param="prompt",
            hint="ask /v1/chat/completions, /v1/responses or /v1/messages",
        )
    if not isinstance(request, InferenceRequest | CountTask):
        return request  # nothing is answered there in words
    if any(each.role == "system" for each in request.messages):
        raise RequestError(
            "this key has a locked system prompt, so the conversation has no system or developer message "
            "and no instructions of its own",
            code=LOCKED,
            param=_PARAMS.get(request.endpoint, "messages"),
        )
    first = ChatMessage(role="system", content=prompt.text)
    return dataclasses.replace(request, messages=(first, *request.messages))


def _require_readable(request: Question, found: RuleSet) -> None:
    """RequestError for what the rules could not see into, or not keep in."""
    if found.input and places.has_tokens(request):
        raise RequestError(
            "questions of this key pass rules, which read words and no token ids",
            code="unsupported_parameter",
            param="prompt" if isinstance(request, InferenceRequest) else "input",
        )
    if found.output and isinstance(request, InferenceRequest) and request.sampling.top_logprobs is not None:
        raise RequestError(
            "answers of this key pass rules, and log-probabilities would tell what these keep in",
            code="unsupported_parameter",
            param="logprobs",
        )


def _checked(guarded: Guarded, given: tuple[Rule, ...], skip: int) -> Guarded:
    placed: list[Placed] = []
    originals: dict[str, str] = {}
    changed: dict[str, str] = {}
    refusing: tuple[str, str, str] | None = None  # rule, message, place
    for place in places.texts(guarded.request, skip=skip):
        found = check(place.text, given)
        placed += [Placed(place.at, each) for each in found.verdicts]
        rule = found.refusal
        if rule is None and found.text != place.text:
            originals[place.at] = place.text
            changed[place.at] = found.text
            if place.is_code:  # a changed schema, or call, would be another request
                rule = _redacting(given, found.verdicts[0].rule, [each.rule for each in found.verdicts])
        if rule is not None and refusing is None:
            refusing = (rule.id, rule.message, place.at)
    if refusing is not None:
        return dataclasses.replace(guarded, placed=tuple(placed), refusal=_refusal(*refusing))
    return dataclasses.replace(
        guarded,
        request=places.rewritten(guarded.request, changed),
        placed=tuple(placed),
        originals=originals,
    )


def _redacting(given: tuple[Rule, ...], first: str, ids: list[str]) -> Rule:
    """The first rule that would have rewritten it."""
    by_id = {each.id: each for each in given}
    return next((by_id[each] for each in ids if by_id[each].action is Action.REDACT), by_id[first])


def _refusal(rule: str, message: str, at: str) -> RequestError:
    said = message or "this request is against the content rules of this appliance"
    return RequestError(f"{said} (rule {rule})", code=REFUSED, param=at)
