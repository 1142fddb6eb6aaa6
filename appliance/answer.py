"""What has come from the worker so far: to be sent, to be recorded, and to be counted."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Iterable, Sequence

from appliance import dialects
from appliance.core import (
    CallPart,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    Part,
    ReasoningPart,
    Started,
    TextPart,
    TokenLogprob,
    Usage,
)
from appliance.dialects import Reader
from appliance.errors import ApplianceError
from appliance.policy.parts import GuardedParts, Placed
from appliance.policy.verdicts import Rule
from appliance.tasks import Answered, Task, Vectors


class _Buffer:
    """Pieces of one choice that wait for something. A token costs a few appends; joining is for later."""

    __slots__ = ("logprobs", "num_tokens", "parts", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.parts: list[Part] = []
        self.logprobs: list[TokenLogprob] = []
        self.num_tokens = 0

    @property
    def has_said(self) -> bool:
        """Whether there is anything to send: a token may be half a character, or held back."""
        return bool(self.texts or self.parts)

    @property
    def is_empty(self) -> bool:
        return not (self.texts or self.parts or self.logprobs or self.num_tokens)

    def is_ripe(self, *, said_only: bool) -> bool:
        """Whether it can go to the caller; tokens of no text and without logprobs never need to."""
        return self.has_said or (bool(self.logprobs) and not said_only)

    def joined(self, index: int) -> Delta:
        """All of it as one piece."""
        return Delta(
            text="".join(self.texts),
            num_tokens=self.num_tokens,
            index=index,
            logprobs=tuple(self.logprobs),
            parts=merged(self.parts),
        )


class _Choice:
    """One of the answers."""

    __slots__ = ("guard", "has_called", "num_held", "pending", "reader", "recorded", "unrecorded")

    def __init__(self, reader: Reader | None, guard: GuardedParts | None) -> None:
        self.reader = reader  # None: text is text
        self.guard = guard  # None: it passes no rules
        self.has_called = False  # a tool
        self.num_held = 0  # tokens whose text the reader has not given out yet
        self.pending = _Buffer()  # not yet sent
        self.unrecorded = _Buffer()  # in no segment yet; the texts and logprobs only
        self.recorded: list[str] = []  # the texts of the segments


class Answer:
    """What the worker has said to one question. Owner: the exchange's task and its pump.

    The record holds the text as the model wrote it; callers get the parts that its dialect reads there, and
    of these what output `rules` let pass.
    """

    def __init__(self, request: InferenceRequest | Task, dialect: str, rules: Sequence[Rule] = ()) -> None:
        self.finished: Finished | None = None
        self.error: ApplianceError | None = None
        self.num_segments = 0
        self.has_pieces = False  # something waits to be sent
        self._request = request if isinstance(request, InferenceRequest) else None
        self._num_choices = self._request.num_choices if self._request is not None else 1
        self._reads = self._request is not None and not self._request.prompts
        tooling = self._request.tooling if self._request is not None else None
        self._calls = tooling is not None
        self._tools = tooling.tools if tooling is not None else ()
        self._dialect = dialect
        self._rules = rules
        self._num_tokens = 0
        self._num_reasoning = 0  # of them
        self._started: dict[int, Started] = {}
        self._choices: dict[int, _Choice] = {}
        self._result = b""
        self._has_ended = False  # the worker's own end has come

    def add(self, item: Started | Delta | Finished) -> None:
        """Take in what the worker says."""
        match item:
            case Delta():
                self._add_piece(item)
            case Started():
                self._started[item.index] = item
            case Answered():
                self.finished, self._has_ended = item, True
                result = item.result
                if result.text:
                    self._choice(0).unrecorded.texts.append(result.text)
                if isinstance(result, Vectors):
                    self._result = result.data
            case Finished():
                self._has_ended = True
                for choice in self._choices.values():
                    if choice.reader is not None:
                        self._read(choice, choice.reader.finish(), 0)
                    if choice.guard is not None:
                        choice.pending.parts += choice.guard.finish()
                self.finished = self._with_ends(item)

    @property
    def has_started(self) -> bool:
        """Whether the worker has taken the prompt of every choice."""
        return len(self._started) == self._num_choices

    @property
    def is_cut(self) -> bool:
        """Whether rules have ended every choice before the worker did."""
        return self.finished is not None and not self._has_ended

    @property
    def placed(self) -> list[Placed]:
        """What rules decided, choice by choice; behind the first one each place begins with its number."""
        return [
            Placed(f"choices[{index}].{each.at}" if index else each.at, each.verdict)
            for index, choice in sorted(self._choices.items())
            if choice.guard is not None
            for each in choice.guard.placed
        ]

    @property
    def sha256(self) -> str:
        """Of the choices' texts one after the other in UTF-8, or of a task's result; hex."""
        digest = hashlib.sha256(self._result)
        if not self._result:
            for _, choice in sorted(self._choices.items()):
                digest.update("".join(choice.recorded).encode("utf-8"))
                digest.update("".join(choice.unrecorded.texts).encode("utf-8"))
        return digest.hexdigest()

    def take(self, *, said_only: bool = False) -> list[Delta]:
        """What waits to be sent, one piece for each choice that has any, in their order.

        `said_only` leaves logprobs waiting whose tokens have neither text nor parts yet.
        """
        pieces = []
        for index, choice in sorted(self._choices.items()):
            if choice.pending.is_ripe(said_only=said_only):
                pieces.append(choice.pending.joined(index))
                choice.pending = _Buffer()
        self.has_pieces = False
        return pieces

    def take_unrecorded(self, only: Collection[int] | None = None) -> list[Delta]:
        """What no segment holds, one piece for each choice that has any; `only` of these choices."""
        pieces = []
        for index, choice in sorted(self._choices.items()):
            if (only is None or index in only) and not choice.unrecorded.is_empty:
                piece = choice.unrecorded.joined(index)
                choice.recorded.append(piece.text)
                choice.unrecorded = _Buffer()
                pieces.append(piece)
        return pieces

    def usage(self) -> Usage:
        """What the worker counted; where it did not come to that, what came from it."""
        if self.finished is not None:
            return self.finished.usage
        n = self._request.n if self._request is not None else 1
        prompts = {index // n: each.prompt_tokens for index, each in self._started.items()}
        return Usage(
            prompt_tokens=sum(prompts.values()),
            completion_tokens=self._num_tokens,
            reasoning_tokens=self._num_reasoning,
        )

    def _add_piece(self, piece: Delta) -> None:
        self._num_tokens += piece.num_tokens
        choice = self._choices.get(piece.index) or self._choice(piece.index)
        for buffer in (choice.pending, choice.unrecorded):
            buffer.num_tokens += piece.num_tokens
            # What waits for rules is not said yet, whatever was written.
            if piece.text and (buffer is choice.unrecorded or choice.guard is None):
                buffer.texts.append(piece.text)
            if piece.logprobs:
                buffer.logprobs += piece.logprobs
        if choice.reader is not None:
            self._read(choice, choice.reader.feed(piece.text), piece.num_tokens)
        elif piece.text:
            self._say(choice, [TextPart(piece.text)])
        if piece.text and choice.guard is None:
            self.has_pieces = True
        if choice.guard is not None and choice.guard.refusal is not None and self.finished is None:
            self._cut()

    def _read(self, choice: _Choice, parts: Sequence[Part], num_tokens: int) -> None:
        """Tokens count as reasoning where all that they, and those held back before them, said is."""
        choice.num_held += num_tokens
        if not parts:
            return
        self._say(choice, parts)
        if all(isinstance(each, ReasoningPart) for each in parts):
            self._num_reasoning += choice.num_held
        elif not choice.has_called:
            choice.has_called = any(isinstance(each, CallPart) for each in parts)
        choice.num_held = 0

    def _say(self, choice: _Choice, parts: Sequence[Part]) -> None:
        """What the choice says, as far as its rules let it pass now."""
        said = choice.guard.feed(parts) if choice.guard is not None else parts
        if said:
            choice.pending.parts += said
            self.has_pieces = True

    def _cut(self) -> None:
        """The end, where rules have ended every choice."""
        guards = [each.guard for each in self._choices.values()]
        if len(guards) == self._num_choices and all(each and each.refusal for each in guards):
            reasons = (FinishReason.STOP,) * self._num_choices
            self.finished = self._with_ends(Finished(reasons[0], self.usage(), reasons=reasons))

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            started = self._started.get(index)
            reader = None
            if self._reads:
                reader = dialects.reader(
                    self._dialect,
                    calls=self._calls,
                    begins_thinking=started is not None and started.begins_thinking,
                    tools=self._tools,
                )
            guard = GuardedParts(self._rules) if self._rules else None
            self._choices[index] = _Choice(reader, guard)
        return self._choices[index]

    def _with_ends(self, finished: Finished) -> Finished:
        """A stop behind a call is what callers know as `tool_calls`, an end by a rule as `content_filter`."""
        callers = {index for index, choice in self._choices.items() if choice.has_called}
        reasons = tuple(
            FinishReason.TOOL_CALLS if reason is FinishReason.STOP and index in callers else reason
            for index, reason in enumerate(finished.reasons or (finished.reason,))
        )
        cut = {index for index, each in self._choices.items() if each.guard and each.guard.refusal}
        reasons = tuple(
            FinishReason.CONTENT_FILTER if index in cut else reason for index, reason in enumerate(reasons)
        )
        usage = dataclasses.replace(finished.usage, reasoning_tokens=self._num_reasoning)
        return dataclasses.replace(finished, reason=reasons[0], reasons=reasons, usage=usage)


def merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Neighbours of one kind as one part: a frame for each token would be a waste."""
    return tuple(_one(list(run)) for _, run in itertools.groupby(parts, _kind))


def _kind(part: Part) -> tuple[type, int]:
    return type(part), part.index if isinstance(part, CallPart) else 0


def _one(run: Sequence[Part]) -> Part:
    first = run[0]
    if len(run) == 1:
        return first
    match first:
        case CallPart():
            arguments = "".join(each.arguments for each in run if isinstance(each, CallPart))
            return CallPart(first.index, first.name, arguments)
        case _:
            return type(first)("".join(each.text for each in run if not isinstance(each, CallPart)))
