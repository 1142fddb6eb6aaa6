"""Key policies and acts: who may decide, and that nobody else's word counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.audit import acts, ceremonies
from appliance.audit.acts import Act, Draft, SignedAct
from appliance.audit.kinds import Kind
from appliance.audit.policy import KeyPolicy, Member, MemberRole, Reading, first_policy
from appliance.audit.recipients import Algorithms, Identity, Recipient, recipient_of
from appliance.errors import ApplianceError, RequestError, VerificationError

ORIGIN = "test/audit/1"
ALICE, BOB, MALLORY = (Identity.generate(name) for name in ("alice", "bob", "mallory"))
CAROL = Identity.generate("carol", Algorithms.P256)
SAFE = Identity.generate("safe")
PAUL = Identity.generate("paul")
POLICY = first_policy([ALICE.recipient, BOB.recipient, CAROL.recipient], [SAFE.recipient], [PAUL.recipient])


def changed(policy: KeyPolicy = POLICY) -> KeyPolicy:
    newcomer = Member(MemberRole.AUDITOR, MALLORY.recipient)
    return KeyPolicy.of([*policy.members, newcomer], before=policy)


def signed(draft: Draft, *identities: Identity) -> str:
    act = SignedAct(draft)
    for each in identities:
        act = act.signed_by(each)
    return act.note()


def test_policy_has_one_form() -> None:
    """What is pinned is read back; any other spelling is refused."""
    assert KeyPolicy.parse(POLICY.text()) == POLICY
    assert KeyPolicy.parse(changed().text()).previous == POLICY.sha256
    for bad in (
        POLICY.text() + " ",
        "{}",
        POLICY.text().replace("any-of", "all-of"),
        POLICY.text().replace('"quorum":2', '"quorum":0'),
        POLICY.text().replace('"quorum":2', '"quorum":4'),
    ):
        with pytest.raises(VerificationError):
            KeyPolicy.parse(bad)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "at least one"),
        ([Member(MemberRole.PRIVACY, PAUL.recipient)], "at least one"),
        ([Member(MemberRole.AUDITOR, ALICE.recipient)] * 2, "twice"),
        (
            [
                Member(MemberRole.AUDITOR, ALICE.recipient),
                Member(MemberRole.AUDITOR, Identity.generate("alice").recipient),
            ],
            "one name",
        ),
    ],
)
def test_policies_that_nobody_could_use_are_refused(members: list[Member], words: str) -> None:
    """Without an auditor, with one key twice, with two people of one name."""
    with pytest.raises(VerificationError, match=words):
        KeyPolicy.of(members)
    with pytest.raises(VerificationError, match="two readers"):
        KeyPolicy.of([Member(MemberRole.AUDITOR, ALICE.recipient)], reading=Reading.TWO)


def test_privacy_reads_nothing_and_recovery_signs_nothing() -> None:
    """Epochs are wrapped to auditors and the safe; the safe's signature counts for no act."""
    readers = {each.name for each in POLICY.readers}
    assert readers == {"alice", "bob", "carol", "safe"}
    act = acts.parse(signed(acts.policy_change(ORIGIN, POLICY, changed()), SAFE, ALICE))
    with pytest.raises(VerificationError, match="1 valid"):
        act.approvers(POLICY)


@pytest.mark.parametrize("pair", [(ALICE, BOB), (BOB, CAROL), (CAROL, ALICE)])
def test_quorum_changes_the_policy(pair: tuple[Identity, Identity]) -> None:
    """Any majority of the auditors, whatever their algorithms, puts a new policy in force."""
    note = signed(acts.policy_change(ORIGIN, POLICY, changed()), *pair)
    entry = ceremonies.policy_changed(note, POLICY, ORIGIN)

    assert entry.kind is Kind.POLICY_CHANGED
    assert entry.policy == changed()
    assert entry.public["num_approvers"] == 2


