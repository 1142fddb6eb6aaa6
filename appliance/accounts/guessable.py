"""Passphrases that everybody tries first: refused where a person chooses one (SP 800-63B-4 §3.1.1.2). Pure.

No rule of composition, no score. Refused is what is nothing but words that head every list of leaked
passwords, the person's or the appliance's own name, neighbours on a keyboard or in the alphabet, one piece
again and again, or digits alone; whatever digits and signs stand around or between them, and with a sign in
a letter's place (p4$$w0rd). Two words that nobody puts together are not on this list, and nor is a sentence.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from appliance.errors import RequestError

_WORDS: Final = frozenset(
    re.findall(
        "[a-z]+",
        """
    access account admin administrator agency air andrew angel apple appliance asdf ashley august auditor
    autumn babygirl bailey banana baseball basketball batman blessed brother buster butterfly changeme
    charlie cheese chelsea chocolate computer console cookie correct corp daniel december default demo
    diamond donald dragon england enter facebook family february flower football forever freedom friend
    friends ginger god google guest hannah harley heaven hello hockey home horse battery staple
    hunter iloveyou inference internet is january jennifer jessica jesus jordan joshua july june justin
    killer king kiosk lakers letmein liverpool log login love lovely loveme lover maggie march master
    matrix matthew merlin michael michelle mickey monday monkey mother mustang my nicole ninja november
    october office operator pass passcode passphrase passwd password pepper phoenix please pokemon
    princess privacy purple qwerty rainbow root samsung secret security server september shadow silver
    soccer spring starwars summer sunday sunshine super superman sweet sysadmin system taylor temp
    temporary test tester testing the this thomas thunder tigger trustme trustno tuesday user wednesday
    welcome whatever winter witness word yankees yellow
        """,
    )
)
_LONGEST: Final = max(map(len, _WORDS))
_ROWS: Final = (
    "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "qsdfghjklm",
    "zxcvbnm", "yxcvbnm", "wxcvbn", "qazwsxedcrfvtgbyhnujmikolp", "qayxswedc",
)  # fmt: skip
_NEIGHBOURS: Final = frozenset(
    row[at : at + 2] for each in _ROWS for row in (each, each[::-1]) for at in range(len(row) - 1)
)
_MIN_ROW: Final = 4  # letters that follow each other on a row before they count as one piece
_SIGNS: Final = str.maketrans(
    {"@": "a", "4": "a", "0": "o", "3": "e", "1": "i", "!": "i", "5": "s", "$": "s", "7": "t"}
)
_ENDS: Final = "0123456789!?.,;:-_+*#$@ "
_OWN: Final = 3  # characters: a shorter part of a name is in too many words


def require_unlikely(passphrase: str, *, name: str) -> str:
    """RequestError where this is one of the first guesses for a person of this name."""
    folded = unicodedata.normalize("NFKC", passphrase).casefold()
    own = {each for each in re.split(r"[\W\d_]+", name.casefold()) if len(each) >= _OWN}
    # A digit at either end is a year more often than a letter in disguise.
    inner = (folded, folded.rstrip(_ENDS), folded.lstrip(_ENDS), folded.strip(_ENDS))
    forms = {folded, *(each.translate(_SIGNS) for each in inner)}
    if _is_one_piece(folded) or any(_is_common(each, own) for each in forms):
        raise RequestError(
            "this passphrase is among the first that somebody would try",
            code="invalid_passphrase",
            param="passphrase",
            hint="take several words that nobody would put together, not your name or one word with digits",
        )
    return passphrase


def _is_one_piece(folded: str) -> bool:
    """One character or one short piece again and again."""
    return any(
        len(folded) > size and folded == (folded[:size] * len(folded))[: len(folded)]
        for size in range(1, max(2, len(folded) // 3 + 1))
    )


def _is_common(folded: str, own: set[str]) -> bool:
    """Nothing but common pieces once digits and signs are out."""
    letters = "".join(each for each in folded if each.isalpha())
    reached = {0}
    longest = max([_LONGEST, *map(len, own)])
    for begin in range(len(letters)):
        if begin not in reached:
            continue
        for end in range(begin + 1, min(len(letters), begin + longest) + 1):
            if letters[begin:end] in _WORDS or letters[begin:end] in own:
                reached.add(end)
        end = begin + 1
        while end < len(letters) and _follows(letters[end - 1], letters[end]):
            end += 1
            if end - begin >= _MIN_ROW:
                reached.add(end)
    return len(letters) in reached


def _follows(first: str, second: str) -> bool:
    return first == second or first + second in _NEIGHBOURS
