"""Sealed cases: chosen records with what an auditor needs to open them on a machine of their own. Pure.

A case is evidence whose contents are still sealed, and three things more, in `case.json`: the shares that
the appliance released, the epochs' secrets as they are wrapped to the key policy's readers, and those key
policies. It opens for nobody without the identities that the policies name. That the epochs are the log's
own is proved: each one's `epoch:opened` entry, which commits to policy, secret and wraps, is beside it.

A share covers its subject's month and not the records alone. It must travel: PRK = HMAC(share, seed_n),
and seed_n is known to nobody but the reader (sealing.py), so that no one can compute it beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from appliance.audit import evidence, proof, redaction
from appliance.audit.checkpoint import Verifier
from appliance.audit.entry import wraps_digest
from appliance.audit.evidence import Checked
from appliance.audit.header import Header, decode_header
from appliance.audit.kinds import Kind
from appliance.audit.merkle import leaf_hash
from appliance.audit.policy import KeyPolicy
from appliance.audit.proof import Proof
from appliance.audit.recipients import Identity
from appliance.audit.redaction import Redaction
from appliance.audit.sealing import NONCE_BYTES, Opener, RecordKey, Sealed, Wrap
from appliance.audit.shares import SHARE_BYTES, share_id
from appliance.errors import RequestError, VerificationError
from appliance.why import Why

VERSION: Final = 1
CASE: Final = evidence.CASE
MAX_CASE_BYTES: Final = 1 << 27
_MAX_STEPS: Final = 65_536  # `audit.epoch_records` at most: nobody turns a ratchet for ever
_MAX_ITEMS: Final = 100_000
_EPOCH_FILE = re.compile(r"epoch-(0|[1-9][0-9]{0,15})\.(json|tlog-proof)", re.ASCII)
_Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Number = Annotated[int, Meta(ge=0, lt=1 << 53)]


class _Wrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    recipient: Annotated[str, Meta(max_length=64)]
    suite: Annotated[str, Meta(max_length=64)]
    data: Annotated[bytes, Meta(max_length=4096)]


class _Epoch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    epoch: _Number
    policy_sha256: _Hex64
    secret_sha256: _Hex64
    wraps: Annotated[list[_Wrap], Meta(max_length=256)]


class _Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    origin: Annotated[str, Meta(max_length=256)]
    purpose: str
    case: str
    seqs: Annotated[list[_Number], Meta(max_length=_MAX_ITEMS)]
    shares: dict[_Hex32, _Hex64]
    erased: dict[_Hex32, _Number]
    epochs: Annotated[list[_Epoch], Meta(max_length=_MAX_ITEMS)]
    policies: Annotated[list[str], Meta(max_length=_MAX_ITEMS)]


@dataclass(frozen=True, slots=True)
class EpochSecret:
    """An epoch's secret as the readers' identities open it, and the entry that commits to it."""

    number: int
    policy_sha256: str
    secret_sha256: str
    wraps: tuple[Wrap, ...] = field(repr=False)
    header: bytes = field(repr=False)  # of its `epoch:opened`
    proof: Proof = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedCase:
    """What a case adds to evidence."""

    origin: str
    why: Why
    seqs: tuple[int, ...]
    shares: Mapping[str, bytes] = field(repr=False)  # by id, hex
    erased: Mapping[str, int]  # shares that are gone, and the entry that says why
    epochs: tuple[EpochSecret, ...]
    policies: tuple[KeyPolicy, ...]

    def encode(self) -> dict[str, bytes]:
        """Its files, beside those of `evidence.case`."""
        told = _Case(
            v=VERSION,
            origin=self.origin,
            purpose=self.why.purpose,
            case=self.why.case,
            seqs=sorted(self.seqs),
            shares={name: secret.hex() for name, secret in self.shares.items()},
            erased=dict(self.erased),
            epochs=[
                _Epoch(
                    each.number,
                    each.policy_sha256,
                    each.secret_sha256,
                    [_Wrap(one.recipient, one.suite, one.data) for one in each.wraps],
                )
                for each in sorted(self.epochs, key=lambda one: one.number)
            ],
            policies=sorted(each.text() for each in self.policies),
        )
        files = {CASE: _encode(told)}
        for each in self.epochs:
            files[f"epoch-{each.number}.json"] = each.header
            files[f"epoch-{each.number}.tlog-proof"] = each.proof.encode()
        return files


@dataclass(frozen=True, slots=True)
class Unsealed:
    """One record of a case. Without a content: it never had one, or why it is gone."""

    checked: Checked
    content: dict[str, Any] | None = field(default=None, repr=False)
    key: RecordKey | None = field(default=None, repr=False)
    sealed: Sealed | None = field(default=None, repr=False)
    erased_by: int | None = None  # the entry that says why its share is gone
    is_removed: bool = False  # its ciphertext had had its time


def is_case(files: Mapping[str, bytes]) -> bool:
    """Whether evidence is a sealed case."""
    return CASE in files


def decode(files: Mapping[str, bytes]) -> SealedCase:
    """A case from its files. VerificationError unless it is in its one form; proves nothing yet."""
    data = files.get(CASE, b"")
    if not 0 < len(data) <= MAX_CASE_BYTES:
        raise VerificationError(f"there is no {CASE}, or one too large")
    try:
        told = msgspec.json.decode(data, type=_Case)
        canonical = _encode(told)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise VerificationError(f"{CASE} is malformed") from error
    if told.v != VERSION:
        raise VerificationError(f"the case has format {told.v}, which this release does not read")
    if canonical != data or told.seqs != sorted(set(told.seqs)):
        raise VerificationError(f"{CASE} is not in its one form")
    shares = {name: bytes.fromhex(secret) for name, secret in told.shares.items()}
    if any(share_id(secret).hex() != name or len(secret) != SHARE_BYTES for name, secret in shares.items()):
        raise VerificationError("a share is not the one that its id names")
    if len({each.epoch for each in told.epochs}) != len(told.epochs):
        raise VerificationError(f"{CASE} names an epoch twice")
    try:
        why = Why(told.purpose, told.case)
    except RequestError as error:
        raise VerificationError(f"{CASE} gives no purpose") from error
    return SealedCase(
        origin=told.origin,
        why=why,
        seqs=tuple(told.seqs),
        shares=shares,
        erased=dict(told.erased),
        epochs=tuple(_epoch(files, each) for each in told.epochs),
        policies=tuple(KeyPolicy.parse(each) for each in told.policies),
    )


def check(
    files: Mapping[str, bytes], log: Verifier, witnesses: Sequence[Verifier] = ()
) -> tuple[evidence.Report, SealedCase]:
    """What the case shows, to somebody who trusts the log's key; nothing is opened. VerificationError."""
    report = evidence.check(files, log, witnesses)
    case = decode(files)
    headers = [each.header for each in report.records]
    if case.origin != log.name or [each.seq for each in headers] != list(case.seqs):
        raise VerificationError("the case is about other records than the ones in it")
    strangers = {name for name in files if (match := _EPOCH_FILE.fullmatch(name)) and int(match[1])
                 not in {each.number for each in case.epochs}}  # fmt: skip
    if strangers:
        raise VerificationError("the case holds epochs that it does not name")
    policies = {each.sha256 for each in case.policies}
    for each in case.epochs:
        _check_epoch(each, log)
        if each.policy_sha256 not in policies:
            raise VerificationError(f"the key policy of epoch {each.number} is missing")
    named = {each.subj for each in headers if each.subj is not None}
    if not (case.shares.keys() | case.erased.keys()) <= named or case.shares.keys() & case.erased.keys():
        raise VerificationError("the case holds shares of other records")
    return report, case


