"""`--redact`, `--words`, `--reason`: what a third party is not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance.audit.redaction import Part, Redaction
from appliance.cli.base import FILE
from appliance.cli.witness import read_text
from appliance.errors import RequestError


def withholding_options(function: Any) -> Any:
    """What is withheld. Words stand in a file, since a command line is seen by everybody on the host."""
    parts = click.option(
        "--redact",
        "parts",
        multiple=True,
        type=click.Choice([each.value for each in Part]),
        help="Withhold this part.",
    )
    words = click.option("--words", type=FILE, help="Withhold every one of these, one a line.")
    reason = click.option("--reason", default="", help="Why; it stands beside each mark.")
    return parts(words(reason(function)))


def redaction_of(parts: tuple[str, ...], words: Path | None, reason: str) -> Redaction | None:
    """What was asked for, None where nothing was."""
    if not parts and words is None:
        if reason:
            raise RequestError("--reason belongs to --redact or --words", code="invalid_redaction")
        return None
    lines = read_text(words).splitlines() if words is not None else []
    found = tuple(each.strip() for each in lines if each.strip())
    return Redaction(frozenset(map(Part, parts)), found, reason)
