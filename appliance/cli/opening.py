"""`appliance audit open`: a sealed case, read on an auditor's own machine, with nothing of an appliance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from appliance import durable
from appliance.audit import archive, casefile, evidence, witness_keys
from appliance.audit.casefile import Unsealed
from appliance.audit.checkpoint import Verifier
from appliance.audit.contents import STREAMED, pieces
from appliance.audit.kinds import Kind
from appliance.audit.merkle import leaf_hash
from appliance.audit.query import Opened, Record
from appliance.audit.recipients import parse_identity
from appliance.audit.rows import plain
from appliance.cli.base import FILE, NEW_FILE, json_option, on_one_line, require_new, show, warn
from appliance.cli.telling import told
from appliance.cli.withholding import redaction_of, withholding_options
from appliance.cli.witness import read_text
from appliance.errors import RequestError


@click.command(name="open")
@click.argument("path", metavar="CASE", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--identity", "identity_paths", multiple=True, required=True, type=FILE,
    help="Your identity file; two where the key policy says 2-of-n.",
)  # fmt: skip
@click.option("--vkey", type=FILE, help="The log's public key, from somebody you trust.")
@click.option("--witness", type=FILE, help="A witness's public file: then its cosignature is required.")
@click.option("--text", default="", help="Only exchanges in which this stands, in small or capital letters.")
@click.option("--out", type=NEW_FILE, help="Write evidence: what is shown, each record with its own key.")
@withholding_options
@json_option
def open_(
    path: Path,
    identity_paths: tuple[Path, ...],
    vkey: Path | None,
    witness: Path | None,
    text: str,
    out: Path | None,
    parts: tuple[str, ...],
    words: Path | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """Open a sealed case with your identity, on your own machine. Everything in it is checked first.

    \b
    Examples: appliance audit open case.zip --identity alice.identity --vkey log.vkey
              appliance audit open case.zip --identity alice.identity --vkey log.vkey \\
                  --text "parking" --out evidence.zip
    Needs no home, no database, no network. The appliance has the export on its record, with its purpose;
    what you look at here it can not know.
    """
    redact = redaction_of(parts, words, reason)
    if redact is not None and out is None:
        raise RequestError("--redact is about the evidence that --out writes", code="invalid_redaction")
    if out is not None:
        require_new(out)
    files = archive.read(path)
    log = Verifier.parse(read_text(vkey).rstrip("\n")) if vkey else evidence.log_of(files)
    witnesses = witness_keys.parse_public(read_text(witness)) if witness else []
    identities = [parse_identity(read_text(each)) for each in identity_paths]
    _, case = casefile.check(files, log, witnesses)
    opened = casefile.open_case(files, log, identities, witnesses)
    shown = containing(opened, text) if text else opened
    if out is not None:
        if not shown:
            raise RequestError("this text stands in none of the contents", code="not_found")
        made = (
            casefile.disclosed(files, shown)
            if redact is None
            else casefile.redacted(files, shown, redact, identities)
        )
        durable.write_file(out, archive.pack(made))
    if vkey is None:
        warn("no --vkey: that this is your log, and not somebody's copy of its name, was not checked")
    result = {
        "origin": log.name,
        "vkey_given": vkey is not None,
        "purpose": case.why.purpose,
        "case": case.why.case,
        "num_records": len(opened),
        "out": str(out) if out else None,
        "records": [_json(each) for each in shown],
    }
    show(result, _lines(result, shown, text), as_json=as_json)


def containing(opened: Sequence[Unsealed], text: str) -> list[Unsealed]:
    """The exchanges in which a text stands; of a stream also where it lies across two pieces."""
    wanted = text.casefold()
    said: dict[tuple[object, int | None], str] = {}  # by exchange and choice; of everything else: None
    for each in opened:
        for choice, words in _words(each.content or {}):
            said[_exchange(each), choice] = said.get((_exchange(each), choice), "") + words
    found = {which for (which, _), words in said.items() if wanted in words.casefold()}
    return [each for each in opened if _exchange(each) in found]


def _exchange(each: Unsealed) -> object:
    return each.checked.header.req or each.checked.header.seq


def _words(content: dict[str, Any]) -> Iterator[tuple[int | None, str]]:
    """A content's texts; pieces of an answer can be joined by its choice, everything else stands apart."""
    streamed = list(pieces(content))
    yield from streamed
    if rest := {name: value for name, value in content.items() if name not in STREAMED}:
        yield None, "\n" + json.dumps(rest, ensure_ascii=False) + "\n"


def _json(each: Unsealed) -> dict[str, Any]:
    return {
        **plain(_record(each)),
        "content": each.content,
        "erased_by": each.erased_by,
        "removed": each.is_removed,
        "tree_size": each.checked.tree_size,
        "witnesses": list(each.checked.witnesses),
    }


def _lines(result: dict[str, Any], shown: Sequence[Unsealed], text: str) -> list[str]:
    of_case = f", case {result['case']}" if result["case"] else ""
    what = f"{result['origin']}: {result['num_records']} records{of_case}, for: {result['purpose']}"
    lines = [on_one_line(what)]
    opened = [Opened(_record(each), each.content, each.erased_by) for each in shown]
    lines += told(opened, {each.checked.header.seq: (each.checked.tree_size, True) for each in shown})
    removed = [str(each.checked.header.seq) for each in shown if each.is_removed]
    if removed:
        lines.append(f"── contents whose time was over, and which nobody has any more: {', '.join(removed)}")
    if text:
        lines.append(f"── found in {len({_exchange(each) for each in shown})} exchanges")
    if result["out"]:
        lines.append(f"wrote {result['out']}")
    return lines


def _record(each: Unsealed) -> Record:
    header = each.checked.header
    return Record(
        header.seq, header.ts, Kind(header.kind), header.req, header.pub, leaf_hash(header.encode()), header
    )
