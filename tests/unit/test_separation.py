"""Separation of duties where roles are given: accounts, API keys, the key policy, witnesses, in any order."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import config
from appliance.accounts import passphrases
from appliance.accounts.duties import DUTIES, plain
from appliance.alone import Alone, open_log_alone
from appliance.audit.acts import policy_change
from appliance.audit.policy import KeyPolicy, Member, MemberRole
from appliance.audit.recipients import Identity
from appliance.audit.witness_keys import WitnessKeys, parse_public
from appliance.config import Home
from appliance.core import Caller, Role
from appliance.errors import ApplianceError, RequestError
from tests.acts import dev_auditor, signed
from tests.harness import appliance as program
from tests.homes import make_home
from tests.records import findings

Give = Callable[[Alone, Home, str], Awaitable[object]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow function with a small parameter: accounts are made by the dozen here."""
    monkeypatch.setattr(passphrases, "_SCRYPT", (4, 8, 1))
    nobody = [base64.b64encode(bytes(size)).decode() for size in (16, 32)]
    monkeypatch.setattr(passphrases, "_NOBODY", {False: "$".join(["scrypt$4,8,1", *nobody])})


@pytest.fixture
def alone(home: Home) -> Iterator[Alone]:
    with open_log_alone(home, config.load(home)) as opened:
        yield opened


def account(role: Role) -> Give:
    return lambda alone, _home, name: alone.people.create(name, role)


def key(role: Role) -> Give:
    return lambda alone, _home, name: alone.administration.create_key(name, role)


def member(role: MemberRole) -> Give:
    async def give(alone: Alone, home: Home, name: str) -> object:
        before = alone.audit.policy
        after = KeyPolicy.of(
            [*before.members, Member(role, Identity.generate(name).recipient)], before=before, quorum=1
        )
        draft = policy_change(alone.audit.origin, before, after)
        return await alone.custody.change_policy(signed(draft, dev_auditor(home)))

    return give


async def witness(alone: Alone, _home: Home, name: str) -> object:
    return await alone.witnessing.add(parse_public(WitnessKeys.generate(name).public()))


GIVINGS: dict[str, tuple[Give, Role]] = {
    **{f"an account, {role}": (account(role), role) for role in DUTIES},
    **{f"a key, {role}": (key(role), role) for role in DUTIES},
    "the policy, auditor": (member(MemberRole.AUDITOR), Role.AUDITOR),
    "the policy, recovery": (member(MemberRole.RECOVERY), Role.AUDITOR),  # it reads, as an auditor does
    "a witness": (witness, Role.WITNESS),
}
_TAKEN = ("account_exists", "key_exists")


@pytest.mark.parametrize("first", GIVINGS)
async def test_every_crossing_is_refused(alone: Alone, home: Home, first: str) -> None:
    """Whatever a name was given first, each other duty is refused, in another spelling as well."""
    give, had = GIVINGS[first]
    crossings = [each for each, (_, role) in GIVINGS.items() if DUTIES[role] is not DUTIES[had]]
    assert len(crossings) >= 6
    for number, second in enumerate(crossings):
        await give(alone, home, f"ada{number}")
        before = alone.audit.tree_size
        for name in (f"ada{number}", f"ADA{number}"):
            with pytest.raises(RequestError) as refused:
                await GIVINGS[second][0](alone, home, name)
            # Of one exact name there is one account and one key anyway.
            assert refused.value.code in {"conflicting_duties", *_TAKEN[: name.islower() * 2]}, second
        assert alone.audit.tree_size == before


@pytest.mark.parametrize(("first", "second"), [("an account, auditor", "a key, operator"),
                                              ("a key, admin", "an account, witness"),
                                              ("the policy, auditor", "an account, operator")])  # fmt: skip
async def test_two_givings_at_once_are_one_after_the_other(
    alone: Alone, home: Home, first: str, second: str
) -> None:
    """Different stewards that ask in the same moment do not both find the name free."""
    for one, other in ((first, second), (second, first)):
        name = f"ada{one == first}"
        results = await asyncio.gather(
            GIVINGS[one][0](alone, home, name), GIVINGS[other][0](alone, home, name), return_exceptions=True
        )
        assert sum(isinstance(each, RequestError) for each in results) == 1
        assert [each.code for each in results if isinstance(each, RequestError)] == ["conflicting_duties"]


