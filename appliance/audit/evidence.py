"""Evidence: files that prove by themselves what is on the record, made and checked. Pure.

Two kinds. A case holds chosen records, each with its proof, and with an auditor's help its own key and
content. A range holds every header between two places and the tiles that prove that there are no others.
Both carry the recipe to check them without us, and a list of digests that the log's key signed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from appliance.audit import checkpoint, cosignature, proof, tiles
from appliance.audit.checkpoint import Signer, Verifier
from appliance.audit.header import Header, decode_header
from appliance.audit.merkle import leaf_hash
from appliance.audit.proof import Proof
from appliance.audit.query import Disclosed
from appliance.audit.sealing import NONCE_BYTES, Place, RecordKey, Sealed
from appliance.audit.tiles import Tile
from appliance.errors import VerificationError

MAX_BYTES: Final = 1 << 30
SUMS, SUMS_NOTE, POLICY, CHECKPOINT, HEADERS, RANGE = (
    "SHA256SUMS", "SHA256SUMS.note", "policy", "checkpoint", "headers.jsonl", "range",
)  # fmt: skip
_BESIDE: Final = frozenset({SUMS, SUMS_NOTE, POLICY, "README.txt", "verify.sh"})
_RECORD_FILES: Final = (".json", ".tlog-proof", ".ct", ".key", ".plain.json")
_RECORD = re.compile(r"record-(0|[1-9][0-9]{0,15})\.json", re.ASCII)
_MANIFEST_NAME = "{origin}/evidence"  # another name than the log's: never taken for a checkpoint's signature


@dataclass(frozen=True, slots=True)
class Checked:
    """What held of one record."""

    header: Header
    tree_size: int
    has_ciphertext: bool
    content: str | None  # JSON, where the record's key is here
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What an evidence file shows. For a range: every entry in [begin, end) and no other."""

    origin: str
    records: tuple[Checked, ...]
    begin: int | None = None
    end: int | None = None
    tree_size: int = 0


def case(items: Iterable[tuple[Disclosed, Proof]], policy: str) -> dict[str, bytes]:
    """The files of chosen records."""
    files = {POLICY: policy.encode()}
    for item, proved in items:
        stem = f"record-{item.record.seq}"
        files[f"{stem}.json"] = item.data
        files[f"{stem}.tlog-proof"] = proved.encode()
        if item.sealed is None:
            continue
        files[f"{stem}.ct"] = item.sealed.nonce + item.sealed.ciphertext
        if item.key is not None:
            content = item.key.open(item.sealed, key_commitment=item.sealed.key_commitment.hex())
            files[f"{stem}.plain.json"] = _json(content)
            files[f"{stem}.key"] = _json(
                {
                    "aad": item.key.place.aad().decode(),
                    "key": item.key.key.hex(),
                    "nonce": item.sealed.nonce.hex(),
                    "prk": item.key.prk.hex(),
                }
            )
    return files


def whole_range(
    begin: int, headers: Sequence[bytes], note: str, found: Mapping[Tile, bytes], policy: str
) -> dict[str, bytes]:
    """The files of every entry from `begin` on, with the tiles up to the checkpoint's root."""
    files = {POLICY: policy.encode(), CHECKPOINT: note.encode()}
    files[HEADERS] = b"".join(each + b"\n" for each in headers)
    files[RANGE] = f"{begin} {begin + len(headers)}\n".encode()
    size = checkpoint.parse(checkpoint.read_note(note).text).size
    return files | {tile.path: data for tile, data in found.items()} | _bundles(size, begin, headers)


def policy_of(log: Verifier, witnesses: Sequence[Verifier]) -> str:
    """C2SP tlog-policy: the log, its witnesses, and that any one of them is enough."""
    names = [f"w{number}" for number in range(1, len(witnesses) + 1)]
    lines = [f"log {log.text()}"]
    lines += [f"witness {name} {each.text()}" for name, each in zip(names, witnesses, strict=True)]
    lines += [f"group witnesses any {' '.join(names)}", "quorum witnesses"] if names else ["quorum none"]
    return "\n".join(lines) + "\n"


