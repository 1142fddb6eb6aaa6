"""`appliance audit export` and `check-evidence`: what leaves for people who trust nobody here."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from appliance import db, durable
from appliance.audit import evidence, files, proving, query, tiles, witness_keys
from appliance.audit.checkpoint import Verifier
from appliance.audit.entry import Kind
from appliance.cli.base import (
    FILE,
    database_of,
    home_option,
    json_option,
    on_one_line,
    require_new,
    show,
    when,
)
from appliance.cli.reading import identities_of, identity_option, on_record
from appliance.cli.witness import read_text
from appliance.config import Home
from appliance.errors import RequestError, VerificationError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same evidence is the same file
_MAX_FILES = 100_000
# What zipfile raises for archives that are cut off, damaged, encrypted or compressed in unknown ways.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError, ValueError,
)  # fmt: skip


@click.command(name="export")
@click.argument("seqs", metavar="SEQ...", nargs=-1, type=click.IntRange(0))
@click.option(
    "--range", "span", nargs=2, type=click.IntRange(0), metavar="A B", help="Every header in [A, B)."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="case.zip, or with --range a folder."
)
@identity_option
@home_option
@json_option
def export(
    seqs: tuple[int, ...],
    span: tuple[int, int] | None,
    out: Path,
    identity_paths: tuple[Path, ...],
    home: Home,
    *,
    as_json: bool,
) -> None:
    """Hand out records with their proofs; with --identity their contents too. On the record first.

    \b
    Examples: appliance audit export 12 13 --out case.zip --identity alice.identity
              appliance audit export --range 0 500 --out folder
    Without --identity contents stay sealed. --range proves that nothing between A and B was left out.
    """
    if bool(seqs) == bool(span):
        raise RequestError("name entries, or a range", code="invalid_export")
    require_new(out)
    if span:
        found, size = _range(home, *span)
        _write_folder(out, found)
    else:
        found, size = _case(home, sorted(set(seqs)), identity_paths)
        _write_zip(out, found)
    result = {"file": str(out), "num_files": len(found), "tree_size": size}
    show(result, [f"wrote {out}: {len(found)} files, proved in the tree of {size}"], as_json=as_json)


@click.command(name="check-evidence")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--vkey", required=True, type=FILE, help="The log's public key, from somebody you trust.")
@click.option("--witness", type=FILE, help="A witness's public file: then its cosignature is required.")
@json_option
def check_evidence(path: Path, vkey: Path, witness: Path | None, *, as_json: bool) -> None:
    """Check an evidence file or folder. Needs no home, no database, no network.

    \b
    Example: appliance audit check-evidence case.zip --vkey log.vkey
    """
    log = Verifier.parse(read_text(vkey).rstrip("\n"))
    witnesses = witness_keys.parse_public(read_text(witness)) if witness else []
    report = evidence.check(_read_folder(path) if path.is_dir() else _read_zip(path), log, witnesses)
    told: list[dict[str, Any]] = [
        {
            "seq": each.header.seq,
            "ts": each.header.ts,
            "kind": each.header.kind,
            "public": each.header.pub,
            "tree_size": each.tree_size,
            "witnesses": list(each.witnesses),
            "has_ciphertext": each.has_ciphertext,
            "content": each.content,
        }
        for each in report.records
    ]
    result = {"origin": report.origin, "begin": report.begin, "end": report.end, "records": told}
    lines = [_line(each) for each in told]
    if report.begin is not None:
        lines.append(
            f"complete: these are all entries from {report.begin} to before {report.end}, "
            f"in the log of {report.tree_size}"
        )
    else:
        lines.append("each of these is in the log as it is; that there are no others is not shown")
    show(result, lines, as_json=as_json)


def _line(told: dict[str, Any]) -> str:
    seen = f", seen by {', '.join(told['witnesses'])}" if told["witnesses"] else ""
    line = f"ok: {told['seq']}  {when(told['ts'])}  {told['kind']}  in the tree of {told['tree_size']}{seen}"
    return line + (f"\n   {on_one_line(told['content'].rstrip())}" if told["content"] else "")


def _case(home: Home, seqs: list[int], identity_paths: tuple[Path, ...]) -> tuple[dict[str, bytes], int]:
    identities = identities_of(home, identity_paths) if identity_paths else []
    with db.reading(database_of(home)) as connection:
        chosen = [each.record for each in query.disclose(connection, seqs)]
    needed = query.shares_of(chosen) if identities else []
    public: dict[str, str | int] = {"num_records": len(seqs)}
    reader = {
        "seqs": seqs,
        "readers": [each.recipient.fingerprint for each in identities],
        "names": [each.name for each in identities],
    }
    shares = on_record(home, None, Kind.AUDIT_EXPORTED, public, reader, needed)
    log = files.read_verifier(home)
    with db.reading(database_of(home)) as connection:
        note = proving.cosigned(connection, above=seqs[-1]) or proving.newest(connection)
        items = [
            (each, proving.prove(connection, each.record.seq, note))
            for each in query.disclose(connection, seqs, identities, shares)
        ]
        policy = evidence.policy_of(log, list(proving.witnesses(connection).values()))
    made = evidence.case(items, policy)
    return _signed(home, log, made), proving.head_of(note).size


def _range(home: Home, begin: int, end: int) -> tuple[dict[str, bytes], int]:
    log = files.read_verifier(home)
    with db.reading(database_of(home)) as connection:
        if not begin < end <= proving.head_of(proving.newest(connection)).size:
            raise RequestError("the range lies outside the log", code="invalid_export")
    public: dict[str, str | int] = {"begin": begin, "end": end}
    on_record(home, None, Kind.AUDIT_EXPORTED, public, {})
    with db.reading(database_of(home)) as connection:
        note = proving.cosigned(connection, above=end - 1) or proving.newest(connection)
        size = proving.head_of(note).size
        read = proving.reader(connection)
        found = {tile: tiles.encode(tile, read) for tile in tiles.tiles_of_range(size, begin, end)}
        headers = [proving.header_of(connection, seq) for seq in range(begin, end)]
        policy = evidence.policy_of(log, list(proving.witnesses(connection).values()))
    return _signed(home, log, evidence.whole_range(begin, headers, note, found, policy)), size


def _signed(home: Home, log: Verifier, made: dict[str, bytes]) -> dict[str, bytes]:
    recipe = {path.name: path.read_bytes() for path in sorted(proving.RECIPE.parent.iterdir())}
    key = files.load_keys(home, log.name).signer
    return evidence.signed(made, recipe, key)


def _write_zip(out: Path, found: Mapping[str, bytes]) -> None:
    """The same files make the same bytes: stored, in order, without a date."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(found):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # Unix, wherever it runs
            info.external_attr = 0o644 << 16
            archive.writestr(info, found[name])
    durable.write_file(out, whole.getvalue())


def _write_folder(out: Path, found: Mapping[str, bytes]) -> None:
    durable.make_private_dir(out)
    for name, data in found.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_file(path, data)


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            if len(set(names)) != len(names) or len(names) > _MAX_FILES:
                raise VerificationError("the archive names a file twice, or too many")
            if sum(info.file_size for info in infos) > evidence.MAX_BYTES:
                raise VerificationError("the archive is too large")
            return {info.filename: archive.read(info) for info in infos}
    except _UNREADABLE as error:
        raise VerificationError("the archive can not be read") from error


def _read_folder(path: Path) -> dict[str, bytes]:
    found = [each for each in sorted(path.rglob("*")) if each.is_file() and not each.is_symlink()]
    if len(found) > _MAX_FILES or sum(each.stat().st_size for each in found) > evidence.MAX_BYTES:
        raise VerificationError("the folder is too large")
    return {each.relative_to(path).as_posix(): each.read_bytes() for each in found}
