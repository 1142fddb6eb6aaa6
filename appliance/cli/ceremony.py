"""`appliance bundle keys`: signers' keys, and the roots that say who signs. On machines without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance import durable
from appliance.bundle import keys as signer_keys
from appliance.bundle import roots
from appliance.bundle.keys import PublicSigner
from appliance.bundle.refusals import BundleRefused
from appliance.cli.base import FILE, json_option, require_new, show
from appliance.cli.signer import chosen, key_options, opened, passphrase_option, pin_of, pkcs11_option
from appliance.cli.site import FOLDER, NEW_FOLDER
from appliance.clock import SystemClock
from appliance.errors import RequestError


@click.group()
def keys() -> None:
    """Signers' keys, and who may sign: create, ceremony, rotate, sign, show."""


@keys.command()
@click.argument("name")
@click.option("--out", type=NEW_FOLDER, default=Path(), help="Folder for the files (default: here).")
@pkcs11_option
@passphrase_option
@json_option
def create(name: str, out: Path, pkcs11: str | None, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Make a signer's two keys on their own machine, or take a token's.

    NAME.signer is secret, under a passphrase; NAME.pub goes to the ceremony. The fingerprints go on paper.

    \b
    Example: appliance bundle keys create tara --out /media/tara
    """
    out.mkdir(parents=True, exist_ok=True)
    secret, public = out / f"{name}.signer", out / f"{name}.pub"
    if pkcs11 is not None:
        require_new(public)
        found = signer_keys.from_token(name, pkcs11, pin_of(passphrase_file))
        lines = [f"the secret key stays on the token: {pkcs11}"]
    else:
        found, sealed = signer_keys.create(name)
        require_new(secret, public)
        durable.write_file(secret, sealed(chosen(passphrase_file)))
        lines = [f"secret, keep it and a copy in a safe: {secret}"]
    durable.write_file(public, found.public.text(), mode=0o644)
    lines += [f"public, for the ceremony:             {public}", *_on_paper(found.public)]
    result = {"name": name, "secret": None if pkcs11 else str(secret), "public": str(public)}
    show(result | {"fingerprints": _prints(found.public)}, lines, as_json=as_json)


@keys.command()
@click.option("--root", "root_files", type=FILE, multiple=True, required=True, help="A signer of roots.")
@click.option("--targets", "targets_files", type=FILE, multiple=True, required=True, help="Of bundles.")
@click.option("--days", type=int, default=3650, show_default=True, help="How long this root is good for.")
@click.option("--fips", is_flag=True, help="Roots and metadata count P-384 signatures.")
@click.option("--out", type=NEW_FOLDER, required=True, help="Folder for the chain of roots.")
@json_option
def ceremony(
    root_files: tuple[Path, ...],
    targets_files: tuple[Path, ...],
    days: int,
    out: Path,
    *,
    fips: bool,
    as_json: bool,
) -> None:
    """Write the first root: three signers of roots, three of bundles; two of each are needed from then on.

    It is in force once two signers of roots have signed it, each on their own machine.

    \b
    Example: appliance bundle keys ceremony --root ruth.pub --root rami.pub --root rosa.pub \\
      --targets tara.pub --targets theo.pub --targets tomo.pub --out roots
    """
    document = roots.make(
        _read(root_files), _read(targets_files), now_us=SystemClock().now_us(), days=days, fips=fips
    )
    out.mkdir(parents=True, exist_ok=True)
    place = out / roots.path(1)
    require_new(place)
    durable.write_file(place, roots.dump(document), mode=0o644)
    _tell(out, as_json=as_json)


@keys.command()
@click.argument("folder", type=FOLDER)
@click.option("--root", "root_files", type=FILE, multiple=True, help="Signers of roots (default: as before).")
@click.option("--targets", "targets_files", type=FILE, multiple=True, help="Of bundles (default: as before).")
@click.option("--days", type=int, default=3650, show_default=True, help="How long this root is good for.")
@click.option("--fips", is_flag=True, help="Roots and metadata count P-384 signatures.")
@json_option
def rotate(
    folder: Path,
    root_files: tuple[Path, ...],
    targets_files: tuple[Path, ...],
    days: int,
    *,
    fips: bool,
    as_json: bool,
) -> None:
    """Write the next root: other signers, or a later date. Two of the old and two of the new sign it.

    \b
    Example: appliance bundle keys rotate roots --targets tara.pub --targets theo.pub --targets tess.pub
    """
    chain = roots.read(folder)
    last = roots.check(chain)
    document = roots.make(
        _read(root_files) or roots.signers(last, "root"),
        _read(targets_files) or roots.signers(last, "targets"),
        now_us=SystemClock().now_us(),
        days=days,
        version=len(chain) + 1,
        fips=fips,
    )
    durable.write_file(folder / roots.path(len(chain) + 1), roots.dump(document), mode=0o644)
    _tell(folder, as_json=as_json)


@keys.command()
@click.argument("folder", type=FOLDER)
@key_options
@json_option
def sign(
    folder: Path, key: Path | None, pkcs11: str | None, passphrase_file: Path | None, *, as_json: bool
) -> None:
    """Sign the newest root of a folder. The folder travels from one signer to the next.

    \b
    Example: appliance bundle keys sign roots --key ruth.signer
    """
    files = _files(folder)
    signed = roots.sign(files[-1], opened(key, pkcs11, passphrase_file), files[-2] if files[:-1] else None)
    durable.write_file(folder / roots.path(len(files)), signed, mode=0o644)
    _tell(folder, as_json=as_json)


@keys.command(name="show")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@json_option
def show_(path: Path, *, as_json: bool) -> None:
    """Show who signs, with fingerprints to print on paper; or one NAME.pub.

    \b
    Example: appliance bundle keys show roots
    """
    if path.is_dir():
        _tell(path, as_json=as_json)
        return
    found = signer_keys.load_public(path.read_bytes())
    show({"name": found.name, "fingerprints": _prints(found)}, _on_paper(found), as_json=as_json)


def _tell(folder: Path, *, as_json: bool) -> None:
    files = _files(folder)
    newest = roots.parse(files[-1]).signed
    missing = roots.missing(files[-1], files[-2] if files[:-1] else None)
    result: dict[str, Any] = {
        "number": len(files),
        "expires": f"{newest.expires:%Y-%m-%dT%H:%M:%SZ}",
        "in_force": not missing,
        "missing": [{"of": each.what, "num": each.num, "names": list(each.names)} for each in missing],
    }
    lines = [f"root {len(files)}, good until {newest.expires:%Y-%m-%d}"]
    for role, what in (("root", "signs roots"), ("targets", "signs bundles")):
        signers = roots.signers(newest, role)
        threshold = newest.roles[role].threshold
        result[role] = {
            "threshold": threshold,
            "signers": [{"name": each.name, "fingerprints": _prints(each)} for each in signers],
        }
        lines += ["", f"{what}: {threshold} of {len(signers)}"]
        lines += [line for each in signers for line in _on_paper(each)]
    lines.append("")
    lines += [f"still to sign: {each.num} of {each.what}: {', '.join(each.names)}" for each in missing]
    lines += [] if missing else ["in force: enough have signed"]
    show(result, lines, as_json=as_json)


def _files(folder: Path) -> list[bytes]:
    """All roots of a folder, the newest perhaps not signed by enough yet."""
    found: list[bytes] = []
    while (place := folder / roots.path(len(found) + 1)).is_file():
        found.append(place.read_bytes())
    if not found:
        raise RequestError(f"there is no {roots.path(1)} in {folder}", code="no_root", param="folder")
    if found[:-1]:
        roots.check(found[:-1])
    return found


def _read(files: tuple[Path, ...]) -> list[PublicSigner]:
    try:
        return [signer_keys.load_public(each.read_bytes()) for each in files]
    except BundleRefused as error:
        raise RequestError(error.message, code="invalid_key_file") from error


def _prints(signer: PublicSigner) -> dict[str, str]:
    return {str(each.kind): each.fingerprint for each in signer.keys}


def _on_paper(signer: PublicSigner) -> list[str]:
    return [
        f"  {signer.name:<12} {each.kind:<8} {signer_keys.on_paper(each.fingerprint)}" for each in signer.keys
    ]
