"""`appliance tls`: certificates for a site that has no authority of its own."""

from __future__ import annotations

import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from appliance import config, durable, keyring
from appliance.accounts import passphrases
from appliance.cli.base import command_gateway, home_option, json_option, show, table
from appliance.clock import SystemClock
from appliance.commands import RecordCertificate
from appliance.config import Home
from appliance.errors import RequestError, SetupError
from appliance.tls import certificates, clients
from appliance.tls.certificates import AUTHORITY_DAYS, SERVER_DAYS, About, Pair

_folder_option = click.option(
    "--authority",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the authority lies, such as a stick that is carried away (default: tls/ in the home).",
)


@click.group()
def tls() -> None:
    """Certificates: make an authority, issue, renew, show.

    A site with an authority of its own needs none of this: let it sign, and name the files in appliance.toml.
    """


@tls.command()
@click.option("--name", default="", help="What people read in their trust store (default: this host's name).")
@click.option(
    "--permit",
    multiple=True,
    metavar="DOMAIN|NETWORK",
    help="What it may sign, such as tax.example or 10.1.0.0/16; repeatable. Without it: any name.",
)
@click.option("--days", type=click.IntRange(1, 36_500), default=AUTHORITY_DAYS, show_default=True)
@click.option(
    "--replace", is_flag=True, help="Make a new one where there is one; clients must trust it anew."
)
@_folder_option
@home_option
@json_option
def init(
    name: str,
    permit: tuple[str, ...],
    days: int,
    folder: Path | None,
    *,
    replace: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Make an authority. Give ca.crt to every client, and keep ca.key away from everybody.

    Only `issue` and `renew` need ca.key: with --authority it can lie on a stick in a safe.

    \b
    Example: appliance tls init --name "Tax office" --permit tax.example --permit 10.1.0.0/16
    """
    config.load(home)
    place = folder or home.tls
    if (place / "ca.key").exists() and not replace:
        raise RequestError(
            f"{place} holds an authority already",
            code="file_exists",
            hint="appliance tls issue uses it; --replace makes a new one, which every client must trust anew",
        )
    made = certificates.new_authority(name or socket.gethostname()[:64], permit, now=_now(), days=days)
    _record(home, made)
    _write(home, place, "ca", made)
    about = certificates.describe(made.certificate)
    lines = [
        f"authority: {place / 'ca.crt'}, until {about.not_after:%Y-%m-%d}, fingerprint {about.sha256}",
        f"it may sign: {', '.join(permit) or 'any name'}",
        "clients trust ca.crt; nobody but `appliance tls issue` and `renew` needs ca.key",
        "next: appliance tls issue --name HOST --name ADDRESS",
    ]
    show(
        _told(about) | {"authority": str(place / "ca.crt"), "permitted": list(permit)}, lines, as_json=as_json
    )


@tls.command()
@click.option("--name", "names", multiple=True, help="A host name or an address; repeatable.")
@click.option("--client", default="", metavar="NAME", help="A client's certificate instead, of this name.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Of a client: NAME.p12.")
@click.option("--pem", is_flag=True, help="Of a client: two PEM files, the key without a passphrase.")
@click.option("--days", type=click.IntRange(1, 3650), default=SERVER_DAYS, show_default=True)
@_folder_option
@home_option
@json_option
def issue(
    names: tuple[str, ...],
    client: str,
    out: Path | None,
    days: int,
    folder: Path | None,
    *,
    pem: bool,
    home: Home,
    as_json: bool,
) -> None:
    """Make the server's certificate, for every name and address that clients type; or a client's.

    A running gateway that serves this file takes the new one within seconds, and cuts no stream. A client's
    certificate is bound to a key with: appliance key change KEY --client-certificate FINGERPRINT

    \b
    Example: appliance tls issue --name box.tax.example --name 10.1.2.3
    Example: appliance tls issue --client lobby-1 --days 365
    """
    if bool(names) == bool(client):
        raise click.UsageError("say --name for a server's certificate, or --client for a client's")
    if not client:
        if out is not None or pem:
            raise click.UsageError("--out and --pem are of a client's certificate")
        _issue(home, folder, names, days, as_json=as_json)
        return
    made = certificates.issue_client(_authority(home, folder), client, now=_now(), days=days)
    place = out or Path(f"{client}.{'crt' if pem else 'p12'}")
    files = [place, place.with_suffix(".key")] if pem else [place]
    for each in files:
        if each.exists():
            raise RequestError(f"{each} is there already", code="file_exists", hint="name another with --out")
    _record(home, made)
    passphrase = "" if pem else passphrases.one_time()
    if pem:
        durable.write_file(files[1], made.key)
        durable.write_file(place, made.certificate)
    else:
        durable.write_file(place, clients.carried(made, client, passphrase))
    about = certificates.describe(made.certificate)
    lines = [f"certificate: {place}, until {about.not_after:%Y-%m-%d}, fingerprint {about.sha256}"]
    lines += [f"key: {files[1]}, without a passphrase: only its user should read it"] if pem else []
    lines += [f"its passphrase, shown this once: {passphrase}"] if passphrase else []
    lines.append(f"next: appliance key change KEY --client-certificate {about.sha256}")
    show(_told(about) | {"files": list(map(str, files)), "passphrase": passphrase}, lines, as_json=as_json)


@tls.command()
@click.option("--force", is_flag=True, help="Also where more than a third of its time is left.")
@_folder_option
@home_option
@json_option
def renew(folder: Path | None, *, force: bool, home: Home, as_json: bool) -> None:
    """Make the server's certificate anew, with a new key, for the names that it has.

    Does nothing while more than a third of its time is left: a timer may run it each day.

    \b
    Example: appliance tls renew
    """
    about = certificates.describe(_read(home.tls / "server.crt", "appliance tls issue makes one"))
    if not force and not about.wants_renewal(_now()):
        told = _told(about) | {"renewed": False}
        show(told, [f"nothing to do until {about.not_after:%Y-%m-%d} comes nearer"], as_json=as_json)
        return
    days = max(1, (about.not_after - about.not_before).days)
    _issue(home, folder, about.names, days, as_json=as_json)


@tls.command(name="show")
@home_option
@json_option
def show_(*, home: Home, as_json: bool) -> None:
    """Show what is served, and what lies in the home: names, fingerprints, and how long.

    \b
    Example: appliance tls show
    """
    server = config.load(home).server
    places = {
        "served": Path(server.tls_certificate) if server.tls_certificate else None,
        "authority": home.tls / "ca.crt",
        "server": home.tls / "server.crt",
    }
    read = {word: place.read_bytes() for word, place in places.items() if place and place.exists()}
    found = {word: certificates.describe(pem) for word, pem in read.items()}
    result: dict[str, Any] = {word: _told(about) for word, about in found.items()}
    if "authority" in read:
        result["authority"]["permitted"] = list(certificates.permitted_of(read["authority"]))
    rows = [
        (
            word,
            f"{about.not_after:%Y-%m-%d}",
            about.state(_now()),
            ", ".join(about.names) or about.subject,
            about.sha256,
        )
        for word, about in found.items()
    ]
    lines = table(("WHAT", "UNTIL", "STATE", "NAMES", "SHA-256"), rows) if rows else ["no certificates here"]
    show(result, lines, as_json=as_json)


def _issue(home: Home, folder: Path | None, names: tuple[str, ...], days: int, *, as_json: bool) -> None:
    server = config.load(home).server
    made = certificates.issue(_authority(home, folder), names, now=_now(), days=days)
    _record(home, made)
    _write(home, home.tls, "server", made)
    about = certificates.describe(made.certificate)
    certificate, key = home.tls / "server.crt", home.tls / "server.key"
    lines = [f"certificate: {certificate}, until {about.not_after:%Y-%m-%d}, fingerprint {about.sha256}"]
    if server.tls_certificate != str(certificate):
        lines += [
            "to serve it, write into appliance.toml below [server]:",
            f'tls_certificate = "{certificate}"',
            f'tls_key = "{key}"',
        ]
    told = _told(about) | {"renewed": True, "certificate": str(certificate), "key": str(key)}
    show(told, lines, as_json=as_json)


def _authority(home: Home, folder: Path | None) -> Pair:
    config.load(home)
    place = folder or home.tls
    hint = "appliance tls init makes an authority; --authority says where it lies"
    return Pair(_read(place / "ca.crt", hint), _read(place / "ca.key", hint, home))


def _record(home: Home, made: Pair) -> None:
    """On the record before there is a file: what can be served is known."""
    about = certificates.describe(made.certificate)
    if keyring.is_sealed(home):
        keyring.unlock(home)  # its key is written behind this
    command_gateway(
        home,
        RecordCertificate(
            certificate_sha256=about.sha256,
            not_after=about.ends_at,
            is_authority=1 if about.is_authority else 0,
            subject=about.subject,
            names=list(about.names),
        ),
    )


def _write(home: Home, place: Path, stem: str, made: Pair) -> None:
    """The key first: a gateway that looks in between finds a pair that does not fit, and waits."""
    durable.make_private_dir(place)
    keyring.write(home, place / f"{stem}.key", made.key)
    durable.write_file(place / f"{stem}.crt", made.certificate)


def _read(path: Path, hint: str, home: Home | None = None) -> bytes:
    try:
        return path.read_bytes() if home is None else keyring.read(home, path)
    except OSError as error:
        raise SetupError(f"can not read {path}: {error.strerror}", code="tls_missing", hint=hint) from error


def _now() -> datetime:
    return certificates.utc(SystemClock().now_us())


def _told(about: About) -> dict[str, Any]:
    return {
        "sha256": about.sha256,
        "subject": about.subject,
        "issuer": about.issuer,
        "names": list(about.names),
        "not_before": about.begins_at,
        "not_after": about.ends_at,
        "state": about.state(_now()),
    }
