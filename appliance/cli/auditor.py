"""`appliance auditor`: key pairs of people who read the record, and who they are. Keys are made offline."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import config, db, durable
from appliance.audit import acts, profiles, store
from appliance.audit.policy import KeyPolicy, Member, MemberRole, Reading
from appliance.audit.recipients import Algorithms, Identity, parse_recipient
from appliance.cli.acting import apply, sign
from appliance.cli.base import FILE, database_of, home_option, json_option, require_new, show, table
from appliance.cli.drafting import act_option, write_act
from appliance.config import Home
from appliance.errors import RequestError


@click.group()
def auditor() -> None:
    """Auditors' keys, who can read, and acts that they sign."""


auditor.add_command(sign)
auditor.add_command(apply)


@auditor.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Directory for the two files (default: here).",
)
@click.option(
    "--algorithms",
    type=click.Choice([each.value for each in Algorithms]),
    default=Algorithms.XWING.value,
    show_default=True,
    help="'p256' has FIPS-approved algorithms only.",
)
@json_option
def keygen(name: str, out: Path, algorithms: str, *, as_json: bool) -> None:
    """Make a key pair on the auditor's own machine.

    \b
    Example: appliance auditor keygen alice
    NAME.identity is secret and stays with you; NAME.recipient goes to the operator.
    """
    identity = Identity.generate(name, Algorithms(algorithms))
    secret, public = out / f"{name}.identity", out / f"{name}.recipient"
    require_new(secret, public)
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
    """Show who can read what is recorded from now on, and how many decide about it.

    \b
    Example: appliance auditor list
    """
    policy = _in_force(home)
    members = [
        {
            "name": each.recipient.name,
            "role": str(each.role),
            "algorithms": str(each.recipient.algorithms),
            "fingerprint": each.recipient.fingerprint,
        }
        for each in policy.members
    ]
    rows = [(each["name"], each["role"], each["algorithms"], each["fingerprint"]) for each in members]
    lines = [
        *table(("NAME", "ROLE", "ALGORITHMS", "FINGERPRINT"), rows),
        f"policy {policy.number}, for paper: {policy.fingerprint}",
        f"reading: {policy.reading}; a change takes {policy.quorum} of the auditors",
    ]
    result = {
        "policy": policy.number,
        "policy_fingerprint": policy.fingerprint,
        "reading": str(policy.reading),
        "quorum": policy.quorum,
        "members": members,
    }
    show(result, lines, as_json=as_json)


@auditor.command()
@click.argument("file", type=FILE)
@click.option(
    "--role",
    type=click.Choice([each.value for each in MemberRole]),
    default=MemberRole.AUDITOR.value,
    show_default=True,
)
@click.option("--quorum", type=int, help="Auditors who sign a later change (default: more than half).")
@click.option("--reading", type=click.Choice([each.value for each in Reading]), help="Default: as it is.")
@act_option
@home_option
@json_option
def add(
    file: Path, role: str, quorum: int | None, reading: str | None, out: Path, home: Home, *, as_json: bool
) -> None:
    """Draft a key policy with one more member; a quorum of the present auditors signs it.

    What was recorded before stays closed to a new reader.

    \b
    Example: appliance auditor add bob.recipient --out bob.act
    """
    before = _in_force(home)
    member = Member(MemberRole(role), parse_recipient(file.read_text(encoding="utf-8")))
    _draft(home, before, [*before.members, member], quorum, reading, out, as_json=as_json)


@auditor.command()
@click.argument("name")
@click.option("--quorum", type=int, help="Auditors who sign a later change (default: more than half).")
@click.option("--reading", type=click.Choice([each.value for each in Reading]), help="Default: as it is.")
@act_option
@home_option
@json_option
def remove(
    name: str, quorum: int | None, reading: str | None, out: Path, home: Home, *, as_json: bool
) -> None:
    """Draft a key policy without a member, who reads nothing that is recorded after it.

    \b
    Example: appliance auditor remove bob --out bob.act
    """
    before = _in_force(home)
    stay = [each for each in before.members if each.recipient.name != name]
    if len(stay) == len(before.members):
        raise RequestError("the key policy has no member of this name", code="member_not_found", param="name")
    _draft(home, before, stay, quorum, reading, out, as_json=as_json)


def _draft(
    home: Home,
    before: KeyPolicy,
    members: list[Member],
    quorum: int | None,
    reading: str | None,
    out: Path,
    *,
    as_json: bool,
) -> None:
    after = KeyPolicy.of(
        members,
        quorum=quorum,
        reading=Reading(reading) if reading else before.reading,
        before=before,
    )
    settings = config.load(home)
    profiles.check_policy(settings.crypto.profile, after)
    write_act(out, acts.policy_change(settings.audit.origin, before, after), as_json=as_json)


def _in_force(home: Home) -> KeyPolicy:
    with db.reading(database_of(home)) as connection:
        return store.policies(connection)[-1]
