"""The key policy: who reads what is sealed, who signs acts, and how many of them it takes. Pure.

Recipients are no administrator's setting. The first policy is pinned by leaf 0 when the log begins;
every later one is an act that a quorum of the auditors in the policy before it has signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import rfc8785

from appliance.audit.recipients import Algorithms, Recipient, grouped, recipient_of
from appliance.errors import VerificationError

FORMAT_VERSION = 1
MAX_MEMBERS = 16


class MemberRole(StrEnum):
    """What a member is in the policy for."""

    AUDITOR = "auditor"  # reads, and signs every act
    RECOVERY = "recovery"  # reads, lies in a safe, signs nothing
    PRIVACY = "privacy"  # reads nothing, signs erasures


class Reading(StrEnum):
    """How many readers it takes to open an epoch."""

    ANY = "any-of"
    TWO = "2-of-n"


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in the policy."""

    role: MemberRole
    recipient: Recipient

    @property
    def reads(self) -> bool:
        return self.role is not MemberRole.PRIVACY


class _Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    role: MemberRole
    algorithms: Algorithms
    public: str


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    number: int
    previous: str
    reading: Reading
    quorum: int
    members: list[_Member]


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Who can read from now on, and who decides about it."""

    members: tuple[Member, ...]
    quorum: int  # auditors who must sign a change of this policy
    reading: Reading = Reading.ANY
    number: int = 1
    previous: str = ""  # SHA-256 of the policy before, empty for the first

    @classmethod
    def of(
        cls,
        members: Iterable[Member],
        *,
        quorum: int | None = None,
        reading: Reading = Reading.ANY,
        before: KeyPolicy | None = None,
    ) -> KeyPolicy:
        """A policy over these members. VerificationError where nobody could read or change it."""
        found = tuple(sorted(members, key=lambda each: (str(each.role), each.recipient.name)))
        auditors = sum(each.role is MemberRole.AUDITOR for each in found)
        readers = sum(each.reads for each in found)
        if not auditors:
            raise VerificationError("a key policy needs at least one auditor")
        if len(found) > MAX_MEMBERS:
            raise VerificationError(f"a key policy has at most {MAX_MEMBERS} members")
        if len({each.recipient.fingerprint for each in found}) != len(found):
            raise VerificationError("one auditor's key was given twice")
        if len({each.recipient.name for each in found}) != len(found):
            raise VerificationError("two members of a key policy have one name")
        if reading is Reading.TWO and readers < 2:
            raise VerificationError("reading by two needs two readers")
        chosen = auditors // 2 + 1 if quorum is None else quorum
        if not 1 <= chosen <= auditors:
            raise VerificationError("the quorum lies between one and all auditors")
        return cls(
            members=found,
            quorum=chosen,
            reading=reading,
            number=before.number + 1 if before else 1,
            previous=before.sha256 if before else "",
        )

    @property
    def readers(self) -> list[Recipient]:
        """Everybody that epochs are wrapped to, in the policy's order."""
        return [each.recipient for each in self.members if each.reads]

    def pairs(self) -> list[tuple[Recipient, Recipient]]:
        """Every two readers, in the policy's order: the k-th pair's wraps are numbered k."""
        return list(itertools.combinations(self.readers, 2))

    def signers(self, roles: Iterable[MemberRole]) -> list[Recipient]:
        """Members whose signature counts for an act of these roles."""
        wanted = set(roles)
        return [each.recipient for each in self.members if each.role in wanted]

    def text(self) -> str:
        """Canonical JSON: the log's entries commit to the hash of these bytes."""
        policy: dict[str, Any] = {
            "v": FORMAT_VERSION,
            "number": self.number,
            "previous": self.previous,
            "reading": str(self.reading),
            "quorum": self.quorum,
            "members": [
                {
                    "name": each.recipient.name,
                    "role": str(each.role),
                    "algorithms": str(each.recipient.algorithms),
                    "public": base64.b64encode(each.recipient.opening + each.recipient.signing).decode(),
                }
                for each in self.members
            ],
        }
        return rfc8785.dumps(policy).decode()

    @property
    def sha256(self) -> str:
        """The policy's name in headers."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """For paper, as a recipient's."""
        return grouped(self.sha256)

    @classmethod
    def parse(cls, text: str) -> KeyPolicy:
        """From stored text. VerificationError unless it is in its one form."""
        try:
            raw = msgspec.json.decode(text, type=_Policy)
            members = [
                Member(
                    each.role,
                    recipient_of(each.name, base64.b64decode(each.public, validate=True), each.algorithms),
                )
                for each in raw.members
            ]
        except (msgspec.MsgspecError, binascii.Error) as error:
            raise VerificationError("the key policy is malformed") from error
        found = cls(
            members=cls.of(members, quorum=raw.quorum, reading=raw.reading).members,
            quorum=raw.quorum,
            reading=raw.reading,
            number=raw.number,
            previous=raw.previous,
        )
        if found.text() != text:
            raise VerificationError("the key policy is not in its canonical form")
        return found


def first_policy(
    auditors: Sequence[Recipient],
    recovery: Sequence[Recipient] = (),
    privacy: Sequence[Recipient] = (),
    reading: Reading = Reading.ANY,
) -> KeyPolicy:
    """What `init` pins, from the public files that it was given."""
    return KeyPolicy.of(
        [
            *(Member(MemberRole.AUDITOR, each) for each in auditors),
            *(Member(MemberRole.RECOVERY, each) for each in recovery),
            *(Member(MemberRole.PRIVACY, each) for each in privacy),
        ],
        reading=reading,
    )