def open_case(
    files: Mapping[str, bytes],
    log: Verifier,
    identities: Sequence[Identity],
    witnesses: Sequence[Verifier] = (),
) -> list[Unsealed]:
    """Every record of a case, checked first, with its content as far as there is one. VerificationError."""
    report, case = check(files, log, witnesses)
    epochs = {each.number: each for each in case.epochs}
    policies = {each.sha256: each for each in case.policies}
    openers: dict[int, Opener] = {}
    found = []
    for each in report.records:
        header = each.header
        if header.ct is None or header.epoch is None or header.step is None or header.subj is None:
            found.append(Unsealed(each))
            continue
        if header.subj in case.erased:
            found.append(Unsealed(each, erased_by=case.erased[header.subj]))
            continue
        if not each.has_ciphertext:
            found.append(Unsealed(each, is_removed=True))
            continue
        if header.subj not in case.shares or header.epoch not in epochs:
            raise VerificationError(f"the case lacks what opens entry {header.seq}")
        if header.epoch not in openers:
            openers[header.epoch] = _opener(epochs[header.epoch], policies, identities, log.name)
        found.append(_unsealed(each, header, files, openers[header.epoch], case.shares[header.subj]))
    return found


def disclosed(files: Mapping[str, bytes], opened: Sequence[Unsealed]) -> dict[str, bytes]:
    """Evidence from an opened case: each record with its own key and content, nothing that opens others.

    The log's key is not here: its signature over the case's digests stays beside the new list of them.
    """
    made = _carried(files, [each.checked.header.seq for each in opened], evidence.SEALED_FILES)
    for each in opened:
        if each.key is not None and each.sealed is not None and each.content is not None:
            stem = f"record-{each.checked.header.seq}"
            made |= evidence.opened(stem, each.key, each.sealed, each.content)
    return evidence.listed(made)


