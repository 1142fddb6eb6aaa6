"""Commands of this host's `appliance` program, carried out: by the gateway, or with the log opened alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance import aliased, controlled, modelling, publishing
from appliance.accounts import terms_form
from appliance.admitting import Admitting
from appliance.alias_commands import AliasCommand
from appliance.aliasing import Loading
from appliance.alone import Alone
from appliance.audit import entry, proving, safekeeping, witness_keys
from appliance.audit.kinds import Kind
from appliance.backups import Copied
from appliance.commands import (
    AddWitness,
    Answer,
    AskModel,
    BackUp,
    BlindIndexes,
    ChangeKey,
    ChangePolicy,
    Command,
    CreateAccount,
    CreateKey,
    DisableAccount,
    DocumentCommand,
    Done,
    EmbedTexts,
    Erase,
    ImportModel,
    LiftHold,
    ListAccounts,
    ListKeys,
    LiveCommand,
    Look,
    ModelCommand,
    OpenDoors,
    PlaceHold,
    Problem,
    RecordBundle,
    RecordCertificate,
    RecordEvaluation,
    RecordReading,
    RecordSecrets,
    Recover,
    ResetAccount,
    ResetSecondFactor,
    Retain,
    RevokeKey,
    RotateKey,
    SelfTest,
    TakeCosignatures,
    Verified,
)
from appliance.doors import Doors
from appliance.errors import ApplianceError, RequestError, SetupError, Unavailable
from appliance.evaluating.asking import Asking
from appliance.evaluating.questions import Embedded, Reply
from appliance.readiness import Readiness
from appliance.selftest import SelfTest as OwnTest

PROGRAM = "program"  # the reader of what this host's own program asks, without an identity

_READINGS = frozenset(
    {
        Kind.AUDIT_SEARCHED,
        Kind.AUDIT_READ,
        Kind.AUDIT_REPLAYED,
        Kind.AUDIT_RELEASED,
        Kind.AUDIT_EXPORTED,
    }
)


@dataclass(frozen=True, slots=True)
class Live:
    """What only a running gateway has."""

    doors: Doors
    test: OwnTest
    readiness: Readiness
    admitting: Admitting
    loading: Loading
    asking: Asking


async def perform(command: Command, alone: Alone, live: Live | None = None) -> Answer:
    """Carry out one command. What goes wrong is an answer too."""
    try:
        may_wait = not isinstance(command, RecordBundle | SelfTest | OpenDoors | Look)
        if live is not None and not live.doors.is_open and may_wait:
            raise Unavailable(
                "the appliance is being upgraded, and what is done now may be undone",
                code="upgrading",
                hint="wait until the installer has committed: appliance bundle list",
            )
        return Done(result=await _perform(command, alone, live))
    except ApplianceError as error:
        return Problem(code=error.code, message=error.message, hint=error.hint, family=type(error).__name__)


async def _perform_live(command: LiveCommand, live: Live | None) -> dict[str, Any]:
    if live is None:
        raise SetupError("no gateway runs", code="not_running", hint="start the service, or: appliance serve")
    match command:
        case SelfTest():
            return await live.test.run(generate=command.generate)
        case AskModel():
            return _plain(await live.asking.ask(command.model, command.question))
        case EmbedTexts():
            return _plain(await live.asking.embed(command.model, command.texts))
        case Look():
            return await live.readiness.told()
        case OpenDoors():
            was_open = live.doors.is_open
            live.doors.open()
            return {"was_open": was_open}


def _plain(told: Reply | Embedded) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(told)
    return plain


def _told(command: RecordBundle | RecordCertificate | RecordSecrets) -> entry.Entry:
    """What this host's program did, or is about to do, and only wants to have on the record."""
    match command:
        case RecordBundle():
            return entry.Entry(
                kind=Kind(command.event), public=command.public, content=command.content, actor=PROGRAM
            )
        case RecordCertificate():
            return entry.Entry(
                kind=Kind.CERTIFICATE_ISSUED,
                public={
                    "certificate_sha256": command.certificate_sha256,
                    "not_after": command.not_after,
                    "is_authority": command.is_authority,
                },
                content={"subject": command.subject, "names": command.names},
                actor=PROGRAM,
            )
        case RecordSecrets():
            return safekeeping.changed(command.action, command.passphrases, command.credentials)


async def _record_reading(command: RecordReading, alone: Alone) -> dict[str, Any]:
    if command.event not in _READINGS:
        raise RequestError("only readings are recorded this way", code="invalid_kind")
    recorded = entry.Entry(
        kind=Kind(command.event),
        public=command.public,
        content={
            **command.content,
            **({"shares": command.shares} if command.shares else {}),
            "purpose": command.purpose,
            "case": command.case,
        },
        actor=f"{PROGRAM}:{command.reader}" if command.reader else PROGRAM,
    )
    receipt, released = await alone.auditing.recorded(recorded, command.shares)
    return {
        "origin": receipt.origin,
        "seq": receipt.seq,
        "leaf": receipt.leaf.hex(),
        "shares": {name: secret.hex() for name, secret in released.items()},
    }


async def _perform_model(command: ModelCommand, alone: Alone) -> dict[str, Any]:
    by = command.accepted_by if isinstance(command, ImportModel) else None
    accepted_by = await aliased.vouched(by, alone.people, modelling.MAY_ACCEPT)
    return await modelling.perform(command, alone.modelling, accepted_by=accepted_by)


