"""`appliance model`: what the catalogue pins and what the store holds."""

from __future__ import annotations

from typing import Any

import click

from appliance import config
from appliance.catalog import Catalog
from appliance.cli import activating
from appliance.cli.base import home_option, json_option, show, table
from appliance.cli.later import Later
from appliance.cli.progress import Progress
from appliance.config import Home

_MIB = 1024 * 1024


@click.group(cls=Later)
def model() -> None:
    """Models: import, list, show, verify, evaluate, measure, activate, roll back, remove."""


model.add_command(activating.activate)
model.add_command(activating.rollback)
model.add_command(activating.alias)
model.add_later("import", "appliance.cli.model_import", "import_")
model.add_later("remove", "appliance.cli.model_import", "remove")
model.add_later("show", "appliance.cli.model_show", "show_model")
model.add_later("eval", "appliance.cli.evaluating", "evaluate")
model.add_later("bench", "appliance.cli.measuring", "bench")


@model.command(name="list")
@home_option
@json_option
def list_(home: Home, *, as_json: bool) -> None:
    """Show every model: active, staged or retired, under which names, how it did, and whether it is here.

    \b
    Example: appliance model list
    """
    from appliance.modelling import known_of, told  # noqa: PLC0415 - it loads the database

    found = told(*known_of(home, config.load(home)))
    rows = [
        (
            str(each["id"]),
            str(each["state"]),
            ", ".join(each["aliases"]),
            str(each["purpose"]),
            f"{int(each['size_bytes']) / _MIB:.0f} MiB",
            str(each["licence"]),
            "yes" if each["in_store"] else "no",
            ", ".join(
                f"{one['suite']} {one['score']:.3f} of {one['floor']:.3f}" for one in each["evaluations"]
            ),
            str(each["sha256"])[:16],
        )
        for each in found
    ]
    header = ("ID", "STATE", "ALIASES", "FOR", "SIZE", "LICENCE", "IN STORE", "EVALUATIONS", "SHA256")
    show({"models": found}, table(header, rows), as_json=as_json)


@model.command()
@click.argument("name", default="default")
@home_option
@json_option
def verify(name: str, home: Home, *, as_json: bool) -> None:
    """Hash a model's file again and compare it with its pin.

    \b
    Example: appliance model verify default
    """
    catalog = _catalog(home)
    spec = catalog.named(name)
    catalog.verify(spec, Progress("verifying", of_bytes=True).update)
    result = {"id": spec.id, "sha256": spec.sha256, "verified": True}
    show(result, [f"{spec.id}: sha256 {spec.sha256} as pinned"], as_json=as_json)


def _catalog(home: Home) -> Catalog:
    settings = config.load(home)
    from appliance.modelling import catalog_of  # noqa: PLC0415 - it loads the database, known_of, told

    return catalog_of(home, settings)


def _score(found: dict[str, Any]) -> str:
    return f"{found['suite']} {found['score']:.3f}, floor {found['floor']:.3f}"
