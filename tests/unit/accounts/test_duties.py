"""Separation of duties: of run, audit and witness a name has at most one, however it is spelled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts import duties
from appliance.accounts.duties import DUTIES, Duties, Holder, plain, require_separate
from appliance.accounts.roles import Permission, allows
from appliance.core import Role
from appliance.errors import RequestError

APART = [(one, other) for one in DUTIES for other in DUTIES if DUTIES[one] is not DUTIES[other]]
TOGETHER = [(one, other) for one in Role for other in Role if (one, other) not in APART]
SAME = [
    ("Ada Kim", "ada kim"),
    ("Ada Kim", "ADA KIM"),
    ("Ada Kim", "  Ada   Kim "),
    ("Ada Kim", "Ada\u00a0Kim"),
    ("Ada Kim", "Ada\u3000Kim"),
    ("Ada Kim", "\uff21\uff44\uff41 \uff2b\uff49\uff4d"),  # full width
    ("Ada Kim", "\U0001d400da Kim"),  # a mathematical A
    ("Ada Kim", "A\u00adda Kim"),  # a soft hyphen
    ("Ada Kim", "Ada\u200b Kim"),  # a space of no width
    ("Ada Kim", "Ada\ufe0f Kim"),  # a variation selector
    ("Ada Kim", "Ada\u034f Kim"),  # a joiner of graphemes
    ("Ada Kim", "Ada Kim\u3164"),  # a filler
    ("Ren\u00e9", "RENE\u0301"),  # composed or not
    ("stra\u00dfe", "STRASSE"),
    ("\ufb01nn", "finn"),  # a ligature
    ("\u00c5sa", "\u212bsa"),  # the sign of the unit
]


@pytest.mark.parametrize(("had", "wanted"), APART)
def test_duties_do_not_cross(had: Role, wanted: Role) -> None:
    """Each of the six crossings, whichever came first, wherever it is written."""
    for where in (duties.ACCOUNT, duties.API_KEY, duties.KEY_POLICY, duties.PINNED_WITNESS):
        with pytest.raises(RequestError) as refused:
            require_separate("Ada", wanted, [Holder("Bo", wanted, where), Holder("Ada", had, where)])
        assert refused.value.code == "conflicting_duties"
        assert where in refused.value.message


@pytest.mark.parametrize(("had", "wanted"), TOGETHER)
def test_what_is_no_crossing_is_allowed(had: Role, wanted: Role) -> None:
    """The same duty twice, a kiosk's, a privacy officer's; and another person's is nobody's business."""
    require_separate("Ada", wanted, [Holder("Ada", had, duties.ACCOUNT)])
    for role in DUTIES:
        require_separate("Ada", wanted, [Holder("Bo", role, duties.ACCOUNT)])


@pytest.mark.parametrize(("one", "other"), SAME)
def test_names_that_read_the_same_are_one_person(one: str, other: str) -> None:
    """Case, width, composition, spaces, and what nobody sees do not make a second person."""
    assert plain(one) == plain(other)
    for first, second in ((one, other), (other, one)):
        with pytest.raises(RequestError):
            require_separate(first, Role.AUDITOR, [Holder(second, Role.OPERATOR, duties.ACCOUNT)])


@pytest.mark.parametrize("other", ["Ada Kimm", "AdaKim", "Ada-Kim", "Kim Ada", "Äda Kim", ""])
def test_names_that_read_differently_are_two(other: str) -> None:
    """The rule does not refuse by accident."""
    assert plain("Ada Kim") != plain(other)


@given(st.text(max_size=20))
def test_reading_a_name_twice_reads_the_same(name: str) -> None:
    """What a name is read as is read as itself."""
    assert plain(plain(name)) == plain(name)
    assert plain(name.upper().lower()) == plain(name.upper())


def test_only_the_account_that_is_asked_about_is_left_out() -> None:
    """A person's own account is no second one; a key or a policy under the same name is."""
    here = [Holder("Ada", Role.AUDITOR, duties.ACCOUNT)]
    asked = Duties(lambda: here)
    asked.require("Ada", Role.OPERATOR, but_account="Ada")
    with pytest.raises(RequestError):
        asked.require("Ada", Role.OPERATOR)
    here.append(Holder("Ada", Role.AUDITOR, duties.KEY_POLICY))
    with pytest.raises(RequestError, match="the key policy"):
        asked.require("Ada", Role.OPERATOR, but_account="Ada")


def test_refusal_names_no_other_name() -> None:
    """It tells which duty and where, not who else is there."""
    with pytest.raises(RequestError) as refused:
        require_separate("ada kim", Role.AUDITOR, [Holder("Ada KIM", Role.ADMIN, duties.API_KEY)])

    assert "KIM" not in refused.value.message
    assert "runs the appliance (an API key, role admin)" in refused.value.message


def test_permissions_keep_duties_apart() -> None:
    """Auditors ask nothing, who runs the box reads nothing and decides nothing, witnesses only witness."""
    runs = {Role.OPERATOR, Role.ADMIN}
    reading = {Permission.SIGN_ACTS, Permission.PLACE_HOLDS, *_named("READ")}
    running = {
        Permission.SEE_HEALTH, Permission.SEE_METRICS, Permission.MANAGE_KEYS, Permission.MANAGE_ACCOUNTS,
    }  # fmt: skip
    for role in Role:
        granted = {each for each in Permission if allows(role, each)}
        if Permission.INFER in granted:
            assert role in {Role.KIOSK, Role.DEVELOPER}
        if granted & reading:
            assert role in {Role.AUDITOR, Role.PRIVACY}
        if granted & running:
            assert role in runs
    assert {each for each in Permission if allows(Role.WITNESS, each)} == {
        Permission.SEE_READINESS,
        Permission.SEE_OWN_ACCOUNT,
        Permission.SEE_WITNESS,
    }
    assert not {each for each in _named("READ") if allows(Role.PRIVACY, each)}


def _named(prefix: str) -> set[Permission]:
    return {each for each in Permission if each.name.startswith(prefix)}
