"""Rules over arbitrary texts in any pieces: a stream says what the whole says, and nothing too early."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from appliance.core import CallPart, Part, ReasoningPart, TextPart
from appliance.errors import RequestError
from appliance.policy import regexes
from appliance.policy.folding import Folded, fold
from appliance.policy.matching import Anywhere, Matcher, Words
from appliance.policy.parts import GuardedParts
from appliance.policy.streaming import Guard, check
from appliance.policy.verdicts import Action, Rule

# Few letters, so that rules meet, overlap and nearly match all the time; and what folding changes.
LETTERS = "ab12- .\u200b\u0301\uff11\u00e9\u00df\n"
TEXTS = st.text(alphabet=LETTERS, max_size=60)
SHORT = st.text(alphabet="ab12- .\u00e9", max_size=12)
LEAVES = st.sampled_from(["a", "b", "1", "2", "-", " ", ".", "[ab]", r"\d", "[^a]", r"\b", r"\w", "é"])
PATTERNS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda each: f"(?:{'|'.join(each)})"),
        st.tuples(inner, st.sampled_from(["?", "{2}", "{0,3}", "{1,2}?"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
    ),
    max_leaves=8,
)


@st.composite
def matchers(draw: st.DrawFn) -> tuple[Matcher, bool]:
    """A pattern anywhere, or one between the borders of words; and whether case counts."""
    try:
        pattern = regexes.parse(draw(st.sampled_from(["", "(?i)"])) + draw(PATTERNS))
    except RequestError:
        reject()
    assume(pattern.widths[0] > 0)
    if draw(st.booleans()):
        return Anywhere(pattern), draw(st.booleans())
    genuine = draw(st.sampled_from([None, lambda said: len(said) % 2 == 0]))
    return Words(pattern, genuine), draw(st.booleans())


@st.composite
def rule_lists(draw: st.DrawFn) -> list[Rule]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        matcher, is_cased = draw(matchers())
        action = draw(st.sampled_from(list(Action)))
        found.append(Rule(f"r{number}", action, matcher, is_cased=is_cased, replacement=f"<{number}>"))
    if draw(st.booleans()):
        found.append(Rule("long", Action.REFUSE, None, max_characters=draw(st.integers(1, 50))))
    return found


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(min(each, len(text)) for each in places)})
    return [text[begin:end] for begin, end in pairwise(ends)]


@settings(deadline=None, max_examples=400)
@given(rule_lists(), TEXTS, st.lists(st.integers(0, 60), max_size=20))
def test_a_stream_says_what_the_whole_says(rules: list[Rule], text: str, places: list[int]) -> None:
    """Any split of any text: the same words leave, and the same is decided."""
    whole = check(text, rules)
    guard = Guard(rules)
    said = "".join(guard.feed(each) for each in cut(text, places)) + guard.finish()

    assert (said, guard.verdicts, guard.refusal) == (whole.text, whole.verdicts, whole.refusal)


@settings(deadline=None, max_examples=300)
@given(rule_lists(), TEXTS, TEXTS)
def test_what_left_is_never_regretted(rules: list[Rule], text: str, more: str) -> None:
    """Whatever comes next, what has left already is how the whole begins."""
    guard = Guard(rules)
    left = guard.feed(text)

    assert check(text + more, rules).text.startswith(left)


@settings(deadline=None)
@given(matchers(), TEXTS)
def test_nothing_of_a_match_leaves(matcher: tuple[Matcher, bool], text: str) -> None:
    """What passes a redacting rule with an empty replacement holds no match that stood in the text."""
    rule = Rule("r", Action.REDACT, *matcher, replacement="\x1e")
    guard = Guard([rule])
    said = "".join(map(guard.feed, text)) + guard.finish()
    kept = said.split("\x1e")

    rest = text
    for each in kept:
        assert each in rest
        rest = rest[rest.index(each) + len(each) :]
    # One character may hold two matches: a sharp s is two letters where case does not count.
    gone = {
        at for each in guard.verdicts if each.action is Action.REDACT for at in range(each.begin, each.end)
    }
    assert len(said) - said.count("\x1e") == len(text) - len(gone)


@settings(deadline=None)
@given(st.text(max_size=40), st.lists(st.integers(0, 40), max_size=8), st.booleans())
def test_folding_does_not_see_pieces(text: str, places: list[int], is_cased: bool) -> None:  # noqa: FBT001
    """Any text folds the same in any pieces, and every byte comes from a place inside of it."""
    folded = Folded(is_cased=is_cased)
    for each in cut(text, places):
        folded.feed(each)
    folded.finish()

    assert folded.data.decode("utf-8") == fold(text, is_cased=is_cased)
    assert folded.num_sure == len(text)
    starts = [folded.start_of(at) for at in range(len(folded.data))]
    ends = [folded.end_of(at + 1) for at in range(len(folded.data))]
    assert starts == sorted(starts)
    assert all(0 <= begin < end <= len(text) for begin, end in zip(starts, ends, strict=True))


@settings(deadline=None)
@given(
    PATTERNS, st.text(alphabet="ab12- .\u00e9", max_size=12), st.text(alphabet="ab12- .\u00e9", max_size=12)
)
def test_a_match_on_its_way_is_seen(source: str, text: str, more: str) -> None:
    """A match that reaches over the end of a text begins where something is on its way, or behind it."""
    try:
        pattern = regexes.parse(source)
    except RequestError:
        reject()
    assume(pattern.widths[0] > 0)
    matcher = Anywhere(pattern)
    data, whole = text.encode(), (text + more).encode()
    begun = matcher.unfinished(data, 0)

    for begin in range(len(data)):
        found = next(matcher.find(whole, begin), None)
        if found is not None and found[0] == begin and found[1] > len(data):
            assert begun <= begin


@settings(deadline=None)
@given(PATTERNS, SHORT)
def test_no_match_is_wider_than_its_pattern_says(source: str, text: str) -> None:
    """Every match has as many characters as the pattern's widths allow."""
    try:
        pattern = regexes.parse(source)
    except RequestError:
        reject()
    assume(pattern.widths[0] > 0)
    data = text.encode()
    for begin, end in Anywhere(pattern).find(data, 0):
        assert pattern.widths[0] <= len(data[begin:end].decode()) <= pattern.widths[1]


