"""`verify`: an independent second reading of the whole record. Needs no secret, writes nothing.

It shares no code with the sequencer: it hashes with hashlib, reads with plain SQL, and believes
nothing but the log's public key. Numbered steps, as they run:
1. the file is a whole SQLite database with exactly this release's schema
2. every header is canonical, in place, in order, and says what the columns beside it say
3. every leaf, every complete subtree and the root are what the headers make them
4. newest and kept checkpoints are signed by the log and lie on this very tree; the head file too
5. sealed contents are present and hash to what their headers commit to; none is without a header
6. epochs, wraps and the key policy are the ones that their entries commit to
7. every opening has exactly one closing; segments are complete
8. every state row (API keys …) is the one that the last record about it commits to
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rfc8785

from appliance.audit import checkpoint, fsck_policies
from appliance.audit.entry import Header, Kind, decode_header
from appliance.audit.report import Expected, Report
from appliance.errors import VerificationError

_PROGRESS_EVERY = 2000
_TYPES = {"VARCHAR": str, "BLOB": bytes, "BIGINT": int}  # of state tables' columns


Progress = Callable[[int, int], None]


def verify(path: Path, expected: Expected, progress: Progress | None = None) -> Report:
    """Read everything once, in one snapshot. sqlite3 errors become findings."""
    report = Report()
    try:
        with contextlib.closing(_open(path)) as connection:
            connection.execute("BEGIN")  # one snapshot, whatever a running gateway adds
            _Reading(connection, expected, report, progress or _no_progress).run()
    except (sqlite3.Error, VerificationError) as error:
        report.add("database", f"can not be read to its end: {error}")
    except (ValueError, TypeError, OverflowError, LookupError) as error:
        # A value of a type that no writer of ours makes: the reading can not go on behind it.
        report.add("database", f"holds a value that can not be read: {type(error).__name__}")
    return report


class _Reading:
    """One pass. State lives as long as the pass."""

    def __init__(
        self, connection: sqlite3.Connection, expected: Expected, report: Report, progress: Progress
    ) -> None:
        self._sql = connection
        self._expected = expected
        self._report = report
        self._progress = progress
        self._leaves: list[bytes] = []
        self._opened: dict[str, int] = {}
        self._closed: dict[str, int] = {}
        self._segments: dict[str, list[int]] = {}
        self._epochs: dict[int, Header] = {}
        self._policies: dict[str, Header] = {}
        self._erasures: list[Header] = []
        self._retentions: list[Header] = []
        self._rows: dict[tuple[str, str], str] = {}
        self._sealed: dict[int, Header] = {}

    def run(self) -> None:
        self._check_file()  # 1
        self._check_entries()  # 2
        tree = self._check_tree()  # 3
        self._check_checkpoints(tree)  # 4
        self._check_payloads()  # 5
        self._check_epochs()  # 6
        self._check_lives()  # 7
        self._check_state()  # 8

    def _check_file(self) -> None:
        for (problem,) in self._sql.execute("PRAGMA integrity_check"):
            if problem != "ok":
                self._report.add("database", f"integrity check: {problem}")
        found = schema_of(self._sql)
        for name in sorted(found.keys() | self._expected.schema.keys()):
            if found.get(name) != self._expected.schema.get(name):
                self._report.add(name, "the schema differs from the one of this release")
        revisions = [row[0] for row in self._sql.execute("SELECT version_num FROM alembic_version")]
        if revisions != [self._expected.revision]:
            self._report.add("alembic_version", "the schema's revision is not the expected one")

    def _check_entries(self) -> None:
        total = self._sql.execute("SELECT count(*) FROM log_entry").fetchone()[0]
        last_ts = 0
        rows = self._sql.execute(
            "SELECT seq, ts, kind, req, bi_key, bi_user, subj, model, outcome, hdr, leaf "
            "FROM log_entry ORDER BY seq"
        )
        for position, row in enumerate(rows):
            if position % _PROGRESS_EVERY == 0:
                self._progress(position, total)
            *columns, data, leaf = row
            seq = columns[0]
            if seq != position:
                self._report.add("log_entry", "the sequence has a gap or a stranger", seq)
            self._leaves.append(hashlib.sha256(b"\x00" + _bytes(data)).digest())
            if leaf != self._leaves[-1]:
                self._report.add("log_entry", "the leaf is not the header's hash", seq)
            try:
                header = decode_header(_bytes(data))
            except VerificationError as error:
                self._report.add("log_entry", error.message, seq)
                continue
            try:
                if tuple(columns) != _columns_of(header):
                    self._report.add("log_entry", "a column differs from the header", seq)
                self._take(header)
            except (LookupError, ValueError):
                self._report.add("log_entry", "the header lacks a field of its kind", seq)
            if header.log != self._expected.verifier.name:
                self._report.add("log_entry", "the entry belongs to another log", seq)
            if header.ts <= last_ts:
                self._report.add("log_entry", "time runs backwards", seq)
            last_ts = header.ts
        self._progress(total, total)
        self._report.num_entries = len(self._leaves)

    def _take(self, header: Header) -> None:
        """Remember what later steps compare with."""
        if header.ct is not None:
            self._sealed[header.seq] = header
        if (header.ct is None) != (header.subj is None):
            self._report.add("log_entry", "a content and the share that opens it go together", header.seq)
        match Kind(header.kind):
            case Kind.REQUEST_OPENED:
                if header.req is None or header.req in self._opened:
                    self._report.add("log_entry", "an opening without a new request", header.seq)
                self._opened[str(header.req)] = header.seq
            case Kind.REQUEST_SEGMENT:
                self._segments.setdefault(str(header.req), []).append(int(header.pub["index"]))
                self._check_link(header)
                if str(header.req) in self._closed:
                    self._report.add("log_entry", "a segment lies behind its closing", header.seq)
            case Kind.REQUEST_CLOSED:
                if str(header.req) in self._closed:
                    self._report.add("log_entry", "a request is closed twice", header.seq)
                self._closed[str(header.req)] = header.seq
                self._check_link(header)
                if len(self._segments.get(str(header.req), ())) != header.pub["num_segments"]:
                    self._report.add("log_entry", "segments are missing", header.seq)
            case Kind.EPOCH_OPENED:
                self._epochs[int(header.pub["epoch"])] = header
            case Kind.POLICY_PINNED | Kind.POLICY_CHANGED:
                self._policies[str(header.pub["policy_sha256"])] = header
            case Kind.CONTENT_ERASED:
                self._erasures.append(header)
            case Kind.RETENTION_APPLIED:
                self._retentions.append(header)
            case _ if "row_table" in header.pub:
                place = (str(header.pub["row_table"]), str(header.pub["row_id"]))
                self._rows[place] = str(header.pub["row_sha256"])
            case _:
                pass

    def _check_link(self, header: Header) -> None:
        if header.prev is None or self._opened.get(str(header.req)) != header.prev:
            self._report.add("log_entry", "it does not point to its opening", header.seq)

    def _check_tree(self) -> _Tree:
        tree = _Tree(self._leaves)
        self._report.root = tree.root(len(self._leaves)).hex()
        stored = {
            (level, index): value
            for level, index, value in self._sql.execute("SELECT level, idx, h FROM node")
        }
        computed = tree.nodes()
        for place in sorted(
            (place for place in stored.keys() | computed.keys()
             if stored.get(place) != computed.get(place)),
            key=repr,
        ):  # fmt: skip
            self._report.add("node", f"node {place[0]}/{place[1]} is not what the leaves make it")
        return tree

    def _check_checkpoints(self, tree: _Tree) -> None:
        heads = self._sql.execute("SELECT id, size, note FROM tree_head").fetchall()
        if [(one, size) for one, size, _ in heads] != [(1, len(self._leaves))]:
            self._report.add("tree_head", "the newest checkpoint is not for the whole tree")
        for _, size, note in heads:
            self._check_note("tree_head", note, size, tree)
        kept = self._sql.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall()
        for size, note in kept:
            self._check_note("checkpoint", note, size, tree)
        # Each epoch keeps the tree of the commit before it: behind the epoch before, not behind itself.
        begins = sorted(header.seq for header in self._epochs.values())
        if len(kept) != len(begins) or not all(
            before < size <= begin
            for before, (size, _), begin in zip([0, *begins], kept, begins, strict=False)
        ):
            self._report.add("checkpoint", "the kept checkpoints are not those of the epochs")
        if self._expected.head_note == "":
            self._report.add("head", "the head file is missing")
        elif self._expected.head_note is not None:
            self._check_note("head", self._expected.head_note, None, tree)

    def _check_note(self, where: str, note: Any, size: Any, tree: _Tree) -> None:
        try:
            found = checkpoint.open_checkpoint(str(note), self._expected.verifier)
        except VerificationError as error:
            self._report.add(where, error.message)
            return
        if size is not None and found.size != size:
            self._report.add(where, "size and checkpoint differ")
        if found.size > len(self._leaves):
            self._report.add(where, f"the log was longer once: {found.size} entries were signed")
        elif tree.root(found.size) != found.root:
            self._report.add(where, f"the tree of size {found.size} had another root")

    def _check_payloads(self) -> None:
        seen = set()
        for seq, nonce, ciphertext in self._sql.execute("SELECT seq, nonce, ct FROM log_payload"):
            seen.add(seq)
            header = self._sealed.get(seq)
            if header is None or header.ct is None:
                self._report.add("log_payload", "a content without a header", seq)
                continue
            sealed = _bytes(nonce) + _bytes(ciphertext)
            digest = hashlib.sha256(sealed).hexdigest()
            if digest != header.ct.sha256 or len(_bytes(ciphertext)) != header.ct.len:
                self._report.add("log_payload", "the content is not what its header says", seq)
            if len(_bytes(nonce)) != 12:
                self._report.add("log_payload", "the nonce has another length", seq)
        rows = self._sql.execute("SELECT seq, kind, from_ts, before_ts, kept FROM retention").fetchall()
        removed = fsck_policies.Removals(rows, self._retentions, self._report)
        for seq in self._sealed.keys() - seen:
            if not removed.explain(self._sealed[seq]):
                self._report.add("log_payload", "the content is missing", seq)

    def _check_epochs(self) -> None:
        stored = {
            number: rest
            for number, *rest in self._sql.execute(
                "SELECT id, first_seq, policy_sha256, secret_sha256 FROM epoch"
            )
        }
        wraps: dict[int, list[tuple[str, str, bytes]]] = {}
        for number, recipient, suite, wrap in self._sql.execute(
            "SELECT epoch, recipient, suite, wrap FROM epoch_wrap"
        ):
            wraps.setdefault(number, []).append((recipient, suite, _bytes(wrap)))
        for number in sorted(stored.keys() | self._epochs.keys() | wraps.keys(), key=repr):
            header = self._epochs.get(number)
            if header is None or number not in stored:
                self._report.add("epoch", f"epoch {number} has no entry, or no row")
                continue
            pub = header.pub
            if stored[number] != [header.seq, pub["policy_sha256"], pub["secret_sha256"]]:
                self._report.add("epoch", f"epoch {number} is not what its entry says", header.seq)
            if _wraps_digest(wraps.get(number, [])) != pub["wraps_sha256"]:
                self._report.add("epoch_wrap", f"the wraps of epoch {number} differ", header.seq)
            if pub["policy_sha256"] not in self._policies:
                self._report.add("epoch", f"epoch {number} follows an unknown policy", header.seq)
        policies = self._sql.execute("SELECT sha256, text, act FROM key_policy").fetchall()
        fsck_policies.check_policies(policies, list(self._policies.values()), self._report)
        erased = self._sql.execute("SELECT share, seq FROM erasure").fetchall()
        fsck_policies.check_erasures(erased, self._erasures, self._report)
        for seq, header in self._sealed.items():
            if header.epoch not in self._epochs:
                self._report.add("log_entry", "it is sealed in an unknown epoch", seq)

    def _check_lives(self) -> None:
        for request, seq in self._opened.items():
            if request not in self._closed:
                self._report.num_open += 1
                if not self._expected.may_be_open:
                    self._report.add("log_entry", "a request was never closed", seq)
        for request, indexes in self._segments.items():
            if indexes != list(range(len(indexes))):
                self._report.add("log_entry", f"segments of {request} are out of order")

    def _check_state(self) -> None:
        for table, id_column in self._expected.state_tables.items():
            cursor = self._sql.execute(f"SELECT * FROM {table}")  # noqa: S608 - our own name
            names = [column[0] for column in cursor.description]
            types = [
                _TYPES[row[2].partition("(")[0]] for row in self._sql.execute(f"PRAGMA table_info({table})")
            ]
            seen = set()
            for row in cursor:
                values = dict(zip(names, row, strict=True))
                place = (table, str(values[id_column]))
                seen.add(place)
                # SQLite takes text into a column of bytes, and hexadecimal text has the same digest.
                is_typed = all(isinstance(v, t | None) for v, t in zip(row, types, strict=True))
                if not is_typed or self._rows.get(place) != _row_digest(values):
                    self._report.add(table, f"row {place[1]!r} is not on the record as it stands")
            for place in self._rows.keys() - seen:
                if place[0] == table:
                    self._report.add(table, f"row {place[1]!r} is missing")


class _Tree:
    """The Merkle tree over given leaves, level by level: a second implementation of RFC 6962 §2.1."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels: list[list[bytes]] = [list(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            self._levels.append(
                [
                    hashlib.sha256(b"\x01" + below[i] + below[i + 1]).digest()
                    for i in range(0, len(below) - 1, 2)
                ]
            )

    def nodes(self) -> dict[tuple[int, int], bytes]:
        """Every complete subtree."""
        return {
            (level, index): value
            for level, values in enumerate(self._levels)
            for index, value in enumerate(values)
        }

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        if size == 0:
            return hashlib.sha256(b"").digest()
        running = None
        level, rest = 0, size
        while rest:  # from the smallest complete subtree on the right edge to the largest
            if rest & 1:
                here = self._levels[level][rest - 1]
                running = here if running is None else hashlib.sha256(b"\x01" + here + running).digest()
            level, rest = level + 1, rest >> 1
        return running if running is not None else b""


