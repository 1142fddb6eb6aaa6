"""The record of what opens a home's secrets: how many ways, and of which kind; never what they are."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.audit.entry import Entry
from appliance.audit.kinds import Kind
from appliance.keyslots import Action

ACTOR = "program"  # of this host


def changed(action: Action, passphrases: Sequence[str], credentials: Sequence[str]) -> Entry:
    """The entry; written before it is done. Names of slots are for auditors: a person's may be among them."""
    return Entry(
        kind=Kind.SECRETS_CHANGED,
        public={
            "action": action,
            "num_passphrases": len(passphrases),
            "num_credentials": len(credentials),
        },
        content={"passphrases": list(passphrases), "credentials": list(credentials)},
        actor=ACTOR,
    )
