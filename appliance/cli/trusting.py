"""`appliance bundle verify` and `receipts`: what a host believes, and the evidence that it was checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance.bundle import receipts as papers
from appliance.bundle import trusted, verifying
from appliance.bundle.layout import Site
from appliance.bundle.refusals import BundleRefused, Exit
from appliance.cli.base import json_option, show, table
from appliance.cli.progress import Progress
from appliance.cli.site import FOLDER, site_option, who
from appliance.clock import SystemClock
from appliance.errors import RequestError


@click.command()
@click.argument("folder", type=FOLDER, required=False)
@click.option("--fingerprint", multiple=True, help="Of a signer, from paper, where this host knows none.")
@click.option("--refresh", type=FOLDER, help="Later metadata of the same bundle; alone: remember it.")
@click.option("--allow-downgrade", is_flag=True, help="Do not refuse an older serial.")
@click.option("--receipt", is_flag=True, help="Leave a signed receipt on this host.")
@site_option
@json_option
def verify(
    folder: Path | None,
    fingerprint: tuple[str, ...],
    refresh: Path | None,
    site: Site,
    *,
    allow_downgrade: bool,
    receipt: bool,
    as_json: bool,
) -> None:
    """Check every byte of a bundle's folder: signatures, age, digests. Nothing in it is run.

    Installing does this by itself, on its own copy. Exit codes are in the guide.

    \b
    Example: appliance bundle verify /var/lib/appliance/staging/37
    """
    clock = SystemClock()
    if folder is None:
        if refresh is None:
            raise RequestError("name a bundle's folder, or a --refresh", code="no_folder", param="folder")
        _take(refresh, site, as_json=as_json)
        return
    found = verifying.verify(
        folder,
        site,
        clock,
        fingerprints=fingerprint,
        progress=Progress(of_bytes=True).update,
        allow_downgrade=allow_downgrade,
        refresh=refresh,
    )
    result: dict[str, Any] = {
        "release": found.manifest.release,
        "serial": found.manifest.serial,
        "built": found.manifest.built,
        "expires": f"{found.expires:%Y-%m-%dT%H:%M:%SZ}",
        "signers": list(found.signers),
        "key_ids": list(found.key_ids),
        "sums_sha256": found.sums_sha256,
        "files": found.num_files,
        "bytes": found.num_bytes,
    }
    lines = [
        f"good: {found.manifest.release}, number {found.manifest.serial}, built {found.manifest.built}",
        f"signed by {', '.join(found.signers)}; good until {found.expires:%Y-%m-%d}",
        f"{found.num_files:,} files, {found.num_bytes:,} bytes; SHA256SUMS is {found.sums_sha256}",
    ]
    if receipt:
        path = papers.write(site, found, "verified", who(), clock.now_us())
        result["receipt"] = str(path)
        lines.append(f"receipt: {path}")
    show(result, lines, as_json=as_json)


@click.command()
@site_option
@json_option
def receipts(site: Site, *, as_json: bool) -> None:
    """List what was verified and done on this host, each with whether its signature holds.

    Exit code 15 where one does not.

    \b
    Example: appliance bundle receipts
    """
    found = papers.read(site)
    key = papers.public_key(site)
    listed = [
        {
            "file": each.path.name,
            "is_good": each.is_good,
            **({} if each.receipt is None else papers.fields(each.receipt)),
        }
        for each in found
    ]
    rows = [
        (
            str(each.get("when", "")),
            str(each.get("what", "")),
            str(each.get("serial", "")),
            str(each.get("who", "")),
            ", ".join(each.get("signers", ())),
            "good" if each["is_good"] else "NOT GOOD",
            str(each["file"]),
        )
        for each in listed
    ]
    header = ("WHEN", "WHAT", "SERIAL", "BY", "SIGNED BY", "SIGNATURE", "FILE")
    lines = [*table(header, rows), f"this host's key: {key.fingerprint if key else 'none yet'}"]
    result = {"key": key.fingerprint if key else None, "receipts": listed}
    show(result, lines, as_json=as_json)
    if not all(each.is_good for each in found):
        raise BundleRefused(Exit.BAD_SIGNATURE, "a receipt is not what this host signed")


def _take(refresh: Path, site: Site, *, as_json: bool) -> None:
    clock = SystemClock()
    believed = verifying.take_refresh(refresh, site, clock)
    state = trusted.load(site)
    result = {
        "serial": believed.claims.serial,
        "expires": f"{believed.expires:%Y-%m-%dT%H:%M:%SZ}",
        "revoked": list(believed.claims.revoked),
        "root": len(state.roots) if state is not None else 0,
    }
    lines = [f"number {believed.claims.serial} is good until {believed.expires:%Y-%m-%d}"]
    lines += (
        [f"taken back: {', '.join(map(str, believed.claims.revoked))}"] if believed.claims.revoked else []
    )
    show(result, lines, as_json=as_json)
