"""`appliance bundle`: releases that are carried in. The commands lie in files of their own."""

from __future__ import annotations

import click

from appliance.cli import bundling, carrying, ceremony, installing, signing, trusting


@click.group()
def bundle() -> None:
    """Releases: build, sign, carry, verify, install."""


bundle.add_command(bundling.build)
bundle.add_command(ceremony.keys)
bundle.add_command(signing.sign)
bundle.add_command(signing.refresh)
bundle.add_command(trusting.verify)
bundle.add_command(trusting.receipts)
bundle.add_command(carrying.split)
bundle.add_command(carrying.import_)
bundle.add_command(carrying.inventory)
bundle.add_command(carrying.delta)
for each in installing.COMMANDS:
    bundle.add_command(each)
