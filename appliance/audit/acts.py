"""Acts that take more than one person: drafted on the box, signed elsewhere, carried out on the box. Pure.

An act is a note: five lines that say what is to be done, an empty line, and one signature line for
each who agrees. Whoever signs sees the whole text; a signature is good for one log, one policy and
these parameters only.

    appliance-act/v1
    <origin>
    <act>
    <SHA-256 of the key policy whose members sign>
    <parameters, canonical JSON>

    — <name> <base64 of the signature>
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import rfc8785

from appliance.audit.policy import KeyPolicy, MemberRole
from appliance.audit.recipients import Identity, Recipient, checked_name
from appliance.errors import RequestError, VerificationError

MAX_ACT_BYTES: Final = 1 << 18
MAX_SIGNATURES: Final = 32
_TAG: Final = "appliance-act/v1"


class Act(StrEnum):
    """What can only be done by several people."""

    POLICY_CHANGE = "policy:change"
    ERASE = "content:erase"
    HOLD_LIFT = "hold:lift"
    RESTORE = "log:restore"


_AUDITORS: Final = frozenset({MemberRole.AUDITOR})
# Whose signature counts, and how many it takes; None: the policy's own quorum.
_RULES: Final[Mapping[Act, tuple[frozenset[MemberRole], int | None]]] = {
    Act.POLICY_CHANGE: (_AUDITORS, None),
    Act.ERASE: (_AUDITORS | {MemberRole.PRIVACY}, 2),
    Act.HOLD_LIFT: (_AUDITORS | {MemberRole.PRIVACY}, 2),
    Act.RESTORE: (_AUDITORS, None),
}


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be done, before anybody agreed."""

    origin: str
    act: Act
    policy_sha256: str
    parameters: Mapping[str, Any]

    def text(self) -> str:
        """The five lines that are signed."""
        body = rfc8785.dumps(dict(self.parameters)).decode()
        return f"{_TAG}\n{self.origin}\n{self.act}\n{self.policy_sha256}\n{body}\n"


@dataclass(frozen=True, slots=True)
class SignedAct:
    """A draft and what stands below it. `signatures` are claims until `approvers` has checked them."""

    draft: Draft
    signatures: tuple[tuple[str, bytes], ...] = ()

    def note(self) -> str:
        """The file that goes from hand to hand."""
        lines = "".join(f"— {name} {base64.b64encode(data).decode()}\n" for name, data in self.signatures)
        return f"{self.draft.text()}\n{lines}"

    def signed_by(self, identity: Identity) -> SignedAct:
        """With one more signature. RequestError where this name stands there already."""
        if any(name == identity.name for name, _ in self.signatures):
            raise RequestError(
                "this act carries a signature of that name already",
                code="already_signed",
                hint="somebody else must sign",
            )
        signature = identity.sign(self.draft.text().encode())
        return SignedAct(self.draft, (*self.signatures, (identity.name, signature)))

    def agreeing(self, policy: KeyPolicy) -> list[Recipient]:
        """The members who may decide it and signed so far, each once."""
        members, _ = deciders(self.draft.act, policy)
        message = self.draft.text().encode()
        found = {
            member.fingerprint: member
            for name, signature in self.signatures
            for member in members
            if member.name == name and member.has_signed(message, signature)
        }
        return list(found.values())

    def approvers(self, policy: KeyPolicy) -> list[Recipient]:
        """The members who signed, each once. VerificationError unless enough of the right ones did."""
        if self.draft.policy_sha256 != policy.sha256:
            raise VerificationError("the act was drafted under another key policy: draft it anew")
        _, needed = deciders(self.draft.act, policy)
        found = self.agreeing(policy)
        if len(found) < needed:
            raise VerificationError(
                f"the act carries {len(found)} valid signatures of members who may decide it, "
                f"and needs {needed}"
            )
        return found


def deciders(act: Act, policy: KeyPolicy) -> tuple[list[Recipient], int]:
    """The members whose signature counts for an act, and how many of them it takes."""
    roles, needed = _RULES[act]
    return policy.signers(roles), policy.quorum if needed is None else needed


def policy_change(origin: str, before: KeyPolicy, after: KeyPolicy) -> Draft:
    """The draft of a change of the key policy: the new one, whole."""
    return Draft(origin, Act.POLICY_CHANGE, before.sha256, {"policy": json.loads(after.text())})


def policy_of(draft: Draft) -> KeyPolicy:
    """The policy that a draft would put in force. VerificationError where it holds none."""
    try:
        text = rfc8785.dumps(draft.parameters["policy"]).decode()
    except (KeyError, rfc8785.CanonicalizationError) as error:
        raise VerificationError("the act names no key policy") from error
    return KeyPolicy.parse(text)


def parse(note: str) -> SignedAct:
    """An act from its file. VerificationError where it is none, or not in its one form."""
    if len(note.encode()) > MAX_ACT_BYTES:
        raise VerificationError("this file is too large for an act")
    head, separator, tail = note.partition("\n\n")
    lines = head.split("\n")
    if not separator or len(lines) != 5 or lines[0] != _TAG:
        raise VerificationError("this is not an act")
    try:
        parameters = json.loads(lines[4])
        draft = Draft(lines[1], Act(lines[2]), lines[3], parameters)
        signatures = tuple(_signature(line) for line in tail.splitlines())
        found = SignedAct(draft, signatures)
        is_canonical = isinstance(parameters, dict) and found.note() == note
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise VerificationError("the act is malformed") from error
    if not is_canonical or len(signatures) > MAX_SIGNATURES:
        raise VerificationError("the act is malformed")
    return found


def _signature(line: str) -> tuple[str, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise VerificationError("a signature line is malformed")
    try:
        return checked_name(parts[1]), base64.b64decode(parts[2], validate=True)
    except binascii.Error as error:
        raise VerificationError("a signature line is malformed") from error
