"""Reading the record: what an auditor or an operator may see without a key, and with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Select, select

from appliance import db
from appliance.audit import checkpoint, store
from appliance.audit.checkpoint import Verifier
from appliance.audit.header import Header, decode_header
from appliance.audit.kinds import Kind
from appliance.audit.merkle import inclusion_proof, leaf_hash, verify_inclusion
from appliance.audit.policy import KeyPolicy
from appliance.audit.recipients import Identity
from appliance.audit.sealing import Opener, RecordKey, Sealed
from appliance.audit.tables import epoch, epoch_wrap, erasure, key_policy, log_entry, log_payload
from appliance.db import Place
from appliance.errors import RequestError, VerificationError

MAX_LIMIT = 100_000
_PAGE = 256


@dataclass(frozen=True, slots=True)
class Record:
    """One entry, as everybody who holds the database sees it."""

    seq: int
    ts: int
    kind: Kind
    request_id: str | None
    public: dict[str, str | int]
    leaf: bytes
    header: Header = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """One entry with its content, for an auditor."""

    record: Record
    content: dict[str, Any] | None = field(repr=False)
    erased_by: int | None = None  # the entry that says why the content is gone


def search(
    place: Place, *, kind: Kind | None = None, before_seq: int | None = None, limit: int = 50
) -> list[Record]:
    """The newest entries, of one kind or of all: what programs look up. People search by `search.search`."""
    query = select(log_entry).order_by(log_entry.c.seq.desc()).limit(min(limit, MAX_LIMIT))
    if kind is not None:
        query = query.where(log_entry.c.kind == str(kind))
    if before_seq is not None:
        query = query.where(log_entry.c.seq < before_seq)
    with db.reading(place) as connection:
        return _records(connection, query)


def by_request(place: Place, request_id: str) -> list[Record]:
    """Everything on the record about one request, in order."""
    query = select(log_entry).where(log_entry.c.req == request_id).order_by(log_entry.c.seq)
    with db.reading(place) as connection:
        return _records(connection, query)


def exchange(place: Place, target: str) -> list[Record]:
    """The exchange that a sequence number or a request id belongs to. RequestError where none does."""
    with db.reading(place) as connection:
        if target.isdecimal() and len(target) < 19:  # SQLite's integers end there
            found = _records(connection, select(log_entry).where(log_entry.c.seq == int(target)))
        else:
            found = _records(connection, select(log_entry).where(log_entry.c.req == target).limit(1))
    if not found:
        raise RequestError(
            "there is no such entry or request on the record",
            code="not_found",
            hint="appliance audit search lists entries",
        )
    request_id = found[0].request_id
    return by_request(place, request_id) if request_id else found


def shares_of(records: Sequence[Record]) -> list[str]:
    """The shares that open these records, by id in hex."""
    return sorted({each.header.subj for each in records if each.header.subj is not None})


def open_records(
    place: Place, records: Sequence[Record], identities: Sequence[Identity], shares: Mapping[str, bytes]
) -> list[Opened]:
    """The contents of these records, by what auditors hold and what the appliance released.

    VerificationError where one does not open.
    """
    with db.reading(place) as connection:
        reading = _Reading(connection, identities, shares)
        return [reading.open(record) for record in records]


def unopened(place: Place, records: Sequence[Record]) -> list[Opened]:
    """The same records without their contents, and by which entries those were erased."""
    wanted = [bytes.fromhex(each) for each in shares_of(records)]
    with db.reading(place) as connection:
        rows = connection.execute(select(erasure).where(erasure.c.share.in_(wanted)))
        erased = {bytes(row.share).hex(): int(row.seq) for row in rows}
    return [Opened(each, None, erased.get(each.header.subj or "")) for each in records]


def scan(
    place: Place,
    identities: Sequence[Identity],
    shares: Mapping[str, bytes],
    *,
    kind: Kind | None = None,
    after_seq: int = -1,
    before_seq: int | None = None,
) -> Iterator[Opened]:
    """Contents in the order of the record, opened one by one: what a search through them reads.

    In pages, each in a read transaction of its own: a long one would keep the WAL from being emptied.
    VerificationError where one does not open. Those without a content or without a share are left out.
    """
    query = (
        select(log_entry.c.hdr, log_payload.c.nonce, log_payload.c.ct)
        .join(log_payload, log_payload.c.seq == log_entry.c.seq)
        .order_by(log_entry.c.seq)
        .limit(_PAGE)
    )
    if kind is not None:
        query = query.where(log_entry.c.kind == str(kind))
    if before_seq is not None:
        query = query.where(log_entry.c.seq < before_seq)
    openers: dict[int, Opener] = {}
    engine = db.at(place).reader()
    try:
        while True:
            with engine.connect() as connection:
                rows = connection.execute(query.where(log_entry.c.seq > after_seq)).all()
                reading = _Reading(connection, identities, shares, openers)
                records = [(record_of(data), (nonce, ciphertext)) for data, nonce, ciphertext in rows]
                opened = [
                    reading.open(each, payload) for each, payload in records if each.header.subj in shares
                ]
            yield from opened
            if len(rows) < _PAGE:
                return
            after_seq = records[-1][0].seq
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class Disclosed:
    """One entry for evidence: its header's bytes, its ciphertext, and what opens exactly this one."""

    record: Record
    data: bytes
    sealed: Sealed | None = field(repr=False)
    key: RecordKey | None = field(default=None, repr=False)


