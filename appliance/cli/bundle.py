"""`appliance bundle`: offline bundles. The commands lie in files of their own."""

from __future__ import annotations

import click

from appliance.cli import installing


@click.group()
def bundle() -> None:
    """Offline bundles: install, upgrade, roll back, repair, uninstall."""


for each in installing.COMMANDS:
    bundle.add_command(each)
