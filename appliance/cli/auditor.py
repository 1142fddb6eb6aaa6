"""`appliance auditor`: key pairs of people who read the record. Works anywhere, offline."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import db, durable
from appliance.audit import store
from appliance.audit.recipients import Identity, KeyPolicy
from appliance.cli.base import home_option, json_option, show, table
from appliance.config import Home
from appliance.errors import RequestError


@click.group()
def auditor() -> None:
    """Auditors' keys: make a pair, list who can read."""


@auditor.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Directory for the two files (default: here).",
)
@json_option
def keygen(name: str, out: Path, *, as_json: bool) -> None:
    """Make a key pair on the auditor's own machine.

    \b
    Example: appliance auditor keygen alice
    NAME.identity is secret and stays with you; NAME.recipient goes to the operator.
    """
    identity = Identity.generate(name)
    secret, public = out / f"{name}.identity", out / f"{name}.recipient"
    for path in (secret, public):
        if path.exists():
            raise RequestError(f"{path} exists; it is not overwritten", code="file_exists")
    durable.write_file(secret, identity.text().encode())
    durable.write_file(public, identity.recipient.text().encode(), mode=0o644)
    result = {
        "name": name,
        "identity": str(secret),
        "recipient": str(public),
        "fingerprint": identity.recipient.fingerprint,
    }
    lines = [
        f"secret, keep it and a copy in a safe: {secret}",
        f"public, hand it to the operator:      {public}",
        f"fingerprint, to compare by voice:     {identity.recipient.fingerprint}",
    ]
    show(result, lines, as_json=as_json)


@auditor.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show who can read what is recorded from now on.

    \b
    Example: appliance auditor list
    """
    with db.reading(home.database) as connection:
        policy = KeyPolicy.parse(store.policy_text(connection))
    recipients = [{"name": each.name, "fingerprint": each.fingerprint} for each in policy.recipients]
    rows = [(each["name"], each["fingerprint"]) for each in recipients]
    lines = [*table(("NAME", "FINGERPRINT"), rows), f"policy, for paper: {policy.fingerprint}"]
    result = {"recipients": recipients, "policy_fingerprint": policy.fingerprint}
    show(result, lines, as_json=as_json)
