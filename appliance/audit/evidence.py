"""Evidence: files that prove by themselves what is on the record, made and checked. Pure.

Chosen records are each here with its proof, and with an auditor's help with its own key and content, or
with a content of which parts are withheld (redaction.py). A range holds every header between two places and
the tiles that prove that there are no others. A sealed case holds more (casefile.py). All carry the recipe to
check them without us, and a list of digests that the log's key signed. Where an auditor opened a sealed case
on another machine, that list is the case's (`CASE.SHA256SUMS`): what was added proves itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from appliance.audit import checkpoint, cosignature, proof, redaction, tiles
from appliance.audit.checkpoint import Signer, Verifier
from appliance.audit.header import Header, decode_header
from appliance.audit.merkle import leaf_hash
from appliance.audit.proof import Proof
from appliance.audit.query import Disclosed
from appliance.audit.recipients import Identity, Recipient
from appliance.audit.sealing import NONCE_BYTES, Place, RecordKey, Sealed
from appliance.errors import VerificationError

SUMS, SUMS_NOTE, POLICY, CHECKPOINT, HEADERS, RANGE = (
    "SHA256SUMS", "SHA256SUMS.note", "policy", "checkpoint", "headers.jsonl", "range",
)  # fmt: skip
CASE, CASE_SUMS, CASE_NOTE = "case.json", "CASE.SHA256SUMS", "CASE.SHA256SUMS.note"
REDACTED: Final = ".redacted.json"
VOUCHED: Final = "SHA256SUMS.auditors"  # auditors' signatures over the list, where the log's key is not
RECIPE_FILES: Final = frozenset({"README.txt", "verify.sh"})
_BESIDE: Final = RECIPE_FILES | {SUMS, SUMS_NOTE, CASE_SUMS, CASE_NOTE, VOUCHED, POLICY}
PROOF_FILES: Final = (".json", ".tlog-proof")
SEALED_FILES: Final = (*PROOF_FILES, ".ct")
_OPENS: Final = (".key", ".plain.json")  # what proves itself: the header commits to it
_RECORD_FILES: Final = (*SEALED_FILES, *_OPENS, REDACTED)
_EPOCH = re.compile(r"epoch-(0|[1-9][0-9]{0,15})\.(json|tlog-proof)", re.ASCII)
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([!-~]{1,200})", re.ASCII)
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
    redacted: str | None = None  # JSON with parts withheld: vouched for, and proved by nothing


@dataclass(frozen=True, slots=True)
class Report:
    """What an evidence file shows. For a range: every entry in [begin, end) and no other."""

    origin: str
    records: tuple[Checked, ...]
    begin: int | None = None
    end: int | None = None
    tree_size: int = 0
    vouched_by: tuple[str, ...] = ()  # whose word stands for what is redacted
    is_opened_elsewhere: bool = False  # from a sealed case: keys and contents stand in no list that is signed


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
            files |= opened(stem, item.key, item.sealed, content)
    return files


def opened(stem: str, key: RecordKey, sealed: Sealed, content: Mapping[str, object]) -> dict[str, bytes]:
    """A record's own key and its content, as files."""
    told = {
        "aad": key.place.aad().decode(),
        "key": key.key.hex(),
        "nonce": sealed.nonce.hex(),
        "prk": key.prk.hex(),
    }
    return {f"{stem}.plain.json": _json(content), f"{stem}.key": _json(told)}


def policy_of(log: Verifier, witnesses: Sequence[Verifier]) -> str:
    """C2SP tlog-policy: the log, its witnesses, and that any one of them is enough."""
    names = [f"w{number}" for number in range(1, len(witnesses) + 1)]
    lines = [f"log {log.text()}"]
    lines += [f"witness {name} {each.text()}" for name, each in zip(names, witnesses, strict=True)]
    lines += [f"group witnesses any {' '.join(names)}", "quorum witnesses"] if names else ["quorum none"]
    return "\n".join(lines) + "\n"


def log_of(files: Mapping[str, bytes]) -> Verifier:
    """The log's key as evidence itself names it: worth nothing until it is compared with another copy."""
    line = _text(_need(files, POLICY)).partition("\n")[0]
    return Verifier.parse(line.removeprefix("log "))


def signed(files: Mapping[str, bytes], recipe: Mapping[str, bytes], log: Signer) -> dict[str, bytes]:
    """The files with their recipe, the list of their digests, and the log's signature over that list."""
    whole = {**files, **recipe}
    return whole | signed_list(sums_of({name: _digest(data) for name, data in whole.items()}), log)


def listed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with a list of their digests that nobody signed: `sha256sum -c` wants one."""
    return {**files, SUMS: sums_of({name: _digest(data) for name, data in files.items()})}


def sums_of(digests: Mapping[str, str]) -> bytes:
    """The list of digests, as coreutils' sha256sum writes it."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def signed_list(sums: bytes, log: Signer) -> dict[str, bytes]:
    """A list of digests and the log's signature over it, under a name of its own."""
    origin = log.verifier.name
    note = log.under(_MANIFEST_NAME.format(origin=origin)).sign(_manifest(origin, sums))
    return {SUMS: sums, SUMS_NOTE: note.encode()}


