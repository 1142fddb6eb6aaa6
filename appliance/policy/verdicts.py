"""What rules decide: actions, what a rule is, and what is said of one place in a text. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from appliance.policy.matching import Matcher


class Action(StrEnum):
    """What follows where a rule's words are found; the strictest of several holds."""

    ALLOW = "allow"  # this place is nobody's business: later rules do not see it
    FLAG = "flag"  # it passes, and the record says so
    REDACT = "redact"  # it is replaced
    REFUSE = "refuse"  # a question is not asked; an answer ends here


STRICTNESS = {each: number for number, each in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be used on one side. `matcher` is None where only the length counts."""

    id: str
    action: Action
    matcher: Matcher | None
    is_cased: bool = True  # False: its words are looked for in a text of one case
    max_characters: int | None = None
    replacement: str = ""
    message: str = ""  # what is told where it refuses


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule met its words: characters `begin` to `end` of a text, as it was written."""

    rule: str
    action: Action
    begin: int
    end: int


@dataclass(slots=True)
class Checked:
    """A whole text behind its rules."""

    text: str = field(repr=False)  # what passes
    verdicts: list[Verdict]
    refusal: Rule | None = None

    @property
    def action(self) -> Action:
        """The strictest of what was decided; `allow` where nothing was."""
        return max((each.action for each in self.verdicts), key=STRICTNESS.__getitem__, default=Action.ALLOW)
