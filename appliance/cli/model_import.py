"""`appliance model import` and `remove`: files come into the store, and leave it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance import config
from appliance.alias_commands import Vouched
from appliance.cli.base import FILE, command_gateway, home_option, json_option, show, warn
from appliance.cli.progress import Progress
from appliance.cli.vouching import as_option, vouched
from appliance.commands import ImportModel, ListAccounts, ListModels, RefuseModel, RemoveModel
from appliance.config import Home
from appliance.core import ModelSpec, Purpose
from appliance.errors import ApplianceError, RequestError
from appliance.importing import importing, papers, store
from appliance.importing.importing import Examined, Wanted
from appliance.importing.refusals import FileRefused
from appliance.modelling import catalog_of

_MAX_SIGNER_BYTES = 65_536


@click.command(name="import")
@click.argument("file", type=FILE)
@click.option("--id", "model_id", default="", metavar="ID", help="Its id (default: by its file).")
@click.option(
    "--purpose",
    type=click.Choice([str(each) for each in Purpose]),
    help="What it is for (default: what the file says).",
)
@click.option("--licence", default="", metavar="SPDX", help="Its licence, where the file says nothing of it.")
@click.option("--accept-licence", is_flag=True, help="Accept a licence that binds whoever uses the model.")
@as_option
@click.option("--origin", default="", metavar="TEXT", help="Where it comes from, for the record.")
@click.option("--sha256", default="", metavar="HEX", help="The digest that came with it.")
@click.option("--signature", type=FILE, help="A signature under what sha256sum prints for its files.")
@click.option("--signer", type=FILE, help="The public file of whoever signed.")
@home_option
@json_option
def import_(
    file: Path,
    model_id: str,
    purpose: str | None,
    licence: str,
    account: str | None,
    proof: str | None,
    origin: str,
    sha256: str,
    signature: Path | None,
    signer: Path | None,
    home: Home,
    *,
    accept_licence: bool,
    as_json: bool,
) -> None:
    """Check a GGUF file, and take it into the store. Of a split model: the first one.

    Nothing answers with it yet. What is refused is on the record too.

    \b
    Example: appliance model import llama-8b.Q4_K_M.gguf --accept-licence --as 'Ada Kim' --origin 'stick 7'
    """
    if (signature is None) != (signer is None):
        raise RequestError("a signature comes with its signer", code="invalid_request", param="signer")
    if accept_licence != bool(account):
        raise RequestError(
            "whoever accepts a licence says who they are",
            code="may_not_accept",
            hint="--accept-licence --as ACCOUNT: an operator or an admin",
        )
    name = model_id or importing.id_for(file)
    _require_sensible(home, name, account)
    accepted_by = vouched(account, proof)
    wanted = Wanted(
        file=file,
        purpose=Purpose(purpose) if purpose else None,
        licence=licence,
        accepts_licence=accept_licence,
        sha256=sha256,
        signature=_read(signature, papers.MAX_SIGNATURE_BYTES),
        signer=_read(signer, _MAX_SIGNER_BYTES),
        signer_name=signer.stem if signer is not None else "",
    )
    try:
        result = _import(home, name, wanted, accepted_by=accepted_by, origin=origin)
    except FileRefused as error:
        _tell_refused(home, error, file, origin)
        raise
    lines = [
        f"imported {name}: {result['purpose']}, {result['size_bytes']} bytes, licence {result['licence']}",
        f"sha256 {result['sha256']}, record {result['record']}",
        *([f"fits: {', '.join(result['fits'])}"] if result["fits"] else []),
        "nothing answers with it yet: let an alias stand for it",
    ]
    for note in () if as_json else result["notes"]:
        warn(note)
    show(result, lines, as_json=as_json)


@click.command()
@click.argument("model_id", metavar="ID")
@click.option("--why", default="", metavar="TEXT", help="The reason, for the record.")
@home_option
@json_option
def remove(model_id: str, why: str, home: Home, *, as_json: bool) -> None:
    """Take an imported model out of the store. No alias may stand for it; its record stays.

    \b
    Example: appliance model remove llama-8b.q4_k_m --why 'a better one is here'
    """
    result = command_gateway(home, RemoveModel(id=model_id, why=why))
    if result["files_go"]:
        store.remove(home, result["sha256"], is_split=result["num_parts"] > 0)
    kept = "" if result["files_go"] else "; another model has the same file, which stays"
    show(result, [f"removed {result['id']}: {result['record']}{kept}"], as_json=as_json)


def _import(
    home: Home, name: str, wanted: Wanted, *, accepted_by: Vouched | None, origin: str
) -> dict[str, Any]:
    settings = config.load(home)

    def bases() -> list[ModelSpec]:
        found = catalog_of(home, settings).list()
        return [each for each in found if each.purpose is not Purpose.ADAPTER and each.path.is_file()]

    bar = Progress("copying", of_bytes=True)
    with importing.examined(home, wanted, settings.engine, bases, bar.update) as found:
        done = command_gateway(home, _command(name, found, accepted_by, origin))
    return {
        **done,
        "purpose": str(found.purpose),
        "size_bytes": found.size_bytes,
        "licence": found.licence,
        "files": [each.name for each in found.copied.files],
        "signed_by": found.signed_by,
        "notes": list(found.notes),
        "fits": list(found.fits),
    }


def _command(name: str, found: Examined, accepted_by: Vouched | None, origin: str) -> ImportModel:
    files = found.copied.files
    return ImportModel(
        id=name,
        sha256=found.sha256,
        size_bytes=found.size_bytes,
        purpose=found.purpose,
        file=files[0].name,
        licence=found.licence,
        origin=origin,
        card=found.card,
        parts=list(files) if len(files) > 1 else [],
        signed_by=found.signed_by,
        accepted_by=accepted_by,
    )


def _require_sensible(home: Home, name: str, account: str | None) -> None:
    """What the record would refuse at the end, said before a long copy."""
    models = command_gateway(home, ListModels())["models"]
    if any(name in {each["id"], *each["aliases"]} for each in models):
        raise RequestError(
            "a model of this name is known already", code="model_exists", param="id", hint="give another --id"
        )
    if account:
        known = command_gateway(home, ListAccounts())["accounts"]
        if not any(account in {each["id"], each["name"]} and each["disabled_us"] is None for each in known):
            raise RequestError(
                "no account has this name", code="account_not_found", hint="appliance account list shows them"
            )


def _tell_refused(home: Home, error: FileRefused, file: Path, origin: str) -> None:
    told = RefuseModel(
        code=error.code, reason=error.message[:2000], file=file.name[:255], origin=origin, sha256=error.sha256
    )
    try:
        command_gateway(home, told)
    except ApplianceError as unsaid:  # the refusal itself is what its caller must hear
        warn(f"the refusal is not on the record: {unsaid.message}")


def _read(path: Path | None, most: int) -> bytes:
    if path is None:
        return b""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise RequestError(f"{path.name} is too large to be what it should be", code="invalid_request")
    return data
