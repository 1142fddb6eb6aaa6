"""Rules: what is written, what is found, what is said of a mistake; and the rule sets of a release."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from appliance.errors import RequestError
from appliance.policy import cases, rules
from appliance.policy.identifiers import SHAPES
from appliance.policy.rules import RuleSet
from appliance.policy.streaming import MAX_MATCHES, Guard, check
from appliance.policy.verdicts import Action

EXAMPLES = Path(__file__).resolve().parents[3] / "deploy" / "guardrails"


def made(*bodies: str, head: str = "") -> RuleSet:
    """Rules with these bodies; they are called a, b, … and hold for both sides."""
    return rules.parse(
        head
        + "".join(
            f'[[rules]]\nid = "{letter}"\non = "both"\n{body}\n'
            for letter, body in zip("abcdefgh", bodies, strict=False)
        )
    )


def said(text: str, *bodies: str) -> str:
    return check(text, made(*bodies).input).text


REDACT = 'action = "redact"\nreplacement = "#"\n'


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.cases.toml")), ids=lambda path: path.name)
def test_rule_sets_of_a_release_do_what_their_cases_say(path: Path) -> None:
    """Each example has a table of cases, and each case ends as it says, whole and as a stream."""
    table = cases.parse(path.read_text(encoding="utf-8"))
    found = rules.parse((EXAMPLES / table.guardrails).read_text(encoding="utf-8"))
    done = cases.run(table, found)

    assert {each.number: each.differences for each in done if each.differences} == {}
    assert {rule for each in done for rule in each.rules} == found.ids - {"us-itin", "length"}
    assert found.notes == ()


def test_every_rule_set_of_a_release_has_cases() -> None:
    """No example goes without a table."""
    names = {each.name.removesuffix(".toml") for each in EXAMPLES.glob("*.toml") if ".cases" not in each.name}

    assert names == {each.name.removesuffix(".cases.toml") for each in EXAMPLES.glob("*.cases.toml")}


ELSEWHERE = {"00743110157"}  # an Italian company's, not a person's


def genuine(name: str) -> list[str]:
    """Numbers that python-stdnum's own documentation calls genuine."""
    module = importlib.import_module(f"stdnum.{name}")
    lines = (module.__doc__ or "").splitlines()
    found = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = re.match(r">>> (?:validate|is_valid)\('([^']+)'\)", line)
        if match and "Traceback" not in following and "False" not in following:
            found.append(match[1])
    return [each for each in found if module.is_valid(each) and each not in ELSEWHERE]


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"luhn"}))
def test_shapes_hold_genuine_numbers(name: str) -> None:
    """Every identifier finds the numbers that its check calls genuine, in the middle of a sentence."""
    numbers = genuine(name)
    missed = [
        each
        for each in numbers
        if said(f"it is {each}, they say", f'{REDACT}identifier = "{name}"') != "it is #, they say"
    ]

    assert numbers
    assert missed == []


@pytest.mark.parametrize(
    "text",
    [
        "536-90-4399",
        "536 90 4399",
        "536-90-4399.",
        "(536-90-4399)",
        "５３６-９０-４３９９",  # full width
        "٥٣٦-٩٠-٤٣٩٩",  # Arabic-Indic digits
        "𝟓𝟑𝟔-𝟗𝟎-𝟒𝟑𝟗𝟗",  # mathematical bold
        "536\u201090\u20104399",  # hyphens
        "536\u221290\u20144399",  # a minus sign and a long dash
        "536\u00a090\u20094399",  # spaces that do not break, and thin ones
        "53\u200b6-90-43\u200d99",  # zero width
        "\u202e536-90-4399\u202c",  # turned around by a bidirectional mark: the characters are the same
        "536-90-4\u00ad399",  # a soft hyphen
        "536-90-43\ufe0f99",  # a variation selector
        "536-90-4\U000e0031399",  # a tag
        "536-90-4\x00399",
        "5\u03016\u0301".replace("5\u0301", "5").replace("6\u0301", "36") + "-90-4399",
    ],
)
def test_disguises_of_digits_are_seen_through(text: str) -> None:
    """What looks like a number to a reader is one to a rule."""
    found = check(f"x {text} y", made(f'{REDACT}identifier = "us.ssn"').input)

    assert [each.rule for each in found.verdicts] == ["a"]
    assert not re.search(r"\d", found.text)


