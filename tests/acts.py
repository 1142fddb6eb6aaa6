"""Acts for tests: drafted, signed and carried out as auditors would, without the files in between."""

from __future__ import annotations

from appliance import keyring
from appliance.alone import Alone
from appliance.audit import acts, ceremonies
from appliance.audit.acts import Draft, SignedAct
from appliance.audit.policy import KeyPolicy, Member, MemberRole
from appliance.audit.recipients import Identity, parse_identity
from appliance.cli.init import DEV_IDENTITY
from appliance.config import Home


def dev_auditor(home: Home) -> Identity:
    """The auditor that profile `dev` keeps in its home."""
    return parse_identity(keyring.read(home, home.keys / DEV_IDENTITY).decode())


def signed(draft: Draft, *identities: Identity) -> str:
    """The note with these signatures."""
    act = SignedAct(draft)
    for each in identities:
        act = act.signed_by(each)
    return act.note()


def with_member(
    policy: KeyPolicy, origin: str, member: Identity, role: MemberRole = MemberRole.PRIVACY
) -> Draft:
    """A policy with one more member."""
    after = KeyPolicy.of([*policy.members, Member(role, member.recipient)], before=policy)
    return acts.policy_change(origin, policy, after)


async def erase(alone: Alone, first: Identity, second: Identity, *, key: str = "", user: str = "") -> int:
    """An erasure that two people signed; how many shares it destroyed."""
    draft = ceremonies.draft_erasure(
        alone.audit.policy,
        alone.audit.origin,
        key=key,
        user=user,
        since="",
        until="",
        reason="asked for",
        basis="GDPR Art. 17(1)(b)",
    )
    count, _ = await alone.custody.erase(signed(draft, first, second))
    return count
