"""Homes for tests: initialised as `appliance init` does it, the starter model linked into the store."""

from __future__ import annotations

from pathlib import Path

from appliance import durable
from appliance.cli.init import initialise
from appliance.config import Home
from tests.starter import link_into


def make_home(root: Path, *, toml: str = "") -> Home:
    """An initialised dev home; `toml` is its whole configuration."""
    home = Home(root=root)
    if toml:
        durable.make_private_dir(root)
        home.config.write_text(toml, encoding="utf-8")
    initialise(home, profile="dev")
    link_into(home)
    return home