def test_an_operator_can_not_add_a_reader() -> None:
    """Signatures of strangers, of one auditor twice, of the privacy officer: none makes a quorum."""
    draft = acts.policy_change(ORIGIN, POLICY, changed())
    imposter = Identity("alice", MALLORY.seed)
    by_alice = ALICE.sign(draft.text().encode())
    forgeries = [
        signed(draft),
        signed(draft, MALLORY, ALICE),
        signed(draft, imposter, BOB),
        signed(draft, PAUL, BOB),
        SignedAct(draft, (("alice", by_alice), ("alice", by_alice))).note(),
        SignedAct(draft, (("alice", by_alice), ("bob", by_alice))).note(),
    ]
    for note in forgeries:
        with pytest.raises(VerificationError, match="valid signatures"):
            ceremonies.policy_changed(note, POLICY, ORIGIN)


def test_signature_is_good_for_one_text_only() -> None:
    """Another log, another policy in force, another text below the signatures: refused."""
    note = signed(acts.policy_change(ORIGIN, POLICY, changed()), ALICE, BOB)
    for twisted, origin, policy in [
        (note, "other/audit/1", POLICY),
        (note, ORIGIN, changed()),
        (note.replace('"quorum":3', '"quorum":1'), ORIGIN, POLICY),
        (note.replace("policy:change", "content:erase"), ORIGIN, POLICY),
    ]:
        with pytest.raises(VerificationError):
            ceremonies.policy_changed(twisted, policy, origin)
    skipped = KeyPolicy.of(POLICY.members, before=changed())
    far = signed(acts.policy_change(ORIGIN, POLICY, skipped), ALICE, BOB)
    with pytest.raises(VerificationError, match="follow"):
        ceremonies.policy_changed(far, POLICY, ORIGIN)


def erasure(**changes: str) -> Draft:
    said = {"key": "", "user": "u", "since": "", "until": "", "reason": "asked", "basis": "GDPR Art. 17"}
    return ceremonies.draft_erasure(POLICY, ORIGIN, **(said | changes))


@pytest.mark.parametrize("pair", [(ALICE, PAUL), (ALICE, BOB)])
def test_erasure_takes_two(pair: tuple[Identity, Identity]) -> None:
    """Two different members agree; what is told in plaintext names nobody."""
    agreed = ceremonies.erasure_of(signed(erasure(since="2026-02"), *pair), POLICY, ORIGIN)
    entry = ceremonies.erased(agreed, [bytes(16)])

    assert agreed.covers("2026-02")
    assert not agreed.covers("2026-01")
    assert entry.erases == (bytes(16),)
    assert "u" not in entry.public.values()


def test_erasure_by_one_or_by_strangers_is_refused() -> None:
    """One signature, a stranger's, or the recovery key's is not enough."""
    for signers in ((), (PAUL,), (ALICE, MALLORY), (PAUL, SAFE)):
        with pytest.raises(VerificationError, match="valid signatures"):
            ceremonies.erasure_of(signed(erasure(), *signers), POLICY, ORIGIN)
    with pytest.raises(RequestError, match="already"):
        signed(erasure(), ALICE, ALICE)
    for lacking in ({"user": ""}, {"reason": " "}, {"basis": ""}):
        with pytest.raises(RequestError):
            erasure(**lacking)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_foreign_bytes_are_refused_and_nothing_else(text: str) -> None:
    """A file that is no act ends in an error of ours."""
    start = signed(erasure())
    for note in (text, start + text, start[: len(text)] + text):
        if note != start:
            with pytest.raises(ApplianceError):
                acts.parse(note).approvers(POLICY)


def test_act_is_what_it_says_it_is() -> None:
    """The note's text is the five lines that people read before they sign."""
    lines = signed(erasure(), ALICE).split("\n")

    assert lines[:3] == ["appliance-act/v1", ORIGIN, str(Act.ERASE)]
    assert lines[3] == POLICY.sha256
    assert lines[5] == ""
    assert lines[6].startswith("— alice ")


def test_keys_that_are_no_keys_are_refused() -> None:
    """A public key that nothing can be wrapped to is found before it is in a policy."""
    good = CAROL.recipient
    for public in (b"", bytes(130), good.opening + bytes(65)):
        with pytest.raises(VerificationError):
            recipient_of("carol", public, Algorithms.P256)
    assert isinstance(recipient_of("carol", good.opening + good.signing, Algorithms.P256), Recipient)
