"""`appliance audit export` and `check-evidence`: what leaves for people who trust nobody here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from appliance import durable
from appliance.audit import archive, casefile, evidence, witness_keys
from appliance.audit.checkpoint import Verifier
from appliance.audit.recipients import parse_recipient
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
from appliance.cli.reading import identities_of, identity_option, recorder_of, somebody_here, why_options
from appliance.cli.withholding import redaction_of, withholding_options
from appliance.cli.witness import read_text
from appliance.config import Home
from appliance.core import Caller
from appliance.errors import RequestError
from appliance.exporting import Exporting, Form
from appliance.why import Why


@click.command(name="export")
@click.argument("seqs", metavar="SEQ...", nargs=-1, type=click.IntRange(0))
@click.option(
    "--range", "span", nargs=2, type=click.IntRange(0), metavar="A B", help="Every header in [A, B)."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="case.zip, or with --range a folder."
)
@click.option("--sealed", is_flag=True, help="With what an auditor opens on another machine: audit open.")
@why_options(required=True)
@identity_option
@withholding_options
@home_option
@json_option
def export(
    seqs: tuple[int, ...],
    span: tuple[int, int] | None,
    out: Path,
    purpose: str,
    case: str,
    identity_paths: tuple[Path, ...],
    parts: tuple[str, ...],
    words: Path | None,
    reason: str,
    home: Home,
    *,
    sealed: bool,
    as_json: bool,
) -> None:
    """Hand out records with their proofs, on the record first. With --identity their contents too, with
    --sealed what an auditor's identity opens elsewhere, and without either they open for nobody.

    \b
    Examples: appliance audit export 12 13 --purpose "court order" --case 2026-17 \\
                  --out case.zip --identity alice.identity
              appliance audit export 12 13 --purpose "court order" --sealed --out case.zip
              appliance audit export 12 --purpose "press" --identity alice.identity \\
                  --redact who --redact address --reason "privacy" --out press.zip
              appliance audit export --range 0 500 --purpose "yearly review" --out folder
    --range proves that nothing between A and B was left out.
    """
    if bool(seqs) == bool(span):
        raise RequestError("name entries, or a range", code="invalid_export")
    if sealed and (span or identity_paths):
        raise RequestError("--sealed is for entries, and needs no identity", code="invalid_export")
    require_new(out)
    why, who = Why(purpose, case), somebody_here()
    exporting = Exporting(home=home, database=database_of(home), record=recorder_of(home))
    if span:
        begin, end = span
        ready = asyncio.run(exporting.export_range(who, Caller(""), why, begin=begin, end=end))
        form, count, size = Form.RANGE, archive.write_folder(out, ready.files()), ready.chosen.tree_size
    else:
        redact = redaction_of(parts, words, reason)
        # In profile dev the home's own identity stands in where a redaction must read.
        identities = identities_of(home, identity_paths) if identity_paths or redact else []
        plain = Form.PROOFS if not (sealed or identities) else None
        made = asyncio.run(
            exporting.export(
                who, Caller(""), why, seqs=seqs, identities=identities, redact=redact, form=plain
            )
        )
        durable.write_file(out, made.zip())
        form, count, size = made.form, len(made.files), made.tree_size
    result = {"file": str(out), "form": str(form), "num_files": count, "tree_size": size}
    show(result, [f"wrote {out}: {form}, {count} files, proved in the tree of {size}"], as_json=as_json)


@click.command(name="check-evidence")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--vkey", required=True, type=FILE, help="The log's public key, from somebody you trust.")
@click.option("--witness", type=FILE, help="A witness's public file: then its cosignature is required.")
@click.option(
    "--auditor", type=FILE, help="An auditor's recipient file: then what is redacted bears this signature."
)
@json_option
def check_evidence(
    path: Path, vkey: Path, witness: Path | None, auditor: Path | None, *, as_json: bool
) -> None:
    """Check an evidence file or folder. Needs no home, no database, no network.

    \b
    Example: appliance audit check-evidence case.zip --vkey log.vkey
    """
    log = Verifier.parse(read_text(vkey).rstrip("\n"))
    witnesses = witness_keys.parse_public(read_text(witness)) if witness else []
    files = archive.read(path)
    if casefile.is_case(files):
        report, _ = casefile.check(files, log, witnesses)
    else:
        auditors = [parse_recipient(read_text(auditor))] if auditor else []
        report = evidence.check(files, log, witnesses, auditors)
    told = [_plain(each) for each in report.records]
    result = {
        "origin": report.origin,
        "begin": report.begin,
        "end": report.end,
        "sealed_case": casefile.is_case(files),
        "vouched_by": list(report.vouched_by),
        "records": told,
    }
    show(result, [*map(_line, told), *_summary(report, files)], as_json=as_json)


def _plain(each: evidence.Checked) -> dict[str, Any]:
    return {
        "seq": each.header.seq,
        "ts": each.header.ts,
        "kind": each.header.kind,
        "public": each.header.pub,
        "tree_size": each.tree_size,
        "witnesses": list(each.witnesses),
        "has_ciphertext": each.has_ciphertext,
        "content": each.content,
        "redacted": each.redacted,
    }


def _summary(report: evidence.Report, files: dict[str, bytes]) -> list[str]:
    lines = []
    if casefile.is_case(files):
        lines.append("sealed: appliance audit open reads it, with the identity of an auditor")
    if report.is_opened_elsewhere:
        lines.append("opened from a sealed case: its keys and contents prove themselves")
    if any(each.redacted for each in report.records):
        by = ", ".join(report.vouched_by) or "nobody whom you named (--auditor FILE)"
        lines.append(f"redacted: that what is left stands in the sealed content is not proved; {by} vouches")
    if report.begin is not None:
        lines.append(
            f"complete: these are all entries from {report.begin} to before {report.end}, "
            f"in the log of {report.tree_size}"
        )
    else:
        lines.append("each of these is in the log as it is; that there are no others is not shown")
    return lines


def _line(told: dict[str, Any]) -> str:
    seen = f", seen by {', '.join(told['witnesses'])}" if told["witnesses"] else ""
    line = f"ok: {told['seq']}  {when(told['ts'])}  {told['kind']}  in the tree of {told['tree_size']}{seen}"
    shown = told["content"] or told["redacted"]
    return line + (f"\n   {on_one_line(shown.rstrip())}" if shown else "")