def redacted(
    files: Mapping[str, bytes],
    opened: Sequence[Unsealed],
    redact: Redaction,
    identities: Sequence[Identity],
) -> dict[str, bytes]:
    """Evidence from an opened case with parts withheld, and the identities' word for what is left."""
    made = _carried(files, [each.checked.header.seq for each in opened], evidence.PROOF_FILES)
    contents = [
        (each.checked.header.seq, each.checked.header.req or "", each.sealed.sha256, each.content)
        for each in opened
        if each.sealed is not None and each.content is not None
    ]
    left = redaction.redact(contents, redact)
    made |= {f"record-{seq}{evidence.REDACTED}": data for seq, data in left.items()}
    return evidence.vouched(evidence.listed(made), opened[0].checked.header.log, identities)


def _carried(files: Mapping[str, bytes], seqs: Sequence[int], ends: Sequence[str]) -> dict[str, bytes]:
    """What goes on from a case into evidence: these records' files, the recipe, the log's word for them."""
    if not seqs:
        raise RequestError("there is nothing to write", code="invalid_export")
    wanted = (
        {f"record-{seq}{end}" for seq in seqs for end in ends} | evidence.RECIPE_FILES | {evidence.POLICY}
    )
    made = {name: data for name, data in files.items() if name in wanted}
    return made | {evidence.CASE_SUMS: files[evidence.SUMS], evidence.CASE_NOTE: files[evidence.SUMS_NOTE]}


def _opener(
    secret: EpochSecret, policies: Mapping[str, KeyPolicy], identities: Sequence[Identity], origin: str
) -> Opener:
    return Opener(
        identities,
        origin=origin,
        epoch=secret.number,
        policy=policies[secret.policy_sha256],
        secret_sha256=secret.secret_sha256,
        wraps={each.recipient: each.data for each in secret.wraps},
    )


def _unsealed(
    checked: Checked, header: Header, files: Mapping[str, bytes], opener: Opener, share: bytes
) -> Unsealed:
    if header.ct is None or header.step is None or not 0 <= header.step < _MAX_STEPS:
        raise VerificationError(f"entry {header.seq} has no place in its epoch")
    ciphertext = files[f"record-{header.seq}.ct"]
    sealed = Sealed(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], bytes.fromhex(header.ct.kc))
    key = opener.disclose(share=share, seq=header.seq, step=header.step, kind=header.kind)
    content = key.open(sealed, key_commitment=header.ct.kc)
    return Unsealed(checked, content, key, sealed)


def _epoch(files: Mapping[str, bytes], told: _Epoch) -> EpochSecret:
    stem = f"epoch-{told.epoch}"
    try:
        header, proved = files[f"{stem}.json"], files[f"{stem}.tlog-proof"]
    except KeyError as error:
        raise VerificationError(f"the entry of epoch {told.epoch} is missing") from error
    return EpochSecret(
        told.epoch,
        told.policy_sha256,
        told.secret_sha256,
        tuple(Wrap(each.recipient, each.suite, each.data) for each in told.wraps),
        header,
        proof.parse(proved),
    )


def _check_epoch(told: EpochSecret, log: Verifier) -> None:
    header = decode_header(told.header)
    proof.verify(told.proof, leaf_hash(told.header), log)
    expected = {
        "epoch": told.number,
        "policy_sha256": told.policy_sha256,
        "secret_sha256": told.secret_sha256,
        "wraps_sha256": wraps_digest((each.recipient, each.suite, each.data) for each in told.wraps),
    }
    place = (str(Kind.EPOCH_OPENED), log.name, told.proof.index)
    if header.pub != expected or (header.kind, header.log, header.seq) != place:
        raise VerificationError(f"the secret of epoch {told.number} is not the one that the log committed to")


def _encode(told: _Case) -> bytes:
    return msgspec.json.encode(told, order="deterministic") + b"\n"
