"""`appliance audit witness`: somebody else remembers how long this log was. By file or by QR code.

On the appliance: export, import, add, status. On the witness's own machine, without a home: keygen, cosign.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import segno

from appliance import db, durable
from appliance.audit import checkpoint, files, proving, witness, witness_keys
from appliance.audit.checkpoint import Verifier
from appliance.audit.witness_store import WitnessStore
from appliance.cli.base import (
    FILE,
    NEW_FILE,
    command_gateway,
    database_of,
    home_option,
    json_option,
    require_new,
    show,
    warn,
    when,
)
from appliance.clock import SystemClock
from appliance.commands import AddWitness, TakeCosignatures
from appliance.config import Home
from appliance.errors import RequestError, SetupError, VerificationError

_ERROR_CORRECTION = "l"  # the largest content: a request is 1.5 KB, a code holds 2,953 bytes


@click.group(name="witness")
def witness_() -> None:
    """Witnesses: ask one to cosign, cosign as one, take what one said."""


@witness_.command()
@click.option("--out", type=NEW_FILE, metavar="FILE", help="Write here (default: standard output).")
@click.option("--qr", is_flag=True, help="A QR code: on the terminal, or in FILE.svg or FILE.png.")
@click.option("--old", type=click.IntRange(0), help="The size that the witness knows (default: its last).")
@click.option("--witness", "name", default="", help="Which witness, where several are pinned.")
@home_option
@json_option
def export(out: Path | None, old: int | None, name: str, home: Home, *, qr: bool, as_json: bool) -> None:
    """Write what a witness needs to cosign: C2SP add-checkpoint, the newest checkpoint and its proof.

    \b
    Examples: appliance audit witness export --out request.txt
              appliance audit witness export --qr
    """
    with db.reading(database_of(home)) as connection:
        if old is None:
            old = proving.last_size_of(connection, name or _only(proving.witnesses(connection)))
        request = proving.request_from(connection, old)
    body = request.encode()
    result = {
        "old": old,
        "tree_size": proving.head_of(request.note).size,
        "request": body,
        "file": str(out) if out else None,
    }
    _hand_out(body, out, result, qr=qr, as_json=as_json)


@witness_.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Directory for the two files (default: here).",
)
@json_option
def keygen(name: str, out: Path, *, as_json: bool) -> None:
    """Make a witness's keys on the witness's own machine.

    \b
    Example: appliance audit witness keygen court
    NAME.witness is secret and stays; NAME.vkey goes to the appliance's operator.
    """
    keys = witness_keys.WitnessKeys.generate(name)
    stem = name.replace("/", "_")
    secret, public = out / f"{stem}.witness", out / f"{stem}.vkey"
    require_new(secret, public)
    durable.write_file(secret, keys.text().encode())
    durable.write_file(public, keys.public().encode(), mode=0o644)
    result = {"name": name, "secret": str(secret), "public": str(public), "vkeys": keys.public().split()}
    lines = [f"secret, stays here:               {secret}", f"public, hand it to the operator:  {public}"]
    show(result, lines, as_json=as_json)


@witness_.command()
@click.argument("request_path", metavar="REQUEST", type=FILE)
@click.option("--key", required=True, type=FILE, help="The witness's secret file.")
@click.option("--log", "log_path", type=FILE, help="A log's public key (keys/log.vkey): follow this log.")
@click.option("--state", type=NEW_FILE, help="What this witness remembers (default: beside its key).")
@click.option("--out", type=NEW_FILE, metavar="FILE", help="Write here (default: standard output).")
@click.option("--qr", is_flag=True, help="The short cosignature as a QR code.")
@json_option
def cosign(
    request_path: Path,
    key: Path,
    log_path: Path | None,
    state: Path | None,
    out: Path | None,
    *,
    qr: bool,
    as_json: bool,
) -> None:
    """Cosign a checkpoint on the witness's own machine, if it goes on from the last one.

    \b
    Example: appliance audit witness cosign request.txt --key court.witness --log log.vkey
    Refuses as C2SP tlog-witness says (403, 404, 409, 422) with exit code 1. Two checkpoints that contradict
    each other are kept, whole, and shown: they prove what the log did.
    """
    cosigners = witness_keys.parse(read_text(key)).cosigners
    store = WitnessStore(state or key.with_suffix(".state"))
    try:
        if log_path is not None:
            store.follow(Verifier.parse(read_text(log_path).rstrip("\n")))
        request = witness.parse(read_text(request_path).encode())
        origin = checkpoint.origin_of(request.note)
        num_forks = len(store.forks(origin))
        try:
            head, lines = store.cosign(request, cosigners, time_s=SystemClock().now_us() // 1_000_000)
        except witness.NotCosigned:
            _tell_fork(store, origin, num_forks)
            raise
    finally:
        store.close()
    short = request.note + lines.splitlines()[0] + "\n"  # Ed25519 alone: ML-DSA-44 fits into no QR code
    answer = short if qr else request.note + lines
    result = {
        "origin": head.origin,
        "tree_size": head.size,
        "answer": answer,
        "file": str(out) if out else None,
    }
    _hand_out(answer, out, result, qr=qr, as_json=as_json)


@witness_.command(name="import")
@click.argument("path", metavar="FILE", type=FILE)
@home_option
@json_option
def import_(path: Path, home: Home, *, as_json: bool) -> None:
    """Verify a witness's answer with its pinned keys and store it. On the record.

    \b
    Example: appliance audit witness import answer.txt
    """
    result = command_gateway(home, TakeCosignatures(note=read_text(path)))
    who = ", ".join(result["witnesses"])
    lines = [f"{who} cosigned the tree of {result['tree_size']}, record {result['record']}"]
    show(result, lines, as_json=as_json)


@witness_.command()
@click.argument("path", metavar="VKEYFILE", type=FILE)
@home_option
@json_option
def add(path: Path, home: Home, *, as_json: bool) -> None:
    """Pin a witness by its public file: from now on its cosignatures count. On the record.

    \b
    Example: appliance audit witness add court.vkey
    """
    result = command_gateway(home, AddWitness(vkeys=read_text(path)))
    lines = [f"pinned witness {result['witness']}, {result['num_keys']} keys, record {result['record']}"]
    show(result, lines, as_json=as_json)


@witness_.command()
@click.option("--state", type=FILE, help="On the witness's machine: what it remembers.")
@home_option
@json_option
def status(state: Path | None, home: Home, *, as_json: bool) -> None:
    """Show the pinned witnesses and what they cosigned last; with --state, what a witness knows.

    \b
    Example: appliance audit witness status
    """
    if state is not None:
        _show_state(state, as_json=as_json)
        return
    with db.reading(database_of(home)) as connection:
        pinned = proving.witnesses(connection)
        sizes = {each.name: proving.last_size_of(connection, each.name) for each in pinned.values()}
        size, time_s, _ = proving.last_visit(connection)
        length = proving.head_of(proving.newest(connection)).size
    result = {
        "log": files.read_verifier(home).text(),
        "tree_size": length,
        "witnesses": [
            {"name": each.name, "vkey": each.text(), "tree_size": sizes[each.name]}
            for each in pinned.values()
        ],
        "cosigned_size": size,
        "cosigned_at": time_s or None,
    }
    lines = [f"{name}: cosigned a tree of {at}" for name, at in sizes.items()] or ["no witness is pinned"]
    if time_s:
        lines.append(f"last at {when(time_s * 1_000_000)}; {length - size} entries since")
    show(result, lines, as_json=as_json)


def read_text(path: Path) -> str:
    """A small text file that somebody handed over. VerificationError where it is none."""
    try:
        with path.open("rb") as file:
            return file.read(checkpoint.MAX_NOTE_BYTES + 1).decode()
    except UnicodeDecodeError as error:
        raise VerificationError(f"{path.name} is not text in UTF-8") from error


def _show_state(state: Path, *, as_json: bool) -> None:
    store = WitnessStore(state)
    try:
        logs = store.logs()
        forks = {each.origin: store.forks(each.origin) for each in logs}
    finally:
        store.close()
    result = {
        "logs": [
            {
                "origin": each.origin,
                "tree_size": each.size,
                "cosigned_at": each.time_s or None,
                "contradictions": [
                    {"known": fork.known, "refused": fork.refused, "is_proof": fork.is_proof}
                    for fork in forks[each.origin]
                ],
            }
            for each in logs
        ]
    }
    lines = [
        f"{each.origin}: a tree of {each.size}, {each.num_refused} contradictions, {each.num_proofs} proofs"
        for each in logs
    ]
    show(result, lines or ["follows no log"], as_json=as_json)


def _tell_fork(store: WitnessStore, origin: str, before: int) -> None:
    """Both checkpoints on standard error, for whoever stands there; the state keeps them."""
    for fork in store.forks(origin)[before:]:
        word = "PROOF of two trees of one size" if fork.is_proof else "two checkpoints without a way between"
        warn(f"{word}; kept in the state:\n\n{fork.known}\n{fork.refused}")


def _only(pinned: dict[str, Verifier]) -> str:
    names = {each.name for each in pinned.values()}
    if len(names) > 1:
        raise RequestError(
            "several witnesses are pinned",
            code="which_witness",
            hint=f"--witness {' | '.join(sorted(names))}",
        )
    return next(iter(names), "")


def _hand_out(body: str, out: Path | None, result: dict[str, Any], *, qr: bool, as_json: bool) -> None:
    if not qr:
        if out is not None:
            durable.write_file(out, body.encode(), mode=0o644)
        lines = [f"wrote {out}"] if out else body.rstrip("\n").split("\n")
        show(result, lines, as_json=as_json)
        return
    try:
        code = segno.make_qr(body.encode(), error=_ERROR_CORRECTION)
    except segno.DataOverflowError as error:
        raise RequestError("this is too long for a QR code", code="too_long", hint="--out FILE") from error
    if out is None:
        code.terminal(out=sys.stdout, compact=True)
    elif out.suffix in {".svg", ".png"}:
        code.save(str(out), scale=4)
    else:
        raise SetupError("a QR code goes into FILE.svg or FILE.png", code="invalid_file")
    show(result, [f"wrote {out}"] if out else [], as_json=as_json and out is not None)