PARTS = st.lists(
    st.one_of(
        st.text(alphabet="ab12-", min_size=1, max_size=6).map(TextPart),
        st.text(alphabet="ab12-", min_size=1, max_size=6).map(ReasoningPart),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(rule_lists(), PARTS, st.data())
def test_parts_do_not_see_pieces(rules: list[Rule], parts: list[Part], data: st.DataObject) -> None:
    """An answer's parts, cut into smaller ones: the same leaves in each channel, and the same is decided."""
    call = [CallPart(0, "f"), CallPart(0, "", '{"a": "12'), CallPart(0, "", '1"}')]
    parts = [*parts, *call] if data.draw(st.booleans()) else parts
    smaller: list[Part] = []
    for part in parts:
        if isinstance(part, CallPart):
            smaller.append(part)
        else:
            places = data.draw(st.lists(st.integers(0, 6), max_size=3))
            smaller += [type(part)(each) for each in cut(part.text, places)]

    assert _said(rules, smaller) == _said(rules, parts)


def _said(rules: list[Rule], parts: list[Part]) -> tuple[list[tuple[str, str]], object, object]:
    guard = GuardedParts(rules)
    told: list[tuple[str, str]] = []
    for each in [*(one for part in parts for one in guard.feed([part])), *guard.finish()]:
        kind = f"call {each.index} {each.name}" if isinstance(each, CallPart) else type(each).__name__
        text = each.arguments if isinstance(each, CallPart) else each.text
        if told and told[-1][0] == kind:
            told[-1] = (kind, told[-1][1] + text)
        else:
            told.append((kind, text))
    return told, guard.placed, guard.refusal
