"""Backups of the shares: files that open for the recovery key only, and live for days.

The envelope's line (`envelope.py`) names format, origin, tree size and moment.

Who holds such a file and a copy of the database holds nothing without the recovery identity, which lies
in a safe. It is not sealed to the auditors where the key policy has a recovery member: an auditor who
took both files home would read without a record. A policy without one leaves only its readers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.audit import envelope
from appliance.audit.policy import KeyPolicy, MemberRole
from appliance.audit.recipients import Identity, Recipient
from appliance.audit.shares import SHARE_BYTES, Share, share_id
from appliance.config import Home
from appliance.errors import VerificationError

FORMAT: Final = 1
_NAME: Final = "backup of shares"
_DAY_US: Final = 86_400_000_000


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    origin: str
    tree_size: int
    made_us: int
    wraps: dict[str, str]


class _Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    secret: str
    subject: str
    month: str


@dataclass(frozen=True, slots=True)
class Made:
    """One backup, as its first line tells."""

    path: Path
    origin: str
    tree_size: int  # of the log when it was made
    made_us: int


def recipients_of(policy: KeyPolicy) -> list[Recipient]:
    """Who opens a backup that is made under this policy."""
    kept = [each.recipient for each in policy.members if each.role is MemberRole.RECOVERY]
    return kept or policy.readers


def seal(
    found: Iterable[Share], recipients: Sequence[Recipient], *, origin: str, tree_size: int, made_us: int
) -> bytes:
    """The file."""
    made = (origin, tree_size, made_us)
    plain = msgspec.json.encode([_Share(each.secret.hex(), each.subject, each.month) for each in found])
    return envelope.seal(plain, recipients, _info(*made), lambda wraps: _Header(FORMAT, *made, wraps))


def open_backup(data: bytes, identity: Identity) -> list[Share]:
    """The shares in a file. VerificationError where it is damaged, or not sealed to this identity."""
    header = _parse(data)
    info = _info(header.origin, header.tree_size, header.made_us)
    plain = envelope.unseal(data, header.wraps, identity, info, _NAME)
    try:
        return [_share(each) for each in msgspec.json.decode(plain, type=list[_Share])]
    except (msgspec.MsgspecError, ValueError) as error:
        raise VerificationError("the backup of shares is damaged") from error


def digest_of(data: bytes) -> str:
    """The file's name on the record."""
    return hashlib.sha256(data).hexdigest()


def path_of(home: Home, made_us: int) -> Path:
    """Where a backup of this moment lies."""
    return envelope.path_of(home, "shares", made_us)


def every(home: Home) -> list[Made]:
    """The backups in this home, oldest first. VerificationError where a file of their name is none."""
    return [read(path) for path in sorted(home.backups.glob("shares-*.backup"))]


def read(path: Path) -> Made:
    """What a file says of itself, unverified."""
    with path.open("rb") as file:
        header = _parse(file.read(envelope.MAX_HEADER_BYTES))
    return Made(path, header.origin, header.tree_size, header.made_us)


def too_old(found: Iterable[Made], *, now_us: int, days: int) -> list[Made]:
    """Backups whose days are over."""
    return [each for each in found if each.made_us < now_us - days * _DAY_US]


def before_erasure(found: Iterable[Made], *, origin: str, last_erasure: int) -> list[Made]:
    """Backups from before the newest erasure (its seq; -1: none): they would bring erased shares back."""
    return [
        each
        for each in found
        if last_erasure >= 0 and (each.origin != origin or each.tree_size <= last_erasure)
    ]


def _share(found: _Share) -> Share:
    secret = bytes.fromhex(found.secret)
    if len(secret) != SHARE_BYTES:
        raise VerificationError("the backup of shares holds something else")
    return Share(share_id(secret), secret, found.subject, found.month)


def _parse(data: bytes) -> _Header:
    header = envelope.head(data, _Header, _NAME)
    if header.format != FORMAT:
        raise VerificationError("this is no backup of shares that this release reads")
    return header


def _info(origin: str, tree_size: int, made_us: int) -> bytes:
    """HPKE's info: the key is good for this very file."""
    return f"audit/share-backup/v1\n{origin}\n{tree_size}\n{made_us}".encode()