def disclose(
    connection: Connection,
    seqs: Sequence[int],
    identities: Sequence[Identity] = (),
    shares: Mapping[str, bytes] = MappingProxyType({}),
) -> list[Disclosed]:
    """Entries with their ciphertexts as far as there are any; with identities, their own keys too.

    RequestError where an entry does not exist; VerificationError where a content should be there and is not.
    """
    reading = _Reading(connection, identities, shares)
    found = {row.seq: row for row in connection.execute(select(log_entry).where(log_entry.c.seq.in_(seqs)))}
    if missing := [seq for seq in seqs if seq not in found]:
        raise RequestError(f"there is no entry {missing[0]} on the record", code="not_found")
    return [reading.disclose(found[seq].hdr) for seq in seqs]


def records_at(connection: Connection, seqs: Sequence[int]) -> list[Record]:
    """These entries. RequestError where one does not exist."""
    found = {
        each.seq: each
        for each in _each_record(connection, select(log_entry).where(log_entry.c.seq.in_(seqs)))
    }
    if missing := [seq for seq in seqs if seq not in found]:
        raise RequestError(f"there is no entry {missing[0]} on the record", code="not_found")
    return [found[seq] for seq in seqs]


def prove(place: Place, record: Record, verifier: Verifier) -> tuple[int, bool]:
    """Size of the newest tree that the log signed, and whether this very header is included in it.

    VerificationError where there is no such tree.
    """
    with db.reading(place) as connection:
        found = store.head(connection)
        if found is None:
            return 0, False
        head = checkpoint.open_checkpoint(found[1], verifier)
        if record.seq >= head.size:
            return head.size, False

        def read(level: int, index: int) -> bytes:
            return store.read_node(connection, level, index)

        proof = inclusion_proof(record.seq, head.size, read)
        return head.size, verify_inclusion(record.seq, head.size, record.leaf, head.root, proof)


def _records(connection: Connection, query: Select[Any]) -> list[Record]:
    return list(_each_record(connection, query))


def _each_record(connection: Connection, query: Select[Any]) -> Iterator[Record]:
    for row in connection.execute(query):
        yield record_of(row.hdr)


def record_of(data: bytes) -> Record:
    """An entry from its header's bytes. VerificationError where they are no header."""
    header = decode_header(data)
    return Record(
        seq=header.seq,
        ts=header.ts,
        kind=Kind(header.kind),
        request_id=header.req,
        public=header.pub,
        leaf=leaf_hash(data),  # of what is shown, whatever the column beside it says
        header=header,
    )


