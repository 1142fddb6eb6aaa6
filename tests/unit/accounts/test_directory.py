"""The directory: who is behind a token."""

from __future__ import annotations

import dataclasses

import pytest

from appliance.accounts import keys
from appliance.accounts.directory import Directory, check_name
from appliance.accounts.roles import Permission, allows
from appliance.core import Principal, Role
from appliance.errors import ApplianceError, Refused, RequestError

NOW_US = 1_790_000_000_000_000


def test_authenticate_gives_the_principal() -> None:
    """A key in force names its principal."""
    made = keys.generate("lobby", Role.KIOSK, now_us=NOW_US)

    principal = Directory([made.key]).authenticate(made.token, now_us=NOW_US)

    assert principal == Principal(key_id=made.key.id, name="lobby", role=Role.KIOSK)


def test_every_flaw_of_a_key_gets_the_same_answer() -> None:
    """Unknown, wrong, expired and revoked keys can not be told apart from outside."""
    good = keys.generate("good", Role.KIOSK, now_us=NOW_US)
    expired = keys.generate("old", Role.KIOSK, now_us=NOW_US, expires_us=NOW_US)
    revoked = keys.generate("gone", Role.KIOSK, now_us=NOW_US)
    directory = Directory([good.key, expired.key, dataclasses.replace(revoked.key, revoked_us=NOW_US)])
    wrong_secret = good.token[:-1] + ("a" if good.token[-1] != "a" else "b")
    stranger = keys.generate("stranger", Role.KIOSK, now_us=NOW_US).token

    answers = set()
    for token in (expired.token, revoked.token, wrong_secret, stranger, "nonsense"):
        with pytest.raises(Refused) as refusal:
            directory.authenticate(token, now_us=NOW_US)
        answers.add((refusal.value.code, refusal.value.message, refusal.value.hint))

    assert len(answers) == 1
    assert answers.pop()[0] == "invalid_api_key"


def test_find_wants_an_unambiguous_name() -> None:
    """A name that two active keys share is refused; their ids work."""
    one = keys.generate("lobby", Role.KIOSK, now_us=NOW_US).key
    two = keys.generate("lobby", Role.KIOSK, now_us=NOW_US).key
    directory = Directory([one, two])

    assert directory.find(one.id, now_us=NOW_US) == one
    with pytest.raises(RequestError) as problem:
        directory.find("lobby", now_us=NOW_US)
    assert problem.value.code == "key_not_found"


@pytest.mark.parametrize("name", ["", " lobby", "a" * 65, "two\nlines", "bell\x07"])
def test_names_that_could_forge_a_line_are_refused(name: str) -> None:
    """A key's name is printable and short."""
    with pytest.raises(ApplianceError):
        check_name(name)


def test_auditors_can_not_ask_and_kiosks_can_not_see_metrics() -> None:
    """Separation of duties holds in the table of grants."""
    may_infer = {role for role in Role if allows(role, Permission.INFER)}
    may_see_metrics = {role for role in Role if allows(role, Permission.SEE_METRICS)}

    assert may_infer == {Role.KIOSK, Role.DEVELOPER}
    assert may_see_metrics == {Role.OPERATOR, Role.ADMIN}
