"""`appliance bundle`: releases that are carried in. The commands lie in files of their own."""

from __future__ import annotations

import click

from appliance.cli import bundling


@click.group()
def bundle() -> None:
    """Releases: build, sign, carry, verify, install."""


bundle.add_command(bundling.build)
