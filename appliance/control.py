"""Commands from this host's `appliance` program to the running gateway, over an AF_UNIX socket.

The gateway is the only writer of the database while it runs, so whoever wants a change asks it.
One connection carries one command and one answer, each a line of JSON. The socket belongs to the
home's owner (mode 0600), and the peer's user id is checked besides: it must be ours or root's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance import controlled, publishing
from appliance.accounts import terms_form
from appliance.admitting import Admitting
from appliance.alone import Alone
from appliance.audit import entry, proving, safekeeping, witness_keys
from appliance.audit.kinds import Kind
from appliance.backups import Copied
from appliance.commands import (
    AddWitness,
    Answer,
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
    Erase,
    LiftHold,
    ListAccounts,
    ListKeys,
    Look,
    OpenDoors,
    PlaceHold,
    Problem,
    RecordBundle,
    RecordCertificate,
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
from appliance.log import get_logger
from appliance.readiness import Readiness
from appliance.selftest import SelfTest as OwnTest

MAX_LINE_BYTES = 1 << 20  # of a command
MAX_ANSWER_BYTES = 1 << 26  # a list of every key ever made
PROGRAM = "program"  # the reader of what this host's own program asks, without an identity
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid

log = get_logger(__name__)


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


async def _perform_live(command: SelfTest | OpenDoors | Look, live: Live | None) -> dict[str, Any]:
    if live is None:
        raise SetupError("no gateway runs", code="not_running", hint="start the service, or: appliance serve")
    if isinstance(command, SelfTest):
        return await live.test.run(generate=command.generate)
    if isinstance(command, Look):
        return await live.readiness.told()
    was_open = live.doors.is_open
    live.doors.open()
    return {"was_open": was_open}


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


async def _perform(command: Command, alone: Alone, live: Live | None) -> dict[str, Any]:
    if isinstance(command, DocumentCommand):
        return await publishing.perform(command, alone.publishing)
    match command:
        case SelfTest() | OpenDoors() | Look():
            return await _perform_live(command, live)
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


class ControlServer:
    """Listens in the home. Owner of the socket file: the process that holds the home's lock."""

    def __init__(self, path: Path, alone: Alone, live: Live | None = None) -> None:
        self._path = path
        self._alone = alone
        self._live = live
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind; a socket file left by a crash is ours to replace, since we hold the lock."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        earlier = os.umask(0o177)  # the file must never exist with a wider mode
        try:
            with _reachable(self._path) as address:
                listener.bind(address)
        finally:
            os.umask(earlier)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE_BYTES)

    async def stop(self) -> None:
        """Stop listening and remove the file."""
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(reader, writer.get_extra_info("socket"))
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            log.warning("control_connection_failed", error=type(error).__name__)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, peer: socket.socket) -> Answer:
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _pid, uid, _gid = _CREDENTIALS.unpack(raw)
        if uid not in {os.geteuid(), 0}:
            log.warning("control_peer_refused", uid=uid)
            return Problem(code="permission_denied", message="this user may not command the gateway")
        try:
            command = msgspec.json.decode(await reader.readuntil(b"\n"), type=Command)
        except (msgspec.MsgspecError, asyncio.LimitOverrunError):
            return Problem(code="invalid_command", message="the command is not understood")
        return await perform(command, self._alone, self._live)


def send(path: Path, command: Command, *, timeout_seconds: float = 60) -> Answer | None:
    """Ask the running gateway; None where none listens. SetupError where it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_seconds)
        try:
            with _reachable(path) as address:
                peer.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            peer.sendall(msgspec.json.encode(command) + b"\n")
            with peer.makefile("rb") as stream:
                line = stream.readline(MAX_ANSWER_BYTES)
            answer: Answer = msgspec.json.decode(line, type=Answer)
        except (OSError, msgspec.MsgspecError) as error:
            raise SetupError(
                "the running gateway did not answer on its control socket",
                code="control_failed",
                hint="appliance serve's log tells more",
            ) from error
    return answer


def gateway_pid(path: Path) -> int | None:
    """The process that listens on a control socket, as the kernel says (unix(7), SO_PEERCRED)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        try:
            with _reachable(path) as address:
                peer.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(credentials)[0]
        return pid


@contextlib.contextmanager
def _reachable(path: Path) -> Any:
    """An address that fits: sun_path holds 107 bytes, a home can lie deeper (unix(7))."""
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{parent}/{path.name}"
    finally:
        os.close(parent)
