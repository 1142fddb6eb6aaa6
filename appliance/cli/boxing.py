"""`appliance db restore-box`: a new machine in the place of a lost one."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import boxing
from appliance.audit.recipients import parse_identity
from appliance.boxing import Unboxed, Wanted
from appliance.cli.base import FILE, home_option, json_option, show, warn, when
from appliance.cli.verifying import second_reading
from appliance.clock import SystemClock
from appliance.config import Home


@click.command(name="restore-box")
@click.argument("box", type=FILE)
@click.option(
    "--identity",
    "identity_path",
    required=True,
    type=FILE,
    help="The recovery key's identity, from its safe.",
)
@click.option(
    "--database", type=FILE, help="A copy of the database (default: the one of the box, beside its file)."
)
@click.option(
    "--shares", type=FILE, help="A copy of the shares (default: the one of the box, beside its file)."
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    type=FILE,
    help="A checkpoint of the lost machine that somebody kept: its head, a witness's note (repeatable).",
)
@home_option
@json_option
def restore_box(
    box: Path,
    identity_path: Path,
    database: Path | None,
    shares: Path | None,
    heads: tuple[Path, ...],
    home: Home,
    *,
    as_json: bool,
) -> None:
    """Bring a whole home back, in an empty folder: keys, settings, head, then database and shares.

    The lost machine must never serve again: both would sign one log. Where anybody kept a checkpoint that is
    newer than the copy, hand it in (--head): then the log stays closed, and `appliance audit begin-anew` is
    the way on.

    \b
    Example: appliance db restore-box box-20261121T081500000000Z.backup --identity recovery.identity
    """
    identity = parse_identity(identity_path.read_text(encoding="utf-8"))
    wanted = Wanted(box, database, shares, heads)
    done = boxing.restore_box(home, SystemClock(), wanted, identity, verify=second_reading)
    warn(
        "this home signs with the lost machine's key; that one must never serve again: destroy its keys/. "
        "Anybody can seal a box file: compare the verifier key with your witnesses' or your paper's"
    )
    if not heads:
        warn(
            f"what the lost machine signed behind its first {done.head_size} entries is not known here: if a "
            "copy of its head or a witness's note is newer, begin again in an empty folder with --head"
        )
    result = {
        "origin": done.origin,
        "vkey": done.vkey,
        "head_size": done.head_size,
        "tree_size": done.database.tree_size if done.database else None,
        "closed": done.database.closed if done.database else "",
        "shares": done.num_shares,
        "erased": done.num_erased,
        "awaited": done.awaited,
    }
    show(result, _lines(home, done), as_json=as_json)


def _lines(home: Home, done: Unboxed) -> list[str]:
    lines = [
        f"{home.root}: {done.origin}, from the box of {when(done.made_us)}",
        f"the head remembers {done.head_size} entries",
        f"verifier key: {done.vkey}",
    ]
    if done.database is not None:
        lines.append(f"database: {done.database.tree_size} entries, green")
        if done.database.closed:
            lines += [f"the log stays closed ({done.database.closed})", done.database.hint]
    if done.num_shares is not None:
        erased = f", {done.num_erased} are erased and stay so" if done.num_erased else ""
        lines.append(f"shares: {done.num_shares} restored{erased}")
    elif not done.awaited:
        lines.append("no shares came back: appliance db restore-shares, once the log is open")
    if done.awaited:
        lines.append(done.awaited)
    lines.append("models come from the bundle, a TLS certificate from whoever issues yours")
    return lines
