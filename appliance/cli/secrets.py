"""`appliance secrets`: whether a home's secrets are sealed on its disk, and what opens them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import click

from appliance import config, keyring, keyslots, performing, resealing
from appliance.alone import open_log_alone
from appliance.cli.base import command_gateway, done, home_option, json_option, show, table, warn
from appliance.cli.unlocking import new_way
from appliance.commands import RecordSecrets
from appliance.config import Home
from appliance.keyslots import Action, Slot

_with_option = click.option(
    "--with",
    "source",
    metavar="FILE",
    help="A credential, or a passphrase, out of this file (-: standard input). Without it a passphrase is "
    "asked for.",
)
_name_option = click.option("--name", default="", help="The slot's name (default: what it is, and a number).")


@click.group()
def secrets() -> None:
    """What opens this home: seal it, and change that.

    A sealed home's disk opens nothing by itself: keys lie encrypted, and a passphrase or a credential of
    systemd opens them when the appliance starts. deploy/guides/secrets.md tells which to choose.
    """


@secrets.command()
@home_option
@json_option
def status(home: Home, *, as_json: bool) -> None:
    """Tell whether the secrets are sealed, and what opens them. Asks for nothing.

    \b
    Example: appliance secrets status
    """
    config.load(home)
    sealed = keyring.is_sealed(home)
    ways = keyring.slots_of(home).ways if sealed else ()
    files = [str(each.relative_to(home.root)) for each in keyring.secret_files(home)]
    clear = in_the_clear(home)
    result = {
        "sealed": sealed,
        "state": keyring.slots_of(home).state if sealed else "clear",
        "slots": [{"name": each.name, "way": each.way, "kdf": each.kdf} for each in ways],
        "files": files,
        "in_the_clear": clear,
    }
    lines = [f"{len(files)} secret files, {'sealed' if sealed else 'in the clear'}"]
    if ways:
        lines += table(("SLOT", "KIND", "BY"), [(each.name, each.way, each.kdf) for each in ways])
    if sealed and result["state"] != "sealed":
        lines.append("half done: something was interrupted; appliance secrets finish")
    show(result, lines + [f"in the clear: {each}" for each in clear if sealed], as_json=as_json)


@secrets.command()
@json_option
def credential(*, as_json: bool) -> None:
    """Print a new credential: 256 random bits, for a service that starts without a person.

    Nothing is changed: give it to systemd first, and then to `seal` or `add` what systemd gives back.

    \b
    Example: appliance secrets credential | systemd-creds encrypt --name=appliance-home-key \\
               - /etc/credstore.encrypted/appliance-home-key
    """
    made = keyslots.new_credential()
    show({"credential": made}, [made], as_json=as_json)


@secrets.command()
@_with_option
@_name_option
@home_option
@json_option
def seal(source: str | None, name: str, home: Home, *, as_json: bool) -> None:
    """Seal this home's secrets, while no gateway runs. Where they lay in the clear is overwritten.

    A disk may keep what was overwritten: a flash disk does. Where that counts, seal a home as it is made
    (appliance init --seal), or put the keys' disk under encryption too.

    \b
    Examples: appliance secrets seal
              systemd-creds decrypt /etc/credstore.encrypted/appliance-home-key - \\
                | appliance secrets seal --with -
    """
    way = new_way(source, config.load(home).crypto.profile, name)
    if keyring.is_sealed(home):
        resealing.require_unsealed(home)
    _alone(home, "sealed", [way.slot(keyslots.new_key())], lambda: resealing.seal(home, way), as_json=as_json)


@secrets.command()
@_with_option
@_name_option
@home_option
@json_option
def add(source: str | None, name: str, home: Home, *, as_json: bool) -> None:
    """Let something else open this home, too: a credential beside a passphrase, a second person's words.

    \b
    Example: appliance secrets add --name second-safe
    """
    keyring.unlock(home)
    way = new_way(source, config.load(home).crypto.profile, name)
    _put(home, "added", resealing.add(home, way), as_json=as_json)


@secrets.command()
@click.argument("slot")
@home_option
@json_option
def remove(slot: str, home: Home, *, as_json: bool) -> None:
    """Let a slot open this home no more. The home's key stays: whoever may have copied it wants `rotate`.

    \b
    Example: appliance secrets remove passphrase-1
    """
    _put(home, "removed", resealing.remove(home, slot), as_json=as_json)


@secrets.command()
@_with_option
@_name_option
@home_option
@json_option
def rotate(source: str | None, name: str, home: Home, *, as_json: bool) -> None:
    """Seal everything anew under a fresh key, which this way alone opens, while no gateway runs.

    For when somebody may have learnt a passphrase and has a copy of the disk: what they have opens
    their copy, and nothing of this home from now on. Other slots are gone; add them again.

    \b
    Example: appliance secrets rotate
    """
    keyring.unlock(home)
    way = new_way(source, config.load(home).crypto.profile, name)
    slots = [way.slot(keyslots.new_key())]
    _alone(home, "rotated", slots, lambda: resealing.rotate(home, way), as_json=as_json)


@secrets.command()
@home_option
@json_option
def unseal(home: Home, *, as_json: bool) -> None:
    """Lay the secrets down in the clear, while no gateway runs: before a release that knows no seal.

    \b
    Example: appliance secrets unseal
    """
    resealing.opened(home)
    _alone(home, "unsealed", [], lambda: resealing.unseal(home), as_json=as_json)


@secrets.command()
@home_option
@json_option
def finish(home: Home, *, as_json: bool) -> None:
    """End what a crash interrupted, while no gateway runs. A gateway that starts does the same.

    \b
    Example: appliance secrets finish
    """
    with open_log_alone(home, config.load(home)):
        resealing.finish(home)  # done already, but behind a latch
        _tell(home, as_json=as_json)


def in_the_clear(home: Home) -> list[str]:
    """Secret files that whoever reads the disk can use, by their names; what waits to be carried away too."""
    read = {each: each.read_bytes() for each in keyring.secret_files(home)}
    paths = [
        path for path, data in read.items() if not keyslots.is_sealed(data) and not keyring.is_destroyed(data)
    ]
    paths += [each for each in (home.keys / keyring.RECOVERY,) if each.exists()]
    return [str(each.relative_to(home.root)) for each in paths]


def _alone(home: Home, action: Action, slots: Sequence[Slot], act: Any, *, as_json: bool) -> None:
    """On the record, then done, in one holding of the home's lock."""
    with open_log_alone(home, config.load(home)) as alone:
        done(asyncio.run(performing.perform(_recorded(action, slots), alone)))
        act()
        _tell(home, as_json=as_json)


def _put(home: Home, action: Action, found: keyslots.Slots, *, as_json: bool) -> None:
    """On the record, by the running gateway or here, then done: no file is sealed anew for it."""
    command_gateway(home, _recorded(action, found.ways))
    resealing.put(home, found)
    _tell(home, as_json=as_json)


def _recorded(action: Action, slots: Sequence[Slot]) -> RecordSecrets:
    def names(way: str) -> list[str]:
        return [each.name for each in slots if each.way == way]

    return RecordSecrets(action=action, passphrases=names("passphrase"), credentials=names("credential"))


def _tell(home: Home, *, as_json: bool) -> None:
    """What stands now."""
    sealed, clear = keyring.is_sealed(home), in_the_clear(home)
    num_files = len(keyring.secret_files(home))
    ways = [each.name for each in keyring.slots_of(home).ways] if sealed else []
    if sealed and clear:
        warn(f"{', '.join(clear)} lies here in the clear: carry it to a safe and delete it here")
    words = f"{num_files} secret files are sealed; what opens them: {', '.join(ways)}"
    lines = [words if sealed else f"{num_files} secret files lie in the clear"]
    show({"sealed": sealed, "slots": ways, "files": num_files}, lines, as_json=as_json)
