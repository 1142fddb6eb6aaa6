"""Where the starter model lies after set-up: in the cache, by the digest that its TOML pins."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.catalog import CATALOGUE, Catalog, read_model
from appliance.config import Home


def starter_model() -> Path:
    """The GGUF. AssertionError where set-up has not fetched it: the suite needs it."""
    pinned = read_model(CATALOGUE / "smollm2-135m-instruct.toml")
    path = cache_dir() / "models" / "sha256" / pinned.sha256
    assert path.is_file(), f"the starter model is not in the cache: run make setup ({path})"
    return path


def cache_dir() -> Path:
    """Where set-up keeps what it made, outside the checkout."""
    base = os.environ.get("APPLIANCE_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "appliance"
    )
    return Path(base)


def link_into(home: Home) -> None:
    """Put the starter model into a home's store."""
    catalog = Catalog.load(home=home, default_model="smollm2-135m-instruct")
    spec = catalog.resolve("default")
    assert spec is not None
    catalog.put(spec, starter_model())
