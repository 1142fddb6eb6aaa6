"""`appliance audit erase`: draft the destruction of a subject's shares, for two people to sign."""

from __future__ import annotations

from pathlib import Path

import click

from appliance import config, db
from appliance.audit import ceremonies, store
from appliance.cli.base import database_of, home_option, json_option
from appliance.cli.drafting import act_option, write_act
from appliance.config import Home


@click.command()
@click.option(
    "--key", default="", metavar="ID", help="An API key's id; with --user: only as this key's user."
)
@click.option("--user", default="", help="A person, as callers name them in `safety_identifier` or `user`.")
@click.option("--since", default="", metavar="YYYY-MM", help="First month (default: the log's first).")
@click.option("--until", default="", metavar="YYYY-MM", help="Last month (default: this one).")
@click.option("--reason", required=True, help="Why; it stands on the record, sealed.")
@click.option("--basis", required=True, help="The legal basis, for example: GDPR Art. 17(1)(b).")
@act_option
@home_option
@json_option
def erase(
    key: str,
    user: str,
    since: str,
    until: str,
    reason: str,
    basis: str,
    out: Path,
    home: Home,
    *,
    as_json: bool,
) -> None:
    """Draft an erasure. Two members of the key policy sign it; `appliance auditor apply` carries it out.

    What is erased opens for nobody any more, in no copy of the database; every proof stays valid.

    \b
    Example: appliance audit erase --user citizen-17 --reason "asked on 3 May" \\
               --basis "GDPR Art. 17(1)(b)" --out erase.act
    """
    with db.reading(database_of(home)) as connection:
        policy = store.policies(connection)[-1]
    draft = ceremonies.draft_erasure(
        policy,
        config.load(home).audit.origin,
        key=key,
        user=user,
        since=since,
        until=until,
        reason=reason,
        basis=basis,
    )
    write_act(out, draft, as_json=as_json)
