"""`appliance bundle build`: the connected side."""

from __future__ import annotations

from pathlib import Path

import click

import appliance
from appliance.bundle import building, layout, manifest, wheelhouse
from appliance.cli.base import FILE, json_option, show
from appliance.cli.progress import Progress
from appliance.cli.site import FOLDER, NEW_FOLDER


@click.command()
@click.option("--out", required=True, type=NEW_FOLDER, help="The bundle's folder is made in this one.")
@click.option(
    "--serial",
    required=True,
    type=click.IntRange(1, 1 << 40),
    help="Higher than that of every release before: it alone says what is newer.",
)
@click.option(
    "--release",
    default=appliance.__version__,
    show_default=True,
    metavar="X.Y.Z",
    help="The release's name, for people.",
)
@click.option("--wheels", required=True, type=FOLDER, help="A folder with every wheel that the lock names.")
@click.option("--llama", required=True, type=FILE, help="llama.cpp's portable wheel.")
@click.option("--model", "models", multiple=True, type=FILE, help="A GGUF file of the catalogue; repeatable.")
@click.option(
    "--licence",
    "licences",
    multiple=True,
    type=FILE,
    help="The text of the licence of the --model at the same place; repeatable.",
)
@click.option(
    "--python",
    "pythons",
    multiple=True,
    default=wheelhouse.PYTHONS,
    show_default=True,
    help="A host's Python that wheels are packed for; repeatable.",
)
@click.option("--os", "os_packages", type=FOLDER, help="Packages of an operating system, signed by it.")
@click.option(
    "--min-serial",
    default=0,
    type=click.IntRange(0, 1 << 40),
    help="The oldest installed release that may go to this one directly.",
)
@click.option(
    "--via", multiple=True, type=click.IntRange(1, 1 << 40), help="Where older ones stop over; repeatable."
)
@click.option("--tree", default=".", show_default=True, type=FOLDER, help="The checkout to pack.")
@click.option(
    "--allow-dirty", is_flag=True, help="Pack changes that no commit has; the release's name says so."
)
@click.option("--part-bytes", default=layout.PART_BYTES, type=click.IntRange(1), hidden=True)
@json_option
def build(
    out: Path,
    serial: int,
    release: str,
    wheels: Path,
    llama: Path,
    models: tuple[Path, ...],
    licences: tuple[Path, ...],
    pythons: tuple[str, ...],
    os_packages: Path | None,
    min_serial: int,
    via: tuple[int, ...],
    tree: Path,
    *,
    allow_dirty: bool,
    part_bytes: int,
    as_json: bool,
) -> None:
    """Make an unsigned bundle of this checkout. Fetches nothing: `make bundle` prepares what is packed.

    The same commit and the same files give the same bytes. Whoever signs it next: appliance bundle sign.

    \b
    Example: appliance bundle build --out dist --serial 37 --release 2.4.0 --wheels W --llama L.whl \
               --model M.gguf --licence LICENSE
    """
    if len(licences) > len(models):
        raise click.UsageError("--licence belongs to the --model at the same place")
    given = [
        building.GivenModel(file, licences[number] if number < len(licences) else None)
        for number, file in enumerate(models)
    ]
    inputs = building.Inputs(
        out=out,
        serial=serial,
        release=release,
        wheels=wheels,
        llama=llama,
        tree=tree,
        models=given,
        pythons=pythons,
        os_packages=os_packages,
        upgrade_from=manifest.UpgradeFrom(min_serial, via),
        part_bytes=part_bytes,
        allow_dirty=allow_dirty,
    )
    place = building.build(inputs, lambda word: Progress(word, of_bytes=True).update)
    found = manifest.parse((place / layout.MANIFEST).read_bytes())
    num_bytes = sum(size for _, size in manifest.digests(found).values())
    names = [each.model.id for each in found.blobs if each.model is not None]
    result = {
        "bundle": str(place),
        "serial": found.serial,
        "release": found.release,
        "git_commit": found.git_commit,
        "num_files": len(manifest.digests(found)) + 1,
        "num_bytes": num_bytes,
        "num_wheels": sum(each.role == "wheel" for each in found.files),
        "models": names,
        "pythons": list(found.platform.pythons),
    }
    pythons_named = ", ".join(found.platform.pythons)
    lines = [
        str(place),
        f"{result['num_files']} files, {num_bytes / 1e6:.0f} MB",
        f"{result['num_wheels']} wheels for Python {pythons_named}; models: {', '.join(names) or 'none'}",
        "not signed yet: appliance bundle sign",
    ]
    show(result, lines, as_json=as_json)
