"""What is asked in the bench: rooms, long letters, stories. Many wordings, the same for each seed.

A room is a desk with a system prompt of its own (about 650 tokens of the starter model) and people who
ask short questions. Rooms differ in their trade, in how their rules are put and in what is asked, so
that nothing can be tuned to one prompt.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

Messages = list[dict[str, str]]

SYSTEM_CHARACTERS = 2050  # about 650 tokens of the starter model, its template included
LETTER_WORDS = 630  # about 700 tokens

_TRADES = {
    "a tax office": ("tax return", "refund claim", "payment plan", "objection", "business registration"),
    "a city library": ("library card", "book loan", "reading room", "fine", "newspaper archive"),
    "a hospital": ("admission", "visiting hour", "blood test", "discharge letter", "insurance form"),
    "a museum": ("guided tour", "school visit", "season ticket", "cloakroom", "photo permit"),
    "a job centre": ("job offer", "training course", "travel allowance", "interview", "benefit claim"),
    "a court registry": ("land record", "witness fee", "court date", "certified copy", "appeal"),
    "a railway station": ("lost suitcase", "group ticket", "wheelchair ramp", "bicycle space", "delay"),
    "a town hall": ("passport", "parking permit", "birth certificate", "change of address", "wedding room"),
}
_RULES = (
    "For each {thing} go to floor {a}, room {b}, before {c} o'clock.",
    "A {thing} takes {a} working days and costs {b} euros.",
    "Whoever comes about a {thing} shows a photo identity card and form {b}.",
    "Counter {a} deals with every {thing} on {day} between {c} and {d} o'clock.",
    "If a {thing} is late by more than {a} days, send people to desk {b}.",
    "Never promise a date for a {thing}; say that a letter comes within {a} weeks.",
    "Children under {c} need an adult with them for a {thing}.",
    "The telephone number for a {thing} ends in {b}{c}, on {day} only.",
    "On {day} nobody is there for a {thing}; point to the web page {b} on the screen instead.",
    "Copies of a {thing} are made at machine {a} for {c} cents a page.",
)
_ASKS = (
    "How do I get a {thing}? Please explain it step by step.",
    "I need help with my {thing}. What should I do first, and what comes after that?",
    "My mother has a question about a {thing}. Can you tell her everything she needs to know?",
    "Explain in a few sentences what happens with a {thing} on {day}.",
    "What does a {thing} cost, how long does it take, and where do I go?",
    "Somebody told me that a {thing} takes {a} days. Is that right, and why?",
    "Write a short note for my neighbour, number {b}, about the {thing}.",
    "Which papers must I bring for a {thing} at {c} o'clock? List all of them.",
    "I was sent away on {day} because of my {thing}. Describe what I can do now.",
    "Please tell me the rules about a {thing} for a family of {c}.",
)
_MANNERS = (
    "You are the information screen of {trade}. Answer in plain words.",
    "You stand at the entrance of {trade} and help visitors. Be kind and brief.",
    "You answer for {trade}. Use only the rules below, and say so where they are silent.",
    "Visitors of {trade} talk to you. Give full sentences, no jargon.",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_VOCABULARY = (
    "river stone window letter market garden winter bridge doctor ticket orange silver paper music engine "
    "village morning candle teacher harbour carpet station mountain pencil summer kitchen number street "
    "answer button forest island journey ladder meadow needle office planet quarter rabbit shadow tunnel "
    "umbrella valley weather yellow account balance capital deposit evening factory gallery holiday item "
    "jacket kettle lawyer machine neighbour opinion printer question receipt signature traffic uniform "
    "visitor witness archive bicycle contract driver entrance furniture grocery hospital invoice judge"
)
_WORDS = tuple(_VOCABULARY.split())
_SUBJECTS = (
    "a lighthouse keeper",
    "a clockmaker",
    "a night train",
    "a mountain village",
    "two sisters",
    "a lost map",
    "an old ferry",
    "a glass bridge",
    "the last baker in town",
    "a garden in winter",
    "a postman's dog",
    "a broken piano",
)


@dataclass(frozen=True)
class Room:
    """A desk: what it was told, and what people ask there."""

    seed: int
    system: str
    things: tuple[str, ...]

    def messages(self, number: int) -> Messages:
        """The question with this number; no two numbers ask the same."""
        chance = random.Random(f"{self.seed} question {number}")
        ask = chance.choice(_ASKS).format(thing=chance.choice(self.things), **_numbers(chance))
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": f"{ask} My number is {number + 100 * self.seed}."},
        ]


def room(seed: int) -> Room:
    """The room of this seed."""
    chance = random.Random(f"room {seed}")
    trade = sorted(_TRADES)[seed % len(_TRADES)]
    things = _TRADES[trade]
    lines = [chance.choice(_MANNERS).format(trade=trade)]
    while sum(map(len, lines)) < SYSTEM_CHARACTERS:
        rule = chance.choice(_RULES).format(thing=chance.choice(things), **_numbers(chance))
        lines.append(f"{len(lines)}. {rule}")
    return Room(seed, "\n".join(lines), things)


def letter(seed: int) -> Messages:
    """A long text that shares no beginning with any other, and a question about it."""
    chance = random.Random(f"letter {seed}")
    words = [chance.choice(_WORDS) for _ in range(LETTER_WORDS)]
    for at in range(11, len(words), 12):
        words[at] += "."
    return [{"role": "user", "content": f"{' '.join(words)} What is this text about?"}]


def story(seed: int) -> Messages:
    """A short request that is answered at length."""
    chance = random.Random(f"story {seed}")
    first, second = chance.sample(_SUBJECTS, 2)
    return [
        {
            "role": "user",
            "content": f"{first.capitalize()} and {second}: write a very long story, part {seed}.",
        }
    ]


def _numbers(chance: random.Random) -> dict[str, object]:
    return {
        "a": chance.randint(2, 19),
        "b": chance.randint(20, 990),
        "c": chance.randint(8, 12),
        "d": chance.randint(13, 19),
        "day": chance.choice(_DAYS),
    }
