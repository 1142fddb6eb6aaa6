"""`appliance bundle split|import|inventory|delta`: media between the connected side and a host."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from appliance import durable
from appliance.bundle import copying, layout, manifest, media, notes, reading
from appliance.bundle import delta as deltas
from appliance.bundle import inventory as inventories
from appliance.bundle.copying import Taken
from appliance.bundle.layout import Site
from appliance.bundle.manifest import Manifest
from appliance.bundle.refusals import Exit
from appliance.bundle.room import in_words
from appliance.cli.base import FILE, NEW_FILE, json_option, require_new, show, warn
from appliance.cli.progress import Progress
from appliance.cli.site import FOLDER, NEW_FOLDER, host_option
from appliance.errors import RequestError

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|[kMGT]B|[KMGT]iB)", re.ASCII)
_UNITS = {"B": 1} | {
    f"{letter}{end}": base ** (power + 1)
    for end, base in (("B", 1000), ("iB", 1024))
    for power, letter in enumerate("kMGT" if end == "B" else "KMGT")
}


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--out", required=True, type=NEW_FOLDER, help="A new folder, or a mounted medium.")
@click.option(
    "--media", "name", required=True, type=click.Choice(list(media.PRESETS)), help="What carries it."
)
@click.option("--size", metavar="SIZE", default="", help="What one medium takes, such as 29GB or 3.5GiB.")
@click.option("--stick", type=FOLDER, help="A mounted medium of the sort that will be used: its free bytes.")
@click.option("--wipe", is_flag=True, help="Remove volumes of an earlier run from the output folder first.")
@json_option
def split(
    bundle: Path, out: Path, name: str, size: str, stick: Path | None, *, wipe: bool, as_json: bool
) -> None:
    """Cut a signed bundle into volumes for sticks, discs or a diode.

    Volume 1 holds all that can refuse a bundle; further ones hold parts of models.

    \b
    Examples: appliance bundle split appliance-2.4.0-linux-x86_64 --out burn --media dvd
              appliance bundle split appliance-2.4.0-linux-x86_64 --out burn --media fat32 --size 29GB
    """
    if size and stick is not None:
        raise RequestError("--size and --stick both say how large a medium is", code="medium_size")
    payload = _bytes_of(size) if size else media.room_of(stick) if stick is not None else None
    progress = Progress("writing", of_bytes=True)
    folders = media.split(
        bundle, out, media.PRESETS[name], payload_bytes=payload, wipe=wipe, progress=progress.update
    )
    found = [{"volume": str(each), "bytes": _size_of(each)} for each in folders]
    lines = [f"{each['volume']}: {in_words(int(str(each['bytes'])))}" for each in found]
    show({"volumes": found}, [*lines, f"{len(found)} volumes; take all of them to the host"], as_json=as_json)


@click.command(name="import")
@click.argument("sources", metavar="VOLUME…", nargs=-1, type=FOLDER)
@click.option("--discard", "serial", type=int, metavar="SERIAL", help="Remove what was copied of a bundle.")
@host_option
@json_option
def import_(sources: tuple[Path, ...], serial: int | None, site: Site, *, as_json: bool) -> None:
    """Copy volumes to this host's disk, in any order, and check each file on its way.

    Give a volume, several, or the medium that holds them. Run it again with each further disc: what was
    copied is kept. Exit code 14 while a volume is missing. Without a volume: tells what is missing.

    \b
    Examples: appliance bundle import /media/cdrom
              appliance bundle import /media/usb/appliance-2.4.0-linux-x86_64.vol0*
    """
    if serial is not None:
        if sources:
            raise RequestError("--discard takes no volume", code="usage")
        with notes.locked(site):
            notes.discard(site, serial)
        show({"discarded": serial}, [f"what was copied of serial {serial} is removed"], as_json=as_json)
        return
    if not sources:
        _tell_unfinished(site, as_json=as_json)
        return
    progress = Progress("copying", of_bytes=True)
    taken = copying.take(sources, site, progress=progress.update)
    copied = f"{taken.num_copied} files copied, {taken.num_skipped} were here"
    held = [f"{len(taken.present)} models and wheels are in the store already"] if taken.present else []
    show(_described(taken), [f"{taken.staging}: {copied}", *held, *_asking(taken)], as_json=as_json)
    if taken.missing:
        sys.exit(Exit.MISSING)


@click.command()
@click.option("--out", type=NEW_FILE, help="The file for the connected side; else standard output.")
@host_option
@json_option
def inventory(out: Path | None, site: Site, *, as_json: bool) -> None:
    """List the digests of the models and wheels that this host holds, for a delta.

    Reads the store in full. The file names digests and serials, and nothing else of this host.

    \b
    Example: appliance bundle inventory --out host.inventory
    """
    if out is not None:
        require_new(out)
    progress = Progress("reading", of_bytes=True)
    stock = inventories.take_stock(site, progress=progress.update)
    for each in stock.altered:
        warn(f"the store's file {each} is altered, so it is left out: import its bundle again")
    data = inventories.dump(stock.inventory)
    if out is None:
        click.echo(data.decode(), nl=False)
        return
    durable.write_file(out, data, mode=0o644)
    told: dict[str, Any] = {
        "out": str(out),
        "held": len(stock.inventory.held),
        "bytes": stock.num_bytes,
        "serials": list(stock.inventory.serials),
        "altered": list(stock.altered),
    }
    lines = [f"{out}: {told['held']} files of {in_words(stock.num_bytes)}"]
    show(told, lines, as_json=as_json)


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--inventory", "listed", type=FILE, help="What the host holds: its own file.")
@click.option("--base", type=FOLDER, help="Or the bundle that the host has installed.")
@click.option("--out", required=True, type=NEW_FOLDER, help="The delta's folder, which is new.")
@json_option
def delta(bundle: Path, listed: Path | None, base: Path | None, out: Path, *, as_json: bool) -> None:
    """Leave out of an unsigned bundle what a host holds. The delta is signed like any bundle.

    \b
    Example: appliance bundle delta build/appliance-2.5.0-linux-x86_64 --inventory host.inventory --out delta
    """
    if (listed is None) == (base is None):
        raise RequestError("one of --inventory and --base says what the host holds", code="usage")
    if listed is not None:
        with reading.readable(listed):
            held = inventories.parse(reading.read_small(listed.parent, listed.name, inventories.MAX_BYTES))
    else:
        held = inventories.of_bundle(_manifest_of(base or Path()))
    progress = Progress("writing", of_bytes=True)
    deltas.delta(bundle, held, out, progress=progress.update)
    made = _manifest_of(out)
    num_omitted = len(made.delta.omitted) if made.delta else 0
    before, after = _size_of(bundle), _size_of(out)
    result = {"out": str(out), "omitted": num_omitted, "bytes": after, "full_bytes": before}
    lines = [
        f"{out}: {in_words(after)} of {in_words(before)}; {num_omitted} models and wheels stay with the host",
        "now sign it",
    ]
    show(result, lines, as_json=as_json)


def _tell_unfinished(site: Site, *, as_json: bool) -> None:
    found = [taken for serial in notes.unfinished(site) if (taken := copying.state(site, serial)) is not None]
    lines = [line for taken in found for line in (f"serial {taken.serial}: {taken.staging}", *_asking(taken))]
    show(
        {"unfinished": [_described(each) for each in found]},
        lines or ["no import is unfinished"],
        as_json=as_json,
    )
    if found:
        sys.exit(Exit.MISSING)


def _described(taken: Taken) -> dict[str, Any]:
    return {
        "staging": str(taken.staging),
        "serial": taken.serial,
        "release": taken.manifest.release if taken.manifest else None,
        "missing": [{"volume": each.volume, "paths": list(each.paths)} for each in taken.missing],
        "copied": taken.num_copied,
        "skipped": taken.num_skipped,
        "present": sorted(taken.present),
    }


def _asking(taken: Taken) -> list[str]:
    if not taken.missing:
        return ["all volumes are here: now verify and install them"]
    return [*(f"missing: {each}" for each in taken.missing), "give these volumes next, in any order"]


def _manifest_of(bundle: Path) -> Manifest:
    with reading.readable(bundle):
        return manifest.parse(reading.read_small(bundle, layout.MANIFEST, layout.MAX_MANIFEST_BYTES))


def _bytes_of(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise RequestError(f"not a size: {text}", code="medium_size", hint="such as 29GB or 3.5GiB")
    return int(float(match[1]) * _UNITS[match[2]])


def _size_of(folder: Path) -> int:
    return sum(reading.list_files(folder).values())