def schema_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Type and name → SQL of everything that somebody defined: a trigger may be named as an index."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {f"{kind} {name}": str(sql) for kind, name, sql in rows}


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _columns_of(header: Header) -> tuple[Any, ...]:
    blinded = {name: bytes.fromhex(value) for name, value in (header.bi or {}).items()}
    return (
        header.seq,
        header.ts,
        header.kind,
        header.req,
        blinded.get("key"),
        blinded.get("user"),
        None if header.subj is None else bytes.fromhex(header.subj),
        header.pub.get("model"),
        header.pub.get("outcome"),
    )


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise VerificationError("a value has another type than its column")
    return value


def _row_digest(row: dict[str, Any]) -> str:
    plain = {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
    try:
        return hashlib.sha256(rfc8785.dumps(plain)).hexdigest()
    except rfc8785.CanonicalizationError:
        return ""


def _wraps_digest(wraps: list[tuple[str, str, bytes]]) -> str:
    digest = hashlib.sha256()
    for recipient, suite, wrap in sorted(wraps, key=lambda each: (str(each[0]), str(each[1]))):
        digest.update(f"{recipient}\n{suite}\n{len(wrap)}\n".encode() + wrap)
    return digest.hexdigest()


def _no_progress(done: int, total: int) -> None:
    del done, total
