"""Acts in plain words: what one does, whom it concerns, and what it can not undo. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.audit import acts, ceremonies
from appliance.audit.acts import Act, Draft
from appliance.audit.holds import Hold
from appliance.audit.policy import KeyPolicy, Member, Reading
from appliance.console.render import moment

LABELS = {
    Act.ERASE: "Erasure",
    Act.HOLD_LIFT: "End of a legal hold",
    Act.POLICY_CHANGE: "Change of the key policy",
    Act.RESTORE: "A log that begins anew",
}
_DESTROYS = (
    "Destroys this appliance’s half of the keys that open what was recorded for them. From then on nobody "
    "reads it: no auditor, no court, no copy of the database, once the shares’ own backups have had their "
    "days."
)
_STAYS = (
    "Entries, times, counts and proofs stay. That something was asked remains provable; what was asked and "
    "answered does not."
)
_LIFTING = (
    "Ends this legal hold. From then on what it covered can be erased, and goes by itself when its time is "
    "over. Another hold on the same content stays in force."
)
_READING = {Reading.ANY: "each reader alone", Reading.TWO: "two readers together"}


@dataclass(frozen=True, slots=True)
class Told:
    """An act as people read it before they sign. Values are shown as text, whatever they hold."""

    label: str
    about: str  # on one line
    facts: tuple[tuple[str, str], ...]
    effects: tuple[str, ...]
    is_final: bool = False  # it can not be undone by another act


def label_of(kind: str) -> str:
    """What a kind of act is called."""
    return LABELS.get(Act(kind), kind) if kind in set(Act) else kind


def told_of(
    draft: Draft, *, before: KeyPolicy, holds: Iterable[Hold], key_name: Callable[[str], str]
) -> Told:
    """An act that `Approvals` took. `before` is the policy in force; `key_name` names an API key by id."""
    match draft.act:
        case Act.ERASE:
            return _erasure(ceremonies.erasure_in(draft), draft, key_name)
        case Act.HOLD_LIFT:
            return _lifting(draft, {each.id: each for each in holds})
        case Act.POLICY_CHANGE:
            return _policy(before, acts.policy_of(draft))
        case Act.RESTORE:
            return Told(LABELS[draft.act], "", (), ())


def span_of(since: str, until: str) -> str:
    """Months of an erasure."""
    if not since and not until:
        return "all that is recorded until the act is carried out"
    return f"{since or 'the log’s first month'} to {until or 'the month in which it is carried out'}"


def covers(hold: Hold) -> str:
    """Whose content a hold keeps; whom it names stands sealed on the record."""
    if hold.user_bi is not None:
        return "one person’s content" + (" under one API key" if hold.key_bi is not None else "")
    return "one API key’s content" if hold.key_bi is not None else "everybody’s content"


def _erasure(meant: ceremonies.Erasure, draft: Draft, key_name: Callable[[str], str]) -> Told:
    whose = f"the person “{meant.user}”" if meant.user else "nobody in particular"
    key = key_name(meant.key) if meant.key else "every API key"
    facts = [("Whose content", f"{whose}, under {key}"), ("Months", span_of(meant.since, meant.until))]
    facts += [("Reason", str(draft.parameters["reason"])), ("Legal basis", str(draft.parameters["basis"]))]
    return Told(
        LABELS[Act.ERASE],
        f"what {meant.user} said" if meant.user else f"what {key} recorded for nobody in particular",
        tuple(facts),
        (_DESTROYS, _STAYS),
        is_final=True,
    )


def _lifting(draft: Draft, holds: dict[str, Hold]) -> Told:
    wanted = str(draft.parameters.get("hold", ""))
    hold = holds.get(wanted)
    facts = [("Legal hold", wanted)]
    if hold is not None:
        until = moment(hold.until_us).striptags() if hold.until_us is not None else "no end"
        facts += [
            ("Covers", covers(hold)),
            ("From", moment(hold.since_us).striptags()),
            ("Until", until),
            ("Placed", moment(hold.placed_us).striptags()),
        ]
    return Told(
        LABELS[Act.HOLD_LIFT],
        wanted,
        (*facts, ("Reason", str(draft.parameters.get("reason", "")))),
        (_LIFTING,),
    )


def _policy(before: KeyPolicy, after: KeyPolicy) -> Told:
    old, new = _members(before), _members(after)
    facts = [("Joins", _named(each)) for name, each in new.items() if name not in old]
    facts += [("Leaves", _named(each)) for name, each in old.items() if name not in new]
    if before.reading is not after.reading:
        facts.append(("Reading", f"{_READING[before.reading]} → {_READING[after.reading]}"))
    if before.quorum != after.quorum:
        facts.append(("Auditors for a later change", f"{before.quorum} → {after.quorum}"))
    facts.append(("Policy, for paper", after.fingerprint))
    return Told(
        LABELS[Act.POLICY_CHANGE],
        f"policy {after.number}",
        tuple(facts),
        (
            f"From then on {', '.join(each.name for each in after.readers)} read what is recorded.",
            "What was recorded before stays closed to a reader who joins, and open to one who leaves.",
        ),
    )


def _members(policy: KeyPolicy) -> dict[str, Member]:
    return {f"{each.role} {each.recipient.fingerprint}": each for each in policy.members}


def _named(each: Member) -> str:
    return f"{each.recipient.name}, {each.role}, fingerprint {each.recipient.fingerprint}"