async def test_duty_that_ended_is_free(alone: Alone, home: Home) -> None:
    """Who was an operator, and is none any more, can become an auditor: the record tells both."""
    made = await alone.people.create("ada", Role.OPERATOR)
    issued = await alone.administration.create_key("ada", Role.ADMIN)
    await alone.people.disable(made.account.id)
    with pytest.raises(RequestError):
        await alone.people.create("ada", Role.AUDITOR)
    await alone.administration.revoke_key(issued.new.key.id)
    await alone.people.create("ada", Role.AUDITOR)
    replaced = await alone.people.create("ada", Role.OPERATOR, replace=True)

    assert replaced.account.role is Role.OPERATOR
    assert findings(home) == []


async def test_log_in_asks_again(alone: Alone, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crossing that an older release let through is one that nobody logs in with."""
    made = await alone.people.create("ada", Role.OPERATOR)
    with monkeypatch.context() as blind:
        blind.setattr("appliance.accounts.duties.require_separate", lambda *_: None)
        await GIVINGS["the policy, auditor"][0](alone, home, "ada")
    with pytest.raises(RequestError) as refused:
        await alone.people.log_in("ada", made.passphrase, Caller(""))

    assert refused.value.code == "conflicting_duties"


@pytest.mark.parametrize("role", ["operator", "admin", "witness"])
def test_who_init_lets_read_gets_no_other_duty(tmp_path: Path, role: str) -> None:
    """`init --auditor` first, accounts, keys and witnesses later: the program says why not."""
    program("auditor", "keygen", "alice", "--out", str(tmp_path))
    home = Home(root=tmp_path / "home")
    program("init", "--auditor", str(tmp_path / "alice.recipient"), home=home)
    asked = [["account", "create", "Alice", "--role", role]]
    if role == "witness":
        program("audit", "witness", "keygen", "alice", "--out", str(tmp_path))
        asked.append(["audit", "witness", "add", str(tmp_path / "alice.vkey")])
    else:
        asked.append(["key", "create", "ALICE", "--role", role])
    for words in asked:
        done = program(*words, home=home, check=False)
        assert (done.returncode, "already audits it (the key policy" in done.stderr) == (2, True), words
    program("account", "create", "Alice", "--role", "auditor", home=home)


def test_apply_refuses_a_reader_who_runs_the_box(home: Home, tmp_path: Path) -> None:
    """`auditor apply` of a policy that is signed well, and gives an operator the record to read."""
    program("account", "create", "Bob", "--role", "operator", home=home)
    program("auditor", "keygen", "bob", "--out", str(tmp_path))
    act = str(tmp_path / "bob.act")
    program("auditor", "add", str(tmp_path / "bob.recipient"), "--out", act, home=home)
    program("auditor", "sign", act, "--identity", str(home.keys / "dev-auditor.identity"))
    done = program("auditor", "apply", act, home=home, check=False)

    assert (done.returncode, "already runs the appliance" in done.stderr) == (2, True)


def held(alone: Alone) -> dict[str, set[object]]:
    """Which duties each name has, as it is read, from everywhere that roles are written."""
    now = 1 << 60
    found: dict[str, set[object]] = {}
    known = [
        *((each.name, each.role) for each in alone.people.list() if each.is_active(now)),
        *((each.name, each.role) for each in alone.directory.all() if each.is_active(now)),
        *((each.name, Role.AUDITOR) for each in alone.audit.policy.readers),
        *((each, Role.WITNESS) for each in alone.witnessing.names()),
    ]
    for name, role in known:
        if role in DUTIES:
            found.setdefault(plain(name), set()).add(DUTIES[role])
    return found


_NAMES = st.sampled_from(["ada", "ADA", "Ada", "bo", "BO"])
_STEPS = st.lists(
    st.tuples(st.sampled_from([*GIVINGS, "disable", "revoke", "replace"]), _NAMES), min_size=2, max_size=14
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_no_sequence_of_givings_leaves_a_name_with_two_duties(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """Given, taken and given again in any order, by anybody: at every moment each name has one duty."""
    home = make_home(tmp_path_factory.mktemp("givings") / "home")

    async def walk(alone: Alone) -> None:
        for what, name in steps:
            try:
                match what:
                    case "disable":
                        await alone.people.disable(name)
                    case "revoke":
                        await alone.administration.revoke_key(name)
                    case "replace":
                        await alone.people.create(name, Role.AUDITOR, replace=True)
                    case _:
                        await GIVINGS[what][0](alone, home, name)
            except ApplianceError:
                pass  # refused: the rule below is what counts
            assert all(len(each) == 1 for each in held(alone).values())

    with open_log_alone(home, config.load(home)) as alone:
        asyncio.run(walk(alone))