def vouched(files: Mapping[str, bytes], origin: str, identities: Sequence[Identity]) -> dict[str, bytes]:
    """The files with these auditors' signatures over the list of their digests."""
    text = _manifest(origin, files[SUMS])
    lines = "".join(f"— {each.name} {checkpoint.encode(each.sign(text.encode()))}\n" for each in identities)
    return {**files, VOUCHED: f"{text}\n{lines}".encode()}


def check(
    files: Mapping[str, bytes],
    log: Verifier,
    witnesses: Sequence[Verifier] = (),
    auditors: Sequence[Recipient] = (),
) -> Report:
    """What the files show, to somebody who trusts the log's key. VerificationError where anything fails.

    With witnesses, every checkpoint must be cosigned by one of them at least; with auditors, what is redacted
    elsewhere than on the appliance must be signed by each.
    """
    said = _check_sums(files, log, auditors)
    if HEADERS in files:
        return _check_range(files, log, witnesses)
    names = [match for match in map(_RECORD.fullmatch, sorted(files)) if match]
    if not names:
        raise VerificationError("there is no record in this evidence")
    expected = {f"record-{match[1]}{end}" for match in names for end in _RECORD_FILES}
    if CASE in files:
        expected |= {CASE, *filter(_EPOCH.fullmatch, files)}
    _check_names(files, expected)
    records = sorted((_check_record(files, int(match[1]), log, witnesses) for match in names),
                     key=lambda each: each.header.seq)  # fmt: skip
    return Report(
        log.name,
        tuple(records),
        tree_size=records[-1].tree_size,
        vouched_by=said,
        is_opened_elsewhere=CASE_SUMS in files,
    )


def _check_sums(files: Mapping[str, bytes], log: Verifier, auditors: Sequence[Recipient]) -> tuple[str, ...]:
    """Whose word stands for the list of digests."""
    rest = {name: data for name, data in files.items() if name not in {SUMS, SUMS_NOTE, VOUCHED}}
    digests = {name: _digest(data) for name, data in rest.items()}
    if _need(files, SUMS) != sums_of(digests):
        raise VerificationError("SHA256SUMS does not fit the files: one was changed, added or dropped")
    if CASE_SUMS not in files:
        _check_list(files[SUMS], _need(files, SUMS_NOTE), log)
        if VOUCHED in files:
            raise VerificationError("one list of digests is signed by the log, or by auditors")
        return (log.name,)
    if SUMS_NOTE in files or CASE in files:
        raise VerificationError("an opened case has one signed list, and no shares")
    _check_list(files[CASE_SUMS], _need(files, CASE_NOTE), log)
    lines = _text(files[CASE_SUMS]).split("\n")[:-1]
    of_case = {match[2]: match[1] for match in map(_SUM_LINE.fullmatch, lines) if match}
    for name, digest in digests.items():
        is_vouched = VOUCHED in files and _is_record_file(name, (REDACTED,))
        proves_itself = _is_record_file(name, _OPENS) or name in {CASE_SUMS, CASE_NOTE}
        if not (proves_itself or is_vouched) and of_case.get(name) != digest:
            raise VerificationError(f"{name} is not the one that was in the case")
    return _check_vouched(files, log.name, auditors)


def _check_vouched(files: Mapping[str, bytes], origin: str, auditors: Sequence[Recipient]) -> tuple[str, ...]:
    if VOUCHED not in files:
        if auditors:
            raise VerificationError("no auditor's signature is here")
        return ()
    text, _, lines = _text(files[VOUCHED]).partition("\n\n")
    text += "\n"
    claims = [each.split(" ") for each in lines.split("\n")[:-1]]
    if text != _manifest(origin, files[SUMS]) or not claims or any(len(each) != 3 for each in claims):
        raise VerificationError("the auditors' signatures are over another list of digests")
    for auditor in auditors:
        said = [checkpoint.decode(each[2]) for each in claims if each[:2] == ["—", auditor.name]]
        if not any(auditor.has_signed(text.encode(), each) for each in said):
            raise VerificationError(f"{auditor.name} has not signed this list of digests")
    return tuple(each.name for each in auditors)


def _check_list(sums: bytes, note: bytes, log: Verifier) -> None:
    signer = Verifier(_MANIFEST_NAME.format(origin=log.name), log.public, log.algorithm)
    if checkpoint.open_note(_text(note), signer) != _manifest(log.name, sums):
        raise VerificationError("the signature is over another list of digests")


def _is_record_file(name: str, ends: tuple[str, ...]) -> bool:
    return any(name.endswith(end) and _RECORD.fullmatch(f"{name.removesuffix(end)}.json") for end in ends)


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
    redacted = files.get(stem + REDACTED)
    if redacted is not None:
        if header.ct is None or content is not None:
            raise VerificationError(f"{stem} is disclosed and withheld at once")
        redaction.check(redacted, header.seq, header.ct.sha256)
    return Checked(header, head.size, ciphertext is not None, content, said,
                   None if redacted is None else redacted.decode())  # fmt: skip


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


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"