@pytest.mark.parametrize(
    ("term", "text", "is_found"),
    [
        ("straße", "Die STRASSE hier", True),
        ("strasse", "Die Straße hier", True),
        ("café", "the cafe\u0301 there", True),
        ("cafe", "the café there", False),
        ("bad", "BAD!", True),
        ("bad", "ｂａｄ", True),
        ("bad", "b\u200ba\u2060d", True),
        ("bad", "badly", False),
        ("bad", "not_bad", False),
        ("bad", "bad bad", True),
        ("bad", "b a d", False),  # not covered, and said so
        ("bad", "bаd", False),  # a Cyrillic a: not covered, and said so
        ("new york", "new\n york", False),  # one space or break, not two
        ("new york", "New\u00a0York", True),
        ("한글", "이 한글 은", True),
        ("한글", "이 \u1112\u1161\u11ab\u1100\u1173\u11af 은", True),  # in single letters
        ("c++", "in c++ now", True),
        ("ﬁne", "a FINE one", True),  # a ligature
    ],
)
def test_words_of_a_list(term: str, text: str, *, is_found: bool) -> None:
    """Case, width and invisible marks do not hide a word; another word that holds it is another word."""
    found = check(text, made(f'action = "flag"\nterms = ["{term}"]').input)

    assert bool(found.verdicts) is is_found


def test_words_inside_of_others_where_asked_for() -> None:
    """Scripts without spaces between words have their lists without borders."""
    assert said("これは秘密です", f'{REDACT}terms = ["秘密"]') == "これは秘密です"
    assert said("これは秘密です", f'{REDACT}terms = ["秘密"]\nwhole_words = false') == "これは#です"


def test_an_allowed_place_is_hidden_from_later_rules_only() -> None:
    """What lies within it passes; what reaches beyond, or stands in an earlier rule, does not."""
    allow = "action = \"allow\"\npattern = '555-0100'"
    digits = f"{REDACT}pattern = '[0-9]{{3}}-[0-9]{{4}}'"
    longer = f"{REDACT}pattern = '[0-9]{{3}}-[0-9]{{4}}-[0-9]'"

    assert said("555-0100 555-0199", allow, digits) == "555-0100 #"
    assert said("555-0100 555-0199", digits, allow) == "# #"
    assert said("555-0100-7", allow, longer) == "#"


def test_the_strictest_action_wins() -> None:
    """Every verdict is collected, and the strictest one is the text's."""
    found = check(
        "a secret thing",
        made("action = \"flag\"\npattern = 'secret'", "action = \"refuse\"\npattern = 'secret thing'").input,
    )

    assert [(each.rule, each.action) for each in found.verdicts] == [("b", Action.REFUSE)]
    assert (found.text, found.action) == ("a ", Action.REFUSE)


def test_overlapping_places_leave_nothing_between_them() -> None:
    """Where two rules overlap, each part is replaced once."""
    one, two = f"{REDACT}pattern = 'ab{{1,9}}c'", 'action = "redact"\nreplacement = "*"\npattern = \'cd\''

    assert said("x abbcd y", one, two) == "x #* y"


def test_a_text_that_is_too_long() -> None:
    """Characters are counted as they were written; an answer ends at the last one allowed."""
    too_long = made('action = "refuse"\nmax_characters = 3')

    assert check("abc", too_long.input).verdicts == []
    assert check("abcd", too_long.input).text == "abc"


def test_a_flood_of_matches_is_refused_whole() -> None:
    """A text of nothing but matches is bounded: what can not all be replaced does not pass."""
    found = check("1 " * (MAX_MATCHES + 5), made(f"{REDACT}pattern = '1'").input)
    told = check("1 " * (MAX_MATCHES + 5), made("action = \"flag\"\npattern = '1'").input)

    assert found.refusal is not None
    assert len(found.verdicts) == MAX_MATCHES + 1
    assert (told.refusal, len(told.verdicts)) == (None, MAX_MATCHES)


def test_hostile_texts_cost_one_search_each() -> None:
    """A megabyte before a hundred rules, of what backtracking fears: each rule searches it a few times."""
    given = made(*[f"{REDACT}pattern = '(?:a{{1,9}}){{1,9}}{n}'" for n in range(8)]).input
    searches = 0

    class Counting:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def search(self, data: bytes, at: int = 0) -> object:
            nonlocal searches
            searches += 1
            return self.inner.search(data, at)  # type: ignore[attr-defined]

    for each in given:
        each.matcher._whole = Counting(each.matcher._whole)  # type: ignore[union-attr]
    assert check("a" * 1_000_000, given).verdicts == []
    assert searches == len(given)


