"""A text on its way through rules: what may leave, and what waits for its border. Pure.

A piece leaves only when no rule can still match across its end. What a rule decides hangs on the text alone,
so the same text says the same wherever its pieces end (`tests/property/test_guarded.py`).

Decisions, from left to right, each final before it is acted on:
1. a match that lies within one of an earlier `allow` is none
2. of matches with one beginning the strictest comes first, then the first rule
3. a redacted place is replaced once, and what overlaps it from the right is replaced from there on
4. behind a refusal nothing leaves, and nothing is decided
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.policy.folding import Folded
from appliance.policy.matching import Matcher
from appliance.policy.verdicts import STRICTNESS, Action, Checked, Rule, Verdict

# More places of one rule in one text are no accident: what is to be kept from leaving is refused whole.
MAX_MATCHES: Final = 10_000

_ORDER: Final = {action: -1000 if action is Action.ALLOW else -STRICTNESS[action] for action in Action}


@dataclass(frozen=True, slots=True, order=True)
class _Hit:
    """A match, in characters of the original. Its order is that of the decisions."""

    begin: int
    order: int
    rule: int  # its number
    end: int
    action: Action


class Guard:
    """One text. It holds at most what rules may still match, and what was not folded yet."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.verdicts: list[Verdict] = []
        self.refusal: Rule | None = None
        self._rules = rules
        self._views = {is_cased: Folded(is_cased=is_cased) for is_cased in {each.is_cased for each in rules}}
        self._at = [0] * len(rules)  # up to where each rule has looked, in its view's bytes
        self._num_found = [0] * len(rules)
        self._found: list[_Hit] = []  # not decided yet
        self._allowed: list[_Hit] = []  # that what is decided next may lie in
        self._shields: set[tuple[int, int]] = set()  # of those, number and beginning: they were of use
        self._text = ""  # from `_base` on
        self._base = 0
        self._done = 0  # up to where it has left, or was replaced
        self._size = 0  # characters so far

    def feed(self, text: str) -> str:
        """More of the text; what may leave now."""
        self.take(text)
        return self._decide(self._look(is_all=False)) if self.refusal is None else ""

    def take(self, text: str) -> None:
        """More of the text, to be decided on later."""
        if self.refusal is None:
            self._text += text
            self._size += len(text)
            for view in self._views.values():
                view.feed(text)

    def finish(self) -> str:
        """There is no more; the rest that may leave."""
        if self.refusal is not None:
            return ""
        for view in self._views.values():
            view.finish()
        return self._decide(self._look(is_all=True))

    def _look(self, *, is_all: bool) -> int:
        """Take in what each rule finds; up to which character everything is found."""
        sure = self._size
        for number, rule in enumerate(self._rules):
            most = rule.max_characters
            if most is not None and self._size > most and not self._num_found[number]:
                self._add(number, most, most + 1)
            if rule.matcher is None:
                continue
            view = self._views[rule.is_cased]
            data = view.data
            end = len(data) if is_all else rule.matcher.unfinished(data, self._at[number])
            self._find(number, rule.matcher, view, end)
            if not is_all:
                sure = min(sure, view.start_of(end))
        return sure

    def _find(self, number: int, matcher: Matcher, view: Folded, end: int) -> None:
        """The rule's matches that begin before the byte `end`."""
        at = self._at[number]
        for begin, stop in matcher.find(view.data, at):
            if begin >= end or self._num_found[number] > MAX_MATCHES:
                break
            self._add(number, view.start_of(begin), view.end_of(stop))
            at = stop
        self._at[number] = max(at, end)

    def _add(self, number: int, begin: int, end: int) -> None:
        action = self._rules[number].action
        self._num_found[number] += 1
        if self._num_found[number] > MAX_MATCHES:
            if action in {Action.ALLOW, Action.FLAG}:
                return
            action = Action.REFUSE
        self._found.append(_Hit(begin, _ORDER[action], number, end, action))

    def _decide(self, sure: int) -> str:
        """Act on what begins before the character `sure`; what may leave."""
        ripe = sorted(each for each in self._found if each.begin < sure)
        self._found = [each for each in self._found if each.begin >= sure]
        said: list[str] = []
        for hit in ripe:
            self._allowed = [each for each in self._allowed if each.end > hit.begin]
            if hit.action is Action.ALLOW:
                self._allowed.append(hit)
            elif not self._is_allowed(hit):
                self._act(hit, said)
            if self.refusal is not None:
                return "".join(said)
        said.append(self._pass(sure))
        self._text, self._base = self._text[sure - self._base :], sure
        return "".join(said)

    def _act(self, hit: _Hit, said: list[str]) -> None:
        rule = self._rules[hit.rule]
        self.verdicts.append(Verdict(rule.id, hit.action, hit.begin, hit.end))
        if hit.action is Action.FLAG:
            return
        said.append(self._pass(hit.begin))
        if hit.action is Action.REFUSE:
            self.refusal = rule
            self._text, self._found = "", []
        elif hit.end > self._done:
            said.append(rule.replacement)
            self._done = hit.end

    def _is_allowed(self, hit: _Hit) -> bool:
        for each in self._allowed:
            if each.rule < hit.rule and hit.end <= each.end:
                if (each.rule, each.begin) not in self._shields:
                    self._shields.add((each.rule, each.begin))
                    rule = self._rules[each.rule]
                    self.verdicts.append(Verdict(rule.id, Action.ALLOW, each.begin, each.end))
                return True
        return False

    def _pass(self, until: int) -> str:
        """What lies before this character, and has not left."""
        if until <= self._done:
            return ""
        said = self._text[self._done - self._base : until - self._base]
        self._done = until
        return said


def check(text: str, rules: Sequence[Rule]) -> Checked:
    """A whole text: what passes of it, and what was decided."""
    if not rules:
        return Checked(text, [])
    guard = Guard(rules)
    guard.take(text)
    return Checked(guard.finish(), guard.verdicts, guard.refusal)
