"""`appliance bundle`: gathers commands from files of their own."""

from __future__ import annotations

import click

from appliance.cli import ceremony, signing, trusting


@click.group()
def bundle() -> None:
    """Offline bundles: keys, sign, verify, refresh, receipts."""


bundle.add_command(ceremony.keys)
bundle.add_command(signing.sign)
bundle.add_command(signing.refresh)
bundle.add_command(trusting.verify)
bundle.add_command(trusting.receipts)