def test_a_stream_holds_no_more_than_its_window() -> None:
    """Text that nearly matches for ever leaves all the same: no further back than a match is long."""
    guard = Guard(made(f"{REDACT}pattern = '[0-9]{{5,20}}x'").output)
    said_so_far = "".join(guard.feed(each) for each in "1" * 500)

    assert len(said_so_far) >= 500 - 21


MISTAKES = [
    ("pattern = '[0-9]+'", "line 5, column 1: a repetition without an end"),
    ("pattern = '[0-9]{2,}'", "a repetition without an end"),
    ("pattern = '.*'", "a repetition without an end"),
    ("pattern = '^a'", "is not taken: a rule looks everywhere"),
    (r"pattern = 'a\z'", "this escape is not taken here"),
    (r"pattern = '(a)\1'", "this escape is not taken here"),
    ("pattern = '(?=a)b'", "a group is"),
    ("pattern = '(?<=a)b'", "a group is"),
    ("pattern = 'a(?i)b'", "a group is"),
    ("pattern = '(a'", "a bracket is not closed"),
    ("pattern = 'a)'", "a bracket is closed that was not opened"),
    ("pattern = '[a'", "a class of characters is not closed"),
    ("pattern = 'a{3,1}'", "a count whose end lies before its beginning"),
    ("pattern = 'a{2}{3}'", "a repetition of a repetition"),
    ("pattern = '?a'", "a repetition of nothing"),
    ("pattern = '[b-a]'", "the pattern is not understood: invalid character class range"),
    ("pattern = 'a?'", "matches where nothing stands"),
    (r"pattern = '\b'", "matches where nothing stands"),
    ("pattern = 'a{1,300}'", "matches up to 300 characters, more than window_characters = 256"),
    ("pattern = ''", "a pattern has 1 to"),
    ('identifier = "us.sn"', "python-stdnum has no check of this name"),
    ('identifier = "os.path"', "python-stdnum has no check of this name"),
    ('identifier = "mac"', "no shape of such a number is known"),
    ('terms = ["\\u200b"]', "a term has nothing in it that can be seen"),
    ("terms = []", "line 5, column 1"),
    ("max_characters = 0", "line 5, column 1"),
    ('pattern = "a"\nidentifier = "iban"', "a rule has exactly one of"),
    ("", "a rule has exactly one of"),
    ('pattern = "a"\nshape = "b"', "line 6, column 1: a shape belongs to an identifier"),
    ('pattern = "a"\nreplacement = "b"', "a replacement belongs to the action redact"),
    ('pattern = "a"\nmessage = "b"', "a message belongs to the action refuse"),
    ('pattern = "a"\ncolour = "b"', "unknown field `colour`"),
    ('pattern = "a" "b"', "this is no TOML"),
]


@pytest.mark.parametrize(("body", "problem"), MISTAKES)
def test_a_mistake_is_told_with_its_line(body: str, problem: str) -> None:
    """Whatever is wrong with a rule is said before it is in force, where it can be, with its place."""
    with pytest.raises(RequestError) as refused:
        made(f'action = "flag"\n{body}')

    assert problem in refused.value.message
    assert refused.value.code == "invalid_guardrails"


def test_two_rules_have_two_ids() -> None:
    """A verdict names one rule."""
    with pytest.raises(RequestError, match=r"line 7, column 1: two rules have this id"):
        rules.parse(
            '[[rules]]\nid="a"\non="both"\naction="flag"\npattern="x"\n[[rules]]\nid="a"\non="both"\naction="flag"\n'
        )


def test_what_may_not_be_meant_is_noted() -> None:
    """A replacement that its own rule finds, and a refusal without a word."""
    found = made(
        'action = "redact"\nreplacement = "[x]"\npattern = \'x\'', "action = \"refuse\"\npattern = 'y'"
    )

    assert [each.partition(": ")[2] for each in found.notes] == [
        "its replacement is found by the rule itself",
        "it refuses without a message: callers are told only the rule's id",
    ]


def test_a_table_says_what_differs() -> None:
    """Action, rules and result are each held against what the table says."""
    table = cases.parse(
        'guardrails = "x.toml"\n'
        '[[cases]]\ntext = "ab"\non = "input"\naction = "allow"\nrules = ["b"]\nresult = "c"\n'
    )
    (done,) = cases.run(table, made(f"{REDACT}pattern = 'a'"))

    assert done.differences == (
        "action is redact, not allow",
        "rules are a, not b",
        "result is '#b', not 'c'",
    )


def test_no_table_is_told() -> None:
    """A file that is none says so."""
    with pytest.raises(RequestError, match="no table of cases"):
        cases.parse("guardrails = 1")