class _Reading:
    """Opens contents with one set of keys; epochs are unwrapped once."""

    def __init__(
        self,
        connection: Connection,
        identities: Sequence[Identity],
        shares: Mapping[str, bytes],
        openers: dict[int, Opener] | None = None,
    ) -> None:
        self._sql = connection
        self._identities = identities
        self._shares = shares
        self._openers = {} if openers is None else openers

    def open(self, record: Record, payload: tuple[bytes, bytes] | None = None) -> Opened:
        header = record.header
        if header.ct is None or header.epoch is None or header.step is None or header.subj is None:
            return Opened(record, None)
        share = self._shares.get(header.subj)
        if share is None:
            return Opened(record, None, self._erased_by(header))
        sealed = self._sealed(header, payload)
        if header.epoch not in self._openers:
            self._openers[header.epoch] = self._opener(header)
        content = self._openers[header.epoch].open(
            sealed,
            share=share,
            seq=header.seq,
            step=header.step,
            kind=header.kind,
            key_commitment=header.ct.kc,
        )
        return Opened(record, content)

    def disclose(self, data: bytes) -> Disclosed:
        record = record_of(data)
        header = record.header
        if header.ct is None or header.epoch is None or header.step is None or header.subj is None:
            return Disclosed(record, data, None)
        share = self._shares.get(header.subj)
        if share is None or not self._identities:
            return Disclosed(record, data, self._sealed_if_kept(header))
        if header.epoch not in self._openers:
            self._openers[header.epoch] = self._opener(header)
        key = self._openers[header.epoch].disclose(
            share=share, seq=header.seq, step=header.step, kind=header.kind
        )
        return Disclosed(record, data, self._sealed(header), key)

    def _sealed_if_kept(self, header: Header) -> Sealed | None:
        """None where an entry says that the content was removed."""
        row = self._sql.execute(select(log_payload.c.seq).where(log_payload.c.seq == header.seq)).first()
        return self._sealed(header) if row is not None else None

    def _erased_by(self, header: Header) -> int:
        found = self._sql.execute(
            select(erasure.c.seq).where(erasure.c.share == bytes.fromhex(str(header.subj)))
        ).scalar_one_or_none()
        if found is None:
            raise VerificationError(f"the share that opens entry {header.seq} is missing")
        return int(found)

    def _sealed(self, header: Header, payload: tuple[bytes, bytes] | None = None) -> Sealed:
        row = (
            payload
            or self._sql.execute(
                select(log_payload.c.nonce, log_payload.c.ct).where(log_payload.c.seq == header.seq)
            ).one_or_none()
        )
        if row is None or header.ct is None:
            raise VerificationError(f"the content of entry {header.seq} is missing")
        sealed = Sealed(nonce=row[0], ciphertext=row[1], key_commitment=bytes.fromhex(header.ct.kc))
        if sealed.sha256 != header.ct.sha256:
            raise VerificationError(f"the content of entry {header.seq} is not what its header says")
        return sealed

    def _opener(self, header: Header) -> Opener:
        row = self._sql.execute(select(epoch).where(epoch.c.id == header.epoch)).one_or_none()
        if row is None:
            raise VerificationError(f"epoch {header.epoch} is missing")
        policy = self._sql.execute(
            select(key_policy.c.text).where(key_policy.c.sha256 == row.policy_sha256)
        ).scalar_one_or_none()
        if policy is None:
            raise VerificationError(f"the key policy of epoch {header.epoch} is missing")
        wraps = self._sql.execute(
            select(epoch_wrap.c.recipient, epoch_wrap.c.wrap).where(epoch_wrap.c.epoch == row.id)
        )
        return Opener(
            self._identities,
            origin=header.log,
            epoch=row.id,
            policy=KeyPolicy.parse(policy),
            secret_sha256=row.secret_sha256,
            wraps={each.recipient: each.wrap for each in wraps},
        )