def signed(files: Mapping[str, bytes], recipe: Mapping[str, bytes], log: Signer) -> dict[str, bytes]:
    """The files with their recipe, the list of their digests, and the log's signature over that list."""
    whole = {**files, **recipe}
    sums = "".join(f"{hashlib.sha256(whole[name]).hexdigest()}  {name}\n" for name in sorted(whole)).encode()
    origin = log.verifier.name
    note = log.under(_MANIFEST_NAME.format(origin=origin)).sign(_manifest(origin, sums))
    return whole | {SUMS: sums, SUMS_NOTE: note.encode()}


def check(files: Mapping[str, bytes], log: Verifier, witnesses: Sequence[Verifier] = ()) -> Report:
    """What the files show, to somebody who trusts the log's key. VerificationError where anything fails.

    With witnesses, every checkpoint must be cosigned by one of them at least.
    """
    _check_sums(files, log)
    if HEADERS in files:
        return _check_range(files, log, witnesses)
    names = [match for match in map(_RECORD.fullmatch, sorted(files)) if match]
    if not names:
        raise VerificationError("there is no record in this evidence")
    _check_names(files, {f"record-{match[1]}{end}" for match in names for end in _RECORD_FILES})
    records = sorted((_check_record(files, int(match[1]), log, witnesses) for match in names),
                     key=lambda each: each.header.seq)  # fmt: skip
    return Report(log.name, tuple(records), tree_size=records[-1].tree_size)


def _check_sums(files: Mapping[str, bytes], log: Verifier) -> None:
    for name in (SUMS, SUMS_NOTE):
        if name not in files:
            raise VerificationError(f"{name} is missing")
    rest = {name: data for name, data in files.items() if name not in {SUMS, SUMS_NOTE}}
    sums = "".join(f"{hashlib.sha256(rest[name]).hexdigest()}  {name}\n" for name in sorted(rest)).encode()
    if sums != files[SUMS]:
        raise VerificationError("SHA256SUMS does not fit the files: one was changed, added or dropped")
    signer = Verifier(_MANIFEST_NAME.format(origin=log.name), log.public, log.algorithm)
    if checkpoint.open_note(_text(files[SUMS_NOTE]), signer) != _manifest(log.name, sums):
        raise VerificationError("the signature is over another list of digests")


def _check_names(files: Mapping[str, bytes], expected: AbstractSet[str]) -> None:
    """A file that nothing speaks for could say anything."""
    if strangers := files.keys() - expected - _BESIDE:
        raise VerificationError(f"there are {len(strangers)} files that no evidence has")


def _check_record(
    files: Mapping[str, bytes], seq: int, log: Verifier, witnesses: Sequence[Verifier]
) -> Checked:
    stem = f"record-{seq}"
    data = files[f"{stem}.json"]
    header = decode_header(data)
    proved = proof.parse(_need(files, f"{stem}.tlog-proof"))
    if (header.log, header.seq, proved.index) != (log.name, seq, seq):
        raise VerificationError(f"{stem} is of another log or another place")
    head = proof.verify(proved, leaf_hash(data), log)
    said = _cosigned(proved.note, witnesses)
    content = None
    ciphertext = files.get(f"{stem}.ct")
    if ciphertext is not None:
        if header.ct is None or hashlib.sha256(ciphertext).hexdigest() != header.ct.sha256:
            raise VerificationError(f"{stem}.ct is not the content that the header names")
        if f"{stem}.key" in files:
            content = _opened(
                header, ciphertext, files[f"{stem}.key"], _need(files, f"{stem}.plain.json"), stem
            )
        elif f"{stem}.plain.json" in files:
            raise VerificationError(f"{stem}.plain.json is here without the key that opens it")
    elif f"{stem}.key" in files or f"{stem}.plain.json" in files:
        raise VerificationError(f"{stem} is disclosed without its ciphertext")
    return Checked(header, head.size, ciphertext is not None, content, said)


