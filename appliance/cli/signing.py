"""`appliance bundle sign` and `refresh`: what signers do, each on their own machine."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.bundle import signing
from appliance.cli.base import json_option, show
from appliance.cli.progress import Progress
from appliance.cli.signer import key_options, opened
from appliance.cli.site import FOLDER, NEW_FOLDER
from appliance.clock import SystemClock
from appliance.errors import RequestError

ROOTS = click.option("--roots", type=FOLDER, required=True, help="Your own copy of the chain of roots.")
REVOKE = click.option("--revoke", type=int, multiple=True, help="A serial never to be installed again.")


@click.command()
@click.argument("folder", type=FOLDER)
@ROOTS
@click.option("--begin", is_flag=True, help="Write the lists; what was signed before is removed.")
@click.option("--days", type=int, default=signing.DAYS, show_default=True, help="With --begin: good for.")
@REVOKE
@click.option("--gather", type=FOLDER, multiple=True, help="A copy that others signed: take theirs over.")
@click.option("--partial", is_flag=True, help="Large files are elsewhere: sign what their lists say.")
@key_options
@json_option
def sign(
    folder: Path,
    roots: Path,
    days: int,
    revoke: tuple[int, ...],
    gather: tuple[Path, ...],
    key: Path | None,
    pkcs11: str | None,
    passphrase_file: Path | None,
    *,
    begin: bool,
    partial: bool,
    as_json: bool,
) -> None:
    """Add a signer's signatures to a bundle, or to a refresh. Every file is hashed first.

    The first one begins: the lists are written. Then the folder travels, or copies of it do, whose
    signatures come back with --gather: in any order, two of three.

    \b
    Example: appliance bundle sign appliance-2.4.0 --begin --roots roots --key tara.signer
    """
    if begin:
        signing.start(folder, roots, days, revoked=revoke)
    elif revoke:
        raise RequestError("serials are revoked when a list begins: with --begin", code="not_begun")
    written = [name for other in gather for name in signing.gather(folder, other)]
    if not (begin or gather) or key is not None or pkcs11 is not None:
        bar = Progress("hashing", of_bytes=True)
        found = opened(key, pkcs11, passphrase_file)
        written += signing.sign(folder, found, bar.update, partial=partial, root=roots)
    _tell(folder, written, as_json=as_json)


@click.command()
@click.argument("folder", type=FOLDER)
@ROOTS
@click.option("--days", type=int, default=signing.DAYS, show_default=True, help="Good for, from today.")
@REVOKE
@click.option("--out", type=NEW_FOLDER, required=True, help="A new folder, of some kilobytes.")
@json_option
def refresh(
    folder: Path, roots: Path, days: int, revoke: tuple[int, ...], out: Path, *, as_json: bool
) -> None:
    """Begin a refresh of a signed bundle: the same files, a later date; it is then signed as a bundle is.

    Hosts take it with `appliance bundle verify --refresh`.

    \b
    Example: appliance bundle refresh appliance-2.4.0 --roots roots --out refresh-2.4.0
    """
    signing.refresh(folder, roots, out, days, SystemClock().now_us(), revoked=revoke)
    _tell(out, [], as_json=as_json)


def _tell(folder: Path, written: list[str], *, as_json: bool) -> None:
    signed_by = signing.signed_by(folder)
    names = sorted({name for each in signed_by.values() for name in each})
    lines = [f"wrote {each}" for each in written]
    lines.append(f"signed by: {', '.join(names) or 'nobody yet'}")
    show({"written": written, "signed_by": signed_by}, lines, as_json=as_json)
