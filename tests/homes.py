"""Homes for tests: initialised as `appliance init` does it, the starter model linked into the store."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from appliance import durable
from appliance.cli.init import initialise
from appliance.config import Home
from tests.starter import link_into

_TEMPLATES: Final = tempfile.TemporaryDirectory(prefix="appliance-homes-")


def make_home(root: Path, *, toml: str = "") -> Home:
    """An initialised dev home; `toml` is its whole configuration."""
    home = Home(root=root)
    if toml:
        durable.make_private_dir(root)
        home.config.write_text(toml, encoding="utf-8")
    initialise(home, profile="dev")
    link_into(home)
    return home


def copy_home(root: Path, *, toml: str = "") -> Home:
    """What `make_home` makes, in a fraction of its time: a copy of one that is made once for a process.

    All copies have the same keys and the same first entries: a test that needs strangers makes its own.
    A home that is there already stays as it is.
    """
    if root.exists():
        return make_home(root, toml=toml)
    shutil.copytree(_template(toml), root, copy_function=_copied)
    return Home(root=root)


@functools.cache
def _template(toml: str) -> Path:
    return make_home(Path(tempfile.mkdtemp(dir=_TEMPLATES.name)) / "home", toml=toml).root


def _copied(source: str, target: str) -> str:
    """A model is linked: nobody writes into one, and it is what is large."""
    if Path(source).parent.parent.name == "sha256":
        with contextlib.suppress(OSError):
            os.link(source, target)
            return target
    return str(shutil.copy2(source, target))
