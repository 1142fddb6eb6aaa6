"""An answer's parts on their way through output rules. Pure.

What the model thought, what it said and the arguments of each call are texts of their own: a match is not
looked for from one into the next. Text leaves piece by piece, a call only as a whole behind its rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.core import CallPart, Part, ReasoningPart, TextPart
from appliance.policy.streaming import Guard
from appliance.policy.verdicts import Action, Rule, Verdict

_Channel = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Placed:
    """A verdict, and in which text of the question or the answer."""

    at: str
    verdict: Verdict

    def record(self) -> dict[str, str | int]:
        """As the record holds it: no word of any text."""
        return {
            "at": self.at,
            "rule": self.verdict.rule,
            "action": str(self.verdict.action),
            "begin": self.verdict.begin,
            "end": self.verdict.end,
        }


class GuardedParts:
    """The parts of one choice. `refusal` is set when it has ended by a rule: nothing more leaves then."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.placed: list[Placed] = []
        self.refusal: Rule | None = None
        self._rules = rules
        self._guard: Guard | None = None
        self._channel: _Channel = ("", 0)
        self._num_noted = 0  # of its verdicts
        self._name = ""  # of the call that is being told
        self._has_spoken = False
        self._num_runs: dict[_Channel, int] = {}

    def feed(self, parts: Iterable[Part]) -> list[Part]:
        """More of the answer; what may leave now."""
        said: list[Part] = []
        for part in parts:
            if self.refusal is None:
                if self._guard is None or _channel(part) != self._channel:
                    said += self._end()
                if self.refusal is None:
                    said += self._take(part)
        return said

    def finish(self) -> list[Part]:
        """There is no more; the rest that may leave."""
        return self._end() if self.refusal is None else []

    def _take(self, part: Part) -> list[Part]:
        if self._guard is None:
            self._guard, self._channel, self._num_noted = Guard(self._rules), _channel(part), 0
            self._num_runs[self._channel] = self._num_runs.get(self._channel, -1) + 1
        if isinstance(part, CallPart):
            self._name = part.name or self._name
            self._guard.take(part.arguments)
            return []
        return self._told(self._guard, self._guard.feed(part.text))

    def _end(self) -> list[Part]:
        guard, self._guard = self._guard, None
        if guard is None:
            return []
        kind, index = self._channel
        if kind != "call":
            return self._told(guard, guard.finish())
        arguments = guard.finish()
        self._note(guard)
        changed = next((each for each in guard.verdicts if each.action is Action.REDACT), None)
        if guard.refusal is None and changed is not None:  # programs read it: it is not rewritten
            guard.refusal = next(each for each in self._rules if each.id == changed.rule)
        if guard.refusal is not None:
            return self._refused(guard.refusal)
        name, self._name = self._name, ""
        return [CallPart(index, name), *([CallPart(index, "", arguments)] if arguments else [])]

    def _told(self, guard: Guard, text: str) -> list[Part]:
        kind = TextPart if self._channel[0] == "text" else ReasoningPart
        said: list[Part] = [kind(text)] if text else []
        self._has_spoken = self._has_spoken or (bool(text) and kind is TextPart)
        self._note(guard)
        return said + (self._refused(guard.refusal) if guard.refusal is not None else [])

    def _refused(self, rule: Rule) -> list[Part]:
        self.refusal, self._guard = rule, None
        if not rule.message:
            return []
        return [TextPart(f"\n\n{rule.message}" if self._has_spoken else rule.message)]

    def _note(self, guard: Guard) -> None:
        kind, index = self._channel
        run = self._num_runs[self._channel]
        at = f"calls[{index}].arguments" if kind == "call" else kind
        at += f"#{run + 1}" if run else ""  # it went on behind something else
        self.placed += [Placed(at, each) for each in guard.verdicts[self._num_noted :]]
        self._num_noted = len(guard.verdicts)


def _channel(part: Part) -> _Channel:
    match part:
        case CallPart():
            return "call", part.index
        case TextPart():
            return "text", 0
        case ReasoningPart():
            return "reasoning", 0
