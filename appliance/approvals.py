"""Open acts: drafted here, read and signed by several people, carried out when enough of them agree.

An act at the console is the act of `appliance auditor sign`: the same five lines, the same signatures, the
same steward who carries it out. What is added is a place where it waits. Each step is on the record before it
is shown.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from appliance import db
from appliance.audit import acts, ceremonies, drafts, query
from appliance.audit.acts import Act, Draft, SignedAct
from appliance.audit.drafts import Drafted
from appliance.audit.entry import Entry, person_of
from appliance.audit.holds import Hold
from appliance.audit.kinds import Kind
from appliance.audit.log import AuditLog
from appliance.audit.recipients import Identity, Recipient
from appliance.clock import Clock
from appliance.config import Home
from appliance.core import Caller, Principal, Receipt
from appliance.custody import Custody, Foreseen
from appliance.databases.base import Database
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    Refused,
    RequestError,
    VerificationError,
)
from appliance.log import get_logger

MAX_OPEN: Final = 100
MAX_REASON: Final = 500  # characters of why an act was withdrawn

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an act stands: what it says, who agreed, who may still."""

    row: Drafted
    act: SignedAct | None = field(repr=False)  # None: it is closed, or its text does not open here any more
    agreed: tuple[Recipient, ...] = ()
    missing: tuple[Recipient, ...] = ()  # who may decide it and has not signed
    needed: int = 0
    problem: str = ""  # why it can not be carried out as it stands; empty where it can

    @property
    def is_complete(self) -> bool:
        """Enough people agree."""
        return bool(self.needed) and len(self.agreed) >= self.needed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a signature: the act as it stands now, and what was carried out with it, if it was."""

    standing: Standing
    receipt: Receipt | None = None
    problem: ApplianceError | None = None  # it is signed, but could not be carried out


class Approvals:
    """Owner of `_changing`: a row that was read must still be the row when its change is committed."""

    def __init__(
        self, *, audit: AuditLog, custody: Custody, home: Home, database: Database, clock: Clock
    ) -> None:
        self._audit = audit
        self._custody = custody
        self._home = home
        self._database = database
        self._clock = clock
        self._changing = asyncio.Lock()

    def all(self) -> list[Standing]:
        """Every act, newest first."""
        return [self._standing(each) for each in self._rows()]

    def get(self, act_id: str) -> Standing:
        """One act. RequestError where there is none of this id."""
        return self._standing(self._row(act_id))

    async def foresee(self, draft: Draft, who: Principal, caller: Caller) -> Foreseen:
        """What an erasure would destroy, before it is drafted. A search by name: on the record first."""
        found = await self._custody.foresee(ceremonies.erasure_in(draft))
        await self._audit.append(
            Entry(
                kind=Kind.AUDIT_SEARCHED,
                public={"num_results": found.num_records},
                content={"erasure": dict(draft.parameters), **by(who, caller)},
                actor=who.key_id,
            )
        )
        return found

    async def foreseen(self, standing: Standing) -> Foreseen | None:
        """The same for an act that stands on the record; None where it erases nothing."""
        if standing.act is None or standing.act.draft.act is not Act.ERASE:
            return None
        return await self._custody.foresee(ceremonies.erasure_in(standing.act.draft))

    async def draft(self, draft: Draft, who: Principal, caller: Caller) -> Standing:
        """Put an act before those who decide it. RequestError where it is there already."""
        async with self._changing:
            return await self._add(SignedAct(draft), who, caller)

    async def take(self, note: str, who: Principal, caller: Caller) -> Outcome:
        """An act from a file, with the signatures below it: a new one, or more signatures of an open one.

        VerificationError where it is none; RequestError where it is not for this log and policy, or says
        nothing new; Refused where a signature is not of a member who may decide it.
        """
        given = acts.parse(note)
        async with self._changing:
            self._require_current(given.draft)
            agreed = given.agreeing(self._audit.policy)
            if len(agreed) != len(given.signatures):
                raise Refused(
                    "a signature below this act is not of a member who may decide it",
                    code="not_a_member",
                    hint="appliance auditor list shows the members",
                )
            known = self._same(given.draft)
            if known is None:
                added = await self._add(given, who, caller)
                return await self._settle(added, who, caller)
            if known.act is None:
                raise VerificationError("the act that this belongs to does not open", code="act_unreadable")
            here = {name for name, _ in known.act.signatures}
            fresh = tuple(each for each in given.signatures if each[0] not in here)
            if not fresh:
                raise RequestError("this act is here already, with these signatures", code="act_exists")
            signed = replace(known.act, signatures=(*known.act.signatures, *fresh))
            return await self._signed(known, signed, "a file", who, caller)

    async def sign(self, act_id: str, identity: Identity, who: Principal, caller: Caller) -> Outcome:
        """Agree to an act with an unlocked identity. Refused where it is not one that decides it."""
        async with self._changing:
            known = self._standing(self._row(act_id))
            act = _open_act(known)
            self._require_current(act.draft)
            members, _ = acts.deciders(act.draft.act, self._audit.policy)
            if identity.recipient not in members:
                raise Refused("this identity is not of a member who may decide this act", code="not_a_member")
            return await self._signed(known, act.signed_by(identity), "the console", who, caller)

    async def carry_out(self, act_id: str, who: Principal, caller: Caller) -> Outcome:
        """Try again what could not be carried out when the last signature came."""
        async with self._changing:
            known = self._standing(self._row(act_id))
            _open_act(known)
            if not known.is_complete:
                raise RequestError("this act has not enough signatures yet", code="act_incomplete")
            return await self._settle(known, who, caller)

    async def withdraw(self, act_id: str, reason: str, who: Principal, caller: Caller) -> Standing:
        """Close an act without carrying it out."""
        if not reason.strip() or len(reason) > MAX_REASON:
            raise RequestError("a withdrawal gives its reason", code="invalid_reason", param="reason")
        async with self._changing:
            known = self._standing(self._row(act_id))
            if not known.row.is_open:
                raise _closed()
            over = drafts.closed(known.row, drafts.WITHDRAWN, now_us=self._clock.now_us())
            await self._close(over, "", {"reason": reason, **by(who, caller)}, who.key_id)
            return self._standing(over)

    async def tidy(self) -> None:
        """End what a crash left: close acts that were carried out, destroy keys of acts that are closed."""
        async with self._changing:
            for row in self._rows():
                act = self._standing(row).act
                receipt = self._earlier(act) if act is not None else None
                if act is not None and receipt is not None:
                    await self._applied(row, act, receipt, {}, None)
            self._sweep()

    def _sweep(self) -> None:
        drafts.sweep(self._home, [each.id for each in self._rows() if each.is_open])

    async def _add(self, given: SignedAct, who: Principal, caller: Caller) -> Standing:
        self._require_current(given.draft)
        if self._same(given.draft) is not None:
            raise RequestError("an open act says the same", code="act_exists")
        if sum(each.is_open for each in self._rows()) >= MAX_OPEN:
            raise RequestError(
                f"{MAX_OPEN} acts are open already", code="too_many_acts", hint="close some of them first"
            )
        note = given.note()
        made = drafts.new(
            self._home,
            str(given.draft.act),
            note,
            num_signatures=len(given.signatures),
            now_us=self._clock.now_us(),
        )
        try:
            await self._append(Kind.ACT_DRAFTED, made, {"text": note, **by(who, caller)}, who)
        except BaseException:
            self._sweep()
            raise
        return self._standing(made)

    async def _signed(
        self, known: Standing, signed: SignedAct, where: str, who: Principal, caller: Caller
    ) -> Outcome:
        before = {name for name, _ in known.act.signatures} if known.act is not None else set()
        row = drafts.resealed(self._home, known.row, signed.note(), num_signatures=len(signed.signatures))
        signers = [
            {"name": each.name, "fingerprint": each.fingerprint}
            for each in signed.agreeing(self._audit.policy)
            if each.name not in before
        ]
        await self._append(Kind.ACT_SIGNED, row, {"signed": signers, "where": where, **by(who, caller)}, who)
        return await self._settle(self._standing(row), who, caller)

    async def _settle(self, known: Standing, who: Principal, caller: Caller) -> Outcome:
        """Carry out an act that enough people signed, once, and close it."""
        if known.act is None or not known.is_complete:
            return Outcome(known)
        receipt = self._earlier(known.act)
        if receipt is None:
            try:
                receipt = await self._apply(known.act.draft.act, known.act.note())
            except AuditUnavailable:
                raise
            except ApplianceError as problem:
                log.warning("act_not_carried_out", code=problem.code)
                return Outcome(known, problem=problem)
        over = await self._applied(known.row, known.act, receipt, by(who, caller), who.key_id)
        return Outcome(self._standing(over), receipt=receipt)

    async def _applied(
        self, row: Drafted, act: SignedAct, receipt: Receipt, said: Mapping[str, Any], actor: str | None
    ) -> Drafted:
        over = drafts.closed(row, drafts.APPLIED, now_us=self._clock.now_us(), seq=receipt.seq)
        await self._close(over, _digest(act), {"record": receipt.record, **said}, actor)
        return over

    async def _apply(self, act: Act, note: str) -> Receipt:
        match act:
            case Act.ERASE:
                return (await self._custody.erase(note))[1]
            case Act.HOLD_LIFT:
                return (await self._custody.lift_hold(note))[1]
            case Act.POLICY_CHANGE:
                return (await self._custody.change_policy(note))[1]
            case Act.RESTORE:
                raise _by_program()

    def _earlier(self, act: SignedAct) -> Receipt | None:
        """The entry that carried it out already, before a crash or by the program on the host."""
        match act.draft.act:
            case Act.ERASE:
                kind, name, value = Kind.CONTENT_ERASED, "act_sha256", _digest(act)
            case Act.HOLD_LIFT:
                kind, name, value = Kind.HOLD_LIFTED, "row_id", str(act.draft.parameters.get("hold", ""))
            case Act.POLICY_CHANGE:
                kind, name, value = Kind.POLICY_CHANGED, "policy_sha256", acts.policy_of(act.draft).sha256
            case Act.RESTORE:
                return None
        for each in query.search(self._database, kind=kind, limit=MAX_OPEN):
            if each.public.get(name) == value:
                return Receipt(self._audit.origin, each.seq, each.leaf)
        return None

    async def _close(self, over: Drafted, digest: str, said: Mapping[str, Any], actor: str | None) -> None:
        closed = {"decision": over.outcome, "act_sha256": digest}
        made = ceremonies.drafted(Kind.ACT_CLOSED, over, said, closed)
        await self._audit.append(replace(made, actor=actor))
        self._sweep()

    async def _append(self, kind: Kind, row: Drafted, said: Mapping[str, Any], who: Principal) -> None:
        made = ceremonies.drafted(kind, row, said, {"num_signatures": row.num_signatures})
        await self._audit.append(replace(made, actor=who.key_id))

    def _same(self, draft: Draft) -> Standing | None:
        for each in self._rows():
            standing = self._standing(each)
            if standing.act is not None and standing.act.draft == draft:
                return standing
        return None

    def _require_current(self, draft: Draft) -> None:
        if draft.act is Act.RESTORE:
            raise _by_program()
        if problem := self._flaw(draft):
            raise RequestError(problem, code="act_overtaken", hint="draft it anew")
        match draft.act:
            case Act.ERASE:
                ceremonies.erasure_in(draft)
            case Act.POLICY_CHANGE:
                acts.policy_of(draft)
            case Act.HOLD_LIFT:
                self.hold_of(draft)

    def hold_of(self, draft: Draft) -> Hold:
        """The hold that a draft would lift. RequestError where none of that id is in force."""
        wanted = draft.parameters.get("hold")
        found = next((each for each in self._custody.holds() if each.is_active and each.id == wanted), None)
        if found is None:
            raise RequestError("no hold of this id is in force", code="hold_not_found")
        return found

    def _flaw(self, draft: Draft) -> str:
        if draft.origin != self._audit.origin:
            return "this act was drafted for another log"
        if draft.policy_sha256 != self._audit.policy.sha256:
            return "this act was drafted under another key policy"
        return ""

    def _standing(self, row: Drafted) -> Standing:
        if not row.is_open:
            return Standing(row, None)
        try:
            act = acts.parse(drafts.read(self._home, row))
        except VerificationError as error:
            return Standing(row, None, problem=error.message)
        policy = self._audit.policy
        members, needed = acts.deciders(act.draft.act, policy)
        agreed = act.agreeing(policy)
        return Standing(
            row,
            act,
            agreed=tuple(agreed),
            missing=tuple(each for each in members if each not in agreed),
            needed=needed,
            problem=self._flaw(act.draft),
        )

    def _rows(self) -> list[Drafted]:
        with db.reading(self._database) as connection:
            return drafts.load(connection)

    def _row(self, act_id: str) -> Drafted:
        found = next((each for each in self._rows() if each.id == act_id), None)
        if found is None:
            raise RequestError("there is no act of this id", code="not_found")
        return found


def _open_act(known: Standing) -> SignedAct:
    if not known.row.is_open:
        raise _closed()
    if known.act is None:
        raise VerificationError(known.problem, code="act_unreadable")
    return known.act


def by(who: Principal, caller: Caller) -> dict[str, Any]:
    """Who did it, for sealed content."""
    return {
        "principal": person_of(who),
        "caller": caller.told(),
    }


def _digest(act: SignedAct) -> str:
    """What the entry of an act that was carried out says of it: with its signatures nobody guesses it."""
    return hashlib.sha256(act.note().encode()).hexdigest()


def _closed() -> RequestError:
    return RequestError("this act is closed", code="act_closed")


def _by_program() -> RequestError:
    return RequestError(
        "a log is begun anew while no gateway runs",
        code="invalid_act",
        hint="appliance auditor apply, on the host",
    )
