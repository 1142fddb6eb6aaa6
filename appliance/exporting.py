"""Exports: what leaves for people who trust nobody here. On the record first, with who and what for.

Chosen records leave as proofs alone; as a sealed case, which an auditor opens elsewhere; opened, with each
record's own key; or redacted. A range leaves with every header, so that completeness can be checked. The
same code runs in the gateway and in the `appliance` program: `record` is how an entry comes on the record
and its shares come back (`Custody.release`, or the same over the control socket).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, select

from appliance import db
from appliance.audit import archive, evidence, files, proving, query, ranges, redaction
from appliance.audit.archive import File
from appliance.audit.casefile import EpochSecret, SealedCase
from appliance.audit.checkpoint import Signer
from appliance.audit.entry import Entry, person_of
from appliance.audit.kinds import Kind
from appliance.audit.policy import KeyPolicy
from appliance.audit.query import Disclosed, Record
from appliance.audit.ranges import Range
from appliance.audit.recipients import Identity
from appliance.audit.redaction import Redaction
from appliance.audit.sealing import Wrap
from appliance.audit.tables import epoch, epoch_wrap, erasure, key_policy
from appliance.audit.tiles import Tile
from appliance.config import Home
from appliance.core import Caller, Principal, Receipt
from appliance.db import Place
from appliance.errors import RequestError, VerificationError
from appliance.why import Why

MAX_RECORDS: Final = 1000
MAX_CONTENT_BYTES: Final = 1 << 28  # of ciphertexts in one export: they are held in memory
MAX_WHOLE_REQUEST: Final = 10_000  # records of the requests that a redaction reads whole

Recorder = Callable[[Entry, list[str]], Awaitable[tuple[Receipt, Mapping[str, bytes]]]]


class Form(StrEnum):
    """How records leave."""

    PROOFS = "proofs"  # headers, proofs and ciphertexts: opens for nobody
    SEALED = "sealed"  # with what an auditor's identity opens on another machine
    OPENED = "opened"  # with each record's own key and content
    REDACTED = "redacted"  # with contents of which parts are withheld, and no key
    RANGE = "range"  # every header between two places


@dataclass(frozen=True, slots=True)
class Exported:
    """Evidence of chosen records."""

    form: Form
    files: Mapping[str, bytes] = field(repr=False)
    tree_size: int
    seq: int  # of the entry that says so

    def zip(self) -> bytes:
        """The one file that is handed out."""
        return archive.pack(self.files)


@dataclass(frozen=True, slots=True)
class ExportedRange:
    """Evidence of a range, which is on the record and not written yet."""

    chosen: Range
    seq: int  # of the entry that says so
    _files: Callable[[], Iterator[File]] = field(repr=False)

    def files(self) -> Iterator[File]:
        """File by file, read as they are asked for: in a thread, not in the event loop."""
        return self._files()

    def zipped(self) -> Iterator[bytes]:
        """The one file that is handed out, piece by piece."""
        return archive.zipped(self._files())


class Exporting:
    """Makes exports. Holds nothing between two of them."""

    def __init__(self, *, home: Home, database: Place, record: Recorder) -> None:
        self._home = home
        self._database = database
        self._record = record

    async def export(
        self,
        who: Principal,
        caller: Caller,
        why: Why,
        *,
        seqs: Sequence[int] = (),
        request_ids: Sequence[str] = (),
        identities: Sequence[Identity] = (),
        redact: Redaction | None = None,
        form: Form | None = None,
    ) -> Exported:
        """Chosen records. Without `form`: redacted where something is withheld, opened with identities,
        else sealed. RequestError where a record does not exist, or it is too much for one export.
        """
        form = _form(form, identities, redact)
        chosen = await asyncio.to_thread(self._chosen, seqs, request_ids, form)
        needed = query.shares_of(chosen) if form is not Form.PROOFS else []
        receipt, shares = await self._record(_recorded(who, caller, why, form, chosen, needed, identities,
                                                         redact), needed)  # fmt: skip
        made, size = await asyncio.to_thread(self._made, form, why, chosen, shares, identities, redact)
        return Exported(form, made, size, receipt.seq)

    async def export_range(
        self, who: Principal, caller: Caller, why: Why, *, begin: int, end: int
    ) -> ExportedRange:
        """Every header in [begin, end), ready to be written. RequestError where it lies outside the log."""
        await asyncio.to_thread(self._check_range, begin, end)
        said = _said(who, caller, why)
        recorded = Entry(
            kind=Kind.AUDIT_EXPORTED,
            public={"form": str(Form.RANGE), "begin": begin, "end": end},
            content=said,
            actor=who.key_id or None,
        )
        receipt, _ = await self._record(recorded, [])
        return await asyncio.to_thread(self._range, begin, end, receipt.seq)

    def _chosen(self, seqs: Sequence[int], request_ids: Sequence[str], form: Form) -> list[Record]:
        if len(seqs) + len(request_ids) > MAX_RECORDS:
            raise _too_much()
        with db.reading(self._database) as connection:
            found = {each.seq: each for each in query.records_at(connection, sorted(set(seqs)))}
        requests = set(request_ids)
        if form is Form.REDACTED:  # a word may begin in one piece of an answer and end in another
            requests |= {each.request_id for each in found.values() if each.request_id}
        for name in sorted(requests):
            several = query.by_request(self._database, name)
            if not several:
                raise RequestError("there is no such request on the record", code="not_found")
            found |= {each.seq: each for each in several}
        chosen = [found[seq] for seq in sorted(found)]
        if not chosen:
            raise RequestError("name entries, or a range", code="invalid_export")
        size = sum(each.header.ct.len for each in chosen if each.header.ct is not None)
        if len(chosen) > MAX_WHOLE_REQUEST or size > MAX_CONTENT_BYTES:
            raise _too_much()
        return chosen

    def _made(
        self,
        form: Form,
        why: Why,
        chosen: Sequence[Record],
        shares: Mapping[str, bytes],
        identities: Sequence[Identity],
        redact: Redaction | None,
    ) -> tuple[dict[str, bytes], int]:
        seqs = [each.seq for each in chosen]
        log = files.read_verifier(self._home)
        with db.reading(self._database) as connection:
            note = proving.cosigned(connection, above=seqs[-1]) or proving.newest(connection)
            keys = identities if form in {Form.OPENED, Form.REDACTED} else ()
            items = query.disclose(connection, seqs, keys, shares if keys else {})
            proofs = [proving.prove(connection, seq, note) for seq in seqs]
            policy = evidence.policy_of(log, list(proving.witnesses(connection).values()))
            erased = _erased(connection, chosen, shares) if form is not Form.PROOFS else {}
            if form is Form.REDACTED:
                made = _redacted(items, redact) | evidence.case(
                    zip(map(_without_content, items), proofs, strict=True), policy
                )
            else:
                made = evidence.case(zip(items, proofs, strict=True), policy)
            if form is Form.SEALED:
                made |= _sealed(connection, log.name, why, chosen, shares, erased, note)
        return evidence.signed(made, _recipe(), self._signer()), proving.head_of(note).size

    def _check_range(self, begin: int, end: int) -> None:
        with db.reading(self._database) as connection:
            size = proving.head_of(proving.newest(connection)).size
        if not 0 <= begin < end <= size:
            raise RequestError("the range lies outside the log", code="invalid_export")

    def _range(self, begin: int, end: int, seq: int) -> ExportedRange:
        log = files.read_verifier(self._home)
        with db.reading(self._database) as connection:
            note = proving.cosigned(connection, above=end - 1) or proving.newest(connection)
            policy = evidence.policy_of(log, list(proving.witnesses(connection).values()))
        chosen = Range(begin, end, note, policy)
        return ExportedRange(chosen, seq, lambda: self._range_files(chosen))

    def _range_files(self, chosen: Range) -> Iterator[File]:
        engine = db.at(self._database).reader()

        # A read transaction for each piece: a long one would keep the WAL from being emptied.
        def headers(begin: int, end: int) -> list[bytes]:
            with engine.connect() as connection:
                return proving.headers_of(connection, begin, end)

        def tile_of(tile: Tile) -> bytes:
            with engine.connect() as connection:
                return proving.tile_of(connection, tile)

        try:
            yield from ranges.files(
                chosen, headers=headers, tile_of=tile_of, recipe=_recipe(), signer=self._signer()
            )
        finally:
            engine.dispose()

    def _signer(self) -> Signer:
        return files.load_keys(self._home, files.read_verifier(self._home).name).signer


def _form(form: Form | None, identities: Sequence[Identity], redact: Redaction | None) -> Form:
    if form is None:
        form = Form.REDACTED if redact else Form.OPENED if identities else Form.SEALED
    if form in {Form.OPENED, Form.REDACTED} and not identities:
        raise RequestError(
            "contents open with an auditor's identity only",
            code="identity_required",
            hint="pass --identity FILE, or hand out a sealed case",
        )
    if (redact is not None) != (form is Form.REDACTED) or form is Form.RANGE:
        raise RequestError("what is withheld and the form do not fit each other", code="invalid_export")
    return form


def _recorded(
    who: Principal,
    caller: Caller,
    why: Why,
    form: Form,
    chosen: Sequence[Record],
    needed: Sequence[str],
    identities: Sequence[Identity],
    redact: Redaction | None,
) -> Entry:
    said = {
        **_said(who, caller, why),
        "seqs": [each.seq for each in chosen],
        "readers": [each.recipient.fingerprint for each in identities],
        "names": [each.name for each in identities],
        **({"shares": list(needed)} if needed else {}),
    }
    if redact is not None:
        said["redaction"] = {
            "parts": sorted(map(str, redact.parts)),
            "words": list(redact.words),
            "reason": redact.reason,
        }
    return Entry(
        kind=Kind.AUDIT_EXPORTED,
        public={"form": str(form), "num_records": len(chosen), "num_shares": len(needed)},
        content=said,
        actor=who.key_id or None,
    )


def _said(who: Principal, caller: Caller, why: Why) -> dict[str, object]:
    return {
        "principal": person_of(who),
        "caller": caller.told(),
        "purpose": why.purpose,
        "case": why.case,
    }


def _without_content(item: Disclosed) -> Disclosed:
    return Disclosed(item.record, item.data, None)


def _redacted(items: Sequence[Disclosed], redact: Redaction | None) -> dict[str, bytes]:
    if redact is None:
        raise RequestError("a redaction names what it withholds", code="invalid_redaction")
    opened = []
    for each in items:
        if each.key is None or each.sealed is None:
            continue
        content = each.key.open(each.sealed, key_commitment=each.sealed.key_commitment.hex())
        opened.append((each.record.seq, each.record.request_id or "", each.sealed.sha256, content))
    found = redaction.redact(opened, redact)
    return {f"record-{seq}{evidence.REDACTED}": data for seq, data in found.items()}


def _erased(connection: Connection, chosen: Sequence[Record], shares: Mapping[str, bytes]) -> dict[str, int]:
    """Shares that are gone and the entries that say why. VerificationError where none does."""
    gone = [each for each in query.shares_of(chosen) if each not in shares]
    wanted = [bytes.fromhex(each) for each in gone]
    rows = connection.execute(select(erasure).where(erasure.c.share.in_(wanted)))
    found = {bytes(row.share).hex(): int(row.seq) for row in rows}
    if missing := sorted(set(gone) - found.keys()):
        raise VerificationError(f"the share {missing[0]} is missing, and no entry says why")
    return found


def _sealed(
    connection: Connection,
    origin: str,
    why: Why,
    chosen: Sequence[Record],
    shares: Mapping[str, bytes],
    erased: Mapping[str, int],
    note: str,
) -> dict[str, bytes]:
    numbers = sorted({each.header.epoch for each in chosen if each.header.epoch is not None})
    epochs, policies = [], {}
    for number in numbers:
        row = connection.execute(select(epoch).where(epoch.c.id == number)).one()
        wraps = connection.execute(
            select(epoch_wrap).where(epoch_wrap.c.epoch == number).order_by(epoch_wrap.c.recipient)
        )
        epochs.append(
            EpochSecret(
                number,
                row.policy_sha256,
                row.secret_sha256,
                tuple(Wrap(each.recipient, each.suite, bytes(each.wrap)) for each in wraps),
                proving.header_of(connection, row.first_seq),
                proving.prove(connection, row.first_seq, note),
            )
        )
        policies[row.policy_sha256] = connection.execute(
            select(key_policy.c.text).where(key_policy.c.sha256 == row.policy_sha256)
        ).scalar_one()
    return SealedCase(
        origin=origin,
        why=why,
        seqs=tuple(each.seq for each in chosen),
        shares=dict(shares),
        erased=erased,
        epochs=tuple(epochs),
        policies=tuple(KeyPolicy.parse(each) for each in policies.values()),
    ).encode()


def _recipe() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(proving.RECIPE.parent.iterdir())}


def _too_much() -> RequestError:
    return RequestError(
        f"this is too much for one export: at most {MAX_RECORDS} entries and "
        f"{MAX_CONTENT_BYTES >> 20} MiB of contents",
        code="export_too_large",
        hint="make several, or a range, which holds headers only",
    )