def _opened(header: Header, ciphertext: bytes, key: bytes, plain: bytes, stem: str) -> str:
    try:
        given = json.loads(key)
        prk = bytes.fromhex(given["prk"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VerificationError(f"{stem}.key is malformed") from error
    if header.ct is None or header.epoch is None or header.step is None:
        raise VerificationError(f"{stem} has no sealed content")
    place = Place(header.log, header.seq, header.epoch, header.step, header.kind)
    opens = RecordKey(prk, place)
    nonce = ciphertext[:NONCE_BYTES]
    told = {"aad": place.aad().decode(), "key": opens.key.hex(), "nonce": nonce.hex(), "prk": prk.hex()}
    if key != _json(told):
        raise VerificationError(f"{stem}.key is not this record's")
    sealed = Sealed(nonce, ciphertext[NONCE_BYTES:], bytes.fromhex(header.ct.kc))
    if plain != _json(opens.open(sealed, key_commitment=header.ct.kc)):
        raise VerificationError(f"{stem}.plain.json is not what the ciphertext opens to")
    return plain.decode()


def _check_range(files: Mapping[str, bytes], log: Verifier, witnesses: Sequence[Verifier]) -> Report:
    note = _text(_need(files, CHECKPOINT))
    head = checkpoint.open_checkpoint(note, log)
    said = _cosigned(note, witnesses)
    lines = files[HEADERS].split(b"\n")
    if lines.pop() != b"":
        raise VerificationError("headers.jsonl is cut off")
    said_range = _text(_need(files, RANGE))
    begin = checkpoint.number(said_range.partition(" ")[0])
    if said_range != f"{begin} {begin + len(lines)}\n":
        raise VerificationError("headers.jsonl is not as long as the range")
    wanted = tiles.tiles_of_range(head.size, begin, begin + len(lines))
    found = {tile: _need(files, tile.path) for tile in wanted}
    bundles = _bundles(head.size, begin, lines)
    _check_names(files, bundles.keys() | {tile.path for tile in wanted} | {CHECKPOINT, HEADERS, RANGE})
    if any(_need(files, name) != data for name, data in bundles.items()):
        raise VerificationError("an entry bundle does not hold the headers of its range")
    tiles.check(head.size, head.root, found, begin, lines)
    headers = [decode_header(line) for line in lines]
    if [each.seq for each in headers] != list(range(begin, begin + len(lines))):
        raise VerificationError("headers are not in their places")
    records = tuple(
        Checked(each, head.size, has_ciphertext=False, content=None, witnesses=said) for each in headers
    )
    return Report(log.name, records, begin, begin + len(lines), head.size)


def _bundles(size: int, begin: int, headers: Sequence[bytes]) -> dict[str, bytes]:
    """Entry bundles as far as the range holds whole ones: a range of the whole log is a tlog-tiles log."""
    return {
        tile.entries_path: tiles.encode_entries(headers[tile.index * tiles.WIDTH - begin :][: tile.width])
        for tile in tiles.bundles_of_range(size, begin, begin + len(headers))
    }


def _cosigned(note: str, witnesses: Sequence[Verifier]) -> tuple[str, ...]:
    said = tuple(sorted({each.witness.name for each in cosignature.verified(note, witnesses)}))
    if witnesses and not said:
        raise VerificationError("no witness of yours cosigned this checkpoint")
    return said


def _manifest(origin: str, sums: bytes) -> str:
    return f"{_MANIFEST_NAME.format(origin=origin)}\nsha256 {hashlib.sha256(sums).hexdigest()} SHA256SUMS\n"


def _need(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise VerificationError(f"{name} is missing")
    return files[name]


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise VerificationError("a file is not text in UTF-8") from error


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"