async def _perform(command: Command, alone: Alone, live: Live | None) -> dict[str, Any]:
    if isinstance(command, DocumentCommand):
        return await publishing.perform(command, alone.publishing)
    if isinstance(command, AliasCommand):
        loading = live.loading if live is not None else None
        return await aliased.perform(command, alone.aliasing, alone.people, loading)
    if isinstance(command, ModelCommand):
        return await _perform_model(command, alone)
    if isinstance(command, LiveCommand):
        return await _perform_live(command, live)
    if isinstance(command, RecordEvaluation):
        return await alone.evaluations.record(command)
    match command:
        case RecordBundle() | RecordCertificate() | RecordSecrets():
            return {"record": (await alone.audit.append(_told(command))).record}
        case CreateKey():
            made = await alone.administration.create_key(
                command.name,
                command.role,
                expires_seconds=command.expires_seconds,
                replace=command.replace,
                stores_responses=command.stores_responses,
                terms=terms_form.terms_of(command.terms),
            )
            return controlled.of_new(made)
        case RotateKey():
            made = await alone.administration.rotate_key(
                command.name_or_id,
                overlap_seconds=command.overlap_seconds,
                expires_seconds=command.expires_seconds,
            )
            return controlled.of_new(made)
        case ChangeKey():
            changed = await alone.administration.change_key(
                command.name_or_id,
                lambda terms: terms_form.amended(terms, command.terms, command.unset),
            )
            return {
                "keys": [controlled.of_key(each, alone.directory) for each in changed.keys],
                "record": changed.receipt.record,
            }
        case RevokeKey():
            key, receipt = await alone.administration.revoke_key(command.name_or_id)
            return {"id": key.id, "name": key.name, "record": receipt.record}
        case ListKeys():
            return {
                "keys": [
                    controlled.of_key(each, alone.directory, live.admitting if live is not None else None)
                    for each in alone.administration.list_keys()
                ]
            }
        case CreateAccount():
            return controlled.of_account(
                await alone.people.create(
                    command.name,
                    command.role,
                    expires_seconds=command.expires_seconds,
                    replace=command.replace,
                )
            )
        case ResetAccount():
            return controlled.of_account(await alone.people.reset(command.name_or_id))
        case ResetSecondFactor():
            known, receipt = await alone.people.factors.reset(command.name_or_id)
            return {"id": known.id, "name": known.name, "record": receipt.record}
        case DisableAccount():
            known, receipt = await alone.people.disable(command.name_or_id)
            return {"id": known.id, "name": known.name, "record": receipt.record}
        case ListAccounts():
            known_by = alone.people.entering.of
            return {
                "accounts": [controlled.of_person(each, known_by(each.id)) for each in alone.people.list()]
            }
        case RecordReading():
            return await _record_reading(command, alone)
        case ChangePolicy():
            policy, receipt = await alone.custody.change_policy(command.act)
            return {"policy": policy.number, "fingerprint": policy.fingerprint, "record": receipt.record}
        case Erase():
            count, receipt = await alone.custody.erase(command.act)
            return {"num_shares": count, "record": receipt.record}
        case PlaceHold():
            hold, receipt = await alone.custody.hold(
                api_key=command.key,
                user=command.user,
                since_us=command.since_us,
                until_us=command.until_us,
                reason=command.reason,
            )
            return {"hold": hold.id, "record": receipt.record}
        case LiftHold():
            hold, receipt = await alone.custody.lift_hold(command.act)
            return {"hold": hold.id, "record": receipt.record}
        case Retain():
            removed = await alone.custody.retain(dry_run=command.dry_run)
            return {
                "dry_run": command.dry_run,
                "removed": [
                    {"kind": str(each.kind), "days": each.days, "num_contents": each.num_contents}
                    for each in removed
                ],
            }
        case BlindIndexes():
            key_sha256, blinds = alone.custody.blinds(
                {str(name): each for name, each in command.fields.items()}
            )
            return {"key_sha256": key_sha256, "blinds": blinds}
        case BackUp():
            copied = Copied(
                Path(command.name), command.backup_sha256, command.tree_size, command.schema, command.head
            )
            done = await alone.custody.back_up(copied)
            return {
                "record": done.receipt.record,
                "shares": str(done.shares),
                "box": str(done.box),
                "num_expired": done.num_expired,
            }
        case Verified():
            receipt = await alone.administration.verifications.record(command.result)
            return {"record": receipt.record, "state": "ready" if alone.audit.is_ready else "latched"}
        case AddWitness():
            vkeys = witness_keys.parse_public(command.vkeys)
            receipt = await alone.witnessing.add(vkeys)
            return {"witness": vkeys[0].name, "num_keys": len(vkeys), "record": receipt.record}
        case TakeCosignatures():
            said, receipt = await alone.witnessing.take(command.note)
            return {
                "witnesses": sorted({each.witness.name for each in said}),
                "num_cosignatures": len(said),
                "tree_size": proving.head_of(command.note).size,
                "record": receipt.record,
            }
        case Recover():
            await alone.administration.recover()
            return {"state": "ready", "tree_size": alone.audit.tree_size}
